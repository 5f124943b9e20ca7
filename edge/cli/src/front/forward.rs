//! One request on its way to a PoP and its answer on the way back.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, Version, request};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;

/// The body of an answer.
pub(crate) type Body = UnsyncBoxBody<Bytes, hyper::Error>;

/// A request's body, lent to one attempt after another: `None` when it is empty. An attempt that finds no connection
/// never reads from it, so the next one finds it whole. An attempt that had a connection may have read from it, and the
/// request is not repeated unless the body is empty.
pub(crate) struct Upload(Option<Arc<Source>>);

struct Source {
    body: Mutex<Incoming>,
    /// Whether the client broke it off.
    broken: AtomicBool,
}

impl Upload {
    /// Takes the body of a request.
    pub(crate) fn new(body: Incoming) -> Self {
        let source = |body| Arc::new(Source { body: Mutex::new(body), broken: AtomicBool::new(false) });
        Self((!body.is_end_stream()).then(|| source(body)))
    }

    /// Whether the client broke it off.
    pub(crate) fn is_broken(&self) -> bool {
        self.0.as_ref().is_some_and(|source| source.broken.load(Ordering::Relaxed))
    }

    /// Whether there is nothing to send.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The same body for another attempt.
    pub(crate) fn again(&self) -> Self {
        Self(self.0.clone())
    }

    fn body(&self) -> Option<MutexGuard<'_, Incoming>> {
        self.0.as_ref().map(|source| source.body.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl http_body::Body for Upload {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(mut body) = self.body() else { return Poll::Ready(None) };
        let polled = Pin::new(&mut *body).poll_frame(cx);
        if let (Poll::Ready(Some(Err(_))), Some(source)) = (&polled, &self.0) {
            source.broken.store(true, Ordering::Relaxed);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body().is_none_or(|body| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.body().map_or_else(|| SizeHint::with_exact(0), |body| body.size_hint())
    }
}

/// Why an attempt brought no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Nothing of the request left: another PoP can have it.
    NotSent,
    /// The connection broke or hangs before the answer: the PoP may have run the request.
    Broken,
    /// The client broke its own body off, and the PoP is not to blame.
    Upload,
    /// No answer in time.
    TimedOut,
}

impl Failure {
    /// Reads the error of an attempt that sent `upload`.
    pub(crate) fn of(error: &hyper_util::client::legacy::Error, upload: &Upload) -> Self {
        match error {
            error if error.is_connect() => Self::NotSent,
            _ if upload.is_broken() => Self::Upload,
            _ => Self::Broken,
        }
    }

    /// What the client gets when the request is not repeated.
    pub(crate) fn response(self, pop: &str) -> Response<Body> {
        match self {
            Self::NotSent => problem(StatusCode::SERVICE_UNAVAILABLE, &format!("{pop} cannot be reached"), Some(1)),
            Self::Broken => problem(
                StatusCode::BAD_GATEWAY,
                &format!(
                    "{pop} ended the connection before it answered; it may have run the request, so it was not repeated"
                ),
                None,
            ),
            Self::Upload => problem(StatusCode::BAD_REQUEST, "the request's body broke off before its end", None),
            Self::TimedOut => problem(StatusCode::GATEWAY_TIMEOUT, &format!("{pop} did not answer in time"), None),
        }
    }
}

/// Header fields that concern one connection only (RFC 9110 section 7.6.1), and their predecessors.
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Removes the fields that concern one connection only, those that `Connection` names included.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in HOP_BY_HOP.iter().chain(&named) {
        headers.remove(name);
    }
}

/// Makes a client's head ready for a PoP: the authority in `Host`, hop-by-hop fields gone, cookies in one field, the peer
/// appended to `X-Forwarded-For`.
///
/// # Errors
/// When the request names no host or its address cannot go into a header.
pub(crate) fn request_head(mut head: request::Parts, peer: IpAddr) -> Result<request::Parts, &'static str> {
    strip_hop_by_hop(&mut head.headers);
    // hyper has asked for the body itself; the PoP gets it without waiting.
    head.headers.remove(header::EXPECT);
    if let Some(authority) = head.uri.authority() {
        // RFC 9112 section 3.2.2: the authority of an absolute target replaces Host.
        let host = HeaderValue::try_from(authority.as_str()).map_err(|_| "the authority is not a host")?;
        head.headers.insert(header::HOST, host);
    }
    if !head.headers.contains_key(header::HOST) {
        return Err("the request names no host");
    }
    join_cookies(&mut head.headers);
    let mut forwarded: Vec<u8> = Vec::new();
    for value in head.headers.get_all("x-forwarded-for") {
        forwarded.extend_from_slice(value.as_bytes());
        forwarded.extend_from_slice(b", ");
    }
    forwarded.extend_from_slice(peer.to_string().as_bytes());
    let forwarded = HeaderValue::try_from(forwarded).map_err(|_| "X-Forwarded-For is not a header value")?;
    head.headers.insert("x-forwarded-for", forwarded);
    head.version = Version::HTTP_11;
    Ok(head)
}

/// HTTP/2 lets a client split its cookies over several fields, HTTP/1.1 does not (RFC 9113 section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let cookies: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if cookies.len() > 1
        && let Ok(joined) = HeaderValue::from_bytes(&cookies.join(&b"; "[..]))
    {
        headers.insert(header::COOKIE, joined);
    }
}

/// The answer to a request for `*`, which is about the server and no path of it (RFC 9110 section 9.3.7).
pub(crate) fn about_the_server(method: &http::Method) -> Response<Body> {
    if method != http::Method::OPTIONS {
        return problem(StatusCode::BAD_REQUEST, "only OPTIONS can ask for *", None);
    }
    let mut response = Response::new(Full::default().map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let methods = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
    response.headers_mut().insert(header::ALLOW, methods);
    response
}

/// The request for the PoP at `address`.
pub(crate) fn to(address: SocketAddr, head: &request::Parts, upload: Upload) -> Request<Upload> {
    let mut request = Request::new(upload);
    *request.method_mut() = head.method.clone();
    *request.headers_mut() = head.headers.clone();
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    // Both parts were parsed before, so this cannot fail; the root is asked if it ever does.
    *request.uri_mut() = Uri::builder()
        .scheme("http")
        .authority(address.to_string())
        .path_and_query(path)
        .build()
        .unwrap_or_else(|_| Uri::from_static("/"));
    request
}

/// The answer's body, streamed as it comes.
pub(crate) fn download(body: Incoming) -> Body {
    body.boxed_unsync()
}

/// An answer of the front door itself (RFC 9457).
pub(crate) fn problem(status: StatusCode, detail: &str, retry_after: Option<u32>) -> Response<Body> {
    let document = serde_json::json!({
        "title": status.canonical_reason(),
        "status": status.as_u16(),
        "detail": detail,
    });
    let body = Full::new(Bytes::from(document.to_string())).map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
