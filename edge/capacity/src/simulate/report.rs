//! A result as data and as text, with what it rests on.

use std::collections::BTreeMap;

use serde::Serialize;

use super::cache::che;
use super::popular::Popular;
use super::{Refusal, Scenario, Span, Tally};
use crate::fallback::{Place, Why};

/// What a simulation came to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The scenario's name.
    pub scenario: String,
    /// The seed.
    pub seed: u64,
    /// Seconds that it lasted.
    pub seconds: f64,
    /// Events that were simulated.
    pub events: u64,
    /// Requests that arrived.
    pub arrived: u64,
    /// That were answered.
    pub answered: u64,
    /// That were refused, by reason.
    pub refused: BTreeMap<&'static str, u64>,
    /// That were on their way at the end.
    pub in_flight: u64,
    /// Answers a second, of the real load.
    pub throughput: f64,
    /// Refused or too late, as a part of all after the warm-up.
    pub violated: f64,
    /// Between which seconds after the beginning these came.
    pub violated_between: Option<(f64, f64)>,
    /// The part that may be.
    pub violations_allowed: f64,
    /// Seconds, from the client's sending to its receiving: p50, p90, p99, p99.9.
    pub latency: [f64; 4],
    /// The mean wait for a worker, in seconds.
    pub wait: f64,
    /// Starts as a part of all runs: from the pool, and with the pool empty.
    pub cold: [f64; 2],
    /// Hit ratios of the caches in front and behind; none when they were not asked.
    pub hits: [Option<f64>; 2],
    /// What Che's approximation says of the cache in front, when it is LRU.
    pub hits_by_che: Option<f64>,
    /// Requests a second to the origin and to the region, of the real load.
    pub asked: [f64; 2],
    /// Where requests were sent by the fallback and why, as a part of its choices; none without one.
    pub placed: Vec<Placed>,
    /// How often something turned in these choices that turns with hysteresis.
    pub turns: u64,
    /// Hours of nodes and what they cost, of the simulated part.
    pub node_hours: f64,
    /// In the currency of the scenario.
    pub cost: f64,
    /// Each PoP.
    pub pops: Vec<PopReport>,
    /// What the control plane moves at this size.
    pub control: Option<Control>,
    /// What the result rests on.
    pub assumptions: Vec<String>,
}

/// A choice of the fallback.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Placed {
    /// Where.
    pub place: Place,
    /// Why.
    pub why: Why,
    /// As a part of all choices.
    pub part: f64,
}

/// What one PoP came to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PopReport {
    /// Its name.
    pub name: String,
    /// Requests that arrived.
    pub arrived: u64,
    /// That were refused.
    pub refused: u64,
    /// The 99th percentile of the latency, in seconds.
    pub p99: f64,
    /// Hours of its nodes.
    pub node_hours: f64,
    /// Nodes that serve at the end.
    pub nodes: u32,
}

/// Traffic of the control plane: sizes times rates, not simulated.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Control {
    /// Bytes of the manifest.
    pub manifest_bytes: f64,
    /// Bytes a second that all PoPs fetch of it: whole at each deployment, a conditional request at each poll.
    pub manifest_rate: f64,
    /// Messages a second for purges, to all PoPs.
    pub purge_rate: f64,
    /// Bytes a second for these.
    pub purge_bytes: f64,
    /// Messages a second for counters: each PoP sums up each function that ran.
    pub counter_rate: f64,
    /// Bytes a second for these.
    pub counter_bytes: f64,
}

/// What the control plane is asked to do.
#[derive(Clone, Debug, PartialEq, serde::Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ControlPlan {
    /// Bytes of a function's entry in the manifest.
    pub entry_bytes: f64,
    /// Deployments an hour.
    pub deployments: f64,
    /// How often a PoP polls.
    pub poll: Span,
    /// Purges a second.
    pub purges: f64,
    /// How often a PoP tells its counters.
    pub counters: Span,
}

impl Default for ControlPlan {
    fn default() -> Self {
        Self { entry_bytes: 300.0, deployments: 60.0, poll: Span(5.0), purges: 10.0, counters: Span(10.0) }
    }
}

/// Bytes of a conditional request and its 304, of a purge and of one counter with its key.
const POLL_BYTES: f64 = 500.0;
const PURGE_BYTES: f64 = 200.0;
const COUNTER_BYTES: f64 = 80.0;

impl ControlPlan {
    fn of(&self, scenario: &Scenario) -> Control {
        let pops: f64 = scenario.pops.iter().map(|pop| f64::from(pop.copies)).sum();
        let functions = f64::from(scenario.functions.count);
        let manifest_bytes = functions * self.entry_bytes;
        // The functions that ran in a PoP between two tellings, which depends on the real load.
        let requests = scenario.load.rate / scenario.sample / pops * self.counters.0;
        let popular = Popular::zipf(scenario.functions.count, scenario.functions.popularity);
        let ran: f64 = popular.parts().iter().map(|part| 1.0 - (-part * requests).exp()).sum();
        Control {
            manifest_bytes,
            manifest_rate: pops * (manifest_bytes * self.deployments / 3600.0 + POLL_BYTES / self.poll.0),
            purge_rate: self.purges * pops,
            purge_bytes: self.purges * pops * PURGE_BYTES,
            counter_rate: pops / self.counters.0,
            counter_bytes: pops * ran * COUNTER_BYTES / self.counters.0,
        }
    }
}

impl Report {
    /// From the counts.
    pub fn new(scenario: &Scenario, seed: u64, tally: &Tally) -> Self {
        let part = |(yes, no): (u64, u64)| (yes + no > 0).then(|| yes as f64 / (yes + no) as f64);
        let starts = tally.starts.iter().sum::<u64>().max(1) as f64;
        let rate = |count: u64| count as f64 / tally.duration / scenario.sample;
        let objects = scenario.objects.as_ref().filter(|objects| objects.front > 0);
        let lru = objects.filter(|objects| objects.keep == super::cache::Keep::Lru);
        let quantile = |part| tally.latency.quantile(part);
        let node_hours = tally.node_seconds() / 3600.0;
        Self {
            scenario: scenario.name.clone(),
            seed,
            seconds: tally.duration,
            events: tally.events,
            arrived: tally.arrived,
            answered: tally.answered,
            refused: Refusal::ALL.iter().map(|reason| (reason.as_str(), tally.refused[*reason as usize])).collect(),
            in_flight: tally.in_flight,
            throughput: rate(tally.answered),
            violated: tally.violated(),
            violated_between: tally.violated_between(),
            violations_allowed: scenario.objective.violations,
            latency: [quantile(0.5), quantile(0.9), quantile(0.99), quantile(0.999)],
            wait: tally.waits.mean(),
            cold: [tally.starts[1] as f64 / starts, tally.starts[2] as f64 / starts],
            hits: [part(tally.front), part(tally.behind)],
            hits_by_che: lru
                .map(|objects| che(Popular::zipf(objects.count, objects.popularity).parts(), objects.front)),
            asked: tally.asked.map(rate),
            placed: Placed::all(tally),
            turns: tally.turns,
            node_hours,
            cost: node_hours * scenario.node.cost,
            pops: tally.pops.iter().map(PopReport::new).collect(),
            control: scenario.control.as_ref().map(|control| control.of(scenario)),
            assumptions: scenario.assumptions(),
        }
    }

    /// The names and values that a person reads, in their order; the PoPs and the assumptions stand beside them.
    pub fn lines(&self) -> Vec<(&'static str, String)> {
        let percent = |part: f64| format!("{:.3} %", part * 100.0);
        let ms = |seconds: f64| format!("{:.2} ms", seconds * 1e3);
        let refused: Vec<_> = self
            .refused
            .iter()
            .filter(|(_, count)| **count > 0)
            .map(|(reason, count)| format!("{count} {reason}"))
            .collect();
        let refused = if refused.is_empty() { "0".into() } else { refused.join(", ") };
        let mut lines = vec![
            ("requests", format!("{} arrived, {} answered, {} in flight", self.arrived, self.answered, self.in_flight)),
            ("refused", refused),
            ("throughput", format!("{:.0} a second", self.throughput)),
            (
                "latency",
                format!(
                    "p50 {}, p90 {}, p99 {}, p99.9 {}",
                    ms(self.latency[0]),
                    ms(self.latency[1]),
                    ms(self.latency[2]),
                    ms(self.latency[3])
                ),
            ),
            ("wait", format!("{} on average", ms(self.wait))),
            ("violations", format!("{} of {} allowed", percent(self.violated), percent(self.violations_allowed))),
        ];
        if let Some((from, until)) = self.violated_between {
            lines.push(("", format!("the first after {from:.0} s, the last before {until:.0} s")));
        }
        let starts = format!("{} from the pool, {} with the pool empty", percent(self.cold[0]), percent(self.cold[1]));
        lines.push(("starts", starts));
        for (name, hits) in ["cache in front", "cache behind"].into_iter().zip(self.hits) {
            if let Some(hits) = hits {
                lines.push((name, format!("{} hits", percent(hits))));
            }
        }
        if let Some(told) = self.hits_by_che {
            lines.push(("by Che", format!("{} in front, if nothing went stale", percent(told))));
        }
        lines.push(("origin, region", format!("{:.1} and {:.1} requests a second", self.asked[0], self.asked[1])));
        for (i, placed) in self.placed.iter().enumerate() {
            let Placed { place, why, part } = placed;
            let name = if i == 0 { "placed" } else { "" };
            lines.push((name, format!("{} {} because of {}", percent(*part), place.as_str(), why.as_str())));
        }
        if !self.placed.is_empty() {
            lines.push(("", format!("{} turns of what turns with hysteresis", self.turns)));
        }
        lines.push(("nodes", format!("{:.2} hours, which cost {:.2}", self.node_hours, self.cost)));
        if let Some(control) = &self.control {
            let mb = |bytes: f64| format!("{:.3} MB/s", bytes / 1e6);
            lines.push((
                "manifest",
                format!("{:.2} MB, {} to all PoPs", control.manifest_bytes / 1e6, mb(control.manifest_rate)),
            ));
            lines.push(("purges", format!("{:.0} messages a second, {}", control.purge_rate, mb(control.purge_bytes))));
            lines.push((
                "counters",
                format!("{:.0} messages a second, {}", control.counter_rate, mb(control.counter_bytes)),
            ));
        }
        lines
    }
}

impl Placed {
    fn all(tally: &Tally) -> Vec<Self> {
        let sum = tally.chosen.iter().map(|(_, count)| count).sum::<u64>() as f64;
        let mut all: Vec<_> = tally
            .chosen
            .iter()
            .map(|(choice, count)| Self { place: choice.place, why: choice.why, part: *count as f64 / sum })
            .collect();
        all.sort_by(|a, b| b.part.total_cmp(&a.part));
        all
    }
}

impl PopReport {
    fn new(pop: &super::fleet::PopTally) -> Self {
        Self {
            name: pop.name.clone(),
            arrived: pop.arrived,
            refused: pop.refused,
            p99: pop.latency.quantile(0.99),
            node_hours: pop.node_seconds / 3600.0,
            nodes: pop.nodes,
        }
    }
}
