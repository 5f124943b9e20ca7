//! An isolate that holds a function: started once, then answering many requests, interleaved on one thread.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use crate::blank::Blank;
use crate::buffers::External;
use crate::code_cache::CodeCache;
use crate::extension::{number, unflatten};
use crate::fault::Fault;
use crate::invocation::{Answer, Body, Capabilities, Held, HeldBody, Invocation, News, Outcome, Payload};
use crate::limits::{Limit, Limits};
use crate::program::{Program, readable};
use crate::slot::{self, Slot, Watched};
use crate::worker::Start;
use deno_core::{JsRuntime, OpState, v8};
use http_body::Body as _;

mod compile;
mod memory;
mod response_body;
mod start;
mod turns;

pub use response_body::ResponseBody;

/// Why a request got no response, and whether the function had asked for the origin's in that case.
#[derive(Debug)]
pub struct Failure {
    /// What went wrong.
    pub fault: Fault,
    /// `ctx.passThroughOnException()` was called.
    pub pass_through: bool,
    /// The request's head, for whoever wants to send it elsewhere; `None` when it was never taken in.
    pub head: Option<http::request::Parts>,
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self { fault, pass_through: false, head: None }
    }
}

/// How V8 words an overflow of the stack: an error like others, which a function may catch.
const STACK_OVERFLOW: &str = "RangeError: Maximum call stack size exceeded";

pub(crate) struct Resident {
    pub(crate) program: Arc<Program>,
    boot: v8::Global<v8::Function>,
    dispatch: v8::Global<v8::Function>,
    release: v8::Global<v8::Function>,
    context: v8::Global<v8::Context>,
    state: Rc<RefCell<OpState>>,
    watched: Watched,
    heap_full: Arc<AtomicBool>,
    condemned: RefCell<Option<Fault>>,
    external: Arc<External>,
    looping: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    pub(crate) last_used: Cell<Instant>,
    /// Bytes it took when last measured, and when that was, as [`Self::last_used`] tells.
    footprint: Cell<(u64, Option<Instant>)>,
    /// The use after which its heap was last trimmed.
    trimmed: Cell<Option<Instant>>,
    blank: RefCell<Blank>,
}

impl Resident {
    /// Starts `program` in a blank isolate: load its modules, evaluate them, find the handler.
    pub(crate) async fn boot(
        mut blank: Blank,
        program: Arc<Program>,
        cache: Option<CodeCache>,
        slot: Arc<Slot>,
    ) -> Result<(Rc<Self>, Start), Fault> {
        blank.loader.claim(Arc::clone(&program), cache);
        blank.heap.grant(program.limits.get(Limit::Heap));
        blank.clock.start();
        let limit = usize::try_from(program.limits.get(Limit::Buffers)).unwrap_or(usize::MAX);
        blank.isolate.buffers.limit.store(limit, Ordering::Relaxed);
        let (handle, external, state, context) = blank.isolate.with(|runtime| {
            let isolate = runtime.v8_isolate();
            let external = Arc::new(External::new(isolate, &program.limits));
            isolate.set_slot(Arc::clone(&external));
            (isolate.thread_safe_handle(), external, runtime.op_state(), runtime.main_context())
        });
        {
            let mut state = state.borrow_mut();
            let held = state.borrow_mut::<Held>();
            held.buffers = Arc::clone(&blank.isolate.buffers);
            held.limits = program.limits.clone();
        }
        let (heap_full, known) = (Arc::clone(&blank.heap.full), Arc::clone(&program));
        let watched = Watched::new(slot, slot::Isolate { handle, heap_full, program: known });
        let resident = Rc::new(Self {
            boot: blank.boot.clone(),
            dispatch: blank.dispatch.clone(),
            release: blank.release.clone(),
            context,
            external,
            state,
            watched,
            heap_full: Arc::clone(&blank.heap.full),
            condemned: RefCell::new(None),
            looping: Cell::new(false),
            waker: RefCell::new(None),
            last_used: Cell::new(Instant::now()),
            footprint: Cell::new((0, None)),
            trimmed: Cell::new(None),
            blank: RefCell::new(blank),
            program,
        });
        let start = resident.start().await?;
        resident.measure();
        Ok((resident, start))
    }

    /// Runs a stretch of JavaScript that may use `budget` of processor time; says how much it used.
    fn segment<R>(&self, limit: Limit, budget: Duration, body: impl FnOnce(&mut JsRuntime) -> R) -> (R, Duration) {
        let mut blank = self.blank.borrow_mut();
        blank.isolate.buffers.refused.store(false, Ordering::Relaxed);
        blank.clock.set(self.watched.begin(budget));
        let (result, ended, hoarded) = blank.isolate.with(|runtime| {
            let result = body(runtime);
            let ended = self.watched.end();
            let hoarded = self.external.look(runtime.v8_isolate());
            (result, ended, self.external.over.get().copied().or(hoarded))
        });
        if ended.killed {
            self.condemn(self.broke(limit));
        }
        if let Some(limit) = hoarded {
            self.condemn(self.broke(limit));
        }
        if self.heap_full.load(Ordering::Relaxed) {
            // A refused buffer makes V8 collect everything, at the end of which it says that the heap is full, too.
            let refused = blank.isolate.buffers.refused.load(Ordering::Relaxed);
            self.condemn(self.broke(if refused { Limit::Buffers } else { Limit::Heap }));
        }
        (result, ended.used)
    }

    fn broke(&self, limit: Limit) -> Fault {
        Fault::Limit { limit, value: self.program.limits.get(limit) }
    }

    /// No request goes to this isolate any more; those that wait for it fail with the first cause.
    fn condemn(&self, fault: Fault) {
        self.condemned.borrow_mut().get_or_insert(fault);
    }

    pub(crate) fn is_condemned(&self) -> bool {
        self.condemned.borrow().is_some()
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.held(|held| held.invocations.len())
    }

    /// Gives a request, to bring it, what the function logged while no request was known to have caused it.
    pub(crate) fn bring_own_log(&self, capabilities: &dyn Capabilities) {
        for (level, line) in self.held(|held| std::mem::take(&mut held.own_log)) {
            capabilities.own_log(level, &line);
        }
    }

    fn held<R>(&self, body: impl FnOnce(&mut Held) -> R) -> R {
        body(self.state.borrow_mut().borrow_mut::<Held>())
    }

    #[cfg(test)]
    pub(crate) fn take_touched(&self) -> Vec<u32> {
        self.held(Held::take_touched)
    }

    fn limits(&self) -> &Limits {
        &self.program.limits
    }

    /// One request, from its head to the head of the response. The response's body may go on after.
    pub(crate) async fn invoke(
        self: &Rc<Self>,
        request: http::Request<Body>,
        capabilities: Rc<dyn Capabilities>,
    ) -> Result<http::Response<ResponseBody>, Failure> {
        let (live, method, body) = self.admit(request, capabilities)?;
        let limit = self.limits().time(Limit::Cpu);
        let ((), used) = self.segment(Limit::Cpu, limit, |runtime| self.dispatch(runtime, live.id, method, body));
        let outcome = self.outcome(&live, used).await;
        match outcome.and_then(|outcome| self.conclude(&live, outcome)) {
            Ok(response) => {
                let limit = self.limits().get(Limit::ResponseBody);
                Ok(response.map(|payload| ResponseBody { payload, left: limit, limit, live }))
            }
            Err(fault) => Err(self.give_up(&live, fault)),
        }
    }

    /// What the handler answers: at once, or after more turns of the event loop.
    async fn outcome(self: &Rc<Self>, live: &Live, used: Duration) -> Result<Outcome, Fault> {
        let (answer, goes_on) = self.held(|held| {
            held.charge(live.id, used, self.limits().time(Limit::Cpu));
            let answer = held.poll_answer(live.id, None);
            // What goes on after the answer (a streamed body, waitUntil) needs the event loop.
            let goes_on = !held.writers.is_empty() || held.invocations.get_mut(live.id).is_some_and(|i| i.waits > 0);
            (answer, goes_on)
        });
        if let Some(fault) = &*self.condemned.borrow() {
            // Whatever it answered, it went over a limit for it.
            return Err(fault.clone());
        }
        if goes_on || answer.is_pending() {
            self.keep_looping();
        }
        let answer = match answer {
            Poll::Ready(answer) => answer,
            Poll::Pending => {
                let answered = poll_fn(|cx| self.held(|held| held.poll_answer(live.id, Some(cx.waker()))));
                let waited = tokio::time::timeout(self.limits().time(Limit::Wall), answered).await;
                // Nothing runs when the time is over, so the others in this isolate can go on.
                waited.map_err(|_| self.broke(Limit::Wall))?
            }
        };
        answer.ok_or_else(|| match (&*self.condemned.borrow(), self.limit_broken_by(live)) {
            (Some(fault), _) => fault.clone(),
            (None, Some(limit)) => self.broke(limit),
            (None, None) => Fault::NeverAnswered,
        })
    }

    /// Notes a limit that a request broke while its response was under way.
    fn note_broken(&self, live: &Live, limit: Limit) {
        self.held(|held| held.invocations.get_mut(live.id).map(|it| *it.broke.get_or_insert(limit)));
    }

    fn limit_broken_by(&self, live: &Live) -> Option<Limit> {
        self.held(|held| held.invocations.get_mut(live.id)?.broke)
    }

    /// Ends an invocation whatever it still waits for.
    fn give_up(&self, live: &Live, fault: Fault) -> Failure {
        let ended = self.held(|held| {
            held.invocations.get_mut(live.id)?.broke = None;
            held.end(live.id)
        });
        match ended {
            Some(ended) => Failure { fault, pass_through: ended.pass_through, head: Some(ended.head) },
            None => fault.into(),
        }
    }

    /// Takes a request in: what holds it, the number of its method, and the id of its body.
    fn admit(
        self: &Rc<Self>,
        request: http::Request<Body>,
        capabilities: Rc<dyn Capabilities>,
    ) -> Result<(Live, u32, u32), Fault> {
        if let Some(fault) = &*self.condemned.borrow() {
            return Err(fault.clone());
        }
        let (head, body) = request.into_parts();
        let method = number(&head.method);
        let limits = self.limits();
        let admitted = self.held(|held| {
            if held.invocations.len() as u64 >= limits.get(Limit::Concurrency) {
                return None;
            }
            let body = match http_body::Body::is_end_stream(&body) {
                true => 0,
                false => held.bodies.insert(HeldBody::new(0, body))?,
            };
            let id = held.invocations.insert(Invocation::new(head, body, capabilities, limits))?;
            if let Some(body) = held.bodies.get_mut(body) {
                body.owner = id;
            }
            Some((id, body))
        });
        let (id, body) = admitted.ok_or_else(|| self.broke(Limit::Concurrency))?;
        Ok((Live { resident: Rc::clone(self), id, finished: false }, method, body))
    }

    fn dispatch(&self, runtime: &mut JsRuntime, id: u32, method: u32, body: u32) {
        // What `deno_core::scope!` does, without a handle of its own to the context.
        v8::scope!(let scope, runtime.v8_isolate());
        let context = v8::Local::new(scope, &self.context);
        let scope = &mut v8::ContextScope::new(scope, context);
        v8::tc_scope!(let scope, scope);
        let dispatch = v8::Local::new(scope, &self.dispatch);
        let this = v8::undefined(scope).into();
        let arguments = [id, method, body].map(|number| v8::Integer::new_from_unsigned(scope, number).into());
        // Whatever it throws, it has reported; only a termination gets out, and the segment knows of that.
        let _ = dispatch.call(scope, this, &arguments);
        scope.perform_microtask_checkpoint();
        // The stretch is this request's, whichever ops were done in it.
        self.held(Held::take_touched);
    }

    /// Turns what the handler answered into a response.
    fn conclude(&self, live: &Live, outcome: Outcome) -> Result<http::Response<Payload>, Fault> {
        let (status, headers, body) = match outcome {
            Outcome::Response { status, headers, body } => (status, headers, body),
            Outcome::Threw(message) => {
                let refused = self.blank.borrow().isolate.buffers.refused.load(Ordering::Relaxed);
                let overflowed = message.starts_with(STACK_OVERFLOW);
                let broke = self.limit_broken_by(live).or(refused.then_some(Limit::Buffers));
                let broke = broke.or(overflowed.then_some(Limit::Stack));
                return Err(broke.map_or_else(|| Fault::Threw(readable(&message)), |limit| self.broke(limit)));
            }
            Outcome::Invalid(message) => return Err(Fault::InvalidResponse(readable(&message))),
        };
        let mut response = http::Response::new(body);
        *response.status_mut() = http::StatusCode::from_u16(status)
            .ok()
            .filter(|status| !status.is_informational())
            .ok_or_else(|| Fault::InvalidResponse(format!("{status} is no status of a final response")))?;
        if headers.len() as u64 > self.limits().get(Limit::Headers) {
            return Err(self.broke(Limit::Headers));
        }
        unflatten(headers, response.headers_mut()).map_err(Fault::InvalidResponse)?;
        let length = match response.body() {
            Payload::Whole(bytes) => bytes.len() as u64,
            Payload::Stream(body) => body.size_hint().lower(),
        };
        if length > self.limits().get(Limit::ResponseBody) {
            return Err(self.broke(Limit::ResponseBody));
        }
        Ok(response)
    }
}

/// Holds an invocation from its admission to the end of its response's body, or to the client's departure.
struct Live {
    resident: Rc<Resident>,
    id: u32,
    /// The client has all of the response.
    finished: bool,
}

impl Drop for Live {
    fn drop(&mut self) {
        let resident = &self.resident;
        let (waits, news) = resident.held(|held| {
            let mut waits = false;
            if let Some(invocation) = held.invocations.get_mut(self.id) {
                invocation.released = true;
                invocation.answer = Answer::Closed;
                waits = invocation.waits > 0;
                if invocation.is_kept && !self.finished {
                    held.news.push(News::Gone(self.id));
                }
                held.settle(self.id);
            }
            (waits, !held.news.is_empty())
        });
        if waits {
            let (waiting, id) = (Rc::clone(resident), self.id);
            let task = deno_core::unsync::spawn(async move {
                tokio::time::sleep(waiting.limits().time(Limit::WaitUntil)).await;
                waiting.held(|held| {
                    if let Some(invocation) = held.invocations.get_mut(id) {
                        invocation.giving_up = None;
                        invocation.broke.get_or_insert(Limit::WaitUntil);
                        invocation.capabilities.log(3, "waitUntil: still pending at its limit, given up");
                        held.end(id);
                    }
                });
                waiting.wake();
            });
            resident.held(|held| {
                if let Some(invocation) = held.invocations.get_mut(self.id) {
                    invocation.giving_up = Some(task.abort_handle());
                }
            });
        }
        if news && !resident.is_condemned() {
            resident.keep_looping();
        }
        resident.wake();
    }
}
