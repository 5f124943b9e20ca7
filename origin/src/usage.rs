//! What functions have used: PoPs deliver it in numbered batches, which are added up once each, by day and by month.
//!
//! Numbers are summed by their name; what they mean is the business of who sends and who reads them. Two kinds of object,
//! one of each for every PoP: a day's sums by function, version and cohort (`usage/days/2026-11-27/fra`), and the running
//! sums of a month and its newest day by function (`usage/months/2026-11/fra`), which budgets are held against.
//!
//! **Exactly once:** each object has the number of the last batch of each ledger that is in it, and both change in one
//! conditional put. A batch that comes again is found in every object that has it, and added to those that have not.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::api::{Alert, Receipt, Sums, Totals, UsageBatch, UsageReport, UsageRow};
use crate::key::Key;
use crate::store::{Attributes, ObjectStore, PutMode, StoreError};
use day::Day;

mod day;
mod sheet;

use sheet::{Month, Sheet};

/// Rows of a batch, at most.
pub const MAX_ROWS: usize = 4000;
/// Names of numbers in a row, at most.
const MAX_NUMBERS: usize = 32;
/// Longest name of a function, version, cohort or number, in bytes.
const MAX_NAME_BYTES: usize = 300;
/// Days for which a day's sums are kept. When a day's first object of a PoP is written, the one so long before it goes.
const KEPT_DAYS: u64 = 400;
/// How far the clock of a PoP may be ahead of the origin's.
const AHEAD_MS: u64 = 600_000;
/// Largest object, in bytes: [`sheet::MAX_ROWS`] rows of long names.
const MAX_OBJECT: usize = 12 << 20;
/// Alerts of a month, at most.
const MAX_ALERTS: usize = 10_000;
/// How often a change is tried again after somebody else's came first.
const MAX_ATTEMPTS: u32 = 64;
/// For how long what another origin may have added to a PoP's month is not looked for.
const FRESH: Duration = Duration::from_secs(30);
/// PoPs of a month, at most.
const MAX_POPS: usize = 1000;

/// Code of the answer to a batch with the day of a wrong clock.
pub const DAY: &str = "usage/day";

/// Why usage was not taken, or cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum UsageError {
    /// The batch or the period is none.
    #[error("{0}")]
    Wrong(String),
    /// A day that is not yet, or was so long ago that its sums are gone: a clock is wrong. Nothing was added.
    #[error("the batch has usage of {told}, and today is {today}: one of the two clocks is wrong")]
    Day {
        /// As the batch has it.
        told: String,
        /// By the origin's clock.
        today: String,
    },
    /// Others changed the sums again and again.
    #[error("the sums of {0} keep changing; try again")]
    Contended(Key),
    /// What is stored cannot be read.
    #[error(
        "the stored object {key} is no sum of usage ({why}); restore it from a backup, or delete it: its sums are lost then"
    )]
    Unreadable {
        /// The object.
        key: Key,
        /// What does not fit.
        why: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The sums of a store.
#[derive(Debug)]
pub struct Usages {
    store: Arc<dyn ObjectStore>,
    months: Mutex<Months>,
}

/// The months of all PoPs as last seen.
#[derive(Debug, Default)]
struct Months {
    seen: BTreeMap<Key, Seen>,
    /// When it was last looked which there are, and in which folder.
    listed: Option<(Key, Instant)>,
}

#[derive(Debug)]
struct Seen {
    month: Month,
    at: Instant,
}

impl Usages {
    /// Those of this store.
    pub fn new(store: Arc<dyn ObjectStore>) -> Self {
        Self { store, months: Mutex::default() }
    }

    /// Adds a batch, once; and tells what the functions `watch` have used on all PoPs.
    ///
    /// # Errors
    /// [`UsageError`]: some of it may have been added. Delivering the same again completes it.
    pub async fn deliver(
        &self,
        pop: &str,
        batch: Option<UsageBatch>,
        watch: &[String],
        now_ms: u64,
    ) -> Result<Receipt, UsageError> {
        let today = Day::of_ms(now_ms);
        let acknowledged = match batch {
            Some(batch) => Some(self.add(pop, batch, today, Day::of_ms(now_ms + AHEAD_MS)).await?),
            None => None,
        };
        let totals = if watch.is_empty() { BTreeMap::new() } else { self.totals(pop, watch, today).await? };
        Ok(Receipt { acknowledged, day: today.to_string(), totals })
    }

    async fn add(&self, pop: &str, batch: UsageBatch, today: Day, latest: Day) -> Result<u64, UsageError> {
        let UsageBatch { ledger, number, rows } = batch;
        check(&ledger, &rows)?;
        let mut days: BTreeMap<Day, Vec<UsageRow>> = BTreeMap::new();
        for row in rows {
            let told: Day = row.day.parse().map_err(UsageError::Wrong)?;
            if told > latest || told <= today.before(KEPT_DAYS) {
                return Err(UsageError::Day { told: told.to_string(), today: today.to_string() });
            }
            days.entry(told).or_default().push(row);
        }
        for (day, rows) in &days {
            let (_, is_new) =
                self.change(&day_key(*day, pop), |sheet: &mut Sheet| sheet.add(&ledger, number, rows)).await?;
            if is_new {
                // One for one: what is stored stays as it is in number.
                self.store.delete(&day_key(day.before(KEPT_DAYS), pop)).await?;
            }
        }
        // By month: a batch around midnight may have two, and each of them in one put.
        while let Some((first, _)) = days.first_key_value() {
            let month = first.month();
            let rest = days.split_off(&first.next_month());
            let key = month_key(&month, pop);
            let (seen, _) = self.change(&key, |sums: &mut Month| sums.add(&ledger, number, &days)).await?;
            self.months.lock().await.seen.insert(key, Seen { month: seen, at: Instant::now() });
            days = rest;
        }
        Ok(number)
    }

    /// What each function has used this month and today.
    async fn totals(&self, pop: &str, watch: &[String], today: Day) -> Result<BTreeMap<String, Totals>, UsageError> {
        let (folder, own) = (month_folder(&today.month()), month_key(&today.month(), pop));
        let mut months = self.months.lock().await;
        // This origin's own changes are there at once.
        if !months.listed.as_ref().is_some_and(|(listed, at)| *listed == folder && at.elapsed() < FRESH) {
            months.seen.retain(|key, _| key.is_below(&folder));
            for key in self.keys(&folder).await? {
                if months.seen.get(&key).is_some_and(|seen| seen.at.elapsed() < FRESH) {
                    continue;
                }
                if let Some((month, _)) = self.read(&key).await? {
                    months.seen.insert(key, Seen { month, at: Instant::now() });
                }
            }
            months.listed = Some((folder.clone(), Instant::now()));
        }
        let sums = |function: &String, of: &dyn Fn(&Month) -> Option<BTreeMap<String, u64>>| {
            let mut sums = Sums::default();
            for (key, seen) in months.seen.iter().filter(|(key, _)| key.is_below(&folder)) {
                let Some(used) = of(&seen.month) else { continue };
                sums.pops += 1;
                sheet::sum(&mut sums.all, &used);
                if *key == own {
                    sums.own = used;
                }
            }
            (function.clone(), sums)
        };
        let totals = watch.iter().map(|function| {
            let (name, month) = sums(function, &|month| month.month_of(function).cloned());
            let (_, day) = sums(function, &|month| month.day_of(function, today).cloned());
            (name, Totals { day, month })
        });
        Ok(totals.collect())
    }

    /// What was used in a day (`YYYY-MM-DD`), by PoP, function, version and cohort; or in a month (`YYYY-MM`), by PoP and
    /// function.
    ///
    /// # Errors
    /// [`UsageError`].
    pub async fn report(&self, period: &str) -> Result<UsageReport, UsageError> {
        let mut report = UsageReport { period: period.to_owned(), ..UsageReport::default() };
        let (folder, day) = match period.parse::<Day>() {
            Ok(day) => (day_folder(day), Some(day)),
            Err(_) if format!("{period}-01").parse::<Day>().is_ok() => (month_folder(period), None),
            Err(_) => return Err(UsageError::Wrong(format!("{period:?} is neither YYYY-MM-DD nor YYYY-MM"))),
        };
        for key in self.keys(&folder).await? {
            let rows = match day {
                Some(_) => self.read::<Sheet>(&key).await?.map(|(sheet, _)| sheet.rows),
                None => self.read::<Month>(&key).await?.map(|(month, _)| month.rows()),
            };
            report.pops.insert(key.name().to_owned(), rows.unwrap_or_default());
        }
        let month = period.get(..7).unwrap_or(period);
        let alerts = self.read::<Alerts>(&alerts_key(month)).await?.map(|(alerts, _)| alerts.0).unwrap_or_default();
        // Of a day, what its month came to belongs to it, too.
        let belongs = |alert: &Alert| day.is_none() || alert.period == period || alert.period == month;
        report.alerts = alerts.into_iter().filter(belongs).collect();
        Ok(report)
    }

    /// Notes that a budget has come to a threshold. Whether it is the first note of it: then people are to be told.
    ///
    /// # Errors
    /// [`UsageError`].
    pub async fn alert(&self, alert: Alert) -> Result<bool, UsageError> {
        let names = [&alert.function, &alert.pop, &alert.currency];
        if names.iter().any(|name| name.len() > MAX_NAME_BYTES) {
            return Err(UsageError::Wrong("a name in the alert is too long".to_owned()));
        }
        let month = alert.period.get(..7).unwrap_or_default();
        if format!("{month}-01").parse::<Day>().is_err() || !matches!(alert.period.len(), 7 | 10) {
            return Err(UsageError::Wrong(format!("{:?} is neither a day nor a month", alert.period)));
        }
        let mut first = false;
        let key = alerts_key(month);
        self.change(&key, |alerts: &mut Alerts| {
            first = alerts.0.len() < MAX_ALERTS && !alerts.0.iter().any(|known| known.is_same(&alert));
            if first {
                alerts.0.push(alert.clone());
            }
            first
        })
        .await?;
        Ok(first)
    }

    /// All keys below a folder.
    async fn keys(&self, folder: &Key) -> Result<Vec<Key>, UsageError> {
        let page = self.store.list(folder, None, MAX_POPS).await?;
        Ok(page.keys)
    }

    /// Changes an object with a conditional put, unless `change` says that nothing is to be done. The object as it is then,
    /// and whether it is new.
    async fn change<T: Serialize + DeserializeOwned + Default>(
        &self,
        key: &Key,
        mut change: impl FnMut(&mut T) -> bool,
    ) -> Result<(T, bool), UsageError> {
        for attempt in 0..MAX_ATTEMPTS {
            let (mut value, mode) = match self.read::<T>(key).await? {
                Some((value, etag)) => (value, PutMode::Update(etag)),
                None => (T::default(), PutMode::Create),
            };
            let is_new = mode == PutMode::Create;
            if !change(&mut value) {
                return Ok((value, false));
            }
            let bytes = serde_json::to_vec(&value).map_err(|error| unreadable(key, error))?;
            let json = Attributes { content_type: Some("application/json".to_owned()), cache_control: None };
            match self.store.put(key, bytes.into(), mode, json).await {
                Ok(_) => return Ok((value, is_new)),
                // A put that was applied may still be answered with a conflict: the next look finds the number in it.
                Err(error) if error.is_conflict() => {
                    let pause = u64::from(attempt.min(20)) * rand::random_range(1..8);
                    tokio::time::sleep(Duration::from_millis(pause)).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(UsageError::Contended(key.clone()))
    }

    async fn read<T: DeserializeOwned>(&self, key: &Key) -> Result<Option<(T, String)>, UsageError> {
        let object = match self.store.get(key, None).await {
            Ok(object) => object,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let bytes = object.body.collect(MAX_OBJECT).await.map_err(|error| unreadable(key, error))?;
        let value = serde_json::from_slice(&bytes).map_err(|error| unreadable(key, error))?;
        Ok(Some((value, object.meta.etag)))
    }
}

/// The alerts of a month, in the order in which they came.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Alerts(Vec<Alert>);

fn unreadable(key: &Key, why: impl ToString) -> UsageError {
    UsageError::Unreadable { key: key.clone(), why: why.to_string() }
}

/// What a batch must be. Everything in it is bounded, since it is stored.
fn check(ledger: &str, rows: &[UsageRow]) -> Result<(), UsageError> {
    let wrong = |why: &str| Err(UsageError::Wrong(why.to_owned()));
    if rows.len() > MAX_ROWS {
        return wrong("the batch has too many rows");
    }
    if !(1..=64).contains(&ledger.len()) || !ledger.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return wrong("the ledger's name is 1 to 64 letters and digits");
    }
    let fits = |text: &String| text.len() <= MAX_NAME_BYTES && !text.chars().any(char::is_control);
    let sound = |row: &UsageRow| {
        [&row.function, &row.version, &row.cohort].into_iter().chain(row.used.keys()).all(fits)
            && row.used.len() <= MAX_NUMBERS
    };
    if rows.iter().all(sound) {
        Ok(())
    } else {
        wrong("a row of the batch has too many numbers, or a name that is none")
    }
}

fn day_folder(day: Day) -> Key {
    fixed(&format!("usage/days/{day}"))
}

fn day_key(day: Day, pop: &str) -> Key {
    fixed(&format!("usage/days/{day}/{}", segment(pop)))
}

fn month_folder(month: &str) -> Key {
    fixed(&format!("usage/months/{month}"))
}

fn month_key(month: &str, pop: &str) -> Key {
    fixed(&format!("usage/months/{month}/{}", segment(pop)))
}

fn alerts_key(month: &str) -> Key {
    fixed(&format!("usage/alerts/{month}"))
}

/// A PoP may be called `.` or `..`, a segment may not.
fn segment(pop: &str) -> &str {
    if pop.bytes().all(|byte| byte == b'.') { "dots" } else { pop }
}

fn fixed(text: &str) -> Key {
    Key::parse(text).expect("days, months and names of PoPs are key segments")
}

#[cfg(test)]
mod tests;
