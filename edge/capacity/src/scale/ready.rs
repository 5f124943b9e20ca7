//! How many isolates to hold ready, from how starts and requests arrive.
//!
//! Two questions. How many *blank* isolates should a worker hold (`ready` of its configuration), so that a start need not
//! make one: as many as starts may come while the taken ones are made anew. This is a base stock with a lead time; what is
//! on its way at a moment is, by Palm's theorem, distributed as the arrivals in one lead time. And how many isolates that
//! hold a *function* should there be ("provisioned concurrency"), so that a request need not start one: Erlang's loss
//! formula. Arrivals that come in bursts, which their index of dispersion tells, need more: a negative binomial in place of
//! the Poisson distribution, and Hayward's approximation in Erlang's formula.

mod arrivals;
pub(crate) mod quantile;

pub use arrivals::Arrivals;
pub use quantile::{erlang_b, erlang_c};

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Moment;
use crate::invalid::{Check, Invalids};

/// How many isolates are held ready.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ready {
    /// Blank isolates of a worker at least; with 0 none is held ever.
    pub min_ready: usize,
    /// Blank isolates of a worker at most.
    pub max_ready: usize,
    /// Isolates of one function at most.
    pub max_provisioned: usize,
    /// The part of the starts (of the requests) that may find none.
    pub miss: f64,
}

impl Default for Ready {
    fn default() -> Self {
        Self { min_ready: 2, max_ready: 34, max_provisioned: 1000, miss: 0.001 }
    }
}

impl Ready {
    /// Blank isolates that one worker should hold, with `starts` as they arrive at it (counted in spans of the time that
    /// making one takes: [`Arrivals::new`]).
    pub fn blank(&self, starts: &Arrivals, now: Moment) -> usize {
        if self.min_ready == 0 {
            return 0;
        }
        let wanted = match starts.in_span(now) {
            // One finds none when all are on their way: as many as may be under way, and one.
            Some((mean, dispersion)) => quantile::arrivals(mean, dispersion, 1.0 - self.miss).saturating_add(1),
            None => 0,
        };
        wanted.clamp(self.min_ready, self.max_ready.max(self.min_ready))
    }

    /// Isolates that should hold a function, for `requests` as they arrive and the time that one takes an isolate. Nothing
    /// when no requests were seen: that is for the policy to decide.
    pub fn provisioned(&self, requests: &Arrivals, service: Duration, now: Moment) -> Option<usize> {
        let (mean, dispersion) = requests.in_span(now)?;
        let load = mean * service.as_secs_f64() / requests.span().as_secs_f64();
        Some(servers(load, dispersion.max(1.0), self.miss, self.max_provisioned))
    }

    /// # Errors
    /// Every key that cannot be used.
    pub fn validate(&self) -> Result<(), Invalids> {
        let mut check = Check::default();
        self.check(&mut check);
        check.done()
    }

    pub(crate) fn check(&self, check: &mut Check) {
        check.that(
            self.max_ready >= self.min_ready,
            "max_ready",
            format!("must not be below `min_ready` ({}), but it is {}", self.min_ready, self.max_ready),
        );
        check.that(
            self.max_ready <= 10_000,
            "max_ready",
            format!("must be at most 10000, but it is {}", self.max_ready),
        );
        check.that(
            (1..=100_000).contains(&self.max_provisioned),
            "max_provisioned",
            format!("must be from 1 to 100000, but it is {}", self.max_provisioned),
        );
        check.within("miss", self.miss, 1e-6..=0.5);
    }
}

/// The fewest servers that lose no greater part of a load (in Erlang) than `loss`. Of a load with the peakedness `z`,
/// `z` times the servers are needed that a load of one `z`th would need (Hayward).
fn servers(load: f64, peakedness: f64, loss: f64, most: usize) -> usize {
    if !(load.is_finite() && load > 0.0) {
        return 0;
    }
    let mut blocked = 1.0;
    for n in 1..=most {
        blocked = quantile::erlang_b_step(blocked, n, load / peakedness);
        if blocked <= loss {
            // The cast saturates.
            return ((n as f64 * peakedness).ceil() as usize).min(most);
        }
    }
    most
}

#[cfg(test)]
mod tests;
