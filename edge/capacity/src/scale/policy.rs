//! One decision out of all layers, with its reasons.
//!
//! The rules, in their order:
//! 1. A clock that jumped, or measurements that are too old: the count is **held**.
//! 2. What is measured now **asks**: [`horizontal`](super::horizontal) and [`concurrency`](super::concurrency); the most
//!    counts. When any of them has nothing to go by, the count does not fall.
//! 3. What is **foreseen** asks too; it only raises, and only when such forecasts were right before.
//! 4. A lower count is used only after it has been the most for a while ([`Policy::settle`]).
//! 5. The **least**: the minimum and the schedule. The **most**: the maximum, and the room that there is.
//!
//! A decision is data: every layer with its inputs, its formula and its result, and what decided.
//! [`Decision::explain`] says it in sentences.
//!
//! ```
//! use capacity::Moment;
//! use capacity::scale::concurrency::Load;
//! use capacity::scale::policy::{Observation, Policy};
//!
//! let policy = Policy::default();
//! let mut state = policy.start();
//! // 900 requests in flight on 2 isolates of which each should carry 70.
//! let seen = Observation {
//!     current: 2,
//!     ready: 2,
//!     replicas: &[],
//!     metrics: &[],
//!     load: Some(Load { stable: 300.0, panic: 900.0 }),
//!     measured: None,
//!     reachable: true,
//!     foreseen: None,
//!     room: None,
//! };
//! let decision = policy.decide(&mut state, "isolates of api", &seen, Moment::from_secs(1_000));
//! assert_eq!(decision.desired, 13);
//! assert!(decision.explain().starts_with("isolates of api rises from 2 to 13 by concurrency."));
//! // Nothing was measured: nothing changes.
//! let blind = Observation { current: 13, ready: 13, load: None, ..seen };
//! let decision = policy.decide(&mut state, "isolates of api", &blind, Moment::from_secs(1_002));
//! assert_eq!((decision.desired, decision.held.map(|hold| hold.as_str())), (13, Some("no_metrics")));
//! ```

mod decision;

pub use decision::{Decision, Hold, Layer, Role, Rule};

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::concurrency::{Concurrency, Idle, Load, Memory, Seen};
use super::horizontal::{History, Horizontal, Metric, Replica};
use super::schedule::{self, Entry};
use super::window::Highest;
use crate::Moment;
use crate::invalid::{Check, Invalids};
use crate::moment::{Jump, Steady};

/// How one thing is scaled. The bounds are those of `horizontal`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// From measurements against targets, and the bounds.
    pub horizontal: Horizontal,
    /// From requests in flight.
    pub concurrency: Option<Concurrency>,
    /// Least numbers at given times.
    pub schedule: Vec<Entry>,
    /// A forecast is used when the error of such forecasts was no greater part of the load ([`Backtest::wape`](super::predict::Backtest)).
    pub forecast_error: f64,
    /// A lower count is used when no higher one was asked for in so long.
    #[serde(with = "crate::span")]
    pub settle: Duration,
    /// A measurement older than this is none.
    #[serde(with = "crate::span")]
    pub stale: Duration,
    /// Between two decisions more time does not pass: more is a clock that jumped.
    #[serde(with = "crate::span")]
    pub longest_gap: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            horizontal: Horizontal::default(),
            concurrency: Some(Concurrency::default()),
            schedule: Vec::new(),
            forecast_error: 0.5,
            settle: seconds(60),
            stale: seconds(60),
            longest_gap: seconds(300),
        }
    }
}

/// A forecast of the load, in the unit of [`Concurrency::capacity`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Foreseen {
    /// The most that is expected while what is ordered now is on its way.
    pub load: f64,
    /// How wrong such forecasts were, as a part of the load.
    pub error: f64,
}

/// What is known when a decision is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Observation<'a> {
    /// So many were ordered.
    pub current: u32,
    /// So many answer.
    pub ready: u32,
    /// Each of them.
    pub replicas: &'a [Replica],
    /// What is measured against targets.
    pub metrics: &'a [Metric],
    /// Requests in flight.
    pub load: Option<Load>,
    /// When the newest of these was measured.
    pub measured: Option<Moment>,
    /// Whether any route leads here.
    pub reachable: bool,
    /// What is expected.
    pub foreseen: Option<Foreseen>,
    /// So many find room on the nodes; `None`: not bounded.
    pub room: Option<u32>,
}

/// The past of one thing that is scaled.
#[derive(Clone, Debug)]
pub struct State {
    clock: Steady,
    history: History,
    concurrency: Option<(Memory, Idle)>,
    asked: Highest,
    /// How many were there at the last decision.
    last: Option<u32>,
}

impl Policy {
    /// Without a past.
    pub fn start(&self) -> State {
        State {
            clock: Steady::new(self.longest_gap),
            history: History::default(),
            concurrency: None,
            asked: Highest::default(),
            last: None,
        }
    }

    /// What should be there. When the caller has carried it out, the next observation has another `current`: from that,
    /// the rates of change are known. `subject` names what is scaled in the decision.
    pub fn decide(&self, state: &mut State, subject: &str, seen: &Observation, now: Moment) -> Decision {
        let (steady, jump) = state.clock.look(now);
        match state.last.replace(seen.current) {
            Some(last) if last != seen.current => state.history.changed(last, seen.current, steady),
            _ => {}
        }
        let mut decision = Decision::new(subject, seen.current, now);
        let hold = match jump {
            Some(Jump::Back(_)) => Some(Hold::ClockBack),
            Some(Jump::Ahead(_)) => Some(Hold::ClockAhead),
            None if self.stale(seen, now) => Some(Hold::Stale),
            None => None,
        };
        match hold {
            Some(hold) => decision.hold(hold),
            None => {
                self.horizontal_layer(state, seen, &mut decision, now, steady);
                self.concurrency_layer(state, seen, &mut decision, steady);
            }
        }
        let asked = decision.asked();
        if jump.is_none() {
            self.forecast_layer(seen, &mut decision);
            let settled = state.asked.with(decision.most_asked().unwrap_or(asked), self.settle, steady);
            // What was asked for earlier keeps what is there; it does not bring back what is gone.
            let kept = settled.min(seen.current);
            if decision.most_asked().is_some_and(|most| kept > most) {
                decision.add(
                    Rule::Settle,
                    Role::Least,
                    Some(kept),
                    "the most that was asked for lately",
                    &[("settle_seconds", self.settle.as_secs_f64())],
                );
            }
        }
        // A clock that has just jumped says nothing about a schedule.
        let entry = if jump.is_none() { schedule::most(&self.schedule, now) } else { None };
        self.bounds(seen, entry, &mut decision);
        decision.conclude();
        decision
    }

    /// Whether there are measurements, but old ones, or such of a time that is not yet.
    fn stale(&self, seen: &Observation, now: Moment) -> bool {
        seen.measured.is_some_and(|at| now.since(at) > self.stale || at.since(now) > self.stale)
    }

    fn horizontal_layer(
        &self,
        state: &mut State,
        seen: &Observation,
        decision: &mut Decision,
        now: Moment,
        steady: Moment,
    ) {
        // From none, only requests and schedules bring it back.
        if seen.metrics.is_empty() || seen.current == 0 {
            return;
        }
        let verdict =
            self.horizontal.decide_at(&mut state.history, seen.current, seen.replicas, seen.metrics, now, steady);
        let known = verdict.proposals.iter().any(Result::is_ok) || verdict.proposals.is_empty();
        let ratios: Vec<_> = verdict.proposals.iter().flatten().map(|p| (p.metric.as_str(), p.ratio)).collect();
        let formula = "the most of ceil(replicas × measurement / target) over all metrics";
        decision.add(Rule::Horizontal, Role::Asks, known.then_some(verdict.desired), formula, &ratios);
        decision.note(verdict.reason.as_str());
    }

    fn concurrency_layer(&self, state: &mut State, seen: &Observation, decision: &mut Decision, steady: Moment) {
        let Some(config) = &self.concurrency else { return };
        let (memory, idle) =
            state.concurrency.get_or_insert_with(|| (Memory::new(seen.ready, steady), Idle::Active { since: steady }));
        let looked = Seen { ready: seen.ready, load: seen.load, reachable: seen.reachable };
        let formula = "ceil(load / (capacity × utilisation)), in panic of the shorter window and never falling";
        let Some(wish) = config.wish(memory, looked, steady) else {
            decision.add(Rule::Concurrency, Role::Asks, None, formula, &[]);
            decision.note("no measurement");
            return;
        };
        let desired =
            if self.horizontal.min == 0 { idle.step(config, wish.desired, seen.current, steady) } else { wish.desired };
        let load = seen.load.unwrap_or(Load { stable: 0.0, panic: 0.0 });
        let inputs = [
            ("load", load.stable),
            ("load_panic", load.panic),
            ("capacity", config.capacity),
            ("utilisation", config.utilisation),
        ];
        decision.add(Rule::Concurrency, Role::Asks, Some(desired), formula, &inputs);
        decision.note(if wish.panicking { "panic" } else { "calm" });
    }

    fn forecast_layer(&self, seen: &Observation, decision: &mut Decision) {
        let (Some(foreseen), Some(config)) = (seen.foreseen, &self.concurrency) else { return };
        let usable = foreseen.load.is_finite() && foreseen.load >= 0.0 && foreseen.error <= self.forecast_error;
        // The cast saturates.
        let wanted = (foreseen.load / (config.capacity * config.utilisation)).ceil() as u32;
        let inputs =
            [("load_foreseen", foreseen.load), ("error", foreseen.error), ("error_allowed", self.forecast_error)];
        decision.add(
            Rule::Forecast,
            Role::Foresees,
            usable.then_some(wanted),
            "ceil(upper end of the forecast / (capacity × utilisation))",
            &inputs,
        );
        decision.note(if usable { "used" } else { "not reliable" });
    }

    fn bounds(&self, seen: &Observation, entry: Option<&Entry>, decision: &mut Decision) {
        decision.add(Rule::Min, Role::Least, Some(self.horizontal.min), "the configured minimum", &[]);
        if let Some(entry) = entry {
            decision.add(Rule::Schedule, Role::Least, Some(entry.least), "the schedule's least number now", &[]);
            decision.note(&entry.name);
        }
        decision.add(Rule::Max, Role::Most, Some(self.horizontal.max), "the configured maximum", &[]);
        if let Some(room) = seen.room {
            decision.add(Rule::Room, Role::Most, Some(room), "what finds room on the nodes", &[]);
        }
    }

    /// # Errors
    /// Every key that cannot be used.
    pub fn validate(&self) -> Result<(), Invalids> {
        let mut check = Check::default();
        check.under("horizontal", |check| self.horizontal.check(check));
        if let Some(concurrency) = &self.concurrency {
            check.under("concurrency", |check| concurrency.check(check));
        }
        schedule::check_all(&self.schedule, &mut check);
        let most = self.horizontal.max;
        for (i, entry) in self.schedule.iter().enumerate() {
            let problem = format!("must not be above `horizontal.max` ({most}), but it is {}", entry.least);
            check.that(entry.least <= most, &format!("schedule[{i}].least"), problem);
        }
        check.within("forecast_error", self.forecast_error, 0.0..=10.0);
        let (seconds, hour) = (Duration::from_secs, Duration::from_secs(3600));
        check.span("settle", self.settle, Duration::ZERO..=hour);
        check.span("stale", self.stale, seconds(1)..=hour);
        check.span("longest_gap", self.longest_gap, seconds(10)..=hour * 24);
        check.done()
    }
}

#[cfg(test)]
mod tests;
