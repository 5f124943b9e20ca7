//! What functions use on this PoP: summed where it is counted, kept on disk, delivered to the origin.
//!
//! Each worker adds the usage of a request to sums of its own when the line of the access log is written. A thread of the
//! meter's takes the sums every so often ([`Config::meter_every`](crate::Config::meter_every), 10 s) and writes them to the
//! [`Ledger`], one file; only what is on disk is delivered. So a process that is killed loses at most what it counted in
//! that time, and what it has not lost arrives once.

mod ledger;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use capacity::price::{Date, PriceBook};
use capacity::usage::Usage;
use futures::future::{Fuse, FusedFuture as _, FutureExt as _};
use origin::api::{Alert, Delivery, Receipt};
use origin::client::{Control, ControlError};
use tokio::sync::oneshot;
use tokio::time::MissedTickBehavior;

use crate::budgets::Budgets;
use crate::function::{Cohort, Function};
use crate::shelf::{keep, recall};
use crate::state::{State, unix_seconds};
pub(crate) use ledger::Ledger;
use ledger::Place;

/// The file with the ledger.
const FILE: &str = "usage.json";
/// The longest wait for the origin's receipt.
const PATIENCE: Duration = Duration::from_secs(20);
/// The same when this PoP ends: what is not delivered then is on disk.
const LAST: Duration = Duration::from_secs(1);

/// What workers have counted and nobody has taken yet.
pub(crate) struct Meter {
    workers: Box<[Share]>,
    /// Rows of the ledger.
    pub(crate) undelivered: AtomicUsize,
}

/// What one worker has counted. Its lock is wanted by nobody else, but for a moment every few seconds.
#[derive(Default)]
#[repr(align(128))]
struct Share(Mutex<HashMap<(usize, Cohort), Counted>>);

/// By the address of the function, which is held, and so nobody else's; 0 for none.
struct Counted {
    function: Option<Arc<Function>>,
    usage: Usage,
}

impl Meter {
    pub(crate) fn new(workers: usize) -> Self {
        Self { workers: (0..workers).map(|_| Share::default()).collect(), undelivered: AtomicUsize::new(0) }
    }

    /// Counts what a request of a worker has used.
    pub(crate) fn add(&self, worker: usize, function: Option<&Arc<Function>>, cohort: Cohort, usage: Usage) {
        let key = (function.map_or(0, |function| Arc::as_ptr(function) as usize), cohort);
        let mut sums = self.workers[worker].0.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Counted { function: function.map(Arc::clone), usage: Usage::default() };
        sums.entry(key).or_insert_with(new).usage += usage;
    }

    /// Takes what was counted since the last time.
    fn take(&self) -> impl Iterator<Item = (Cohort, Counted)> {
        self.workers.iter().flat_map(|share| {
            let taken = std::mem::take(&mut *share.0.lock().unwrap_or_else(PoisonError::into_inner));
            taken.into_iter().map(|((_, cohort), counted)| (cohort, counted))
        })
    }
}

/// Keeps and delivers what is counted, and holds it against budgets, until `ending` resolves; then once more.
pub(crate) async fn follow(
    state: Arc<State>,
    control: Control,
    every: Duration,
    prices: PriceBook,
    data: PathBuf,
    mut ending: oneshot::Receiver<()>,
) {
    let mut keeper = Keeper::open(state, prices, &data);
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut delivering = pin!(Fuse::terminated());
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                let kept = keeper.keep();
                if kept && delivering.is_terminated()
                    && let Some(delivery) = keeper.delivery()
                {
                    delivering.set(deliver(control.clone(), delivery, PATIENCE).fuse());
                }
            }
            delivered = &mut delivering => keeper.delivered(delivered),
            _ = &mut ending => break,
        }
    }
    delivering.set(Fuse::terminated());
    if keeper.keep()
        && let Some(delivery) = keeper.delivery()
    {
        let delivered = deliver(control, delivery, LAST).await;
        keeper.delivered(delivered);
        keeper.keep();
    }
}

/// What goes to the origin at a time.
struct Outgoing {
    delivery: Delivery,
    alerts: Vec<Alert>,
}

/// What came of it.
struct Delivered {
    receipt: Result<Receipt, ControlError>,
    /// Those that were noted, and whether nobody had noted them before.
    alerts: Vec<(Alert, bool)>,
}

async fn deliver(control: Control, Outgoing { delivery, alerts }: Outgoing, patience: Duration) -> Delivered {
    let receipt = control.deliver(&delivery, patience).await;
    let mut noted = Vec::new();
    for alert in alerts {
        match tokio::time::timeout(patience, control.alert(&alert)).await {
            Ok(Ok(first)) => noted.push((alert, first)),
            // Tried again with the next delivery.
            _ => break,
        }
    }
    Delivered { receipt, alerts: noted }
}

/// The one who writes the ledger.
struct Keeper<'a> {
    state: Arc<State>,
    folder: &'a Path,
    ledger: Ledger,
    budgets: Budgets,
    /// The ledger is not on disk as it is here.
    changed: bool,
    /// Told once for each outage.
    failing: bool,
    /// The origin does not take the batch for its days.
    wrong_day: bool,
}

impl<'a> Keeper<'a> {
    fn open(state: Arc<State>, prices: PriceBook, folder: &'a Path) -> Self {
        let known = folder.join(FILE).exists().then(|| recall(folder, FILE)).flatten();
        let ledger = known.unwrap_or_else(|| Ledger::new(format!("{:032x}", rand::random::<u128>())));
        let budgets = Budgets::new(prices);
        Self { state, folder, ledger, budgets, changed: false, failing: false, wrong_day: false }
    }

    /// Takes what was counted, and writes it down; whether all of it is on disk.
    fn keep(&mut self) -> bool {
        let now = unix_seconds();
        let day = Date::from_unix_seconds(now).to_string();
        for (cohort, Counted { function, usage }) in self.state.meter.take() {
            let place = match &function {
                None => Place { day: day.clone(), function: NONE.to_owned(), ..Place::default() },
                Some(function) => Place {
                    day: day.clone(),
                    function: function.name.to_string(),
                    version: function.version.short(),
                    cohort: function.cohort_label(cohort).unwrap_or_default().to_owned(),
                },
            };
            self.ledger.add(place, usage);
            self.changed = true;
        }
        self.changed |= self.ledger.seal();
        self.state.meter.undelivered.store(self.ledger.len(), Ordering::Relaxed);
        if self.changed {
            match keep(self.folder, FILE, &self.ledger) {
                Ok(()) => self.changed = false,
                Err(error) => self.complain(&format_args!("usage is not kept on disk, and not delivered: {error}")),
            }
        }
        self.budgets.weigh(&self.state, &self.ledger, now);
        !self.changed
    }

    /// What the origin is to be told or asked, if anything.
    fn delivery(&self) -> Option<Outgoing> {
        let batch = if self.wrong_day { None } else { self.ledger.sealed() };
        let (watch, alerts) = (self.budgets.watched(&self.state), self.budgets.alerts(&self.state.name));
        if batch.is_none() && watch.is_empty() && !self.wrong_day {
            return None;
        }
        Some(Outgoing { delivery: Delivery { pop: self.state.name.clone(), batch, watch }, alerts })
    }

    fn delivered(&mut self, delivered: Delivered) {
        for (alert, first) in &delivered.alerts {
            self.budgets.noted(&self.state, alert, *first);
        }
        match delivered.receipt {
            Ok(receipt) => {
                self.failing = false;
                if std::mem::take(&mut self.wrong_day) {
                    self.ledger.date(&receipt.day);
                }
                self.ledger.acknowledge(receipt);
                self.changed = true;
                self.budgets.weigh(&self.state, &self.ledger, unix_seconds());
            }
            Err(error) => {
                self.wrong_day = error.code() == Some(origin::usage::DAY);
                self.complain(&format_args!("usage is not delivered; it is kept: {error}"));
            }
        }
    }

    fn complain(&mut self, why: &std::fmt::Arguments<'_>) {
        if !std::mem::replace(&mut self.failing, true) {
            tracing::warn!(pop = %self.state.name, "{why}");
        }
    }
}

/// The function of requests that no function answers, as the access log has it.
const NONE: &str = "-";
