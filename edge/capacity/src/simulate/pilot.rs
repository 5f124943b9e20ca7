//! What scales the nodes of a PoP: the same policies that do it live, fed with what a simulated PoP measures.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Nanos, Span};
use crate::Moment;
use crate::invalid::Check;
use crate::scale::concurrency::{Concurrency, Load, Memory, Recent, Seen};
use crate::scale::horizontal::{History, Horizontal, Measured, Metric, Phase, Readiness, Replica, Sample};
use crate::scale::policy::{Foreseen, Observation, Policy, State};
use crate::scale::predict::Predict;

/// How the nodes of a PoP are scaled.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum Scaling {
    /// Not at all.
    #[default]
    Fixed,
    /// Kubernetes' HPA by the use of the workers.
    Hpa {
        /// What they should be used, in percent.
        #[serde(default = "hpa_target")]
        target: f64,
        /// Its rules.
        #[serde(default)]
        horizontal: Horizontal,
    },
    /// Knative's KPA by requests in flight; `capacity` is for each node, as many as it has workers when it is 0.
    Knative {
        /// Its rules.
        #[serde(default)]
        concurrency: Concurrency,
    },
    /// Ours: the workers that requests need, a forecast, a schedule, one decision.
    Combined(Box<Combined>),
    /// So many nodes serve in each slot: what a policy would do that knows the future.
    Planned {
        /// How long a slot is.
        slot: Span,
        /// Nodes that serve in each.
        nodes: Vec<u32>,
        /// Slots that a node takes to start.
        start: usize,
    },
}

/// Our policy and what it goes by.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Combined {
    /// The policy; the capacity of its `concurrency` is the workers of a node when it is 0.
    pub policy: Policy,
    /// How the load is forecast.
    pub predict: Option<Predict>,
    /// Requests in flight in each step before the simulation, the newest last.
    pub past: Vec<f64>,
    /// So long a node takes to start, which is how far ahead the forecast has to look.
    pub lead: Span,
}

fn hpa_target() -> f64 {
    80.0
}

impl Scaling {
    /// What it is called.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Fixed => "fixed",
            Self::Hpa { .. } => "hpa",
            Self::Knative { .. } => "knative",
            Self::Combined(_) => "combined",
            Self::Planned { .. } => "clairvoyant",
        }
    }

    /// How often it looks: the HPA's and KPA's own defaults.
    pub fn interval(&self) -> Option<Nanos> {
        match self {
            Self::Fixed => None,
            Self::Hpa { .. } => Some(15_000_000_000),
            Self::Knative { .. } | Self::Combined(_) => Some(2_000_000_000),
            Self::Planned { slot, .. } => Some(slot.nanos()),
        }
    }

    pub(crate) fn check(&self, check: &mut Check) {
        check.under("scaling", |check| match self {
            Self::Fixed => {}
            Self::Hpa { target, horizontal } => {
                check.within("target", *target, 1.0..=100.0);
                check.under("horizontal", |check| horizontal.check(check));
            }
            Self::Knative { concurrency } => check.under("concurrency", |check| concurrency.check(check)),
            Self::Combined(combined) => {
                if let Err(wrong) = combined.policy.validate() {
                    wrong
                        .0
                        .iter()
                        .for_each(|wrong| check.that(false, &format!("policy.{}", wrong.key), &wrong.problem));
                }
                if let Some(predict) = &combined.predict {
                    check.under("predict", |check| predict.check(check));
                }
            }
            Self::Planned { slot, nodes, .. } => {
                check.that(slot.0 > 0.0 && !nodes.is_empty(), "slot", "must be above 0, with `nodes` for one at least");
            }
        });
    }
}

/// What a PoP measured since the last look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measure {
    pub(super) now: Nanos,
    /// Nodes that serve, and that were ordered.
    pub(super) serving: u32,
    pub(super) coming: u32,
    /// Workers that were busy, as a part of those of the nodes that serve.
    pub(super) used: f64,
    /// Requests in flight, those that wait with them.
    pub(super) in_flight: f64,
    /// Requests that came, times how long one occupies a worker: the workers that they need, however many there are.
    pub(super) demand: f64,
}

/// A policy at work in one PoP.
#[derive(Debug)]
pub(super) struct Pilot {
    scaling: Scaling,
    history: History,
    memory: Option<Memory>,
    state: Option<State>,
    stable: Recent,
    panic: Recent,
    series: Vec<Option<f64>>,
    step: (f64, u32),
    foreseen: Option<Foreseen>,
}

impl Pilot {
    pub(super) fn new(scaling: &Scaling, workers: u32) -> Self {
        let mut scaling = scaling.clone();
        let fill = |concurrency: &mut Concurrency| {
            if concurrency.capacity == Concurrency::default().capacity {
                concurrency.capacity = f64::from(workers);
            }
        };
        let mut windows = (Duration::from_secs(60), Duration::from_secs(6));
        let mut of = |concurrency: &Concurrency| {
            let short = concurrency.stable_window.mul_f64(concurrency.panic_window / 100.0);
            windows = (concurrency.stable_window, short);
        };
        let (mut state, mut series) = (None, Vec::new());
        match &mut scaling {
            Scaling::Knative { concurrency } => {
                fill(concurrency);
                of(concurrency);
            }
            Scaling::Combined(combined) => {
                if let Some(concurrency) = &mut combined.policy.concurrency {
                    fill(concurrency);
                    of(concurrency);
                }
                series = combined.past.iter().copied().map(Some).collect();
                state = Some(combined.policy.start());
            }
            Scaling::Fixed | Scaling::Hpa { .. } | Scaling::Planned { .. } => {}
        }
        let (stable, panic) = (Recent::new(windows.0), Recent::new(windows.1));
        let mut pilot = Self {
            scaling,
            history: History::default(),
            memory: None,
            state,
            stable,
            panic,
            series,
            step: (0.0, 0),
            foreseen: None,
        };
        pilot.foresee();
        pilot
    }

    /// How many nodes there should be, those that were ordered with them.
    pub(super) fn look(&mut self, seen: Measure) -> u32 {
        let now = Moment::after_epoch(Duration::from_nanos(seen.now));
        let current = seen.serving + seen.coming;
        // In our policy what waits does not count: it would be taken for a load that stays, and every queue would become
        // an order of nodes that come when it is gone.
        let flight = if self.state.is_some() { seen.demand } else { seen.in_flight };
        // The seconds that have passed, each with their mean.
        for second in 1..=2 {
            let at = now.before(Duration::from_secs(second));
            self.stable.record(at, flight);
            self.panic.record(at, flight);
        }
        self.count(flight);
        let load = self.stable.mean(now).zip(self.panic.mean(now)).map(|(stable, panic)| Load { stable, panic });
        match &self.scaling {
            Scaling::Fixed => current,
            Scaling::Hpa { target, horizontal } => {
                let (replicas, samples) = replicas(seen, now);
                let measured = Measured::Utilisation { samples, start_costs: true };
                let metrics = [Metric { name: "cpu".into(), target: *target, measured }];
                let desired = horizontal.decide(&mut self.history, current, &replicas, &metrics, now).desired;
                self.history.changed(current, desired, now);
                desired
            }
            Scaling::Knative { concurrency } => {
                let memory = self.memory.get_or_insert_with(|| Memory::new(seen.serving, now));
                let seen = Seen { ready: seen.serving, load, reachable: true };
                concurrency.wish(memory, seen, now).map_or(current, |wish| wish.desired.max(1))
            }
            Scaling::Combined(combined) => {
                let Some(state) = &mut self.state else { return current };
                let observation = Observation {
                    current,
                    ready: seen.serving,
                    replicas: &[],
                    metrics: &[],
                    load,
                    measured: Some(now),
                    reachable: true,
                    foreseen: self.foreseen,
                    room: None,
                };
                combined.policy.decide(state, "nodes", &observation, now).desired
            }
            Scaling::Planned { slot, nodes, start } => {
                let at = (seen.now / slot.nanos().max(1)) as usize;
                let planned = |slot: usize| nodes[slot.min(nodes.len() - 1)];
                let coming: u32 = (at + 1..=at + start).map(|t| planned(t).saturating_sub(planned(t - 1))).sum();
                planned(at) + coming
            }
        }
    }

    /// Counts to the step of the forecast that runs, and forecasts anew when it ends.
    fn count(&mut self, in_flight: f64) {
        let Scaling::Combined(combined) = &self.scaling else { return };
        let Some(predict) = &combined.predict else { return };
        self.step = (self.step.0 + in_flight, self.step.1 + 1);
        if u64::from(self.step.1) * 2 >= predict.step.as_secs() {
            self.series.push(Some(self.step.0 / f64::from(self.step.1)));
            self.step = (0.0, 0);
            self.foresee();
        }
    }

    fn foresee(&mut self) {
        let Scaling::Combined(combined) = &self.scaling else { return };
        let Some(predict) = &combined.predict else { return };
        let ahead = (combined.lead.0 / predict.step.as_secs_f64()).ceil() as usize + 1;
        self.foreseen = predict
            .forecast(&self.series)
            .ok()
            .map(|forecast| Foreseen { load: forecast.most_within(ahead), error: forecast.backtest.wape });
    }
}

fn replicas(seen: Measure, now: Moment) -> (Vec<Replica>, Vec<Option<Sample>>) {
    // What serves has done so for longer than any window: starts use no worker here.
    let serving = Replica {
        phase: Phase::Running,
        started: Some(Moment::EPOCH),
        readiness: Some(Readiness { ready: true, since: Moment::EPOCH }),
        request: 1.0,
    };
    let coming = Replica { phase: Phase::Pending, started: None, readiness: None, ..serving };
    let (here, there) = (seen.serving as usize, seen.coming as usize);
    let sample = Sample { value: seen.used, at: now, window: Duration::from_secs(15) };
    let mut replicas = vec![serving; here];
    replicas.resize(here + there, coming);
    let mut samples = vec![Some(sample); here];
    samples.resize(here + there, None);
    (replicas, samples)
}
