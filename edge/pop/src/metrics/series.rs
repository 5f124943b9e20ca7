//! What functions have done, and which of them have a label of their own.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::StatusCode;
use isolate::limits::Limit;
use origin::bundle::FunctionName;

use super::count::{Histogram, Tally, Time, Totals};
use crate::fault::Fault;

/// The outcome of a request that had no fault.
const OK: &str = "ok";
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// What a function has done, over all its versions.
#[derive(Debug)]
pub(crate) struct Series {
    /// The label.
    pub(crate) name: String,
    shares: Box<[Share]>,
}

/// What it has done on one worker, which alone writes here.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Share {
    /// Requests without a fault, by the class of their status.
    ok: [AtomicU64; CLASSES.len()],
    took: Histogram,
    cpu: Time,
    /// Requests with one, by its code and the class of their status.
    faults: Tally<(&'static str, &'static str)>,
    failures: Tally<&'static str>,
    broken: Tally<&'static str>,
}

impl Share {
    /// A request is over.
    pub(crate) fn request(&self, status: StatusCode, fault: Option<&Fault>, took: Duration) {
        let class = usize::from(status.as_u16() / 100).clamp(1, CLASSES.len()) - 1;
        match fault {
            None => _ = self.ok[class].fetch_add(1, Ordering::Relaxed),
            Some(fault) => {
                self.faults.add((fault.code(), CLASSES[class]), 1);
                if let Fault::RequestBody(_) = fault {
                    self.broke(Limit::RequestBody);
                }
            }
        }
        self.took.observe(took);
    }

    /// An invocation gave no response, whatever the client gets instead.
    pub(crate) fn failed(&self, fault: &isolate::Fault) {
        self.failures.add(fault.code(), 1);
        if let isolate::Fault::Limit { limit, .. } = fault {
            self.broke(*limit);
        }
    }

    /// A request broke a limit.
    pub(crate) fn broke(&self, limit: Limit) {
        self.broken.add(limit.row().code, 1);
    }

    /// A request used processor time.
    pub(crate) fn used(&self, cpu: Duration) {
        self.cpu.add(cpu);
    }
}

impl Series {
    fn new(name: &str, workers: usize) -> Self {
        Self { name: name.to_owned(), shares: (0..workers).map(|_| Share::default()).collect() }
    }

    /// The share of a worker, by its number.
    pub(crate) fn share(&self, worker: usize) -> &Share {
        &self.shares[worker]
    }

    /// By outcome and class of status.
    pub(super) fn requests(&self) -> impl Iterator<Item = ((&'static str, &'static str), u64)> {
        let ok = CLASSES.into_iter().enumerate().map(|(class, status)| {
            let count = self.shares.iter().map(|share| share.ok[class].load(Ordering::Relaxed)).sum();
            ((OK, status), count)
        });
        ok.filter(|(_, count)| *count > 0).chain(Tally::sum(self.shares.iter().map(|share| &share.faults)))
    }

    pub(super) fn took(&self) -> Totals {
        self.shares.iter().fold(Totals::default(), |mut all, share| {
            all += &share.took.totals();
            all
        })
    }

    pub(super) fn cpu(&self) -> Duration {
        self.shares.iter().map(|share| share.cpu.get()).sum()
    }

    pub(super) fn failures(&self) -> BTreeMap<&'static str, u64> {
        Tally::sum(self.shares.iter().map(|share| &share.failures))
    }

    pub(super) fn broken(&self) -> BTreeMap<&'static str, u64> {
        Tally::sum(self.shares.iter().map(|share| &share.broken))
    }
}

/// The series of all functions. The first `most` that are asked for have their own, for as long as they are deployed; a
/// counter that moved from one label to another would run backwards.
pub(crate) struct Functions {
    workers: usize,
    most: usize,
    named: Mutex<BTreeMap<FunctionName, Arc<Series>>>,
    /// Requests that no function answered.
    pub(crate) none: Arc<Series>,
    /// The functions beyond, and one that is called like this.
    other: Arc<Series>,
}

impl Functions {
    pub(super) fn new(workers: usize, most: usize) -> Self {
        let series = |name| Arc::new(Series::new(name, workers));
        Self { workers, most, named: Mutex::default(), none: series("-"), other: series("other") }
    }

    /// The series of a function.
    pub(crate) fn series(&self, name: &FunctionName) -> Arc<Series> {
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(series) = named.get(name) {
            return Arc::clone(series);
        }
        if named.len() >= self.most || name.as_str() == self.other.name {
            return Arc::clone(&self.other);
        }
        let series = Arc::new(Series::new(name.as_str(), self.workers));
        named.insert(name.clone(), Arc::clone(&series));
        series
    }

    /// Gives up the labels of functions that are deployed no more. Requests still under way count unseen.
    pub(crate) fn retain(&self, deployed: impl Fn(&FunctionName) -> bool) {
        self.named.lock().unwrap_or_else(PoisonError::into_inner).retain(|name, _| deployed(name));
    }

    /// Every series with its label.
    pub(super) fn all(&self) -> Vec<Arc<Series>> {
        let named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        named.values().chain([&self.none, &self.other]).map(Arc::clone).collect()
    }

    /// Functions that have a series of their own.
    pub(super) fn labels(&self) -> usize {
        self.named.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    pub(super) fn most(&self) -> usize {
        self.most
    }
}
