//! Load on a server: so many connections, each asking again as soon as it has its answer (a closed loop). What a stall
//! costs the requests that would have come in the meantime is therefore not in these latencies.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use httparse::Header;
use tokio::task::{JoinSet, LocalSet};

use crate::Failure;
use crate::connection::{Connection, Took, get};
use crate::server::Server;

/// Beyond the time asked for, how long answers may take before the server is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Latencies, in nanoseconds, to three digits.
#[derive(Clone, Debug)]
pub(crate) struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("the bounds and digits are valid"))
    }
}

impl Latencies {
    /// Adds one.
    pub(crate) fn add(&mut self, latency: Duration) {
        self.0.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    /// The latency that this share of requests stays under, in microseconds: 0.5 for the median, 1 for the slowest.
    /// `None` of no requests.
    pub(crate) fn micros(&self, share: f64) -> Option<f64> {
        (!self.0.is_empty()).then(|| self.0.value_at_quantile(share) as f64 / 1e3)
    }
}

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

/// Asks for `path` again and again over `connections` for `time`.
///
/// # Errors
/// The first connection that broke, or answer that was not 200.
pub(crate) async fn repeat(server: &Server, path: &str, connections: usize, time: Duration) -> Result<Sample, Failure> {
    let latencies = Rc::new(RefCell::new(Latencies::default()));
    let request: Rc<[u8]> = get(server.address, path).into();
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

/// What came of asking for each of many functions once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Touched {
    /// From the first byte of the request to the first one of the response.
    pub(crate) first_byte: Latencies,
    /// What the server says, in `Server-Timing`, of the isolates that it started for these requests.
    pub(crate) starts: Latencies,
    /// How many of them it had to make, because it had none ready.
    pub(crate) unpooled: u64,
    /// What it says of the functions, from dispatch to the response's head.
    pub(crate) functions: Latencies,
}

impl Touched {
    fn note(&mut self, took: Took, timing: &Timing) {
        self.first_byte.add(took.first_byte);
        timing.start.into_iter().for_each(|start| self.starts.add(start));
        timing.function.into_iter().for_each(|function| self.functions.add(function));
        self.unpooled += u64::from(timing.unpooled);
    }
}

/// How fast many functions are asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// Over so many connections, each asking again as soon as it has its answer.
    Together(usize),
    /// Over one connection, with this time between an answer and the next request.
    Apart(Duration),
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
    let (connections, pause) = match pace {
        Pace::Together(connections) => (connections, Duration::ZERO),
        Pace::Apart(pause) => (1, pause),
    };
    let requests: Vec<_> = paths.into_iter().map(|path| get(server.address, path.as_ref())).collect();
    let time = pause * u32::try_from(requests.len())?;
    let queue = Rc::new(RefCell::new(requests.into_iter()));
    let touched = Rc::new(RefCell::new(Touched::default()));
    let tasks = open(server.address, connections).await?.into_iter().map(|mut connection| {
        let (queue, touched) = (Rc::clone(&queue), Rc::clone(&touched));
        async move {
            loop {
                let Some(request) = queue.borrow_mut().next() else { return Ok(()) };
                if !pause.is_zero() {
                    tokio::time::sleep(pause).await;
                }
                let mut timing = Timing::default();
                let took = connection.exchange(&request, |fields| timing = Timing::read(fields)).await?;
                touched.borrow_mut().note(took, &timing);
            }
        }
    });
    together(tasks, time).await?;
    Ok(touched.take())
}

/// What `Server-Timing` tells (<https://www.w3.org/TR/server-timing/>).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Timing {
    start: Option<Duration>,
    unpooled: bool,
    function: Option<Duration>,
}

impl Timing {
    fn read(fields: &[Header<'_>]) -> Self {
        let field = fields.iter().find(|field| field.name.eq_ignore_ascii_case("server-timing"));
        let text = field.and_then(|field| std::str::from_utf8(field.value).ok()).unwrap_or_default();
        let phase = |name: &str| text.split(',').find_map(|phase| phase.trim().strip_prefix(name)?.strip_prefix(';'));
        let took = |phase: &str| {
            let millis: f64 = phase.split(';').find_map(|part| part.strip_prefix("dur="))?.parse().ok()?;
            Duration::try_from_secs_f64(millis / 1e3).ok()
        };
        Self {
            start: phase("isolate").and_then(took),
            unpooled: phase("isolate").is_some_and(|phase| phase.contains("desc=unpooled")),
            function: phase("function").and_then(took),
        }
    }
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
    fn phases_are_read_from_server_timing() {
        let read = |value: &'static str| Timing::read(&[Header { name: "Server-Timing", value: value.as_bytes() }]);
        let cold = read("route;dur=0.010, isolate;dur=1.5;desc=unpooled, function;dur=0.25, total;dur=1.8");
        let (start, function) = (Some(Duration::from_micros(1500)), Some(Duration::from_micros(250)));
        assert_eq!(cold, Timing { start, unpooled: true, function });
        assert!(!read("isolate;dur=1").unpooled);
        assert_eq!(read("route;dur=0.010, function;dur=0.25"), Timing { start: None, unpooled: false, function });
        assert_eq!(read("isolate, function;dur=-1"), Timing::default());
    }
}
