//! Load on a server, over connections that are open before it begins.
//!
//! [`repeat`] is a closed loop: each connection asks again as soon as it has its answer. What a stall costs the requests
//! that would have come in the meantime is therefore not in its latencies. [`touch`] can do that as well, or follow a
//! schedule that no answer changes (an open loop); then it tells how late each request was sent and answered by it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::Error;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::task::{JoinSet, LocalSet};

use crate::Failure;
use crate::connection::{Connection, Took, field, get};
use crate::latencies::Latencies;
use crate::server::Server;
use crate::timing::Phases;

/// Beyond the time asked for, how long answers may take before the server is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Timers may be this late; what is due earlier than that is waited for awake.
const AWAKE: Duration = Duration::from_micros(1500);

/// What came of a load.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// Of every response, until its last byte.
    pub(crate) latencies: Latencies,
    /// How long it went on.
    pub(crate) elapsed: Duration,
    /// Processor time of the load generator.
    pub(crate) own_cpu: Duration,
}

/// Sends `request` again and again over `connections` for `time`.
///
/// # Errors
/// The first connection that broke, or answer that was not 200.
pub(crate) async fn repeat(
    server: &Server,
    request: &[u8],
    connections: usize,
    time: Duration,
) -> Result<Sample, Failure> {
    let latencies = Rc::new(RefCell::new(Latencies::default()));
    let request: Rc<[u8]> = request.into();
    let opened = open(server.address, connections).await?;
    let (began, own) = (Instant::now(), own_cpu());
    let tasks = opened.into_iter().map(|mut connection| {
        let (latencies, request) = (Rc::clone(&latencies), Rc::clone(&request));
        async move {
            while began.elapsed() < time {
                let took = connection.exchange(&request, |_| ()).await?;
                latencies.borrow_mut().add(took.whole);
            }
            Ok(())
        }
    });
    together(tasks, time).await?;
    let (elapsed, own_cpu) = (began.elapsed(), own_cpu() - own);
    Ok(Sample { latencies: latencies.take(), elapsed, own_cpu })
}

/// What came of asking for each of many paths once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Touched {
    /// From the first byte of the request to the first one of the response.
    pub(crate) first_byte: Latencies,
    /// From the moment for which the request was scheduled to the first byte of the response. Empty of a closed loop.
    pub(crate) scheduled: Latencies,
    /// How late requests were sent, because every connection was waiting. Empty of a closed loop.
    pub(crate) lag: Latencies,
    /// What the server says in `Server-Timing`.
    pub(crate) phases: Phases,
}

impl Touched {
    /// Isolates that were started for these requests.
    pub(crate) fn starts(&self) -> u64 {
        self.phases.count("isolate", None)
    }
}

/// When requests are sent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// Over so many connections, each asking again as soon as it has its answer.
    Together(usize),
    /// Over one connection, with this time between an answer and the next request.
    Apart(Duration),
    /// On average so many a second, at random as independent clients come (a Poisson process), each over the first
    /// connection of these that is free.
    Random { per_second: f64, connections: usize, seed: u64 },
}

/// Asks for each path once, in order.
///
/// # Errors
/// As [`repeat`].
pub(crate) async fn touch<P: AsRef<str>>(
    server: &Server,
    paths: impl IntoIterator<Item = P>,
    pace: Pace,
) -> Result<Touched, Failure> {
    watch(server, paths, pace, |_, _| ()).await
}

/// As [`touch`], and shows `see` the path and the fields of each answer.
///
/// # Errors
/// As [`repeat`].
pub(crate) async fn watch<P: AsRef<str>>(
    server: &Server,
    paths: impl IntoIterator<Item = P>,
    pace: Pace,
    see: impl FnMut(&str, &[httparse::Header<'_>]) + 'static,
) -> Result<Touched, Failure> {
    let paths: Vec<_> = paths.into_iter().collect();
    let times = schedule(paths.len(), pace);
    let whole = times.last().copied().flatten().unwrap_or_default();
    let connections = match pace {
        Pace::Together(connections) | Pace::Random { connections, .. } => connections,
        Pace::Apart(_) => 1,
    };
    let pause = if let Pace::Apart(pause) = pace { pause } else { Duration::ZERO };
    let time = whole + pause * u32::try_from(paths.len())?;
    let request = |path: P| (get(server.address, path.as_ref()), path.as_ref().to_owned());
    let requests: Vec<_> = paths.into_iter().map(request).zip(times).collect();
    let queue = Rc::new(RefCell::new(requests.into_iter()));
    let touched = Rc::new(RefCell::new(Touched::default()));
    let see = Rc::new(RefCell::new(see));
    let opened = open(server.address, connections).await?;
    let began = Instant::now();
    let tasks = opened.into_iter().map(|mut connection| {
        let (queue, touched, see) = (Rc::clone(&queue), Rc::clone(&touched), Rc::clone(&see));
        async move {
            loop {
                let Some(((request, path), due)) = queue.borrow_mut().next() else { return Ok(()) };
                if !pause.is_zero() {
                    tokio::time::sleep(pause).await;
                }
                let due = due.map(|due| began + due);
                if let Some(due) = due {
                    until(due).await;
                }
                let (sent, mut timing) = (Instant::now(), String::new());
                let took = connection.exchange(&request, |fields| {
                    timing = field(fields, "server-timing").to_owned();
                    see.borrow_mut()(&path, fields);
                });
                let named = |error: Error| Error::new(error.kind(), format!("{path}: {error}"));
                let Took { first_byte, .. } = took.await.map_err(named)?;
                let mut touched = touched.borrow_mut();
                touched.first_byte.add(first_byte);
                touched.phases.add(&timing);
                if let Some(due) = due {
                    touched.lag.add(sent - due);
                    touched.scheduled.add(sent + first_byte - due);
                }
            }
        }
    });
    together(tasks, time).await?;
    Ok(touched.take())
}

/// When each of `count` requests is due, from the start; `None` when its connection decides.
fn schedule(count: usize, pace: Pace) -> Vec<Option<Duration>> {
    let Pace::Random { per_second, seed, .. } = pace else { return vec![None; count] };
    let mut random = StdRng::seed_from_u64(seed);
    let mut due = 0.0;
    let times = std::iter::repeat_with(|| {
        // The time between two events of a Poisson process is exponentially distributed.
        due -= (1.0 - random.random::<f64>()).ln() / per_second;
        Some(Duration::from_secs_f64(due))
    });
    times.take(count).collect()
}

/// Waits, and does not come late as timers do.
async fn until(due: Instant) {
    if let Some(early) = (due - Instant::now().min(due)).checked_sub(AWAKE) {
        tokio::time::sleep(early).await;
    }
    while Instant::now() < due {
        tokio::task::yield_now().await;
    }
}

/// Asks for `path` so many times, evenly at so many a second, each time over a new connection, whatever comes back: how
/// often each status with its error code, or the end of the connection, was the answer.
///
/// # Errors
/// When one has not come within a minute.
pub(crate) async fn knock(
    server: &Server,
    path: &str,
    per_second: f64,
    times: u32,
) -> Result<BTreeMap<String, u64>, Failure> {
    let (address, request, began) = (server.address, get(server.address, path), Instant::now());
    let knocks = (0..times).map(|knock| {
        let request = &request;
        async move {
            tokio::time::sleep_until((began + Duration::from_secs_f64(f64::from(knock) / per_second)).into()).await;
            let mut connection = Connection::open(address).await?;
            connection.ask(request).await
        }
    });
    let late = |_| format!("{path}: no answer for {} s", PATIENCE.as_secs());
    let time = Duration::from_secs_f64(f64::from(times) / per_second);
    let answers = tokio::time::timeout(time + PATIENCE, join_all(knocks)).await.map_err(late)?;
    let mut counts = BTreeMap::new();
    for answer in answers {
        let outcome = match answer {
            Ok(answer) => format!("{} {}", answer.status, answer.error).trim_end().to_owned(),
            Err(_) => "connection closed".to_owned(),
        };
        *counts.entry(outcome).or_default() += 1;
    }
    Ok(counts)
}

async fn open(address: SocketAddr, connections: usize) -> Result<Vec<Connection>, Failure> {
    let mut opened = Vec::with_capacity(connections);
    for _ in 0..connections {
        opened.push(Connection::open(address).await.map_err(|error| format!("no connection to {address}: {error}"))?);
    }
    Ok(opened)
}

async fn together(
    tasks: impl Iterator<Item = impl Future<Output = std::io::Result<()>> + 'static>,
    time: Duration,
) -> Result<(), Failure> {
    let local = LocalSet::new();
    let mut running = JoinSet::new();
    for task in tasks {
        running.spawn_local_on(task, &local);
    }
    let all = local.run_until(async {
        while let Some(ended) = running.join_next().await {
            ended??;
        }
        Ok(())
    });
    let late = |_| format!("no answer for {} s", PATIENCE.as_secs());
    tokio::time::timeout(time + PATIENCE, all).await.map_err(late)?
}

/// Processor time of this thread.
fn own_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_requests_come_at_the_rate_asked_for_and_as_unevenly_as_clients_do() {
        let times = schedule(10_000, Pace::Random { per_second: 100.0, connections: 8, seed: 1 });
        let times: Vec<f64> = times.into_iter().map(|time| time.unwrap().as_secs_f64()).collect();
        assert!((95.0..105.0).contains(&times[9_999]), "{} s for 100 s", times[9_999]);
        // Of exponential gaps, one in e is longer than the mean.
        let long = times.windows(2).filter(|pair| pair[1] - pair[0] > 0.01).count();
        assert!((3_400..3_950).contains(&long), "{long} of 9,999 gaps are longer than the mean");
        assert_eq!(schedule(2, Pace::Together(8)), [None, None]);
    }
}
