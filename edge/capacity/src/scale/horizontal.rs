//! How many replicas, from measurements against targets: the algorithm of Kubernetes' Horizontal Pod Autoscaler v2.
//!
//! Follows `pkg/controller/podautoscaler` of kubernetes/kubernetes (`replica_calculator.go` for one metric,
//! `horizontal.go` for what is made of several and of the past) and the page "Horizontal Pod Autoscaling" of its
//! documentation. A replica is whatever is counted: an isolate, a worker, a PoP, a region node.
//!
//! One step is [`Horizontal::propose`] for each metric, [`Horizontal::combine`], [`History::stabilise`] and
//! [`History::limit`]; [`Horizontal::decide`] does all of them. Where a measurement is no number or negative it counts
//! as missing; what is missing never makes the count go down.

mod history;
mod metric;
mod rules;

pub use history::History;
pub use metric::{Measured, Metric, Missing, Phase, Proposal, Readiness, Replica, Sample};
pub use rules::{Horizontal, Rate, Rules, Select};

use serde::Serialize;

use crate::Moment;

/// Why a count came out as it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// As the metrics ask.
    WithinRange,
    /// The configured maximum.
    TooMany,
    /// The configured minimum.
    TooFew,
    /// A policy lets it rise no faster.
    UpLimit,
    /// A policy lets it fall no faster.
    DownLimit,
    /// A lower count was asked for within the window: it may be a short peak.
    UpStabilised,
    /// A higher count was asked for within the window: it may be a short lull.
    DownStabilised,
    /// The count is 0, which somebody chose: nothing is scaled until somebody makes it 1.
    Disabled,
    /// No metric could be read: the count is held.
    NoMetrics,
    /// A metric could not be read and the others ask for less: the count is held.
    SomeMissing,
}

impl Reason {
    /// As a label, a log field and a header value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WithinRange => "within_range",
            Self::TooMany => "too_many",
            Self::TooFew => "too_few",
            Self::UpLimit => "up_limit",
            Self::DownLimit => "down_limit",
            Self::UpStabilised => "up_stabilised",
            Self::DownStabilised => "down_stabilised",
            Self::Disabled => "disabled",
            Self::NoMetrics => "no_metrics",
            Self::SomeMissing => "some_missing",
        }
    }
}

/// What came out, and what it came from.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// So many replicas should be there.
    pub desired: u32,
    /// What decided.
    pub reason: Reason,
    /// What each metric asks for, in their order.
    pub proposals: Vec<Result<Proposal, Missing>>,
}

impl Horizontal {
    /// What several metrics ask for together: the most that any asks for. When some are missing, the others may still
    /// raise the count, but not lower it.
    ///
    /// # Errors
    /// The reason to hold the count.
    pub fn combine(current: u32, proposals: &[Result<Proposal, Missing>]) -> Result<u32, Reason> {
        let most = proposals.iter().flatten().map(|proposal| proposal.replicas).max().ok_or(Reason::NoMetrics)?;
        if most < current && proposals.iter().any(Result::is_err) { Err(Reason::SomeMissing) } else { Ok(most) }
    }

    /// The count that should be there, with `current` there now. Remembers what the metrics asked for; when the caller
    /// has changed the count it says so with [`History::changed`].
    pub fn decide(
        &self,
        history: &mut History,
        current: u32,
        replicas: &[Replica],
        metrics: &[Metric],
        now: Moment,
    ) -> Verdict {
        self.decide_at(history, current, replicas, metrics, now, now)
    }

    /// The same where windows are measured by a steady clock besides the one that the samples were taken by.
    pub(crate) fn decide_at(
        &self,
        history: &mut History,
        current: u32,
        replicas: &[Replica],
        metrics: &[Metric],
        now: Moment,
        steady: Moment,
    ) -> Verdict {
        history.begin(current, steady);
        let mut proposals = Vec::new();
        let (desired, reason) = if current == 0 && self.min != 0 {
            (0, Reason::Disabled)
        } else if current > self.max {
            (self.max, Reason::TooMany)
        } else if current < self.min {
            (self.min, Reason::TooFew)
        } else {
            proposals = metrics.iter().map(|metric| self.propose(current, replicas, metric, now)).collect();
            match Self::combine(current, &proposals) {
                Err(reason) => (current, reason),
                Ok(asked) => self.apply_rules(history, current, asked, steady),
            }
        };
        Verdict { desired, reason, proposals }
    }

    fn apply_rules(&self, history: &mut History, current: u32, asked: u32, now: Moment) -> (u32, Reason) {
        let stable = history.stabilise(self, current, asked, now);
        let (desired, reason) = history.limit(self, current, stable, now);
        match reason {
            Reason::WithinRange if stable < asked => (desired, Reason::UpStabilised),
            Reason::WithinRange if stable > asked => (desired, Reason::DownStabilised),
            reason => (desired, reason),
        }
    }
}

#[cfg(test)]
mod tests;
