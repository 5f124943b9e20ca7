//! Responses out of what the cache has.

use std::sync::Arc;
use std::time::SystemTime;

use http::header::SET_COOKIE;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response, StatusCode, response};

use super::{OriginCall, tagged};
use crate::answer::status::{self, Fwd, Member};
use crate::answer::{self, Part};
use crate::body::{Body, OriginBody};
use crate::cache::Shared;
use crate::entry::{Entry, Head};
use crate::fill::{Fill, Reader};
use crate::outcome::Outcome;
use crate::policy::{NotStored, freshness, storing, validation};

/// A fresh stored response.
pub(super) fn hit(shared: &Shared, request: &Parts, entry: &Entry, now: SystemTime) -> Response<Body> {
    let detail = entry.comes_from_disk().then_some("disk");
    let member = Member { hit: true, ttl: Some(entry.ttl(now)), detail, ..Member::default() };
    tagged(stored(shared, request, entry, now, member), Outcome::Hit)
}

/// A fresh stored part, where it has all that the request wants.
pub(super) fn part(shared: &Shared, request: &Parts, entry: &Entry, now: SystemTime) -> Option<Response<Body>> {
    let (head, span) = (&entry.head, entry.span?);
    let (mut status, mut headers) = (head.status, head.headers.clone());
    let part = match answer::shape(request, &mut status, &mut headers, Some(span.total), head.received) {
        Part::Range { start, end } if span.start <= start && end <= span.end => {
            Part::Range { start: start - span.start, end: end - span.start }
        }
        Part::Nothing if status != head.status => Part::Nothing,
        _ => return None,
    };
    answer::set_age(&mut headers, head.age(now));
    let member = Member { hit: true, ttl: Some(entry.ttl(now)), ..Member::default() };
    status::append(&mut headers, &shared.identity, member);
    Some(tagged(build(status, headers, Body::stored(&entry.body, part)), Outcome::Hit))
}

/// A stale stored response that may be sent, for this reason.
pub(super) fn stale(
    shared: &Shared,
    request: &Parts,
    entry: &Entry,
    now: SystemTime,
    reason: &'static str,
) -> Response<Body> {
    let member = Member { hit: true, ttl: Some(entry.ttl(now)), detail: Some(reason), ..Member::default() };
    tagged(stored(shared, request, entry, now, member), Outcome::Stale)
}

/// A stale stored response, because the origin failed.
pub(super) fn stale_if_error(
    shared: &Shared,
    request: &Parts,
    entry: &Entry,
    fwd_status: Option<StatusCode>,
    now: SystemTime,
) -> Response<Body> {
    let member = Member {
        fwd: Some(Fwd::Stale),
        fwd_status,
        ttl: Some(entry.ttl(now)),
        detail: Some("stale-if-error"),
        ..Member::default()
    };
    tagged(stored(shared, request, entry, now, member), Outcome::Stale)
}

/// A stored response that the origin just confirmed. Cookies that came with the confirmation are this client's.
pub(super) fn confirmed(
    shared: &Shared,
    request: &Parts,
    entry: &Entry,
    kept: Result<(), NotStored>,
    cookies: Vec<HeaderValue>,
    fwd: Fwd,
    now: SystemTime,
) -> Response<Body> {
    let member = Member {
        fwd: Some(fwd),
        fwd_status: Some(StatusCode::NOT_MODIFIED),
        ttl: Some(entry.ttl(now)),
        stored: kept.is_ok(),
        detail: kept.err().map(NotStored::as_str),
        ..Member::default()
    };
    let mut response = tagged(stored(shared, request, entry, now, member), Outcome::Revalidated);
    for cookie in cookies {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    response
}

/// The same, for those who waited.
pub(super) fn confirmed_for_others(
    shared: &Shared,
    request: &Parts,
    entry: &Entry,
    fwd: Fwd,
    now: SystemTime,
) -> Response<Body> {
    let member = Member {
        fwd: Some(fwd),
        fwd_status: Some(StatusCode::NOT_MODIFIED),
        ttl: Some(entry.ttl(now)),
        stored: true,
        collapsed: true,
        ..Member::default()
    };
    tagged(stored(shared, request, entry, now, member), Outcome::Collapsed)
}

/// The status that another client's request got from an origin in trouble; its body was that client's.
pub(super) fn erred_for_others(shared: &Shared, status: StatusCode, fwd: Fwd) -> Response<Body> {
    let mut headers = HeaderMap::new();
    let member = Member { fwd: Some(fwd), fwd_status: Some(status), collapsed: true, ..Member::default() };
    status::append(&mut headers, &shared.identity, member);
    tagged(build(status, headers, Body::empty()), Outcome::Collapsed)
}

/// The answer to another client's request, while it arrives.
pub(super) fn follow(
    shared: &Shared,
    fill: Arc<Fill>,
    head: Arc<Head>,
    request: Parts,
    mut call: OriginCall,
    fwd: Fwd,
    now: SystemTime,
) -> Response<Body> {
    let (mut status, mut headers) = (head.status, head.headers.clone());
    let part = answer::shape(&request, &mut status, &mut headers, head.length, head.received);
    answer::set_age(&mut headers, head.age(now));
    let member = Member {
        fwd: Some(fwd),
        fwd_status: Some(head.status),
        ttl: Some(head.ttl(now)),
        stored: true,
        collapsed: true,
        ..Member::default()
    };
    status::append(&mut headers, &shared.identity, member);
    let mut outbound = request;
    validation::strip_conditions(&mut outbound.headers);
    let resume = Box::new(move || call(outbound));
    let body = Body::arriving(Reader::follower(fill, head, resume), part);
    tagged(build(status, headers, body), Outcome::Collapsed)
}

/// The leader's own answer, which goes into the store.
pub(super) fn led(
    shared: &Shared,
    request: &Parts,
    original: response::Parts,
    reader: Reader,
    head: &Head,
    fwd: Fwd,
    now: SystemTime,
) -> Response<Body> {
    let member = Member {
        fwd: Some(fwd),
        fwd_status: Some(original.status),
        ttl: Some(head.ttl(now)),
        stored: true,
        ..Member::default()
    };
    let make = |part| Body::arriving(reader, part);
    tagged(whole(shared, request, original, head.length, now, member, make), Outcome::Miss)
}

/// An answer that is not shared.
pub(super) fn unshared(
    shared: &Shared,
    request: &Parts,
    response: Response<OriginBody>,
    reason: NotStored,
    fwd: Fwd,
    now: SystemTime,
) -> Response<Body> {
    let (original, body) = response.into_parts();
    let member = Member {
        fwd: Some(fwd),
        fwd_status: Some(original.status),
        detail: Some(reason.as_str()),
        ..Member::default()
    };
    let length = storing::content_length(&original.headers).ok().flatten();
    let make = |part| Body::origin(body, part);
    tagged(whole(shared, request, original, length, now, member, make), Outcome::Uncacheable(reason))
}

/// `only-if-cached`, and nothing cached (RFC 9111 section 5.2.1.7).
pub(super) fn only_if_cached(shared: &Shared) -> Response<Body> {
    let mut headers = HeaderMap::new();
    let member = Member { detail: Some("only-if-cached"), ..Member::default() };
    status::append(&mut headers, &shared.identity, member);
    tagged(build(StatusCode::GATEWAY_TIMEOUT, headers, Body::empty()), Outcome::OnlyIfCached)
}

fn stored(shared: &Shared, request: &Parts, entry: &Entry, now: SystemTime, member: Member) -> Response<Body> {
    let head = &entry.head;
    let (mut status, mut headers) = (head.status, head.headers.clone());
    let part = answer::shape(request, &mut status, &mut headers, head.length, head.received);
    answer::set_age(&mut headers, head.age(now));
    status::append(&mut headers, &shared.identity, member);
    build(status, headers, Body::stored(&entry.body, part))
}

/// A whole response straight from the origin, cut to what the client asked for.
fn whole(
    shared: &Shared,
    request: &Parts,
    mut original: response::Parts,
    length: Option<u64>,
    now: SystemTime,
    member: Member,
    body: impl FnOnce(Part) -> Body,
) -> Response<Body> {
    storing::strip_connection(&mut original.headers);
    let received = freshness::date(&original.headers, &http::header::DATE).unwrap_or(now);
    let part = answer::shape(request, &mut original.status, &mut original.headers, length, received);
    status::append(&mut original.headers, &shared.identity, member);
    let mut response = build(original.status, original.headers, body(part));
    *response.extensions_mut() = original.extensions;
    response
}

pub(super) fn build(status: StatusCode, headers: HeaderMap, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}
