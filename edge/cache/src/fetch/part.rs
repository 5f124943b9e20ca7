//! Parts of responses, put together and completed (RFC 9111 sections 3.3 and 3.4).

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{AGE, CONTENT_LENGTH, CONTENT_RANGE, ETAG, IF_RANGE, RANGE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;

use crate::answer::Part;
use crate::body::{Body, BoxError, OriginBody};
use crate::cache::Shared;
use crate::entry::Entry;
use crate::policy::{Control, validation};
use crate::span::Span;

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

/// The bytes of a stored part and of a new one, where both are of one representation and touch; otherwise the new ones.
pub(super) fn join(old: &Entry, headers: &HeaderMap, span: Span, mut new: Vec<Bytes>) -> (Vec<Bytes>, Span) {
    let same = strong_tag(headers).is_some_and(|tag| Some(tag) == old.head.headers.get(ETAG));
    let Some(other) = old.span.filter(|other| same && other.touches(&span)) else { return (new, span) };
    let mut chunks = old.body.slices(0, span.start.saturating_sub(other.start).min(other.length()));
    chunks.append(&mut new);
    chunks.extend(old.body.slices(span.end.saturating_sub(other.start), other.length()));
    (chunks, Span { start: span.start.min(other.start), end: span.end.max(other.end), total: span.total })
}

fn strong_tag(headers: &HeaderMap) -> Option<&HeaderValue> {
    headers.get(ETAG).filter(|tag| !tag.as_bytes().starts_with(b"W/"))
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
