//! Counting: by name, and by how long something took.

use std::collections::BTreeMap;
use std::ops::AddAssign;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// What can be added up.
pub(crate) trait Sum: Default + Clone + for<'a> AddAssign<&'a Self> {}

impl<V: Default + Clone + for<'a> AddAssign<&'a V>> Sum for V {}

/// Counts by name. Names are of the program's own text, so there are few; one that nobody knows beforehand needs no entry
/// anywhere. A worker has its own, whose lock nobody else wants but who reads the metrics.
#[derive(Debug, Default)]
pub(crate) struct Tally<K, V = u64>(Mutex<BTreeMap<K, V>>);

impl<K: Ord + Copy, V: Sum> Tally<K, V> {
    pub(crate) fn add(&self, name: K, value: V) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_default() += &value;
    }

    /// All of them together.
    pub(crate) fn sum<'a>(tallies: impl IntoIterator<Item = &'a Self>) -> BTreeMap<K, V>
    where
        K: 'a,
        V: 'a,
    {
        let mut total = BTreeMap::<K, V>::new();
        for tally in tallies {
            for (name, value) in &*tally.0.lock().unwrap_or_else(PoisonError::into_inner) {
                *total.entry(*name).or_default() += value;
            }
        }
        total
    }
}

/// Upper bounds of the buckets in seconds: from a hello in an isolate that is there to the longest default of a limit.
pub(crate) const BOUNDS: [f64; 17] =
    [0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0];

/// The same in nanoseconds.
const NANOS: [u64; BOUNDS.len()] = {
    let mut nanos = [0; BOUNDS.len()];
    let mut place = 0;
    while place < nanos.len() {
        nanos[place] = (BOUNDS[place] * 1e9 + 0.5) as u64;
        place += 1;
    }
    nanos
};

/// The bucket of a duration; the last is for those beyond all bounds.
fn bucket(took: Duration) -> usize {
    let took = nanos(took);
    // As a rule it is one of the first.
    NANOS.iter().position(|bound| took <= *bound).unwrap_or(NANOS.len())
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Durations by bucket, for one thread to write and any to read.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    counts: [AtomicU64; BOUNDS.len() + 1],
    sum: Time,
}

impl Histogram {
    pub(crate) fn observe(&self, took: Duration) {
        self.counts[bucket(took)].fetch_add(1, Ordering::Relaxed);
        self.sum.add(took);
    }

    pub(crate) fn totals(&self) -> Totals {
        Totals { counts: self.counts.each_ref().map(|count| count.load(Ordering::Relaxed)), sum: self.sum.get() }
    }
}

/// The same, read or added up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// By bucket.
    pub(crate) counts: [u64; BOUNDS.len() + 1],
    pub(crate) sum: Duration,
}

impl Totals {
    /// Those of one duration.
    pub(crate) fn of(took: Duration) -> Self {
        let mut totals = Self { sum: took, ..Self::default() };
        totals.counts[bucket(took)] = 1;
        totals
    }
}

impl Totals {
    /// How many.
    pub(crate) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// What this part of them, 0 to 1, stays within: the bound of a bucket; [`Duration::MAX`] beyond all bounds.
    pub(crate) fn quantile(&self, part: f64) -> Duration {
        let wanted = (self.count() as f64 * part).ceil() as u64;
        let mut seen = 0;
        let bucket = self.counts.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        let bound = bucket.and_then(|bucket| NANOS.get(bucket));
        bound.map_or(Duration::MAX, |nanos| Duration::from_nanos(*nanos))
    }
}

impl AddAssign<&Self> for Totals {
    fn add_assign(&mut self, other: &Self) {
        self.counts.iter_mut().zip(other.counts).for_each(|(own, other)| *own += other);
        self.sum += other.sum;
    }
}

/// A sum of durations, in nanoseconds: enough for five centuries.
#[derive(Debug, Default)]
pub(crate) struct Time(AtomicU64);

impl Time {
    pub(crate) fn add(&self, time: Duration) {
        self.0.fetch_add(nanos(time), Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }
}
