//! The open-loop generator: requests start when they are due, whatever became of those before.
//!
//! A latency is measured from the instant a request was due, not from when it could be sent. So when the server stalls,
//! the requests that were due meanwhile count their waiting (a closed loop would not have sent them: "coordinated
//! omission"). What the bound on requests under way keeps back is counted as dropped, never forgotten.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Uri};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use super::record::{Class, Failure, Record};
use super::schedule::Schedule;

/// Where requests go and what they ask.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// Address to connect to: a WAN link, or the server itself.
    pub address: SocketAddr,
    /// `Host` of the requests, unless the headers have one.
    pub host: String,
    /// Path and query.
    pub path: String,
    /// Further request headers.
    pub headers: HeaderMap,
    /// Whether the server is a PoP, whose answers have classes.
    pub is_pop: bool,
}

/// How hard.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    /// When requests are due.
    pub schedule: Schedule,
    /// Connections opened before the first request.
    pub connections: usize,
    /// Most connections: another one is opened when none is idle.
    pub most_connections: usize,
    /// Most requests under way; more are dropped and counted.
    pub in_flight: usize,
    /// Longest wait for an answer.
    pub timeout: Duration,
    /// Wait after opening the connections, so that their handshakes are over.
    pub settle: Duration,
    /// Makes every request unlike any other by a query parameter with this prefix.
    pub unique: Option<String>,
}

/// Runs the schedule against the target.
///
/// # Errors
/// When no connection can be opened at the start. Later failures are counted in the record.
pub(crate) async fn run(target: &Target, load: &Load) -> io::Result<Record> {
    let lane = Arc::new(Lane::open(target.clone(), load).await?);
    tokio::time::sleep(load.settle).await;
    let mut due = arrivals(load.schedule.clone(), load.in_flight)?;
    let mut tasks = JoinSet::new();
    let mut number = 0;
    while let Some(instant) = due.recv().await {
        while tasks.try_join_next().is_some() {}
        {
            let mut record = lane.record();
            record.scheduled += 1;
            record.generator_lag = record.generator_lag.max(instant.elapsed());
            if tasks.len() >= load.in_flight {
                record.failure(Failure::Dropped, Duration::ZERO);
                continue;
            }
            record.peak_in_flight = record.peak_in_flight.max(tasks.len() + 1);
        }
        number += 1;
        let path = load.unique.as_ref().map(|prefix| unique(&target.path, prefix, number));
        let lane = Arc::clone(&lane);
        let timeout = load.timeout;
        tasks.spawn(async move { lane.measure(path, instant, timeout).await });
    }
    while tasks.join_next().await.is_some() {}
    let record = std::mem::take(&mut *lane.record());
    Ok(record)
}

/// A path that no cache has seen.
fn unique(path: &str, prefix: &str, number: u64) -> String {
    let separator = if path.contains('?') { '&' } else { '?' };
    format!("{path}{separator}skerry-bench={prefix}-{number}")
}

/// Sends each due instant when it comes. A thread of its own, because the runtime's timers have a millisecond's grain.
fn arrivals(schedule: Schedule, backlog: usize) -> io::Result<mpsc::Receiver<Instant>> {
    let (sender, receiver) = mpsc::channel(backlog.max(1));
    std::thread::Builder::new().name("arrivals".to_owned()).spawn(move || {
        let start = Instant::now();
        for offset in schedule {
            let due = start + offset;
            if let Some(wait) = due.checked_duration_since(Instant::now()) {
                std::thread::sleep(wait);
            }
            // A full backlog holds the thread, not the clock: the instants that follow are already fixed.
            if sender.blocking_send(due).is_err() {
                return;
            }
        }
    })?;
    Ok(receiver)
}

type Connection = SendRequest<Empty<Bytes>>;

/// The connections to one target and what is measured over them.
struct Lane {
    target: Target,
    permits: Semaphore,
    idle: Mutex<Vec<Connection>>,
    record: Mutex<Record>,
}

impl Lane {
    async fn open(target: Target, load: &Load) -> io::Result<Self> {
        let mut opening = JoinSet::new();
        for _ in 0..load.connections.max(1) {
            opening.spawn(connect(target.address));
        }
        let mut idle = Vec::new();
        let mut refused = None;
        while let Some(opened) = opening.join_next().await {
            match opened.unwrap_or_else(|panic| Err(io::Error::other(panic))) {
                Ok(connection) => idle.push(connection),
                Err(error) => refused = Some(error),
            }
        }
        match refused {
            Some(error) if idle.is_empty() => Err(error),
            _ => Ok(Self {
                target,
                permits: Semaphore::new(load.most_connections.max(load.connections).max(1)),
                idle: Mutex::new(idle),
                record: Mutex::default(),
            }),
        }
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One request, from the instant it was due to its last byte.
    async fn measure(&self, path: Option<String>, due: Instant, timeout: Duration) {
        let path = path.as_deref().unwrap_or(&self.target.path);
        let answer = tokio::time::timeout_at((due + timeout).into(), self.exchange(path)).await;
        let latency = due.elapsed();
        match answer.unwrap_or(Err(Failure::TimedOut)) {
            Ok((classes, status)) => self.record().answer(&classes, status, latency),
            Err(failure) => self.record().failure(failure, latency),
        }
    }

    async fn exchange(&self, path: &str) -> Result<(Vec<Class>, u16), Failure> {
        let _permit = match self.permits.try_acquire() {
            Ok(permit) => permit,
            // The wait is in the latency, and its cause in the report: it is the generator's, not the server's.
            Err(_) => {
                self.record().waited += 1;
                self.permits.acquire().await.map_err(|_| Failure::Broken)?
            }
        };
        loop {
            let idle = self.idle().pop();
            let reused = idle.is_some();
            let mut connection = match idle {
                Some(connection) if connection.is_closed() => continue,
                Some(connection) => connection,
                None => {
                    self.record().opened += 1;
                    connect(self.target.address).await.map_err(|_| Failure::Connect)?
                }
            };
            let response = match connection.send_request(self.request(path)?).await {
                Ok(response) => response,
                // The server closed it while it was idle: nothing was sent, the next one serves.
                Err(error) if reused && error.is_canceled() => continue,
                Err(_) => return Err(Failure::Broken),
            };
            let classes = if self.target.is_pop { Class::of(response.headers()) } else { Vec::new() };
            let status = response.status().as_u16();
            let mut body = response.into_body();
            while let Some(frame) = body.frame().await {
                frame.map_err(|_| Failure::Broken)?;
            }
            if connection.ready().await.is_ok() {
                self.idle().push(connection);
            }
            return Ok((classes, status));
        }
    }

    fn request(&self, path: &str) -> Result<Request<Empty<Bytes>>, Failure> {
        let uri: Uri = path.parse().map_err(|_| Failure::Broken)?;
        let mut request = Request::new(Empty::new());
        *request.method_mut() = Method::GET;
        *request.uri_mut() = uri;
        *request.headers_mut() = self.target.headers.clone();
        let host = http::HeaderValue::try_from(&self.target.host).map_err(|_| Failure::Broken)?;
        request.headers_mut().entry(http::header::HOST).or_insert(host);
        Ok(request)
    }
}

async fn connect(address: SocketAddr) -> io::Result<Connection> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    tokio::spawn(connection);
    Ok(sender)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::schedule::Arrivals;
    use std::net::Ipv4Addr;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    /// Answers every request on every connection; the one numbered `stall_at` holds all answers back for `stall`.
    async fn server(stall_at: usize, stall: Duration) -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let count = Arc::new(std::sync::atomic::AtomicUsize::new(0));
            let gate = Arc::new(tokio::sync::Mutex::new(()));
            while let Ok((mut stream, _)) = listener.accept().await {
                let (count, gate) = (Arc::clone(&count), Arc::clone(&gate));
                tokio::spawn(async move {
                    let mut buffer = [0; 4096];
                    while let Ok(1..) = stream.read(&mut buffer).await {
                        let turn = gate.lock().await;
                        if count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == stall_at {
                            tokio::time::sleep(stall).await;
                        }
                        drop(turn);
                        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncache-status: lhr; hit\r\n\r\nok";
                        if stream.write_all(answer).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        address
    }

    fn target(address: SocketAddr) -> Target {
        Target { address, host: "localhost".to_owned(), path: "/x".to_owned(), headers: HeaderMap::new(), is_pop: true }
    }

    fn load(rate: f64, duration: Duration) -> Load {
        Load {
            schedule: Schedule::new(Arrivals::Fixed, rate, duration, 1),
            connections: 4,
            most_connections: 1000,
            in_flight: 1000,
            timeout: Duration::from_secs(20),
            settle: Duration::ZERO,
            unique: None,
        }
    }

    #[tokio::test]
    async fn a_stalled_server_shows_in_every_request_that_was_due_meanwhile() {
        let stall = Duration::from_millis(600);
        let address = server(50, stall).await;
        let record = run(&target(address), &load(200.0, Duration::from_secs(1))).await.unwrap();
        assert_eq!((record.scheduled, record.all.count(), record.waited), (200, 200, 0));
        assert_eq!(record.classes.keys().collect::<Vec<_>>(), [&Class::Hit]);
        // 120 requests were due during the stall and waited 300 ms on average. A closed loop of four connections would
        // have seen four slow requests in 200: its p90 would be fast.
        let all = &record.all;
        assert!(all.quantile_ms(0.90) >= 300.0, "p90 {} ms hides the stall", all.quantile_ms(0.90));
        assert!(all.quantile_ms(1.0) >= 600.0);
    }

    #[tokio::test]
    async fn what_the_bound_keeps_back_is_counted_as_dropped() {
        let address = server(0, Duration::from_millis(400)).await;
        let load = Load { in_flight: 10, ..load(500.0, Duration::from_millis(300)) };
        let record = run(&target(address), &load).await.unwrap();
        let dropped = record.failures.get(&Failure::Dropped).copied().unwrap_or_default();
        assert_eq!(record.scheduled, 150);
        assert_eq!(record.all.count() + dropped, 150);
        assert!(dropped > 0 && record.peak_in_flight <= 10, "{record:?}");
    }

    #[tokio::test]
    async fn a_slow_server_gets_more_connections_and_is_not_blamed_for_their_number() {
        // Every answer takes 300 ms, however many are under way; four connections would carry 13 requests a second.
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    while let Ok(1..) = stream.read(&mut [0; 4096]).await {
                        tokio::time::sleep(Duration::from_millis(300)).await;
                        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
                    }
                });
            }
        });
        let record = run(&target(address), &load(100.0, Duration::from_secs(1))).await.unwrap();
        assert_eq!((record.all.count(), record.waited), (100, 0));
        assert!(record.opened > 10 && record.all.quantile_ms(0.5) < 600.0, "{} ms", record.all.quantile_ms(0.5));
        let capped = Load { most_connections: 4, ..load(100.0, Duration::from_millis(300)) };
        let record = run(&target(address), &capped).await.unwrap();
        assert!(record.opened == 0 && record.waited > 20, "{record:?}");
    }

    #[tokio::test]
    async fn a_request_without_an_answer_in_time_counts_with_the_time_it_waited() {
        let address = server(0, Duration::from_secs(60)).await;
        let load = Load { timeout: Duration::from_millis(50), ..load(100.0, Duration::from_millis(50)) };
        let record = run(&target(address), &load).await.unwrap();
        assert_eq!((record.all.count(), record.failures[&Failure::TimedOut]), (5, 5));
        assert!(record.all.quantile_ms(0.0) >= 49.0 && record.statuses.is_empty());
    }

    #[tokio::test]
    async fn a_host_that_was_given_is_asked_for() {
        let mut headers = HeaderMap::new();
        headers.insert("host", http::HeaderValue::from_static("api.example.com"));
        let address = server(0, Duration::ZERO).await;
        let given = Target { headers, ..target(address) };
        for (target, host) in [(given, "api.example.com"), (target(address), "localhost")] {
            let lane = Lane::open(target, &load(1.0, Duration::ZERO)).await.unwrap();
            assert_eq!(lane.request("/").unwrap().headers()["host"], host);
        }
    }

    #[tokio::test]
    async fn a_target_that_nobody_serves_is_an_error_at_once() {
        let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap();
        assert!(run(&target(closed), &load(10.0, Duration::from_secs(60))).await.is_err());
    }

    #[test]
    fn unique_paths_keep_the_query_they_have() {
        assert_eq!(unique("/a", "s", 3), "/a?skerry-bench=s-3");
        assert_eq!(unique("/a?b=1", "s", 4), "/a?b=1&skerry-bench=s-4");
    }
}
