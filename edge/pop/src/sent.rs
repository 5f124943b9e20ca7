//! The body of a response on its way to the client: counted, and followed to its end.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use isolate::BoxError;

use crate::notes::{End, Notes};
use crate::outcome::ClientBody;

/// A body that writes down how much of it was given to the connection. Bytes count when they are: of a client that leaves,
/// the last few may not have come to it.
pub(crate) struct Sent {
    body: ClientBody,
    /// All of it, where that is known: hyper asks for nothing more once it has so much.
    length: Option<u64>,
    notes: Rc<Notes>,
}

impl Sent {
    pub(crate) fn new(body: ClientBody, notes: Rc<Notes>) -> Self {
        Self { length: body.size_hint().exact(), body, notes }
    }
}

impl http_body::Body for Sent {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        let notes = &self.notes;
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                notes.sent.set(notes.sent.get() + frame.data_ref().map_or(0, |data| data.len() as u64));
            }
            Poll::Ready(Some(Err(_))) => notes.end.set(End::Broken),
            Poll::Ready(None) => notes.end.set(End::Whole),
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        let all = matches!(self.body, ClientBody::Head(_))
            || self.body.is_end_stream()
            || self.length == Some(self.notes.sent.get());
        if all && self.notes.end.get() == End::Cut {
            self.notes.end.set(End::Whole);
        }
    }
}
