//! The best numbers, with every machine named.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Model, Own, Slot, cover};
use crate::load::WEEK_HOURS;
use crate::plan::Kind;
use crate::price::{MONTH_HOURS, Money};

/// A part of a mix.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Part {
    /// How it is got.
    pub kind: Kind,
    /// What: a machine's name, or what a seller by use sells.
    pub name: String,
    /// Machines, or processors where there are no machines: on average over the month.
    pub count: f64,
    /// A month.
    pub monthly: Money,
    /// Share of all processor hours needed that it carries.
    pub share: f64,
}

/// Who carries an hour.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct HourMix {
    /// Processors needed.
    pub needed: f64,
    /// Processors, for each of [`Kind::ALL`].
    pub carried: [f64; Kind::ALL.len()],
}

/// A mix.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Mix {
    /// Its parts, those paid whether used or not first.
    pub parts: Vec<Part>,
    /// Bytes sent to clients, a month: from own machines, and from a region.
    pub egress: [Money; 2],
    /// Every hour of the week.
    pub hours: Vec<HourMix>,
}

impl Mix {
    /// What it costs a month: the sum of its parts, exact.
    #[must_use]
    pub fn total(&self) -> Money {
        self.parts.iter().map(|part| part.monthly).chain(self.egress).sum()
    }

    /// The kinds that carry at least a hundredth.
    #[must_use]
    pub fn kinds(&self) -> Vec<Kind> {
        Kind::ALL.into_iter().filter(|kind| self.share(*kind) >= 0.01).collect()
    }

    /// What one kind carries of all processor hours.
    #[must_use]
    pub fn share(&self, kind: Kind) -> f64 {
        self.parts.iter().filter(|part| part.kind == kind).map(|part| part.share).sum()
    }
}

impl Model<'_> {
    /// The mix of the best numbers, with every machine named.
    pub(super) fn mix(&self, own: &Own, capacity: usize) -> Mix {
        let mut sums = Sums { quantum: f64::from(self.quantum), ..Sums::default() };
        let mut hours = vec![HourMix::default(); WEEK_HOURS];
        let mut egress = [0.0; 2];
        if own.machines > 0 {
            let name = &self.question.prices.own[own.which].name;
            sums.add(Kind::Own, name, f64::from(own.machines), own.monthly, 0.0);
        }
        let reserved = self.reserved.picks(capacity);
        let total: u32 = reserved.iter().map(|pick| self.reserved_offers[*pick].units).sum();
        for pick in &reserved {
            let offer = &self.reserved_offers[*pick];
            sums.add(offer.kind, &offer.name, f64::from(offer.bundle), offer.price, 0.0);
        }
        for (slot, tables) in self.slots.iter().zip(&self.elastic) {
            let split = self.split(slot, own);
            self.egress(slot, &split).iter().zip(&mut egress).for_each(|(more, sum)| *sum += more);
            let mut hour = HourMix::default();
            let at_edge: u32 = split.iter().map(|(edge, _)| edge).sum();
            if at_edge > 0 {
                let name = &self.question.prices.own[own.which].name;
                sums.carry(&mut hour, slot.weight, Kind::Own, name, f64::from(at_edge));
            }
            let left: Vec<_> = (0..split.len()).filter(|index| split[*index].1 > 0).collect();
            let units = left.iter().map(|index| (split[*index].1 as usize, tables[*index].as_ref()));
            let given = cover::given(units, capacity);
            let carried: usize = given.iter().sum();
            for pick in &reserved {
                let offer = &self.reserved_offers[*pick];
                let part = f64::from(offer.units) / f64::from(total.max(1));
                #[expect(clippy::cast_precision_loss, reason = "at most some hundred")]
                sums.carry(&mut hour, slot.weight, offer.kind, &offer.name, carried as f64 * part);
            }
            for (index, given) in left.into_iter().zip(given) {
                let rest = split[index].1 as usize - given;
                self.buy(&mut sums, &mut hour, slot, index, rest);
            }
            hour.needed = hour.carried.iter().sum();
            slot.members.iter().for_each(|member| hours[*member] = hour.clone());
        }
        Mix { parts: sums.parts(), egress: egress.map(Money::from_f64), hours }
    }

    /// What a stream buys for a slot.
    fn buy(&self, sums: &mut Sums, hour: &mut HourMix, slot: &Slot, index: usize, units: usize) {
        let it = &self.carried[index];
        let Some(need) = it.region.as_ref().map(|needs| needs[slot.hour]) else { return };
        let Some(table) =
            self.slots.iter().position(|other| other.hour == slot.hour).and_then(|at| self.elastic[at][index].as_ref())
        else {
            return;
        };
        let mut open = units;
        for pick in table.picks(units) {
            let (name, kind, bundle, gives, price) = match it.offers.get(pick) {
                Some(offer) => (
                    offer.name.as_str(),
                    offer.kind,
                    f64::from(offer.bundle) * need.active,
                    offer.units,
                    offer.price * need.active,
                ),
                None => ("functions", Kind::Lambda, 0.0, 1, it.lambda_unit(&need)),
            };
            let used = open.min(gives as usize);
            open -= used;
            sums.add(kind, name, bundle * slot.weight / MONTH_HOURS, price * slot.weight, 0.0);
            #[expect(clippy::cast_precision_loss, reason = "at most some hundred")]
            sums.carry(hour, slot.weight, kind, name, used as f64);
        }
    }
}

/// Sums by kind and name.
#[derive(Default)]
struct Sums {
    by: BTreeMap<(Kind, String), (f64, f64, f64)>,
    carried: f64,
    quantum: f64,
}

impl Sums {
    fn add(&mut self, kind: Kind, name: &str, count: f64, monthly: f64, carried: f64) {
        let sum = self.by.entry((kind, name.to_owned())).or_default();
        *sum = (sum.0 + count, sum.1 + monthly, sum.2 + carried);
        self.carried += carried;
    }

    /// Notes that units are carried in a slot.
    fn carry(&mut self, hour: &mut HourMix, weight: f64, kind: Kind, name: &str, units: f64) {
        let vcpus = units * self.quantum;
        self.add(kind, name, 0.0, 0.0, vcpus * weight);
        hour.carried[kind as usize] += vcpus;
    }

    fn parts(self) -> Vec<Part> {
        let all = if self.carried > 0.0 { self.carried } else { 1.0 };
        let part = |((kind, name), (count, monthly, carried))| Part {
            kind,
            name,
            count: if kind == Kind::Lambda { carried / MONTH_HOURS } else { count },
            monthly: Money::from_f64(monthly),
            share: carried / all,
        };
        self.by.into_iter().map(part).collect()
    }
}
