//! The cells of one worker: one for each tenant that has functions here, and one that waits for the next.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use http::Request;
use isolate::{Body, Counts, Start};

use super::loss::Pids;
use super::outside::{Maker, Outside};
use crate::capabilities;
use crate::fault::Fault;
use crate::function::{Function, Tenant};
use crate::metrics::PerWorker;
use crate::outcome::Invoked;
use crate::state::State;

/// A cell in which nothing has happened for so long ends. The next request starts another in a few milliseconds.
const IDLE: Duration = Duration::from_secs(60);
/// A cell that was used so lately does not end for a function that could do without one.
const RESPITE: Duration = Duration::from_secs(10);
/// When a spare cell was taken, the next is begun after what it was taken for.
const AFTER: Duration = Duration::from_millis(10);
/// Cells of one worker: memory is the bound before this is.
const MOST: usize = 128;
/// Memory of a cell beside its isolates, in bytes: 6 to 8 MiB were measured that it shares with no other process.
const OWN_BYTES: u64 = 8 << 20;

/// The cells of one worker.
pub(crate) struct Cells {
    state: Arc<State>,
    /// The number of the worker.
    worker: usize,
    maker: Option<Maker>,
    /// Bytes that they may take together.
    memory: u64,
    pids: Pids,
    /// By tenant.
    leased: RefCell<HashMap<Tenant, Rc<Outside>>>,
    spare: RefCell<Option<Rc<Outside>>>,
    /// Every function runs in a cell.
    always: bool,
    /// What cells that have ended had evicted.
    evicted: Cell<u64>,
}

impl Cells {
    /// None yet.
    pub(crate) fn new(state: &Arc<State>, worker: usize, maker: Option<Maker>, pids: Pids) -> Rc<Self> {
        let memory = maker.as_ref().map_or(0, |maker| maker.isolates.memory);
        let always = state.isolation == origin::bundle::Isolation::Process;
        let cells = Rc::new(Self {
            state: Arc::clone(state),
            worker,
            maker,
            memory,
            pids,
            leased: RefCell::default(),
            spare: RefCell::default(),
            always,
            evicted: Cell::new(0),
        });
        if always {
            cells.keep_spare();
        }
        cells
    }

    /// Requests that are under way, or whose `waitUntil` promises are.
    pub(crate) fn in_flight(&self) -> usize {
        self.leased.borrow().values().map(|cell| cell.flights.borrow().len()).sum()
    }

    /// What all have and have done.
    pub(crate) fn counts(&self) -> Counts {
        let (leased, spare) = (self.leased.borrow(), self.spare.borrow());
        let none = Counts { evicted: self.evicted.get(), ..Counts::default() };
        leased.values().chain(&*spare).map(|cell| cell.counts.get()).fold(none, |sum, counts| Counts {
            residents: sum.residents + counts.residents,
            ready: sum.ready + counts.ready,
            memory: sum.memory + counts.memory,
            evicted: sum.evicted + counts.evicted,
        })
    }

    /// Counts the cells that there are now.
    pub(crate) fn count(&self, counts: &PerWorker) {
        counts.cells_leased.store(self.leased.borrow().len() as u64, Ordering::Relaxed);
        counts
            .cells_ready
            .store(u64::from(self.spare.borrow().as_ref().is_some_and(|cell| cell.is_ready())), Ordering::Relaxed);
    }

    /// Housekeeping, about once a second: the cells that nobody needs end, and a spare one stands ready where `any`
    /// function may need it.
    pub(crate) fn tidy(&self, any: bool, is_live: impl Fn(&str) -> bool) {
        let ended: Vec<_> = self.leased.borrow_mut().extract_if(|_, cell| cell.has_ended()).collect();
        ended.iter().for_each(|(_, cell)| self.bury(cell));
        for cell in self.leased.borrow().values() {
            cell.tidy();
            if cell.is_idle() {
                cell.retire(&is_live);
            }
        }
        for cell in self.unneeded() {
            if cell.functions.borrow().is_empty() || self.is_full() || cell.last_used.get().elapsed() >= IDLE {
                self.end(&cell);
            }
        }
        if self.always || any || !self.leased.borrow().is_empty() {
            self.keep_spare();
        } else if let Some(spare) = self.spare.borrow_mut().take() {
            spare.dismiss(None);
        }
    }

    /// The cells that may end, those idle longest first: not those of functions that are kept ready.
    fn unneeded(&self) -> Vec<Rc<Outside>> {
        let is_kept = |cell: &Outside| cell.functions.borrow().values().any(|it| it.is_kept_by(self.worker));
        let leased = self.leased.borrow();
        let idle = leased.values().filter(|cell| cell.is_idle() && !is_kept(cell));
        let mut idle: Vec<_> = idle.map(Rc::clone).collect();
        idle.sort_by_key(|cell| cell.last_used.get());
        idle
    }

    /// Whether they take more than they may together.
    fn is_full(&self) -> bool {
        self.counts().memory + OWN_BYTES * self.leased.borrow().len() as u64 > self.memory
    }

    /// The cell of a function's tenant, ready.
    ///
    /// # Errors
    /// [`Fault::NoCell`] when there is none and none can be had.
    pub(crate) async fn lease(self: &Rc<Self>, function: &Function) -> Result<Lease, Fault> {
        self.lease_beside(function, Duration::ZERO).await
    }

    /// A cell of lower priority for a function that could do without; `None` when it has to.
    pub(crate) async fn lease_apart(self: &Rc<Self>, function: &Function) -> Option<Lease> {
        self.maker.as_ref()?;
        let lease = self.lease_beside(function, RESPITE).await.ok()?;
        lease.cell.step_back();
        Some(lease)
    }

    /// The cell of a function's tenant, for which only cells end that nobody has used for so long.
    async fn lease_beside(self: &Rc<Self>, function: &Function, unused: Duration) -> Result<Lease, Fault> {
        let began = Instant::now();
        let known = self.leased.borrow().get(&function.tenant).map(Rc::clone);
        let cell = match known.filter(|cell| !cell.has_ended()) {
            Some(cell) => cell,
            None => self.begin(&function.tenant, unused)?,
        };
        let mut lease = Lease::of(cell);
        if !lease.cell.is_ready() {
            lease.cell.ready().await.map_err(Fault::NoCell)?;
            lease.waited = began.elapsed();
        }
        Ok(lease)
    }

    /// A cell for a tenant that has none: the spare one, or a new one.
    fn begin(self: &Rc<Self>, tenant: &Tenant, unused: Duration) -> Result<Rc<Outside>, Fault> {
        self.make_room(unused)?;
        let spare = self.spare.borrow_mut().take().filter(|cell| !cell.has_ended());
        let cell = match spare {
            Some(cell) => cell,
            None => self.start()?,
        };
        let before = self.leased.borrow_mut().insert(tenant.clone(), Rc::clone(&cell));
        before.iter().for_each(|cell| self.bury(cell));
        let cells = Rc::clone(self);
        isolate::spawn_local(async move {
            tokio::time::sleep(AFTER).await;
            cells.keep_spare();
        });
        Ok(cell)
    }

    fn start(&self) -> Result<Rc<Outside>, Fault> {
        let none = "this PoP was started without the program that is a cell";
        let maker = self.maker.as_ref().ok_or_else(|| Fault::NoCell(none.to_owned()))?;
        Outside::start(&self.state, maker, &self.pids).map_err(|error| Fault::NoCell(format!("no process: {error}")))
    }

    /// Ends the cells that were idle longest if there are as many as may be.
    fn make_room(&self, unused: Duration) -> Result<(), Fault> {
        let mut unneeded = self.unneeded().into_iter().filter(|cell| cell.last_used.get().elapsed() >= unused);
        loop {
            let (are_all, is_full) = (self.leased.borrow().len() >= MOST, self.is_full());
            if !are_all && !is_full {
                return Ok(());
            }
            match unneeded.next() {
                Some(cell) => self.end(&cell),
                None if are_all => return Err(Fault::NoCell(format!("all {MOST} cells of a worker are in use"))),
                None if unused > Duration::ZERO => return Err(Fault::NoCell("they take all their memory".to_owned())),
                // What must run in a cell does, and others have to go afterwards.
                None => return Ok(()),
            }
        }
    }

    fn end(&self, cell: &Rc<Outside>) {
        cell.dismiss(None);
        let gone: Vec<_> = self.leased.borrow_mut().extract_if(|_, leased| Rc::ptr_eq(leased, cell)).collect();
        gone.iter().for_each(|(_, cell)| self.bury(cell));
    }

    /// What it has done stays counted.
    fn bury(&self, cell: &Outside) {
        self.evicted.set(self.evicted.get() + cell.counts.get().evicted);
    }

    fn keep_spare(&self) {
        let mut spare = self.spare.borrow_mut();
        if spare.as_ref().is_none_or(|cell| cell.has_ended()) {
            // One that cannot be had is missed by the next request, which says so.
            *spare = self.start().ok();
        }
    }
}

/// A cell that somebody is about to use, or uses: it is not ended for want of use.
pub(crate) struct Lease {
    cell: Rc<Outside>,
    /// For the cell.
    waited: Duration,
}

impl Lease {
    fn of(cell: Rc<Outside>) -> Self {
        cell.last_used.set(Instant::now());
        cell.holders.set(cell.holders.get() + 1);
        Self { cell, waited: Duration::ZERO }
    }

    /// Answers `request` in this cell.
    ///
    /// # Errors
    /// [`Fault`]: it was not let in. That the cell ended over it is an outcome.
    pub(crate) async fn invoke(
        &self,
        capabilities: Rc<capabilities::Request>,
        request: Request<Body>,
    ) -> Result<Invoked, Fault> {
        let mut invoked = self.cell.invoke(capabilities, request).await?;
        if let Some(start) = invoked.timing.as_mut().and_then(|timing| timing.start.as_mut()) {
            // What a start waits for its isolate, it waits here for its cell.
            *start = Start { isolate: start.isolate + self.waited, total: start.total + self.waited, ..*start };
        }
        Ok(invoked)
    }

    /// Starts a function before anybody asks for it.
    ///
    /// # Errors
    /// As [`Lease::invoke`], and why the function does not start.
    pub(crate) async fn warm(&self, function: &Arc<Function>) -> Result<(), Fault> {
        self.cell.warm(function).await
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.cell.holders.set(self.cell.holders.get() - 1);
    }
}
