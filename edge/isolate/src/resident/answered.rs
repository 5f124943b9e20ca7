//! The body of a response on its way out.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::Live;
use crate::invocation::{Body, BoxError};
use crate::limits::Limit;

/// A response's body, counted against its limit.
pub(super) struct Answered {
    pub(super) body: Body,
    pub(super) left: u64,
    pub(super) limit: u64,
    pub(super) live: Live,
}

impl http_body::Body for Answered {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, BoxError>>> {
        let frame = std::task::ready!(self.body.as_mut().poll_frame(cx));
        self.live.finished = frame.is_none() || self.body.is_end_stream();
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
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}
