//! Where a request runs: here at the edge, or in the region.
//!
//! [`Fallback::choose`] decides for one request from what is known of the function ([`Standing`]) and of the PoP
//! ([`Pop`]). What concerns all requests of a function (its need, its cost) or all of a place (its health) turns by a
//! [`Switch`], so that noise does not move it; what concerns one request (the limit, the queue) sends just the surplus.
//!
//! A request that has started is never run twice unless it is idempotent and nothing of its response was sent
//! ([`Fallback::retry`]).

mod budget;
mod health;
mod hysteresis;
mod limit;
mod queue;
mod standing;

pub use budget::{Budget, Retries};
pub use health::{Health, Vitals};
pub use hysteresis::{Band, Switch};
pub use limit::{Gradient, Limit};
pub use queue::{Delay, Queue};
pub use standing::{BROKE, Costs, Limits, Standing};

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Moment;
use crate::invalid::{Check, Invalids};

/// Where a function's owner wants it to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Placement {
    /// At the edge only: what does not fit is refused.
    Edge,
    /// In the region only.
    Region,
    /// Where it is better, request by request.
    #[default]
    Auto,
}

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// Here.
    Edge,
    /// To the region.
    Region,
    /// Nowhere: 503 with `Retry-After`.
    Refused,
}

impl Place {
    /// As a label, a log field and a header value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Edge => "edge",
            Self::Region => "region",
            Self::Refused => "refused",
        }
    }
}

/// Why it goes there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// The edge is where a function runs when nothing speaks against it.
    Home,
    /// The function's `placement` says so.
    Placement,
    /// The function declares a need above the limits of the edge.
    DeclaredNeed,
    /// The function was seen to need more than the edge allows.
    LearntNeed,
    /// The PoP is ill.
    PopHealth,
    /// The PoP cannot reach the origin.
    OriginHealth,
    /// The PoP has as many invocations as it can carry.
    Concurrency,
    /// The PoP's queue stands.
    QueueDelay,
    /// The region costs less at this load and is near enough.
    Cost,
    /// It failed here and is tried again there.
    Retry,
    /// It would have to go to the region, which is ill, or there is none.
    NoRegion,
    /// It has started and is not idempotent.
    NotIdempotent,
    /// Part of its response was sent.
    ResponseBegun,
    /// So much was tried again lately that more would only be load.
    RetryBudget,
}

impl Why {
    /// As a label, a log field and a header value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Home => "home",
            Self::Placement => "placement",
            Self::DeclaredNeed => "declared_need",
            Self::LearntNeed => "learnt_need",
            Self::PopHealth => "pop_health",
            Self::OriginHealth => "origin_health",
            Self::Concurrency => "concurrency",
            Self::QueueDelay => "queue_delay",
            Self::Cost => "cost",
            Self::Retry => "retry",
            Self::NoRegion => "no_region",
            Self::NotIdempotent => "not_idempotent",
            Self::ResponseBegun => "response_begun",
            Self::RetryBudget => "retry_budget",
        }
    }
}

/// A place and the reason for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Choice {
    /// Where the request goes.
    pub place: Place,
    /// Why.
    pub why: Why,
}

/// How the choice is made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fallback {
    /// What one invocation may use at the edge.
    pub limits: Limits,
    /// The learnt need over the limits: when it goes to the region, and when it comes back.
    pub need: Band,
    /// So much history a learnt need must have, in parts of the recommender's span.
    pub confidence: f64,
    /// The cost of the edge over that of the region: when it goes there, and when it comes back.
    pub cost: Band,
    /// How many invocations at once.
    pub concurrency: Gradient,
    /// How long requests may queue.
    pub queue: Delay,
    /// How much is tried again.
    pub retries: Retries,
    /// When a place is ill.
    pub health: Vitals,
}

impl Default for Fallback {
    fn default() -> Self {
        let dwell = Duration::from_secs(600);
        Self {
            limits: Limits::default(),
            need: Band { on: 1.0, off: 0.8, dwell },
            confidence: 0.01,
            cost: Band { on: 1.25, off: 1.0, dwell },
            concurrency: Gradient::default(),
            queue: Delay::default(),
            retries: Retries::default(),
            health: Vitals::default(),
        }
    }
}

/// What is known of a PoP and what it depends on.
#[derive(Clone, Debug)]
pub struct Pop {
    /// How many invocations it carries.
    pub limit: Limit,
    /// Its queue.
    pub queue: Queue,
    /// The PoP's own health.
    pub health: Health,
    /// That of the way to its origin.
    pub origin: Health,
    /// That of the region; `None` when there is none.
    pub region: Option<Health>,
    /// What may be tried again.
    pub budget: Budget,
}

/// A request before it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Invocations that run in the PoP now.
    pub in_flight: u32,
    /// How long it has waited.
    pub waited: Duration,
    /// Whether no other waits behind it.
    pub last: bool,
    /// Whether it needs the origin.
    pub needs_origin: bool,
}

/// How far a request came that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It never reached a function.
    NotStarted,
    /// A function may have seen it.
    Started {
        /// Running it twice does what running it once does: its method says so (RFC 9110, section 9.2.2), or its function.
        idempotent: bool,
    },
    /// Part of its response was sent to the client.
    ResponseBegun,
}

impl Pop {
    /// A PoP of which nothing is known yet.
    pub fn new(config: &Fallback, has_region: bool) -> Self {
        Self {
            limit: Limit::new(&config.concurrency),
            queue: Queue::default(),
            health: Health::default(),
            origin: Health::default(),
            region: has_region.then(Health::default),
            budget: Budget::default(),
        }
    }

    fn region_admits(&mut self, config: &Fallback) -> bool {
        self.region.as_mut().is_some_and(|region| region.admits(&config.health))
    }
}

impl Fallback {
    /// Where a request goes that has not started.
    pub fn choose(&self, function: &Standing, pop: &mut Pop, request: Waiting, now: Moment) -> Choice {
        pop.budget.deposit(&self.retries, now);
        if function.placement() == Placement::Region {
            return self.region_or_refuse(pop, Why::Placement);
        }
        if let Some(why) = function.too_large().filter(|_| function.placement() == Placement::Auto) {
            return self.region_or_refuse(pop, why);
        }
        // The queue sees all that wait in it, whatever is decided: it learns from each, and from no others.
        let queue_away = pop.queue.turns_away(&self.queue, request.waited, request.last, now);
        let against = if request.needs_origin && !pop.origin.admits(&self.health) {
            Some(Why::OriginHealth)
        } else if !pop.health.admits(&self.health) {
            Some(Why::PopHealth)
        } else if request.in_flight >= pop.limit.get() {
            Some(Why::Concurrency)
        } else if queue_away {
            Some(Why::QueueDelay)
        } else {
            None
        };
        if function.placement() == Placement::Edge {
            return match against {
                // Nowhere else may it run: an ill place is better than none.
                Some(why @ (Why::Concurrency | Why::QueueDelay)) => Choice { place: Place::Refused, why },
                _ => Choice { place: Place::Edge, why: Why::Placement },
            };
        }
        match against {
            Some(why @ (Why::OriginHealth | Why::PopHealth)) if !pop.region_admits(self) => {
                Choice { place: Place::Edge, why }
            }
            Some(why @ (Why::OriginHealth | Why::PopHealth)) => Choice { place: Place::Region, why },
            Some(why) => self.region_or_refuse(pop, why),
            None if function.costs_less_in_region() && pop.region_admits(self) => {
                Choice { place: Place::Region, why: Why::Cost }
            }
            None => Choice { place: Place::Edge, why: Why::Home },
        }
    }

    /// Where a request goes that failed here by the place's fault.
    pub fn retry(&self, function: &Standing, pop: &mut Pop, progress: Progress, now: Moment) -> Choice {
        let refused = |why| Choice { place: Place::Refused, why };
        match progress {
            Progress::ResponseBegun => return refused(Why::ResponseBegun),
            Progress::Started { idempotent: false } => return refused(Why::NotIdempotent),
            Progress::NotStarted | Progress::Started { idempotent: true } => {}
        }
        if function.placement() == Placement::Edge {
            return refused(Why::Placement);
        }
        if !pop.region.is_some_and(|region| region.is_well()) {
            return refused(Why::NoRegion);
        }
        if !pop.budget.withdraw(&self.retries, now) {
            return refused(Why::RetryBudget);
        }
        Choice { place: Place::Region, why: Why::Retry }
    }

    fn region_or_refuse(&self, pop: &mut Pop, why: Why) -> Choice {
        if pop.region_admits(self) {
            Choice { place: Place::Region, why }
        } else {
            Choice { place: Place::Refused, why: Why::NoRegion }
        }
    }

    /// # Errors
    /// Every key that cannot be used.
    pub fn validate(&self) -> Result<(), Invalids> {
        let mut check = Check::default();
        check.under("limits", |check| self.limits.check(check));
        self.need.check("need", &mut check);
        check.within("confidence", self.confidence, 0.0..=f64::MAX);
        self.cost.check("cost", &mut check);
        check.under("concurrency", |check| self.concurrency.check(check));
        check.under("queue", |check| self.queue.check(check));
        check.under("retries", |check| self.retries.check(check));
        check.under("health", |check| self.health.check(check));
        check.done()
    }
}

#[cfg(test)]
mod tests;
