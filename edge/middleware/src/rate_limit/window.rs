//! The sliding window of one key.
//!
//! Time is cut into slots of a sixteenth of the period. A window of one period that ends in slot `s` begins in slot
//! `s - 16` or later, so seventeen counters cover it. The oldest slot may lie partly outside the window; how many of
//! its requests do is not known, so all of them count as if they had come with the last one. That errs on the side of
//! refusing, by at most one slot, and still frees everything exactly one period after the last request.

use std::time::Duration;

use super::Decision;

/// Slots in a period. The counters free in portions of this size.
const SLOTS: u64 = 16;

/// Counters kept: one more than [`SLOTS`], for the slot that a window begins in.
const COUNTERS: usize = SLOTS as usize + 1;

/// How many in how long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    limit: u32,
    /// Milliseconds, at least 1 and a sum with any slot's end never overflows.
    period: u64,
    /// Milliseconds: a sixteenth of the period, rounded up so that sixteen slots always cover it.
    slot: u64,
}

/// The counters of one key. Slot `s` is at index `s % 17`.
#[derive(Clone, Debug)]
pub(super) struct Window {
    /// Newest slot seen; the other sixteen counters belong to the sixteen slots before it.
    newest: u64,
    /// Time of the last request seen, allowed or not: what the store evicts by.
    touched: u64,
    /// Requests allowed in each slot.
    counts: [u32; COUNTERS],
    /// When the last of them came, in milliseconds after the beginning of the slot.
    lasts: [u32; COUNTERS],
}

/// What is counted at one instant.
#[derive(Clone, Copy, Debug, Default)]
struct Usage {
    /// Requests in the window, at most the limit.
    used: u32,
    /// When the oldest portion leaves the window, in milliseconds; 0 when nothing is counted.
    first_free: u64,
    /// When the newest does.
    all_free: u64,
}

// === impl Pace ===

impl Pace {
    pub(super) fn new(limit: u32, period: Duration) -> Self {
        // A slot's offset is kept in 32 bits: 16 slots of 2^31 ms are over a year, longer than any period in use.
        let period = u64::try_from(period.as_millis()).unwrap_or(u64::MAX).clamp(1, SLOTS << 31);
        Self { limit, period, slot: period.div_ceil(SLOTS) }
    }
}

// === impl Window ===

impl Window {
    pub(super) fn new(now: u64, pace: &Pace) -> Self {
        Self { newest: now / pace.slot, touched: now, counts: [0; COUNTERS], lasts: [0; COUNTERS] }
    }

    /// Counts one request if the limit allows it.
    pub(super) fn take(&mut self, pace: &Pace, now: u64) -> Decision {
        let now = now.max(self.touched);
        self.touched = now;
        self.advance(now / pace.slot);
        let before = self.usage(pace, now);
        let allowed = before.used < pace.limit;
        if allowed {
            let index = index_of(self.newest);
            self.counts[index] += 1;
            self.lasts[index] = (now - self.newest * pace.slot) as u32;
        }
        let after = self.usage(pace, now);
        let remaining = pace.limit - after.used;
        let until = |instant: u64| Duration::from_millis(instant.saturating_sub(now));
        let retry_after = match (remaining, pace.limit) {
            (0, 0) => Duration::from_millis(pace.period),
            (0, _) => until(after.first_free),
            _ => Duration::ZERO,
        };
        Decision {
            allowed,
            limit: pace.limit,
            period: Duration::from_millis(pace.period),
            remaining,
            more_in: (after.used > 0).then(|| until(after.first_free)),
            reset: until(after.all_free),
            retry_after,
        }
    }

    /// How dear this key is: what is counted against it now, then when it was last seen. The store evicts the cheapest.
    pub(super) fn worth(&self, pace: &Pace, now: u64) -> (u32, u64) {
        (self.usage(pace, now.max(self.touched)).used, self.touched)
    }

    /// Empties the counters that now belong to newer slots.
    fn advance(&mut self, slot: u64) {
        let steps = slot.saturating_sub(self.newest).min(COUNTERS as u64);
        for passed in 0..steps {
            self.counts[index_of(slot - passed)] = 0;
        }
        self.newest = self.newest.max(slot);
    }

    fn usage(&self, pace: &Pace, now: u64) -> Usage {
        let mut usage = Usage::default();
        for slot in self.newest.saturating_sub(SLOTS)..=self.newest {
            let index = index_of(slot);
            let leaves = (slot * pace.slot).saturating_add(u64::from(self.lasts[index])).saturating_add(pace.period);
            if self.counts[index] > 0 && leaves > now {
                if usage.used == 0 {
                    usage.first_free = leaves;
                }
                usage.used += self.counts[index];
                usage.all_free = leaves;
            }
        }
        usage
    }
}

fn index_of(slot: u64) -> usize {
    (slot % COUNTERS as u64) as usize
}
