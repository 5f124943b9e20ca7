//! The way of a request through a PoP, top to bottom: check its head, route it, run the function in a leased isolate
//! (whose `fetch()` goes through the cache to the origin), finish. `finish` always runs.

use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use cache::policy::Overrides;
use cache::policy::overrides::Mode;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use isolate::limits::Limit;
use isolate::{Body, BoxError, Capabilities as _, Timing};
use origin::STORE_READS;
use origin::bundle::{OnFailure, RoutePattern};

use crate::capabilities::{self, Visit};
use crate::connection::Connection;
use crate::fault::Fault;
use crate::front;
use crate::function::Function;
use crate::head;
use crate::outcome::{ClientBody, Record, Unanswered, tell_start};
use crate::place::{self, Placed};
use crate::region;
use crate::routes::{Found, Live};
use crate::sent::Sent;
use crate::state::State;
use crate::trace::Trace;
use crate::upstream::{Errand, OWN, Target};
use crate::worker::{HEAD_BYTES, Worker};

/// Answers one request. Nothing that happens on the way leaves the client without a response.
pub(crate) async fn serve(
    worker: &Rc<Worker>,
    connection: &Connection,
    peer: IpAddr,
    request: Request<Incoming>,
) -> Response<Sent> {
    let (head, body) = request.into_parts();
    // An IPv4 client of a socket that listens on [::] has an address in IPv6 clothes.
    let peer = peer.to_canonical();
    let trusted = worker.state.trusts(peer);
    let (id, method, uri) = (request_id(&head.headers, trusted), head.method.clone(), head.uri.clone());
    let mut record = Record::new(Rc::clone(worker), id, method, uri);
    record.trace = trusted.then(|| Trace::of(&head.headers)).flatten();
    connection.take(&record.request_id, &record.method);
    let answered = answer(worker, peer, trusted, head, body, &mut record).await;
    if !connection.answer() {
        // The worker was given up while it was in a function, and its client has had an answer. The thread ends soon.
        let lost = Fault::WorkerLost;
        record.answer(lost.status(), Some(lost), record.began.elapsed());
        std::future::pending::<()>().await;
    }
    finish(worker, record, trusted, answered)
}

async fn answer(
    worker: &Rc<Worker>,
    peer: IpAddr,
    trusted: bool,
    mut head: Parts,
    body: Incoming,
    record: &mut Record,
) -> Result<Response<ClientBody>, Fault> {
    if head.uri.path() == crate::HEALTH_PATH {
        return health(worker);
    }
    if let Some(errand) = worker.state.regions.open(&mut head)? {
        record.for_pop = true;
        return Box::pin(region::serve(worker, errand, head, body, record)).await;
    }
    if worker.state.region.is_some() {
        return Err(Fault::NotAPop);
    }
    let authority = check(worker, &mut head)?;
    if let Some(errand) = worker.state.tier.open(&mut head)? {
        record.for_pop = true;
        return Box::pin(run_errand(worker, errand, head, body, record)).await;
    }
    let (function, pattern) = route(worker, head::host(&authority), head.uri.path())?;
    record.function = Some(Arc::clone(&function));
    record.routed = Some(record.began.elapsed());
    function.brake.admit(|| worker.state.micros())?;

    let (body, over) = limited_body(&function, body)?;
    let client = Client::new(worker, peer, trusted, &head.headers);
    head::remove_hop_by_hop(&mut head.headers);
    let capabilities = Rc::new(capabilities::Request {
        worker: Rc::clone(worker),
        function: Arc::clone(&function),
        visit: Visit {
            client: client.address,
            scheme: client.scheme,
            authority,
            request_id: record.request_id.clone(),
        },
        passed: head.headers.get_all(head::CDN_LOOP).iter().cloned().collect(),
        trace: record.trace.clone(),
        notes: Rc::clone(&record.notes),
        http: version(head.version),
        entered: None,
    });
    let answered = if let Some(front) = function.fronts.of(&pattern) {
        Box::pin(front::serve(worker, front, capabilities, head, body, record)).await
    } else if function.has_handler {
        let Ran { result, timing } = run(worker, &capabilities, head, body).await;
        record.timing = timing;
        result
    } else {
        // Boxed, here and below: the way through the cache is long, and every request would carry the room for it.
        Box::pin(from_origin(&capabilities, head, body)).await
    };
    match over {
        // Whatever came of it, that was the cause.
        Some(over) if answered.is_err() && over.is_broken() => Err(over.fault()),
        _ => answered,
    }
}

/// Refuses what no function shall see, and puts the path into its one form. The host and port asked for.
fn check(worker: &Worker, head: &mut Parts) -> Result<String, Fault> {
    // hyper bounds its buffer, which holds up to twice as much by the time it looks.
    if head::size(&head.uri, &head.headers) > HEAD_BYTES {
        return Err(Fault::HeadTooLarge(HEAD_BYTES));
    }
    let authority = head::authority(&head.uri, &head.headers).ok_or(Fault::NoHost)?;
    if let Some(canonical) = head::canonical(&head.uri) {
        head.uri = canonical;
    }
    if !head.uri.path().starts_with('/') {
        return Err(Fault::Target("it is not a path"));
    }
    if head::has_looped(&head.headers, &worker.state.cdn_id) {
        return Err(Fault::Loop);
    }
    Ok(authority)
}

fn health(worker: &Worker) -> Result<Response<ClientBody>, Fault> {
    ready(&worker.state)?;
    Ok(Response::new(ClientBody::own(Bytes::from_static(b"ok\n"))))
}

/// Whether this PoP can serve.
pub(crate) fn ready(state: &State) -> Result<(), Fault> {
    if state.draining.load(Ordering::Relaxed) {
        return Err(Fault::Draining);
    }
    if state.routes.load().generation == 0 { Err(Fault::NotReady) } else { Ok(()) }
}

/// The function for a path, and the route that leads to it.
fn route(worker: &Worker, host: &str, path: &str) -> Result<(Arc<Function>, Arc<RoutePattern>), Fault> {
    let routes = worker.state.routes.load();
    let (live, pattern) = match routes.find(host, path) {
        Found::Function(live, pattern) => (live, pattern),
        Found::UnknownHost | Found::UnknownPath if routes.generation == 0 => return Err(Fault::NotReady),
        Found::UnknownHost => return Err(Fault::UnknownHost(host.to_owned())),
        Found::UnknownPath => return Err(Fault::UnknownRoute(path.to_owned())),
    };
    let function = match live {
        Live::Ready(function) => Ok(function),
        Live::Shelved(shelved) => {
            let read = |version: &_| Function::read(version, &worker.state);
            let damaged = || worker.state.shelf.mend.notify_one();
            shelved.function(read, damaged)
        }
        Live::Damaged(why) => Err(why),
    };
    let function = function.map_err(|why| Fault::Bundle(why.to_string()))?;
    Ok((Arc::clone(function), Arc::clone(pattern)))
}

/// Who asks, and how: from the socket, and from the proxy before it when that is one to believe.
struct Client {
    address: IpAddr,
    scheme: &'static str,
}

impl Client {
    fn new(worker: &Worker, peer: IpAddr, trusted: bool, headers: &HeaderMap) -> Self {
        if !trusted {
            return Self { address: peer, scheme: "http" };
        }
        // Lossy, so that a strange byte spoils one entry and not the line that a proxy appended to.
        let lines = headers.get_all(head::FORWARDED_FOR).iter().map(|v| String::from_utf8_lossy(v.as_bytes()));
        let lines: Vec<_> = lines.collect();
        let address =
            middleware::client_addr::client_address(peer, lines.iter().map(AsRef::as_ref), &worker.state.trust);
        let secure =
            headers.get(head::FORWARDED_PROTO).is_some_and(|proto| proto.as_bytes().eq_ignore_ascii_case(b"https"));
        Self { address, scheme: if secure { "https" } else { "http" } }
    }
}

/// What came of running a function.
pub(crate) struct Ran {
    pub(crate) result: Result<Response<ClientBody>, Fault>,
    /// Where the time went, if it ran at all.
    pub(crate) timing: Option<Timing>,
}

/// Runs the function, or does what the project file has in the case that it fails.
pub(crate) async fn run(worker: &Worker, capabilities: &Rc<capabilities::Request>, head: Parts, body: Body) -> Ran {
    let mut timing = None;
    let result = attempt(worker, capabilities, head, body, &mut timing).await;
    Ran { result, timing }
}

async fn attempt(
    worker: &Worker,
    capabilities: &Rc<capabilities::Request>,
    head: Parts,
    body: Body,
    timing: &mut Option<Timing>,
) -> Result<Response<ClientBody>, Fault> {
    let function = &capabilities.function;
    // Only a request without a body can be sent once more, to the origin, when the function fails.
    let repeatable = body.is_end_stream();
    if function.quarantined.load(Ordering::Relaxed) {
        return match function.on_failure {
            OnFailure::Origin if repeatable => instead(capabilities, head).await,
            _ => Err(Fault::Quarantined(function.label.clone())),
        };
    }
    let (head, body, stay) = match place::place(worker, capabilities, head, body).await? {
        Placed::There(response) => return Ok(response),
        Placed::Here(head, body, stay) => (head, body, stay),
    };
    let request = Request::from_parts(head, body);
    capabilities.notes.run();
    let invoked = worker.invoke(capabilities, request).await;
    if let Some(stay) = stay {
        stay.over(capabilities, !matches!(invoked, Err(Fault::NoCell(_) | Fault::WorkerLost)));
    }
    let invoked = invoked?;
    *timing = invoked.timing;
    if let Some(timing) = &invoked.timing {
        tell_start(worker, function, &capabilities.visit.request_id, timing);
    }
    let Unanswered { fault, pass_through, head } = match invoked.result {
        Ok(response) => return Ok(response),
        Err(unanswered) => unanswered,
    };
    if let Fault::Function(fault) = &fault {
        worker.share(Some(function)).failed(fault);
    }
    let (label, request_id) = (&function.label, capabilities.visit.request_id());
    tracing::error!(target: "function", pop = %worker.state.name, function = %label, %request_id, code = fault.code(), "{fault}");
    let head = match &fault {
        Fault::Function(isolate::Fault::Limit { limit, .. }) => {
            match place::elsewhere(worker, capabilities, *limit, head.as_ref(), !repeatable).await {
                Some(answered) => return Ok(answered),
                None => head,
            }
        }
        _ => head,
    };
    match head {
        Some(head) if repeatable && (pass_through || function.on_failure == OnFailure::Origin) => {
            Box::pin(instead(capabilities, head)).await
        }
        _ => Err(fault),
    }
}

/// The origin's answer in the place of the function's: for this client, and not to be taken for the function's later.
async fn instead(capabilities: &capabilities::Request, head: Parts) -> Result<Response<ClientBody>, Fault> {
    let mut response = from_origin(capabilities, head, empty()).await?;
    response.extensions_mut().insert(cache::NoStore);
    Ok(response)
}

async fn from_origin(
    capabilities: &capabilities::Request,
    mut head: Parts,
    body: Body,
) -> Result<Response<ClientBody>, Fault> {
    head.uri = capabilities.visit.uri(&head).ok_or(Fault::Target("it does not make a URL"))?;
    capabilities.complete(&mut head.headers);
    if !body.is_end_stream() {
        head.extensions.insert(cache::CarriesBody);
    }
    let response = capabilities.ask(Target::Origin(&capabilities.function.assets), head, body).await?;
    Ok(response.map(ClientBody::Cache))
}

/// What another PoP asks, whose shield this one is: from the cache or the origin.
async fn run_errand(
    worker: &Worker,
    errand: Errand,
    mut head: Parts,
    body: Incoming,
    record: &Record,
) -> Result<Response<ClientBody>, Fault> {
    // It need not know any function, but one that ends takes nothing more on.
    if worker.state.draining.load(Ordering::Relaxed) {
        return Err(Fault::Draining);
    }
    head::remove_hop_by_hop(&mut head.headers);
    head.uri = errand.url;
    if errand.purged > worker.state.cache.purged() {
        // Another PoP knows of a purge that this one does not: what is stored here may be covered by it.
        head.extensions.insert(Overrides { mode: Mode::Reload, ..Overrides::default() });
    }
    let body: Body = if body.is_end_stream() {
        empty()
    } else {
        head.extensions.insert(cache::CarriesBody);
        Box::pin(body.map_err(Into::into))
    };
    let target = Target::Errand(&errand.assets);
    let answered = worker.upstream.fetch(target, head, body, record.notes.asked()).await;
    if let Some(outcome) = answered.as_ref().ok().and_then(|response| response.extensions().get::<cache::Outcome>()) {
        worker.counts().cached.add(outcome.as_str(), 1);
    }
    Ok(answered?.map(ClientBody::Cache))
}

/// Makes a response of whatever happened, and notes it.
fn finish(
    worker: &Worker,
    mut record: Record,
    trusted: bool,
    answered: Result<Response<ClientBody>, Fault>,
) -> Response<Sent> {
    let (mut response, fault) = match answered {
        Ok(response) => (response, None),
        Err(fault) => (fault.response(Some(id(&record.request_id))).map(ClientBody::own), Some(fault)),
    };
    if record.for_pop && fault.is_some() {
        response.headers_mut().insert(OWN, worker.state.name_value.clone());
    }
    // It knows for which function that was.
    if record.for_pop
        && let reads @ 1.. = record.notes.take_reads()
    {
        response.headers_mut().insert(STORE_READS, reads.into());
    }
    head::remove_hop_by_hop(response.headers_mut());
    // Another PoP's cache goes by them, as this one's did.
    if !trusted && !record.for_pop {
        head::remove_for_caches(response.headers_mut());
    }
    // The length is the body's to say: a field that a function wrote could disagree with it. A HEAD response is the
    // exception, since its body is not there to be counted.
    let bodyless =
        record.method == Method::HEAD || matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if !bodyless {
        response.headers_mut().remove(header::CONTENT_LENGTH);
    } else if !response.body().is_end_stream() {
        if response.body().size_hint().exact().is_some_and(|length| length > 0) {
            response.headers_mut().remove(header::CONTENT_LENGTH);
        }
        response = response.map(ClientBody::head_only);
    }
    let took = record.began.elapsed();
    record.describe(&worker.state, took, &mut response);
    if record.uri.path() != crate::HEALTH_PATH {
        worker.share(record.function.as_deref()).request(response.status(), fault.as_ref(), took);
    }
    record.answer(response.status(), fault, took);
    let notes = Rc::clone(&record.notes);
    response.map(|body| Sent::new(body, notes))
}

fn request_id(headers: &HeaderMap, trusted: bool) -> HeaderValue {
    let usable = |id: &&HeaderValue| {
        let id = id.as_bytes();
        (8..=128).contains(&id.len()) && id.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b))
    };
    let given = if trusted { headers.get(head::REQUEST_ID).filter(usable) } else { None };
    given.cloned().unwrap_or_else(|| {
        let mut text = [0; 32];
        let minted = hex::encode_to_slice(rand::random::<u128>().to_be_bytes(), &mut text);
        minted.ok().and_then(|()| HeaderValue::from_bytes(&text).ok()).unwrap_or_else(|| HeaderValue::from_static("-"))
    })
}

/// A request id as text, which it is made of.
pub(crate) fn id(value: &HeaderValue) -> &str {
    value.to_str().unwrap_or("-")
}

const fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_10 => "HTTP/1.0",
        _ => "HTTP/1.1",
    }
}

pub(crate) fn empty() -> Body {
    Box::pin(http_body_util::Empty::new().map_err(|never| match never {}))
}

/// A request body that ends with an error when it is longer than the function allows.
struct Limited {
    body: Incoming,
    left: u64,
    bound: Arc<Bound>,
}

/// The bound of a request body, and whether the body was longer.
pub(crate) struct Bound {
    limit: u64,
    broken: AtomicBool,
}

impl Bound {
    pub(crate) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    pub(crate) fn fault(&self) -> Fault {
        Fault::RequestBody(self.limit)
    }
}

pub(crate) fn limited_body(function: &Function, body: Incoming) -> Result<(Body, Option<Arc<Bound>>), Fault> {
    if body.is_end_stream() {
        return Ok((empty(), None));
    }
    let limit = function.limits.get(Limit::RequestBody);
    if body.size_hint().lower() > limit {
        return Err(Fault::RequestBody(limit));
    }
    let bound = Arc::new(Bound { limit, broken: AtomicBool::new(false) });
    Ok((Box::pin(Limited { body, left: limit, bound: Arc::clone(&bound) }), Some(bound)))
}

impl http_body::Body for Limited {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            match self.left.checked_sub(data.len() as u64) {
                Some(left) => self.left = left,
                None => {
                    self.bound.broken.store(true, Ordering::Relaxed);
                    return Poll::Ready(Some(Err(Fault::RequestBody(self.bound.limit).into())));
                }
            }
        }
        Poll::Ready(frame.map(|result| result.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
