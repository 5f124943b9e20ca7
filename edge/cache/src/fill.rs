//! A response that is still arriving, shared by everybody who wants it.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::ThreadId;

use bytes::Bytes;
use http::header::HeaderName;
use http::{HeaderMap, StatusCode};

use crate::body::OriginBody;
use crate::disk::Readable;
use crate::entry::{Entry, Head, StoredBody};
use crate::failure::OriginFailure;
use crate::flights::Ledger;
use crate::key::Key;
use crate::policy::vary;
use crate::purge::{Judgement, Purges};

mod chunks;
mod reader;

pub(crate) use reader::Reader;

use chunks::Chunks;

/// One origin request and the body it brings: written by one task, read by any number of [`Reader`]s on any runtime.
///
/// Chunks stay until the body is whole, and readers go on from the copy that was made to store it; or until the last
/// reader has left. The [`Ledger`] counts them for as long. Of a body that is too large for memory only the latest stay;
/// the others are [on the disk](Fill::spilled). One that is too large for that as well is [detached](Fill::detach): the
/// leader takes the rest of it as it comes, followers ask the origin themselves.
pub(crate) struct Fill {
    key: Key,
    /// The leader's request, to tell who may wait for its answer before there is one; `None` when nobody may.
    request: Option<HeaderMap>,
    state: Mutex<State>,
    revoked: AtomicBool,
    late: AtomicBool,
    ledger: Arc<Ledger>,
    /// The thread whose task writes it.
    thread: ThreadId,
    /// The last purge that was in force when it began.
    purged: u64,
}

struct State {
    stage: Stage,
    chunks: Chunks,
    /// Where the chunks are that are gone.
    spilled: Option<Readable>,
    charged: u64,
    next_seat: u64,
    /// Who sleeps until something happens.
    sleepers: HashMap<u64, Waker>,
    leader: Leader,
}

#[derive(PartialEq, Eq)]
enum Leader {
    Absent,
    Reading,
    Gone,
}

enum Stage {
    /// The origin was asked; no head yet.
    Asking,
    /// It ended without a body to share.
    Settled(Verdict),
    /// Chunks arrive.
    Arriving(Arc<Head>),
    /// All bytes are there, in blocks.
    Complete(Arc<Head>, StoredBody),
    /// Too large: the rest is for the leader alone.
    Detached { rest: Option<OriginBody> },
    /// The body broke off.
    Aborted(OriginFailure),
}

/// What a follower learns when the origin has answered its leader.
#[derive(Clone)]
pub(crate) enum Verdict {
    /// A body arrives that may be shared.
    Arriving(Arc<Head>),
    /// A stored response was confirmed.
    Confirmed(Arc<Entry>),
    /// The answer is the leader's alone.
    Unshared,
    /// There is nothing to share.
    Failed(Trouble),
}

/// Why an answer is none.
#[derive(Clone)]
pub(crate) enum Trouble {
    /// The origin gave none.
    NoResponse(OriginFailure),
    /// The origin said that it is in trouble.
    Status(StatusCode),
}

impl Trouble {
    pub(crate) fn status(&self) -> Option<StatusCode> {
        match self {
            Self::NoResponse(_) => None,
            Self::Status(status) => Some(*status),
        }
    }
}

/// What a chunk costs besides its bytes, so that tiny chunks can't take more memory than the ledger shows.
const CHUNK_OVERHEAD: u64 = 64;

impl Fill {
    pub(crate) fn new(key: Key, request: Option<HeaderMap>, ledger: Arc<Ledger>, purged: u64) -> Self {
        let state = State {
            stage: Stage::Asking,
            chunks: Chunks::default(),
            spilled: None,
            charged: 0,
            next_seat: 0,
            sleepers: HashMap::new(),
            leader: Leader::Absent,
        };
        Self {
            key,
            request,
            state: Mutex::new(state),
            revoked: AtomicBool::new(false),
            late: AtomicBool::new(false),
            ledger,
            thread: std::thread::current().id(),
            purged,
        }
    }

    pub(crate) fn key(&self) -> &Key {
        &self.key
    }

    /// Whether this request may wait for the answer: until it is there, requests are told apart by the fields that
    /// earlier answers varied by.
    pub(crate) fn suits(&self, key: &Key, request: &HeaderMap, vary: &[HeaderName], purges: &Purges) -> bool {
        if self.late.load(Ordering::Relaxed) {
            return false;
        }
        let untouched = |headers| purges.judge(self.purged, &self.key, headers) == Judgement::Kept;
        let Some(leaders) = self.request.as_ref().filter(|_| key.parts() == self.key.parts()) else { return false };
        match &self.lock().stage {
            // What it is tagged with is not known yet.
            Stage::Asking if self.purged < purges.latest() => false,
            Stage::Asking => vary.iter().all(|name| vary::normalised(leaders, name) == vary::normalised(request, name)),
            Stage::Arriving(head) => head.answers(key, request) && untouched(&head.headers),
            Stage::Settled(_) | Stage::Complete(..) | Stage::Detached { .. } | Stage::Aborted(_) => false,
        }
    }

    /// The last purge that was in force when it began.
    pub(crate) fn purged(&self) -> u64 {
        self.purged
    }

    /// The resource was invalidated: what arrives is not to be stored.
    pub(crate) fn revoke(&self) {
        self.revoked.store(true, Ordering::SeqCst);
    }

    /// Whether a task on this thread writes it.
    pub(crate) fn is_written_by(&self, thread: ThreadId) -> bool {
        self.thread == thread
    }

    /// Somebody waited too long for it: nobody else is to begin.
    pub(crate) fn give_up(&self) {
        self.late.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_revoked(&self) -> bool {
        self.revoked.load(Ordering::SeqCst)
    }

    // === what the writing task does ===

    /// Ends it without a shared body. Only the first end counts.
    pub(crate) fn settle(&self, verdict: Verdict) {
        self.change(|state| {
            if matches!(state.stage, Stage::Asking) {
                state.stage = Stage::Settled(verdict);
            }
        });
    }

    /// The head is there, chunks will follow.
    pub(crate) fn open(&self, head: Arc<Head>) {
        self.change(|state| state.stage = Stage::Arriving(head));
    }

    /// Adds a chunk.
    pub(crate) fn push(&self, chunk: Bytes) {
        let charge = chunk.len() as u64 + CHUNK_OVERHEAD;
        self.ledger.bytes.fetch_add(charge, Ordering::Relaxed);
        self.change(|state| {
            state.charged += charge;
            state.chunks.push(chunk);
        });
    }

    /// All chunks so far; cheap.
    pub(crate) fn chunks(&self) -> Vec<Bytes> {
        self.chunks_since(0)
    }

    /// All bytes from here on that are not gone; cheap.
    pub(crate) fn chunks_since(&self, position: u64) -> Vec<Bytes> {
        self.lock().chunks.since(position)
    }

    /// How many bytes have arrived.
    pub(crate) fn received(&self) -> u64 {
        self.lock().chunks.end()
    }

    /// So much of it can be read from a file. In memory, what is older than `window` bytes goes: who is slower reads the
    /// file.
    pub(crate) fn spilled(&self, readable: Readable, window: u64) {
        let mut state = self.lock();
        let old = state.chunks.end().saturating_sub(window);
        let dropped = state.chunks.drop_before(readable.bytes().min(old));
        let freed = dropped.iter().map(|chunk| chunk.len() as u64 + CHUNK_OVERHEAD).sum();
        state.charged -= freed;
        state.spilled = Some(readable);
        drop(state);
        self.ledger.bytes.fetch_sub(freed, Ordering::Relaxed);
    }

    /// The body is whole: readers go on from this copy of it, and the chunks are given back.
    pub(crate) fn complete(&self, body: StoredBody) {
        let mut chunks = Chunks::default();
        self.change(|state| {
            if let Stage::Arriving(head) = &state.stage {
                state.stage = Stage::Complete(Arc::clone(head), body);
                chunks = std::mem::take(&mut state.chunks);
                self.ledger.bytes.fetch_sub(std::mem::take(&mut state.charged), Ordering::Relaxed);
            }
        });
        // Outside the lock: there may be many.
        drop(chunks);
    }

    /// The body broke off: readers get an error, never a clean end. Before there was a head, the request failed.
    pub(crate) fn abort(&self, failure: OriginFailure) {
        self.change(|state| match &state.stage {
            Stage::Asking => {
                state.stage = Stage::Settled(Verdict::Failed(Trouble::NoResponse(failure)));
            }
            Stage::Arriving(_) => state.stage = Stage::Aborted(failure),
            Stage::Settled(_) | Stage::Complete(..) | Stage::Detached { .. } | Stage::Aborted(_) => {}
        });
    }

    /// The body is too large to share: the leader, where it still reads, takes the rest from the origin directly.
    pub(crate) fn detach(&self, rest: OriginBody) {
        let mut rest = Some(rest);
        self.change(|state| {
            if matches!(state.stage, Stage::Arriving(_)) {
                let rest = if state.leader == Leader::Reading { rest.take() } else { None };
                state.stage = Stage::Detached { rest };
            }
        });
    }

    /// Changes the state and wakes everybody who sleeps, after the lock is free again.
    fn change(&self, change: impl FnOnce(&mut State)) {
        let sleepers = {
            let mut state = self.lock();
            change(&mut state);
            std::mem::take(&mut state.sleepers)
        };
        sleepers.into_values().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Fill {
    fn drop(&mut self) {
        let charged = self.lock().charged;
        self.ledger.bytes.fetch_sub(charged, Ordering::Relaxed);
    }
}

/// A place among those who wait for a fill. Dropping it forgets its waker.
pub(super) struct Seat {
    fill: Arc<Fill>,
    number: u64,
}

impl Seat {
    fn take(fill: Arc<Fill>) -> Self {
        let number = {
            let mut state = fill.lock();
            state.next_seat += 1;
            state.next_seat
        };
        Self { fill, number }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        // The waker is dropped after the lock is free: what it wakes may read this fill.
        let waker = self.fill.lock().sleepers.remove(&self.number);
        drop(waker);
    }
}

/// Waits for what the origin answers the leader.
pub(crate) struct Awaiting(Seat);

impl Awaiting {
    pub(crate) fn new(fill: Arc<Fill>) -> Self {
        Self(Seat::take(fill))
    }
}

impl Future for Awaiting {
    type Output = Verdict;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Verdict> {
        let mut state = self.0.fill.lock();
        Poll::Ready(match &state.stage {
            Stage::Asking => {
                let old = state.sleepers.insert(self.0.number, cx.waker().clone());
                drop(state);
                drop(old);
                return Poll::Pending;
            }
            Stage::Settled(verdict) => verdict.clone(),
            Stage::Arriving(head) | Stage::Complete(head, _) => Verdict::Arriving(Arc::clone(head)),
            Stage::Detached { .. } => Verdict::Unshared,
            Stage::Aborted(failure) => Verdict::Failed(Trouble::NoResponse(failure.clone())),
        })
    }
}
