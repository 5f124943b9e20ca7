//! What is known of one function: its need against the edge's limits, and its cost here and there.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::hysteresis::Switch;
use super::{Fallback, Placement, Why};
use crate::Moment;
use crate::invalid::Check;
use crate::scale::vertical::Need;

/// What an invocation may use, or is declared to use.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// CPU in milliseconds.
    pub cpu_ms: f64,
    /// Memory in bytes.
    pub memory: f64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { cpu_ms: 50.0, memory: (128 << 20) as f64 }
    }
}

impl Limits {
    pub(super) fn check(&self, check: &mut Check) {
        check.within("cpu_ms", self.cpu_ms, 0.1..=f64::MAX);
        check.within("memory", self.memory, 1e6..=f64::MAX);
    }

    /// The larger of both uses, in parts of these limits.
    fn share(&self, cpu_ms: f64, memory: f64) -> f64 {
        (cpu_ms / self.cpu_ms).max(memory / self.memory)
    }
}

/// What a function costs here and there at its present load, and how near its users each is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Costs {
    /// Of a million requests at the edge.
    pub edge: f64,
    /// Of a million requests in the region, in the same currency.
    pub region: f64,
    /// The latency that 99 in 100 requests would keep in the region, as clients see it.
    pub region_p99: Duration,
}

/// What is known of one function.
#[derive(Clone, Debug)]
pub struct Standing {
    placement: Placement,
    declared: Option<Limits>,
    objective: Option<Duration>,
    declared_too_large: bool,
    learnt_too_large: Switch,
    peak: Peak,
    cheaper: Switch,
}

/// The largest use of late, in parts of the edge's limits. It fades, so that one large request is not held against a
/// function for ever.
#[derive(Clone, Copy, Debug, Default)]
struct Peak {
    share: f64,
    at: Moment,
}

impl Peak {
    /// What is left of it. A clock that went back lets nothing fade.
    fn fading(&self, half_life: Duration, now: Moment) -> f64 {
        self.share * (-now.since(self.at).as_secs_f64() / half_life.as_secs_f64().max(1.0)).exp2()
    }

    fn add(&mut self, share: f64, half_life: Duration, now: Moment) {
        let left = self.fading(half_life, now);
        // What is no number says nothing; what is far above counts for no longer than what is twice too large.
        let share = if share.is_finite() { share.clamp(0.0, BROKE) } else { 0.0 };
        (self.share, self.at) = (left.max(share), self.at.max(now));
    }
}

/// What one invocation counts for that broke a limit of the edge, in parts of that limit: how much it would have used
/// nobody knows.
pub const BROKE: f64 = 2.0;

impl Standing {
    /// A function by what its owner says: where it should run, what it needs, and which latency 99 in 100 of its requests
    /// should keep. Without such an objective, cost never moves it away from its users.
    pub fn new(config: &Fallback, placement: Placement, declared: Option<Limits>, objective: Option<Duration>) -> Self {
        let declared_too_large = declared.is_some_and(|need| config.limits.share(need.cpu_ms, need.memory) > 1.0);
        Self {
            placement,
            declared,
            objective,
            declared_too_large,
            learnt_too_large: Switch::default(),
            peak: Peak::default(),
            cheaper: Switch::default(),
        }
    }

    /// Where its owner wants it.
    pub fn placement(&self) -> Placement {
        self.placement
    }

    /// What its owner says that it needs.
    pub fn declared(&self) -> Option<Limits> {
        self.declared
    }

    /// What it was seen to need. A need with little history, or none, moves nothing.
    pub fn learn(&mut self, config: &Fallback, need: Option<&Need>, now: Moment) {
        let known = need.filter(|need| need.confidence >= config.confidence);
        let share = known.map_or(f64::NAN, |need| config.limits.share(need.cpu_ms.target, need.memory.target));
        self.learnt_too_large.look(&config.need, share, now);
    }

    /// What its owner declares, in parts of the most that the edge gives: above 1, it never runs there.
    pub fn declare(&mut self, share: f64) {
        self.declared_too_large |= share > 1.0;
    }

    /// What one invocation was seen to use, here or in the region, in parts of the edge's limits; [`BROKE`] for one that
    /// broke one. One that is too large sends the function to the region at once; it comes back when nothing large was seen
    /// for so long that the memory of it has faded, and not before the dwell of [`Fallback::need`].
    pub fn saw(&mut self, config: &Fallback, share: f64, now: Moment) {
        self.peak.add(share, config.need.dwell, now);
        self.recall(config, now);
    }

    /// Looks at what is remembered; whether something turned. For whoever decides while nothing is seen.
    pub fn recall(&mut self, config: &Fallback, now: Moment) -> bool {
        let before = self.learnt_too_large.is_on();
        self.learnt_too_large.rise(&config.need, self.peak.fading(config.need.dwell, now), now) != before
    }

    /// Whether it may be tried at the edge when the region cannot have it: it may, unless its owner says otherwise.
    pub fn may_run_at_edge(&self) -> bool {
        self.placement != Placement::Region && !self.declared_too_large
    }

    /// What it costs. Costs that are missing, negative or no numbers move nothing; a region too far for the objective
    /// counts as one that costs too much.
    pub fn compare(&mut self, config: &Fallback, costs: Option<Costs>, now: Moment) {
        let ratio = costs.map_or(f64::NAN, |costs| {
            let near = self.objective.is_some_and(|objective| costs.region_p99 <= objective);
            let known = [costs.edge, costs.region].iter().all(|cost| cost.is_finite() && *cost >= 0.0);
            match (near, known) {
                (false, _) => 0.0,
                (true, true) => costs.edge / costs.region,
                (true, false) => f64::NAN,
            }
        });
        self.cheaper.look(&config.cost, ratio, now);
    }

    /// Why it cannot run at the edge, if so.
    pub fn too_large(&self) -> Option<Why> {
        if self.declared_too_large {
            Some(Why::DeclaredNeed)
        } else if self.learnt_too_large.is_on() {
            Some(Why::LearntNeed)
        } else {
            None
        }
    }

    /// Whether the region is the cheaper place that is near enough.
    pub fn costs_less_in_region(&self) -> bool {
        self.cheaper.is_on()
    }
}
