//! Asking the origin on behalf of everybody who waits.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures::channel::oneshot;
use http::header::SET_COOKIE;
use http::request::Parts;
use http::{HeaderValue, Response, StatusCode, response};
use http_body_util::BodyExt;

use super::NoStore;
use super::spill::Spilling;
use super::{OriginCall, Question, bypass, part, reply, stale_on_error};
use crate::body::{Body, BoxError, OriginBody};
use crate::cache::Shared;
use crate::disk::Spilled;
use crate::entry::{Entry, Head, StoredBody};
use crate::failure::{FailureKind, OriginFailure};
use crate::fill::{Fill, Reader, Trouble, Verdict};
use crate::outcome::Bypass;
use crate::policy::{Exchange, NotStored, reuse, validation};

/// Ends a fill whatever happens to the task that leads it: who waits for a task that was dropped learns of it.
pub(super) struct Guard {
    shared: Arc<Shared>,
    fill: Arc<Fill>,
}

impl Guard {
    pub(super) fn new(shared: &Arc<Shared>, fill: Arc<Fill>) -> Self {
        Self { shared: Arc::clone(shared), fill }
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(super) fn fill(&self) -> &Arc<Fill> {
        &self.fill
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Out of the flights first: who wakes up must not find it there again.
        self.shared.flights.end(&self.fill);
        self.fill.abort(OriginFailure::new(FailureKind::Abandoned, "the task that asked the origin was dropped"));
    }
}

/// What the leader gets.
pub(super) enum Settlement {
    /// A response that arrives and is shared.
    Shared { original: response::Parts, head: Arc<Head>, reader: Reader },
    /// A stored response was confirmed; whether it stays, and cookies for this client.
    Confirmed { entry: Entry, kept: Result<(), NotStored>, cookies: Vec<HeaderValue> },
    /// A response for the leader alone.
    Unshared { response: Response<OriginBody>, reason: NotStored },
    /// An error status that this stale response stands in for.
    Excused { stored: Arc<Entry>, status: StatusCode },
    /// No response.
    Failed(OriginFailure),
}

/// Leads a fill to its end. Runs in a task of its own, so that it goes on when the leader's client goes away.
pub(super) async fn run(
    guard: Guard,
    question: Question,
    request: Parts,
    call: OriginCall,
    leader: Option<oneshot::Sender<Settlement>>,
) {
    let (settlement, arriving) = consult(&guard, &question, &request, call).await;
    match leader {
        // When nobody takes it, the settlement is dropped, and with it the leader's reader.
        Some(leader) => drop(leader.send(settlement)),
        None => drop(settlement),
    }
    if let Some(arriving) = arriving {
        arriving.receive(guard).await;
    }
}

/// Asks for this request only. What may be stored still is.
pub(super) async fn alone(
    shared: &Arc<Shared>,
    question: Question,
    request: Parts,
    call: OriginCall,
) -> Result<Response<Body>, OriginFailure> {
    let Some(fill) = shared.flights.alone(&question.key) else {
        return bypass::pass(shared, request, call, Bypass::Overload, Some(question.key)).await;
    };
    let guard = Guard::new(shared, fill);
    let (settlement, arriving) = consult(&guard, &question, &request, call).await;
    if let Some(arriving) = arriving {
        tokio::spawn(arriving.receive(guard));
    }
    respond(shared, &question, &request, settlement)
}

/// The leader's response.
pub(super) fn respond(
    shared: &Shared,
    question: &Question,
    request: &Parts,
    settlement: Settlement,
) -> Result<Response<Body>, OriginFailure> {
    let now = shared.now();
    match settlement {
        Settlement::Shared { original, head, reader } => {
            Ok(reply::led(shared, request, original, reader, &head, question.fwd, now))
        }
        Settlement::Confirmed { entry, kept, cookies } => {
            Ok(reply::confirmed(shared, request, &entry, kept, cookies, question.fwd, now))
        }
        Settlement::Unshared { response, reason } => {
            Ok(reply::unshared(shared, request, response, reason, question.fwd, now))
        }
        Settlement::Excused { stored, status } => {
            Ok(reply::stale_if_error(shared, request, &stored, Some(status), now))
        }
        Settlement::Failed(failure) => {
            stale_on_error(shared, request, question.stored.as_ref(), None, now).ok_or(failure)
        }
    }
}

/// Asks the origin and decides what its head means. Tells the followers; a body to receive is left to the caller.
async fn consult(
    guard: &Guard,
    question: &Question,
    request: &Parts,
    mut call: OriginCall,
) -> (Settlement, Option<Arriving>) {
    let Guard { shared, fill } = guard;
    let mut outbound = request.clone();
    validation::strip_conditions(&mut outbound.headers);
    let mut plain = None;
    if let Some(stored) = &question.stored {
        plain = Some(outbound.clone());
        validation::add_validators(&mut outbound.headers, &stored.head.headers);
    }
    let part = question.part.as_ref().filter(|entry| part::ask_for_rest(shared, entry, &mut outbound.headers));
    let mut requested = shared.now();
    let mut result = call(outbound).await;
    let unknown = |response: &Response<OriginBody>| {
        let confirms = |stored: &Arc<Entry>| validation::confirms(response.headers(), &stored.head.headers);
        response.status() == StatusCode::NOT_MODIFIED && !question.stored.as_ref().is_some_and(confirms)
    };
    if let Some(plain) = plain
        && result.as_ref().is_ok_and(unknown)
    {
        // It is about what is not stored: "disregard the response and repeat the request without the conditional"
        // (RFC 2616 section 10.3.5; RFC 9111 section 4.3.4 leaves open what to do).
        requested = shared.now();
        result = call(plain).await;
    }
    let exchange = Exchange { requested, received: shared.now() };
    let response = match (part, result) {
        (Some(part), Ok(response)) => completed(shared, part, response),
        (_, result) => result,
    };
    let response = match response {
        Ok(response) => response,
        Err(failure) => {
            end(guard, Verdict::Failed(Trouble::NoResponse(failure.clone())));
            return (Settlement::Failed(failure), None);
        }
    };
    if let Some(stored) = &question.stored {
        if response.status() == StatusCode::NOT_MODIFIED {
            return (confirm(guard, stored, request, &response, exchange), None);
        }
        let excused =
            reuse::is_error(response.status()) && stored.sendable_on_error(exchange.received, &shared.config.rules);
        if excused {
            let status = response.status();
            end(guard, Verdict::Failed(Trouble::Status(status)));
            return (Settlement::Excused { stored: Arc::clone(stored), status }, None);
        }
    }
    match admit(shared, fill, question, request, &response, exchange) {
        Ok(head) => share(guard, head, response),
        Err(reason) => {
            refuse(guard, question, &response, reason);
            (Settlement::Unshared { response, reason }, None)
        }
    }
}

/// The whole response, where the origin has sent what was missing of a stored part. Whatever else it sends answers the
/// client's request.
fn completed(
    shared: &Shared,
    stored: &Arc<Entry>,
    response: Response<OriginBody>,
) -> Result<Response<OriginBody>, OriginFailure> {
    if !matches!(response.status(), StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE) {
        return Ok(response);
    }
    part::complete(stored, response).ok_or_else(|| {
        shared.store.remove(stored);
        let cause = "the origin was asked for the rest of a representation, and sent something else";
        OriginFailure::new(FailureKind::Corrupt, cause)
    })
}

/// The head to store the response under, or why it is not stored.
fn admit(
    shared: &Shared,
    fill: &Fill,
    question: &Question,
    request: &Parts,
    response: &Response<OriginBody>,
    exchange: Exchange,
) -> Result<Head, NotStored> {
    if response.extensions().get::<NoStore>().is_some() {
        return Err(NotStored::StandIn);
    }
    let arrived = (response.status(), response.headers());
    let head = Head::admit(
        &question.key,
        request,
        &question.demand,
        arrived,
        (exchange, fill.purged()),
        &shared.config.rules,
    )?;
    if head.length.is_some_and(|length| length > shared.store.largest_body()) {
        return Err(NotStored::TooLarge);
    }
    if fill.is_revoked() { Err(NotStored::Invalidated) } else { Ok(head) }
}

/// Opens the fill: followers get what arrives.
fn share(guard: &Guard, head: Head, response: Response<OriginBody>) -> (Settlement, Option<Arriving>) {
    let Guard { shared, fill } = guard;
    let head = Arc::new(head);
    if head.sendable(&Default::default(), shared.now()) {
        shared.note_shared(fill.key(), head.selectors.iter().map(|selector| selector.name.clone()));
    } else {
        // It is stored to be validated; until then each client needs an answer of its own.
        shared.note_unshared(fill.key(), &head.headers);
    }
    fill.open(Arc::clone(&head));
    let reader = Reader::leader(Arc::clone(fill), Arc::clone(&head));
    let (original, body) = response.into_parts();
    (Settlement::Shared { original, head: Arc::clone(&head), reader }, Some(Arriving { head, body }))
}

/// The answer is the leader's alone. What it stands in the place of goes, unless the reason lies in the request.
fn refuse(guard: &Guard, question: &Question, response: &Response<OriginBody>, reason: NotStored) {
    // An error says nothing about the resource: what is stored stays, and requests go on being collapsed. An origin in
    // trouble is the last one to send all who wait to.
    if response.status().is_server_error() {
        return end(guard, Verdict::Failed(Trouble::Status(response.status())));
    }
    if !reason.is_of_request() && reason != NotStored::Invalidated {
        match reason {
            NotStored::TooLarge => guard.shared.note_too_large(&question.key, response.headers()),
            _ => guard.shared.note_unshared(&question.key, response.headers()),
        }
        if let Some(stored) = &question.stored {
            guard.shared.store.remove(stored);
        }
    }
    end(guard, Verdict::Unshared);
}

/// A 304: the stored response, brought up to date (RFC 9111 section 4.3.4).
fn confirm(
    guard: &Guard,
    stored: &Arc<Entry>,
    request: &Parts,
    response: &Response<OriginBody>,
    exchange: Exchange,
) -> Settlement {
    let Guard { shared, fill } = guard;
    if !validation::confirms(response.headers(), &stored.head.headers) {
        shared.store.remove(stored);
        let cause = "the origin answered 304 for a representation that it was not asked about";
        let failure = OriginFailure::new(FailureKind::Corrupt, cause);
        end(guard, Verdict::Failed(Trouble::NoResponse(failure.clone())));
        return Settlement::Failed(failure);
    }
    let (head, kept) =
        stored.head.freshen(request, response.headers(), (exchange, fill.purged()), &shared.config.rules);
    let (head, body) = (Arc::new(head), stored.body.clone());
    match kept {
        Ok(()) if !fill.is_revoked() => {
            let entry = Arc::new(Entry::new(Arc::clone(&head), body.clone()));
            if entry.head.selectors != stored.head.selectors {
                shared.store.remove(stored);
            }
            shared.store.put(Arc::clone(&entry));
            if fill.is_revoked() {
                shared.store.remove(&entry);
            }
            end(guard, Verdict::Confirmed(entry));
        }
        Ok(()) => end(guard, Verdict::Unshared),
        Err(reason) => {
            if !reason.is_of_request() {
                shared.store.remove(stored);
            }
            end(guard, Verdict::Unshared);
        }
    }
    let cookies = response.headers().get_all(SET_COOKIE).iter().cloned().collect();
    Settlement::Confirmed { entry: Entry::new(head, body), kept, cookies }
}

/// Nobody joins any more, then those who joined learn why.
fn end(guard: &Guard, verdict: Verdict) {
    guard.shared.flights.leave(&guard.fill);
    guard.fill.settle(verdict);
}

/// A body that is to be received into a fill.
struct Arriving {
    head: Arc<Head>,
    body: OriginBody,
}

/// Why a body that began can't be finished.
#[derive(Debug, thiserror::Error)]
enum Incomplete {
    #[error("the origin sent {got} bytes of a body of {promised}")]
    Length { got: u64, promised: u64 },
    #[error("the origin sent nothing for {0:?} in the middle of a body")]
    Idle(std::time::Duration),
}

impl Arriving {
    /// Receives the body, and stores it if it arrives whole.
    async fn receive(self, guard: Guard) {
        let Self { head, mut body } = self;
        let (shared, fill) = (&guard.shared, &guard.fill);
        let mut received = 0;
        // Held back until the response is stored: whoever has all of it finds it there when asking again.
        let mut last = None;
        let limit = shared.config.object_limit();
        let mut spilling = Spilling::No;
        loop {
            match next_chunk(shared, &mut body).await {
                Err(failure) => return fail(&guard, failure),
                Ok(None) => break,
                Ok(Some(chunk)) => {
                    received += chunk.len() as u64;
                    if head.length.is_some_and(|promised| received > promised) {
                        return fail(&guard, wrong_length(received, &head));
                    }
                    if head.length == Some(received) {
                        last = Some(chunk);
                    } else {
                        fill.push(chunk);
                    }
                }
            }
            let crowded = shared.ledger.bytes.load(Ordering::Relaxed) > shared.config.fill_capacity_bytes;
            let beyond_memory = crowded || received > limit || head.length.is_some_and(|length| length > limit);
            if (beyond_memory || spilling.has_begun()) && !spilling.keep_up(shared, fill, &head).await {
                if received > shared.store.object_limit() {
                    shared.note_too_large(fill.key(), &head.headers);
                }
                return detach(&guard, last, body);
            }
        }
        if head.length.is_some_and(|promised| received != promised) {
            return fail(&guard, wrong_length(received, &head));
        }
        let head = Arc::new(head.with_length(received));
        let stored = if spilling.has_begun() {
            let Some(spilled) = spilling.finish(fill, last.as_ref(), &head).await else {
                return detach(&guard, last, Body::empty().boxed_unsync());
            };
            let stored = spilled.body().clone();
            store(&guard, head, stored.clone(), Some(spilled));
            stored
        } else {
            let mut chunks = fill.chunks();
            chunks.extend(last);
            let stored = StoredBody::copy(&chunks).await;
            store(&guard, head, stored.clone(), None);
            stored
        };
        shared.flights.leave(fill);
        fill.complete(stored);
    }
}

/// It can't be stored: the rest is for the leader.
fn detach(guard: &Guard, last: Option<Bytes>, rest: OriginBody) {
    let Guard { shared, fill } = guard;
    shared.flights.leave(fill);
    last.into_iter().for_each(|chunk| fill.push(chunk));
    fill.detach(rest);
}

/// The next bytes; trailers are dropped.
pub(super) async fn next_chunk(shared: &Shared, body: &mut OriginBody) -> Result<Option<Bytes>, OriginFailure> {
    let idle = shared.config.fill_idle;
    loop {
        match tokio::time::timeout(idle, body.frame()).await {
            Err(_) => return Err(OriginFailure::new(FailureKind::TimedOut, Incomplete::Idle(idle))),
            Ok(None) => return Ok(None),
            Ok(Some(Err(error))) => return Err(OriginFailure::new(FailureKind::Unreachable, error)),
            Ok(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) if data.is_empty() => {}
                Ok(data) => return Ok(Some(data)),
                Err(_trailers) => {}
            },
        }
    }
}

fn wrong_length(got: u64, head: &Head) -> OriginFailure {
    let cause: BoxError = Incomplete::Length { got, promised: head.length.unwrap_or_default() }.into();
    OriginFailure::new(FailureKind::Corrupt, cause)
}

fn fail(guard: &Guard, failure: OriginFailure) {
    guard.shared.flights.leave(&guard.fill);
    guard.fill.abort(failure);
}

/// Stores what arrived, unless it was invalidated meanwhile; whether it is stored.
pub(super) fn store(guard: &Guard, head: Arc<Head>, body: StoredBody, spilled: Option<Spilled>) -> bool {
    let Guard { shared, fill } = guard;
    if fill.is_revoked() {
        return false;
    }
    let entry = Arc::new(Entry::new(head, body));
    // Purged while it arrived: what was asked for since then must not give way to it.
    if !entry.survives(&shared.purges) {
        return false;
    }
    match spilled {
        Some(spilled) => shared.store.put_spilled(&entry, spilled),
        None => shared.store.put(Arc::clone(&entry)),
    }
    // An invalidation that came between the question and the put found nothing to remove.
    if fill.is_revoked() {
        shared.store.remove(&entry);
        return false;
    }
    true
}
