//! The body of a response on its way out.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::Live;
use crate::invocation::{BoxError, Payload};
use crate::limits::Limit;

/// A response's body on its way to the client, counted against its limit. It keeps its invocation alive, so it stays on
/// the worker's thread.
pub struct ResponseBody {
    pub(super) payload: Payload,
    pub(super) left: u64,
    pub(super) limit: u64,
    pub(super) live: Live,
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let body = match &mut self.payload {
            Payload::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                self.live.finished = true;
                return Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))));
            }
            Payload::Stream(body) => body,
        };
        let frame = std::task::ready!(body.as_mut().poll_frame(cx));
        self.live.finished = frame.is_none() || self.is_end_stream();
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            match self.left.checked_sub(data.len() as u64) {
                Some(left) => self.left = left,
                None => {
                    self.live.resident.note_broken(&self.live, Limit::ResponseBody);
                    return Poll::Ready(Some(Err(format!(
                        "the response body is over its limit of {} bytes",
                        self.limit
                    )
                    .into())));
                }
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.payload {
            Payload::Whole(bytes) => bytes.is_empty(),
            Payload::Stream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.payload {
            Payload::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Payload::Stream(body) => body.size_hint(),
        }
    }
}
