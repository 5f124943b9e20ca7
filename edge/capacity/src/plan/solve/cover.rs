//! Tables: the cheapest way to have so many units of capacity, in whole bundles.

use crate::plan::need::{needs_spare, vcpus};
use crate::plan::offer::{self, Slack};
use crate::plan::{Demand, Kind, Question, Stream};
use crate::price::{Instance, Key, MONTH_HOURS};

/// Something to buy.
#[derive(Clone, Debug)]
pub(super) struct Offer {
    pub kind: Kind,
    pub name: String,
    /// Machines of a bundle: several, where one gives less than a unit.
    pub bundle: u32,
    /// Units that a bundle gives; at least 1.
    pub units: u32,
    /// Of a bundle: for an hour, or for a month where it is reserved.
    pub price: f64,
}

/// The cheapest cover of 0, 1, 2 … units.
#[derive(Clone, Debug)]
pub(super) struct Table {
    costs: Vec<f64>,
    /// What was bought last, and how many units remained to be covered.
    picks: Vec<(usize, usize)>,
}

impl Table {
    /// For up to `most` units. What nothing covers costs infinitely much.
    pub(super) fn new(offers: &[Offer], most: usize) -> Self {
        let mut costs = vec![0.0; most + 1];
        let mut picks = vec![(0, 0); most + 1];
        for units in 1..=most {
            costs[units] = f64::INFINITY;
            for (pick, offer) in offers.iter().enumerate() {
                let before = units.saturating_sub(offer.units as usize);
                let cost = offer.price + costs[before];
                if cost < costs[units] {
                    (costs[units], picks[units]) = (cost, (pick, before));
                }
            }
        }
        Self { costs, picks }
    }

    /// What so many units cost.
    pub(super) fn cost(&self, units: usize) -> f64 {
        self.costs.get(units).copied().unwrap_or(f64::INFINITY)
    }

    /// What as many units cost as the table has.
    pub(super) fn full(&self) -> f64 {
        self.costs.last().copied().unwrap_or(0.0)
    }

    /// The bundles that cover so many units, by their index among the offers.
    pub(super) fn picks(&self, mut units: usize) -> Vec<usize> {
        let mut picks = Vec::new();
        while units > 0 && self.cost(units).is_finite() {
            let (pick, before) = self.picks[units];
            picks.push(pick);
            units = before;
        }
        picks
    }
}

/// What streams that need `units` each cost together, for every reserved capacity that they share in the best way.
/// Beyond what they need together it costs nothing, and the answer ends.
pub(super) fn join<'t>(streams: impl Iterator<Item = (usize, Option<&'t Table>)>) -> Vec<f64> {
    let mut joint = vec![0.0];
    for (units, table) in streams {
        let alone = alone(units, table);
        joint = if joint.len() == 1 && joint[0] == 0.0 { alone } else { convolve(&joint, &alone) };
    }
    joint
}

/// What a stream costs for every reserved capacity that it gets.
fn alone(units: usize, table: Option<&Table>) -> Vec<f64> {
    (0..=units).map(|given| table.map_or(f64::INFINITY, |table| table.cost(units - given))).collect()
}

fn convolve(left: &[f64], right: &[f64]) -> Vec<f64> {
    let mut joint = vec![f64::INFINITY; left.len() + right.len() - 1];
    for (given, cost) in left.iter().enumerate() {
        for (more, with) in right.iter().enumerate() {
            let sum = cost + with;
            if sum < joint[given + more] {
                joint[given + more] = sum;
            }
        }
    }
    joint
}

/// How much of a reserved capacity each stream gets in the best way; the same order as [`join`].
pub(super) fn given<'t>(streams: impl Iterator<Item = (usize, Option<&'t Table>)>, capacity: usize) -> Vec<usize> {
    let streams: Vec<_> = streams.map(|(units, table)| alone(units, table)).collect();
    let mut joints = vec![vec![0.0]];
    for alone in &streams {
        joints.push(convolve(&joints[joints.len() - 1], alone));
    }
    let mut left = capacity.min(joints[streams.len()].len() - 1);
    let mut given = vec![0; streams.len()];
    for index in (0..streams.len()).rev() {
        let (before, alone) = (&joints[index], &streams[index]);
        let least = left.saturating_sub(before.len() - 1);
        let cost = |more: usize| before[left - more] + alone[more];
        let best = (least..=left.min(alone.len() - 1)).min_by(|a, b| cost(*a).total_cmp(&cost(*b)));
        given[index] = best.unwrap_or(0);
        left -= given[index];
    }
    given
}

/// How many machines make a bundle, and how many units it gives.
pub(super) fn bundle(vcpus: u32, memory_gb: f64, memory_gb_per_vcpu: f64, quantum: u32) -> (u32, u32) {
    let fit = if memory_gb_per_vcpu > 0.0 { memory_gb / memory_gb_per_vcpu } else { f64::INFINITY };
    let gives = f64::from(vcpus).min(fit) / f64::from(quantum);
    if gives >= 1.0 { (1, floor(gives)) } else { (ceil(1.0 / gives.max(1e-6)), 1) }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast from f64 saturates: that is meant")]
fn floor(value: f64) -> u32 {
    (value + 1e-9).floor() as u32
}

/// Rounded up, but not for the sake of a rounding error.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast from f64 saturates: that is meant")]
pub(super) fn ceil(value: f64) -> u32 {
    (value - 1e-9).ceil().max(0.0) as u32
}

/// Processors of the largest machine that a stream may stand on. Where the loss of one must not matter, that is one of at
/// most a quarter of what is needed: a spare is then a spare, and not another fleet.
pub(super) fn largest_machine(question: &Question, stream: &Stream, slack: Slack) -> u32 {
    let Demand::Requests(week) = &stream.demand else { return u32::MAX };
    if !needs_spare(&stream.objective) {
        return u32::MAX;
    }
    let fitting = || {
        question.prices.instances.iter().filter(|it| it.memory_gb * 1024.0 >= stream.work.memory_mb).map(|it| it.vcpus)
    };
    let quarter = vcpus(week.peak(), &stream.work, slack) / 4;
    fitting().filter(|size| *size <= quarter).max().or_else(|| fitting().min()).unwrap_or(1)
}

/// What a stream may buy by the hour in a region, but for Lambda, on machines of at most `machine` processors.
pub(super) fn elastic(
    question: &Question,
    stream: &Stream,
    memory_gb_per_vcpu: f64,
    machine: u32,
    quantum: u32,
) -> Vec<Offer> {
    let mut offers = Vec::new();
    for kind in [Kind::OnDemand, Kind::Spot, Kind::Fargate, Kind::FargateSpot] {
        if !question.kinds.contains(&kind) || offer::judge(question, stream, kind).is_err() {
            continue;
        }
        let price =
            |instance: &Instance| if kind == Kind::Spot { instance.spot.amount } else { instance.on_demand.amount };
        if matches!(kind, Kind::OnDemand | Kind::Spot) {
            let fitting = question
                .prices
                .instances
                .iter()
                .filter(|it| it.memory_gb * 1024.0 >= stream.work.memory_mb && it.vcpus <= machine);
            offers.extend(fitting.map(|it| instance(kind, it, price(it), memory_gb_per_vcpu, quantum)));
        } else {
            offers.push(task(question, stream, kind, memory_gb_per_vcpu, quantum));
        }
    }
    offers
}

/// What may be reserved, with its price for a month: machines with enough memory and not too many processors.
pub(super) fn reserved(
    question: &Question,
    memory_gb_per_vcpu: f64,
    largest_gb: f64,
    machine: u32,
    quantum: u32,
) -> Vec<Offer> {
    let mut offers = Vec::new();
    for kind in [Kind::Reserved3y, Kind::Reserved1y].into_iter().filter(|kind| question.kinds.contains(kind)) {
        for it in question.prices.instances.iter().filter(|it| it.memory_gb >= largest_gb && it.vcpus <= machine) {
            let hour = if kind == Kind::Reserved3y { &it.reserved_3y } else { &it.reserved_1y };
            offers.push(instance(kind, it, hour.amount * MONTH_HOURS, memory_gb_per_vcpu, quantum));
        }
    }
    offers
}

fn instance(kind: Kind, it: &Instance, price: f64, memory_gb_per_vcpu: f64, quantum: u32) -> Offer {
    let (bundle, units) = bundle(it.vcpus, it.memory_gb, memory_gb_per_vcpu, quantum);
    Offer { kind, name: it.name.clone(), bundle, units, price: price * f64::from(bundle) }
}

/// A Fargate task of one processor, with the memory that goes with it: 2 to 8 GB, or of as many processors as its memory
/// asks for.
fn task(question: &Question, stream: &Stream, kind: Kind, memory_gb_per_vcpu: f64, quantum: u32) -> Offer {
    let (cpu, memory) = match kind {
        Kind::FargateSpot => (Key::FargateSpotCpu, Key::FargateSpotMemory),
        _ => (Key::FargateCpu, Key::FargateMemory),
    };
    let gb = memory_gb_per_vcpu.max(stream.work.memory_mb / 1024.0).ceil().max(2.0);
    let vcpus = (gb / 8.0).ceil().max(1.0);
    let price = vcpus * question.prices.of(cpu) + gb * question.prices.of(memory);
    let name = format!("{vcpus:.0} vCPU, {gb:.0} GB");
    Offer { kind, name, bundle: quantum, units: 1, price: price * f64::from(quantum) }
}
