//! Exchanges over one socket: either side asks, with a body or without, and the other answers, with a body or without.
//!
//! Both sides run this. Many exchanges go on at once, and none holds up another: of each body, a sender may be ahead of
//! its reader by [`WINDOW`] bytes. Whoever loses interest says so, and the other side drops what it was doing.
//!
//! This is what HTTP/2 would be used for, without its heads: they would have to be taken apart and put together again on
//! both sides, under rules for fields (lengths, cookies, authorities) that would make the same request another one.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures::FutureExt as _;
use http_body::SizeHint;
use http_body_util::BodyExt as _;
use isolate::BoxError;
use tokio::net::UnixStream;
use tokio::sync::{Notify, oneshot};
use tokio::task::AbortHandle;

use super::wire::{Ended, Frame, Inbox, Kind, Outbox};

/// Bytes of a body that may be on their way, or wait to be read.
const WINDOW: usize = 128 << 10;
/// Bytes of a body in one frame.
const PART: usize = 32 << 10;
/// Frames that are taken before the rest of the thread's work has its turn: a peer may send many small ones.
const FRAMES_AT_ONCE: usize = 256;
/// Exchanges that a peer may have opened at a time, beyond which it is not one of ours: as many requests as a function may
/// have in flight, with several `fetch()` calls each.
const MOST_OPENED: usize = 65_536;

/// What a side does with what the other says.
pub(super) trait Peer {
    /// The other side asks. The answer goes to [`Link::answer`], from a task of [`Link::serve`] if it takes time.
    ///
    /// # Errors
    /// [`Ended::Misconduct`], which ends the link.
    fn asked(&self, link: &Rc<Link>, question: Question) -> Result<(), Ended>;

    /// The other side has something to tell.
    ///
    /// # Errors
    /// [`Ended::Misconduct`], which ends the link.
    fn told(&self, note: &[u8]) -> Result<(), Ended>;
}

/// Which side of a link this is. They number their exchanges apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Pop = 0,
    Cell = 1,
}

/// One end of a socket with a peer.
pub(super) struct Link {
    side: Side,
    outbox: Arc<Outbox>,
    next: Cell<u64>,
    awaited: RefCell<HashMap<u64, oneshot::Sender<Answer>>>,
    serving: RefCell<HashMap<u64, AbortHandle>>,
    leaving: RefCell<HashMap<u64, Leaving>>,
    arriving: Arc<Arrivals>,
    ended: Cell<bool>,
}

/// A message, and the body that follows it.
pub(super) struct Answer {
    pub(super) message: Bytes,
    pub(super) body: Option<Arriving>,
}

/// What the other side asks.
pub(super) struct Question {
    pub(super) exchange: u64,
    pub(super) message: Bytes,
    pub(super) body: Option<Arriving>,
}

/// A body on its way to the peer.
struct Leaving {
    credits: Rc<Credits>,
    task: AbortHandle,
}

struct Credits {
    bytes: Cell<usize>,
    more: Notify,
}

/// Bodies on their way from the peer, by exchange.
type Arrivals = Mutex<HashMap<u64, Arc<Mutex<Arrived>>>>;

/// What of a body is here.
#[derive(Default)]
struct Arrived {
    parts: VecDeque<Bytes>,
    end: Option<Result<(), String>>,
    /// Bytes that the peer may still send.
    window: usize,
    /// Bytes read since the peer was last given credit.
    read: usize,
    waker: Option<Waker>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Link {
    pub(super) fn new(side: Side) -> Rc<Self> {
        Rc::new(Self {
            side,
            outbox: Arc::default(),
            next: Cell::new(side as u64),
            awaited: RefCell::default(),
            serving: RefCell::default(),
            leaving: RefCell::default(),
            arriving: Arc::default(),
            ended: Cell::new(false),
        })
    }

    /// Serves the link until the peer is gone or goes too far. [`Link::end`] is for the caller to call.
    pub(super) async fn run(self: &Rc<Self>, socket: UnixStream, peer: &dyn Peer) -> Ended {
        let (reader, writer) = socket.into_split();
        let mut writing = pin!(Arc::clone(&self.outbox).empty_into(writer));
        let mut inbox = Inbox::new(reader);
        let mut frames = 0_usize;
        loop {
            frames += 1;
            if frames.is_multiple_of(FRAMES_AT_ONCE) {
                tokio::task::yield_now().await;
            }
            let frame = tokio::select! {
                frame = inbox.next() => frame,
                () = &mut writing => return Ended::Closed,
            };
            let taken = frame.and_then(|frame| self.take(peer, frame));
            if let Err(ended) = taken {
                return ended;
            }
        }
    }

    /// A number for an exchange that this side will open.
    pub(super) fn number(&self) -> u64 {
        let number = self.next.get();
        self.next.set(number + 2);
        number
    }

    /// Asks, and waits for the answer. Dropping the future tells the other side that nobody waits.
    ///
    /// # Errors
    /// [`Ended`].
    pub(super) async fn ask<B>(self: &Rc<Self>, exchange: u64, message: &[u8], body: Option<B>) -> Result<Answer, Ended>
    where
        B: http_body::Body<Data = Bytes, Error = BoxError> + Unpin + 'static,
    {
        if self.ended.get() {
            return Err(Ended::Closed);
        }
        let (sender, receiver) = oneshot::channel();
        self.awaited.borrow_mut().insert(exchange, sender);
        let asking = Asking { link: self, exchange };
        self.send(exchange, [Kind::Open, Kind::OpenWithBody], message, body);
        let answered = receiver.await.map_err(|_| Ended::Closed);
        drop(asking);
        answered
    }

    /// Answers.
    pub(super) fn answer<B>(self: &Rc<Self>, exchange: u64, message: &[u8], body: Option<B>)
    where
        B: http_body::Body<Data = Bytes, Error = BoxError> + Unpin + 'static,
    {
        self.send(exchange, [Kind::Answer, Kind::AnswerWithBody], message, body);
    }

    /// Runs what will answer, until it has or until nobody waits for it any more.
    pub(super) fn serve(self: &Rc<Self>, exchange: u64, answering: impl Future<Output = ()> + 'static) {
        let link = Rc::clone(self);
        let task = isolate::spawn_local(async move {
            answering.await;
            link.serving.borrow_mut().remove(&exchange);
        });
        // The task has not run yet, and will find itself here.
        self.serving.borrow_mut().insert(exchange, task.abort_handle());
    }

    /// Tells.
    pub(super) fn tell(&self, note: &[u8]) {
        self.outbox.put(Kind::Note, 0, &[note]);
    }

    /// Whether the peer has stopped to read.
    pub(super) fn is_stuck(&self) -> bool {
        self.outbox.is_stuck()
    }

    fn send<B>(self: &Rc<Self>, exchange: u64, [alone, with_body]: [Kind; 2], message: &[u8], body: Option<B>)
    where
        B: http_body::Body<Data = Bytes, Error = BoxError> + Unpin + 'static,
    {
        let Some(body) = body.filter(|body| !body.is_end_stream()) else {
            return self.outbox.put(alone, exchange, &[message]);
        };
        let hint = body.size_hint();
        let size = [hint.lower().to_le_bytes(), hint.upper().unwrap_or(u64::MAX).to_le_bytes()];
        self.outbox.put(with_body, exchange, &[&size[0], &size[1], message]);
        let credits = Rc::new(Credits { bytes: Cell::new(WINDOW), more: Notify::new() });
        let mut leaving = Box::pin(leave(Arc::clone(&self.outbox), exchange, body, Rc::clone(&credits)));
        // A body that is whole already leaves here, without a task.
        if leaving.as_mut().now_or_never().is_some() {
            return;
        }
        let link = Rc::clone(self);
        let task = isolate::spawn_local(async move {
            leaving.await;
            link.leaving.borrow_mut().remove(&exchange);
        });
        self.leaving.borrow_mut().insert(exchange, Leaving { credits, task: task.abort_handle() });
    }

    fn take(self: &Rc<Self>, peer: &dyn Peer, frame: Frame) -> Result<(), Ended> {
        let Frame { kind, exchange, payload } = frame;
        match kind {
            Kind::Open | Kind::OpenWithBody => {
                let opened = self.serving.borrow().len();
                if exchange % 2 == self.side as u64 || self.serving.borrow().contains_key(&exchange) {
                    return Err(Ended::Misconduct("an exchange that is not its own"));
                }
                if opened >= MOST_OPENED {
                    return Err(Ended::Misconduct("more questions at a time than any may have"));
                }
                let (message, body) = self.body(exchange, payload, kind == Kind::OpenWithBody)?;
                peer.asked(self, Question { exchange, message, body })?;
            }
            Kind::Answer | Kind::AnswerWithBody => {
                // One that nobody waits for has crossed its cancellation, and its body is to stop.
                if let Some(asker) = self.awaited.borrow_mut().remove(&exchange) {
                    let (message, body) = self.body(exchange, payload, kind == Kind::AnswerWithBody)?;
                    let _ = asker.send(Answer { message, body });
                }
            }
            Kind::Data | Kind::LastData => self.arrive(exchange, |arrived| {
                arrived.window = arrived.window.checked_sub(payload.len()).ok_or(BEYOND)?;
                arrived.parts.push_back(payload);
                if kind == Kind::LastData {
                    arrived.end.get_or_insert(Ok(()));
                }
                Ok(())
            })?,
            Kind::End => self.arrive(exchange, |arrived| {
                arrived.end.get_or_insert(Ok(()));
                Ok(())
            })?,
            Kind::Fail => self.arrive(exchange, |arrived| {
                arrived.end.get_or_insert_with(|| Err(String::from_utf8_lossy(&payload).into_owned()));
                Ok(())
            })?,
            Kind::Credit => {
                let bytes = payload.first_chunk().ok_or(Ended::Misconduct("credit without a number"))?;
                if let Some(leaving) = self.leaving.borrow().get(&exchange) {
                    let credits = &leaving.credits;
                    // More than the window would only fill this side's memory.
                    let bytes = credits.bytes.get().saturating_add(u32::from_le_bytes(*bytes) as usize);
                    credits.bytes.set(bytes.min(WINDOW));
                    credits.more.notify_one();
                }
            }
            Kind::Stop => drop(self.leaving.borrow_mut().remove(&exchange)),
            Kind::Cancel => {
                if let Some(serving) = self.serving.borrow_mut().remove(&exchange) {
                    serving.abort();
                }
                drop(self.leaving.borrow_mut().remove(&exchange));
            }
            Kind::Note => peer.told(&payload)?,
        }
        if self.is_stuck() { Err(Ended::Misconduct("nothing: it does not read any more")) } else { Ok(()) }
    }

    /// Splits a payload into its message and the body that it announces.
    fn body(&self, exchange: u64, mut payload: Bytes, follows: bool) -> Result<(Bytes, Option<Arriving>), Ended> {
        if !follows {
            return Ok((payload, None));
        }
        if payload.len() < 16 {
            return Err(Ended::Misconduct("a body without a size"));
        }
        let size = payload.split_to(16);
        let number = |at: usize| size[at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let (lower, upper) = (number(0), number(8));
        let mut size = SizeHint::new();
        if upper < lower {
            return Err(Ended::Misconduct("a body of an impossible size"));
        }
        size.set_lower(lower);
        if upper < u64::MAX {
            size.set_upper(upper);
        }
        let arrived = Arc::new(Mutex::new(Arrived { window: WINDOW, ..Arrived::default() }));
        lock(&self.arriving).insert(exchange, Arc::clone(&arrived));
        let body = Arriving {
            exchange,
            size,
            arrived,
            arrivals: Arc::clone(&self.arriving),
            outbox: Arc::clone(&self.outbox),
        };
        Ok((payload, Some(body)))
    }

    /// Does something to a body that is still wanted.
    fn arrive(&self, exchange: u64, body: impl FnOnce(&mut Arrived) -> Result<(), Ended>) -> Result<(), Ended> {
        let Some(arrived) = lock(&self.arriving).get(&exchange).map(Arc::clone) else { return Ok(()) };
        let mut arrived = lock(&arrived);
        body(&mut arrived)?;
        if let Some(waker) = arrived.waker.take() {
            drop(arrived);
            waker.wake();
        }
        Ok(())
    }

    /// Nothing more will come: what is under way fails.
    pub(super) fn end(&self) {
        self.ended.set(true);
        // Each is taken out first: what is dropped or woken may look into these tables.
        let awaited = std::mem::take(&mut *self.awaited.borrow_mut());
        drop(awaited);
        let serving = std::mem::take(&mut *self.serving.borrow_mut());
        serving.values().for_each(AbortHandle::abort);
        let leaving = std::mem::take(&mut *self.leaving.borrow_mut());
        drop(leaving);
        let arriving = std::mem::take(&mut *lock(&self.arriving));
        for arrived in arriving.values() {
            let waker = {
                let mut arrived = lock(arrived);
                arrived.end.get_or_insert_with(|| Err("the process that sent it has ended".to_owned()));
                arrived.waker.take()
            };
            waker.into_iter().for_each(Waker::wake);
        }
    }
}

const BEYOND: Ended = Ended::Misconduct("more of a body than it was asked for");

impl Drop for Leaving {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Somebody waits for an answer.
struct Asking<'a> {
    link: &'a Link,
    exchange: u64,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if self.link.awaited.borrow_mut().remove(&self.exchange).is_some() {
            self.link.outbox.put(Kind::Cancel, self.exchange, &[]);
            drop(self.link.leaving.borrow_mut().remove(&self.exchange));
        }
    }
}

/// Sends a body, as far as the reader gives credit. Trailers stay behind: no function sees or makes any.
async fn leave<B>(outbox: Arc<Outbox>, exchange: u64, mut body: B, credits: Rc<Credits>)
where
    B: http_body::Body<Data = Bytes, Error = BoxError> + Unpin,
{
    loop {
        let mut data = match body.frame().await {
            None => return outbox.put(Kind::End, exchange, &[]),
            Some(Err(error)) => return outbox.put(Kind::Fail, exchange, &[error.to_string().as_bytes()]),
            Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
        };
        let last = body.is_end_stream();
        while !data.is_empty() {
            while credits.bytes.get() == 0 {
                credits.more.notified().await;
            }
            let part = data.split_to(data.len().min(PART).min(credits.bytes.get()));
            credits.bytes.set(credits.bytes.get() - part.len());
            let kind = if last && data.is_empty() { Kind::LastData } else { Kind::Data };
            outbox.put(kind, exchange, &[&part]);
            if kind == Kind::LastData {
                return;
            }
        }
    }
}

/// A body on its way from the peer.
pub(super) struct Arriving {
    exchange: u64,
    size: SizeHint,
    arrived: Arc<Mutex<Arrived>>,
    arrivals: Arc<Arrivals>,
    outbox: Arc<Outbox>,
}

impl http_body::Body for Arriving {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let mut arrived = lock(&this.arrived);
        if let Some(part) = arrived.parts.pop_front() {
            arrived.read += part.len();
            if arrived.read >= WINDOW / 2 && arrived.end.is_none() {
                let read = std::mem::take(&mut arrived.read);
                arrived.window += read;
                this.outbox.put(Kind::Credit, this.exchange, &[&(read as u32).to_le_bytes()]);
            }
            let length = part.len() as u64;
            let upper = this.size.upper().map(|upper| upper.saturating_sub(length));
            let mut left = SizeHint::new();
            left.set_lower(this.size.lower().saturating_sub(length));
            upper.into_iter().for_each(|upper| left.set_upper(upper));
            this.size = left;
            return Poll::Ready(Some(Ok(http_body::Frame::data(part))));
        }
        match &arrived.end {
            Some(Ok(())) => Poll::Ready(None),
            Some(Err(why)) => Poll::Ready(Some(Err(why.clone().into()))),
            None => {
                arrived.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let arrived = lock(&self.arrived);
        arrived.parts.is_empty() && matches!(arrived.end, Some(Ok(())))
    }

    fn size_hint(&self) -> SizeHint {
        self.size
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        let arrived = lock(&self.arrivals).remove(&self.exchange);
        if arrived.is_some_and(|arrived| lock(&arrived).end.is_none()) {
            self.outbox.put(Kind::Stop, self.exchange, &[]);
        }
    }
}

#[cfg(test)]
mod tests;
