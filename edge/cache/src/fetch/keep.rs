//! Responses that are kept when they pass by: parts (RFC 9111 section 3.3), and what a POST says of its URI (RFC 9110
//! section 9.3.3).

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_LOCATION, CONTENT_RANGE};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode, response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;

use super::lead::Guard;
use super::part;
use crate::body::{BoxError, OriginBody};
use crate::cache::Shared;
use crate::entry::{Entry, Head, StoredBody};
use crate::key::Key;
use crate::policy::{Demand, Exchange, invalidation, storing};
use crate::span::Span;
use crate::store::Found;

/// Keeps a copy of a response that passes by, where it may be stored: of a 206, or of what a POST answers. Whether it does.
pub(super) fn keep(
    shared: &Arc<Shared>,
    key: &Key,
    request: &Parts,
    response: &response::Parts,
    exchange: Exchange,
    body: OriginBody,
) -> (OriginBody, bool) {
    let admitted = match request.method {
        Method::GET => admit_part(shared, key, request, response, exchange),
        Method::POST => admit_post(shared, key, request, response, exchange),
        _ => None,
    };
    let Some((head, span)) = admitted else { return (body, false) };
    let left = span.map_or(head.length, |span| Some(span.length()));
    if left.is_some_and(|left| left > shared.config.object_limit()) {
        return (body, false);
    }
    // Found by an invalidation, as everything that arrives; nobody can join it.
    let Some(fill) = shared.flights.alone(key) else { return (body, false) };
    let keeping = Keeping { guard: Guard::new(shared, fill), request: request.headers.clone(), head, span };
    let tee = Tee { body, left, chunks: Vec::new(), charged: 0, keeping: Some(keeping), storing: None };
    (tee.boxed_unsync(), true)
}

/// A 206 is stored as if it were an incomplete 200 (RFC 9111 section 3.3).
fn admit_part(
    shared: &Shared,
    key: &Key,
    request: &Parts,
    response: &response::Parts,
    exchange: Exchange,
) -> Option<(Head, Option<Span>)> {
    if response.status != StatusCode::PARTIAL_CONTENT {
        return None;
    }
    let span = Span::of_response(&response.headers)?;
    let promised = storing::content_length(&response.headers).ok()?;
    if promised.is_some_and(|length| length != span.length()) {
        return None;
    }
    let mut headers = response.headers.clone();
    headers.remove(CONTENT_RANGE);
    headers.remove(CONTENT_LENGTH);
    let demand = Demand::of_request(&request.headers, shared.config.rules.client_control);
    let at = (exchange, shared.purges.latest());
    let arrived = (StatusCode::OK, &headers);
    let head = Head::admit(key, request, &demand, arrived, at, &shared.config.rules).ok()?;
    Some((head, Some(span)))
}

/// What a POST answers may be stored for a GET of the same URI where it says for how long, and that it is what the URI stands
/// for now.
fn admit_post(
    shared: &Shared,
    key: &Key,
    request: &Parts,
    response: &response::Parts,
    exchange: Exchange,
) -> Option<(Head, Option<Span>)> {
    let named = invalidation::resolved(key.uri(), &response.headers, &CONTENT_LOCATION)?;
    if Key::of_uri(&named)?.uri() != key.uri() || !storing::tells_lifetime(&response.headers) {
        return None;
    }
    let mut get = request.clone();
    get.method = Method::GET;
    let demand = Demand::of_request(&request.headers, shared.config.rules.client_control);
    let at = (exchange, shared.purges.latest());
    let arrived = (response.status, &response.headers);
    Some((Head::admit(key, &get, &demand, arrived, at, &shared.config.rules).ok()?, None))
}

/// What is needed to store a response once it is there.
struct Keeping {
    guard: Guard,
    request: HeaderMap,
    head: Head,
    /// Of a part.
    span: Option<Span>,
}

impl Keeping {
    async fn store(self, chunks: Vec<Bytes>) {
        let Self { guard, request, head, span } = self;
        let (shared, fill) = (guard.shared(), guard.fill());
        let (chunks, span) = match (span, shared.stored(&head.key, &request)) {
            (Some(span), Found::Part(old)) => {
                let (chunks, span) = part::join(&old, &head.headers, span, chunks);
                (chunks, Some(span))
            }
            // Somebody got the whole meanwhile.
            (Some(_), Found::Entry(_)) => return,
            (span, _) => (chunks, span),
        };
        let span = span.filter(|span| !span.is_whole());
        let length: u64 = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        if length > shared.config.object_limit() {
            return;
        }
        let body = StoredBody::copy(&chunks).await;
        let entry = match span {
            Some(span) => Entry::of_part(Arc::new(head), body, span),
            None => Entry::new(Arc::new(head.with_length(body.length)), body),
        };
        if !fill.is_revoked() && entry.survives(&shared.purges) {
            let entry = Arc::new(entry);
            shared.store.put(Arc::clone(&entry));
            if fill.is_revoked() {
                shared.store.remove(&entry);
            }
        }
    }
}

/// A body of which a copy is kept when all of it has passed. What is too much for the memory is not kept.
struct Tee {
    body: OriginBody,
    /// Bytes still to come, where that is known.
    left: Option<u64>,
    chunks: Vec<Bytes>,
    /// How much of it the ledger shows.
    charged: u64,
    keeping: Option<Keeping>,
    storing: Option<Storing>,
}

/// Storing, and the last frame: who has all of the response finds it stored when asking again.
struct Storing {
    work: Pin<Box<dyn Future<Output = ()> + Send>>,
    last: Option<Frame<Bytes>>,
}

impl Tee {
    fn take(&mut self, data: &Bytes) {
        let Some(keeping) = &self.keeping else { return };
        let (shared, length) = (keeping.guard.shared(), data.len() as u64);
        let held = shared.ledger.bytes.fetch_add(length, Ordering::Relaxed) + length;
        self.charged += length;
        self.chunks.push(data.clone());
        let too_much = self.charged > shared.config.object_limit() || held > shared.config.fill_capacity_bytes;
        match self.left.map(|left| left.checked_sub(length)) {
            Some(Some(left)) => self.left = Some(left),
            None => {}
            Some(None) => return self.give_up(),
        }
        if too_much {
            self.give_up();
        }
    }

    fn give_up(&mut self) {
        if let Some(keeping) = self.keeping.take() {
            keeping.guard.shared().ledger.bytes.fetch_sub(self.charged, Ordering::Relaxed);
            (self.charged, self.chunks) = (0, Vec::new());
        }
    }

    /// All is there.
    fn store(&mut self, last: Option<Frame<Bytes>>) -> Option<Storing> {
        let keeping = self.keeping.take()?;
        let (shared, charged) = (Arc::clone(keeping.guard.shared()), std::mem::take(&mut self.charged));
        let chunks = std::mem::take(&mut self.chunks);
        let work = async move {
            keeping.store(chunks).await;
            shared.ledger.bytes.fetch_sub(charged, Ordering::Relaxed);
        };
        Some(Storing { work: Box::pin(work), last })
    }
}

impl HttpBody for Tee {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            if let Some(storing) = &mut self.storing {
                ready!(storing.work.as_mut().poll(cx));
                let last = storing.last.take();
                self.storing = None;
                return Poll::Ready(last.map(Ok));
            }
            let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
            match frame {
                Some(Ok(frame)) => {
                    let Some(data) = frame.data_ref().cloned() else { return Poll::Ready(Some(Ok(frame))) };
                    self.take(&data);
                    if self.left != Some(0) || self.keeping.is_none() {
                        return Poll::Ready(Some(Ok(frame)));
                    }
                    self.storing = self.store(Some(frame));
                }
                Some(Err(error)) => {
                    self.give_up();
                    return Poll::Ready(Some(Err(error)));
                }
                // Without a length, its end is the only one that tells.
                None if self.left.is_none() && self.keeping.is_some() => self.storing = self.store(None),
                None => {
                    self.give_up();
                    return Poll::Ready(None);
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.storing.is_none() && self.keeping.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let last =
            self.storing.as_ref().map(|storing| storing.last.as_ref().and_then(Frame::data_ref).map_or(0, Bytes::len));
        last.map_or_else(|| self.body.size_hint(), |last| SizeHint::with_exact(last as u64))
    }
}

impl Drop for Tee {
    fn drop(&mut self) {
        self.give_up();
    }
}
