//! How many machines, and which of them may go.
//!
//! What needs to run is packed into nodes (first fit, the largest first: at most 11/9 of the best packing), each with room
//! left for what may come while a new node is on its way. A node that was told to go (spot capacity gives two minutes'
//! notice) counts no more, so that its successor is ordered at once. A node that is not needed goes only after a while and
//! only when what it runs fits on the others: the rules of kubernetes/autoscaler's cluster-autoscaler, whose defaults
//! these are.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Moment;
use crate::invalid::{Check, Invalids};

/// The kind of machine and how it is used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Nodes {
    /// Never fewer.
    pub min: u32,
    /// Never more.
    pub max: u32,
    /// Cores of one.
    pub cores: f64,
    /// Bytes of memory of one.
    pub memory: f64,
    /// The part of what runs that is kept free besides it.
    pub headroom: f64,
    /// Nodes more than are needed, so that so many may be lost at once.
    pub spare: u32,
    /// How long a new one takes until it serves.
    #[serde(with = "crate::span")]
    pub provisioning: Duration,
    /// One that is not needed stays so long.
    #[serde(with = "crate::span")]
    pub unneeded: Duration,
}

impl Default for Nodes {
    fn default() -> Self {
        let (provisioning, unneeded) = (Duration::from_secs(90), Duration::from_secs(600));
        Self { min: 1, max: 10, cores: 2.0, memory: 4e9, headroom: 0.2, spare: 0, provisioning, unneeded }
    }
}

/// Something that runs on a node as a whole: a worker, or all isolates of a function there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Item {
    /// Cores that it uses.
    pub cores: f64,
    /// Bytes of memory that it uses.
    pub memory: f64,
}

/// A machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Its number.
    pub id: u32,
    /// What it does.
    pub state: State,
    /// What runs on it.
    pub items: Vec<Item>,
    /// Whether something on it must not be moved.
    pub pinned: bool,
}

/// What a machine does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It was ordered.
    Coming {
        /// Then.
        since: Moment,
    },
    /// It serves.
    Serving,
    /// It was told that it will be taken away (spot), or it is being drained.
    Leaving,
}

/// Why the plan is as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// There are as many as are needed.
    Enough,
    /// More are needed.
    Load,
    /// Some leave and have to be replaced.
    Interrupted,
    /// Some that were ordered are overdue: they are taken not to come.
    Overdue,
    /// Fewer are needed, and some can go.
    Drained,
    /// Fewer are needed, but none can go yet: not for long enough, or what they run fits nowhere else.
    CannotDrain,
    /// More are needed than there may be.
    Max,
    /// What runs is not known: nothing goes.
    NoMetrics,
}

impl Reason {
    /// As a label, a log field and a header value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enough => "enough",
            Self::Load => "load",
            Self::Interrupted => "interrupted",
            Self::Overdue => "overdue",
            Self::Drained => "drained",
            Self::CannotDrain => "cannot_drain",
            Self::Max => "max",
            Self::NoMetrics => "no_metrics",
        }
    }
}

/// What to do about nodes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NodePlan {
    /// So many should serve.
    pub needed: u32,
    /// Order so many.
    pub add: u32,
    /// Drain these, then give them back.
    pub drain: Vec<u32>,
    /// These items (by their place) fit on no node at all: their place is the region.
    pub too_large: Vec<usize>,
    /// Why.
    pub reason: Reason,
}

/// Since when nodes are not needed.
pub type Unneeded = BTreeMap<u32, Moment>;

impl Nodes {
    /// The plan for what should run (`None`: not known) and the nodes that there are. `growth` is by which part the load
    /// grows in a second.
    pub fn plan(
        &self,
        wanted: Option<&[Item]>,
        growth: f64,
        nodes: &[Node],
        unneeded: &mut Unneeded,
        now: Moment,
    ) -> NodePlan {
        let count = |f: fn(&State) -> bool| nodes.iter().filter(|node| f(&node.state)).count();
        let serving = count(|state| *state == State::Serving);
        let leaving = count(|state| *state == State::Leaving);
        let patience = self.provisioning.saturating_mul(3);
        let (mut coming, mut overdue) = (0, 0);
        for node in nodes {
            if let State::Coming { since } = node.state {
                if now.since(since) > patience { overdue += 1 } else { coming += 1 }
            }
        }
        let have = serving + coming;
        let known = wanted.filter(|items| items.iter().all(Item::usable));
        let (needed, too_large) = match known {
            Some(items) => {
                let (bins, too_large) = self.bins(items, growth);
                (bins + self.spare as usize, too_large)
            }
            None => (have + leaving, Vec::new()),
        };
        let capped = needed > self.max as usize;
        let needed = u32::try_from(needed).unwrap_or(u32::MAX).clamp(self.min, self.max);
        let add = (needed as usize).saturating_sub(have);
        let surplus = if known.is_some() { have.saturating_sub(needed as usize).min(serving) } else { 0 };
        let drain = self.drainable(nodes, surplus, unneeded, now);
        let reason = match () {
            () if add > 0 && overdue > 0 => Reason::Overdue,
            () if add > 0 && leaving > 0 => Reason::Interrupted,
            () if capped => Reason::Max,
            () if add > 0 => Reason::Load,
            () if known.is_none() => Reason::NoMetrics,
            () if !drain.is_empty() => Reason::Drained,
            () if surplus > 0 => Reason::CannotDrain,
            () => Reason::Enough,
        };
        // Both casts: no more than there may be.
        NodePlan { needed, add: add as u32, drain, too_large, reason }
    }

    /// How many nodes hold the items with room to grow, and which items no node holds.
    fn bins(&self, items: &[Item], growth: f64) -> (usize, Vec<usize>) {
        let growth = if growth.is_finite() { growth.max(0.0) } else { 0.0 };
        let room = 1.0 + self.headroom + growth * self.provisioning.as_secs_f64();
        let mut too_large = Vec::new();
        let mut sorted = Vec::new();
        for (i, item) in items.iter().enumerate() {
            let share = (item.cores / self.cores).max(item.memory / self.memory);
            if share > 1.0 {
                too_large.push(i);
            } else {
                sorted.push((share, *item));
            }
        }
        sorted.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut bins: Vec<Item> = Vec::new();
        for (_, item) in sorted {
            let grown = Item { cores: item.cores * room, memory: item.memory * room };
            match bins.iter_mut().find(|free| grown.fits(free)) {
                Some(free) => free.take(grown),
                // One that fits only without its headroom has a node for itself.
                None => {
                    let mut free = self.empty();
                    free.take(grown);
                    bins.push(free);
                }
            }
        }
        (bins.len(), too_large)
    }

    fn empty(&self) -> Item {
        Item { cores: self.cores, memory: self.memory }
    }

    /// Up to `surplus` nodes that may go, the least used first.
    fn drainable(&self, nodes: &[Node], surplus: usize, unneeded: &mut Unneeded, now: Moment) -> Vec<u32> {
        let mut free: BTreeMap<u32, Item> =
            nodes.iter().filter(|node| node.state == State::Serving).map(|node| (node.id, self.free(node))).collect();
        let mut candidates: Vec<&Node> =
            nodes.iter().filter(|node| node.state == State::Serving && !node.pinned).collect();
        candidates.sort_by(|a, b| self.used(a).total_cmp(&self.used(b)));
        let mut can_go = Vec::new();
        for node in candidates {
            if can_go.len() == surplus {
                break;
            }
            let mut others = free.clone();
            others.remove(&node.id);
            let moved = node.items.iter().all(|item| match others.values_mut().find(|free| item.fits(free)) {
                Some(free) => {
                    free.take(*item);
                    true
                }
                None => false,
            });
            if moved {
                free = others;
                can_go.push(node.id);
            }
        }
        unneeded.retain(|id, _| can_go.contains(id));
        can_go.retain(|id| now.since(*unneeded.entry(*id).or_insert(now)) >= self.unneeded);
        can_go
    }

    fn free(&self, node: &Node) -> Item {
        let mut free = self.empty();
        node.items.iter().for_each(|item| free.take(*item));
        free
    }

    fn used(&self, node: &Node) -> f64 {
        let free = self.free(node);
        (1.0 - free.cores / self.cores).max(1.0 - free.memory / self.memory)
    }

    /// # Errors
    /// Every key that cannot be used.
    pub fn validate(&self) -> Result<(), Invalids> {
        let mut check = Check::default();
        self.check(&mut check);
        check.done()
    }

    pub(crate) fn check(&self, check: &mut Check) {
        check.that(self.max >= 1, "max", "must be at least 1, but it is 0");
        check.that(
            self.min <= self.max,
            "min",
            format!("must not be above `max` ({}), but it is {}", self.max, self.min),
        );
        check.within("cores", self.cores, 0.01..=f64::MAX);
        check.within("memory", self.memory, 1e6..=f64::MAX);
        check.within("headroom", self.headroom, 0.0..=10.0);
        let hour = Duration::from_secs(3600);
        check.span("provisioning", self.provisioning, Duration::ZERO..=hour);
        check.span("unneeded", self.unneeded, Duration::ZERO..=hour * 24);
    }
}

impl Item {
    fn usable(&self) -> bool {
        [self.cores, self.memory].iter().all(|value| value.is_finite() && *value >= 0.0)
    }

    fn fits(&self, free: &Self) -> bool {
        self.cores <= free.cores && self.memory <= free.memory
    }

    fn take(&mut self, item: Self) {
        self.cores -= item.cores;
        self.memory -= item.memory;
    }
}

#[cfg(test)]
mod tests;
