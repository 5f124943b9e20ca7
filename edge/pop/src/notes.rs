//! What a request uses, and its line in the access log: written when all of it is over, the last byte of its body and what
//! the function still did after it. Then everything is known, and the meter gets the very numbers of the line.

use std::cell::{Cell, OnceCell};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use capacity::fallback::Choice;
use capacity::usage::Usage;
use http::{HeaderValue, Method, StatusCode, Uri};

use crate::fault::Fault;
use crate::function::{Cohort, Function};
use crate::request::id;
use crate::state::State;
use crate::trace::Trace;
use crate::worker::Worker;

/// What is written down about a request on its way, by its function's capabilities, by its body, and at its end. Whoever
/// may still add to it holds it: with the last of them, the line is written.
#[derive(Default)]
pub(crate) struct Notes {
    /// What the cache did with the last `fetch()`.
    pub(crate) cached: Cell<Option<cache::Outcome>>,
    asked: OnceCell<Arc<Asked>>,
    /// Where the function was sent, and why, where there is a region.
    pub(crate) placed: Cell<Option<Choice>>,
    /// Time that the region took for the head of its response.
    pub(crate) region: Cell<Option<Duration>>,
    /// Processor time that was charged to it.
    pub(crate) cpu: Cell<Duration>,
    /// The last cohort that was asked for.
    cohort: Cell<Cohort>,
    /// Since when the function runs for it.
    running: Cell<Option<Instant>>,
    /// How long it ran.
    ran: Cell<Option<Duration>>,
    /// Bytes of the response's body that were given to the connection.
    pub(crate) sent: Cell<u64>,
    pub(crate) end: Cell<End>,
    line: Cell<Option<(Rc<Worker>, Line)>>,
    /// Where the request is under way.
    worker: Option<Rc<Worker>>,
}

/// How the body of a response ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum End {
    /// The client left, or took too long.
    #[default]
    Cut,
    /// Its source failed.
    Broken,
    Whole,
}

impl End {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Cut => "cut",
            Self::Broken => "broken",
            Self::Whole => "whole",
        }
    }
}

impl Notes {
    /// Of a request that has come to this worker.
    pub(crate) fn of(worker: &Rc<Worker>) -> Self {
        worker.state.load.enter(worker.index, worker.state.micros());
        let mut notes = Self::default();
        notes.worker = Some(Rc::clone(worker));
        notes
    }

    /// What is noted of requests to origins, to be added to; also by those that go on when the client has its answer.
    pub(crate) fn asked(&self) -> &Arc<Asked> {
        self.asked.get_or_init(Arc::default)
    }

    /// The time spent waiting for origins, if anybody did.
    pub(crate) fn waited(&self) -> Option<Duration> {
        self.asked.get().map(|asked| Duration::from_nanos(asked.waited.load(Ordering::Relaxed)))
    }

    /// Takes over what origins have said they did so far: whoever is told of it counts it.
    pub(crate) fn take_reads(&self) -> u64 {
        self.asked.get().map_or(0, |asked| asked.reads.swap(0, Ordering::Relaxed))
    }

    /// Processor time was charged to the request.
    pub(crate) fn charge(&self, cpu: Duration) {
        self.cpu.set(self.cpu.get() + cpu);
    }

    /// The request's client is in this cohort.
    pub(crate) fn assign(&self, cohort: Cohort) {
        self.cohort.set(cohort);
    }

    /// The function runs, now.
    pub(crate) fn run(&self) {
        self.running.set(Some(Instant::now()));
    }

    /// Nothing of it runs any more.
    pub(crate) fn rest(&self) {
        if let Some(since) = self.running.take() {
            self.ran.set(Some(self.ran.get().unwrap_or_default() + since.elapsed()));
        }
    }

    /// The response is made, or nobody is there to have one: what remains is to be added up.
    pub(crate) fn close(&self, worker: Rc<Worker>, line: Line) {
        self.line.set(Some((worker, line)));
    }
}

impl Drop for Notes {
    fn drop(&mut self) {
        if let Some(worker) = &self.worker {
            worker.state.load.leave(worker.index, worker.state.micros());
        }
        let Some((worker, mut line)) = self.line.take() else { return };
        self.rest();
        line.end = self.end.get();
        line.placed = self.placed.get();
        line.cohort = self.cohort.get();
        line.usage = Usage {
            requests: 1,
            refused: u64::from(matches!(line.fault, Some(Fault::OverBudget { .. }))),
            cpu_us: micros(self.cpu.get()),
            bytes_out: self.sent.get(),
            ..Usage::default()
        };
        if let Some(ran) = self.ran.get() {
            line.usage.invocations = 1;
            line.usage.wall_us = micros(ran);
            let heap_mb = line.function.as_ref().map_or(0, |function| function.heap_mb);
            line.usage.memory_mb_ms = line.usage.wall_us.saturating_mul(heap_mb).div_ceil(1000);
        }
        match self.asked.take() {
            None => line.write(&worker.state, worker.index),
            // A request to an origin may still be under way, on another thread even.
            Some(asked) => drop(asked.line.set((Arc::clone(&worker.state), worker.index, line))),
        }
    }
}

/// What one request has asked of origins, through the cache.
#[derive(Default)]
pub(crate) struct Asked {
    /// Nanoseconds.
    waited: AtomicU64,
    /// Responses that the cache was given.
    fills: AtomicU64,
    /// Reads of the object store, as the origin says.
    reads: AtomicU64,
    line: OnceLock<(Arc<State>, usize, Line)>,
}

impl Asked {
    /// An origin was waited for; `filled` when it answered, and how many reads that has cost it.
    pub(crate) fn waited(&self, took: Duration, filled: Option<u64>) {
        self.waited.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        if let Some(reads) = filled {
            self.fills.fetch_add(1, Ordering::Relaxed);
            self.reads.fetch_add(reads, Ordering::Relaxed);
        }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if let Some((state, worker, mut line)) = self.line.take() {
            (line.usage.cache_fills, line.usage.object_reads) = (*self.fills.get_mut(), *self.reads.get_mut());
            line.write(&state, worker);
        }
    }
}

/// A line of the access log.
pub(crate) struct Line {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) request_id: HeaderValue,
    pub(crate) trace: Option<Trace>,
    pub(crate) function: Option<Arc<Function>>,
    pub(crate) status: StatusCode,
    pub(crate) fault: Option<Fault>,
    /// From the end of the request's head to the head of the response.
    pub(crate) took: Duration,
    /// Where the function was sent, where there is a region.
    pub(crate) placed: Option<Choice>,
    pub(crate) cohort: Cohort,
    pub(crate) end: End,
    pub(crate) usage: Usage,
}

impl Line {
    /// Writes it, and has the meter of the worker count it.
    fn write(self, state: &State, worker: usize) {
        let Self { method, uri, request_id, trace, function, status, fault, took, placed, cohort, end, usage } = &self;
        let (place, why) = (placed.map(|choice| choice.place.as_str()), placed.map(|choice| choice.why.as_str()));
        let (pop, path, status, request_id) = (&state.name, uri.path(), status.as_u16(), id(request_id));
        let (trace_id, millis) = (trace.as_ref().map(Trace::id), took.as_secs_f64() * 1e3);
        let (label, code) =
            (function.as_ref().map_or("-", |function| &function.label), fault.as_ref().map(Fault::code));
        let cohort_label = function.as_ref().and_then(|function| function.cohort_label(*cohort));
        let (bytes, end) = (usage.bytes_out, (*end != End::Whole).then(|| end.as_str()));
        let ran = |value: u64| (usage.invocations > 0).then_some(value);
        let some = |value: u64| (value > 0).then_some(value);
        let (cpu_us, wall_us, memory_mb_ms) = (some(usage.cpu_us), ran(usage.wall_us), ran(usage.memory_mb_ms));
        let (fills, reads) = (some(usage.cache_fills), some(usage.object_reads));
        // Both have the same fields.
        macro_rules! access {
            ($level:ident $(, $words:expr)*) => {
                tracing::$level!(target: "access", %pop, %method, path, status, function = %label, request_id = %request_id,
                    trace_id, place, why, millis, code, cohort = cohort_label, bytes, end, cpu_us, wall_us, memory_mb_ms, fills, reads
                    $(, $words)*)
            };
        }
        match fault {
            Some(fault) if status >= 500 => access!(error, "{fault}"),
            _ => access!(info),
        }
        state.meter.add(worker, function.as_ref(), *cohort, *usage);
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
