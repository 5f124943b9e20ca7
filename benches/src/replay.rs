//! A trace played as it was written: every request leaves when it is due, whatever has become of those before (an open
//! loop), and whatever comes back is told.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::task::{JoinSet, LocalSet};

use crate::Failure;
use crate::connection::{Connection, field};

/// How long an answer may take; then the request counts as failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// A request of a trace.
#[derive(Clone, Debug)]
pub(crate) struct Shot {
    /// When it leaves, from the beginning.
    pub(crate) due: Duration,
    /// Its bytes.
    pub(crate) request: Vec<u8>,
}

/// What came of it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// When it left, from the beginning.
    pub(crate) sent: Duration,
    /// Until the last byte of the answer, or until it failed.
    pub(crate) took: Duration,
    /// The status, or why there is none.
    pub(crate) status: Result<u16, String>,
    /// What `Server-Timing` says.
    pub(crate) timing: String,
    /// Which PoP the front door chose.
    pub(crate) pop: String,
}

impl Seen {
    /// Whether the answer was 200.
    pub(crate) fn is_well(&self) -> bool {
        self.status == Ok(200)
    }

    /// A phase of `Server-Timing`, in seconds, with its description.
    pub(crate) fn phase(&self, name: &str) -> Option<(f64, &str)> {
        let phase = self.timing.split(',').map(str::trim).find(|phase| phase.split(';').next() == Some(name))?;
        let value = |key: &str| phase.split(';').find_map(|part| part.trim().strip_prefix(key)?.strip_prefix('='));
        Some((
            value("dur").and_then(|millis| millis.parse::<f64>().ok()).unwrap_or(0.0) / 1e3,
            value("desc").unwrap_or(""),
        ))
    }
}

/// Sends one request over an open connection.
pub(crate) async fn ask(connection: &mut Connection, request: &[u8], sent: Duration) -> Seen {
    let (began, mut timing, mut pop) = (Instant::now(), String::new(), String::new());
    let look = connection.look(request, |fields| {
        timing = field(fields, "server-timing").to_owned();
        pop = field(fields, "x-skerry-pop").to_owned();
    });
    let status = match tokio::time::timeout(PATIENCE, look).await {
        Ok(Ok(status)) => Ok(status),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer for {} s", PATIENCE.as_secs())),
    };
    Seen { sent, took: began.elapsed(), status, timing, pop }
}

/// Plays a trace, and `meanwhile` beside it: what came of each request, in its order. Connections are kept and used again;
/// as many are opened as requests are on their way at once.
///
/// # Errors
/// What `meanwhile` could not do.
pub(crate) async fn play(
    address: SocketAddr,
    shots: &[Shot],
    began: Instant,
    meanwhile: impl Future<Output = Result<(), Failure>>,
) -> Result<Vec<Seen>, Failure> {
    let (idle, seen) =
        (Rc::new(RefCell::new(Vec::<Connection>::new())), Rc::new(RefCell::new(vec![None; shots.len()])));
    let local = LocalSet::new();
    let all = local.run_until(async {
        let mut running = JoinSet::new();
        for (number, shot) in shots.iter().enumerate() {
            tokio::time::sleep_until((began + shot.due).into()).await;
            let (idle, seen, request) = (Rc::clone(&idle), Rc::clone(&seen), shot.request.clone());
            running.spawn_local(async move {
                let sent = began.elapsed();
                let kept = idle.borrow_mut().pop();
                let opened = match kept {
                    Some(connection) => Ok(connection),
                    None => Connection::open(address).await,
                };
                let came = match opened {
                    Ok(mut connection) => {
                        let came = ask(&mut connection, &request, sent).await;
                        if came.status.is_ok() {
                            idle.borrow_mut().push(connection);
                        }
                        came
                    }
                    Err(error) => {
                        let (timing, pop) = (String::new(), String::new());
                        Seen { sent, took: began.elapsed() - sent, status: Err(error.to_string()), timing, pop }
                    }
                };
                seen.borrow_mut()[number] = Some(came);
            });
            while running.try_join_next().is_some() {}
        }
        while running.join_next().await.is_some() {}
    });
    let ((), done) = tokio::join!(all, meanwhile);
    done?;
    Ok(seen.take().into_iter().flatten().collect())
}

/// The value that this part of the values stays under; 0 of none. They are sorted by it.
pub(crate) fn quantile(values: &mut [f64], part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = ((values.len() as f64 * part).ceil() as usize).clamp(1, values.len().max(1)) - 1;
    values.get(at).copied().unwrap_or(0.0)
}
