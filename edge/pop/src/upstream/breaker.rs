//! When to leave an origin alone for a while: a circuit breaker.
//!
//! It opens after [`IN_A_ROW`] failures in a row, or when half of what was asked within [`WINDOW`] failed. While it is open
//! nothing is sent. After a pause one request may try ("half-open"), another one if nothing is heard of that for as long
//! again; the first response closes it. A failure is an exchange for which no connection was had, or no answer in time: an origin
//! that answers 500, or hangs up, is there, and an answer of its own tells more than one of the PoP's.
//!
//! All state lies in a few numbers that threads change without a lock, and time and chance come in.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// Failures in a row that open it.
const IN_A_ROW: u32 = 5;
/// The stretch of time whose exchanges are counted together.
const WINDOW: Duration = Duration::from_secs(10);
/// Exchanges within it below which their share of failures says nothing.
const FEW: u64 = 20;
/// The first pause; each probe that fails doubles it.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What one origin's exchanges came to lately. Times are milliseconds of one clock.
#[derive(Debug)]
pub(crate) struct Breaker {
    /// Failures in a row that open it.
    tolerance: u32,
    /// Until when nothing is sent; 0 while it is closed.
    until: AtomicU64,
    in_a_row: AtomicU32,
    /// Pauses since it was closed.
    pauses: AtomicU32,
    window: AtomicU64,
}

/// How a breaker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Closed,
    Open,
    HalfOpen,
}

impl Phase {
    pub(crate) const ALL: [Self; 3] = [Self::Closed, Self::Open, Self::HalfOpen];

    /// The label in metrics.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
        }
    }
}

/// Leave to ask the origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pass {
    Closed,
    /// What comes of this request decides for all.
    Probe,
}

impl Default for Breaker {
    fn default() -> Self {
        Self::new(IN_A_ROW)
    }
}

impl Breaker {
    /// One that opens after so many failures in a row.
    pub(crate) const fn new(tolerance: u32) -> Self {
        Self {
            tolerance,
            until: AtomicU64::new(0),
            in_a_row: AtomicU32::new(0),
            pauses: AtomicU32::new(0),
            window: AtomicU64::new(0),
        }
    }

    pub(crate) fn phase(&self, now: u64) -> Phase {
        match self.until.load(Ordering::Relaxed) {
            0 => Phase::Closed,
            until if now < until => Phase::Open,
            _ => Phase::HalfOpen,
        }
    }

    /// For how long nothing will be sent yet, as far as is known now.
    pub(crate) fn holds(&self, now: u64) -> Option<Duration> {
        let until = self.until.load(Ordering::Relaxed);
        (now < until).then(|| Duration::from_millis(until - now))
    }

    /// Leave to ask, or how long to leave the origin alone. A probe that is never heard of again needs no giving back.
    pub(crate) fn admit(&self, now: u64) -> Result<Pass, Duration> {
        let until = self.until.load(Ordering::Relaxed);
        if until == 0 {
            return Ok(Pass::Closed);
        }
        if now < until {
            return Err(Duration::from_millis(until - now));
        }
        // Whoever moves the time on is the probe.
        let next = now + millis(self.pause());
        match self.until.compare_exchange(until, next, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => Ok(Pass::Probe),
            Err(0) => Ok(Pass::Closed),
            Err(moved) => Err(Duration::from_millis(moved.saturating_sub(now))),
        }
    }

    /// A response came. Also one to a request that was sent before it opened shows that the origin is there.
    pub(crate) fn succeeded(&self, now: u64) {
        if self.in_a_row.load(Ordering::Relaxed) != 0 {
            self.in_a_row.store(0, Ordering::Relaxed);
        }
        if self.until.load(Ordering::Relaxed) == 0 {
            self.count(now, false);
        } else {
            self.pauses.store(0, Ordering::Relaxed);
            self.window.store(0, Ordering::Relaxed);
            self.until.store(0, Ordering::Relaxed);
        }
    }

    /// No response came. `random` is at least 0 and below 1, and spreads the end of the pause by a quarter either way, so
    /// that the PoPs of a fleet do not all try at once. True when it is this failure that opens it.
    pub(crate) fn failed(&self, pass: Pass, now: u64, random: f64) -> bool {
        let in_a_row = self.in_a_row.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let (total, failed) = self.count(now, true);
        let until = self.until.load(Ordering::Relaxed);
        let opens = until == 0 && (in_a_row >= self.tolerance || (total >= FEW && failed * 2 >= total));
        if !opens && pass == Pass::Closed {
            return false;
        }
        self.pauses.fetch_add(1, Ordering::Relaxed);
        let next = (now + millis(self.pause().mul_f64(0.75 + random / 2.0))).max(1);
        // A response that came meanwhile has closed it; another thread may have opened it.
        let was = self.until.compare_exchange(until, next, Ordering::Relaxed, Ordering::Relaxed);
        opens && was.is_ok()
    }

    fn pause(&self) -> Duration {
        let doublings = self.pauses.load(Ordering::Relaxed).saturating_sub(1).min(16);
        (PAUSE * (1 << doublings)).min(LONGEST_PAUSE)
    }

    /// Counts an exchange: how many of this window there are now, and how many failed.
    fn count(&self, now: u64, failure: bool) -> (u64, u64) {
        let place = (now / millis(WINDOW)) & PLACES;
        let counted = |packed: u64| {
            let (then, total, failed) = (packed >> 40, (packed >> 20) & MOST, packed & MOST);
            let (total, failed) = if then == place { (total, failed) } else { (0, 0) };
            // A full count stands still: its share is known by then.
            if total == MOST { (total, failed) } else { (total + 1, failed + u64::from(failure)) }
        };
        let add = |packed| {
            let (total, failed) = counted(packed);
            Some((place << 40) | (total << 20) | failed)
        };
        match self.window.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add) {
            Ok(before) | Err(before) => counted(before),
        }
    }
}

/// The window's number takes 24 bits, its two counts 20 bits each.
const PLACES: u64 = (1 << 24) - 1;
const MOST: u64 = (1 << 20) - 1;

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn opened() -> Breaker {
        let breaker = Breaker::default();
        let opened: Vec<_> = (0..IN_A_ROW).map(|_| breaker.failed(Pass::Closed, 100, 0.5)).collect();
        assert_eq!(opened, [false, false, false, false, true]);
        breaker
    }

    #[test]
    fn failures_in_a_row_open_it_and_one_probe_after_the_pause_decides() {
        let breaker = opened();
        assert_eq!(breaker.admit(100), Err(PAUSE));
        assert_eq!((breaker.phase(1099), breaker.phase(1100)), (Phase::Open, Phase::HalfOpen));
        assert_eq!(breaker.admit(1100), Ok(Pass::Probe));
        assert!(breaker.admit(1100).is_err(), "one at a time");
        assert!(!breaker.failed(Pass::Probe, 1200, 0.5));
        assert_eq!(breaker.admit(1200), Err(2 * PAUSE), "and longer each time");
        assert_eq!(breaker.admit(3200), Ok(Pass::Probe));
        breaker.succeeded(3300);
        assert_eq!((breaker.admit(3300), breaker.phase(3300)), (Ok(Pass::Closed), Phase::Closed));
    }

    #[test]
    fn a_probe_that_is_never_heard_of_again_is_followed_by_another() {
        let breaker = opened();
        assert_eq!(breaker.admit(1100), Ok(Pass::Probe));
        assert_eq!(breaker.admit(2100), Ok(Pass::Probe));
    }

    #[test]
    fn half_of_a_window_opens_it_although_others_succeed() {
        let breaker = Breaker::default();
        for exchange in 0..FEW {
            breaker.succeeded(5000);
            let opens = breaker.failed(Pass::Closed, 5000, 0.0);
            assert_eq!(opens, exchange == FEW / 2 - 1, "{exchange}");
            if opens {
                return;
            }
        }
    }

    #[test]
    fn what_failed_long_ago_no_longer_counts() {
        let breaker = Breaker::default();
        for window in 0..100 {
            for _ in 0..4 {
                assert!(!breaker.failed(Pass::Closed, window * 10_000, 0.0));
            }
            (0..5).for_each(|_| breaker.succeeded(window * 10_000));
        }
    }

    #[test]
    fn requests_that_were_under_way_when_it_opened_do_not_lengthen_the_pause() {
        let breaker = opened();
        (0..100).for_each(|_| assert!(!breaker.failed(Pass::Closed, 200, 0.9)));
        assert_eq!(breaker.admit(1100), Ok(Pass::Probe));
    }

    proptest! {
        #[test]
        fn the_pause_is_bounded_and_a_success_always_closes(
            steps in proptest::collection::vec((0u64..20_000, any::<bool>(), 0.0f64..1.0), 1..200),
        ) {
            let (breaker, mut now) = (Breaker::default(), 1);
            for (passed, succeeds, random) in steps {
                now += passed;
                match breaker.admit(now) {
                    Err(wait) => prop_assert!(wait <= LONGEST_PAUSE.mul_f64(1.25), "{wait:?}"),
                    Ok(_) if succeeds => {
                        breaker.succeeded(now);
                        prop_assert_eq!(breaker.admit(now), Ok(Pass::Closed));
                    }
                    Ok(pass) => drop(breaker.failed(pass, now, random)),
                }
            }
        }
    }
}
