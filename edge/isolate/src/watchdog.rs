//! Ends JavaScript that runs too long. One thread watches every worker; a worker only writes down when it enters.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::entered::look_at_memory;
use crate::loss::{self, Loss, Tell};
use crate::slot::{Phase, Segment, Slot};

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
/// A segment that was told to end has so much more processor time to do so, and so much time on the wall, before its
/// worker is given up. V8 looks whether it should end at every call and every turn of a loop; what takes longer is one
/// native call, or a collection of a very full heap.
const STUCK_AFTER: Duration = Duration::from_millis(500);
const STUCK_WALL: Duration = Duration::from_secs(10);

/// Watches workers. Dropped with the last of them, its thread ends by itself.
#[derive(Clone)]
pub struct Watchdog {
    slots: Arc<Mutex<Vec<Weak<Slot>>>>,
    tell: Option<Tell>,
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
        Ok(Self { slots, tell: None })
    }

    /// The same watchdog, for workers that can be lost: `tell` hears of it, once for each, and has to see to what the
    /// worker was doing. It is called on the lost thread or on the watchdog's, so it must neither block nor panic.
    ///
    /// A worker of a watchdog that tells nobody is never given up: it is waited for without end, and errors that V8 calls
    /// fatal end the process.
    #[must_use]
    pub fn telling(&self, tell: impl Fn(Loss) + Send + Sync + 'static) -> Self {
        Self { slots: Arc::clone(&self.slots), tell: Some(Arc::new(tell)) }
    }

    /// A slot for the calling thread.
    pub(crate) fn register(&self) -> Arc<Slot> {
        let slot = Arc::new(Slot::new(self.tell.clone()));
        loss::adopt(&slot);
        let mut slots = lock(&self.slots);
        slots.retain(|slot| slot.strong_count() > 0);
        slots.push(Arc::downgrade(&slot));
        slot
    }
}

/// What the watchdog remembers of a slot: the segment that ran at the last look, when its memory was last looked at, and
/// when it was told to end, with the thread's time on a processor then.
struct Look {
    segment: u64,
    memory: Instant,
    told: Option<(Instant, Option<Duration>)>,
}

impl Look {
    fn new(segment: u64, memory: Instant) -> Self {
        Self { segment, memory, told: None }
    }

    /// Looks at a slot once. What is left of the budget of what runs, on the wall; `None` when nothing does.
    fn look(&mut self, slot: &Slot) -> Option<Duration> {
        let segment = slot.segment()?;
        let isolate = slot.isolate_of(&segment)?;
        if self.segment != segment.number {
            *self = Self::new(segment.number, segment.started);
        }
        let wall = segment.started.elapsed();
        if wall >= MEMORY_AFTER && self.memory.elapsed() >= MEMORY_AFTER {
            self.memory = Instant::now();
            look_at_memory(&isolate.handle);
        }
        let full = isolate.heap_full.load(Ordering::Relaxed);
        if full || segment.phase == Phase::Killed || self.is_over(slot, &segment, wall) {
            let phase = if full && segment.phase != Phase::Killed { Phase::Full } else { Phase::Killed };
            if slot.tell_to_end(&segment, &isolate, phase) {
                self.judge(slot, Segment { phase, ..segment });
                return Some(STUCK_AFTER);
            }
        }
        Some(segment.budget.saturating_sub(wall))
    }

    /// Whether a segment has used up its budget. The clock on the wall is the cheap question; only then is the
    /// processor's asked, because a thread that had to wait for a processor has not used it. One that was on none for all
    /// that time waits inside V8 for something that no limit counts.
    fn is_over(&self, slot: &Slot, segment: &Segment, wall: Duration) -> bool {
        if wall < segment.budget {
            return false;
        }
        let used = slot.on_cpu().map_or(wall, |now| now.saturating_sub(slot.on_cpu_before()));
        used >= segment.budget || wall >= segment.budget * WALL_FACTOR + WALL_REST
    }

    /// Gives up the worker of a segment that was told to end and does not.
    fn judge(&mut self, slot: &Slot, segment: Segment) {
        let Some((told, then)) = self.told else {
            self.told = Some((Instant::now(), slot.on_cpu()));
            return;
        };
        let waited = told.elapsed();
        if waited < STUCK_AFTER {
            return;
        }
        let used = then.zip(slot.on_cpu()).map_or(waited, |(then, now)| now.saturating_sub(then));
        if used >= STUCK_AFTER || waited >= STUCK_WALL {
            slot.give_up(&segment);
        }
    }
}

fn watch(slots: &Weak<Mutex<Vec<Weak<Slot>>>>) {
    let mut seen: Vec<(Weak<Slot>, Look)> = Vec::new();
    let mut last_active = Instant::now();
    while let Some(slots) = slots.upgrade() {
        {
            let slots = lock(&slots);
            if seen.len() != slots.len() || !seen.iter().zip(slots.iter()).all(|(a, b)| a.0.ptr_eq(b)) {
                let mut known = std::mem::take(&mut seen);
                let look = |slot: &Weak<Slot>| match known.iter().position(|(seen, _)| seen.ptr_eq(slot)) {
                    Some(at) => known.swap_remove(at),
                    None => (Weak::clone(slot), Look::new(0, last_active)),
                };
                seen = slots.iter().map(look).collect();
            }
        }
        drop(slots);
        let left = seen.iter_mut().filter_map(|(slot, looked)| looked.look(&*slot.upgrade()?)).min();
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
