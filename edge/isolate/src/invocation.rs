//! One request in one isolate: what JavaScript may ask about it, and the answer it gives.

use std::collections::HashMap;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use deno_error::JsErrorBox;
use futures::future::LocalBoxFuture;
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};
use tokio::task::AbortHandle;

use crate::buffers::Buffers;
use crate::extension::gone;
use crate::limits::{Limit, Limits};
use crate::table::Table;

/// Any error of a body or a host call.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A body on its way into an isolate, or out of it to the platform.
pub type Body = Pin<Box<dyn http_body::Body<Data = Bytes, Error = BoxError> + Send>>;

/// What the platform lets one invocation do. Made per request, so that it knows which request it serves.
pub trait Capabilities {
    /// The absolute URL of the request, whose head has the target as it came.
    fn url(&self, head: &http::request::Parts) -> String;

    /// Adds to the request's fields what the function shall find there. Called when they are first looked at: most
    /// functions look at none.
    fn complete(&self, headers: &mut http::HeaderMap);

    /// The field of this lower-case name as [`Capabilities::complete`] would set it; `None` for one that it leaves alone.
    /// Functions that look at a field or two have no need of the others.
    fn completed(&self, _name: &str) -> Option<http::HeaderValue> {
        None
    }

    /// What the function sees as `request.cf`, as JSON.
    fn cf(&self) -> String;

    /// `fetch()`: `cf` is empty, or the JSON of an object with what the call says of caching: its options `cf` and `cache`,
    /// of the former those that name the cache, as the function wrote them. The error is the message of the `TypeError`. Does
    /// nothing before it is polled: it may have to wait for others.
    fn fetch(
        self: Rc<Self>,
        request: http::Request<Body>,
        cf: String,
    ) -> LocalBoxFuture<'static, Result<http::Response<Body>, String>>;

    /// A call of a cache that belongs to the function (the Cache API), by the cache's name. `request` is the key: its URL,
    /// and the fields that select and shape the response. `None` where there was nothing. The error is the message of the
    /// `TypeError`.
    fn cache(
        self: Rc<Self>,
        name: String,
        request: http::Request<()>,
        call: CacheCall,
    ) -> LocalBoxFuture<'static, Result<Option<http::Response<Body>>, String>>;

    /// A call of a binding on `env` (`binding` is its name; empty for `skerry:edge`). Arguments and result are text,
    /// by convention JSON; an empty result asks for [`Capabilities::call_async`] instead.
    ///
    /// # Errors
    /// The message of the `TypeError` that the function gets.
    fn call(&self, binding: &str, method: &str, argument: &str) -> Result<String, String>;

    /// As [`Capabilities::call`], for what has to wait.
    fn call_async(
        &self,
        binding: String,
        method: String,
        argument: String,
    ) -> LocalBoxFuture<'static, Result<String, String>>;

    /// One line of the function's log. `level`: 1 debug, 2 info, 3 warn, 4 error.
    fn log(&self, level: u8, text: &str);

    /// As [`Capabilities::log`], for what the function wrote while no request was known to have caused it: this one only
    /// brings it.
    fn own_log(&self, level: u8, text: &str);

    /// Processor time that was charged to the request. It may go on after the response.
    fn used(&self, _cpu: Duration) {}

    /// The request broke a limit and has a response all the same: it was under way already, or the function went on
    /// without. Where there is no response, the limit is the invocation's fault.
    fn broke(&self, _limit: Limit) {}
}

/// What a function does with a cache.
pub enum CacheCall {
    /// Takes the response that answers the request.
    Match,
    /// Stores this one, when its body has arrived.
    Put(http::Response<Body>),
    /// Removes what is stored; the answer is an empty response where there was one.
    Delete,
}

/// What came out of a handler.
pub(crate) enum Outcome {
    Response { status: u16, headers: Bytes, body: Payload },
    Threw(String),
    Invalid(String),
}

/// A response's body as the handler gave it.
pub(crate) enum Payload {
    /// All of it; empty for none.
    Whole(Bytes),
    Stream(Body),
}

/// The way from JavaScript that answers to the request that waits for it.
pub(crate) enum Answer {
    /// Not given yet. Whoever waits is woken.
    Awaited(Option<Waker>),
    Given(Outcome),
    /// Taken, or never to come.
    Closed,
}

impl Answer {
    /// Gives it. A second answer, or one that nobody wants any more, is dropped with its body.
    pub(crate) fn give(&mut self, outcome: Outcome) {
        if self.is_awaited() {
            self.replace(Self::Given(outcome));
        }
    }

    /// None is to come: whoever waits learns so. One that was given stays.
    pub(crate) fn close(&mut self) {
        if self.is_awaited() {
            self.replace(Self::Closed);
        }
    }

    pub(crate) fn is_awaited(&self) -> bool {
        matches!(self, Self::Awaited(_))
    }

    fn replace(&mut self, new: Self) {
        if let Self::Awaited(Some(waker)) = std::mem::replace(self, new) {
            waker.wake();
        }
    }

    /// Takes it, once there is one: `None` when there never will be.
    pub(crate) fn poll(&mut self, waker: Option<&Waker>) -> Poll<Option<Outcome>> {
        if let Self::Awaited(waiting) = self {
            *waiting = waker.cloned();
            return Poll::Pending;
        }
        Poll::Ready(match std::mem::replace(self, Self::Closed) {
            Self::Given(outcome) => Some(outcome),
            _ => None,
        })
    }
}

/// One request that JavaScript knows by a number.
pub(crate) struct Invocation {
    pub(crate) head: http::request::Parts,
    /// The head's fields have been completed.
    pub(crate) complete: bool,
    pub(crate) body: u32,
    pub(crate) capabilities: Rc<dyn Capabilities>,
    pub(crate) answer: Answer,
    /// Promises given to `waitUntil` that have not settled.
    pub(crate) waits: u32,
    /// The response is finished, or nobody wants it: only `waits` keep this.
    pub(crate) released: bool,
    /// Ends the wait for `waitUntil` at its limit.
    pub(crate) giving_up: Option<AbortHandle>,
    /// Processor time charged so far.
    pub(crate) cpu: Duration,
    /// Calls of `fetch()` left.
    pub(crate) subrequests: u64,
    /// Its `fetch()` calls that may wait for their response at once.
    connections: Option<Rc<Semaphore>>,
    /// Timers and operations under way.
    pending: u64,
    /// Bytes of log left.
    pub(crate) log_bytes: u64,
    pub(crate) pass_through: bool,
    /// The first limit that an op found broken.
    pub(crate) broke: Option<Limit>,
    /// It is among [`Held::touched`].
    is_touched: bool,
    /// JavaScript keeps something by its number: timers, the signal of its request.
    pub(crate) is_kept: bool,
    /// Ids of the bodies made for it.
    owned: Vec<u32>,
    /// Tells what its ops wait for that nobody waits for the result any more.
    over: Option<Rc<Notify>>,
}

impl Invocation {
    pub(crate) fn new(
        head: http::request::Parts,
        body: u32,
        capabilities: Rc<dyn Capabilities>,
        limits: &Limits,
    ) -> Self {
        Self {
            head,
            complete: false,
            body,
            capabilities,
            answer: Answer::Awaited(None),
            waits: 0,
            released: false,
            giving_up: None,
            cpu: Duration::ZERO,
            subrequests: limits.get(Limit::Subrequests),
            connections: None,
            pending: 0,
            log_bytes: limits.get(Limit::Log),
            pass_through: false,
            broke: None,
            is_touched: false,
            is_kept: false,
            owned: Vec::new(),
            over: None,
        }
    }

    /// The places of its `fetch()` calls that wait for a response: `most` of them.
    pub(crate) fn connections(&mut self, most: u64) -> Rc<Semaphore> {
        let new = || Rc::new(Semaphore::new(usize::try_from(most).unwrap_or(Semaphore::MAX_PERMITS)));
        Rc::clone(self.connections.get_or_insert_with(new))
    }

    /// What its ops wait on beside their own work: it is told when the invocation is over.
    pub(crate) fn over(&mut self) -> Rc<Notify> {
        Rc::clone(self.over.get_or_insert_with(Rc::default))
    }
}

/// A body as JavaScript holds it: by number.
pub(crate) struct HeldBody {
    /// The invocation that it was made for.
    pub(crate) owner: u32,
    /// `None` while a read is under way.
    pub(crate) body: Option<Body>,
    /// Kept while a read is under way, which ends when this goes.
    pub(crate) reading: Option<oneshot::Sender<()>>,
}

impl HeldBody {
    pub(crate) fn new(owner: u32, body: Body) -> Self {
        Self { owner, body: Some(body), reading: None }
    }
}

/// What goes through the channel of a body that JavaScript writes.
pub(crate) enum Written {
    Chunk(Bytes),
    Failed(BoxError),
    /// A clean end. A channel that closes without it belongs to a function that was ended.
    End,
}

/// What happened to an invocation.
#[derive(Clone, Copy)]
pub(crate) enum News {
    /// Its client has gone before it had all of the response.
    Gone(u32),
    /// It is over.
    Over(u32),
}

/// What an isolate holds for JavaScript. Lives in `OpState`. Everything made for an invocation ends with it.
pub(crate) struct Held {
    pub(crate) invocations: Table<Invocation>,
    pub(crate) bodies: Table<HeldBody>,
    /// Writing ends of the bodies that JavaScript streams, by the body's id.
    pub(crate) writers: HashMap<u32, mpsc::Sender<Written>>,
    pub(crate) fetches: HashMap<u32, oneshot::Sender<()>>,
    /// The isolate's count of buffer bytes: what an op gathers counts before JavaScript has it.
    pub(crate) buffers: Arc<Buffers>,
    /// What the function may use up.
    pub(crate) limits: Limits,
    /// Log lines, with their level, that no request is known to have caused: of the top level, and of what went on after
    /// its request was over.
    pub(crate) own_log: Vec<(u8, String)>,
    /// Invocations whose ops have done something since the last charge.
    touched: Vec<u32>,
    /// Invocations that have ended in the turn that is under way, which they are still charged for; `None` between turns.
    departed: Option<Vec<(u32, Rc<dyn Capabilities>)>>,
    /// What JavaScript is to be told of invocations that it keeps something of.
    pub(crate) news: Vec<News>,
}

impl Held {
    pub(crate) fn new() -> Self {
        Self {
            invocations: Table::new(),
            bodies: Table::new(),
            writers: HashMap::new(),
            fetches: HashMap::new(),
            buffers: Arc::default(),
            limits: Limits::default(),
            own_log: Vec::new(),
            touched: Vec::new(),
            departed: None,
            news: Vec::new(),
        }
    }

    /// Holds a body that is `owner`'s; `None` when the table is full.
    pub(crate) fn insert_body(&mut self, owner: u32, body: Body) -> Option<u32> {
        let id = self.bodies.insert(HeldBody::new(owner, body))?;
        if let Some(invocation) = self.invocations.get_mut(owner) {
            let owned = &mut invocation.owned;
            if owned.len() >= 64 && owned.len().is_power_of_two() {
                owned.retain(|id| self.bodies.get_mut(*id).is_some() || self.writers.contains_key(id));
            }
            owned.push(id);
        }
        Some(id)
    }

    /// Notes that the coming stretch of JavaScript is on account of this invocation.
    pub(crate) fn touch(&mut self, id: u32) {
        // One that is over takes its share all the same: the others have not caused it.
        let is_new = match self.invocations.get_mut(id) {
            Some(invocation) => !std::mem::replace(&mut invocation.is_touched, true),
            None => !self.touched.contains(&id),
        };
        if is_new {
            self.touched.push(id);
        }
    }

    /// A turn of the event loop begins. What ops did before it is nobody's time.
    pub(crate) fn begin_turn(&mut self) {
        self.take_touched();
        self.departed = Some(Vec::new());
    }

    /// A turn has ended that used so much processor time. It is charged to those whose ops or timers it served, in equal
    /// parts; to all in flight when none are known to have had a share: V8 does not say whose promises it went on with.
    pub(crate) fn charge_turn(&mut self, used: Duration, limit: Duration) {
        let (touched, departed) = (self.take_touched(), self.departed.take().unwrap_or_default());
        let in_flight = |held: &Self| departed.iter().map(|(id, _)| *id).chain(held.invocations.ids()).collect();
        let ids: Vec<u32> = if touched.is_empty() { in_flight(self) } else { touched };
        let share = used / u32::try_from(ids.len().max(1)).unwrap_or(u32::MAX);
        for id in ids {
            match departed.iter().find(|(departed, _)| *departed == id) {
                Some((_, capabilities)) => capabilities.used(share),
                None => self.charge(id, share, limit),
            }
        }
    }

    /// Those touched since the last time. To be called after every stretch of JavaScript.
    pub(crate) fn take_touched(&mut self) -> Vec<u32> {
        let touched = std::mem::take(&mut self.touched);
        for id in &touched {
            if let Some(invocation) = self.invocations.get_mut(*id) {
                invocation.is_touched = false;
            }
        }
        touched
    }

    /// The answer of an invocation, or `None` when there will be none; `waker` is told.
    pub(crate) fn poll_answer(&mut self, id: u32, waker: Option<&Waker>) -> Poll<Option<Outcome>> {
        self.invocations.get_mut(id).map_or(Poll::Ready(None), |invocation| invocation.answer.poll(waker))
    }

    /// Charges processor time to an invocation; one that has used more than `limit` is ended.
    pub(crate) fn charge(&mut self, id: u32, used: Duration, limit: Duration) {
        let Some(invocation) = self.invocations.get_mut(id) else { return };
        invocation.cpu += used;
        invocation.capabilities.used(used);
        if invocation.cpu > limit {
            invocation.broke.get_or_insert(Limit::Cpu);
            self.exhaust(id);
        }
    }

    /// Whether an invocation may make one more subrequest, by `what`, with header fields of so many bytes.
    pub(crate) fn may_fetch(&mut self, id: u32, what: &str, header_bytes: usize) -> Result<(), JsErrorBox> {
        let most = self.limits.get(Limit::Headers);
        let invocation = self.invocations.get_mut(id).ok_or_else(gone)?;
        if invocation.subrequests == 0 {
            invocation.broke.get_or_insert(Limit::Subrequests);
            return Err(JsErrorBox::type_error(format!(
                "{what}: this request has made all the subrequests its limit allows (subrequests)"
            )));
        }
        if header_bytes as u64 > most {
            invocation.broke.get_or_insert(Limit::Headers);
            return Err(JsErrorBox::type_error(format!(
                "{what}: its header fields are larger than {most} bytes (header_bytes)"
            )));
        }
        Ok(())
    }

    /// A timer or an operation of an invocation begins, if it may have one more. What belongs to no invocation, or to one
    /// that is over, is not counted.
    pub(crate) fn begin(&mut self, id: u32) -> Result<(), JsErrorBox> {
        let most = self.limits.get(Limit::Pending);
        let Some(invocation) = self.invocations.get_mut(id) else { return Ok(()) };
        if invocation.pending >= most {
            invocation.broke.get_or_insert(Limit::Pending);
            return Err(JsErrorBox::range_error(format!(
                "more than {most} timers and operations of this request are under way (pending): await some of them first"
            )));
        }
        invocation.pending += 1;
        Ok(())
    }

    /// It has ended.
    pub(crate) fn done(&mut self, id: u32) {
        if let Some(invocation) = self.invocations.get_mut(id) {
            invocation.pending = invocation.pending.saturating_sub(1);
        }
    }

    /// Ends an invocation that is released and waits for nothing.
    pub(crate) fn settle(&mut self, id: u32) {
        if self.invocations.get_mut(id).is_some_and(|i| i.released && i.waits == 0) {
            self.end(id);
        }
    }

    /// Ends an invocation, and everything that was made for it.
    pub(crate) fn end(&mut self, id: u32) -> Option<Invocation> {
        let mut invocation = self.invocations.remove(id)?;
        if let Some(giving_up) = invocation.giving_up.take() {
            giving_up.abort();
        }
        self.bodies.remove(invocation.body);
        self.let_go(id, &invocation.owned, invocation.over.take(), invocation.is_kept);
        if let Some(limit) = invocation.broke {
            invocation.capabilities.broke(limit);
        }
        if let Some(departed) = &mut self.departed {
            departed.push((id, Rc::clone(&invocation.capabilities)));
        }
        Some(invocation)
    }

    fn let_go(&mut self, id: u32, bodies: &[u32], over: Option<Rc<Notify>>, is_kept: bool) {
        for body in bodies {
            self.bodies.remove(*body);
            self.writers.remove(body);
        }
        if let Some(over) = over {
            over.notify_waiters();
        }
        if is_kept {
            self.news.push(News::Over(id));
        }
    }

    /// Ends what an invocation does, but not the invocation: somebody still asks why.
    pub(crate) fn exhaust(&mut self, id: u32) {
        let Some(invocation) = self.invocations.get_mut(id) else { return };
        invocation.answer.close();
        invocation.waits = 0;
        let (owned, over) = (std::mem::take(&mut invocation.owned), invocation.over.take());
        let is_kept = std::mem::take(&mut invocation.is_kept);
        self.let_go(id, &owned, over, is_kept);
        self.settle(id);
    }

    /// As [`Held::exhaust_all`], because of a limit that also breaks off the responses that are under way.
    pub(crate) fn lose_all(&mut self, limit: Limit) {
        let answered = self.invocations.iter_mut().filter(|invocation| !invocation.answer.is_awaited());
        answered.for_each(|invocation| _ = invocation.broke.get_or_insert(limit));
        self.exhaust_all();
    }

    /// As [`Held::exhaust`], for all: nothing will answer them.
    pub(crate) fn exhaust_all(&mut self) {
        for id in self.invocations.ids() {
            self.exhaust(id);
        }
    }
}
