//! What was used: sums of whole numbers per function, version, PoP and cohort, so that they agree with the access log
//! exactly, whatever the order in which they were added.
//!
//! [`bill`] says what a usage costs under each compute model, [`budget`] what to do when it costs too much.

pub mod bill;
pub mod budget;

use std::collections::BTreeMap;
use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

/// Most keys that one meter holds. What comes beyond them is counted under [`Meter::OTHER`].
pub const DEFAULT_MAX_KEYS: usize = 10_000;

/// For whom something was used.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct UsageKey {
    /// The function's name.
    pub function: String,
    /// The version's digest.
    pub version: String,
    /// The PoP's name.
    pub pop: String,
    /// The cohort; empty when the route has none.
    pub cohort: String,
}

/// What was used. Sums saturate: at a million requests a second of one second each, memory reaches the end of its
/// range after four years, everything else later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Usage {
    /// Requests that came for a function, whoever answered: it, a cache in front of it, or the brake of a budget.
    pub requests: u64,
    /// Of these, those for which the function ran.
    pub invocations: u64,
    /// Of these, those that the brake of a budget refused.
    pub refused: u64,
    /// Processor time, in microseconds.
    pub cpu_us: u64,
    /// From the start of invocations to their end, in microseconds: with what they waited.
    pub wall_us: u64,
    /// Memory held, times how long, in MB (2^20 bytes) times milliseconds.
    pub memory_mb_ms: u64,
    /// Bytes sent to clients.
    pub bytes_out: u64,
    /// Responses that the cache fetched from an origin.
    pub cache_fills: u64,
    /// Objects read from object storage.
    pub object_reads: u64,
    /// Objects written to, or listed in, object storage.
    pub object_writes: u64,
    /// Bytes stored, times how long, in MB (10^6 bytes) times hours.
    pub stored_mb_hours: u64,
}

impl Usage {
    /// Every number, by its name.
    fn fields(&mut self) -> [(&'static str, &mut u64); 11] {
        [
            ("requests", &mut self.requests),
            ("invocations", &mut self.invocations),
            ("refused", &mut self.refused),
            ("cpu_us", &mut self.cpu_us),
            ("wall_us", &mut self.wall_us),
            ("memory_mb_ms", &mut self.memory_mb_ms),
            ("bytes_out", &mut self.bytes_out),
            ("cache_fills", &mut self.cache_fills),
            ("object_reads", &mut self.object_reads),
            ("object_writes", &mut self.object_writes),
            ("stored_mb_hours", &mut self.stored_mb_hours),
        ]
    }

    /// The numbers that are not 0, by name: for who adds them up without knowing what they are.
    #[must_use]
    pub fn numbers(mut self) -> BTreeMap<String, u64> {
        let numbers = self.fields().into_iter().filter(|(_, number)| **number > 0);
        numbers.map(|(name, number)| (name.to_owned(), *number)).collect()
    }

    /// What the numbers of these names say. Those of a later release, which have other names, say nothing.
    #[must_use]
    pub fn of_numbers(numbers: &BTreeMap<String, u64>) -> Self {
        let mut usage = Self::default();
        for (name, number) in usage.fields() {
            *number = numbers.get(name).copied().unwrap_or(0);
        }
        usage
    }
}

impl AddAssign for Usage {
    fn add_assign(&mut self, mut other: Self) {
        for ((_, sum), (_, more)) in self.fields().into_iter().zip(other.fields()) {
            *sum = sum.saturating_add(*more);
        }
    }
}

/// Sums by key, for one period.
#[derive(Clone, Debug)]
pub struct Meter {
    sums: BTreeMap<UsageKey, Usage>,
    max_keys: usize,
}

impl Default for Meter {
    fn default() -> Self {
        Self::new(DEFAULT_MAX_KEYS)
    }
}

impl Meter {
    /// The function's name under which a full meter counts what it has no key for.
    pub const OTHER: &str = "(other)";

    /// An empty meter that holds at most `max_keys` keys (and one more for the rest).
    #[must_use]
    pub fn new(max_keys: usize) -> Self {
        Self { sums: BTreeMap::new(), max_keys }
    }

    /// Counts.
    pub fn add(&mut self, key: &UsageKey, usage: Usage) {
        if let Some(sum) = self.sums.get_mut(key) {
            *sum += usage;
        } else if self.sums.len() < self.max_keys {
            self.sums.insert(key.clone(), usage);
        } else {
            let [version, pop, cohort] = [(); 3].map(|()| String::new());
            let other = UsageKey { function: Self::OTHER.to_owned(), version, pop, cohort };
            *self.sums.entry(other).or_default() += usage;
        }
    }

    /// Adds another meter's sums, as of another PoP.
    pub fn merge(&mut self, other: &Self) {
        other.sums.iter().for_each(|(key, usage)| self.add(key, *usage));
    }

    /// The sums, ordered by key.
    pub fn iter(&self) -> impl Iterator<Item = (&UsageKey, &Usage)> {
        self.sums.iter()
    }

    /// The sum of all.
    #[must_use]
    pub fn total(&self) -> Usage {
        self.by(|_| ()).remove(&()).unwrap_or_default()
    }

    /// Sums by a part of the key: `meter.by(|key| key.function.clone())`.
    pub fn by<K: Ord>(&self, part: impl Fn(&UsageKey) -> K) -> BTreeMap<K, Usage> {
        let mut sums = BTreeMap::new();
        for (key, usage) in &self.sums {
            *sums.entry(part(key)).or_insert_with(Usage::default) += *usage;
        }
        sums
    }
}

#[cfg(test)]
mod tests;
