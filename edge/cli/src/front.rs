//! The front door: one address that sends every client to its nearest PoP, as anycast or geographic DNS would.
//!
//! A client's address (the peer's, or what a trusted peer forwarded) gives its place, and the healthy PoP with the
//! shortest great circle to it gets the request. A client whose place is unknown, such as a plain `curl` on loopback,
//! counts as standing where the first PoP stands. The round trip between client and PoP is made up: half of it passes
//! before the request's head goes on, half before the answer's head comes back. Bodies stream behind their heads.
//!
//! A PoP that cannot be reached is out until a health check finds it again, and its clients go to the next nearest.
//! A request that a PoP may have begun to run is repeated only when it is idempotent and has no body: when the connection
//! breaks, or when the PoP hangs, which a health check without an answer shows.

pub(crate) mod forward;
mod greeting;
pub(crate) mod health;

use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::{conn::auto, graceful::GracefulShutdown};
use ipnet::IpNet;
use middleware::client_addr::client_address;
use middleware::geo::{distance_km, round_trip};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::alarm::Alarm;
use forward::{Body, Failure, Upload};
use greeting::Greeting;
use health::Health;

/// Names the PoP that the front door chose, with the simulated round trip in milliseconds and the client's place.
pub(crate) const FRONT_HEADER: &str = "x-skerry-front";

/// Most client connections at once; further ones wait in the listen queue.
pub(crate) const MAX_CONNECTIONS: usize = 4096;

/// Longest wait for a request's head, which also ends idle connections.
pub(crate) const HEADER_TIMEOUT: Duration = Duration::from_secs(60);

/// Longest wait for a PoP's answer to begin. PoPs have tighter limits of their own: this one is for a PoP that hangs.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

/// Longest wait for a PoP to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// How long requests under way may take to finish when the front door closes.
pub(crate) const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Between two pings of an idle HTTP/2 connection, and the longest wait for the answer.
const PING_INTERVAL: Duration = Duration::from_secs(30);

/// Largest request head accepted, in bytes. A PoP accepts 64 KiB: what is added on the way there has its room.
const MAX_HEAD_BYTES: usize = 62 << 10;

/// Most header fields of a request. A PoP accepts 100: `Host` and `X-Forwarded-For` may be added on the way there.
const MAX_HEAD_FIELDS: usize = 98;

/// Most header fields of a PoP's answer: as many as any function could set. The PoP has bounded them already.
const MAX_ANSWER_FIELDS: usize = 4096;

/// Pause after an accept that failed (out of descriptors): the loop must not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Between two looks at whether anything still waits for a PoP that is to end.
const LEAVE_INTERVAL: Duration = Duration::from_millis(20);

/// A PoP as the front door sees it.
#[derive(Clone, Debug)]
pub(crate) struct Backend {
    /// Its name.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// Latitude and longitude in degrees.
    pub coordinates: (f64, f64),
    /// Whether it runs from the start.
    pub runs: bool,
}

/// Where a client stands.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Spot {
    /// Latitude and longitude in degrees.
    pub coordinates: (f64, f64),
    /// What to call it: a country code.
    pub label: String,
}

/// Finds the place of an address; `None` when nothing is known about it.
pub(crate) type Locate = Box<dyn Fn(IpAddr) -> Option<Spot> + Send + Sync>;

/// What a front door needs.
pub(crate) struct Config {
    /// The PoPs, at least one.
    pub backends: Vec<Backend>,
    /// Finds a client's place.
    pub locate: Locate,
    /// Peers whose `X-Forwarded-For` is believed.
    pub trust: Vec<IpNet>,
    /// Hop cost of the simulated round trip; `None` simulates none.
    pub hop: Option<Duration>,
}

/// A front door.
pub(crate) struct Front {
    config: Config,
    health: Health,
    alarm: Alarm,
    client: Client<HttpConnector, Upload>,
}

impl std::fmt::Debug for Front {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Front").field("backends", &self.config.backends).field("health", &self.health).finish()
    }
}

impl Front {
    /// A front door to the PoPs of `config`, all taken for healthy until they prove otherwise. `alarm` keeps the time of
    /// the round trips.
    pub(crate) fn new(config: Config, alarm: Alarm) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_max_idle_per_host(256)
            .http1_max_headers(MAX_ANSWER_FIELDS)
            .build(connector);
        let health = Health::new(config.backends.iter().map(|backend| backend.runs));
        Self { config, health, alarm, client }
    }

    /// Serves `listener` until `shutdown` resolves, then finishes what is under way within [`DRAIN_TIMEOUT`].
    pub(crate) async fn serve(self: Arc<Self>, listener: TcpListener, shutdown: impl Future<Output = ()>) {
        self.serve_within(Arc::new(Semaphore::new(MAX_CONNECTIONS)), listener, shutdown).await;
    }

    async fn serve_within(
        self: Arc<Self>,
        permits: Arc<Semaphore>,
        listener: TcpListener,
        shutdown: impl Future<Output = ()>,
    ) {
        let mut shutdown = pin!(shutdown);
        let watch = health::watch_all(Arc::clone(&self));
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_buf_size(MAX_HEAD_BYTES)
            .max_headers(MAX_HEAD_FIELDS);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(128)
            .max_header_list_size(MAX_HEAD_BYTES as u32)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_INTERVAL);
        let open = GracefulShutdown::new();
        loop {
            let accept = async {
                let permit = Arc::clone(&permits).acquire_owned().await.map_err(std::io::Error::other)?;
                let (stream, peer) = listener.accept().await?;
                Ok::<_, std::io::Error>((permit, stream, peer))
            };
            let accepted = tokio::select! {
                accepted = accept => accepted,
                () = &mut shutdown => break,
            };
            let Ok((permit, stream, peer)) = accepted else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let _ = stream.set_nodelay(true);
            let front = Arc::clone(&self);
            let service = service_fn(move |request| {
                let front = Arc::clone(&front);
                async move { Ok::<_, std::convert::Infallible>(front.answer(request, peer.ip()).await) }
            });
            let stream = TokioIo::new(Greeting::new(stream, HEADER_TIMEOUT));
            let connection = builder.serve_connection(stream, service).into_owned();
            let connection = open.watch(connection);
            tokio::spawn(async move {
                let _permit = permit;
                // A client that breaks the protocol or goes away concerns only itself.
                let _ = connection.await;
            });
        }
        drop(listener);
        let _ = tokio::time::timeout(DRAIN_TIMEOUT, open.shutdown()).await;
        drop(watch);
    }

    /// Answers one request.
    async fn answer(&self, request: Request<Incoming>, peer: IpAddr) -> Response<Body> {
        if request.method() == http::Method::CONNECT {
            return forward::problem(StatusCode::METHOD_NOT_ALLOWED, "CONNECT is not for this server", None);
        }
        if request.uri().path() == "*" {
            return forward::about_the_server(request.method());
        }
        let spot = self.spot(request.headers(), peer);
        let (head, body) = request.into_parts();
        let head = match forward::request_head(head, peer) {
            Ok(head) => head,
            Err(why) => return forward::problem(StatusCode::BAD_REQUEST, why, None),
        };
        let upload = Upload::new(body);
        let repeatable = head.method.is_idempotent() && upload.is_empty();
        for index in self.order(spot.coordinates) {
            let backend = &self.config.backends[index];
            let distance = self.config.hop.map(|hop| round_trip(spot.coordinates, backend.coordinates, hop));
            let one_way = distance.unwrap_or_default() / 2;
            let _waiting = self.health.wait(index);
            let answer = tokio::select! {
                answer = self.attempt(backend, &head, &upload, one_way) => answer,
                () = self.health.hangs(index), if repeatable => Err(Failure::Broken),
            };
            match answer {
                Ok(mut response) => {
                    forward::strip_hop_by_hop(response.headers_mut());
                    announce(response.headers_mut(), backend, distance, &spot);
                    return response;
                }
                Err(Failure::NotSent) => self.health.down(index),
                Err(Failure::Broken) if repeatable => self.health.suspect(index),
                Err(Failure::Upload) => return Failure::Upload.response(&backend.name),
                Err(failure) => {
                    self.health.suspect(index);
                    return failure.response(&backend.name);
                }
            }
        }
        let detail = "no PoP answers; the front door looks for them several times a second";
        forward::problem(StatusCode::SERVICE_UNAVAILABLE, detail, Some(1))
    }

    /// Where the client stands: by its address, else with the first PoP.
    fn spot(&self, headers: &HeaderMap, peer: IpAddr) -> Spot {
        let forwarded = headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok());
        let client = client_address(peer, forwarded, &self.config.trust);
        (self.config.locate)(client).unwrap_or_else(|| Spot {
            coordinates: self.config.backends.first().map_or((0.0, 0.0), |backend| backend.coordinates),
            label: "unknown".to_owned(),
        })
    }

    /// Nothing new goes to a PoP; resolves once nothing waits for it, or after [`DRAIN_TIMEOUT`].
    pub(crate) async fn leave(&self, index: usize) {
        self.health.leave(index, true);
        let emptied = async {
            while self.health.waiting(index) > 0 {
                tokio::time::sleep(LEAVE_INTERVAL).await;
            }
        };
        let _ = tokio::time::timeout(DRAIN_TIMEOUT, emptied).await;
    }

    /// A PoP that had left is there again, once a check finds it.
    pub(crate) fn enter(&self, index: usize) {
        self.health.leave(index, false);
    }

    /// The PoPs, nearest first; of those at one place, the one that fewest requests wait for. Those that do not answer come
    /// last: a check may be out of date, and when no PoP is healthy a refusal costs nothing.
    fn order(&self, from: (f64, f64)) -> Vec<usize> {
        let key = |index: usize| {
            let km = distance_km(from, self.config.backends[index].coordinates);
            (!self.health.is_up(index), km, self.health.waiting(index))
        };
        let mut order: Vec<_> = (0..self.config.backends.len()).map(|index| (key(index), index)).collect();
        order.sort_by(|((down_a, km_a, waiting_a), _), ((down_b, km_b, waiting_b), _)| {
            down_a.cmp(down_b).then(km_a.total_cmp(km_b)).then(waiting_a.cmp(waiting_b))
        });
        order.into_iter().map(|(_, index)| index).collect()
    }

    async fn attempt(
        &self,
        backend: &Backend,
        head: &http::request::Parts,
        upload: &Upload,
        one_way: Duration,
    ) -> Result<Response<Body>, Failure> {
        self.alarm.sleep(one_way).await;
        let request = forward::to(backend.address, head, upload.again());
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, self.client.request(request)).await;
        let response = answer.map_err(|_| Failure::TimedOut)?.map_err(|error| Failure::of(&error, upload))?;
        self.alarm.sleep(one_way).await;
        Ok(response.map(forward::download))
    }
}

/// Says in the answer which PoP was chosen and why.
fn announce(headers: &mut HeaderMap, backend: &Backend, distance: Option<Duration>, spot: &Spot) {
    let rtt = distance.unwrap_or_default().as_secs_f64() * 1000.0;
    let text = format!("{}; rtt={rtt:.1}; client={}", backend.name, spot.label);
    if let Ok(value) = HeaderValue::try_from(text) {
        headers.insert(FRONT_HEADER, value);
    }
}

#[cfg(test)]
mod tests;
