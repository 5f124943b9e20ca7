//! How long an exchange with an origin may stand still.

use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use isolate::BoxError;
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep};

use super::origins::Place;

/// Longest wait for the next piece of a response's body.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// Interim responses (RFC 9110 section 15.2) to one request, at most. They are not passed on: hyper's server sends none. Who
/// sends more than these means to keep us reading.
const MOST_INTERIM: u32 = 64;

/// Resolves when an origin has sent too many interim responses to this request.
pub(super) fn flooded<B>(request: &mut Request<B>) -> impl Future<Output = ()> + use<B> {
    let (count, flood) = (AtomicU32::new(0), Arc::new(Notify::new()));
    let told = Arc::clone(&flood);
    hyper::ext::on_informational(request, move |_| {
        if count.fetch_add(1, Ordering::Relaxed) == MOST_INTERIM {
            told.notify_one();
        }
    });
    async move { flood.notified().await }
}

/// When a request's body last moved.
pub(super) struct Moving(Arc<Mutex<Instant>>);

impl Moving {
    /// Resolves once nothing has moved for so long. A long upload is no slow origin.
    pub(super) async fn still_for(&self, patience: Duration) {
        loop {
            let end = *self.0.lock().unwrap_or_else(PoisonError::into_inner) + patience;
            if end <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(end).await;
        }
    }
}

/// A request's body that tells when it moves.
pub(super) struct Upload {
    body: isolate::Body,
    moved: Arc<Mutex<Instant>>,
}

impl Upload {
    pub(super) fn new(body: isolate::Body) -> (Self, Moving) {
        let moved = Arc::new(Mutex::new(Instant::now()));
        (Self { body, moved: Arc::clone(&moved) }, Moving(moved))
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = self.body.as_mut().poll_frame(cx);
        if polled.is_ready() {
            *self.moved.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
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

/// A response's body that fails when its origin has sent nothing for so long.
pub(super) struct Arriving {
    body: Incoming,
    /// Among the requests under way, to the last byte.
    place: Option<Place>,
    patience: Duration,
    /// Set at the first wait: most bodies never wait that long, and many never at all.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Arriving {
    /// That of an origin: [`BODY_TIMEOUT`].
    pub(super) fn new(body: Incoming, place: Place) -> Self {
        Self::patient(body, place, BODY_TIMEOUT)
    }

    pub(super) fn patient(body: Incoming, place: Place, patience: Duration) -> Self {
        let place = (!body.is_end_stream()).then_some(place);
        Self { body, place, patience, timer: None }
    }
}

impl Body for Arriving {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            self.timer = None;
            if !matches!(frame, Some(Ok(_))) || self.body.is_end_stream() {
                self.place = None;
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let patience = self.patience;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        std::task::ready!(timer.as_mut().poll(cx));
        let error = std::io::Error::new(
            std::io::ErrorKind::TimedOut,
            format!("the origin has sent nothing for {} s", patience.as_secs()),
        );
        Poll::Ready(Some(Err(error.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
