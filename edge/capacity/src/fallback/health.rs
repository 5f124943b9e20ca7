//! Whether a place can be relied on: a PoP, its origin, the region.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::hysteresis::{Band, Switch};
use crate::Moment;
use crate::invalid::Check;

/// How health is told from outcomes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Vitals {
    /// The part of the outcomes that failed at which a place counts as ill, and the part at which it is well again.
    pub failures: Band,
    /// Half of an outcome's weight is forgotten in so long.
    #[serde(with = "crate::span")]
    pub half_life: Duration,
    /// With less weight than so many outcomes, nothing is concluded.
    pub least: f64,
    /// An ill place gets one request in so many, to see whether it is well.
    pub trial: u32,
}

impl Default for Vitals {
    fn default() -> Self {
        let (dwell, half_life) = (Duration::from_secs(10), Duration::from_secs(5));
        Self { failures: Band { on: 0.5, off: 0.1, dwell }, half_life, least: 5.0, trial: 20 }
    }
}

impl Vitals {
    pub(super) fn check(&self, check: &mut Check) {
        self.failures.check("failures", check);
        check.within("failures.on", self.failures.on, 0.01..=1.0);
        check.span("half_life", self.half_life, Duration::from_millis(100)..=Duration::from_secs(3600));
        check.within("least", self.least, 1.0..=1e6);
        check.that(self.trial >= 2, "trial", format!("must be at least 2, but it is {}", self.trial));
    }
}

/// The health of one place.
#[derive(Clone, Copy, Debug, Default)]
pub struct Health {
    /// Outcomes, and those of them that failed; old ones weigh less.
    outcomes: f64,
    failures: f64,
    at: Moment,
    ill: Switch,
    asked: u32,
}

impl Health {
    /// An invocation, or a probe, went well or failed (by fault of the place: not a client's error, nor a function's).
    pub fn outcome(&mut self, config: &Vitals, well: bool, now: Moment) {
        let kept = (-now.since(self.at).as_secs_f64() / config.half_life.as_secs_f64()).exp2();
        self.outcomes = self.outcomes * kept + 1.0;
        self.failures = self.failures * kept + f64::from(u8::from(!well));
        self.at = self.at.max(now);
        // What is no number turns nothing.
        let part = if self.outcomes < config.least { f64::NAN } else { self.failures / self.outcomes };
        self.ill.look(&config.failures, part, now);
    }

    /// Whether it can be relied on.
    pub fn is_well(&self) -> bool {
        !self.ill.is_on()
    }

    /// Whether a request may go there: always while it is well, one in so many while it is ill.
    pub fn admits(&mut self, config: &Vitals) -> bool {
        if self.is_well() {
            self.asked = 0;
            return true;
        }
        self.asked += 1;
        let trial = self.asked >= config.trial;
        if trial {
            self.asked = 0;
        }
        trial
    }
}
