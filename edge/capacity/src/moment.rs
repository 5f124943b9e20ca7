//! Points in time, as the caller sees them.

use std::ops::Add;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A point in time: so long after an epoch of the caller's choice (the start of a simulation; 1970 where schedules and
/// seasons matter). All arithmetic saturates, so that a clock that jumps never panics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Moment(Duration);

impl Moment {
    /// The epoch itself.
    pub const EPOCH: Self = Self(Duration::ZERO);

    /// So long after the epoch.
    pub const fn after_epoch(elapsed: Duration) -> Self {
        Self(elapsed)
    }

    /// So many whole seconds after the epoch.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// How long after the epoch.
    pub const fn elapsed(self) -> Duration {
        self.0
    }

    /// How long after another moment; zero when it is not after it.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// So long before, the epoch at the earliest.
    pub fn before(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(span))
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span))
    }
}

/// What happened to the caller's clock between two looks at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Jump {
    /// It went back by so much.
    Back(Duration),
    /// It went ahead by so much, which is more than the gap between two looks can be.
    Ahead(Duration),
}

/// Makes a clock that only ever goes forward, by small steps, out of one that may jump: a decision that measures windows
/// in it cannot be fooled by a correction of the system's clock, nor by a machine that slept.
#[derive(Clone, Copy, Debug)]
pub struct Steady {
    longest: Duration,
    last: Option<Moment>,
    now: Moment,
}

impl Steady {
    /// Steps above `longest` count as a jump.
    pub const fn new(longest: Duration) -> Self {
        Self { longest, last: None, now: Moment::EPOCH }
    }

    /// The steady time at a look at the clock. A jump adds nothing to it.
    pub fn look(&mut self, clock: Moment) -> (Moment, Option<Jump>) {
        let Some(last) = self.last.replace(clock) else {
            self.now = clock;
            return (self.now, None);
        };
        if clock < last {
            return (self.now, Some(Jump::Back(last.since(clock))));
        }
        let step = clock.since(last);
        if step > self.longest {
            return (self.now, Some(Jump::Ahead(step)));
        }
        self.now = self.now + step;
        (self.now, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jumps_add_nothing_to_the_steady_clock() {
        let mut steady = Steady::new(Duration::from_secs(60));
        let at = Moment::from_secs;
        assert_eq!(steady.look(at(1000)), (at(1000), None));
        assert_eq!(steady.look(at(1015)), (at(1015), None));
        assert_eq!(steady.look(at(15)), (at(1015), Some(Jump::Back(Duration::from_secs(1000)))));
        assert_eq!(steady.look(at(30)), (at(1030), None));
        assert_eq!(steady.look(at(9030)), (at(1030), Some(Jump::Ahead(Duration::from_secs(9000)))));
        assert_eq!(steady.look(at(9040)), (at(1040), None));
    }
}
