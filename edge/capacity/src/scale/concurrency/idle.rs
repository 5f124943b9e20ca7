//! When the last replica may go.

use super::Concurrency;
use crate::Moment;

/// Whether a function is in use, and since when (`kpa/scaler.go`, `handleScaleToZero`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// It is.
    Active {
        /// Since then.
        since: Moment,
    },
    /// There is nothing to do for it.
    Inactive {
        /// Since then.
        since: Moment,
    },
}

impl Idle {
    /// What becomes of a wish for none: one stays until the function was active for a whole window of calm, then until it
    /// was inactive for the grace and the retention; only then it is none.
    pub fn step(&mut self, config: &Concurrency, desired: u32, current: u32, now: Moment) -> u32 {
        if desired > 0 {
            if matches!(self, Self::Inactive { .. }) {
                *self = Self::Active { since: now };
            }
            return desired;
        }
        if !config.to_zero {
            return 1;
        }
        match *self {
            Self::Active { since } if now.since(since) < config.stable_window => 1,
            Self::Active { .. } => {
                *self = Self::Inactive { since: now };
                current
            }
            Self::Inactive { since } if now.since(since) < config.grace.max(config.retention) => current,
            Self::Inactive { .. } => 0,
        }
    }
}
