//! What is known of a request when it is answered: the response, and its timing.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use capacity::fallback::Choice;
use capacity::usage::Usage;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Response, StatusCode, Uri};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::Full;
use isolate::{BoxError, CacheUse, Failure, Timing};

use crate::cell::CellBody;
use crate::fault::Fault;
use crate::function::{Cohort, Function};
use crate::head;
use crate::notes::{End, Line, Notes};
use crate::request::id;
use crate::state::State;
use crate::trace::Trace;
use crate::worker::Worker;

/// A body for the client, by its source.
pub(crate) enum ClientBody {
    Function(isolate::ResponseBody),
    /// Of a function in a cell.
    Cell(CellBody),
    Cache(cache::Body),
    /// Of a function in a region.
    Region(cache::OriginBody),
    /// What the PoP itself says.
    Own(Full<Bytes>),
    /// The head alone, with the length that the whole would have had (RFC 9110 section 9.3.2).
    Head(Option<u64>),
}

impl ClientBody {
    pub(crate) fn own(bytes: Bytes) -> Self {
        Self::Own(Full::new(bytes))
    }

    pub(crate) fn head_only(self) -> Self {
        Self::Head(self.size_hint().exact())
    }
}

impl http_body::Body for ClientBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Function(body) => Pin::new(body).poll_frame(cx),
            Self::Cell(body) => Pin::new(body).poll_frame(cx),
            Self::Cache(body) => Pin::new(body).poll_frame(cx),
            Self::Region(body) => Pin::new(body).poll_frame(cx),
            Self::Own(body) => Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
            Self::Head(_) => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Function(body) => body.is_end_stream(),
            Self::Cell(body) => body.is_end_stream(),
            Self::Cache(body) => body.is_end_stream(),
            Self::Region(body) => body.is_end_stream(),
            Self::Own(body) => body.is_end_stream(),
            Self::Head(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Function(body) => body.size_hint(),
            Self::Cell(body) => body.size_hint(),
            Self::Cache(body) => body.size_hint(),
            Self::Region(body) => body.size_hint(),
            Self::Own(body) => body.size_hint(),
            Self::Head(length) => length.map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}

/// What came of an invocation, wherever it ran.
pub(crate) struct Invoked {
    /// The response, or why there is none.
    pub(crate) result: Result<Response<ClientBody>, Unanswered>,
    /// Where the time went; `None` when nobody is left to tell.
    pub(crate) timing: Option<Timing>,
}

/// Why an invocation gave no response.
pub(crate) struct Unanswered {
    pub(crate) fault: Fault,
    /// `ctx.passThroughOnException()` was called.
    pub(crate) pass_through: bool,
    /// The request's head, for whoever wants to send it elsewhere; `None` when it was never taken in.
    pub(crate) head: Option<Parts>,
}

impl From<Failure> for Unanswered {
    fn from(Failure { fault, pass_through, head }: Failure) -> Self {
        Self { fault: fault.into(), pass_through, head }
    }
}

const POP: HeaderName = HeaderName::from_static("x-skerry-pop");
const VERSION: HeaderName = HeaderName::from_static("x-skerry-version");
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// What is known of a request, gathered along its way. Dropped, it leaves the notes what their line needs.
pub(crate) struct Record {
    worker: Rc<Worker>,
    pub(crate) began: Instant,
    pub(crate) request_id: HeaderValue,
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    /// The trace it belongs to, as a peer says that is believed.
    pub(crate) trace: Option<Trace>,
    pub(crate) routed: Option<Duration>,
    pub(crate) function: Option<Arc<Function>>,
    pub(crate) timing: Option<Timing>,
    /// What the cache in front did with it, where there is one.
    pub(crate) front: Option<cache::Outcome>,
    pub(crate) notes: Rc<Notes>,
    /// Another PoP asks, whose response it becomes.
    pub(crate) for_pop: bool,
    /// How it was answered, and after how long; `None`: its client has left before that.
    answered: Option<(StatusCode, Option<Fault>, Duration)>,
}

impl Record {
    pub(crate) fn new(worker: Rc<Worker>, request_id: HeaderValue, method: Method, uri: Uri) -> Self {
        let notes = Rc::new(Notes::of(&worker));
        Self {
            worker,
            began: Instant::now(),
            request_id,
            method,
            uri,
            trace: None,
            routed: None,
            function: None,
            timing: None,
            front: None,
            notes,
            for_pop: false,
            answered: None,
        }
    }

    /// The request has its answer.
    pub(crate) fn answer(&mut self, status: StatusCode, fault: Option<Fault>, took: Duration) {
        self.answered = Some((status, fault, took));
    }

    /// Adds to every response what this PoP has to say about it.
    pub(crate) fn describe(&self, state: &State, took: Duration, response: &mut Response<ClientBody>) {
        if self.for_pop {
            return;
        }
        let headers = response.headers_mut();
        headers.reserve(5);
        headers.insert(POP, state.name_value.clone());
        headers.insert(head::REQUEST_ID, self.request_id.clone());
        if let Some(function) = &self.function {
            headers.insert(VERSION, function.label_value.clone());
        }
        // Beside what the function or the origin measured.
        if let Ok(value) = HeaderValue::try_from(self.server_timing(took)) {
            headers.append(SERVER_TIMING, value);
        }
    }

    /// The phases, in milliseconds (<https://www.w3.org/TR/server-timing/>).
    fn server_timing(&self, took: Duration) -> String {
        let mut text = String::with_capacity(128);
        let mut phase = |name: &str, duration: Duration, rest: &str| {
            text.push_str(name);
            text.push_str(";dur=");
            push_millis(&mut text, duration);
            text.push_str(rest);
            text.push_str(", ");
        };
        if let Some(routed) = self.routed {
            phase("route", routed, "");
        }
        if let Some(timing) = &self.timing {
            if let Some(start) = timing.start {
                phase("start", start.total, "");
                phase("fetch", start.load, "");
                phase("isolate", start.isolate, if start.pooled { "" } else { ";desc=unpooled" });
                phase("compile", start.compile, if start.code_cache == CacheUse::Used { ";desc=cached" } else { "" });
                phase("evaluate", start.evaluate, "");
            }
            phase("function", timing.function, "");
        }
        if let Some(waited) = self.notes.waited() {
            phase("origin", waited, "");
        }
        if let Some(region) = self.notes.region.get() {
            phase("region", region, "");
        }
        phase("total", took, "");
        if let Some(Choice { place, why }) = self.notes.placed.get() {
            let parts = ["place;desc=\"", place.as_str(), ": ", why.as_str(), "\", "];
            parts.into_iter().for_each(|part| text.push_str(part));
        }
        if let Some(front) = self.front {
            text.push_str("front;desc=");
            text.push_str(front.as_str());
            text.push_str(", ");
        }
        match self.notes.cached.get() {
            Some(cached) => {
                text.push_str("cache;desc=");
                text.push_str(cached.as_str());
            }
            None => text.truncate(text.len() - ", ".len()),
        }
        text
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if self.uri.path() == crate::HEALTH_PATH {
            return;
        }
        let (status, fault, took) = self.answered.take().unwrap_or_else(|| {
            let fault = Fault::ClientGone;
            (fault.status(), Some(fault), self.began.elapsed())
        });
        let line = Line {
            method: std::mem::take(&mut self.method),
            uri: std::mem::take(&mut self.uri),
            request_id: std::mem::replace(&mut self.request_id, HeaderValue::from_static("-")),
            trace: self.trace.take(),
            function: self.function.take(),
            status,
            fault,
            took,
            placed: None,
            cohort: Cohort::default(),
            end: End::default(),
            usage: Usage::default(),
        };
        self.notes.close(Rc::clone(&self.worker), line);
    }
}

/// Counts the start of an isolate, and tells who watches (`RUST_LOG=start=debug`).
pub(crate) fn tell_start(worker: &Worker, function: &Function, request_id: &HeaderValue, timing: &Timing) {
    let Some(start) = timing.start else { return };
    if start.waited {
        return worker.counts().waited(start.total);
    }
    let pool = if start.pooled { "ready" } else { "empty" };
    let phases = [
        ("total", start.total),
        ("fetch", start.load),
        ("isolate", start.isolate),
        ("compile", start.compile),
        ("evaluate", start.evaluate),
        ("first_dispatch", timing.function),
    ];
    worker.counts().started(pool, start.code_cache.as_str(), phases);
    if start.code_cache == CacheUse::Rejected {
        function.refresh_code_cache();
    }
    worker.count_isolates();
    let function = &function.label;
    let (pop, request_id, code_cache) = (&worker.state.name, id(request_id), start.code_cache.as_str());
    let [total, fetch, isolate, compile, evaluate, first_dispatch] = phases.map(|(_, took)| took.as_secs_f64() * 1e3);
    tracing::debug!(target: "start", %pop, %function, %request_id, pool, code_cache, total, fetch, isolate, compile, evaluate, first_dispatch);
}

/// Appends a duration in milliseconds with three places: what `format!` does too, in more time than the rest of a head.
fn push_millis(text: &mut String, duration: Duration) {
    let mut digits = [b'0'; 24];
    let (mut at, mut left) = (digits.len(), duration.as_micros().min(u128::from(u64::MAX)) as u64);
    while left > 0 || at > digits.len() - ".000".len() - 1 {
        at -= 1;
        if at == digits.len() - ".000".len() {
            digits[at] = b'.';
        } else {
            digits[at] = b'0' + (left % 10) as u8;
            left /= 10;
        }
    }
    text.push_str(std::str::from_utf8(&digits[at..]).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_have_three_places() {
        for (micros, expected) in
            [(0, "0.000"), (7, "0.007"), (999, "0.999"), (1000, "1.000"), (1_234_567, "1234.567"), (10_010, "10.010")]
        {
            let mut text = String::new();
            push_millis(&mut text, Duration::from_micros(micros));
            assert_eq!(text, expected);
        }
        let mut text = String::new();
        push_millis(&mut text, Duration::MAX);
        assert_eq!(text, "18446744073709551.615");
    }
}
