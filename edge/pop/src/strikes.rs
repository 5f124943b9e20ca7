//! Which versions of functions cost this PoP a worker, and which of them it runs no more.
//!
//! A version that did so three times within an hour is in quarantine until another version of its function is deployed.
//! A worker is back in milliseconds, but everybody whose request was on it has lost that request: a function that does it
//! again and again must not go on at the expense of the others. What is known is on disk, because such a function may
//! also take the process with it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::fault::Fault;
use crate::shelf;
use crate::state::{State, unix_seconds};

/// So many strikes, and a version is in quarantine.
pub(crate) const STRIKES: usize = 3;
/// They count for this long.
pub(crate) const WINDOW: Duration = Duration::from_secs(3600);
/// Versions remembered at most. Those that were struck longest ago go first.
const VERSIONS: usize = 256;
/// Its file in the data folder.
const FILE: &str = "strikes.json";

/// The strikes of all versions on this PoP.
#[derive(Debug)]
pub(crate) struct Strikes {
    folder: PathBuf,
    book: Mutex<Book>,
    /// Told when a version goes into quarantine.
    pub(crate) changed: Notify,
}

type Book = BTreeMap<String, Entry>;

/// What a version has done.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Entry {
    /// When, in seconds since 1970.
    struck: Vec<u64>,
    /// Why it is in quarantine, if it is.
    quarantine: Option<String>,
}

impl Strikes {
    /// What the last run left in the data folder. A damaged file is as good as none.
    pub(crate) fn open(folder: &Path) -> Self {
        let book: Option<Book> = shelf::recall(folder, FILE);
        Self { folder: folder.to_owned(), book: Mutex::new(book.unwrap_or_default()), changed: Notify::new() }
    }

    /// Notes that a version cost a worker at `now` (seconds since 1970), for `cause`. How often it did within the window,
    /// and whether it is in quarantine.
    pub(crate) fn strike(&self, version: &str, cause: &str, now: u64) -> (usize, bool) {
        let (count, held, book) = {
            let mut book = self.lock();
            let entry = book.entry(version.to_owned()).or_default();
            entry.struck.retain(|at| now.saturating_sub(*at) < WINDOW.as_secs());
            entry.struck.push(now);
            let count = entry.struck.len();
            if count >= STRIKES {
                entry.quarantine.get_or_insert_with(|| cause.to_owned());
                entry.struck.truncate(STRIKES);
            }
            let held = entry.quarantine.is_some();
            forget_oldest(&mut book);
            (count, held, book.clone())
        };
        if let Err(error) = shelf::keep(&self.folder, FILE, &book) {
            tracing::warn!(%error, "strikes not kept on disk: a restart forgets them");
        }
        if held {
            self.changed.notify_one();
        }
        (count, held)
    }

    /// Why a version is in quarantine; `None` when it is not.
    pub(crate) fn quarantine(&self, version: &str) -> Option<String> {
        self.lock().get(version)?.quarantine.clone()
    }

    /// How many versions are in quarantine.
    pub(crate) fn quarantined(&self) -> u64 {
        self.lock().values().filter(|entry| entry.quarantine.is_some()).count() as u64
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Notes that a live version has cost a worker or a cell (`what`), with these requests, for `cause`.
pub(crate) fn blame(state: &State, what: &str, version: &str, cause: &str, requests: &str) {
    let pop = &state.name;
    let function = state.routes.load().version(version);
    let label = function.as_ref().map_or(version, |function| &function.label);
    // The next time it costs its own cell at most.
    function.iter().for_each(|function| function.heavy.cost_a_worker(state.millis()));
    let (strikes, quarantined) = state.strikes.strike(version, cause, unix_seconds());
    tracing::error!(
        target: "function", %pop, function = %label, requests, strikes, code = Fault::WorkerLost.code(),
        "a {what} was lost to this function: {cause}"
    );
    if let Some(function) = function.as_ref().filter(|_| quarantined) {
        let fault = Fault::Quarantined(function.label.clone());
        if !function.quarantined.swap(true, Ordering::Relaxed) {
            tracing::error!(target: "function", %pop, function = %label, code = fault.code(), "{fault}");
        }
    }
}

fn forget_oldest(book: &mut Book) {
    while book.len() > VERSIONS {
        let oldest = book.iter().min_by_key(|(_, entry)| (entry.quarantine.is_some(), entry.struck.last().copied()));
        let Some(oldest) = oldest.map(|(version, _)| version.clone()) else { return };
        book.remove(&oldest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_strikes_within_an_hour_are_a_quarantine_and_a_restart_remembers_it() {
        let folder = tempfile::tempdir().unwrap();
        let strikes = Strikes::open(folder.path());
        assert_eq!(strikes.strike("a", "first", 1_000), (1, false));
        assert_eq!(strikes.strike("a", "second", 1_001), (2, false));
        // The first is out of the window by then.
        assert_eq!(strikes.strike("a", "third", 4_600), (2, false));
        assert_eq!(strikes.strike("b", "other", 4_600), (1, false));
        assert_eq!(strikes.quarantine("a"), None);
        let strikes = Strikes::open(folder.path());
        assert_eq!(strikes.strike("a", "fourth", 4_600), (3, true));
        assert_eq!(strikes.strike("a", "fifth", 1_000_000), (1, true), "it does not end by itself");
        let strikes = Strikes::open(folder.path());
        assert_eq!(strikes.quarantine("a").as_deref(), Some("fourth"));
        assert_eq!(strikes.quarantine("b"), None);
        assert_eq!(strikes.quarantined(), 1);
    }

    #[test]
    fn a_damaged_file_is_as_good_as_none() {
        let folder = tempfile::tempdir().unwrap();
        let strikes = Strikes::open(folder.path());
        for _ in 0..STRIKES {
            strikes.strike("a", "it", 1);
        }
        let path = folder.path().join(FILE);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("\"a\"", "\"b\"")).unwrap();
        assert_eq!(Strikes::open(folder.path()).quarantine("b"), None);
        std::fs::write(&path, text).unwrap();
        assert!(Strikes::open(folder.path()).quarantine("a").is_some());
    }

    #[test]
    fn what_is_remembered_is_bounded_and_a_quarantine_is_forgotten_last() {
        let folder = tempfile::tempdir().unwrap();
        let strikes = Strikes::open(folder.path());
        for _ in 0..STRIKES {
            strikes.strike("held", "it", 0);
        }
        for n in 0..=VERSIONS {
            strikes.strike(&n.to_string(), "it", n as u64);
        }
        assert_eq!(strikes.lock().len(), VERSIONS);
        assert!(strikes.quarantine("held").is_some());
        assert!(!strikes.lock().contains_key("0") && strikes.lock().contains_key("256"));
    }
}
