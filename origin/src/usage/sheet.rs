//! The sums as they are stored. Pure; the store is elsewhere.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::day::Day;
use crate::api::UsageRow;

/// Rows of a sheet, at most: what comes beyond them is added up under [`OTHER`].
pub(super) const MAX_ROWS: usize = 10_000;
/// The function of what has no row of its own.
const OTHER: &str = "(other)";
/// Ledgers whose last number is known. A PoP has one for as long as its folder lives.
const MAX_LEDGERS: usize = 64;

/// Adds numbers, each to the one of its name.
pub(super) fn sum(sums: &mut BTreeMap<String, u64>, more: &BTreeMap<String, u64>) {
    for (name, number) in more {
        let sum = sums.entry(name.clone()).or_default();
        *sum = sum.saturating_add(*number);
    }
}

/// What is in a sum already.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
struct Taken(BTreeMap<String, Last>);

/// The last batch of a ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Last {
    number: u64,
    /// How many batches had been taken by then, of all ledgers: of too many, the one not heard of for longest goes.
    turn: u64,
}

impl Taken {
    /// Takes a batch; false when it has been taken.
    fn take(&mut self, ledger: &str, number: u64) -> bool {
        if self.0.get(ledger).is_some_and(|last| last.number >= number) {
            return false;
        }
        let turn = self.0.values().map(|last| last.turn).max().unwrap_or(0) + 1;
        self.0.insert(ledger.to_owned(), Last { number, turn });
        if self.0.len() > MAX_LEDGERS
            && let Some(oldest) = self.0.iter().min_by_key(|(_, last)| last.turn).map(|(ledger, _)| ledger.clone())
        {
            self.0.remove(&oldest);
        }
        true
    }
}

/// What one PoP's functions used in a day.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sheet {
    taken: Taken,
    /// Ordered by function, version and cohort; their day is that of the sheet.
    pub(super) rows: Vec<UsageRow>,
}

impl Sheet {
    /// Adds the rows of a batch; false when it was added before.
    pub(super) fn add(&mut self, ledger: &str, number: u64, rows: &[UsageRow]) -> bool {
        if !self.taken.take(ledger, number) {
            return false;
        }
        for row in rows {
            let (at, row) = match self.rows.binary_search_by(|known| key(known).cmp(&key(row))) {
                Err(at) if self.rows.len() < MAX_ROWS => (Err(at), row.clone()),
                Ok(at) => (Ok(at), row.clone()),
                Err(_) => {
                    let [function, version, cohort] = [OTHER, "", ""].map(str::to_owned);
                    let other = UsageRow { day: String::new(), function, version, cohort, used: row.used.clone() };
                    (self.rows.binary_search_by(|known| key(known).cmp(&key(&other))), other)
                }
            };
            match at {
                Ok(at) => sum(&mut self.rows[at].used, &row.used),
                Err(at) => self.rows.insert(at, UsageRow { day: String::new(), ..row }),
            }
        }
        true
    }
}

fn key(row: &UsageRow) -> (&str, &str, &str) {
    (&row.function, &row.version, &row.cohort)
}

/// By function.
type ByFunction = BTreeMap<String, BTreeMap<String, u64>>;

fn add(sums: &mut ByFunction, row: &UsageRow) {
    let name = if sums.contains_key(&row.function) || sums.len() < MAX_ROWS { &row.function } else { OTHER };
    sum(sums.entry(name.to_owned()).or_default(), &row.used);
}

/// What one PoP's functions have used in a month so far, and in its newest day.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Month {
    taken: Taken,
    month: ByFunction,
    /// The newest day; empty for none.
    day: String,
    today: ByFunction,
}

impl Month {
    /// Adds the days of a batch that are in this month; false when it was added before.
    pub(super) fn add(&mut self, ledger: &str, number: u64, days: &BTreeMap<Day, Vec<UsageRow>>) -> bool {
        if !self.taken.take(ledger, number) {
            return false;
        }
        for (day, rows) in days {
            let day = day.to_string();
            // In four digits, the order of the text is that of the days.
            if day > self.day {
                (self.day, self.today) = (day.clone(), ByFunction::new());
            }
            for row in rows {
                add(&mut self.month, row);
                if day == self.day {
                    add(&mut self.today, row);
                }
            }
        }
        true
    }

    /// What a function has used in the month.
    pub(super) fn month_of(&self, function: &str) -> Option<&BTreeMap<String, u64>> {
        self.month.get(function)
    }

    /// What a function has used on a day, if that is the newest.
    pub(super) fn day_of(&self, function: &str, day: Day) -> Option<&BTreeMap<String, u64>> {
        self.today.get(function).filter(|_| self.day == day.to_string())
    }

    /// The month's sums as rows.
    pub(super) fn rows(self) -> Vec<UsageRow> {
        let row = |(function, used)| UsageRow { function, used, ..UsageRow::default() };
        self.month.into_iter().map(row).collect()
    }
}
