//! One OS thread's isolates: a pool of blank ones, and one resident for each function version in use.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::OnceCell;

use crate::blank::Blank;
use crate::fault::Fault;
use crate::invocation::{Body, Capabilities};
use crate::limits::{Limit, Limits};
use crate::platform::Platform;
use crate::program::Program;
use crate::resident::{Failure, Resident, ResponseBody};
use crate::watchdog::{Slot, Watchdog};

/// How a worker keeps isolates.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Blank isolates held ready, so that a start need not make one. Each takes about 2 MiB.
    pub ready: usize,
    /// Residents at most; the one idle longest goes first. Bounded by memory and by the kernel's count of mappings.
    pub residents: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { ready: 2, residents: 500 }
    }
}

/// Where the time of one invocation went.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timing {
    /// Starting an isolate, when this request had to.
    pub start: Option<Duration>,
    /// Whether that start had to make an isolate first, because the pool was empty.
    pub from_empty_pool: bool,
    /// From dispatch to the response's head.
    pub function: Duration,
}

/// What came of an invocation.
pub struct Invoked {
    /// The response, or why there is none.
    pub result: Result<http::Response<ResponseBody>, Failure>,
    /// Where the time went.
    pub timing: Timing,
}

/// The isolates of one thread. Lives inside a current-thread tokio runtime; cheap to clone.
#[derive(Clone)]
pub struct Worker(Rc<Inner>);

struct Inner {
    config: Config,
    slot: Arc<Slot>,
    ready: RefCell<Vec<Blank>>,
    filling: Cell<bool>,
    residents: RefCell<HashMap<String, Entry>>,
}

/// The cell makes requests that arrive during a start wait for that start instead of beginning another.
type Entry = Rc<OnceCell<Rc<Resident>>>;

impl Worker {
    /// A worker on the calling thread, with its pool filled. Isolates live inside the current tokio runtime.
    pub fn new(_platform: Platform, watchdog: &Watchdog, config: Config) -> Self {
        let inner = Inner {
            config,
            slot: watchdog.register(),
            ready: RefCell::new(Vec::new()),
            filling: Cell::new(false),
            residents: RefCell::new(HashMap::new()),
        };
        for _ in 0..config.ready {
            inner.ready.borrow_mut().push(Blank::new(Limits::default().get(Limit::Heap)));
        }
        Self(Rc::new(inner))
    }

    /// Answers `request` with `program`: in its isolate on this thread if there is one, else in one started for it.
    pub async fn invoke(
        &self,
        program: &Arc<Program>,
        request: http::Request<Body>,
        capabilities: Rc<dyn Capabilities>,
    ) -> Invoked {
        let mut timing = Timing::default();
        let resident = match self.lease(program, &mut timing).await {
            Ok(resident) => resident,
            Err(fault) => {
                let failure = Failure { head: Some(request.into_parts().0), ..fault.into() };
                return Invoked { result: Err(failure), timing };
            }
        };
        for line in resident.start_log() {
            capabilities.log(2, &line);
        }
        let began = Instant::now();
        resident.last_used.set(began);
        let result = resident.invoke(request, capabilities).await;
        timing.function = began.elapsed();
        if resident.is_condemned() {
            self.forget(&resident);
        }
        Invoked { result, timing }
    }

    /// Starts `program` before anybody asks for it.
    ///
    /// # Errors
    /// [`Fault::Boot`] or the limit that the start broke.
    pub async fn warm(&self, program: &Arc<Program>) -> Result<(), Fault> {
        self.lease(program, &mut Timing::default()).await.map(drop)
    }

    /// Gives up the isolates of every version that is not wanted any more, once they are idle. Those in use go on.
    pub fn retain(&self, wanted: impl Fn(&str) -> bool) {
        // Dropping an isolate runs no JavaScript, but it may take a millisecond: outside the borrow.
        let gone: Vec<_> = self.0.residents.borrow_mut().extract_if(|version, _| !wanted(version)).collect();
        drop(gone);
    }

    /// Requests that are under way or whose `waitUntil` promises are.
    pub fn in_flight(&self) -> usize {
        self.0.residents.borrow().values().filter_map(|entry| entry.get()).map(|resident| resident.in_flight()).sum()
    }

    /// Isolates that hold a function, and those that wait for one.
    pub fn counts(&self) -> (usize, usize) {
        (self.0.residents.borrow().len(), self.0.ready.borrow().len())
    }

    async fn lease(&self, program: &Arc<Program>, timing: &mut Timing) -> Result<Rc<Resident>, Fault> {
        let known = self.0.residents.borrow().get(&program.version).map(Rc::clone);
        let known = known.filter(|entry| !entry.get().is_some_and(|resident| resident.is_condemned()));
        let entry = known.unwrap_or_else(|| {
            let entry = Entry::default();
            // What was condemned there goes once those that still use it have ended.
            let condemned = self.0.residents.borrow_mut().insert(program.version.clone(), Rc::clone(&entry));
            drop(condemned);
            entry
        });
        if let Some(resident) = entry.get() {
            return Ok(Rc::clone(resident));
        }
        self.make_room();
        let began = Instant::now();
        let started = entry.get_or_try_init(|| async {
            let (blank, pooled) = self.claim(program);
            timing.from_empty_pool = !pooled;
            Resident::boot(blank, Arc::clone(program), Arc::clone(&self.0.slot)).await
        });
        let resident = started.await.cloned();
        timing.start = Some(began.elapsed());
        self.refill();
        if resident.is_err() {
            let mut residents = self.0.residents.borrow_mut();
            if residents.get(&program.version).is_some_and(|held| Rc::ptr_eq(held, &entry)) {
                residents.remove(&program.version);
            }
        }
        resident
    }

    /// A blank isolate, from the pool unless the function wants another heap than the pool's.
    fn claim(&self, program: &Program) -> (Blank, bool) {
        let heap = program.limits.get(Limit::Heap);
        if heap == Limits::default().get(Limit::Heap)
            && let Some(blank) = self.0.ready.borrow_mut().pop()
        {
            return (blank, true);
        }
        (Blank::new(heap), false)
    }

    /// Makes blank isolates off the request path, one at a time so that requests get their turn in between.
    fn refill(&self) {
        if self.0.filling.replace(true) {
            return;
        }
        let worker = self.clone();
        deno_core::unsync::spawn(async move {
            while worker.0.ready.borrow().len() < worker.0.config.ready {
                tokio::time::sleep(Duration::from_millis(2)).await;
                let blank = Blank::new(Limits::default().get(Limit::Heap));
                worker.0.ready.borrow_mut().push(blank);
            }
            worker.0.filling.set(false);
        });
    }

    fn make_room(&self) {
        let mut residents = self.0.residents.borrow_mut();
        while residents.len() > self.0.config.residents {
            let idle = residents.iter().filter_map(|(version, entry)| Some((version, entry.get()?)));
            let idle = idle.filter(|(_, resident)| resident.in_flight() == 0);
            let Some(oldest) = idle.min_by_key(|(_, r)| r.last_used.get()).map(|(version, _)| version.clone()) else {
                return;
            };
            residents.remove(&oldest);
        }
    }

    fn forget(&self, resident: &Rc<Resident>) {
        let version = &resident.program.version;
        let mut residents = self.0.residents.borrow_mut();
        if residents.get(version).and_then(|entry| entry.get()).is_some_and(|held| Rc::ptr_eq(held, resident)) {
            residents.remove(version);
        }
    }
}

/// Starts `program` once, in an isolate of its own on the calling thread, as a deploy does before it uploads.
///
/// # Errors
/// [`Fault::Boot`] or the limit that the start broke.
pub fn check(platform: Platform, program: Program) -> Result<(), Fault> {
    let boot_failed = |error: std::io::Error| Fault::Boot(format!("no isolate could be made to try it: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(boot_failed)?;
    let watchdog = Watchdog::start().map_err(boot_failed)?;
    runtime.block_on(async {
        let worker = Worker::new(platform, &watchdog, Config { ready: 0, ..Config::default() });
        let warmed = worker.warm(&Arc::new(program)).await;
        worker.retain(|_| false);
        warmed
    })
}
