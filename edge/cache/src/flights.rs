//! Which origin requests are under way, and who may share them.

use std::collections::HashMap;
use std::collections::hash_map::{Entry as Slot, RandomState};
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;

use http::HeaderMap;
use http::header::HeaderName;

use crate::fill::Fill;
use crate::key::Key;
use crate::purge::Purges;

/// How much is arriving, over the whole process.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) bytes: AtomicU64,
    pub(crate) fills: AtomicUsize,
}

/// The fills under way, by URI. Sharded so that threads with different URIs rarely meet.
pub(crate) struct Flights {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
    max_fills: usize,
    ledger: Arc<Ledger>,
    purges: Arc<Purges>,
}

type Shard = HashMap<Arc<str>, Vec<Arc<Fill>>>;

const SHARDS: usize = 16;

/// What [`Flights::enter`] decided.
pub(crate) enum Entered {
    /// Nobody asks for this: ask, others will follow. Ends with [`Flights::end`].
    Lead(Arc<Fill>),
    /// Somebody asks for this already.
    Follow(Arc<Fill>),
    /// Too many fills.
    Full,
}

impl Flights {
    pub(crate) fn new(max_fills: usize, ledger: Arc<Ledger>, purges: Arc<Purges>) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { shards, hasher: RandomState::new(), max_fills, ledger, purges }
    }

    /// Joins a fill whose answer is, or may turn out to be, the one for this request, or starts one. `vary` is what
    /// answers for the key varied by so far: requests that differ in it wait for different answers.
    pub(crate) fn enter(&self, key: &Key, request: &HeaderMap, vary: &[HeaderName]) -> Entered {
        let mut shard = self.shard(key.uri());
        let fills = shard.get(key.uri()).map_or(&[][..], Vec::as_slice);
        if let Some(fill) = fills.iter().find(|fill| fill.suits(key, request, vary, &self.purges)) {
            return Entered::Follow(Arc::clone(fill));
        }
        self.start(&mut shard, key, Some(request.clone())).map_or(Entered::Full, Entered::Lead)
    }

    /// Starts a fill that nobody can join, but that an invalidation finds. `None` when there are too many.
    pub(crate) fn alone(&self, key: &Key) -> Option<Arc<Fill>> {
        self.start(&mut self.shard(key.uri()), key, None)
    }

    fn start(&self, shard: &mut Shard, key: &Key, request: Option<HeaderMap>) -> Option<Arc<Fill>> {
        let room = |fills| (fills < self.max_fills).then_some(fills + 1);
        self.ledger.fills.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).ok()?;
        let fill = Arc::new(Fill::new(key.clone(), request, Arc::clone(&self.ledger), self.purges.latest()));
        shard.entry(Arc::clone(key.shared_uri())).or_default().push(Arc::clone(&fill));
        Some(fill)
    }

    /// The fill is over: it makes room for another. Once for each that was started.
    pub(crate) fn end(&self, fill: &Arc<Fill>) {
        self.leave(fill);
        self.ledger.fills.fetch_sub(1, Ordering::Relaxed);
    }

    /// Nobody joins this fill any more. Without effect on one that is not here.
    pub(crate) fn leave(&self, fill: &Arc<Fill>) {
        let mut shard = self.shard(fill.key().uri());
        let Slot::Occupied(mut slot) = shard.entry(Arc::clone(fill.key().shared_uri())) else { return };
        slot.get_mut().retain(|other| !Arc::ptr_eq(other, fill));
        if slot.get().is_empty() {
            slot.remove();
        }
    }

    /// Whatever is arriving for this URI goes to those who wait for it, and is not stored. It counts until it ends:
    /// otherwise invalidating again and again would start fills without bound.
    pub(crate) fn revoke(&self, uri: &str) {
        let fills = self.shard(uri).remove(uri).unwrap_or_default();
        fills.iter().for_each(|fill| fill.revoke());
    }

    /// Takes out the fills that a task on this thread leads, which will lead them no further.
    pub(crate) fn orphans(&self, thread: ThreadId) -> Vec<Arc<Fill>> {
        let mut orphans = Vec::new();
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.retain(|_, fills| {
                orphans.extend(fills.extract_if(.., |fill| fill.is_written_by(thread)));
                !fills.is_empty()
            });
        }
        orphans
    }

    fn shard(&self, uri: &str) -> MutexGuard<'_, Shard> {
        let index = self.hasher.hash_one(uri) as usize % SHARDS;
        self.shards[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}
