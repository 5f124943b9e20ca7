//! One PoP: its nodes, its queue and what it measures.

use std::collections::{HashMap, VecDeque};

use super::super::Nanos;
use super::super::cache::Cache;
use super::super::isolates::Isolates;
use super::super::pilot::{Measure, Pilot};
use super::super::scenario::{PopPlan, Scenario};
use super::placing::Placing;

/// How a node stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It was ordered.
    Coming,
    /// It serves.
    Serving,
    /// It takes nothing new, and goes when its last request is done.
    Draining,
    /// It is gone.
    Gone,
}

#[derive(Debug)]
pub(super) struct Node {
    standing: Standing,
    busy: u32,
    ordered: Nanos,
    gone: Nanos,
}

impl Node {
    /// How long it was paid for.
    pub(super) fn seconds(&self, end: Nanos) -> f64 {
        let until = if self.standing == Standing::Gone { self.gone } else { end };
        until.saturating_sub(self.ordered) as f64 / 1e9
    }
}

#[derive(Debug)]
pub(super) struct Pop {
    pub(super) name: String,
    pub(super) share: f64,
    pub(super) to_client: Nanos,
    pub(super) to_origin: Nanos,
    pub(super) to_region: Nanos,
    pub(super) nodes: Vec<Node>,
    pub(super) queue: VecDeque<u32>,
    pub(super) isolates: Isolates,
    pub(super) front: Cache,
    pub(super) behind: Cache,
    pub(super) pilot: Pilot,
    /// Invocations: on a worker, or waiting for something without one.
    pub(super) running: u32,
    /// Who waits for the answer that another one has asked the origin for, by object.
    pub(super) asking: HashMap<u32, Vec<u32>>,
    pub(super) placing: Option<Placing>,
    /// Nodes that were told that they will be taken.
    doomed: Vec<u32>,
    /// Nodes that faults took.
    pub(super) lost: u32,
    /// Requests in flight times time.
    pub(super) flight_area: u128,
    /// The node of each free worker; the last is taken first.
    free: Vec<u32>,
    workers_of_node: u32,
    queue_of_worker: u32,
    serving: u32,
    coming: u32,
    busy: u32,
    busy_area: u128,
    worker_area: u128,
    metered: Nanos,
    /// The areas and what had come at the last look.
    looked: (Nanos, u128, u128, u128, u64),
    /// Requests that came for a worker; how long those that are done occupied one, and how many these are.
    came: u64,
    worked: (u128, u64),
}

impl Pop {
    pub(super) fn new(name: String, plan: &PopPlan, scenario: &Scenario) -> Self {
        let objects = scenario.objects.as_ref();
        let mut pop = Self {
            name,
            share: plan.share,
            to_client: plan.client.nanos(),
            to_origin: plan.origin.nanos(),
            to_region: plan.region.nanos(),
            nodes: Vec::new(),
            queue: VecDeque::new(),
            isolates: Isolates::default(),
            front: super::cache(objects, |objects| objects.front),
            behind: super::cache(objects, |objects| objects.behind),
            pilot: Pilot::new(&scenario.scaling, scenario.node.workers),
            running: 0,
            asking: HashMap::new(),
            placing: scenario.fallback.as_ref().map(|config| Placing::new(config, scenario)),
            doomed: Vec::new(),
            lost: 0,
            flight_area: 0,
            free: Vec::new(),
            workers_of_node: scenario.node.workers,
            queue_of_worker: scenario.node.queue,
            serving: 0,
            coming: 0,
            busy: 0,
            busy_area: 0,
            worker_area: 0,
            metered: 0,
            looked: (0, 0, 0, 0, 0),
            came: 0,
            worked: (0, 0),
        };
        for _ in 0..plan.nodes {
            let node = pop.order(0);
            pop.begin(node);
        }
        pop
    }

    /// Brings the areas up to now; comes before every change of a count.
    pub(super) fn meter(&mut self, now: Nanos) {
        let passed = u128::from(now - self.metered);
        self.busy_area += passed * u128::from(self.busy);
        self.flight_area += passed * (u128::from(self.busy) + self.queue.len() as u128);
        self.worker_area += passed * u128::from(self.workers());
        self.metered = now;
    }

    /// What was measured since the last look.
    pub(super) fn measure(&mut self, now: Nanos) -> Measure {
        self.meter(now);
        let areas = (now, self.busy_area, self.flight_area, self.worker_area, self.came);
        let (then, busy, flight, workers, came) = std::mem::replace(&mut self.looked, areas);
        let (passed, workers) = ((now - then).max(1), (self.worker_area - workers).max(1));
        let each = if self.worked.1 == 0 { 0.0 } else { self.worked.0 as f64 / self.worked.1 as f64 };
        Measure {
            now,
            serving: self.serving,
            coming: self.coming,
            used: (self.busy_area - busy) as f64 / workers as f64,
            in_flight: (self.flight_area - flight) as f64 / passed as f64,
            demand: (self.came - came) as f64 * each / passed as f64,
        }
    }

    /// A request came for a worker.
    pub(super) fn came(&mut self) {
        self.came += 1;
    }

    /// All that came for a worker.
    pub(super) fn all(&self) -> u64 {
        self.came
    }

    pub(super) fn serving(&self) -> u32 {
        self.serving
    }

    pub(super) fn coming(&self) -> u32 {
        self.coming
    }

    pub(super) fn workers(&self) -> u32 {
        self.serving * self.workers_of_node
    }

    /// How many requests may wait.
    pub(super) fn room(&self) -> usize {
        self.workers() as usize * self.queue_of_worker as usize
    }

    pub(super) fn free_node(&self) -> Option<u32> {
        self.free.last().copied()
    }

    /// Takes a free worker.
    pub(super) fn occupy(&mut self) -> Option<u32> {
        let node = self.free.pop()?;
        self.nodes[node as usize].busy += 1;
        self.busy += 1;
        Some(node)
    }

    /// A worker is done after so long. Tells how its node stood.
    pub(super) fn release(&mut self, number: u32, took: Nanos, now: Nanos) -> Standing {
        self.worked = (self.worked.0 + u128::from(took), self.worked.1 + 1);
        let node = &mut self.nodes[number as usize];
        let standing = node.standing;
        if standing == Standing::Gone {
            return standing;
        }
        node.busy -= 1;
        self.busy -= 1;
        if standing == Standing::Serving {
            self.free.push(number);
        } else if node.busy == 0 {
            (node.standing, node.gone) = (Standing::Gone, now);
        }
        standing
    }

    pub(super) fn order(&mut self, now: Nanos) -> u32 {
        self.nodes.push(Node { standing: Standing::Coming, busy: 0, ordered: now, gone: 0 });
        self.coming += 1;
        (self.nodes.len() - 1) as u32
    }

    /// An ordered node serves, unless it was given back before.
    pub(super) fn begin(&mut self, number: u32) {
        let node = &mut self.nodes[number as usize];
        if node.standing == Standing::Coming {
            node.standing = Standing::Serving;
            self.coming -= 1;
            self.serving += 1;
            self.free.extend(std::iter::repeat_n(number, self.workers_of_node as usize));
        }
    }

    /// Gives nodes back: first what is still to come, the newest first, then those that do least.
    pub(super) fn shrink(&mut self, count: u32, now: Nanos) {
        self.meter(now);
        let mut left = count;
        for node in self.nodes.iter_mut().rev() {
            if left > 0 && node.standing == Standing::Coming {
                (node.standing, node.gone) = (Standing::Gone, now);
                self.coming -= 1;
                left -= 1;
            }
        }
        let mut serving = self.numbers(Standing::Serving);
        serving.sort_by_key(|number| self.nodes[*number as usize].busy);
        for number in serving.into_iter().take(left as usize) {
            self.drain(number, now);
        }
    }

    fn numbers(&self, standing: Standing) -> Vec<u32> {
        (0..self.nodes.len() as u32).filter(|number| self.nodes[*number as usize].standing == standing).collect()
    }

    fn drain(&mut self, number: u32, now: Nanos) {
        self.free.retain(|node| *node != number);
        self.serving -= 1;
        let node = &mut self.nodes[number as usize];
        node.standing = Standing::Draining;
        if node.busy == 0 {
            (node.standing, node.gone) = (Standing::Gone, now);
        }
    }

    /// Nodes are told that they will be taken: they take nothing new.
    pub(super) fn condemn(&mut self, count: u32) {
        for number in self.numbers(Standing::Serving).into_iter().take(count as usize) {
            self.drain(number, self.metered);
            self.doomed.push(number);
        }
    }

    /// Nodes are taken at once, with what runs on them: those that were told, otherwise any.
    pub(super) fn lose(&mut self, count: u32, now: Nanos) {
        if self.doomed.is_empty() {
            self.condemn(count);
        }
        for number in std::mem::take(&mut self.doomed) {
            self.kill(number, now);
            self.lost += 1;
        }
    }

    /// The caches and the isolates are gone with the last node.
    pub(super) fn forget(&mut self) {
        self.front.clear();
        self.behind.clear();
        self.isolates = Isolates::default();
    }

    fn kill(&mut self, number: u32, now: Nanos) {
        let node = &mut self.nodes[number as usize];
        if node.standing != Standing::Gone {
            self.busy -= node.busy;
            (node.standing, node.gone) = (Standing::Gone, now);
        }
    }
}
