//! Requests that go to the origin as they are, and what their answers do to the store.

use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http::{Method, Response, StatusCode, response};

use super::{OriginCall, keep, reply, stale_on_error, tagged};
use crate::answer::Part;
use crate::answer::status::{self, Fwd, Member};
use crate::body::{Body, OriginBody};
use crate::cache::Shared;
use crate::entry::Entry;
use crate::failure::OriginFailure;
use crate::key::Key;
use crate::outcome::{Bypass, Outcome};
use crate::policy::{Exchange, invalidation, reuse, storing, validation};
use crate::store::Found;

/// Passes a request on. A successful unsafe one invalidates (RFC 9111 section 4.4); a HEAD one brings a stored GET
/// response up to date, or removes it (section 4.3.5).
pub(super) async fn pass(
    shared: &Arc<Shared>,
    request: Parts,
    mut call: OriginCall,
    reason: Bypass,
    key: Option<Key>,
) -> Result<Response<Body>, OriginFailure> {
    let requested = shared.now();
    let result = call(request.clone()).await;
    if let (Bypass::Head, Some(key)) = (reason, &key)
        && let Some(response) = stale_head(shared, key, &request, &result)
    {
        return Ok(response);
    }
    let response = result?;
    let (mut head, mut body) = response.into_parts();
    let mut stored = false;
    if let Some(key) = &key {
        if invalidation::is_unsafe(&request.method) && invalidation::succeeded(head.status) {
            invalidate(shared, key, &head).await;
        }
        // After the invalidation, which must not find it.
        if matches!(reason, Bypass::Range | Bypass::HitForPass | Bypass::Method) {
            let exchange = Exchange { requested, received: shared.now() };
            (body, stored) = keep::keep(shared, key, &request, &head, exchange, body);
        }
        if reason == Bypass::Head {
            let exchange = Exchange { requested, received: shared.now() };
            update_from_head(shared, key, &request, &head, exchange);
        }
    }
    if head.status != StatusCode::SWITCHING_PROTOCOLS {
        storing::strip_connection(&mut head.headers);
    }
    let fwd = if reason == Bypass::Method { Fwd::Method } else { Fwd::Bypass };
    let (fwd_status, detail) = (Some(head.status), Some(reason.as_str()));
    let member = Member { fwd: Some(fwd), fwd_status, stored, detail, ..Member::default() };
    status::append(&mut head.headers, &shared.identity, member);
    let mut response = reply::build(head.status, head.headers, Body::origin(body, Part::Whole));
    // An upgraded connection, and whatever else the caller's client attached, is the caller's.
    *response.extensions_mut() = head.extensions;
    Ok(tagged(response, Outcome::Bypass(reason)))
}

/// The head of a stale stored response where the origin failed and it may be sent, as for GET (RFC 5861 section 4).
fn stale_head(
    shared: &Shared,
    key: &Key,
    request: &Parts,
    result: &Result<Response<OriginBody>, OriginFailure>,
) -> Option<Response<Body>> {
    let status = match result {
        Ok(response) if !reuse::is_error(response.status()) => return None,
        Ok(response) => Some(response.status()),
        Err(_) => None,
    };
    let Found::Entry(entry) = shared.stored(key, &request.headers) else { return None };
    stale_on_error(shared, request, Some(&entry), status, shared.now())
}

/// How long an answer waits until files are gone. A disk that takes longer is broken.
const REMOVAL_WAIT: Duration = Duration::from_secs(2);

async fn invalidate(shared: &Shared, key: &Key, response: &response::Parts) {
    shared.invalidate(key);
    for uri in invalidation::also_invalidated(key.uri(), &response.headers) {
        if let Some(key) = Key::of_uri(&uri) {
            shared.invalidate(&key);
        }
    }
    // Whoever has the answer must not see the old state again, not even after a crash.
    if let Some(disk) = shared.store.disk() {
        let _ = tokio::time::timeout(REMOVAL_WAIT, disk.settled()).await;
    }
}

fn update_from_head(shared: &Shared, key: &Key, request: &Parts, response: &response::Parts, exchange: Exchange) {
    if response.status != StatusCode::OK {
        return;
    }
    let Found::Entry(entry) = shared.stored(key, &request.headers) else { return };
    if entry.head.status != StatusCode::OK {
        return;
    }
    if !validation::head_agrees(&response.headers, &entry.head.headers) {
        shared.store.remove(&entry);
        return;
    }
    let mut get = request.clone();
    get.method = Method::GET;
    let (head, kept) = entry.head.freshen(&get, &response.headers, (exchange, entry.head.purged), &shared.config.rules);
    match kept {
        Ok(()) => shared.store.put(Arc::new(Entry::new(Arc::new(head), entry.body.clone()))),
        Err(reason) if reason.is_of_request() => {}
        Err(_) => shared.store.remove(&entry),
    }
}
