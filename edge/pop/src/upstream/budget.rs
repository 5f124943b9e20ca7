//! How many requests an origin may be sent again: a share of those it is sent anyhow, and a few each second besides, so that
//! retries help where a little fails and do not double the load where everything does (as Finagle and Linkerd have it).

use std::sync::atomic::{AtomicU64, Ordering};

/// What each request adds, in thousandths of a retry.
const SHARE: u64 = 200;
/// What each millisecond adds, in thousandths of a retry: 5 a second.
const FLOOR: u64 = 5;
/// One retry.
const RETRY: u64 = 1000;
/// The most that is saved up: 50 retries.
const MOST: u64 = 50 * RETRY;

/// A token bucket of retries. Times are milliseconds of one clock.
#[derive(Debug)]
pub(crate) struct Budget {
    left: AtomicU64,
    /// When the floor was added last.
    filled: AtomicU64,
}

impl Budget {
    /// A full one.
    pub(crate) fn new(now: u64) -> Self {
        Self { left: AtomicU64::new(MOST), filled: AtomicU64::new(now) }
    }

    /// A request is sent for the first time.
    pub(crate) fn deposit(&self) {
        // A quiet origin's budget is full, and then nothing is written.
        if self.left.load(Ordering::Relaxed) < MOST {
            self.add(SHARE);
        }
    }

    /// Takes one retry, if there is one.
    pub(crate) fn withdraw(&self, now: u64) -> bool {
        self.fill(now);
        let take = |left: u64| left.checked_sub(RETRY);
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    /// How many retries are left.
    pub(crate) fn left(&self, now: u64) -> f64 {
        self.fill(now);
        self.left.load(Ordering::Relaxed) as f64 / RETRY as f64
    }

    fn fill(&self, now: u64) {
        let before = self.filled.fetch_max(now, Ordering::Relaxed);
        self.add(now.saturating_sub(before).saturating_mul(FLOOR));
    }

    fn add(&self, amount: u64) {
        let more = |left: u64| Some(left.saturating_add(amount).min(MOST));
        let _ = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn when_all_fails_a_fifth_is_retried_and_a_few_each_second() {
        let budget = Budget::new(0);
        while budget.withdraw(0) {}
        let requests = 1000;
        let retried = (0..requests).filter(|_| {
            budget.deposit();
            budget.withdraw(0)
        });
        assert_eq!(retried.count() as u64, requests / 5);
        assert_eq!((0..100).filter(|_| budget.withdraw(1000)).count(), 5);
        assert_eq!((0..100).filter(|_| budget.withdraw(3_600_000)).count(), 50, "no more is saved up");
    }

    proptest! {
        #[test]
        fn never_more_is_taken_than_was_given(steps in proptest::collection::vec((0u64..500, any::<bool>()), 1..300)) {
            let (budget, mut now, mut given, mut taken) = (Budget::new(0), 0, MOST, 0);
            for (passed, deposit) in steps {
                now += passed;
                given += passed * FLOOR;
                if deposit {
                    budget.deposit();
                    given += SHARE;
                }
                taken += if budget.withdraw(now) { RETRY } else { 0 };
                prop_assert!(taken <= given);
                prop_assert!(budget.left(now) <= 50.0);
            }
        }
    }
}
