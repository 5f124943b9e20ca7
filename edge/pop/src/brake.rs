//! The brake of a budget: a rate that a function's requests keep to on this PoP, set from outside as money goes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::fault::Fault;

/// How far requests may run ahead of their rate: what comes together within so long is not refused.
const BURST_US: u64 = 1_000_000;
/// The longest pause that a client is told.
const LONGEST: Duration = Duration::from_secs(86_400);

/// A generic cell rate algorithm with one cell for all clients. As long as it is released, a request reads one word.
#[derive(Debug, Default)]
pub(crate) struct Brake {
    /// Microseconds between requests; 0: as many as come; [`Self::ALL`]: none.
    pace: AtomicU64,
    /// The time at which the next one would be due, if all had kept to the pace.
    due: AtomicU64,
    /// For how long a refused client is told to stay away at least, in seconds.
    pause: AtomicU64,
}

impl Brake {
    const ALL: u64 = u64::MAX;

    /// Lets so many requests a second through, or all of them with `None`. With 0 there are none for `pause`.
    pub(crate) fn set(&self, rate: Option<f64>, pause: Duration) {
        let pace = match rate {
            None => 0,
            // Less than one in a day is none.
            Some(rate) if rate * LONGEST.as_secs_f64() < 1.0 => Self::ALL,
            Some(rate) => ((1e6 / rate) as u64).max(1),
        };
        self.pause.store(pause.min(LONGEST).as_secs().max(1), Ordering::Relaxed);
        self.pace.store(pace, Ordering::Relaxed);
    }

    /// Whether a request may go on, at a time in microseconds.
    ///
    /// # Errors
    /// [`Fault::OverBudget`].
    pub(crate) fn admit(&self, now: impl FnOnce() -> u64) -> Result<(), Fault> {
        match self.pace.load(Ordering::Relaxed) {
            0 => Ok(()),
            Self::ALL => {
                Err(Fault::OverBudget { retry_after: Duration::from_secs(self.pause.load(Ordering::Relaxed)) })
            }
            pace => self.keep_to(pace, now()),
        }
    }

    fn keep_to(&self, pace: u64, now: u64) -> Result<(), Fault> {
        let next = |due: u64| (due <= now + BURST_US).then(|| due.max(now) + pace);
        match self.due.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next) {
            Ok(_) => Ok(()),
            Err(due) => {
                let wait = Duration::from_micros((due - now).saturating_sub(BURST_US));
                Err(Fault::OverBudget { retry_after: wait.clamp(Duration::from_secs(1), LONGEST) })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(brake: &Brake, seconds: u64) -> usize {
        // A hundred a second come.
        (0..seconds * 100).filter(|n| brake.admit(|| n * 10_000).is_ok()).count()
    }

    #[test]
    fn requests_keep_to_the_rate_and_all_go_on_when_it_is_released() {
        let brake = Brake::default();
        assert_eq!(admitted(&brake, 10), 1000);
        brake.set(Some(5.0), Duration::ZERO);
        let over = admitted(&brake, 10);
        assert!((50..=56).contains(&over), "{over}");
        brake.set(None, Duration::ZERO);
        assert_eq!(admitted(&brake, 1), 100);
    }

    #[test]
    fn who_is_refused_is_told_when_to_come_again() {
        let brake = Brake::default();
        let told = |brake: &Brake| match brake.admit(|| 0) {
            Err(Fault::OverBudget { retry_after }) => retry_after.as_secs(),
            _ => 0,
        };
        brake.set(Some(0.0), Duration::from_secs(3600));
        assert_eq!((told(&brake), told(&brake)), (3600, 3600));
        brake.set(Some(f64::NAN), Duration::MAX);
        assert!(told(&brake) <= 86_400);
        brake.set(Some(0.1), Duration::ZERO);
        assert_eq!((told(&brake), told(&brake)), (0, 9));
    }
}
