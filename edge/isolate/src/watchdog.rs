//! Ends JavaScript that runs too long. One thread watches every worker; a worker only writes down when it enters.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use deno_core::v8::IsolateHandle;

use crate::entered::look_at_memory;

/// How often the slots are looked at while something runs, and while nothing has for a second.
const TICK: Duration = Duration::from_millis(1);
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
    /// A segment of JavaScript begins, which may use `budget` of processor time.
    pub(crate) fn begin(&self, handle: &IsolateHandle, heap_full: &Arc<AtomicBool>, budget: Duration) {
        let mut running = lock(&self.running);
        running.segment += 1;
        running.handle = Some(handle.clone());
        running.heap_full = Arc::clone(heap_full);
        running.started = Some(Instant::now());
        running.budget = budget;
        running.killed = false;
    }

    /// The segment is over. Whether it was ended by the watchdog. After this, no termination can arrive any more.
    pub(crate) fn end(&self) -> bool {
        let mut running = lock(&self.running);
        running.handle = None;
        running.killed
    }

    /// Time on a processor of this slot's thread, as far as the system tells.
    fn on_cpu(&self) -> Option<Duration> {
        let text = std::fs::read_to_string(self.schedstat.as_ref()?).ok()?;
        text.split_ascii_whitespace().next()?.parse().ok().map(Duration::from_nanos)
    }

    /// Looks at this slot once; whether something ran.
    fn look(&self, seen: &mut Look) -> bool {
        let mut running = lock(&self.running);
        let (Some(handle), Some(started)) = (&running.handle, running.started) else { return false };
        if seen.segment != running.segment {
            *seen = Look { segment: running.segment, on_cpu: self.on_cpu(), looked: started };
        }
        if started.elapsed() >= MEMORY_AFTER && seen.looked.elapsed() >= MEMORY_AFTER {
            seen.looked = Instant::now();
            look_at_memory(handle);
        }
        // The clock on the wall is the cheap question; only then is the processor's asked, because a thread that had to
        // wait for a processor has not used it.
        if running.killed || running.heap_full.load(Ordering::Relaxed) {
            handle.terminate_execution();
        } else if started.elapsed() >= running.budget * WALL_FACTOR + WALL_REST {
            // On no processor for all that time: it waits inside V8 for something that no limit counts.
            handle.terminate_execution();
            running.killed = true;
        } else if started.elapsed() >= running.budget {
            let used = match (self.on_cpu(), seen.on_cpu) {
                (Some(now), Some(then)) => now.saturating_sub(then) + TICK,
                _ => started.elapsed(),
            };
            if used >= running.budget {
                handle.terminate_execution();
                running.killed = true;
            }
        }
        true
    }
}

/// The segment that ran at the last look at a slot, and its thread's processor time then.
struct Look {
    segment: u64,
    on_cpu: Option<Duration>,
    /// When its memory was last looked at.
    looked: Instant,
}

fn watch(slots: &Weak<Mutex<Vec<Weak<Slot>>>>) {
    let mut seen: Vec<(Weak<Slot>, Look)> = Vec::new();
    let mut last_active = Instant::now();
    while let Some(slots) = slots.upgrade() {
        {
            let slots = lock(&slots);
            if seen.len() != slots.len() || !seen.iter().zip(slots.iter()).all(|(a, b)| a.0.ptr_eq(b)) {
                seen = slots
                    .iter()
                    .map(|slot| (Weak::clone(slot), Look { segment: 0, on_cpu: None, looked: last_active }))
                    .collect();
            }
        }
        drop(slots);
        for (slot, last) in &mut seen {
            if slot.upgrade().is_some_and(|slot| slot.look(last)) {
                last_active = Instant::now();
            }
        }
        std::thread::sleep(if last_active.elapsed() < Duration::from_secs(1) { TICK } else { IDLE_TICK });
    }
}
