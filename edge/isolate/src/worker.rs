//! One OS thread's isolates: a pool of blank ones, and one resident for each function version in use.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;

use crate::blank::Blank;
use crate::code_cache::CodeCache;
use crate::entered::give_back;
use crate::fault::Fault;
use crate::invocation::{Body, Capabilities};
use crate::limits::Limit;
use crate::maker::Maker;
use crate::platform::Platform;
use crate::pool::Pool;
use crate::program::{CacheUse, Program, Source};
use crate::resident::{Failure, Resident, ResponseBody};
use crate::slot::Slot;
use crate::watchdog::Watchdog;

/// How a worker keeps isolates.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Config {
    /// Blank isolates held ready at least, so that a start need not make one; more while starts come fast. 0: none ever.
    pub ready: usize,
    /// Bytes of memory for isolates that hold a function; the one idle longest goes first.
    pub memory: u64,
    /// Isolates that hold a function at most: the kernel bounds the mappings of a process, whatever its memory.
    pub residents: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { ready: 2, memory: 1 << 30, residents: most_residents(1) }
    }
}

/// How many isolates each of `workers` may hold, so that the process stays below the kernel's bound on its mappings.
pub fn most_residents(workers: usize) -> usize {
    const USUAL_MAPPINGS: usize = 65_530;
    let bound = std::fs::read_to_string("/proc/sys/vm/max_map_count").ok();
    let bound = bound.and_then(|text| text.trim().parse().ok()).unwrap_or(USUAL_MAPPINGS);
    // A quarter is left to everything else, and to heaps that have grown.
    (bound / 4 * 3 / MAPPINGS / workers.max(1)).max(1)
}

/// Mappings of one idle isolate, measured.
const MAPPINGS: usize = 12;
/// An isolate that has been idle for so long gives back what its heap does not need.
const TRIM_AFTER: Duration = Duration::from_secs(5);
/// What is left when room is made, in parts of the bound.
const SPARE: (u64, u64) = (19, 20);
/// Memory of evicted isolates that is worth asking the allocator to give back.
const GIVE_BACK: u64 = 32 << 20;

/// Where the time of a start went.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Start {
    /// Getting the program.
    pub load: Duration,
    /// Making an isolate; nothing when one was ready.
    pub isolate: Duration,
    /// Whether one was ready.
    pub pooled: bool,
    /// Compiling the modules and linking them.
    pub compile: Duration,
    /// Running their top level and finding the handler.
    pub evaluate: Duration,
    /// What became of the code cache.
    pub code_cache: CacheUse,
    /// All of it, and what lies between.
    pub total: Duration,
    /// It was another request's start, which this one has waited for, or one that came to nothing: only `total` is known.
    pub waited: bool,
}

/// Where the time of one invocation went.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Timing {
    /// Starting an isolate, when this request had to.
    pub start: Option<Start>,
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

/// What a worker has, and has done so far.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Isolates that hold a function.
    pub residents: usize,
    /// Isolates that wait for one.
    pub ready: usize,
    /// Bytes that the isolates with a function are known to take.
    pub memory: u64,
    /// Isolates given up to make room.
    pub evicted: u64,
}

/// The isolates of one thread. Lives inside a current-thread tokio runtime; cheap to clone.
#[derive(Clone)]
pub struct Worker(Rc<Inner>);

struct Inner {
    config: Config,
    slot: Arc<Slot>,
    pool: Pool,
    maker: Option<Maker>,
    residents: RefCell<HashMap<String, Entry>>,
    evicted: Cell<u64>,
    /// Bytes that the residents take, as far as known.
    memory: Cell<u64>,
    /// Isolates that were given up and are still to be dropped.
    buried: Cell<usize>,
    /// Bytes of the isolates that have gone since memory was last given back.
    gone: Cell<u64>,
}

/// The cell makes requests that arrive during a start wait for that start instead of beginning another.
type Entry = Rc<OnceCell<Rc<Resident>>>;

impl Worker {
    /// A worker on the calling thread, with one isolate ready and the others soon after. Isolates live inside the current
    /// tokio runtime.
    pub fn new(_platform: Platform, watchdog: &Watchdog, config: Config) -> Self {
        let pool = Pool::new(config.ready);
        if pool.wanted() > 0 {
            pool.put(Blank::new());
        }
        let worker = Self(Rc::new(Inner {
            config,
            slot: watchdog.register(),
            pool,
            maker: (config.ready > 0).then(Maker::start).flatten(),
            residents: RefCell::default(),
            evicted: Cell::new(0),
            memory: Cell::new(0),
            buried: Cell::new(0),
            gone: Cell::new(0),
        }));
        worker.refill();
        worker
    }

    /// Answers `request` with the program of `source`: in its isolate on this thread if there is one, else in one
    /// started for it.
    pub async fn invoke(
        &self,
        source: &impl Source,
        request: http::Request<Body>,
        capabilities: Rc<dyn Capabilities>,
    ) -> Invoked {
        let mut timing = Timing::default();
        let resident = match self.lease(source, &mut timing.start).await {
            Ok(resident) => resident,
            Err(fault) => {
                let failure = Failure { head: Some(request.into_parts().0), ..fault.into() };
                return Invoked { result: Err(failure), timing };
            }
        };
        let began = Instant::now();
        resident.last_used.set(began);
        let result = resident.invoke(request, Rc::clone(&capabilities)).await;
        timing.function = began.elapsed();
        resident.bring_own_log(&*capabilities);
        if resident.is_condemned() {
            self.forget(&resident);
        }
        Invoked { result, timing }
    }

    /// Starts the program of `source` before anybody asks for it.
    ///
    /// # Errors
    /// [`Fault::Boot`] or the limit that the start broke.
    pub async fn warm(&self, source: &impl Source) -> Result<(), Fault> {
        self.lease(source, &mut None).await.map(drop)
    }

    /// Starts `program`, calls it as no client does, and gives V8's code cache of all that was compiled on the way. The
    /// isolate is of no further use and goes.
    pub(crate) async fn compile(
        &self,
        program: &Arc<Program>,
        paths: &[String],
        started: &AtomicBool,
    ) -> Result<CodeCache, Fault> {
        let (resident, _) = self.start(Arc::clone(program), None).await?;
        started.store(true, Ordering::Release);
        Ok(resident.compile(paths).await)
    }

    /// Gives up the isolates of every version that is not wanted any more, once they are idle. Those in use go on.
    pub fn retain(&self, wanted: impl Fn(&str) -> bool) {
        let gone: Vec<_> = self.0.residents.borrow_mut().extract_if(|version, _| !wanted(version)).collect();
        self.bury(gone.into_iter().map(|(_, entry)| entry).collect());
    }

    /// Requests that are under way or whose `waitUntil` promises are.
    pub fn in_flight(&self) -> usize {
        self.0.residents.borrow().values().filter_map(|entry| entry.get()).map(|resident| resident.in_flight()).sum()
    }

    /// Whether this worker was given up while its thread did not come out of JavaScript. What is left to do on such a
    /// thread is to end.
    pub fn is_lost(&self) -> bool {
        self.0.slot.is_lost()
    }

    /// Those that the last stretches of JavaScript have left as touched.
    #[cfg(test)]
    pub(crate) fn take_touched(&self) -> Vec<u32> {
        self.0.residents.borrow().values().filter_map(|entry| entry.get()).flat_map(|it| it.take_touched()).collect()
    }

    /// What this worker has and has done.
    pub fn counts(&self) -> Counts {
        Counts {
            residents: self.0.residents.borrow().len(),
            ready: self.0.pool.len(),
            memory: self.0.memory.get(),
            evicted: self.0.evicted.get(),
        }
    }

    /// Housekeeping, to be called about once a second: isolates that became idle give back what they do not need, those
    /// idle longest go when all take too much, and what is left of it all goes back to the system.
    pub async fn tidy(&self) {
        self.trim_idle(TRIM_AFTER).await;
        self.make_room();
        drop(self.0.pool.shrink());
        if self.0.gone.get() >= GIVE_BACK && self.0.buried.get() == 0 {
            self.0.gone.set(0);
            self.0.pool.with_any(|blank| give_back(&mut blank.isolate));
        }
    }

    /// Lets isolates that have been idle for so long give back what they do not need, and measures all.
    pub(crate) async fn trim_idle(&self, after: Duration) {
        let started =
            || self.0.residents.borrow().values().filter_map(|entry| entry.get().cloned()).collect::<Vec<_>>();
        for resident in started().into_iter().filter(|resident| resident.needs_trim(after)) {
            resident.trim();
            // Collecting one heap takes a millisecond or two; requests get their turn in between.
            tokio::task::yield_now().await;
        }
        self.0.memory.set(started().iter().map(|resident| resident.measure()).sum());
    }

    async fn lease(&self, source: &impl Source, timing: &mut Option<Start>) -> Result<Rc<Resident>, Fault> {
        let version = source.version();
        let known = self.0.residents.borrow().get(version).map(Rc::clone);
        let known = known.filter(|entry| !entry.get().is_some_and(|resident| resident.is_condemned()));
        let entry = known.unwrap_or_else(|| {
            let entry = Entry::default();
            // What was condemned there goes once those that still use it have ended.
            let condemned = self.0.residents.borrow_mut().insert(version.to_owned(), Rc::clone(&entry));
            drop(condemned);
            entry
        });
        if let Some(resident) = entry.get() {
            return Ok(Rc::clone(resident));
        }
        let began = Instant::now();
        let started = entry.get_or_try_init(|| async {
            let (program, found) = source.load()?;
            let load = began.elapsed();
            let refused = found.as_ref().and_then(|found| found.as_ref().err().copied());
            let (resident, mut start) = self.start(program, found.and_then(Result::ok)).await?;
            if let Some(why) = refused {
                start.code_cache = CacheUse::Refused(why);
            }
            self.0.memory.set(self.0.memory.get() + resident.footprint());
            *timing = Some(Start { load, total: began.elapsed(), ..start });
            Ok(resident)
        });
        let resident = started.await.cloned();
        timing.get_or_insert_with(|| Start { pooled: true, total: began.elapsed(), waited: true, ..Start::default() });
        self.make_room();
        if resident.is_err() {
            let mut residents = self.0.residents.borrow_mut();
            if residents.get(version).is_some_and(|held| Rc::ptr_eq(held, &entry)) {
                residents.remove(version);
            }
        }
        resident
    }

    /// Starts a program in a blank isolate.
    async fn start(&self, program: Arc<Program>, cache: Option<CodeCache>) -> Result<(Rc<Resident>, Start), Fault> {
        let began = Instant::now();
        let heap = program.limits.get(Limit::Heap).min(Blank::HEAP);
        let ready = if heap == Blank::HEAP { self.0.pool.take() } else { None };
        let pooled = ready.is_some();
        let blank = ready.unwrap_or_else(|| Blank::with_heap(heap));
        let isolate = if pooled { Duration::ZERO } else { began.elapsed() };
        self.refill();
        let (resident, started) = Resident::boot(blank, program, cache, Arc::clone(&self.0.slot)).await?;
        Ok((resident, Start { isolate, pooled, ..started }))
    }

    /// Has blank isolates made off the request path, one at a time so that no more are made than will be used.
    fn refill(&self) {
        let wanting = |worker: &Self| worker.0.pool.len() < worker.0.pool.wanted();
        if !wanting(self) || self.0.pool.filling.replace(true) {
            return;
        }
        let worker = self.clone();
        deno_core::unsync::spawn(async move {
            while wanting(&worker) {
                let made = match &worker.0.maker {
                    Some(maker) => maker.make().await,
                    None => None,
                };
                if made.is_none() {
                    // Requests get their turn in between.
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                worker.0.pool.put(made.unwrap_or_else(Blank::new));
            }
            worker.0.pool.filling.set(false);
        });
    }

    /// Has all ready isolates made anew, off the request path.
    #[cfg(test)]
    pub(crate) async fn renew_pool(&self) {
        while let Some(blank) = self.0.pool.take() {
            drop(blank);
        }
        self.refill();
        while self.0.pool.filling.get() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Gives up idle isolates, the one idle longest first, once all go over their bounds: some more than it takes, so
    /// that not every start has to.
    fn make_room(&self) {
        let Config { memory, residents: most, .. } = self.0.config;
        let mut residents = self.0.residents.borrow_mut();
        if self.0.memory.get() <= memory && residents.len() <= most {
            return;
        }
        let (memory, most) = (memory / SPARE.1 * SPARE.0, most - most / SPARE.1 as usize);
        let idle = residents.values().filter_map(|entry| entry.get());
        let idle = idle.filter(|resident| resident.in_flight() == 0 && !resident.program.provisioned);
        let mut idle: Vec<_> = idle.map(Rc::clone).collect();
        idle.sort_unstable_by_key(|resident| resident.last_used.get());
        let (mut left, mut gone) = (self.0.memory.get(), Vec::new());
        for resident in idle {
            if left <= memory && residents.len() <= most {
                break;
            }
            left = left.saturating_sub(resident.footprint());
            gone.extend(residents.remove(&resident.program.version));
        }
        drop(residents);
        self.0.evicted.set(self.0.evicted.get() + gone.len() as u64);
        self.bury(gone);
    }

    /// Drops what was given up, one by one: dropping an isolate runs no JavaScript, but takes up to a millisecond.
    fn bury(&self, gone: Vec<Entry>) {
        if gone.is_empty() {
            return;
        }
        let bytes = gone.iter().filter_map(|entry| entry.get()).map(|resident| resident.footprint()).sum();
        self.0.memory.set(self.0.memory.get().saturating_sub(bytes));
        self.0.gone.set(self.0.gone.get() + bytes);
        self.0.buried.set(self.0.buried.get() + gone.len());
        let worker = self.clone();
        deno_core::unsync::spawn(async move {
            for entry in gone {
                drop(entry);
                worker.0.buried.set(worker.0.buried.get() - 1);
                tokio::task::yield_now().await;
            }
        });
    }

    fn forget(&self, resident: &Rc<Resident>) {
        let version = &resident.program.version;
        let mut residents = self.0.residents.borrow_mut();
        if residents.get(version).and_then(|entry| entry.get()).is_some_and(|held| Rc::ptr_eq(held, resident)) {
            residents.remove(version);
        }
    }
}
