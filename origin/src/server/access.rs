//! One line for each request, written when its response has been sent or given up.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::time::Instant;

use super::respond::ResponseBody;
use super::traffic::{Traffic, header};
use crate::store::BoxError;

/// Longest path or subject in a line.
const MAX_FIELD_CHARS: usize = 512;

/// A line in the making.
pub(super) struct Line {
    traffic: Arc<Traffic>,
    method: http::Method,
    path: String,
    subject: Option<String>,
    request_id: String,
    begun: Instant,
    status: u16,
    bytes: u64,
    /// Bytes that the head promises.
    promised: Option<u64>,
    /// Whether the response was given up before its end.
    cut: bool,
}

impl Line {
    /// Begins the line of `request` and counts it.
    pub(super) fn begin<B>(traffic: &Arc<Traffic>, request: &Request<B>, request_id: &str) -> Self {
        traffic.public_requests.fetch_add(1, Ordering::Relaxed);
        let short = |text: &str| text.chars().take(MAX_FIELD_CHARS).collect();
        Self {
            traffic: traffic.clone(),
            method: request.method().clone(),
            path: short(request.uri().path()),
            subject: header(request.headers(), "x-skerry-subject").map(short),
            request_id: request_id.to_owned(),
            begun: Instant::now(),
            status: 0,
            bytes: 0,
            promised: None,
            cut: true,
        }
    }

    /// Hands the line to the response's body, which ends it.
    pub(super) fn follow(mut self, response: Response<ResponseBody>) -> Response<ResponseBody> {
        self.status = response.status().as_u16();
        self.promised = header(response.headers(), CONTENT_LENGTH.as_str()).and_then(|length| length.parse().ok());
        self.cut = !response.body().is_end_stream();
        response.map(|body| Followed { body, line: self }.boxed_unsync())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.traffic.public_bytes.fetch_add(self.bytes, Ordering::Relaxed);
        tracing::info!(
            target: "access",
            method = %self.method,
            path = self.path,
            status = self.status,
            bytes = self.bytes,
            duration_ms = self.begun.elapsed().as_secs_f64() * 1000.0,
            cut = self.cut,
            subject = self.subject,
            request_id = self.request_id,
            "request"
        );
    }
}

/// A body whose bytes are counted.
struct Followed {
    body: ResponseBody,
    line: Line,
}

impl Body for Followed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                self.line.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
                // hyper asks for nothing more once all that was promised is there.
                self.line.cut = !self.body.is_end_stream() && self.line.promised != Some(self.line.bytes);
            }
            Poll::Ready(Some(Err(error))) => {
                let Line { path, request_id, .. } = &self.line;
                tracing::error!(%error, path, request_id, "an object could not be read to its end");
            }
            Poll::Ready(None) => self.line.cut = false,
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
