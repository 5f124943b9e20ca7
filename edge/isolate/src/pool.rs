//! Blank isolates held ready, as many as the starts of the last moments ask for.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use crate::blank::Blank;

/// In this time, half of the starts that were seen are forgotten.
const HALF_LIFE: Duration = Duration::from_secs(1);
/// So many remembered starts ask for one more ready isolate: refilling makes several hundred in a second, so that the
/// pool has to stand only the start of a burst like those that were.
const STARTS_FOR_ONE: f64 = 8.0;
/// More ready isolates than the least are this many at most.
const MOST_MORE: usize = 32;

/// The blank isolates of one worker.
pub(crate) struct Pool {
    least: usize,
    ready: RefCell<Vec<Blank>>,
    /// Starts, each weighing half after [`HALF_LIFE`], as they were at some time.
    starts: Cell<(f64, Instant)>,
    pub(crate) filling: Cell<bool>,
}

impl Pool {
    /// An empty pool. With `least` 0 it stays empty.
    pub(crate) fn new(least: usize) -> Self {
        Self { least, ready: RefCell::default(), starts: Cell::new((0.0, Instant::now())), filling: Cell::new(false) }
    }

    /// Takes one; the start is counted even when there is none.
    pub(crate) fn take(&self) -> Option<Blank> {
        let now = Instant::now();
        self.starts.set((self.remembered(now) + 1.0, now));
        self.ready.borrow_mut().pop()
    }

    pub(crate) fn put(&self, blank: Blank) {
        self.ready.borrow_mut().push(blank);
    }

    /// Does something with a blank isolate: one that is ready, or one made for it.
    pub(crate) fn with_any(&self, body: impl FnOnce(&mut Blank)) {
        match self.ready.borrow_mut().last_mut() {
            Some(blank) => body(blank),
            None => body(&mut Blank::new()),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.ready.borrow().len()
    }

    /// How many should be ready.
    pub(crate) fn wanted(&self) -> usize {
        if self.least == 0 {
            return 0;
        }
        let more = (self.remembered(Instant::now()) / STARTS_FOR_ONE).round();
        // The cast saturates.
        self.least + (more as usize).min(MOST_MORE)
    }

    /// Gives up what a burst that is over has left, one for each call: the next burst may be near.
    pub(crate) fn shrink(&self) -> Option<Blank> {
        (self.len() > self.wanted()).then(|| self.ready.borrow_mut().pop()).flatten()
    }

    fn remembered(&self, now: Instant) -> f64 {
        let (starts, at) = self.starts.get();
        starts * 0.5f64.powf(now.duration_since(at).as_secs_f64() / HALF_LIFE.as_secs_f64())
    }
}
