//! What is known of a request when it is over: the response, its timing, its line in the log.

use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderValue, Response};
use http_body::{Body as _, Frame, SizeHint};
use isolate::{BoxError, ResponseBody, Timing};

use crate::upstream::Waited;

/// A body for the client, from any source.
pub(crate) struct ClientBody(pub(crate) ResponseBody);

impl ClientBody {
    pub(crate) fn full(bytes: Bytes) -> Self {
        Self(Box::pin(http_body_util::BodyExt::map_err(http_body_util::Full::new(bytes), |never| match never {})))
    }

    /// The head alone, with the length that the whole would have had (RFC 9110 section 9.3.2).
    pub(crate) fn head_only(self) -> Self {
        let exact = self.0.size_hint().exact();
        Self(Box::pin(HeadOnly(exact)))
    }
}

struct HeadOnly(Option<u64>);

impl http_body::Body for HeadOnly {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Poll::Ready(None)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl http_body::Body for ClientBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.0.as_mut().poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

/// Notes taken along the request's way.
pub(crate) struct Record {
    pub(crate) began: Instant,
    pub(crate) request_id: String,
    pub(crate) routed: Option<Duration>,
    /// `name@version` of the function that was chosen.
    pub(crate) function: Option<String>,
    pub(crate) timing: Option<Timing>,
    pub(crate) cached: Option<cache::Outcome>,
    pub(crate) waited: Waited,
}

impl Record {
    pub(crate) fn new(request_id: String) -> Self {
        Self {
            began: Instant::now(),
            request_id,
            routed: None,
            function: None,
            timing: None,
            cached: None,
            waited: Waited::default(),
        }
    }

    /// Adds to every response what this PoP has to say about it.
    pub(crate) fn describe(&self, pop: &str, response: &mut Response<ClientBody>) {
        let headers = response.headers_mut();
        let mut put = |name: &'static str, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        };
        put("x-skerry-pop", pop);
        put("x-request-id", &self.request_id);
        if let Some(function) = &self.function {
            put("x-skerry-version", function);
        }
        // Beside what the function or the origin measured.
        if let Ok(value) = HeaderValue::from_str(&self.server_timing()) {
            headers.append("server-timing", value);
        }
    }

    /// The phases, in milliseconds (<https://www.w3.org/TR/server-timing/>).
    fn server_timing(&self) -> String {
        let millis = |duration: Duration| duration.as_secs_f64() * 1e3;
        let mut phases = Vec::with_capacity(5);
        if let Some(routed) = self.routed {
            phases.push(format!("route;dur={:.3}", millis(routed)));
        }
        if let Some(cached) = self.cached {
            phases.push(format!("cache;desc={}", cached.as_str()));
        }
        if let Some(timing) = &self.timing {
            if let Some(start) = timing.start {
                let from = if timing.from_empty_pool { ";desc=unpooled" } else { "" };
                phases.push(format!("isolate;dur={:.3}{from}", millis(start)));
            }
            phases.push(format!("function;dur={:.3}", millis(timing.function)));
        }
        let waited = Duration::from_nanos(self.waited.load(Ordering::Relaxed));
        if !waited.is_zero() {
            phases.push(format!("origin;dur={:.3}", millis(waited)));
        }
        phases.push(format!("total;dur={:.3}", millis(self.began.elapsed())));
        phases.join(", ")
    }
}
