//! The way of a request through a PoP, top to bottom: check its head, route it, run the function in a leased isolate
//! (whose `fetch()` goes through the cache to the origin), finish. `finish` always runs.

use std::cell::Cell;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use isolate::limits::Limit;
use isolate::{Body, BoxError, Failure};
use origin::bundle::OnFailure;

use crate::capabilities;
use crate::fault::Fault;
use crate::function::Function;
use crate::head;
use crate::outcome::{ClientBody, Record};
use crate::routes::{Found, Live};
use crate::upstream::Target;
use crate::worker::{HEAD_BYTES, Worker};

/// Answers one request. Nothing that happens on the way leaves the client without a response.
pub(crate) async fn serve(worker: &Worker, peer: IpAddr, request: Request<Incoming>) -> Response<ClientBody> {
    let (head, body) = request.into_parts();
    // An IPv4 client of a socket that listens on [::] has an address in IPv6 clothes.
    let peer = peer.to_canonical();
    let trusted = worker.state.trusts(peer);
    let mut record = Record::new(request_id(&head.headers, trusted));
    let method = head.method.clone();
    let path = head.uri.path().to_owned();
    let answered = answer(worker, peer, trusted, head, body, &mut record).await;
    finish(worker, &method, &path, record, answered)
}

async fn answer(
    worker: &Worker,
    peer: IpAddr,
    trusted: bool,
    mut head: Parts,
    body: Incoming,
    record: &mut Record,
) -> Result<Response<ClientBody>, Fault> {
    if head.uri.path() == crate::HEALTH_PATH {
        return health(worker);
    }
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
    let function = route(worker, head::host(&authority), head.uri.path())?;
    record.function = Some(function.label.clone());
    record.routed = Some(record.began.elapsed());

    let body = limited_body(&function, body)?;
    let (over, limit) = (Arc::clone(&body.over), body.limit);
    let from = Client::new(worker, peer, trusted, &head.headers);
    prepare(&mut head, &authority, &from, &record.request_id)?;
    let answered = if function.has_handler {
        run(worker, function, from, authority, head, body, record).await
    } else {
        from_origin(worker, &function, head, Box::pin(body), record).await
    };
    // Whatever came of it, that was the cause.
    if answered.is_err() && over.load(Ordering::Relaxed) { Err(Fault::RequestBody(limit)) } else { answered }
}

fn health(worker: &Worker) -> Result<Response<ClientBody>, Fault> {
    ready(worker)?;
    Ok(Response::new(ClientBody::full(Bytes::from_static(b"ok\n"))))
}

fn ready(worker: &Worker) -> Result<(), Fault> {
    if worker.state.draining.load(Ordering::Relaxed) {
        return Err(Fault::Draining);
    }
    if worker.state.routes.load().generation == 0 { Err(Fault::NotReady) } else { Ok(()) }
}

fn route(worker: &Worker, host: &str, path: &str) -> Result<Arc<Function>, Fault> {
    let routes = worker.state.routes.load();
    match routes.find(host, path) {
        Found::Function(Live::Ready(function)) => Ok(Arc::clone(function)),
        Found::Function(Live::Damaged(why)) => Err(Fault::Bundle(why.to_string())),
        Found::UnknownHost | Found::UnknownPath if routes.generation == 0 => Err(Fault::NotReady),
        Found::UnknownHost => Err(Fault::UnknownHost(host.to_owned())),
        Found::UnknownPath => Err(Fault::UnknownRoute(path.to_owned())),
    }
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
        let lines = headers.get_all("x-forwarded-for").iter().map(|v| String::from_utf8_lossy(v.as_bytes()));
        let lines: Vec<_> = lines.collect();
        let address =
            middleware::client_addr::client_address(peer, lines.iter().map(AsRef::as_ref), &worker.state.trust);
        let secure =
            headers.get("x-forwarded-proto").is_some_and(|proto| proto.as_bytes().eq_ignore_ascii_case(b"https"));
        Self { address, scheme: if secure { "https" } else { "http" } }
    }
}

/// The request as the function and the origin shall see it: absolute target, no field of the connection, and the
/// client's address from this PoP alone.
fn prepare(head: &mut Parts, authority: &str, from: &Client, request_id: &str) -> Result<(), Fault> {
    head::remove_hop_by_hop(&mut head.headers);
    head::join_cookies(&mut head.headers);
    let path = head.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    head.uri = Uri::builder()
        .scheme(from.scheme)
        .authority(authority)
        .path_and_query(path)
        .build()
        .map_err(|_| Fault::Target("it does not make a URL"))?;
    head.headers.insert("x-forwarded-proto", HeaderValue::from_static(from.scheme));
    if let Ok(client) = HeaderValue::from_str(&from.address.to_string()) {
        head.headers.insert("cf-connecting-ip", client.clone());
        head.headers.insert("x-forwarded-for", client);
    }
    if let Ok(value) = HeaderValue::from_str(authority) {
        head.headers.insert(header::HOST, value);
    }
    if let Ok(value) = HeaderValue::from_str(request_id) {
        head.headers.insert("x-request-id", value);
    }
    Ok(())
}

async fn run(
    worker: &Worker,
    function: Arc<Function>,
    from: Client,
    authority: String,
    head: Parts,
    body: Limited,
    record: &mut Record,
) -> Result<Response<ClientBody>, Fault> {
    let cached = Rc::new(Cell::new(None));
    let capabilities = Rc::new(capabilities::Request {
        state: Arc::clone(&worker.state),
        upstream: worker.upstream.clone(),
        function: Arc::clone(&function),
        client: from.address,
        secure: from.scheme == "https",
        authority,
        passed: head.headers.get_all(head::CDN_LOOP).iter().cloned().collect(),
        request_id: record.request_id.clone(),
        waited: Arc::clone(&record.waited),
        cached: Rc::clone(&cached),
        http: version(head.version),
    });
    // Only a request without a body can be sent once more, to the origin, when the function fails.
    let again = body.is_end_stream().then(|| head.clone());
    let url = head.uri.to_string();
    let request = Request::from_parts(head, Box::pin(body) as Body);
    let invoked = worker.isolates.invoke(&function.program, request, url, capabilities).await;
    record.timing = Some(invoked.timing);
    record.cached = cached.get();
    match invoked.result {
        Ok(response) => Ok(response.map(ClientBody)),
        Err(Failure { fault, pass_through }) => {
            let (function_label, request_id) = (&function.label, &record.request_id);
            tracing::error!(target: "function", pop = %worker.state.name, function = %function_label, %request_id, code = fault.code(), "{fault}");
            match again {
                Some(head) if pass_through || function.on_failure == OnFailure::Origin => {
                    from_origin(worker, &function, head, empty(), record).await
                }
                _ => Err(fault.into()),
            }
        }
    }
}

async fn from_origin(
    worker: &Worker,
    function: &Function,
    head: Parts,
    body: Body,
    record: &mut Record,
) -> Result<Response<ClientBody>, Fault> {
    let response = worker.upstream.fetch(Target::Origin(&function.assets), head, body, &record.waited).await?;
    record.cached = response.extensions().get::<cache::Outcome>().copied();
    Ok(response.map(|body| ClientBody(Box::pin(body))))
}

/// Makes a response of whatever happened, and notes it.
fn finish(
    worker: &Worker,
    method: &Method,
    path: &str,
    record: Record,
    answered: Result<Response<ClientBody>, Fault>,
) -> Response<ClientBody> {
    let (mut response, fault) = match answered {
        Ok(response) => (response, None),
        Err(fault) => (fault.response(&record.request_id).map(ClientBody::full), Some(fault)),
    };
    head::remove_hop_by_hop(response.headers_mut());
    // The length is the body's to say: a field that a function wrote could disagree with it. A HEAD response is the
    // exception, since its body is not there to be counted.
    let bodyless =
        *method == Method::HEAD || matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if !bodyless {
        response.headers_mut().remove(header::CONTENT_LENGTH);
    } else if response.body().size_hint().exact().is_some_and(|length| length > 0) {
        response.headers_mut().remove(header::CONTENT_LENGTH);
        response = response.map(ClientBody::head_only);
    }
    record.describe(&worker.state.name, &mut response);
    let status = response.status().as_u16();
    let (pop, function, request_id) =
        (&worker.state.name, record.function.as_deref().unwrap_or("-"), &record.request_id);
    let millis = record.began.elapsed().as_secs_f64() * 1e3;
    if path == crate::HEALTH_PATH {
        return response;
    }
    match fault {
        Some(fault) if status >= 500 => {
            tracing::error!(target: "access", %pop, %method, path, status, %function, %request_id, millis, code = fault.code(), "{fault}");
        }
        Some(fault) => {
            tracing::info!(target: "access", %pop, %method, path, status, %function, %request_id, millis, code = fault.code())
        }
        None => tracing::info!(target: "access", %pop, %method, path, status, %function, %request_id, millis),
    }
    response
}

fn request_id(headers: &HeaderMap, trusted: bool) -> String {
    let given = headers.get("x-request-id").filter(|_| trusted).and_then(|value| value.to_str().ok());
    let usable = |id: &&str| {
        (8..=128).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    };
    given.filter(usable).map_or_else(|| format!("{:032x}", rand::random::<u128>()), str::to_owned)
}

const fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_10 => "HTTP/1.0",
        _ => "HTTP/1.1",
    }
}

fn empty() -> Body {
    Box::pin(http_body_util::Empty::new().map_err(|never| match never {}))
}

/// A request body that ends with an error when it is longer than the function allows.
struct Limited {
    body: Incoming,
    left: u64,
    limit: u64,
    over: Arc<std::sync::atomic::AtomicBool>,
}

fn limited_body(function: &Function, body: Incoming) -> Result<Limited, Fault> {
    let limit = function.program.limits.get(Limit::RequestBody);
    if body.size_hint().lower() > limit {
        return Err(Fault::RequestBody(limit));
    }
    Ok(Limited { body, left: limit, limit, over: Arc::default() })
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
                    self.over.store(true, Ordering::Relaxed);
                    return Poll::Ready(Some(Err(Fault::RequestBody(self.limit).into())));
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
