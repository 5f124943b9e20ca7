//! What a worker writes down when it enters JavaScript and when it leaves. One thread writes, the watchdog reads; who of
//! the two acts at the end of a segment is decided by one atomic word.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use deno_core::v8::IsolateHandle;

use crate::loss::{Cause, Loss, Tell};
use crate::program::Program;
use crate::thread_clock::ThreadClock;

/// What a worker does. Lives in the low bits of [`Slot::state`], below the number of the segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// No JavaScript.
    Idle,
    Running,
    /// The heap is full: V8 ends the segment, and the watchdog repeats that.
    Full,
    /// The watchdog has told the segment to end.
    Killed,
    /// The watchdog is telling it: for a moment, the worker waits at the end of its segment.
    Held,
    /// The worker is given up. Nothing changes this any more.
    Lost,
}

const PHASE_BITS: u32 = 3;

const fn word(segment: u64, phase: Phase) -> u64 {
    (segment << PHASE_BITS) | phase as u64
}

fn read(word: u64) -> (u64, Phase) {
    use Phase::*;
    let phase = [Idle, Running, Full, Killed, Held, Lost, Lost, Lost][(word & 7) as usize];
    (word >> PHASE_BITS, phase)
}

/// How long a look at the thread's time on a processor, which is a system call, is good for. Segments that are shorter are
/// charged the time on the wall.
const SAMPLE: Duration = Duration::from_millis(1);

/// One worker's entry in the watchdog.
pub(crate) struct Slot {
    /// The time that the worker's thread was on a processor.
    clock: ThreadClock,
    /// What times are counted from.
    epoch: Instant,
    /// The number of the segment, and the [`Phase`].
    state: AtomicU64,
    /// Of the segment: its start and its budget in nanoseconds, and its isolate's place in `watched`.
    started: AtomicU64,
    budget: AtomicU64,
    place: AtomicUsize,
    /// A moment at most [`SAMPLE`] before the segment, and the thread's time on a processor then, in nanoseconds.
    sampled: [AtomicU64; 2],
    watched: Mutex<Vec<Option<Arc<Isolate>>>>,
    tell: Option<Tell>,
}

/// What the watchdog knows of an isolate.
pub(crate) struct Isolate {
    pub(crate) handle: IsolateHandle,
    pub(crate) heap_full: Arc<AtomicBool>,
    pub(crate) program: Arc<Program>,
}

/// A segment as the watchdog sees it.
pub(crate) struct Segment {
    pub(crate) number: u64,
    pub(crate) phase: Phase,
    pub(crate) started: Instant,
    pub(crate) budget: Duration,
    pub(crate) place: usize,
}

/// How a segment ended.
pub(crate) struct Ended {
    /// The watchdog ended it.
    pub(crate) killed: bool,
    /// Processor time it used.
    pub(crate) used: Duration,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind these locks is valid after every statement, so a panic elsewhere does not spoil it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Processor time of the calling thread.
fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

impl Slot {
    /// The calling thread's slot. `tell` hears of its loss; without it, it is never lost.
    pub(crate) fn new(tell: Option<Tell>) -> Self {
        Self {
            clock: ThreadClock::own(),
            epoch: Instant::now(),
            state: AtomicU64::new(word(0, Phase::Idle)),
            started: AtomicU64::new(0),
            budget: AtomicU64::new(0),
            place: AtomicUsize::new(0),
            sampled: [0, nanos(thread_time())].map(AtomicU64::new),
            watched: Mutex::default(),
            tell,
        }
    }

    /// Whether somebody hears of its loss.
    pub(crate) fn is_told(&self) -> bool {
        self.tell.is_some()
    }

    pub(crate) fn is_running(&self) -> bool {
        !matches!(read(self.state.load(Ordering::Acquire)).1, Phase::Idle | Phase::Lost)
    }

    pub(crate) fn is_lost(&self) -> bool {
        read(self.state.load(Ordering::Acquire)).1 == Phase::Lost
    }

    /// Time on a processor of this slot's thread, as far as the system tells.
    pub(crate) fn on_cpu(&self) -> Option<Duration> {
        self.clock.now()
    }

    /// A segment begins, now.
    fn begin(&self, place: usize, budget: Duration) -> Instant {
        let now = Instant::now();
        let (segment, phase) = read(self.state.load(Ordering::Relaxed));
        if phase == Phase::Lost {
            // The thread came back and was given up: its other tasks find every isolate ended as soon as it begins.
            if let Some(isolate) = self.isolate(place) {
                isolate.handle.terminate_execution();
            }
            return now;
        }
        let started = nanos(now - self.epoch);
        let [at, on_cpu] = &self.sampled;
        if started.saturating_sub(at.load(Ordering::Relaxed)) >= nanos(SAMPLE) {
            at.store(started, Ordering::Relaxed);
            on_cpu.store(nanos(thread_time()), Ordering::Relaxed);
        }
        self.started.store(started, Ordering::Relaxed);
        self.budget.store(nanos(budget), Ordering::Relaxed);
        self.place.store(place, Ordering::Relaxed);
        // Publishes what is above to who reads this word.
        self.state.store(word(segment + 1, Phase::Running), Ordering::Release);
        now
    }

    /// The segment is over. After this, no termination can arrive any more.
    ///
    /// A short segment is charged the time on the wall, which costs nothing to know and is never less than the time on a
    /// processor. A long one, in which the thread may have had to wait for a processor, is charged what it was on one.
    fn end(&self) -> Ended {
        let mut state = self.state.load(Ordering::Relaxed);
        let killed = loop {
            let (segment, phase) = read(state);
            match phase {
                Phase::Lost => break true,
                // It holds the word for one call, but may have lost its processor in it.
                Phase::Held => {
                    std::thread::yield_now();
                    state = self.state.load(Ordering::Acquire);
                    continue;
                }
                Phase::Idle | Phase::Running | Phase::Full | Phase::Killed => {}
            }
            let idle = word(segment, Phase::Idle);
            match self.state.compare_exchange_weak(state, idle, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => break phase == Phase::Killed,
                Err(now) => state = now,
            }
        };
        let started = Duration::from_nanos(self.started.load(Ordering::Relaxed));
        let wall = self.epoch.elapsed().saturating_sub(started);
        let used = if wall <= SAMPLE { wall } else { wall.min(thread_time().saturating_sub(self.on_cpu_before())) };
        Ended { killed, used }
    }

    /// What runs now.
    pub(crate) fn segment(&self) -> Option<Segment> {
        let (number, phase) = read(self.state.load(Ordering::Acquire));
        let started = self.epoch + Duration::from_nanos(self.started.load(Ordering::Relaxed));
        let budget = Duration::from_nanos(self.budget.load(Ordering::Relaxed));
        let place = self.place.load(Ordering::Relaxed);
        let running = !matches!(phase, Phase::Idle | Phase::Lost);
        running.then_some(Segment { number, phase, started, budget, place })
    }

    /// What `segment` runs in. It may be over by now: only [`Slot::tell_to_end`] makes sure.
    pub(crate) fn isolate_of(&self, segment: &Segment) -> Option<Arc<Isolate>> {
        self.isolate(segment.place)
    }

    fn isolate(&self, place: usize) -> Option<Arc<Isolate>> {
        lock(&self.watched).get(place)?.clone()
    }

    /// The thread's time on a processor before the segment that runs, or at most [`SAMPLE`] less.
    pub(crate) fn on_cpu_before(&self) -> Duration {
        Duration::from_nanos(self.sampled[1].load(Ordering::Relaxed))
    }

    /// Ends the segment at the next point where V8 can be interrupted, unless it has ended by itself. The worker leaves
    /// no segment while it is being told, so that the termination cannot hit the next one.
    pub(crate) fn tell_to_end(&self, segment: &Segment, isolate: &Isolate, phase: Phase) -> bool {
        let (now, held) = (word(segment.number, segment.phase), word(segment.number, Phase::Held));
        if self.state.compare_exchange(now, held, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return false;
        }
        isolate.handle.terminate_execution();
        self.state.store(word(segment.number, phase), Ordering::Release);
        true
    }

    /// Gives the worker up because it does not end. Nothing happens when it has done so at last, or when nobody would hear.
    pub(crate) fn give_up(&self, segment: &Segment) {
        let Some(tell) = &self.tell else { return };
        let (now, lost) = (word(segment.number, segment.phase), word(segment.number, Phase::Lost));
        // Read before: once it is lost, the place may be anybody's.
        let program = self.isolate_of(segment).map(|isolate| Arc::clone(&isolate.program));
        if self.state.compare_exchange(now, lost, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            tell(Loss { program, cause: Cause::Stuck });
        }
    }

    /// Gives up the worker of the calling thread. Nothing happens when the watchdog did before.
    pub(crate) fn lose(&self, cause: Cause) {
        let mut state = self.state.load(Ordering::Acquire);
        let phase = loop {
            let (segment, phase) = read(state);
            match phase {
                Phase::Lost => return,
                Phase::Held => {
                    std::thread::yield_now();
                    state = self.state.load(Ordering::Acquire);
                    continue;
                }
                Phase::Idle | Phase::Running | Phase::Full | Phase::Killed => {}
            }
            let lost = word(segment, Phase::Lost);
            match self.state.compare_exchange(state, lost, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => break phase,
                Err(now) => state = now,
            }
        };
        if let Some(tell) = &self.tell {
            let running = (phase != Phase::Idle).then(|| self.isolate(self.place.load(Ordering::Relaxed))).flatten();
            tell(Loss { program: running.map(|isolate| Arc::clone(&isolate.program)), cause });
        }
    }
}

/// An isolate's place in its worker's slot, for as long as it holds a function.
pub(crate) struct Watched {
    slot: Arc<Slot>,
    place: usize,
}

impl Watched {
    pub(crate) fn new(slot: Arc<Slot>, isolate: Isolate) -> Self {
        let isolate = Some(Arc::new(isolate));
        let place = {
            let mut watched = lock(&slot.watched);
            match watched.iter().position(Option::is_none) {
                Some(free) => {
                    watched[free] = isolate;
                    free
                }
                None => {
                    watched.push(isolate);
                    watched.len() - 1
                }
            }
        };
        Self { slot, place }
    }

    /// A segment of JavaScript begins in this isolate, now, which may use `budget` of processor time.
    pub(crate) fn begin(&self, budget: Duration) -> Instant {
        self.slot.begin(self.place, budget)
    }

    /// It is over.
    pub(crate) fn end(&self) -> Ended {
        self.slot.end()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        lock(&self.slot.watched)[self.place] = None;
    }
}
