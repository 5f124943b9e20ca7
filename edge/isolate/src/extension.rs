//! The ops: the system-call boundary between a function and the platform. Tenant code is assumed to reach every one.
//! No op takes a path, a pointer or an address; every id is looked up in this isolate's own tables.

use std::borrow::Cow;
use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use deno_core::convert::ByteString;
use deno_core::{JsBuffer, OpState, op2};
use deno_error::JsErrorBox;
use http_body_util::BodyExt as _;
use tokio::sync::oneshot;

use crate::allowed::{Stage, middleware, narrow};
use crate::invocation::{Body, Held, HeldBody, Outcome, Payload};
use crate::limits::Limit;
use crate::ops_body::{op_body_close, op_body_read, op_body_read_all, op_stream_end, op_stream_new, op_stream_write};
use crate::ops_cache::{op_cache, op_purge};
use crate::ops_coding::{op_body_decode, op_body_length};
use crate::ops_web::{op_begin, op_done, op_hold, op_md5, op_timing_safe_equal, op_touch, op_wasm_room};

deno_core::extension!(
    skerry,
    deps = [deno_webidl, deno_web, deno_crypto],
    ops = [
        op_request_method,
        op_request_url,
        op_request_header,
        op_request_headers,
        op_request_cf,
        op_respond,
        op_respond_text,
        op_fail,
        op_wait_until,
        op_pass_through,
        op_log,
        op_call,
        op_call_async,
        op_fetch,
        op_fetch_cancel,
        op_cache,
        op_purge,
        op_body_read,
        op_body_read_all,
        op_body_close,
        op_stream_new,
        op_stream_write,
        op_stream_end,
        op_body_decode,
        op_body_length,
        op_begin,
        op_done,
        op_hold,
        op_touch,
        op_wasm_room,
        op_md5,
        op_timing_safe_equal,
    ],
    lazy_loaded_js = [
        dir "src/js",
        "00_guards.js",
        "05_clock.js",
        "10_headers.js",
        "12_blob.js",
        "15_formdata.js",
        "20_body.js",
        "25_timers.js",
        "30_messages.js",
        "35_caches.js",
        "40_streams.js",
        "50_crypto.js",
        "60_console.js",
        "90_runtime.js",
    ],
    state = |state| {
        state.put(Held::new());
        state.put(crate::ops_coding::Decoders::default());
    },
);

/// Every extension in the order that the snapshot was made with; the two must be the same.
pub(crate) fn extensions(stage: Stage) -> Vec<deno_core::Extension> {
    let mut own = skerry::init();
    own.middleware_fn = Some(Box::new(middleware(stage, own.ops.iter().map(|op| op.name).collect())));
    let web = deno_web::deno_web::init(
        std::sync::Arc::new(deno_web::BlobStore::default()),
        None,
        false,
        deno_web::InMemoryBroadcastChannel::default(),
    );
    vec![narrow(deno_webidl::deno_webidl::init()), narrow(web), narrow(deno_crypto::deno_crypto::init(None)), own]
}

pub(crate) fn gone() -> JsErrorBox {
    JsErrorBox::type_error("the request this belongs to is over")
}

pub(crate) fn full() -> JsErrorBox {
    JsErrorBox::range_error("too many things open in this isolate: await some of them first")
}

/// The methods that a dispatch names by number, from 1 on. JavaScript has the same list.
const METHODS: [http::Method; 7] = [
    http::Method::GET,
    http::Method::HEAD,
    http::Method::POST,
    http::Method::PUT,
    http::Method::DELETE,
    http::Method::OPTIONS,
    http::Method::PATCH,
];

/// A method's number, or 0 for one that JavaScript has to ask for.
pub(crate) fn number(method: &http::Method) -> u32 {
    METHODS.iter().position(|known| known == method).map_or(0, |index| index as u32 + 1)
}

#[op2]
#[string]
fn op_request_method(state: &mut OpState, #[smi] id: u32) -> Result<String, JsErrorBox> {
    let invocation = state.borrow_mut::<Held>().invocations.get_mut(id).ok_or_else(gone)?;
    Ok(invocation.head.method.to_string())
}

#[op2]
#[string]
fn op_request_url(state: &mut OpState, #[smi] id: u32) -> Result<String, JsErrorBox> {
    let invocation = state.borrow_mut::<Held>().invocations.get_mut(id).ok_or_else(gone)?;
    Ok(invocation.capabilities.url(&invocation.head))
}

/// One field, by its lower-case name: what a function that looks at few need not have all others made for.
#[op2]
fn op_request_header(
    state: &mut OpState,
    #[smi] id: u32,
    #[string] name: &str,
) -> Result<Option<ByteString>, JsErrorBox> {
    let invocation = state.borrow_mut::<Held>().invocations.get_mut(id).ok_or_else(gone)?;
    if !invocation.complete
        && let Some(value) = invocation.capabilities.completed(name)
    {
        return Ok(Some(value.as_bytes().to_vec().into()));
    }
    let mut values = invocation.head.headers.get_all(name).iter();
    let Some(first) = values.next() else { return Ok(None) };
    let mut combined = first.as_bytes().to_vec();
    for value in values {
        combined.extend_from_slice(if name == "cookie" { b"; " } else { b", " });
        combined.extend_from_slice(value.as_bytes());
    }
    Ok(Some(combined.into()))
}

#[op2]
fn op_request_headers(state: &mut OpState, #[smi] id: u32) -> Result<ByteString, JsErrorBox> {
    Ok(flatten(completed(state.borrow_mut::<Held>(), id)?).into())
}

/// The fields of an incoming request, as its function sees them.
fn completed(held: &mut Held, id: u32) -> Result<&http::HeaderMap, JsErrorBox> {
    let invocation = held.invocations.get_mut(id).ok_or_else(gone)?;
    if !std::mem::replace(&mut invocation.complete, true) {
        invocation.capabilities.complete(&mut invocation.head.headers);
    }
    Ok(&invocation.head.headers)
}

/// Bytes of the flat form.
fn flat_bytes(headers: &http::HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 2).sum()
}

fn flatten(headers: &http::HeaderMap) -> Vec<u8> {
    let mut flat = Vec::with_capacity(flat_bytes(headers));
    for (name, value) in headers {
        if !flat.is_empty() {
            flat.push(b'\n');
        }
        flat.extend_from_slice(name.as_str().as_bytes());
        flat.push(b'\n');
        flat.extend_from_slice(value.as_bytes());
    }
    flat
}

/// The only field of the most common response: one made of a string.
const PLAIN_TEXT: &[u8] = b"content-type\ntext/plain;charset=UTF-8";

/// The other way round. A field that HTTP does not allow is the caller's error. The values share the flat form's memory.
pub(crate) fn unflatten(flat: Bytes, headers: &mut http::HeaderMap) -> Result<(), String> {
    if flat == PLAIN_TEXT {
        headers.insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("text/plain;charset=UTF-8"));
        return Ok(());
    }
    let mut parts = flat.split(|byte| *byte == b'\n');
    while let (Some(name), Some(value)) = (parts.next(), parts.next()) {
        let shown = || String::from_utf8_lossy(name);
        let parsed = http::HeaderName::from_bytes(name).map_err(|_| format!("invalid header name {:?}", shown()))?;
        let value = http::HeaderValue::from_maybe_shared(flat.slice_ref(value))
            .map_err(|_| format!("invalid value of header {:?}", shown()))?;
        headers
            .try_append(parsed, value)
            .map_err(|_| format!("more header fields than HTTP can carry, at {:?}", shown()))?;
    }
    Ok(())
}

#[op2]
#[string]
fn op_request_cf(state: &mut OpState, #[smi] id: u32) -> Result<String, JsErrorBox> {
    let invocation = state.borrow_mut::<Held>().invocations.get_mut(id).ok_or_else(gone)?;
    Ok(invocation.capabilities.cf())
}

/// Answers `id`. A second answer, or one that comes after the client has gone, is dropped with its body.
fn answer(held: &mut Held, id: u32, outcome: Outcome) {
    if let Some(invocation) = held.invocations.get_mut(id) {
        invocation.answer.give(outcome);
    }
}

#[op2]
fn op_respond(
    state: &mut OpState,
    #[smi] id: u32,
    #[smi] status: u16,
    #[string(onebyte)] headers: Cow<'_, [u8]>,
    #[buffer] bytes: Option<JsBuffer>,
    #[smi] body_id: u32,
) {
    let held = state.borrow_mut::<Held>();
    let body = match bytes {
        Some(bytes) => Payload::Whole(Bytes::copy_from_slice(&bytes)),
        None if body_id != 0 => match held.bodies.remove(body_id) {
            Some(HeldBody { body: Some(body), .. }) => Payload::Stream(body),
            _ => return answer(held, id, Outcome::Invalid("the response's body was read already".to_owned())),
        },
        None => Payload::Whole(Bytes::new()),
    };
    answer(held, id, Outcome::Response { status, headers: Bytes::from(headers.into_owned()), body });
}

#[op2(fast)]
fn op_respond_text(
    state: &mut OpState,
    #[smi] id: u32,
    #[smi] status: u16,
    #[string(onebyte)] headers: Cow<'_, [u8]>,
    #[string] text: String,
) {
    let (headers, body) = (Bytes::from(headers.into_owned()), Payload::Whole(Bytes::from(text)));
    answer(state.borrow_mut::<Held>(), id, Outcome::Response { status, headers, body });
}

fn full_body(bytes: Bytes) -> Body {
    Box::pin(http_body_util::Full::new(bytes).map_err(|never| match never {}))
}

#[op2(fast)]
fn op_fail(state: &mut OpState, #[smi] id: u32, #[string] kind: &str, #[string] message: String) {
    let outcome = if kind == "threw" { Outcome::Threw(message) } else { Outcome::Invalid(message) };
    answer(state.borrow_mut::<Held>(), id, outcome);
}

#[op2(fast)]
fn op_wait_until(state: &mut OpState, #[smi] id: u32, #[smi] change: i32) {
    let held = state.borrow_mut::<Held>();
    if let Some(invocation) = held.invocations.get_mut(id) {
        invocation.waits = invocation.waits.saturating_add_signed(change);
        held.settle(id);
    }
}

#[op2(fast)]
fn op_pass_through(state: &mut OpState, #[smi] id: u32) {
    if let Some(invocation) = state.borrow_mut::<Held>().invocations.get_mut(id) {
        invocation.pass_through = true;
    }
}

#[op2(fast)]
fn op_log(state: &mut OpState, #[smi] id: u32, #[smi] level: u8, #[string] text: String) {
    const OWN_LINES: usize = 100;
    const OWN_LINE_BYTES: usize = 4096;
    let held = state.borrow_mut::<Held>();
    let Some(invocation) = held.invocations.get_mut(id) else {
        if held.own_log.len() < OWN_LINES && text.len() <= OWN_LINE_BYTES {
            held.own_log.push((level, text));
        }
        return;
    };
    match invocation.log_bytes.checked_sub(text.len() as u64) {
        Some(left) => {
            invocation.log_bytes = left;
            invocation.capabilities.log(level, &text);
        }
        None if invocation.log_bytes > 0 => {
            invocation.log_bytes = 0;
            invocation.capabilities.broke(Limit::Log);
            invocation.capabilities.log(3, "the rest of this request's log is over its limit (log_bytes)");
        }
        None => {}
    }
}

#[op2]
#[string]
fn op_call(
    state: &mut OpState,
    #[smi] id: u32,
    #[string] binding: &str,
    #[string] method: &str,
    #[string] argument: &str,
) -> Result<String, JsErrorBox> {
    let invocation = state.borrow_mut::<Held>().invocations.get_mut(id).ok_or_else(gone)?;
    let capabilities = Rc::clone(&invocation.capabilities);
    capabilities.call(binding, method, argument).map_err(JsErrorBox::type_error)
}

#[op2]
#[string]
async fn op_call_async(
    state: Rc<RefCell<OpState>>,
    #[smi] id: u32,
    #[string] binding: String,
    #[string] method: String,
    #[string] argument: String,
) -> Result<String, JsErrorBox> {
    let call = {
        let mut state = state.borrow_mut();
        let held = state.borrow_mut::<Held>();
        held.begin(id)?;
        let invocation = held.invocations.get_mut(id).ok_or_else(gone)?;
        invocation.capabilities.call_async(binding, method, argument)
    };
    let result = call.await;
    let mut state = state.borrow_mut();
    let held = state.borrow_mut::<Held>();
    held.done(id);
    held.touch(id);
    result.map_err(JsErrorBox::type_error)
}

/// A body that goes out: bytes, or one that is held, which is taken.
pub(crate) fn body_of(held: &mut Held, bytes: Option<JsBuffer>, body_id: u32, what: &str) -> Result<Body, JsErrorBox> {
    match (bytes, body_id) {
        (Some(bytes), _) => Ok(full_body(Bytes::copy_from_slice(&bytes))),
        (None, 0) => Ok(Box::pin(http_body_util::Empty::new().map_err(|never| match never {}))),
        (None, body_id) => match held.bodies.remove(body_id) {
            Some(HeldBody { body: Some(body), .. }) => Ok(body),
            _ => Err(JsErrorBox::type_error(format!("{what}: the body was read already"))),
        },
    }
}

/// A response as JavaScript gets it: status, fields, and the id of its body, 0 for none.
pub(crate) fn arrived(
    held: &mut Held,
    id: u32,
    response: http::Response<Body>,
) -> Result<(u16, ByteString, u32), JsErrorBox> {
    let (head, body) = response.into_parts();
    let empty = http_body::Body::is_end_stream(&body);
    let body_id = if empty { 0 } else { held.insert_body(id, body).ok_or_else(full)? };
    Ok((head.status.as_u16(), flatten(&head.headers).into(), body_id))
}

/// `line` is the method, a space, and the URL. `cf` is as [`Capabilities::fetch`](crate::Capabilities::fetch) takes it.
/// `headers_of`: the request goes with the fields of that incoming one as they
/// are, or, when 0, with those in `headers`.
#[op2]
async fn op_fetch(
    state: Rc<RefCell<OpState>>,
    #[smi] id: u32,
    #[smi] token: u32,
    #[string] line: String,
    #[smi] headers_of: u32,
    #[scoped] headers: ByteString,
    #[buffer] bytes: Option<JsBuffer>,
    #[smi] body_id: u32,
    #[string] cf: String,
) -> Result<(u16, ByteString, u32), JsErrorBox> {
    let (cancel, cancelled) = oneshot::channel();
    let (connections, fetch, over) = {
        let mut state = state.borrow_mut();
        let held = state.borrow_mut::<Held>();
        let body = body_of(held, bytes, body_id, "fetch()")?;
        let (method, url) = line.split_once(' ').unwrap_or((&line, ""));
        let mut request = http::Request::builder()
            .method(method)
            .uri(url)
            .body(body)
            .map_err(|e| JsErrorBox::type_error(format!("fetch(): {line}: {e}")))?;
        if headers_of == 0 {
            held.may_fetch(id, "fetch()", headers.len())?;
            unflatten(Bytes::copy_from_slice(&headers), request.headers_mut()).map_err(JsErrorBox::type_error)?;
        } else {
            let headers = completed(held, headers_of)?.clone();
            held.may_fetch(id, "fetch()", flat_bytes(&headers))?;
            *request.headers_mut() = headers;
        }
        held.begin(id)?;
        if token != 0 {
            held.fetches.insert(token, cancel);
        }
        let most = held.limits.get(Limit::Connections);
        let invocation = held.invocations.get_mut(id).ok_or_else(gone)?;
        invocation.subrequests -= 1;
        (invocation.connections(most), Rc::clone(&invocation.capabilities).fetch(request, cf), invocation.over())
    };
    // Over the limit on connections, it waits until another one has its response.
    let fetch = async {
        let _connection = connections.acquire().await;
        fetch.await
    };
    let over = over.notified();
    // Without a token the sender is dropped, which must not look like a cancellation.
    let cancelled = async {
        if token == 0 || cancelled.await.is_err() {
            std::future::pending().await
        }
    };
    let result = tokio::select! {
        result = fetch => result.map_err(JsErrorBox::type_error),
        () = cancelled => Err(JsErrorBox::type_error("fetch(): aborted")),
        () = over => Err(gone()),
    };
    let mut state = state.borrow_mut();
    let held = state.borrow_mut::<Held>();
    held.fetches.remove(&token);
    held.done(id);
    held.touch(id);
    arrived(held, id, result?)
}

#[op2(fast)]
fn op_fetch_cancel(state: &mut OpState, #[smi] token: u32) {
    if let Some(cancel) = state.borrow_mut::<Held>().fetches.remove(&token) {
        let _ = cancel.send(());
    }
}
