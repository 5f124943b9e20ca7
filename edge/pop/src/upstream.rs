//! Requests that leave the PoP: to the origin, or to any address that a function may reach, always through the cache.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use cache::policy::Overrides;
use cache::policy::overrides::Mode;
use cache::{FailureKind, OriginBody, OriginFailure};
use http::request::Parts;
use http::{HeaderValue, Request, Response, StatusCode, Uri, Version, header};
use http_body_util::BodyExt as _;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use origin::STORE_READS;

use crate::caching::Caching;
use crate::fault::origin_code;
use crate::head;
use crate::notes::Asked;
use crate::state::State;

mod breaker;
mod budget;
mod gate;
mod origins;
mod patience;
mod region;
mod retry;
mod tier;
mod wire;

use breaker::Pass;
pub(crate) use breaker::Phase;
pub(crate) use gate::Gate;
use origins::Place;
pub(crate) use origins::{Origin, Origins, Side, Withheld};
use patience::{Arriving, Upload};
pub(crate) use region::{
    Errand as Sent, Failed as RegionFailed, Lent, PATIENCE as REGION_PATIENCE, Region, Regions, USED,
};
use tier::Shield;
pub(crate) use tier::{Errand, OWN, Tier};
use wire::{Dial, Heard};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// There is another way than over a shield.
const SHIELD_CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// For each host, on each thread.
const IDLE_CONNECTIONS: usize = 64;
/// The largest head of a response over HTTP/1, in bytes, and its most lines.
const HEAD_BYTES: usize = 128 << 10;
const HEAD_LINES: usize = 128;

type Connector = Dial<HttpsConnector<HttpConnector<Guarded>>>;

/// One thread's connections to the outside.
pub(crate) struct Upstream {
    state: Arc<State>,
    /// To the origin, wherever the operator put it.
    origin: Pool<Dial<HttpConnector>, OriginBody>,
    /// To other PoPs.
    shields: Pool<Dial<HttpConnector>, OriginBody>,
    /// To region nodes.
    regions: Pool<Dial<HttpConnector>, OriginBody>,
    /// To where functions want: public addresses, and those allowed.
    outside: Pool<Connector, OriginBody>,
}

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target<'a> {
    /// The origin that this PoP stands in front of, for a function with these assets: what is stored for it is its own.
    /// Other assets may have the same URL, and a host outside may have the same name.
    Origin(&'a str),
    /// The same, for another PoP: never over a shield.
    Errand(&'a str),
    /// The host that its URL names.
    Outside,
}

/// The way that a request takes.
#[derive(Clone, Copy)]
enum Way<'a> {
    Origin,
    Outside,
    Over(&'a Shield),
}

impl Way<'_> {
    const fn side(self) -> Side {
        match self {
            Self::Origin => Side::Own,
            Self::Outside => Side::Outside,
            Self::Over(_) => Side::Shield,
        }
    }
}

impl Upstream {
    pub(crate) fn new(state: Arc<State>) -> Self {
        let mut plain = HttpConnector::new();
        plain.set_connect_timeout(Some(CONNECT_TIMEOUT));
        plain.set_nodelay(true);
        let mut guarded = HttpConnector::new_with_resolver(Guarded(Arc::clone(&state)));
        guarded.set_connect_timeout(Some(CONNECT_TIMEOUT));
        guarded.set_nodelay(true);
        guarded.enforce_http(false);
        let https = HttpsConnectorBuilder::new()
            .with_webpki_roots()
            .https_or_http()
            .enable_all_versions()
            .wrap_connector(guarded);
        let mut near = plain.clone();
        near.set_connect_timeout(Some(SHIELD_CONNECT_TIMEOUT));
        let regional = Dial::new(near.clone(), Arc::clone(&state), Side::Region);
        let near = Dial::new(near, Arc::clone(&state), Side::Shield);
        let plain = Dial::new(plain, Arc::clone(&state), Side::Own);
        let https = Dial::new(https, Arc::clone(&state), Side::Outside);
        let (origin, shields, regions) = (pool().build(plain), pool().build(near), pool().build(regional));
        Self { state, origin, shields, regions, outside: pool().build(https) }
    }

    /// Sends `head` with `body` through the cache. The request's URI is absolute: it is the cache's key.
    pub(crate) async fn fetch(
        self: &Arc<Self>,
        target: Target<'_>,
        mut head: Parts,
        body: isolate::Body,
        asked: &Arc<Asked>,
    ) -> Result<Response<cache::Body>, OriginFailure> {
        let pretences = head::pretences(&head.headers);
        let assets = match target {
            Target::Origin(assets) | Target::Errand(assets) => Some(assets),
            Target::Outside => None,
        };
        let caching = head.extensions.remove::<Caching>();
        if let Some(key) = cache::Key::of_uri(&head.uri) {
            let parts = assets.into_iter().chain(pretences.iter().map(String::as_str));
            head.extensions.insert(match &caching {
                None => key.with_parts(parts),
                Some(caching) => caching.key(key, parts),
            });
        }
        let tags = caching.and_then(|caching| caching.tags);
        let shield = match target {
            Target::Origin(assets) => self.state.tier.choose(&self.state.name, &head.uri, assets),
            Target::Errand(_) | Target::Outside => None,
        };
        let shield = shield.map(|shield| (shield, assets.unwrap_or_default().to_owned()));
        let way = if target == Target::Outside { Way::Outside } else { Way::Origin };
        let (upstream, asked) = (Arc::clone(self), Arc::clone(asked));
        let mut body = Some(body);
        cache::fetch(&self.state.cache, head, move |head| {
            // Called again, it is for a request without a body.
            let body = body.take().unwrap_or_else(retry::no_body);
            let (upstream, asked, shield, tags) =
                (Arc::clone(&upstream), Arc::clone(&asked), shield.clone(), tags.clone());
            async move {
                let began = Instant::now();
                let mut sent = match shield {
                    // Boxed: it is as long as the other way, and holds that too.
                    Some((shield, assets)) => Box::pin(upstream.over(&shield, &assets, head, body)).await,
                    None => upstream.send(way, head, body).await,
                };
                // A 304 would put them in the place of the origin's own.
                if let (Some(tags), Ok(response)) = (tags, &mut sent)
                    && response.status() != StatusCode::NOT_MODIFIED
                {
                    response.headers_mut().append("cache-tag", tags);
                }
                // Hosts outside have no say in it.
                let reads = |response: &mut Response<OriginBody>| match way {
                    Way::Outside => 0,
                    Way::Origin | Way::Over(_) => head::number(response.headers_mut().remove(STORE_READS)),
                };
                asked.waited(began.elapsed(), sent.as_mut().ok().map(reads));
                sent
            }
        })
        .await
    }

    /// A request without body to an address that a function may reach, past the cache.
    pub(crate) async fn direct(&self, head: Parts) -> Result<Response<OriginBody>, OriginFailure> {
        let body = Box::pin(http_body_util::Empty::new().map_err(|never| match never {}));
        self.send(Way::Outside, head, body).await
    }

    /// A request over a shield, or past it when it is not there.
    async fn over(
        &self,
        shield: &Shield,
        assets: &str,
        mut head: Parts,
        body: isolate::Body,
    ) -> Result<Response<OriginBody>, OriginFailure> {
        let detour = |reason| self.state.origins.counts(Side::Shield).detours.add(reason, 1);
        if shield.origin.breaker.holds(self.state.millis()).is_some() {
            detour("open");
            return self.send(Way::Origin, head, body).await;
        }
        let (again, empty) = (head.clone(), body.is_end_stream());
        let (lent, body) = Lent::new(body);
        let anew = |it: &Overrides| matches!(it.mode, Mode::NoStore | Mode::Reload | Mode::NoCache);
        let purged = if head.extensions.get().is_some_and(anew) { u64::MAX } else { self.state.cache.purged() };
        self.state.tier.seal(&mut head, assets, purged)?;
        let (reason, given) = match self.send(Way::Over(shield), head, body).await {
            Ok(response) => match tier::classify(&response) {
                tier::Answer::Origin => return Ok(response),
                tier::Answer::Failed(kind) => return Err(failure(kind, "a shield got no response from the origin")),
                // It has done nothing, and says so.
                tier::Answer::Unable => ("unable", failure(FailureKind::Unreachable, "a shield cannot serve now")),
            },
            // Who has got it may have passed it on before he was lost.
            Err(failure) if retry::unsent(&failure) || (empty && again.method.is_idempotent()) => ("failed", failure),
            Err(failure) => return Err(failure),
        };
        // A body that has begun is gone.
        let Some(body) = lent.back() else { return Err(given) };
        detour(reason);
        self.send(Way::Origin, again, body).await
    }

    /// One request, on the wire as often as it may be.
    async fn send(
        &self,
        way: Way<'_>,
        mut head: Parts,
        body: isolate::Body,
    ) -> Result<Response<OriginBody>, OriginFailure> {
        let side = way.side();
        self.address(way, &mut head)?;
        let authority = head.uri.authority().map_or("", http::uri::Authority::as_str);
        let (origins, now) = (&self.state.origins, || self.state.millis());
        let origin = match way {
            Way::Origin => origins.own(),
            Way::Outside => origins.outside(authority, now()),
            Way::Over(shield) => Arc::clone(&shield.origin),
        };
        let sent = match origins.enter(&origin, now).await {
            Ok((place, pass)) => self.ask(side, &origin, (place, pass), head, body).await,
            Err(withheld @ Withheld::Open(_)) => Err(failure(FailureKind::Withheld, withheld)),
            Err(withheld @ Withheld::Busy) => Err(failure(FailureKind::Busy, withheld)),
        };
        sent.inspect_err(|failure| origins.counts(side).failures.add(origin_code(failure.kind), 1))
    }

    /// Makes the head what goes on the wire.
    fn address(&self, way: Way<'_>, head: &mut Parts) -> Result<(), OriginFailure> {
        head::remove_hop_by_hop(&mut head.headers);
        head::mark_loop(&mut head.headers, &self.state.cdn_id);
        let authority = head.uri.authority().map(ToString::to_string).unwrap_or_default();
        let host = HeaderValue::from_str(&authority).map_err(|e| failure(FailureKind::Unreachable, e))?;
        head.headers.insert(header::HOST, host);
        // Before RFC 9213, origins were told so whom they may name in Surrogate-Control.
        head.headers.insert("surrogate-capability", HeaderValue::from_static("skerry=\"Surrogate/1.0\""));
        // The body tells its length itself; a field that disagrees would make framing ambiguous.
        head.headers.remove(header::CONTENT_LENGTH);
        if !matches!(way, Way::Over(_)) {
            tier::strip(&mut head.headers);
        }
        // The body does not wait to be asked for, and an origin that must refuse (417) would do so on behalf of others.
        head.headers.remove(header::EXPECT);
        head.version = Version::HTTP_11;
        if self.state.origins.is_crowded() {
            head.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        let base = match way {
            Way::Origin => &self.state.origin,
            Way::Over(shield) => &shield.url,
            Way::Outside => return self.may_reach(&head.uri),
        };
        head.uri = at(base, &head.uri).map_err(|e| failure(FailureKind::Unreachable, e))?;
        Ok(())
    }

    /// Asks an origin, again where that does no harm, and tells its breaker what came of it.
    async fn ask(
        &self,
        side: Side,
        origin: &Origin,
        (place, pass): (Place, Pass),
        head: Parts,
        body: isolate::Body,
    ) -> Result<Response<OriginBody>, OriginFailure> {
        let (state, counts) = (&self.state, self.state.origins.counts(side));
        origin.budget.deposit();
        let (mut next, mut tries) = (Some((head, body)), 0);
        while let Some((head, body)) = next.take() {
            let copy = retry::copy(&head, &body);
            let began = Instant::now();
            let error = match self.exchange(side, head, body).await {
                Ok(response) => {
                    counts.answered.observe(began.elapsed());
                    origin.breaker.succeeded(state.millis());
                    return Ok(response.map(|body| Arriving::new(body, place).boxed_unsync()));
                }
                Err(error) => error,
            };
            if let (Some(copy), Some(reason)) = (copy, error.retry)
                && tries < state.protection.retries
            {
                if origin.budget.withdraw(state.millis()) {
                    counts.retries.add(reason, 1);
                    tokio::time::sleep(retry::pause(tries, rand::random())).await;
                    tries += 1;
                    next = Some(copy);
                    continue;
                }
                counts.retries.add("no-budget", 1);
            }
            if error.absent && origin.breaker.failed(pass, state.millis(), rand::random()) {
                counts.opened.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(pop = %state.name, origin = side.as_str(), error = %error.failure, "an origin fails and is left alone for a while");
            }
            return Err(error.failure);
        }
        Err(failure(FailureKind::Abandoned, "no request was sent"))
    }

    /// One request on the wire, once.
    async fn exchange(
        &self,
        side: Side,
        head: Parts,
        body: isolate::Body,
    ) -> Result<Response<hyper::body::Incoming>, retry::Failed> {
        let patience = match side {
            // Time is left for the direct way.
            Side::Shield => self.state.protection.head_timeout / 3,
            Side::Own | Side::Outside => self.state.protection.head_timeout,
            Side::Region => REGION_PATIENCE,
        };
        let (body, moving) = Upload::new(body);
        let mut request = Request::from_parts(head, body.boxed_unsync());
        let flooded = patience::flooded(&mut request);
        let sending = match side {
            Side::Own => self.origin.request(request),
            Side::Shield => self.shields.request(request),
            Side::Region => self.regions.request(request),
            Side::Outside => self.outside.request(request),
        };
        let sent = tokio::select! {
            sent = sending => sent,
            () = moving.still_for(patience) => {
                return Err(retry::Failed::late(patience));
            }
            () = flooded => {
                return Err(retry::Failed::corrupt("the origin sends interim responses (1xx) without end"));
            }
        };
        let mut response = sent.map_err(|error| retry::Failed::of(&error))?;
        if side != Side::Shield {
            response.headers_mut().remove(OWN);
        }
        if let Some(cause) = ambiguous(response.headers()) {
            // Nobody knows where the next response begins on its connection.
            response.extensions().get().inspect(|heard: &&Heard| heard.condemn());
            return Err(retry::Failed::corrupt(cause));
        }
        head::remove_hop_by_hop(response.headers_mut());
        Ok(response)
    }

    /// An address in a URL never meets the resolver, so it is judged here; names are judged by what they resolve to.
    fn may_reach(&self, uri: &Uri) -> Result<(), OriginFailure> {
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        match host.parse::<IpAddr>() {
            Ok(address) if !allowed(&self.state, address) => {
                Err(failure(FailureKind::Unreachable, Refused(host.to_owned())))
            }
            _ => Ok(()),
        }
    }
}

fn pool() -> hyper_util::client::legacy::Builder {
    let mut pool = Pool::builder(TokioExecutor::new());
    pool.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE_TIMEOUT).pool_max_idle_per_host(IDLE_CONNECTIONS);
    pool.http1_max_buf_size(HEAD_BYTES).http1_max_headers(HEAD_LINES);
    // A request of which not a byte was sent, because the kept connection for it turned out to be closed, takes another one
    // by itself, whatever its method: no origin sees it twice. All other retries are `retry`'s.
    pool.retry_canceled_requests(true);
    pool
}

/// `uri`'s path and query at the host of `base`.
fn at(base: &Uri, uri: &Uri) -> Result<Uri, http::Error> {
    let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let scheme = base.scheme_str().unwrap_or("http");
    let authority = base.authority().map_or("", http::uri::Authority::as_str);
    Uri::builder().scheme(scheme).authority(authority).path_and_query(path).build()
}

/// Why two readers could take the response for two different ones, or its body for another (RFC 9112 sections 6.1 and 6.3).
fn ambiguous(fields: &http::HeaderMap) -> Option<&'static str> {
    let lines = fields.get_all(header::TRANSFER_ENCODING).iter();
    let mut codings = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    let coding = codings.next()?;
    if fields.contains_key(header::CONTENT_LENGTH) {
        return Some("the response has both Transfer-Encoding and Content-Length");
    }
    if codings.next().is_some() {
        return Some("the response has several transfer codings");
    }
    // It was not asked for (TE), and the field that tells of it goes no further. A name that nobody knows codes nothing:
    // that body ends with its connection.
    let known = [&b"gzip"[..], b"x-gzip", b"deflate", b"compress", b"x-compress"];
    known
        .iter()
        .any(|name| coding.eq_ignore_ascii_case(name))
        .then_some("the response has a transfer coding that was not asked for")
}

fn failure(kind: FailureKind, cause: impl Into<cache::BoxError>) -> OriginFailure {
    OriginFailure::new(kind, cause)
}

/// The whole story of an error in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[derive(Debug, thiserror::Error)]
#[error("{0} is not a public address: start the PoP with --allow-fetch to let functions reach it")]
struct Refused(String);

/// Whether a function may reach an address. Loopback, private and link-local ones lead into the operator's network (and
/// to cloud metadata), so they need leave.
fn allowed(state: &State, address: IpAddr) -> bool {
    let address = address.to_canonical();
    middleware::geo::is_public(address) || state.allow_fetch.iter().any(|net| net.contains(&address))
}

/// Resolves names, and leaves out the addresses that functions may not reach.
#[derive(Clone)]
pub(crate) struct Guarded(Arc<State>);

impl tower_service::Service<Name> for Guarded {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let state = Arc::clone(&self.0);
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let reachable: Vec<_> = found.filter(|address| allowed(&state, address.ip())).collect();
            if reachable.is_empty() {
                let refused = Refused(name.as_str().to_owned());
                return Err(std::io::Error::new(std::io::ErrorKind::PermissionDenied, refused));
            }
            Ok(reachable.into_iter())
        })
    }
}
