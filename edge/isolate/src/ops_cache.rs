//! The ops of the Cache API and of the cache in front.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use deno_core::convert::ByteString;
use deno_core::{JsBuffer, OpState, op2};
use deno_error::JsErrorBox;

use crate::extension::{arrived, body_of, gone, unflatten};
use crate::invocation::{CacheCall, Held};
use crate::limits::Limit;

/// Bytes of JSON that name what is purged: more than a purge may name.
const MOST_PURGED: usize = 1 << 20;

/// Asks a cache of the function, named `cache`. `line` is what is done (GET, PUT or DELETE), a space, and the URL of the
/// key; what follows `headers` is the response that is put. Counts as a subrequest, as Workers counts it. The status is 0
/// where there was nothing.
#[op2]
pub(crate) async fn op_cache(
    state: Rc<RefCell<OpState>>,
    #[smi] id: u32,
    #[string] line: String,
    #[string] cache: String,
    #[scoped] headers: ByteString,
    #[smi] status: u16,
    #[scoped] fields: ByteString,
    #[buffer] bytes: Option<JsBuffer>,
    #[smi] body_id: u32,
) -> Result<(u16, ByteString, u32), JsErrorBox> {
    let wrong = |error: String| JsErrorBox::type_error(format!("caches: {line}: {error}"));
    let (connections, answer, over) = {
        let mut state = state.borrow_mut();
        let held = state.borrow_mut::<Held>();
        held.may_fetch(id, "caches", headers.len().max(fields.len()))?;
        let (verb, url) = line.split_once(' ').unwrap_or((&line, ""));
        let mut request = http::Request::get(url).body(()).map_err(|error| wrong(error.to_string()))?;
        unflatten(Bytes::copy_from_slice(&headers), request.headers_mut()).map_err(wrong)?;
        let call = match verb {
            "GET" => CacheCall::Match,
            "DELETE" => CacheCall::Delete,
            _ => {
                let body = body_of(held, bytes, body_id, "caches")?;
                let response = http::Response::builder().status(status).body(body);
                let mut response = response.map_err(|error| wrong(error.to_string()))?;
                unflatten(Bytes::copy_from_slice(&fields), response.headers_mut()).map_err(wrong)?;
                CacheCall::Put(response)
            }
        };
        held.begin(id)?;
        let most = held.limits.get(Limit::Connections);
        let invocation = held.invocations.get_mut(id).ok_or_else(gone)?;
        invocation.subrequests -= 1;
        let answer = Rc::clone(&invocation.capabilities).cache(cache, request, call);
        (invocation.connections(most), answer, invocation.over())
    };
    let answer = async {
        let _connection = connections.acquire().await;
        answer.await
    };
    let over = over.notified();
    let answer = tokio::select! {
        answer = answer => answer.map_err(JsErrorBox::type_error),
        () = over => Err(gone()),
    };
    let mut state = state.borrow_mut();
    let held = state.borrow_mut::<Held>();
    held.done(id);
    held.touch(id);
    match answer? {
        Some(response) => arrived(held, id, response),
        None => Ok((0, Vec::new().into(), 0)),
    }
}

/// Purges what the cache in front has of the function. `argument` and the result are JSON. Counts as a subrequest.
#[op2]
#[string]
pub(crate) async fn op_purge(
    state: Rc<RefCell<OpState>>,
    #[smi] id: u32,
    #[string] argument: String,
) -> Result<String, JsErrorBox> {
    const WHAT: &str = "ctx.cache.purge()";
    if argument.len() > MOST_PURGED {
        return Err(JsErrorBox::type_error(format!("{WHAT}: what is named is longer than {MOST_PURGED} bytes")));
    }
    let (call, over) = {
        let mut state = state.borrow_mut();
        let held = state.borrow_mut::<Held>();
        held.may_fetch(id, WHAT, 0)?;
        held.begin(id)?;
        let invocation = held.invocations.get_mut(id).ok_or_else(gone)?;
        invocation.subrequests -= 1;
        let call = invocation.capabilities.call_async(String::new(), "purge".to_owned(), argument);
        (call, invocation.over())
    };
    let over = over.notified();
    let answer = tokio::select! {
        answer = call => answer.map_err(JsErrorBox::type_error),
        () = over => Err(gone()),
    };
    let mut state = state.borrow_mut();
    let held = state.borrow_mut::<Held>();
    held.done(id);
    held.touch(id);
    answer
}
