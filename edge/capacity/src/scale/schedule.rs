//! Scheduled scale-out: "before the flash sale", "in business hours".
//!
//! A schedule only ever adds a least number. It reads the wall clock, as seconds since 1970, at a given offset from UTC:
//! where clocks change twice a year, two entries say so.

mod civil;
mod cron;
mod written;

pub use civil::{LocalTime, Offset};
pub use cron::Cron;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Moment;
use crate::invalid::{Check, Invalids};

/// More entries are not accepted.
const MOST: usize = 100;

/// When at least so many should be there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "written::Entry", into = "written::Entry")]
pub struct Entry {
    /// What it is called in decisions: "black friday".
    pub name: String,
    /// When.
    pub when: When,
    /// The offset of its times from UTC: "+02:00".
    pub offset: Offset,
    /// So much earlier, for what takes a while to come.
    pub lead: Duration,
    /// So many at least.
    pub least: u32,
}

/// Once or again and again.
#[derive(Clone, Debug, PartialEq)]
pub enum When {
    /// Once.
    Between {
        /// "2026-11-27T08:00".
        from: LocalTime,
        /// "2026-11-27T20:00".
        until: LocalTime,
    },
    /// Again and again.
    Repeated {
        /// Minute, hour, day of the month, month, day of the week: "0 8 * * 1-5".
        cron: Cron,
        /// For so long; at most 31 days.
        lasts: Duration,
    },
}

impl Entry {
    /// Whether it holds at a time of the wall clock.
    pub fn holds(&self, now: Moment) -> bool {
        let at = self.offset.local(now).plus(self.lead);
        match &self.when {
            When::Between { from, until } => {
                // The lead begins it earlier, but does not end it earlier.
                at >= *from && self.offset.local(now) < *until
            }
            When::Repeated { cron, lasts } => cron.began_within(at, lasts.saturating_add(self.lead)),
        }
    }
}

/// The entry that asks for most now, if any does.
pub fn most(entries: &[Entry], now: Moment) -> Option<&Entry> {
    entries.iter().filter(|entry| entry.holds(now)).max_by_key(|entry| entry.least)
}

/// # Errors
/// Every key that cannot be used.
pub fn validate(entries: &[Entry]) -> Result<(), Invalids> {
    let mut check = Check::default();
    check_all(entries, &mut check);
    check.done()
}

pub(crate) fn check_all(entries: &[Entry], check: &mut Check) {
    check.that(
        entries.len() <= MOST,
        "schedule",
        format!("must hold at most {MOST} entries, but it holds {}", entries.len()),
    );
    for (i, entry) in entries.iter().enumerate() {
        check.under(&format!("schedule[{i}]"), |check| {
            let day = Duration::from_secs(86_400);
            check.span("lead", entry.lead, Duration::ZERO..=day);
            match &entry.when {
                When::Between { from, until } => check.that(from < until, "until", "must be after `from`"),
                When::Repeated { lasts, .. } => check.span("lasts", *lasts, Duration::from_secs(60)..=day * 31),
            }
        });
    }
}

#[cfg(test)]
mod tests;
