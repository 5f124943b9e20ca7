//! How fast a count may change, and between which bounds.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::invalid::{Check, Invalids};

/// How one thing is scaled. The defaults are those of Kubernetes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Horizontal {
    /// Never fewer. 0 lets it go to none.
    pub min: u32,
    /// Never more.
    pub max: u32,
    /// A measurement so near its target, in parts of it, changes nothing.
    pub tolerance: f64,
    /// A replica that turned unready so soon after its start has never been ready.
    #[serde(with = "crate::span")]
    pub initial_readiness: Duration,
    /// So long after its start, what a replica uses may be the start itself: it counts only once it has been ready for a
    /// whole window of the measurement.
    #[serde(with = "crate::span")]
    pub initialisation: Duration,
    /// How the count rises.
    pub up: Rules,
    /// How it falls.
    #[serde(default = "Rules::down")]
    pub down: Rules,
}

impl Default for Horizontal {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            min: 1,
            max: 100,
            tolerance: 0.1,
            initial_readiness: seconds(30),
            initialisation: seconds(300),
            up: Rules::default(),
            down: Rules::down(),
        }
    }
}

/// How a count changes in one direction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rules {
    /// Over so long, the most careful of what was asked for counts. At most an hour.
    #[serde(with = "crate::span")]
    pub window: Duration,
    /// Which policy decides when there are several.
    pub select: Select,
    /// How fast it may change; at least one.
    pub policies: Vec<Rate>,
}

impl Default for Rules {
    /// At once, by 4 or by as many as are there in 15 seconds, whichever is more.
    fn default() -> Self {
        let period = Duration::from_secs(15);
        let policies = vec![Rate::Count { value: 4, period }, Rate::Percent { value: 100, period }];
        Self { window: Duration::ZERO, select: Select::Max, policies }
    }
}

impl Rules {
    /// The default for falling: to what was the most in five minutes, and then at once.
    fn down() -> Self {
        let policies = vec![Rate::Percent { value: 100, period: Duration::from_secs(15) }];
        Self { window: Duration::from_secs(300), select: Select::Max, policies }
    }
}

/// Which policy decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Select {
    /// The one that lets the count change most.
    #[default]
    Max,
    /// The one that lets it change least.
    Min,
    /// None: the count does not change in this direction.
    Disabled,
}

/// A bound on the change in a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Rate {
    /// By so many.
    Count {
        /// Replicas.
        value: u32,
        /// In so long; at most half an hour.
        #[serde(with = "crate::span")]
        period: Duration,
    },
    /// By a part of those at the period's begin.
    Percent {
        /// In percent.
        value: u32,
        /// In so long; at most half an hour.
        #[serde(with = "crate::span")]
        period: Duration,
    },
}

impl Rate {
    pub(super) fn period(self) -> Duration {
        let (Self::Count { period, .. } | Self::Percent { period, .. }) = self;
        period
    }
}

impl Horizontal {
    /// # Errors
    /// Every key that cannot be used.
    pub fn validate(&self) -> Result<(), Invalids> {
        let mut check = Check::default();
        self.check(&mut check);
        check.done()
    }

    pub(crate) fn check(&self, check: &mut Check) {
        check.that(self.max >= 1, "max", "must be at least 1, but it is 0");
        check.that(
            self.min <= self.max,
            "min",
            format!("must not be above `max` ({}), but it is {}", self.max, self.min),
        );
        check.within("tolerance", self.tolerance, 0.0..=1.0);
        for (name, rules) in [("up", &self.up), ("down", &self.down)] {
            check.under(name, |check| rules.check(check));
        }
    }
}

impl Rules {
    fn check(&self, check: &mut Check) {
        check.span("window", self.window, Duration::ZERO..=Duration::from_secs(3600));
        check.that(
            !self.policies.is_empty(),
            "policies",
            "must hold at least one policy; to stop, say select = \"disabled\"",
        );
        for (i, rate) in self.policies.iter().enumerate() {
            check.under(&format!("policies[{i}]"), |check| {
                check.span("period", rate.period(), Duration::from_secs(1)..=Duration::from_secs(1800));
                let (Rate::Count { value, .. } | Rate::Percent { value, .. }) = rate;
                check.that(*value > 0, "value", "must be above 0, but it is 0");
            });
        }
    }
}
