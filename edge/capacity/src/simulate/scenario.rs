//! What is simulated, as data.

mod text;

pub use text::{Keys, Wrong};

use serde::{Deserialize, Serialize};

use super::cache::Keep;
use super::pilot::Scaling;
use super::{Law, Span};
use crate::fallback::Fallback;
use crate::invalid::{Check, Invalids};
use crate::load::log::Trace;
use crate::load::process::{Process, Recorded};

/// More PoPs than these, with their copies, are not simulated at once.
const MOST_POPS: u32 = 2000;

/// So many seconds a recorded load is followed beyond its last request.
const AFTERMATH: f64 = 10.0;

/// A fleet, its load and what befalls it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What it is called.
    pub name: String,
    /// How long it lasts.
    pub duration: Span,
    /// So long at its beginning counts for nothing but the balance of requests: caches fill, isolates start.
    #[serde(default)]
    pub warm_up: Span,
    /// When requests come.
    #[serde(default)]
    pub load: Process,
    /// Requests that were recorded, in place of `load`.
    #[serde(skip)]
    pub recorded: Vec<Recorded>,
    /// What runs.
    pub functions: Functions,
    /// What is asked for; without it nothing is cached and no origin is asked.
    pub objects: Option<Objects>,
    /// Where it runs.
    pub pops: Vec<PopPlan>,
    /// On what.
    #[serde(default)]
    pub node: NodeKind,
    /// How the nodes of a PoP are scaled.
    #[serde(default)]
    pub scaling: Scaling,
    /// What answers when no cache does.
    pub origin: Option<Place>,
    /// Where requests go that find no room, and those that `fallback` sends there.
    pub region: Option<Place>,
    /// How a PoP chooses between itself and the region; without it only what finds no room goes there.
    pub fallback: Option<Fallback>,
    /// What befalls it.
    #[serde(default)]
    pub faults: Vec<Fault>,
    /// What is good enough.
    #[serde(default)]
    pub objective: Objective,
    /// What the control plane is asked to do; without it nothing is said of it.
    pub control: Option<super::report::ControlPlan>,
    /// The part of the real load that is simulated: results that are counts are divided by it.
    #[serde(default = "whole")]
    pub sample: f64,
}

fn whole() -> f64 {
    1.0
}

/// Functions that run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Functions {
    /// How many.
    pub count: u32,
    /// The exponent of Zipf's law for them.
    pub popularity: f64,
    /// How long one request occupies a worker.
    pub service: Law,
    /// How long it then waits without one: timers, and other hosts than the origin.
    pub wait: Law,
    /// The part of the requests that may run twice (RFC 9110, section 9.2.2).
    pub idempotent: f64,
    /// A start from the pool of blank isolates.
    pub pooled: Law,
    /// A start when the pool is empty.
    pub unpooled: Law,
    /// Blank isolates in the pool of a worker.
    pub ready: u32,
    /// How long a blank isolate takes to be made, in place of one that was taken; a worker makes one at a time.
    pub refill: Law,
    /// Isolates that a node keeps for the next request.
    pub kept: u32,
}

/// The defaults are what was measured on the machine of `benches`: a start of p50 0.81 ms and p99 4.3 ms.
impl Default for Functions {
    fn default() -> Self {
        let ms = |ms: f64| Span(ms / 1e3);
        Self {
            count: 1,
            popularity: 0.9,
            service: Law::Lognormal { p50: ms(1.0), p99: ms(10.0) },
            wait: Law::Constant(ms(0.0)),
            idempotent: 1.0,
            pooled: Law::Lognormal { p50: ms(0.81), p99: ms(4.3) },
            unpooled: Law::Lognormal { p50: ms(4.0), p99: ms(12.0) },
            ready: 2,
            refill: Law::Constant(ms(4.0)),
            kept: 64,
        }
    }
}

/// Objects behind the functions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Objects {
    /// How many.
    pub count: u32,
    /// The exponent of Zipf's law for them.
    pub popularity: f64,
    /// How long they are fresh.
    pub fresh_for: Span,
    /// How many the cache in front of the functions of a PoP holds.
    #[serde(default)]
    pub front: usize,
    /// How many the cache behind them holds.
    #[serde(default)]
    pub behind: usize,
    /// What they keep.
    #[serde(default)]
    pub keep: Keep,
}

/// A PoP, or several alike.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PopPlan {
    /// Its name.
    pub name: String,
    /// So many alike.
    pub copies: u32,
    /// Its part of the load, in proportion to the others'.
    pub share: f64,
    /// From the client and back.
    pub client: Span,
    /// To the origin and back.
    pub origin: Span,
    /// To the region and back.
    pub region: Span,
    /// Nodes at the beginning.
    pub nodes: u32,
}

impl Default for PopPlan {
    fn default() -> Self {
        let none = Span(0.0);
        Self { name: "pop".into(), copies: 1, share: 1.0, client: none, origin: none, region: none, nodes: 1 }
    }
}

/// A machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NodeKind {
    /// Its workers: one request runs on each.
    pub workers: u32,
    /// So many requests may wait for each worker.
    pub queue: u32,
    /// So long a request waits at most.
    pub patience: Span,
    /// From the order until it serves.
    pub start: Law,
    /// What it costs an hour, from the order until it is given back.
    pub cost: f64,
}

impl Default for NodeKind {
    fn default() -> Self {
        Self { workers: 2, queue: 64, patience: Span(1.0), start: Law::Constant(Span(60.0)), cost: 0.1 }
    }
}

/// A place with a given number of workers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// How many.
    pub workers: u32,
    /// So many requests may wait in all.
    pub queue: usize,
    /// How long one request occupies a worker; in a region the function's own time when it is not given.
    pub service: Option<Law>,
    /// What a million requests cost there, for a `fallback` that weighs costs.
    pub cost_of_million: Option<f64>,
}

/// Something that befalls a PoP.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// When.
    pub at: Span,
    /// Which, by its name (of several alike: the first).
    pub pop: String,
    /// How many of its nodes; without it all.
    pub nodes: Option<u32>,
    /// Told so long before (spot capacity: two minutes): the node takes nothing new from then on.
    #[serde(default)]
    pub notice: Span,
    /// So long after it, as many nodes come back; without it only the policy replaces them.
    pub back: Option<Span>,
}

/// What is good enough.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Objective {
    /// A request that takes longer, or is refused, is a violation.
    pub latency: Span,
    /// The part of the requests that may be.
    pub violations: f64,
}

impl Default for Objective {
    fn default() -> Self {
        Self { latency: Span(0.5), violations: 0.001 }
    }
}

impl Scenario {
    /// What one part takes from another when it is not given.
    fn complete(&mut self) {
        if let Scaling::Combined(combined) = &mut self.scaling
            && combined.lead.0 == 0.0
        {
            combined.lead = Span(self.node.start.moments().0);
        }
    }

    /// Takes a recorded load. Requests go to the PoP of the name that they were recorded in, where there is one.
    fn play_back(&mut self, trace: Trace) {
        let named =
            |plan: &PopPlan, copy| if plan.copies == 1 { plan.name.clone() } else { format!("{}-{copy}", plan.name) };
        let names: Vec<String> = self
            .pops
            .iter()
            .flat_map(|plan| (1..=plan.copies.min(MOST_POPS)).map(move |copy| named(plan, copy)))
            .collect();
        let known: Vec<Option<u32>> =
            trace.pops.iter().map(|name| names.iter().position(|known| known == name).map(|at| at as u32)).collect();
        self.recorded = trace.requests;
        for request in &mut self.recorded {
            request.pop = request.pop.and_then(|pop| known.get(pop as usize).copied().flatten());
        }
        let last = self.recorded.last().map_or(0, |request| request.at);
        self.duration = Span(last as f64 / 1e9 + AFTERMATH);
    }

    /// # Errors
    /// Every key that cannot be used.
    pub fn validate(&self) -> Result<(), Invalids> {
        let mut check = Check::default();
        let month = 31.0 * 86_400.0;
        check.that(self.duration.0 > 0.0 && self.duration.0 <= month, "duration", "must be above 0 and at most 31d");
        check.that(self.warm_up < self.duration, "warm_up", "must be shorter than `duration`");
        check.within("sample", self.sample, 1e-9..=1.0);
        if self.recorded.is_empty() {
            check.that(self.load.rate != 0.0, "load.rate", "must be above 0, but it is 0: there is no load");
            check.under("load", |check| self.load.check(check));
        }
        let expected = if self.recorded.is_empty() { self.load.most() * self.duration.0 } else { 0.0 };
        check.that(
            expected <= 1e9,
            "load",
            format!("comes to up to {expected:.0} requests, and 1e9 are the most: lower `load.rate` with `sample`, or `duration`"),
        );
        check.under("functions", |check| self.functions.check(check));
        if let Some(objects) = &self.objects {
            check.that((1..=10_000_000).contains(&objects.count), "objects.count", "must be from 1 to 10000000");
            check.within("objects.popularity", objects.popularity, 0.0..=5.0);
        }
        self.check_pops(&mut check);
        check.that((1..=1024).contains(&self.node.workers), "node.workers", "must be from 1 to 1024");
        check.that(self.node.patience.0 > 0.0, "node.patience", "must be above 0");
        self.node.start.check("node.start", &mut check);
        check.within("node.cost", self.node.cost, 0.0..=1e6);
        for (key, place) in [("origin", &self.origin), ("region", &self.region)] {
            if let Some(place) = place {
                check.that(place.workers >= 1, &format!("{key}.workers"), "must be at least 1, but it is 0");
                check.within(&format!("{key}.cost_of_million"), place.cost_of_million.unwrap_or(0.0), 0.0..=1e6);
                if let Some(service) = &place.service {
                    service.check(&format!("{key}.service"), &mut check);
                }
            }
        }
        if let Some(Err(wrong)) = self.fallback.as_ref().map(Fallback::validate) {
            for invalid in wrong.0 {
                check.that(false, &format!("fallback.{}", invalid.key), invalid.problem);
            }
        }
        check.that(self.objective.latency.0 > 0.0, "objective.latency", "must be above 0");
        check.within("objective.violations", self.objective.violations, 0.0..=1.0);
        if let Some(control) = &self.control {
            check.within("control.entry_bytes", control.entry_bytes, 0.0..=1e9);
            check.within("control.deployments", control.deployments, 0.0..=1e6);
            check.within("control.purges", control.purges, 0.0..=1e6);
            let often = control.poll.0 >= 0.001 && control.counters.0 >= 0.001;
            check.that(often, "control.poll", "and `counters` must be at least 1ms");
        }
        self.scaling.check(&mut check);
        check.done()
    }

    fn check_pops(&self, check: &mut Check) {
        let count: u64 = self.pops.iter().map(|pop| u64::from(pop.copies)).sum();
        let bound = format!("must be 1 to {MOST_POPS} in all, with their copies, but they are {count}");
        check.that((1..=u64::from(MOST_POPS)).contains(&count), "pops", bound);
        check.that(self.pops.iter().any(|pop| pop.share > 0.0), "pops", "need a `share` above 0 in one of them");
        for (i, pop) in self.pops.iter().enumerate() {
            check.within(&format!("pops[{i}].share"), pop.share, 0.0..=1e9);
            check.that((1..=10_000).contains(&pop.nodes), &format!("pops[{i}].nodes"), "must be from 1 to 10000");
            let (client, objective) = (pop.client, self.objective.latency);
            let problem = format!(
                "is {client}, as long as `objective.latency` ({objective}) or longer: no request can be in time"
            );
            check.that(client < objective, &format!("pops[{i}].client"), problem);
        }
        for (i, fault) in self.faults.iter().enumerate() {
            let known = self.pops.iter().any(|pop| pop.name == fault.pop);
            check.that(known, &format!("faults[{i}].pop"), format!("is `{}`, which is the name of no PoP", fault.pop));
        }
    }

    /// What the result rests on, in sentences.
    pub fn assumptions(&self) -> Vec<String> {
        let mut told: Vec<String> = [
            "Requests come independently, and ask for functions and objects independently of each other (IRM): real clients come back, which makes caches better than shown.",
            "The workers of a PoP share one queue, first come first served; in a real PoP each worker has its own.",
            "A request occupies its worker for its whole service time; it waits for timers and the origin without one, and its isolate runs others meanwhile.",
            "Those that miss the same object of the cache behind at once share one request to the origin; misses of different PoPs do not.",
            "Objects are of one size; an answer from the cache in front costs no worker.",
            "Round trips are constant; bandwidth is not bounded.",
        ]
        .map(String::from)
        .into();
        if !self.recorded.is_empty() {
            told.push("The load is as it was recorded: a request whose log tells no processor time (`cpu_us`) counts as having occupied a worker all the while, and none fetches an object.".into());
        }
        if self.sample < 1.0 {
            told.push(format!(
                "Only {} of the load is simulated, on as much less capacity: small nodes queue more than large ones, so that waits are too high; caches see fewer requests before objects go stale, so that hit ratios and warm isolates are too few.",
                self.sample
            ));
        }
        if self.control.is_some() {
            told.push("Traffic of the control plane is sizes times rates, and not simulated: 500 bytes for a poll that finds nothing new, 200 for a purge, 80 for a counter.".into());
        }
        told
    }
}

impl Functions {
    fn check(&self, check: &mut Check) {
        check.that((1..=1_000_000).contains(&self.count), "count", "must be from 1 to 1000000");
        check.within("popularity", self.popularity, 0.0..=5.0);
        check.within("idempotent", self.idempotent, 0.0..=1.0);
        for (key, law) in [
            ("service", &self.service),
            ("wait", &self.wait),
            ("pooled", &self.pooled),
            ("unpooled", &self.unpooled),
            ("refill", &self.refill),
        ] {
            law.check(key, check);
        }
    }
}
