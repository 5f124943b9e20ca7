//! A switch that noise does not move.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Moment;
use crate::invalid::Check;

/// When a signal turns something on and off.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Band {
    /// On at this or above.
    pub on: f64,
    /// Off at this or below; below `on`.
    pub off: f64,
    /// It stays as it is so long after each turn.
    #[serde(with = "crate::span")]
    pub dwell: Duration,
}

impl Band {
    pub(super) fn check(&self, table: &str, check: &mut Check) {
        check.under(table, |check| {
            check.within("on", self.on, 0.0..=f64::MAX);
            check.that(
                self.off >= 0.0 && self.off < self.on,
                "off",
                format!("must be from 0 to below `on` ({}), but it is {}", self.on, self.off),
            );
            check.span("dwell", self.dwell, Duration::ZERO..=Duration::from_secs(86_400));
        });
    }
}

/// Something that is on or off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Switch {
    on: bool,
    turned: Option<Moment>,
}

impl Switch {
    /// Whether it is on.
    pub fn is_on(&self) -> bool {
        self.on
    }

    /// As [`Switch::look`], but it turns on at once: only turning off waits for the dwell. For what must not be waited for
    /// once it is known. In any stretch of time there are at most two turns for each dwell that goes into it, and two more.
    pub fn rise(&mut self, band: &Band, signal: f64, now: Moment) -> bool {
        if !self.on && signal >= band.on {
            (self.on, self.turned) = (true, Some(now));
        }
        // On, and above `off`: it stays, and only what is off can have been turned just now.
        if self.on && signal <= band.off { self.look(band, signal, now) } else { self.on }
    }

    /// Looks at the signal; what is no number turns nothing. In any stretch of time there are at most two turns more than
    /// the dwell goes into it.
    pub fn look(&mut self, band: &Band, signal: f64, now: Moment) -> bool {
        let turns = if self.on { signal <= band.off } else { signal >= band.on };
        // A clock that went back lets it stay longer, not shorter.
        if turns && self.turned.is_none_or(|at| now.since(at) >= band.dwell) {
            (self.on, self.turned) = (!self.on, Some(now));
        }
        self.on
    }
}
