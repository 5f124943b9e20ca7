//! What is known of a request when it is over: the response, its timing, its line in the log.

use std::cell::{Cell, OnceCell};
use std::fmt::Write as _;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, Uri};
use http_body::{Body as _, Frame, SizeHint};
use isolate::{BoxError, ResponseBody, Timing};

use crate::fault::Fault;
use crate::function::Function;
use crate::request::id;
use crate::state::State;
use crate::trace::Trace;
use crate::upstream::Waited;
use crate::worker::Worker;

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

/// What is known of a request, gathered along its way.
pub(crate) struct Record {
    pub(crate) began: Instant,
    pub(crate) request_id: HeaderValue,
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    /// The trace it belongs to, as a peer says that is believed.
    pub(crate) trace: Option<Trace>,
    pub(crate) routed: Option<Duration>,
    pub(crate) function: Option<Arc<Function>>,
    pub(crate) timing: Option<Timing>,
    pub(crate) notes: Rc<Notes>,
}

/// What the function's capabilities write down.
#[derive(Default)]
pub(crate) struct Notes {
    /// What the cache did with the last `fetch()`.
    pub(crate) cached: Cell<Option<cache::Outcome>>,
    waited: OnceCell<Waited>,
}

impl Notes {
    /// The time spent waiting for origins, to be added to.
    pub(crate) fn waited(&self) -> &Waited {
        self.waited.get_or_init(Waited::default)
    }
}

impl Record {
    pub(crate) fn new(request_id: HeaderValue, method: Method, uri: Uri) -> Self {
        Self {
            began: Instant::now(),
            request_id,
            method,
            uri,
            trace: None,
            routed: None,
            function: None,
            timing: None,
            notes: Rc::default(),
        }
    }

    /// Adds to every response what this PoP has to say about it.
    pub(crate) fn describe(&self, state: &State, took: Duration, response: &mut Response<ClientBody>) {
        let headers = response.headers_mut();
        headers.reserve(5);
        headers.insert("x-skerry-pop", state.name_value.clone());
        headers.insert("x-request-id", self.request_id.clone());
        if let Some(function) = &self.function {
            headers.insert("x-skerry-version", function.label_value.clone());
        }
        // Beside what the function or the origin measured.
        if let Ok(value) = HeaderValue::try_from(self.server_timing(took)) {
            headers.append("server-timing", value);
        }
    }

    /// The phases, in milliseconds (<https://www.w3.org/TR/server-timing/>).
    fn server_timing(&self, took: Duration) -> String {
        let mut text = String::with_capacity(96);
        let mut phase = |name: &str, duration: Duration, rest: &str| {
            let micros = duration.as_micros();
            let _ = write!(text, "{name};dur={}.{:03}{rest}, ", micros / 1000, micros % 1000);
        };
        if let Some(routed) = self.routed {
            phase("route", routed, "");
        }
        if let Some(timing) = &self.timing {
            if let Some(start) = timing.start {
                phase("isolate", start, if timing.from_empty_pool { ";desc=unpooled" } else { "" });
            }
            phase("function", timing.function, "");
        }
        if let Some(waited) = self.notes.waited.get() {
            phase("origin", Duration::from_nanos(waited.load(Ordering::Relaxed)), "");
        }
        phase("total", took, "");
        match self.notes.cached.get() {
            Some(cached) => {
                let _ = write!(text, "cache;desc={}", cached.as_str());
            }
            None => text.truncate(text.len() - ", ".len()),
        }
        text
    }

    /// Counts the start of an isolate, and tells who watches (`RUST_LOG=start=debug`).
    pub(crate) fn tell_start(&self, worker: &Worker) {
        let Some((timing, start)) = self.timing.and_then(|timing| Some((timing, timing.start?))) else { return };
        let pool = if timing.from_empty_pool { "empty" } else { "ready" };
        worker.counts().started(pool, [("total", start)]);
        worker.count_isolates();
        let function = self.function.as_ref().map_or("-", |function| &function.label);
        let (pop, request_id, total) = (&worker.state.name, id(&self.request_id), start.as_secs_f64() * 1e3);
        tracing::debug!(target: "start", %pop, %function, %request_id, pool, total);
    }

    /// One line in the access log.
    pub(crate) fn log(&self, state: &State, took: Duration, status: StatusCode, fault: Option<&Fault>) {
        let (pop, method, path, status) = (&state.name, &self.method, self.uri.path(), status.as_u16());
        let function = self.function.as_ref().map_or("-", |function| &function.label);
        let (request_id, millis) = (id(&self.request_id), took.as_secs_f64() * 1e3);
        let trace_id = self.trace.as_ref().map(Trace::id);
        match fault {
            Some(fault) if status >= 500 => {
                tracing::error!(target: "access", %pop, %method, path, status, %function, %request_id, trace_id, millis, code = fault.code(), "{fault}");
            }
            Some(fault) => {
                tracing::info!(target: "access", %pop, %method, path, status, %function, %request_id, trace_id, millis, code = fault.code());
            }
            None => {
                tracing::info!(target: "access", %pop, %method, path, status, %function, %request_id, trace_id, millis)
            }
        }
    }
}
