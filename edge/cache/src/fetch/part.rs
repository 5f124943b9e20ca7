//! Parts of responses: kept when they pass by, put together, and completed (RFC 9111 sections 3.3 and 3.4).

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{AGE, CONTENT_LENGTH, CONTENT_RANGE, ETAG, IF_RANGE, RANGE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response, StatusCode, response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;

use super::lead::Guard;
use crate::answer::Part;
use crate::body::{Body, BoxError, OriginBody};
use crate::cache::Shared;
use crate::entry::{Entry, Head, StoredBody};
use crate::key::Key;
use crate::policy::{Control, Demand, Exchange, storing, validation};
use crate::span::Span;
use crate::store::Found;

/// Makes a request for the whole one for what is missing. Its validator must be strong: bytes of two representations must
/// not be put together. Whether it did.
pub(super) fn ask_for_rest(shared: &Shared, part: &Entry, request: &mut HeaderMap) -> bool {
    let rest = part.span.and_then(|span| span.rest()).filter(|rest| rest.total <= shared.config.object_limit());
    let (Some(rest), Some(tag)) = (rest, strong_tag(&part.head.headers)) else { return false };
    let Ok(range) = HeaderValue::try_from(rest.range()) else { return false };
    request.insert(RANGE, range);
    request.insert(IF_RANGE, tag.clone());
    true
}

/// The whole response out of a stored part and the 206 that has the rest; `None` when that is not the rest that was
/// asked for.
pub(super) fn complete(part: &Entry, response: Response<OriginBody>) -> Option<Response<OriginBody>> {
    let (mut head, body) = response.into_parts();
    let rest = part.span?.rest()?;
    let same = strong_tag(&head.headers).is_some_and(|tag| Some(tag) == part.head.headers.get(ETAG));
    if !same || Span::of_response(&head.headers) != Some(rest) {
        return None;
    }
    let age = head.headers.get(AGE).cloned();
    let control = Control::of_response(&validation::freshened(&part.head.headers, &head.headers, &Control::default()));
    head.status = StatusCode::OK;
    head.headers = validation::freshened(&part.head.headers, &head.headers, &control);
    head.headers.remove(CONTENT_RANGE);
    head.headers.insert(CONTENT_LENGTH, rest.total.into());
    head.headers.extend(age.map(|age| (AGE, age)));
    let stored = Body::stored(&part.body, Part::Whole).boxed_unsync();
    let [first, second] = if rest.start == 0 { [body, stored] } else { [stored, body] };
    Some(Response::from_parts(head, Joined { first: Some(first), second }.boxed_unsync()))
}

fn strong_tag(headers: &HeaderMap) -> Option<&HeaderValue> {
    headers.get(ETAG).filter(|tag| !tag.as_bytes().starts_with(b"W/"))
}

/// Keeps a copy of a 206 that passes by, where it may be stored. Whether it does.
pub(super) fn keep(
    shared: &Arc<Shared>,
    key: &Key,
    request: &Parts,
    response: &response::Parts,
    exchange: Exchange,
    body: OriginBody,
) -> (OriginBody, bool) {
    let Some((head, span)) = admit(shared, key, request, response, exchange) else { return (body, false) };
    // Found by an invalidation, as everything that arrives; nobody can join it.
    let Some(fill) = shared.flights.alone(key) else { return (body, false) };
    let keeping = Keeping { guard: Guard::new(shared, fill), request: request.headers.clone(), head, span };
    let tee = Tee { body, left: span.length(), chunks: Vec::new(), charged: 0, keeping: Some(keeping), storing: None };
    (tee.boxed_unsync(), true)
}

fn admit(
    shared: &Shared,
    key: &Key,
    request: &Parts,
    response: &response::Parts,
    exchange: Exchange,
) -> Option<(Head, Span)> {
    let span = Span::of_response(&response.headers)?;
    let promised = storing::content_length(&response.headers).ok()?;
    if span.length() > shared.config.object_limit() || promised.is_some_and(|length| length != span.length()) {
        return None;
    }
    let mut headers = response.headers.clone();
    headers.remove(CONTENT_RANGE);
    headers.remove(CONTENT_LENGTH);
    let demand = Demand::of_request(&request.headers, shared.config.rules.client_control);
    // As if it were an incomplete 200 (section 3.3).
    let arrived = (StatusCode::OK, &headers);
    let at = (exchange, shared.purges.latest());
    let head = Head::admit(key, request, &demand, arrived, at, &shared.config.rules).ok()?;
    Some((head, span))
}

/// What is needed to store a part once it is there.
struct Keeping {
    guard: Guard,
    request: HeaderMap,
    head: Head,
    span: Span,
}

impl Keeping {
    /// Stores the part, together with what is there already of the same representation.
    async fn store(self, mut chunks: Vec<Bytes>) {
        let Self { guard, request, head, mut span } = self;
        let (shared, fill) = (guard.shared(), guard.fill());
        match shared.stored(&head.key, &request) {
            Found::Part(old) => {
                let same = strong_tag(&head.headers).is_some_and(|tag| Some(tag) == old.head.headers.get(ETAG));
                if let Some(other) = old.span.filter(|other| same && other.touches(&span)) {
                    let mut joined = old.body.slices(0, span.start.saturating_sub(other.start).min(other.length()));
                    joined.append(&mut chunks);
                    joined.extend(old.body.slices(span.end.saturating_sub(other.start), other.length()));
                    chunks = joined;
                    span = Span { start: span.start.min(other.start), end: span.end.max(other.end), total: span.total };
                }
            }
            // Somebody got the whole meanwhile.
            Found::Entry(_) => return,
            Found::OtherVariants | Found::Nothing => {}
        }
        if span.length() > shared.config.object_limit() {
            return;
        }
        let body = StoredBody::copy(&chunks).await;
        let entry = if span.is_whole() {
            Entry::new(Arc::new(head.with_length(body.length)), body)
        } else {
            Entry::of_part(Arc::new(head), body, span)
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
    /// Bytes still to come.
    left: u64,
    chunks: Vec<Bytes>,
    /// How much of it the ledger shows.
    charged: u64,
    keeping: Option<Keeping>,
    storing: Option<Storing>,
}

/// Storing, and the last bytes: who has all of them finds the part stored when asking again.
type Storing = (Pin<Box<dyn Future<Output = ()> + Send>>, Bytes);

impl Tee {
    fn take(&mut self, data: &Bytes) {
        let Some(keeping) = &self.keeping else { return };
        let (shared, length) = (Arc::clone(keeping.guard.shared()), data.len() as u64);
        let held = shared.ledger.bytes.fetch_add(length, Ordering::Relaxed) + length;
        self.charged += length;
        self.chunks.push(data.clone());
        if length > self.left || held > shared.config.fill_capacity_bytes {
            self.give_up();
        }
        self.left = self.left.saturating_sub(length);
    }

    fn give_up(&mut self) {
        if let Some(keeping) = self.keeping.take() {
            keeping.guard.shared().ledger.bytes.fetch_sub(self.charged, Ordering::Relaxed);
            (self.charged, self.chunks) = (0, Vec::new());
        }
    }
}

impl HttpBody for Tee {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some((storing, last)) = &mut self.storing {
            ready!(storing.as_mut().poll(cx));
            let last = std::mem::take(last);
            self.storing = None;
            return Poll::Ready(Some(Ok(Frame::data(last))));
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        match frame.as_ref().map(|frame| frame.as_ref().map(Frame::data_ref)) {
            Some(Ok(Some(data))) => {
                let data = data.clone();
                self.take(&data);
                if self.left == 0
                    && let Some(keeping) = self.keeping.take()
                {
                    let (shared, charged) = (Arc::clone(keeping.guard.shared()), std::mem::take(&mut self.charged));
                    let chunks = std::mem::take(&mut self.chunks);
                    let storing = async move {
                        keeping.store(chunks).await;
                        shared.ledger.bytes.fetch_sub(charged, Ordering::Relaxed);
                    };
                    self.storing = Some((Box::pin(storing), data));
                    return self.poll_frame(cx);
                }
            }
            Some(Ok(None)) => {}
            Some(Err(_)) | None => self.give_up(),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.storing.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.storing {
            Some((_, last)) => SizeHint::with_exact(last.len() as u64),
            None => self.body.size_hint(),
        }
    }
}

impl Drop for Tee {
    fn drop(&mut self) {
        self.give_up();
    }
}

/// One body behind another.
struct Joined {
    first: Option<OriginBody>,
    second: OriginBody,
}

impl HttpBody for Joined {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(first) = &mut self.first {
            match ready!(Pin::new(first).poll_frame(cx)) {
                Some(Ok(frame)) if frame.is_trailers() => {}
                Some(frame) => return Poll::Ready(Some(frame)),
                None => self.first = None,
            }
        }
        Pin::new(&mut self.second).poll_frame(cx)
    }

    fn size_hint(&self) -> SizeHint {
        let (first, second) = (self.first.as_ref().map(HttpBody::size_hint), self.second.size_hint());
        match (first.map_or(Some(0), |hint| hint.exact()), second.exact()) {
            (Some(first), Some(second)) => SizeHint::with_exact(first + second),
            _ => SizeHint::default(),
        }
    }
}
