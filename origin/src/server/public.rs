//! The public listener: GET and HEAD of the assets of live versions, then of users' objects.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_MATCH, IF_MODIFIED_SINCE,
    IF_NONE_MATCH, IF_UNMODIFIED_SINCE, LAST_MODIFIED, RANGE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;

use super::access::Line;
use super::conditional::{self, Validators, Verdict};
use super::problem::Problem;
use super::range::{self, Selection};
use super::respond::{self, Answer, ResponseBody};
use super::traffic::{Traffic, header};
use crate::bundle::Digest;
use crate::deployment::{Follower, blob_key};
use crate::key::Key;
use crate::store::{Attributes, Body, Clock, Meta, Object, ObjectStore, StoreError};

/// `Cache-Control` of a user's object that has none: short, because nothing tells when it changes.
const DEFAULT_CACHE_CONTROL: &str = "public, max-age=60";

/// How often a request begins again because the object was replaced while it was looked at.
const MAX_ATTEMPTS: usize = 3;

/// The public side of an origin.
pub(super) struct Public {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) follower: Arc<Follower>,
    pub(super) traffic: Arc<Traffic>,
    pub(super) clock: Clock,
}

/// Field in which a PoP is told how many objects were read from the store, or looked for, to answer it.
pub const STORE_READS: HeaderName = HeaderName::from_static("x-skerry-store-reads");

/// A request, and what it costs.
struct Ask<'a> {
    request: &'a Request<Incoming>,
    request_id: &'a str,
    /// Calls of the store.
    reads: AtomicU64,
}

impl Ask<'_> {
    /// The store is about to be called so many times.
    fn will_read(&self, times: usize) {
        self.reads.fetch_add(times as u64, Ordering::Relaxed);
    }
}

/// Whether a PoP asks, as it says in the field that surrogates have for that.
fn is_from_pop(request: &Request<Incoming>) -> bool {
    header(request.headers(), "surrogate-capability").is_some_and(|capability| capability.starts_with("skerry="))
}

/// What is at a path, without its bytes.
#[derive(Clone, Debug)]
struct Representation {
    key: Key,
    size: u64,
    /// The store's entity tag of the bytes.
    stored_as: String,
    validators: Validators,
    content_type: String,
    cache_control: String,
    /// Digest of the bytes, when their name is one.
    digest: Option<Digest>,
}

impl Public {
    /// Answers one request. Always a response.
    pub(super) async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<ResponseBody> {
        let request_id = self.traffic.request_id(&request);
        let line = Line::begin(&self.traffic, &request, &request_id);
        let head = request.method() == Method::HEAD;
        let ask = Ask { request: &request, request_id: &request_id, reads: AtomicU64::new(0) };
        let answer = self.find(&ask).await;
        let mut response = answer.unwrap_or_else(|problem| {
            respond::log(&problem, &request_id);
            respond::problem(&problem, &request_id)
        });
        let reads = ask.reads.into_inner();
        if reads > 0 && is_from_pop(&request) {
            response.headers_mut().insert(STORE_READS, reads.into());
        }
        line.follow(if head { response.map(|_| respond::empty()) } else { response })
    }

    async fn find(&self, ask: &Ask<'_>) -> Answer {
        let request = ask.request;
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return Err(Problem::method_not_allowed("GET, HEAD"));
        }
        let path = decode(request.uri().path())?;
        let index = path.ends_with('/').then(|| format!("{path}index.html"));
        for path in [Some(path), index].into_iter().flatten() {
            if let Some(asset) = self.asset(&path) {
                return self.send(ask, asset, None).await;
            }
            match self.object(ask, &path).await {
                Err(problem) if problem.status == StatusCode::NOT_FOUND => {}
                answer => return answer,
            }
        }
        Err(Problem::not_found())
    }

    fn asset(&self, path: &str) -> Option<Representation> {
        let live = self.follower.live();
        let found = live.asset(path)?;
        let asset = &found.asset;
        Some(Representation {
            key: blob_key(&asset.digest),
            size: asset.size,
            stored_as: asset.digest.to_string(),
            validators: Validators {
                etag: tag(&asset.digest.to_string(), &asset.content_type),
                modified: found.modified,
            },
            content_type: asset.content_type.clone(),
            cache_control: asset.cache_control.clone(),
            digest: Some(asset.digest),
        })
    }

    /// Answers with a user's object. It may be replaced between two looks at it: then everything begins again.
    async fn object(&self, ask: &Ask<'_>, path: &str) -> Answer {
        let Ok(key) = Key::parse(&format!("public{path}")) else { return Err(Problem::not_found()) };
        for _ in 0..MAX_ATTEMPTS {
            ask.will_read(1);
            let (meta, attributes, object) = if needs_look(ask.request) {
                let (meta, attributes) = self.store.head(&key).await?;
                (meta, attributes, None)
            } else {
                let Object { meta, attributes, range, body } = self.store.get(&key, None).await?;
                let object = Object { meta: meta.clone(), attributes: attributes.clone(), range, body };
                (meta, attributes, Some(object))
            };
            match self.send(ask, of_user(meta, attributes), object).await {
                Err(problem) if problem.code == REPLACED => {}
                answer => return answer,
            }
        }
        Err(Problem::unavailable("store/changing", "the object is replaced again and again"))
    }

    /// Answers with `found`, whose bytes are in `object` when they have been asked for already.
    async fn send(&self, ask: &Ask<'_>, found: Representation, object: Option<Object>) -> Answer {
        let (request, request_id) = (ask.request, ask.request_id);
        let headers = request.headers();
        let get = request.method() == Method::GET;
        match conditional::judge(headers, &found.validators) {
            Verdict::Failed => return Err(Problem::precondition_failed()),
            Verdict::NotModified => return Ok(found.response(StatusCode::NOT_MODIFIED, respond::empty())),
            Verdict::Proceed => {}
        }
        let range = header(headers, RANGE.as_str()).filter(|_| get);
        let now: SystemTime = (self.clock)();
        let selection = match range {
            Some(range) if conditional::range_applies(headers, &found.validators, now) => {
                range::select(range, found.size)
            }
            _ => Selection::Whole,
        };
        match selection {
            Selection::Unsatisfiable => Err(Problem::range(found.size)),
            Selection::Whole if !get => Ok(sized(found.response(StatusCode::OK, respond::empty()), found.size)),
            Selection::Whole => {
                let object = match object {
                    Some(object) => object,
                    None => {
                        ask.will_read(1);
                        open(&*self.store, &found, None).await?
                    }
                };
                let body = found.verified(object.body);
                Ok(sized(found.response(StatusCode::OK, respond::streamed(body)), found.size))
            }
            Selection::One(range) => {
                ask.will_read(1);
                self.send_range(found, range).await
            }
            // One for each, as long as the client stays.
            Selection::Several(ranges) => {
                ask.will_read(ranges.len());
                Ok(self.send_ranges(found, &ranges, request_id))
            }
        }
    }

    async fn send_range(&self, found: Representation, range: Range<u64>) -> Answer {
        let length = range.end - range.start;
        let body = open(&*self.store, &found, Some(range.clone())).await?.body;
        let mut response = found.response(StatusCode::PARTIAL_CONTENT, respond::streamed(body));
        set(response.headers_mut(), CONTENT_RANGE, &content_range(&range, found.size));
        Ok(sized(response, length))
    }

    /// Several ranges as `multipart/byteranges` (RFC 9110, section 14.6), each read when its turn comes.
    fn send_ranges(&self, found: Representation, ranges: &[Range<u64>], request_id: &str) -> Response<ResponseBody> {
        // Only a collision with the object's bytes would matter; nobody can aim at a digest of the request's id.
        let boundary = Digest::of(format!("{request_id} {} {ranges:?}", found.validators.etag).as_bytes()).to_string();
        let end = Bytes::from(format!("\r\n--{boundary}--\r\n"));
        let mut parts = Vec::new();
        let mut total = end.len() as u64;
        for range in ranges {
            let head = Bytes::from(format!(
                "\r\n--{boundary}\r\nContent-Type: {}\r\nContent-Range: {}\r\n\r\n",
                found.content_type,
                content_range(range, found.size)
            ));
            total += head.len() as u64 + range.end - range.start;
            parts.push((head, range.clone()));
        }
        let (store, source) = (self.store.clone(), found.clone());
        let bodies = stream::iter(parts).then(move |(head, range)| {
            let (store, source) = (store.clone(), source.clone());
            async move {
                let body = open(&*store, &source, Some(range)).await.map_err(|p| p.message)?.body;
                Ok::<_, crate::store::BoxError>(stream::iter([Ok(head)]).chain(body))
            }
        });
        let body = Body::new(bodies.try_flatten().chain(stream::iter([Ok(end)])));
        let mut response = found.response(StatusCode::PARTIAL_CONTENT, respond::streamed(body));
        set(response.headers_mut(), CONTENT_TYPE, &format!("multipart/byteranges; boundary={boundary}"));
        sized(response, total)
    }
}

/// Code of the problem that makes a request begin again.
const REPLACED: &str = "store/replaced";

/// Opens the bytes of what was found, and makes sure that they are still its bytes.
async fn open(store: &dyn ObjectStore, found: &Representation, range: Option<Range<u64>>) -> Result<Object, Problem> {
    let wanted = range.clone().unwrap_or(0..found.size);
    let object = match store.get(&found.key, range).await {
        Ok(object) => object,
        // A live version's asset must be there; its absence is our fault, not the client's.
        Err(e @ StoreError::NotFound { .. }) if found.digest.is_some() => {
            return Err(Problem::internal("store/missing", e));
        }
        Err(StoreError::Range { .. } | StoreError::Precondition { .. }) if found.digest.is_none() => {
            return Err(Problem::internal(REPLACED, "the object was replaced"));
        }
        Err(e) => return Err(e.into()),
    };
    match found.digest {
        Some(_) if object.meta.size != found.size || object.range != wanted => {
            let why = format!("it has {} bytes, the bundle says {}", object.meta.size, found.size);
            Err(Problem::internal("store/corrupt", StoreError::corrupt(&found.key, why)))
        }
        None if object.meta.etag != found.stored_as || object.range != wanted => {
            Err(Problem::internal(REPLACED, "the object was replaced"))
        }
        _ => Ok(object),
    }
}

/// Whether the answer may need less than the whole object.
fn needs_look(request: &Request<Incoming>) -> bool {
    let names = [IF_MATCH, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE, RANGE];
    request.method() == Method::HEAD || names.iter().any(|name| request.headers().contains_key(name))
}

fn of_user(meta: Meta, attributes: Attributes) -> Representation {
    let guessed = || mime_guess::from_path(meta.key.name()).first_or_octet_stream().to_string();
    let content_type = attributes.content_type.unwrap_or_else(guessed);
    Representation {
        validators: Validators { etag: tag(&meta.etag, &content_type), modified: meta.modified },
        content_type,
        cache_control: attributes.cache_control.unwrap_or_else(|| DEFAULT_CACHE_CONTROL.to_owned()),
        size: meta.size,
        stored_as: meta.etag,
        key: meta.key,
        digest: None,
    }
}

/// The entity tag of bytes that are served as this type. The type is part of it (RFC 9110, section 8.8.1): who has the same
/// bytes as another type must not be told that nothing has changed. A tag that no field can carry gives none.
fn tag(bytes: &str, content_type: &str) -> String {
    let fits = |b: u8| b.is_ascii_graphic() && b != b'"';
    if bytes.is_empty() || !bytes.bytes().all(fits) {
        return String::new();
    }
    format!("{bytes}-{:08x}", crc32c::crc32c(content_type.as_bytes()))
}

impl Representation {
    /// The whole body, with a last look at its digest when its name is one.
    fn verified(&self, body: Body) -> Body {
        match self.digest {
            Some(digest) => body.verified(digest),
            None => body,
        }
    }

    /// A response with the fields that 200, 206 and 304 have in common (RFC 9110, section 15.4.5).
    fn response(&self, status: StatusCode, body: ResponseBody) -> Response<ResponseBody> {
        let mut response = Response::new(body);
        *response.status_mut() = status;
        let headers = response.headers_mut();
        if !self.validators.etag.is_empty() {
            set(headers, ETAG, &format!("\"{}\"", self.validators.etag));
        }
        set(headers, LAST_MODIFIED, &httpdate::fmt_http_date(conditional::seconds(self.validators.modified)));
        set(headers, CACHE_CONTROL, &self.cache_control);
        if status != StatusCode::NOT_MODIFIED {
            set(headers, CONTENT_TYPE, &self.content_type);
            set(headers, ACCEPT_RANGES, "bytes");
        }
        response
    }
}

fn sized(mut response: Response<ResponseBody>, length: u64) -> Response<ResponseBody> {
    response.headers_mut().insert(CONTENT_LENGTH, length.into());
    response
}

fn content_range(range: &Range<u64>, size: u64) -> String {
    format!("bytes {}-{}/{size}", range.start, range.end - 1)
}

/// Sets a field; a value that no field can carry, which a foreign store may hold, is left out.
fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// A URL path without its percent-encoding. A PoP guards a path by how it is written, so here no other way of writing it
/// leads to the same object: what need not be escaped must not be (RFC 3986, sections 6.2.2.2 and 6.2.2.3). An encoded `/`
/// would change which object is meant, so it names none.
pub(crate) fn decode(path: &str) -> Result<String, Problem> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16));
        match (digit(rest.next()), digit(rest.next())) {
            (Some(2), Some(15)) => return Err(Problem::not_found()),
            (Some(high), Some(low)) => {
                let byte = (high * 16 + low) as u8;
                if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
                    let message = format!("the path has '%{byte:02X}' for '{}'; write it as it is", char::from(byte));
                    return Err(Problem::bad_request(message));
                }
                bytes.push(byte);
            }
            _ => return Err(Problem::bad_request("the path has a '%' that is not followed by two hexadecimal digits")),
        }
    }
    let path = String::from_utf8(bytes).map_err(|_| Problem::bad_request("the path is not UTF-8"))?;
    if path.contains('\\') {
        return Err(Problem::bad_request("the path has a '\\'; folders are separated by '/'"));
    }
    if path.split('/').any(|segment| matches!(segment, "." | "..")) {
        return Err(Problem::bad_request("the path has a '.' or '..' segment; write the path that it leads to"));
    }
    Ok(path)
}
