//! The cheapest nodes for a load that is known, by dynamic programming over slots.
//!
//! A node costs one in each slot from its order until it is given back, which is one in each slot in which it serves and
//! `start` for each time that it is started. Violations have a price, which is found by bisection so that no more are
//! broken than may be: what comes out is the cheapest of all plans with as few violations.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::super::Nanos;
use super::super::scenario::Scenario;
use super::SLOT;
use crate::load::process::Recorded;
use crate::simulate::chance::nanos;

/// What happens in each slot with so many nodes.
#[derive(Clone, Debug, PartialEq)]
pub struct Slots {
    /// By slot, the fewest nodes that were tried, and the violations with these and with each one more; with the last,
    /// and with more, there are none.
    pub violations: Vec<(u32, Vec<u64>)>,
    /// Slots that a node takes to start.
    pub start: usize,
}

impl Slots {
    /// From the requests of a scenario. What waits or runs when a slot begins is what the same number of nodes would have
    /// left over from the slots before; when the number changes that is not exact, which playing the plan shows.
    pub fn of(scenario: &Scenario) -> Self {
        let trial = Trial::new(scenario);
        let least: Vec<u32> = trial.slots.iter().map(|requests| trial.least(requests)).collect();
        let tried = |slot: usize, nodes: u32| (least[slot]..=least[slot] + 3 + least[slot] / 4).contains(&nodes);
        let mut counts: Vec<Vec<u64>> = vec![Vec::new(); least.len()];
        let first = least.iter().copied().min().unwrap_or(1);
        let last = least.iter().map(|least| least + 3 + least / 4).max().unwrap_or(1);
        for nodes in first..=last {
            let mut line: Option<BinaryHeap<Reverse<Nanos>>> = None;
            for (slot, counts) in counts.iter_mut().enumerate() {
                if !tried(slot, nodes) {
                    line = None;
                    continue;
                }
                // The slot before it tells how full it begins.
                let line = line.get_or_insert_with(|| {
                    let before = slot.saturating_sub(1);
                    let mut line = trial.begin(before, nodes);
                    trial.broken(&mut line, before);
                    line
                });
                counts.push(trial.broken(line, slot));
            }
        }
        let start = scenario.node.start.moments().0;
        Self { violations: least.into_iter().zip(counts).collect(), start: (start / SLOT).ceil() as usize }
    }

    /// Takes away what was planned for the slots that broke the objective, and for those before them. Tells whether there
    /// is anything left to try.
    pub(super) fn raise(&mut self, plan: &[u32], violated_in: &[u64]) -> bool {
        let mut raised = false;
        let broken = |slot: usize| violated_in.get(slot).copied().unwrap_or(0) > 0;
        for (slot, ((least, counts), planned)) in self.violations.iter_mut().zip(plan).enumerate() {
            if (broken(slot) || broken(slot + 1)) && *least <= *planned {
                let gone = (planned + 1 - *least) as usize;
                counts.drain(..gone.min(counts.len()));
                *least = planned + 1;
                raised = true;
            }
        }
        raised
    }

    fn count(&self, slot: usize, nodes: u32) -> f64 {
        let (least, counts) = &self.violations[slot];
        match nodes.checked_sub(*least) {
            Some(more) => counts.get(more as usize).copied().unwrap_or(0) as f64,
            // It was not tried, and is not allowed.
            None => f64::INFINITY,
        }
    }

    fn most(&self) -> u32 {
        self.violations.iter().map(|(least, counts)| least + (counts.len() as u32).saturating_sub(1)).max().unwrap_or(1)
    }
}

/// The requests, by slot.
struct Trial<'a> {
    slots: Vec<&'a [Recorded]>,
    workers: usize,
    patience: Nanos,
    objective: Nanos,
}

impl<'a> Trial<'a> {
    fn new(scenario: &'a Scenario) -> Self {
        let (slot, count) = (nanos(SLOT), scenario.duration.nanos().div_ceil(nanos(SLOT)));
        let at = |number: u64| scenario.recorded.partition_point(|request| request.at < number * slot);
        Self {
            slots: (0..count).map(|number| &scenario.recorded[at(number)..at(number + 1)]).collect(),
            workers: scenario.node.workers as usize,
            patience: scenario.node.patience.nanos(),
            objective: scenario.objective.latency.nanos().saturating_sub(scenario.pops[0].client.nanos()),
        }
    }

    /// Fewer nodes than nine tenths of the work are not tried.
    fn least(&self, requests: &[Recorded]) -> u32 {
        let work: f64 = requests.iter().map(|request| request.service as f64).sum();
        ((work / nanos(SLOT) as f64 * 0.9 / self.workers as f64) as u32).max(1)
    }

    /// When each worker is free at the beginning of a slot, with what began in the one before it.
    fn begin(&self, slot: usize, nodes: u32) -> BinaryHeap<Reverse<Nanos>> {
        let workers = nodes as usize * self.workers;
        let mut line: BinaryHeap<_> = std::iter::repeat_n(Reverse(0), workers).collect();
        if slot > 0 {
            self.broken(&mut line, slot - 1);
        }
        line
    }

    /// Plays a slot: first come first served, and who has waited too long goes. Requests that break the objective.
    fn broken(&self, line: &mut BinaryHeap<Reverse<Nanos>>, slot: usize) -> u64 {
        let mut broken = 0;
        for request in self.slots[slot] {
            let Some(Reverse(free)) = line.peek().copied() else { return broken };
            let begin = free.max(request.at);
            let end = begin + request.service;
            broken += u64::from(end - request.at > self.objective || begin - request.at > self.patience);
            if begin - request.at <= self.patience {
                line.pop();
                line.push(Reverse(end));
            }
        }
        broken
    }
}

/// Nodes that serve in each slot, with no more violations than the budget. Those of the first slots are there at the
/// beginning: what starts later takes its time.
pub fn plan(slots: &Slots, budget: u64) -> Vec<u32> {
    let broken = |nodes: &[u32]| nodes.iter().enumerate().map(|(slot, n)| slots.count(slot, *n)).sum::<f64>();
    let dear = cheapest(slots, 1e6);
    let (mut low, mut high) = (1e-6_f64, 1e6_f64);
    let mut best = dear;
    for _ in 0..40 {
        let price = (low * high).sqrt();
        let nodes = cheapest(slots, price);
        if broken(&nodes) <= budget as f64 {
            (best, high) = (nodes, price);
        } else {
            low = price;
        }
    }
    best
}

/// The cheapest plan when a violation costs as much as so many slots of a node.
pub(super) fn cheapest(slots: &Slots, price: f64) -> Vec<u32> {
    let (count, most) = (slots.violations.len(), slots.most() as usize);
    let start = slots.start as f64;
    let own = |slot: usize, nodes: usize| {
        let violations = slots.count(slot, nodes as u32);
        // Not 0 · ∞: what is not allowed is not allowed at any price.
        if violations == 0.0 { nodes as f64 } else { nodes as f64 + price * violations }
    };
    let mut cost: Vec<f64> = (0..=most).map(|nodes| own(0, nodes)).collect();
    let mut from: Vec<Vec<u32>> = Vec::with_capacity(count);
    for slot in 1..count {
        let mut origin: Vec<u32> = vec![0; most + 1];
        let mut least = vec![f64::INFINITY; most + 1];
        // From fewer: each start is paid, and in the first slots none can have started.
        let mut best = (f64::INFINITY, 0);
        for nodes in 0..=most {
            best.0 += start;
            if cost[nodes] <= best.0 {
                best = (cost[nodes], nodes as u32);
            }
            (least[nodes], origin[nodes]) = if slot <= slots.start { (cost[nodes], nodes as u32) } else { best };
        }
        // From more: nothing.
        let mut best = (f64::INFINITY, 0);
        for nodes in (0..=most).rev() {
            if cost[nodes] < best.0 {
                best = (cost[nodes], nodes as u32);
            }
            if best.0 < least[nodes] {
                (least[nodes], origin[nodes]) = best;
            }
        }
        cost = (0..=most).map(|nodes| least[nodes] + own(slot, nodes)).collect();
        from.push(origin);
    }
    let mut nodes = (0..=most).min_by(|a, b| cost[*a].total_cmp(&cost[*b])).unwrap_or(0) as u32;
    let mut plan = vec![nodes];
    for origin in from.iter().rev() {
        nodes = origin[nodes as usize];
        plan.push(nodes);
    }
    plan.reverse();
    plan
}
