//! An origin whose objects caches may keep: on the load's core, in this process, and as cheap as it can be.
//!
//! `/bytes-SIZE/…` never changes. `/object-NUMBER` is one of many of different sizes, of which some change while others look:
//! one in ten has a new version every few seconds and may be kept for one.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::LocalSet;

use crate::Failure;
use crate::connection::{Connection, field};

/// How often an object that changes does.
pub(crate) const CHANGES_EVERY: Duration = Duration::from_secs(4);

/// For how long one that changes may be kept.
pub(crate) const KEEPS_FOR: Duration = Duration::from_secs(1);

/// One in so many changes.
pub(crate) const ONE_IN: u64 = 10;

/// Bytes given at once.
const PIECE: usize = 64 << 10;

/// A running one. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Objects {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    counts: Arc<Counts>,
    _end: oneshot::Sender<()>,
}

#[derive(Debug)]
struct Counts {
    began: Instant,
    requests: AtomicU64,
    confirmed: AtomicU64,
    bytes: AtomicU64,
}

/// What an origin has done so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Work {
    /// Requests.
    pub(crate) requests: u64,
    /// Those of them that were answered with 304.
    pub(crate) confirmed: u64,
    /// Bytes of bodies.
    pub(crate) bytes: u64,
}

impl Work {
    /// What was done since `before`.
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            requests: self.requests - before.requests,
            confirmed: self.confirmed - before.confirmed,
            bytes: self.bytes - before.bytes,
        }
    }
}

impl Objects {
    /// Starts one.
    ///
    /// # Errors
    /// When there is no port or thread for it.
    pub(crate) fn start() -> Result<Self, Failure> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (end, ended) = oneshot::channel::<()>();
        let zero = AtomicU64::default;
        let counts = Arc::new(Counts { began: Instant::now(), requests: zero(), confirmed: zero(), bytes: zero() });
        let own = Arc::clone(&counts);
        // It inherits the core of the thread that generates the load.
        std::thread::Builder::new().name("objects".to_owned()).spawn(move || {
            runtime.block_on(LocalSet::new().run_until(async {
                tokio::select! {
                    () = accept(listener, own) => {}
                    _ = ended => {}
                }
            }));
        })?;
        Ok(Self { address, counts, _end: end })
    }

    /// What it has done so far.
    pub(crate) fn work(&self) -> Work {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Counts { requests, confirmed, bytes, .. } = &*self.counts;
        Work { requests: read(requests), confirmed: read(confirmed), bytes: read(bytes) }
    }

    /// How old a version of an object has become since the next one was there; `None` while it is the latest.
    pub(crate) fn outdated(&self, number: u64, version: u64) -> Option<Duration> {
        let next = CHANGES_EVERY * u32::try_from(version + 1).ok()?;
        (version < version_of(number, self.counts.began.elapsed()))
            .then(|| (self.counts.began.elapsed() + phase(number)).saturating_sub(next))
    }
}

/// Where an object is.
pub(crate) fn path(number: u64) -> String {
    format!("/object-{number}")
}

/// Bytes of an object: from half a KiB to 16 KiB, small ones more often.
pub(crate) fn size(number: u64) -> usize {
    // Golden-ratio hashing spreads the numbers evenly.
    let spread = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    let octaves = spread as f64 / f64::from(1 << 24) * 5.0;
    (512.0 * octaves.exp2()) as usize
}

fn changes(number: u64) -> bool {
    number % ONE_IN == ONE_IN - 1
}

/// How far an object is in its changes at the start: not all of them change at once.
fn phase(number: u64) -> Duration {
    Duration::from_millis(number.wrapping_mul(7919) % 4000)
}

fn version_of(number: u64, elapsed: Duration) -> u64 {
    if !changes(number) {
        return 0;
    }
    u64::try_from((elapsed + phase(number)).as_millis() / CHANGES_EVERY.as_millis()).unwrap_or(u64::MAX)
}

async fn accept(listener: std::net::TcpListener, counts: Arc<Counts>) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    while let Ok((stream, _)) = listener.accept().await {
        let counts = Arc::clone(&counts);
        tokio::task::spawn_local(async move {
            let Ok(mut connection) = Connection::of(stream) else { return };
            while let Ok(true) = serve(&mut connection, &counts).await {}
        });
    }
}

/// Answers one request. Whether there was one.
async fn serve(connection: &mut Connection, counts: &Counts) -> std::io::Result<bool> {
    let mut known = String::new();
    let see = |fields: &[httparse::Header<'_>]| known = field(fields, "if-none-match").to_owned();
    let Some(path) = connection.request(see, async |_| ()).await? else { return Ok(false) };
    counts.requests.fetch_add(1, Ordering::Relaxed);
    let (size, tag, keeps) = match path.strip_prefix("/object-").and_then(|number| number.parse().ok()) {
        Some(number) => {
            let keeps = if changes(number) { KEEPS_FOR.as_secs() } else { 86_400 };
            (size(number), version_of(number, counts.began.elapsed()).to_string(), keeps)
        }
        None => {
            let size = path.strip_prefix("/bytes-").and_then(|rest| rest.split('/').next()?.parse().ok());
            (size.unwrap_or(0), "0".to_owned(), 86_400)
        }
    };
    let date = httpdate::fmt_http_date(std::time::SystemTime::now());
    let fields = format!("Date: {date}\r\nETag: \"{tag}\"\r\nCache-Control: public, max-age={keeps}\r\n");
    if known.trim_matches('"') == tag {
        counts.confirmed.fetch_add(1, Ordering::Relaxed);
        connection.send(format!("HTTP/1.1 304 Not Modified\r\n{fields}\r\n").as_bytes()).await?;
        return Ok(true);
    }
    counts.bytes.fetch_add(size as u64, Ordering::Relaxed);
    let head =
        format!("HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n{fields}Content-Length: {size}\r\n\r\n");
    let first = size.min(PIECE);
    connection.send(&[head.as_bytes(), &[b'x'; PIECE][..first]].concat()).await?;
    let mut left = size - first;
    while left > 0 {
        let piece = left.min(PIECE);
        connection.send(&[b'x'; PIECE][..piece]).await?;
        left -= piece;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_versions_are_as_the_question_says() {
        let sizes: Vec<_> = (0..10_000).map(size).collect();
        assert!(sizes.iter().all(|size| (512..=16_384).contains(size)));
        let mean = sizes.iter().sum::<usize>() / sizes.len();
        assert!((4000..5000).contains(&mean), "{mean}");
        assert_eq!((0..1000).filter(|number| changes(*number)).count(), 100);
        assert_eq!(version_of(8, Duration::from_secs(99)), 0);
        let (early, late) = (version_of(9, Duration::ZERO), version_of(9, 5 * CHANGES_EVERY));
        assert_eq!(late - early, 5);
    }

    #[tokio::test]
    async fn what_is_outdated_is_told_by_how_long() {
        let objects = Objects::start().unwrap();
        assert_eq!(objects.outdated(8, 0), None);
        let now = version_of(9, objects.counts.began.elapsed());
        assert_eq!(objects.outdated(9, now), None);
        // Version 0 is followed by 1 when one change has come; before the start there was an eternity of them.
        if let Some(age) = objects.outdated(9, 0) {
            assert!(age <= phase(9) + objects.counts.began.elapsed());
        }
    }

    #[tokio::test]
    async fn an_object_is_confirmed_to_whom_has_it() {
        let objects = Objects::start().unwrap();
        let mut connection = Connection::open(objects.address).await.unwrap();
        let request = crate::connection::get(objects.address, "/bytes-100000/x");
        connection.exchange(&request, |_| ()).await.unwrap();
        assert_eq!(objects.work().bytes, 100_000);
        let known = [("If-None-Match", "\"0\"")];
        let request = crate::connection::get_with(objects.address, "/object-1", &known);
        assert!(connection.exchange(&request, |_| ()).await.is_err(), "a 304 has no length");
        assert_eq!((objects.work().requests, objects.work().confirmed), (2, 1));
    }
}
