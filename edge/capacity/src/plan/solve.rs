//! The cheapest mix, exact in whole machines. See the top of [`super`].

mod answer;
mod check;
mod cover;

use std::collections::BTreeMap;

use super::need::{self, HourNeed};
use super::offer::{self, Slack};
use super::{Kind, MAX_VCPUS, PlanError, Question, Refusal, Stream};
use crate::load::WEEK_HOURS;
use crate::price::{Key, MONTH_HOURS};
pub use answer::{HourMix, Mix, Part};
use cover::{Offer, Table};

/// Most units of capacity that tables have. Above so many processors a unit is 2 of them, then 4: always a power of two,
/// so that rounding up keeps the order of loads.
const MAX_UNITS: u32 = 512;

/// A stream with what it needs where.
struct Carried<'a> {
    stream: &'a Stream,
    /// At the edge, in units, if it may be carried there.
    edge: Option<Vec<HourNeed>>,
    /// In a region, in units, if it may be carried there.
    region: Option<Vec<HourNeed>>,
    /// Who may carry it in a region beyond what is reserved; prices of an hour for a bundle.
    offers: Vec<Offer>,
    /// Processors of the largest machine that it may stand on in a region.
    machine: u32,
    /// What a request costs on Lambda, where Lambda may carry it.
    lambda: Option<f64>,
}

/// Hours that are alike.
struct Slot {
    /// Any of them.
    hour: usize,
    /// How many of them a month has.
    weight: f64,
    members: Vec<usize>,
}

struct Model<'a> {
    question: &'a Question,
    carried: Vec<Carried<'a>>,
    slots: Vec<Slot>,
    /// For each slot and stream: the cheapest way to buy so many units for the hour.
    elastic: Vec<Vec<Option<Table>>>,
    /// The cheapest way to reserve so many units for a month.
    reserved: Table,
    reserved_offers: Vec<Offer>,
    /// Processors of a unit.
    quantum: u32,
    most: usize,
}

/// Own machines: which, how many, what they give, what they cost.
#[derive(Clone, Copy)]
struct Own {
    which: usize,
    machines: u32,
    units: u32,
    monthly: f64,
}

/// Finds the cheapest mix.
pub(super) fn solve(question: &Question) -> Result<Mix, PlanError> {
    check::check(question)?;
    let model = Model::new(question)?;
    let mut best: Option<(f64, Own, usize)> = None;
    for own in model.own_candidates()? {
        let (fixed, curve) = model.rest(&own);
        for (capacity, rest) in curve.iter().enumerate() {
            let total = fixed + rest + model.reserved.cost(capacity);
            if best.is_none_or(|(least, ..)| total < least) {
                best = Some((total, own, capacity));
            }
        }
    }
    match best {
        Some((total, own, capacity)) if total.is_finite() => Ok(model.mix(&own, capacity)),
        _ => Err(model.nobody()),
    }
}

impl<'a> Model<'a> {
    fn new(question: &'a Question) -> Result<Self, PlanError> {
        let mut carried = Vec::with_capacity(question.streams.len());
        for stream in &question.streams {
            carried.push(place(question, stream)?);
        }
        let sum = |hour: usize| -> u32 {
            let of = |needs: &Option<Vec<HourNeed>>| needs.as_ref().map_or(0, |needs| needs[hour].vcpus);
            carried.iter().map(|it| of(&it.edge).max(of(&it.region))).fold(0, u32::saturating_add)
        };
        let most = (0..WEEK_HOURS).map(sum).max().unwrap_or(0);
        if most > MAX_VCPUS {
            let stream = question.streams.iter().map(|stream| stream.name.as_str()).collect::<Vec<_>>().join(", ");
            return Err(PlanError::TooLarge { stream });
        }
        let quantum = most.div_ceil(MAX_UNITS).max(1).next_power_of_two();
        // Memory for each processor of a machine that everybody shares: as who needs most of it.
        let mut memory = 0.0_f64;
        let (mut largest, mut limit) = (0.0_f64, u32::MAX);
        for it in &mut carried {
            if it.region.is_none() {
                continue;
            }
            if need::needs_spare(&it.stream.objective) {
                limit = limit.min(it.machine);
            }
            let each = need::memory_gb_per_vcpu(it.stream);
            (memory, largest) = (memory.max(each), largest.max(it.stream.work.memory_mb / 1024.0));
            it.offers = cover::elastic(question, it.stream, each, it.machine, quantum);
        }
        for needs in carried.iter_mut().flat_map(|it| it.edge.iter_mut().chain(&mut it.region)) {
            needs.iter_mut().for_each(|need| need.vcpus = need.vcpus.div_ceil(quantum));
        }
        let slots = slots(&carried);
        let most = usize::try_from(most.div_ceil(quantum)).unwrap_or(0) + carried.len();
        let reserved_offers = if carried.iter().any(|it| it.region.is_some()) {
            cover::reserved(question, memory, largest, limit, quantum)
        } else {
            Vec::new()
        };
        let reserved = Table::new(&reserved_offers, most);
        let elastic = slots.iter().map(|slot| carried.iter().map(|it| it.table(slot.hour)).collect()).collect();
        Ok(Self { question, carried, slots, elastic, reserved, reserved_offers, quantum, most })
    }

    /// Every number of own machines that can make sense.
    fn own_candidates(&self) -> Result<Vec<Own>, PlanError> {
        let (mut must, mut can) = (0, 0);
        for slot in &self.slots {
            let sum = |only: bool| -> u32 {
                let may = self.carried.iter().filter(|it| !only || it.region.is_none());
                may.filter_map(|it| it.edge.as_ref()).map(|needs| needs[slot.hour].vcpus).sum()
            };
            (must, can) = (must.max(sum(true)), can.max(sum(false)));
        }
        let mut candidates = Vec::new();
        if must == 0 {
            candidates.push(Own { which: 0, machines: 0, units: 0, monthly: 0.0 });
        }
        let mut needed = u32::MAX;
        for which in 0..self.question.prices.own.len() {
            let (bundle, units, monthly) = self.own_bundle(which);
            needed = needed.min(must.div_ceil(units).saturating_mul(bundle));
            for count in must.div_ceil(units).max(1)..=can.div_ceil(units) {
                let machines = count * bundle;
                if machines <= self.question.own_machines {
                    candidates.push(Own { which, machines, units: count * units, monthly: f64::from(count) * monthly });
                }
            }
        }
        if candidates.is_empty() {
            let only = self.carried.iter().filter(|it| it.region.is_none());
            let stream = only.map(|it| it.stream.name.as_str()).collect::<Vec<_>>().join(", ");
            return Err(PlanError::TooFewOwn { stream, needed, available: self.question.own_machines });
        }
        Ok(candidates)
    }

    /// Machines of a bundle of own machines, units that it gives, and what it costs a month.
    fn own_bundle(&self, which: usize) -> (u32, u32, f64) {
        let (prices, node) = (&self.question.prices, &self.question.prices.own[which]);
        let edge = self.carried.iter().filter(|it| it.edge.is_some());
        let memory = edge.map(|it| need::memory_gb_per_vcpu(it.stream)).fold(0.0, f64::max);
        let (bundle, units) = cover::bundle(node.vcpus, node.memory_gb, memory, self.quantum);
        let monthly = node.purchase.amount / f64::from(node.life_months)
            + node.watts / 1e3 * MONTH_HOURS * prices.of(Key::OwnPower)
            + node.rack_units * prices.of(Key::OwnColocation);
        (bundle, units, monthly * f64::from(bundle))
    }

    /// Units of each stream that own machines carry in a slot, and those that are left for a region.
    fn split(&self, slot: &Slot, own: &Own) -> Vec<(u32, u32)> {
        let need = |needs: &Option<Vec<HourNeed>>| needs.as_ref().map_or(0, |needs| needs[slot.hour].vcpus);
        let must: u32 = self.carried.iter().filter(|it| it.region.is_none()).map(|it| need(&it.edge)).sum();
        let mut left = own.units.saturating_sub(must);
        self.carried
            .iter()
            .map(|it| {
                let (edge, region) = (need(&it.edge), need(&it.region));
                if it.region.is_none() {
                    return (edge, 0);
                }
                let used = edge.min(left);
                left -= used;
                let share = if edge == 0 { 1.0 } else { 1.0 - f64::from(used) / f64::from(edge) };
                (used, cover::ceil(f64::from(region) * share))
            })
            .collect()
    }

    /// With these own machines: what is fixed, and what the rest costs a month for every reserved capacity.
    fn rest(&self, own: &Own) -> (f64, Vec<f64>) {
        let mut curve = vec![0.0; self.most + 1];
        let mut fixed = own.monthly;
        for (slot, tables) in self.slots.iter().zip(&self.elastic) {
            let split = self.split(slot, own);
            fixed += self.egress(slot, &split).iter().sum::<f64>();
            let left: Vec<_> = split.iter().zip(tables).filter(|((_, left), _)| *left > 0).collect();
            let joint = cover::join(left.iter().map(|((_, left), table)| (*left as usize, table.as_ref())));
            for (capacity, cost) in curve.iter_mut().enumerate() {
                *cost += slot.weight * joint.get(capacity).copied().unwrap_or(0.0);
            }
        }
        (fixed, curve)
    }

    /// Bytes to clients, a month: from own machines, and from a region.
    fn egress(&self, slot: &Slot, split: &[(u32, u32)]) -> [f64; 2] {
        let mut egress = [0.0; 2];
        for (it, (edge, region)) in self.carried.iter().zip(split) {
            let needs = it.edge.as_ref().or(it.region.as_ref()).map(|needs| needs[slot.hour]);
            let gb = needs.unwrap_or_default().requests * it.stream.work.response_bytes / 1e9 * slot.weight;
            let at_edge = match (&it.edge, *region) {
                (Some(_), 0) => 1.0,
                (Some(needs), _) => f64::from(*edge) / f64::from(needs[slot.hour].vcpus.max(1)),
                (None, _) => 0.0,
            };
            egress[0] += gb * at_edge * self.question.prices.of(Key::OwnEgress);
            egress[1] += gb * (1.0 - at_edge) * self.question.prices.of(Key::AwsEgress);
        }
        egress
    }

    /// No mix carries it all: whoever may carry a stream cannot be bought for it.
    fn nobody(&self) -> PlanError {
        let stuck = self.carried.iter().enumerate().find(|(index, it)| {
            it.region.is_some()
                && self
                    .elastic
                    .iter()
                    .any(|tables| tables[*index].as_ref().is_none_or(|table| !table.full().is_finite()))
        });
        let stream = stuck.map_or_else(String::new, |(_, it)| it.stream.name.clone());
        let refusals = offer::refusals(self.question).into_iter().filter(|refusal| refusal.stream == stream).collect();
        PlanError::NoWay { stream, refusals }
    }
}

impl Carried<'_> {
    /// What one unit costs on Lambda for an hour with this need: its share of the hour's requests.
    fn lambda_unit(&self, need: &HourNeed) -> f64 {
        self.lambda.map_or(f64::INFINITY, |each| each * need.requests / f64::from(need.vcpus.max(1)))
    }

    fn table(&self, hour: usize) -> Option<Table> {
        let need = self.region.as_ref()?[hour];
        let mut offers: Vec<Offer> = self.offers.clone();
        offers.iter_mut().for_each(|offer| offer.price *= need.active);
        if self.lambda.is_some() {
            offers.push(Offer {
                kind: Kind::Lambda,
                name: String::new(),
                bundle: 0,
                units: 1,
                price: self.lambda_unit(&need),
            });
        }
        Some(Table::new(&offers, need.vcpus as usize))
    }
}

/// Where a stream may be carried, with what it needs there in processors.
fn place<'a>(question: &'a Question, stream: &'a Stream) -> Result<Carried<'a>, PlanError> {
    let mut refusals = Vec::new();
    let mut slacks: BTreeMap<Kind, Slack> = BTreeMap::new();
    for kind in &question.kinds {
        match offer::judge(question, stream, *kind) {
            Ok(slack) => drop(slacks.insert(*kind, slack)),
            Err(why) => refusals.push(Refusal { stream: stream.name.clone(), kind: *kind, why }),
        }
    }
    if slacks.is_empty() {
        return Err(PlanError::NoWay { stream: stream.name.clone(), refusals });
    }
    let own = slacks.remove(&Kind::Own).filter(|_| !question.prices.own.is_empty() && question.own_machines > 0);
    if own.is_none() && slacks.is_empty() {
        return Err(PlanError::TooFewOwn { stream: stream.name.clone(), needed: 1, available: question.own_machines });
    }
    // Lambda has no queue of ours: what it leaves of the p99 counts only where it is alone.
    let queued = slacks.iter().find(|(kind, _)| **kind != Kind::Lambda).or_else(|| slacks.iter().next());
    let machine = queued.map_or(u32::MAX, |(_, slack)| cover::largest_machine(question, stream, *slack));
    let own_vcpus = question.prices.own.iter().map(|it| it.vcpus).min().unwrap_or(1);
    Ok(Carried {
        stream,
        edge: own.map(|slack| need::week(stream, slack, own_vcpus)),
        region: queued.map(|(_, slack)| need::week(stream, *slack, machine)),
        machine,
        offers: Vec::new(),
        lambda: slacks.contains_key(&Kind::Lambda).then(|| offer::lambda_request(question, stream)),
    })
}

/// Puts hours together in which everybody needs the same.
fn slots(carried: &[Carried<'_>]) -> Vec<Slot> {
    let mut found: BTreeMap<Vec<[u64; 3]>, Vec<usize>> = BTreeMap::new();
    for hour in 0..WEEK_HOURS {
        let needs = carried.iter().flat_map(|it| [&it.edge, &it.region]).flatten();
        let alike =
            needs.map(|needs| needs[hour]).map(|it| [u64::from(it.vcpus), it.active.to_bits(), it.requests.to_bits()]);
        found.entry(alike.collect()).or_default().push(hour);
    }
    let slot = |members: Vec<usize>| {
        #[expect(clippy::cast_precision_loss, reason = "at most 168")]
        let weight = members.len() as f64 * MONTH_HOURS / WEEK_HOURS as f64;
        Slot { hour: members[0], weight, members }
    };
    found.into_values().map(slot).collect()
}
