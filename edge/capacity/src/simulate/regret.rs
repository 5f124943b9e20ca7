//! What each policy costs against one that knows the future, and how often it breaks the objective.
//!
//! All policies play the same recorded requests. The clairvoyant one is computed ([`clairvoyant`]) and then played like the
//! others, so that its violations are seen and not assumed.

mod clairvoyant;
mod loads;

pub use clairvoyant::{Slots, plan};
pub use loads::{LOADS, ours, past, policies, trial};

use serde::Serialize;

use super::pilot::Scaling;
use super::scenario::Scenario;
use super::{Tally, fleet};
use crate::load::process::{Arrivals, Recorded};
use crate::simulate::chance::Chance;

/// Slots in which the clairvoyant policy decides, in seconds: as often as the HPA looks.
pub const SLOT: f64 = fleet::SLOT;

/// How one policy did under one load.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The load.
    pub load: &'static str,
    /// The policy.
    pub policy: &'static str,
    /// Hours of nodes, from the order until they were given back.
    pub node_hours: f64,
    /// These over those of the clairvoyant policy.
    pub regret: f64,
    /// Requests that were refused or too late, as a part of all.
    pub violated: f64,
    /// The 99th percentile of the latency, in seconds.
    pub p99: f64,
}

/// All policies under one load. The scenario has one PoP whose nodes take always the same time to start.
pub fn compare(load: &'static str, scenario: &Scenario, policies: &[Scaling], seed: u64) -> Vec<Row> {
    let mut scenario = Scenario { recorded: record(scenario, seed), ..scenario.clone() };
    let mut slots = Slots::of(&scenario);
    let allowed = scenario.objective.violations * scenario.recorded.len() as f64;
    let (mut budget, mut raised) = (allowed, true);
    let (nodes, best) = loop {
        let nodes = plan(&slots, budget as u64);
        let tally = play(&mut scenario, planned(&nodes, &slots), nodes[0]);
        if tally.violations as f64 <= allowed || !raised {
            break (nodes, tally);
        }
        // What one slot leaves to the next, when their numbers differ, is not in the plan. So it may break less; when
        // that is not enough, one node more is needed where it broke the objective, and in the slot before.
        if budget >= 1.0 {
            budget /= 2.0;
        } else {
            raised = slots.raise(&nodes, &tally.violated_in);
        }
    };
    let hours = best.node_seconds() / 3600.0;
    let row = |policy, tally: &Tally| Row {
        load,
        policy,
        node_hours: tally.node_seconds() / 3600.0,
        regret: tally.node_seconds() / 3600.0 / hours,
        violated: tally.violated(),
        p99: tally.latency.quantile(0.99),
    };
    let mut rows = vec![row("clairvoyant", &best)];
    for scaling in policies {
        let tally = play(&mut scenario, scaling.clone(), nodes[0]);
        rows.push(row(scaling.name(), &tally));
    }
    rows
}

fn planned(nodes: &[u32], slots: &Slots) -> Scaling {
    Scaling::Planned { slot: super::Span(SLOT), nodes: nodes.to_vec(), start: slots.start }
}

fn play(scenario: &mut Scenario, scaling: Scaling, nodes: u32) -> Tally {
    scenario.scaling = scaling;
    scenario.pops[0].nodes = nodes;
    fleet::play(scenario, 0, &mut |_| ())
}

/// The requests that a scenario would make.
fn record(scenario: &Scenario, seed: u64) -> Vec<Recorded> {
    let (mut arrivals, mut chance) = (Arrivals::new(scenario.load.clone(), seed, 1), Chance::new(seed, 3));
    let end = scenario.duration.nanos();
    std::iter::from_fn(|| arrivals.next())
        .take_while(|at| *at < end)
        .map(|at| Recorded { at, service: scenario.functions.service.draw(&mut chance), ..Recorded::default() })
        .collect()
}

/// The table as text.
pub fn text(rows: &[Row]) -> String {
    let mut text =
        format!("{:<8}{:<14}{:>12}{:>9}{:>13}{:>10}\n", "load", "policy", "node hours", "regret", "violations", "p99");
    for row in rows {
        text += &format!(
            "{:<8}{:<14}{:>12.1}{:>8.1}%{:>12.3}%{:>9.2}s\n",
            row.load,
            row.policy,
            row.node_hours,
            (row.regret - 1.0) * 100.0,
            row.violated * 100.0,
            row.p99
        );
    }
    text
}

#[cfg(test)]
mod tests;
