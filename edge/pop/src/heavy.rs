//! Functions that hold up others, and so run apart for a while.
//!
//! A worker is one thread: while a function computes for 50 ms, every other request of that worker waits for 50 ms. V8 cannot
//! set one function aside for another within a thread, but the system can do that with processes. So a function that was
//! seen to compute for long without a pause, or that cost a worker, has its requests answered in a cell, of lower priority
//! than the workers. There it may compute as long as its limits allow, and the worker goes on.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A stretch of JavaScript that is so long sends its function apart at once: no first call of an ordinary one is.
const LONG: Duration = Duration::from_millis(25);
/// One that is so long does when it is the second within [`APART_MS`]. The first may be what a first call compiles.
const LONGISH: Duration = Duration::from_millis(5);
/// So long after the last such stretch, a function is back among the others. Milliseconds.
const APART_MS: u64 = 60_000;
/// So long after it has cost a worker. Milliseconds.
const AFTER_LOSS_MS: u64 = 3_600_000;

/// How heavy a function was of late. Times are milliseconds of the PoP's clock, which begins above 0.
#[derive(Debug, Default)]
pub(crate) struct Heavy {
    until: AtomicU64,
    longish_until: AtomicU64,
}

impl Heavy {
    /// Notes a stretch of JavaScript. Whether the function is heavy by it, and was not before.
    pub(crate) fn ran(&self, stretch: Duration, now_ms: impl FnOnce() -> u64) -> bool {
        if stretch < LONGISH {
            return false;
        }
        let now = now_ms();
        let again = self.longish_until.swap(now + APART_MS, Ordering::Relaxed) > now;
        (again || stretch >= LONG) && self.set(now, APART_MS)
    }

    /// Notes that the function is sent here to compute for long.
    pub(crate) fn expect(&self, now_ms: u64) {
        self.set(now_ms, APART_MS);
    }

    /// Notes that the function has cost a worker.
    pub(crate) fn cost_a_worker(&self, now_ms: u64) {
        self.set(now_ms, AFTER_LOSS_MS);
    }

    /// Whether it runs apart now.
    pub(crate) fn is_now(&self, now_ms: impl FnOnce() -> u64) -> bool {
        // Nearly every function never was, and needs no clock to say so.
        let until = self.until.load(Ordering::Relaxed);
        until > 0 && until > now_ms()
    }

    fn set(&self, now: u64, time: u64) -> bool {
        self.until.fetch_max(now + time, Ordering::Relaxed) <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_stretch_or_two_longish_ones_send_a_function_apart_for_a_minute() {
        let heavy = Heavy::default();
        let ran = |millis, now| heavy.ran(Duration::from_millis(millis), || now);
        let is = |now| heavy.is_now(|| now);
        assert!(!ran(4, 1) && !ran(4, 2) && !is(2));
        assert!(!ran(5, 10) && !is(10), "one may be a first call");
        assert!(!ran(5, 10 + APART_MS) && !is(10 + APART_MS), "so may another, much later");
        assert!(ran(5, 11 + APART_MS) && is(12 + APART_MS));
        assert!(!ran(30, 12 + APART_MS), "it was heavy before");
        assert!(is(11 + 2 * APART_MS) && !is(12 + 2 * APART_MS), "and for a minute after the last one");
        assert!(ran(25, 10 * APART_MS) && is(10 * APART_MS + 1));

        let killer = Heavy::default();
        killer.cost_a_worker(7);
        assert!(killer.is_now(|| 6 + AFTER_LOSS_MS) && !killer.is_now(|| 7 + AFTER_LOSS_MS));
    }
}
