//! The sums that are to be delivered: one batch that is sealed under its number and sent until it is acknowledged, and
//! behind it the sums of what came since. While the origin is away, rows grow and their number does not.
//!
//! Pure; who writes it to disk is elsewhere. A batch may be sent once the ledger with it is on disk: then its number can
//! never come to mean anything else.

use std::collections::BTreeMap;

use capacity::usage::Usage;
use origin::api::{Receipt, Totals, UsageBatch, UsageRow};
use origin::usage::MAX_ROWS;
use serde::{Deserialize, Serialize};

/// Rows of a ledger, at most. What comes beyond them is added up under [`OTHER`], by day.
const MOST_ROWS: usize = 10_000;
const OTHER: &str = "(other)";

/// What rows are kept apart by.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// `YYYY-MM-DD`, by this PoP's clock.
    pub(crate) day: String,
    pub(crate) function: String,
    /// As the access log has it; empty for none.
    pub(crate) version: String,
    /// Empty for none.
    pub(crate) cohort: String,
}

/// What is not delivered yet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "Kept", into = "Kept")]
pub(crate) struct Ledger {
    /// Of this ledger alone, among all there ever are.
    id: String,
    /// The number of the batch that was sealed last.
    number: u64,
    open: BTreeMap<Place, Usage>,
    sealed: Vec<UsageRow>,
    /// What functions with a budget had used on all PoPs, and the day of that, when the origin was last heard.
    known: (String, BTreeMap<String, Totals>),
}

/// The same as a file.
#[derive(Serialize, Deserialize)]
struct Kept {
    id: String,
    number: u64,
    open: Vec<UsageRow>,
    sealed: Vec<UsageRow>,
    known: (String, BTreeMap<String, Totals>),
}

impl Ledger {
    pub(crate) fn new(id: String) -> Self {
        Self { id, number: 0, open: BTreeMap::new(), sealed: Vec::new(), known: Default::default() }
    }

    /// Adds what was used.
    pub(crate) fn add(&mut self, place: Place, usage: Usage) {
        let fits = self.open.len() < MOST_ROWS || self.open.contains_key(&place);
        let place = if fits { place } else { Place { function: OTHER.to_owned(), day: place.day, ..Place::default() } };
        *self.open.entry(place).or_default() += usage;
    }

    /// Seals a batch, if there is something to be sealed and the one before has arrived.
    pub(crate) fn seal(&mut self) -> bool {
        if !self.sealed.is_empty() || self.open.is_empty() {
            return false;
        }
        self.number += 1;
        while self.sealed.len() < MAX_ROWS
            && let Some((place, usage)) = self.open.pop_first()
        {
            self.sealed.push(row(place, &usage));
        }
        true
    }

    /// The batch that has not arrived yet, as far as known.
    pub(crate) fn sealed(&self) -> Option<UsageBatch> {
        let batch = || UsageBatch { ledger: self.id.clone(), number: self.number, rows: self.sealed.clone() };
        (!self.sealed.is_empty()).then(batch)
    }

    /// What the origin says has arrived there. A receipt of another batch is none for this one.
    pub(crate) fn acknowledge(&mut self, receipt: Receipt) {
        if receipt.acknowledged == Some(self.number) {
            self.sealed.clear();
        }
        self.known = (receipt.day, receipt.totals);
    }

    /// Has all of the sealed batch be of this day: those it was of, the origin does not take.
    pub(crate) fn date(&mut self, day: &str) {
        let mut rows: BTreeMap<Place, Usage> = BTreeMap::new();
        for row in self.sealed.drain(..) {
            let (place, usage) = unrow(row);
            *rows.entry(Place { day: day.to_owned(), ..place }).or_default() += usage;
        }
        self.sealed = rows.into_iter().map(|(place, usage)| row(place, &usage)).collect();
    }

    /// Rows that are not delivered.
    pub(crate) fn len(&self) -> usize {
        self.open.len() + self.sealed.len()
    }

    /// What a function has used here, and the origin has not told of, in the days that begin with `period`.
    pub(crate) fn pending(&self, function: &str, period: &str) -> Usage {
        let mut sum = Usage::default();
        let within = |day: &str, name: &str| name == function && day.starts_with(period);
        for (_, usage) in self.open.iter().filter(|(place, _)| within(&place.day, &place.function)) {
            sum += *usage;
        }
        for row in self.sealed.iter().filter(|row| within(&row.day, &row.function)) {
            sum += Usage::of_numbers(&row.used);
        }
        sum
    }

    /// What functions had used when the origin was last heard, and on which day that was.
    pub(crate) fn known(&self) -> (&str, &BTreeMap<String, Totals>) {
        (&self.known.0, &self.known.1)
    }
}

fn row(Place { day, function, version, cohort }: Place, usage: &Usage) -> UsageRow {
    UsageRow { day, function, version, cohort, used: usage.numbers() }
}

fn unrow(row: UsageRow) -> (Place, Usage) {
    let UsageRow { day, function, version, cohort, used } = row;
    (Place { day, function, version, cohort }, Usage::of_numbers(&used))
}

impl From<Kept> for Ledger {
    fn from(Kept { id, number, open, sealed, known }: Kept) -> Self {
        Self { id, number, open: open.into_iter().map(unrow).collect(), sealed, known }
    }
}

impl From<Ledger> for Kept {
    fn from(Ledger { id, number, open, sealed, known }: Ledger) -> Self {
        Self { id, number, open: open.into_iter().map(|(place, usage)| row(place, &usage)).collect(), sealed, known }
    }
}

#[cfg(test)]
mod tests;
