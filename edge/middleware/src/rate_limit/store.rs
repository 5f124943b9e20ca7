//! Where the windows of all keys are: sharded, bounded, evicting.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::window::{Pace, Window};

/// Most shards: enough that a few dozen threads seldom meet on one lock.
const MAX_SHARDS: usize = 16;

/// A shard has room for at least this many keys, so that the bound is not spoilt by an uneven spread.
const MIN_SHARD_KEYS: usize = 64;

/// Keys compared when one must go.
const SAMPLE: usize = 8;

/// Windows by key, at most `capacity` of them.
#[derive(Debug)]
pub(super) struct Store {
    /// Two independent random hashes make a key's 128-bit identity: an attacker who cannot see them can neither make
    /// two keys collide nor aim at a shard, and a long key takes no more room than a short one.
    hashers: [RandomState; 2],
    shards: Vec<Mutex<Shard>>,
    shard_capacity: usize,
}

#[derive(Debug, Default)]
struct Shard {
    places: HashMap<u128, usize>,
    entries: Vec<(u128, Window)>,
    /// Where the next sample begins.
    hand: usize,
}

// === impl Store ===

impl Store {
    pub(super) fn new(capacity: usize) -> Self {
        let capacity = capacity.max(1);
        let shards = (capacity / MIN_SHARD_KEYS).clamp(1, MAX_SHARDS);
        Self {
            hashers: [RandomState::new(), RandomState::new()],
            shards: std::iter::repeat_with(Mutex::default).take(shards).collect(),
            shard_capacity: capacity / shards,
        }
    }

    /// Runs `f` on the window of `key`, which is a new one for a key not held.
    pub(super) fn with<T>(&self, key: &str, now: u64, pace: &Pace, f: impl FnOnce(&mut Window) -> T) -> T {
        let [first, second] = &self.hashers;
        let (high, low) = (first.hash_one(key), second.hash_one(key));
        let id = u128::from(high) << 64 | u128::from(low);
        // The remainder is below the number of shards, so the cast keeps its value.
        let shard = (high % self.shards.len() as u64) as usize;
        let mut shard = lock(&self.shards[shard]);
        let place = shard.place_of(id, now, pace, self.shard_capacity);
        f(&mut shard.entries[place].1)
    }

    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).entries.len()).sum()
    }

    pub(super) fn capacity(&self) -> usize {
        self.shard_capacity * self.shards.len()
    }
}

/// Counters stay whole whatever panicked while the lock was held: every change to them is a single assignment.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl Shard ===

impl Shard {
    fn place_of(&mut self, id: u128, now: u64, pace: &Pace, capacity: usize) -> usize {
        if let Some(&place) = self.places.get(&id) {
            return place;
        }
        let entry = (id, Window::new(now, pace));
        let place = if self.entries.len() < capacity {
            self.entries.push(entry);
            self.entries.len() - 1
        } else {
            let place = self.cheapest(now, pace);
            self.places.remove(&self.entries[place].0);
            self.entries[place] = entry;
            place
        };
        self.places.insert(id, place);
        place
    }

    /// The place, among the next [`SAMPLE`], of the key with the least counted against it; of several, the one not seen
    /// for longest. A key at its limit goes only when all of the sample are at theirs, and filling those cost the
    /// attacker a whole limit of requests for each.
    fn cheapest(&mut self, now: u64, pace: &Pace) -> usize {
        let places = self.entries.len();
        let start = self.hand;
        self.hand = (start + SAMPLE) % places;
        (0..SAMPLE.min(places))
            .map(|step| (start + step) % places)
            .min_by_key(|&place| self.entries[place].1.worth(pace, now))
            .unwrap_or(start)
    }
}
