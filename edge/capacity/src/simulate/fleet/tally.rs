//! What was counted.

use super::super::Nanos;
use super::super::histogram::Histogram;
use crate::fallback::Choice;

/// Seconds of a slot in which violations are counted.
pub(in crate::simulate) const SLOT: f64 = 15.0;

/// Why a request was not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The queue of its PoP was full.
    QueueFull,
    /// It waited too long.
    QueueTimeout,
    /// Its node was lost while it ran.
    NodeLost,
    /// No node of its PoP served.
    PopDown,
    /// The queue of the origin was full.
    OriginBusy,
    /// The queue of the region was full.
    RegionBusy,
    /// Its PoP had better not run it, and no region could.
    TurnedAway,
}

impl Refusal {
    /// All of them, in the order of the counts.
    pub const ALL: [Self; 7] = [
        Self::QueueFull,
        Self::QueueTimeout,
        Self::NodeLost,
        Self::PopDown,
        Self::OriginBusy,
        Self::RegionBusy,
        Self::TurnedAway,
    ];

    /// As a label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::QueueTimeout => "queue_timeout",
            Self::NodeLost => "node_lost",
            Self::PopDown => "pop_down",
            Self::OriginBusy => "origin_busy",
            Self::RegionBusy => "region_busy",
            Self::TurnedAway => "turned_away",
        }
    }
}

/// Counts of a simulation. Those without another word are of all requests, and the rest of those after the warm-up.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    /// Requests that arrived.
    pub arrived: u64,
    /// That were answered.
    pub answered: u64,
    /// That were refused, in the order of [`Refusal::ALL`].
    pub refused: [u64; 7],
    /// That were still on their way at the end.
    pub in_flight: u64,
    /// After the warm-up: refused, or too late.
    pub violations: u64,
    /// By when they came, in slots of [`SLOT`] seconds.
    pub violated_in: Vec<u64>,
    /// From the client's sending to its receiving.
    pub latency: Histogram,
    /// From the arrival in the PoP until a worker takes it.
    pub waits: Histogram,
    /// Isolates that were found: warm, blank, none.
    pub starts: [u64; 3],
    /// Hits and misses of the caches in front.
    pub front: (u64, u64),
    /// Hits and misses of the caches behind.
    pub behind: (u64, u64),
    /// Requests to the origin, and to the region (of all).
    pub asked: [u64; 2],
    /// What was chosen, how often, where there is a fallback (of all).
    pub chosen: Vec<(Choice, u64)>,
    /// How often something turned in these choices that turns with hysteresis: a health, or which place costs less.
    pub turns: u64,
    /// Each PoP.
    pub pops: Vec<PopTally>,
    /// The most nodes that served at once, when the policy looked.
    pub most_nodes: u32,
    /// Events.
    pub events: u64,
    /// How long it lasted, in seconds.
    pub duration: f64,
}

/// Counts of one PoP.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PopTally {
    /// Its name.
    pub name: String,
    /// Requests that arrived.
    pub arrived: u64,
    /// That were refused.
    pub refused: u64,
    /// After the warm-up: refused, or too late.
    pub violations: u64,
    /// From the client's sending to its receiving.
    pub latency: Histogram,
    /// Nodes times the time from their order until they were given back.
    pub node_seconds: f64,
    /// Requests that run or wait in the PoP, on average.
    pub in_flight_mean: f64,
    /// Nodes that serve at the end.
    pub nodes: u32,
}

impl Tally {
    pub(super) fn new(pops: usize) -> Self {
        Self { pops: vec![PopTally::default(); pops], ..Self::default() }
    }

    /// One more violation, by a request that came then.
    pub(super) fn violation(&mut self, pop: usize, came: Nanos) {
        let slot = (came as f64 / 1e9 / SLOT) as usize;
        if slot >= self.violated_in.len() {
            self.violated_in.resize(slot + 1, 0);
        }
        self.violated_in[slot] += 1;
        self.violations += 1;
        self.pops[pop].violations += 1;
    }

    /// One more choice.
    pub(super) fn choice(&mut self, choice: Choice) {
        match self.chosen.iter_mut().find(|(known, _)| *known == choice) {
            Some((_, count)) => *count += 1,
            None => self.chosen.push((choice, 1)),
        }
    }

    /// Between which seconds after the beginning violating requests came.
    pub fn violated_between(&self) -> Option<(f64, f64)> {
        let first = self.violated_in.iter().position(|count| *count > 0)?;
        Some((first as f64 * SLOT, self.violated_in.len() as f64 * SLOT))
    }

    /// All that were refused.
    pub fn refusals(&self) -> u64 {
        self.refused.iter().sum()
    }

    /// Violations as a part of the requests after the warm-up that had an outcome.
    pub fn violated(&self) -> f64 {
        let late = self.latency.count() + self.refusals();
        if late == 0 { 0.0 } else { self.violations as f64 / late as f64 }
    }

    /// Nodes times time, of all PoPs.
    pub fn node_seconds(&self) -> f64 {
        self.pops.iter().map(|pop| pop.node_seconds).sum()
    }
}
