//! Ends JavaScript that runs too long. One thread watches every worker; a worker only writes down when it enters.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use deno_core::v8::IsolateHandle;

use crate::entered::look_at_memory;

/// How often the slots are looked at: when a budget is about to end, while something runs, and while nothing has for a
/// second. Each look costs its core a few microseconds, and the isolates their share of it.
const SHORT_TICK: Duration = Duration::from_millis(1);
const TICK: Duration = Duration::from_millis(4);
const IDLE_TICK: Duration = Duration::from_millis(10);

/// A segment may last so many times its budget, and this much, before it is ended although it was on no processor.
const WALL_FACTOR: u32 = 20;
const WALL_REST: Duration = Duration::from_secs(1);
/// Between two looks at the memory of a segment that goes on.
const MEMORY_AFTER: Duration = Duration::from_millis(4);

/// Watches workers. Dropped with the last of them, its thread ends by itself.
#[derive(Clone, Debug)]
pub struct Watchdog(Arc<Mutex<Vec<Weak<Slot>>>>);

/// One worker's entry in the watchdog.
#[derive(Debug)]
pub(crate) struct Slot {
    /// The worker's `schedstat` file: its first number is the time on a processor, in nanoseconds.
    schedstat: Option<String>,
    running: Mutex<Running>,
}

#[derive(Debug, Default)]
struct Running {
    segment: u64,
    handle: Option<IsolateHandle>,
    heap_full: Arc<AtomicBool>,
    started: Option<Instant>,
    budget: Duration,
    killed: bool,
    /// When the watchdog first saw the segment, and the thread's time on a processor then.
    seen: Option<(Instant, Duration)>,
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

impl Watchdog {
    /// Starts the watching thread.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start() -> std::io::Result<Self> {
        let slots = Arc::new(Mutex::new(Vec::new()));
        let watched = Arc::downgrade(&slots);
        std::thread::Builder::new().name("watchdog".to_owned()).spawn(move || watch(&watched))?;
        Ok(Self(slots))
    }

    /// The calling thread's slot.
    pub(crate) fn register(&self) -> Arc<Slot> {
        let tid = std::fs::read_link("/proc/thread-self")
            .ok()
            .and_then(|path| Some(format!("/proc/self/task/{}/schedstat", path.file_name()?.to_str()?)));
        let slot = Arc::new(Slot { schedstat: tid, running: Mutex::default() });
        let mut slots = lock(&self.0);
        slots.retain(|slot| slot.strong_count() > 0);
        slots.push(Arc::downgrade(&slot));
        slot
    }
}

impl Slot {
    /// A segment of JavaScript begins, now, which may use `budget` of processor time.
    pub(crate) fn begin(&self, handle: &IsolateHandle, heap_full: &Arc<AtomicBool>, budget: Duration) -> Instant {
        let now = Instant::now();
        let mut running = lock(&self.running);
        running.segment += 1;
        running.handle = Some(handle.clone());
        running.heap_full = Arc::clone(heap_full);
        running.started = Some(now);
        running.budget = budget;
        running.killed = false;
        running.seen = None;
        now
    }

    /// The segment is over. After this, no termination can arrive any more.
    ///
    /// A short segment is charged the time on the wall, which costs nothing to know and is never less than the time on a
    /// processor. A long one, in which the thread may have had to wait for a processor, is charged that time only up to
    /// the watchdog's first look.
    pub(crate) fn end(&self) -> Ended {
        let mut running = lock(&self.running);
        running.handle = None;
        let Some(started) = running.started else { return Ended { killed: running.killed, used: Duration::ZERO } };
        let wall = started.elapsed();
        let used = match running.seen {
            Some((at, on_cpu)) => wall.min(at - started + thread_time().saturating_sub(on_cpu)),
            None => wall,
        };
        Ended { killed: running.killed, used }
    }

    /// Time on a processor of this slot's thread, as far as the system tells.
    fn on_cpu(&self) -> Option<Duration> {
        let text = std::fs::read_to_string(self.schedstat.as_ref()?).ok()?;
        text.split_ascii_whitespace().next()?.parse().ok().map(Duration::from_nanos)
    }

    /// Looks at this slot once. What is left of the budget of what runs, on the wall; `None` when nothing does.
    fn look(&self, looked: &mut Look) -> Option<Duration> {
        let mut running = lock(&self.running);
        let (Some(handle), Some(started)) = (&running.handle, running.started) else { return None };
        if looked.segment != running.segment {
            *looked = Look { segment: running.segment, memory: started };
        }
        let (wall, budget) = (started.elapsed(), running.budget);
        if wall >= MEMORY_AFTER && looked.memory.elapsed() >= MEMORY_AFTER {
            looked.memory = Instant::now();
            look_at_memory(handle);
        }
        let over = if running.killed || running.heap_full.load(Ordering::Relaxed) {
            true
        } else if wall < budget {
            false
        } else {
            // The clock on the wall is the cheap question; only then is the processor's asked, because a thread that had
            // to wait for a processor has not used it. One that was on none for all that time waits inside V8 for
            // something that no limit counts.
            let used = match (self.on_cpu(), running.seen) {
                (Some(now), Some((at, then))) => now.saturating_sub(then) + (at - started),
                _ => wall,
            };
            used >= budget || wall >= budget * WALL_FACTOR + WALL_REST
        };
        if over {
            handle.terminate_execution();
            running.killed |= !running.heap_full.load(Ordering::Relaxed);
        } else if running.seen.is_none() {
            running.seen = self.on_cpu().map(|on_cpu| (Instant::now(), on_cpu));
        }
        Some(budget.saturating_sub(wall))
    }
}

/// Processor time of the calling thread.
fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// The segment that ran at the last look at a slot, and when its memory was last looked at.
struct Look {
    segment: u64,
    memory: Instant,
}

fn watch(slots: &Weak<Mutex<Vec<Weak<Slot>>>>) {
    let mut seen: Vec<(Weak<Slot>, Look)> = Vec::new();
    let mut last_active = Instant::now();
    while let Some(slots) = slots.upgrade() {
        {
            let slots = lock(&slots);
            if seen.len() != slots.len() || !seen.iter().zip(slots.iter()).all(|(a, b)| a.0.ptr_eq(b)) {
                let look = |slot: &Weak<Slot>| (Weak::clone(slot), Look { segment: 0, memory: last_active });
                seen = slots.iter().map(look).collect();
            }
        }
        drop(slots);
        let left = seen.iter_mut().filter_map(|(slot, looked)| slot.upgrade()?.look(looked)).min();
        if left.is_some() {
            last_active = Instant::now();
        }
        std::thread::sleep(match left {
            Some(left) => (left / 2).clamp(SHORT_TICK, TICK),
            None if last_active.elapsed() < Duration::from_secs(1) => TICK,
            None => IDLE_TICK,
        });
    }
}
