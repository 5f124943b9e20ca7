//! The clock that a function sees: the time at which the present stretch of JavaScript began.

use std::cell::Cell;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use deno_core::v8;

/// How long the wall's clock is reckoned from the steady one before it is looked at again: somebody may have set it.
const RECKONED: Duration = Duration::from_secs(1);

/// What `Date` and `performance` read, by way of memory that JavaScript and Rust share: writing it costs nanoseconds,
/// reading it no call.
pub(crate) struct Clock {
    /// Three numbers; 05_clock.js says which.
    cells: v8::SharedRef<v8::BackingStore>,
    /// An instant, and what the wall's clock said then, in milliseconds since 1970.
    known: Cell<(Instant, f64)>,
    origin: Cell<Instant>,
}

impl Clock {
    pub(crate) fn new(cells: v8::SharedRef<v8::BackingStore>) -> Self {
        let now = Instant::now();
        Self { cells, known: Cell::new((now, wall())), origin: Cell::new(now) }
    }

    /// A function gets this clock: `performance` counts from here.
    pub(crate) fn start(&self) {
        let (now, was) = (Instant::now(), wall());
        self.known.set((now, was));
        self.origin.set(now);
        self.write(2, was);
    }

    /// Sets the time that JavaScript sees until the next call.
    pub(crate) fn set(&self, now: Instant) {
        let (mut at, mut was) = self.known.get();
        if now - at > RECKONED {
            (at, was) = (now, wall());
            self.known.set((at, was));
        }
        self.write(0, was + milliseconds(now - at));
        self.write(1, milliseconds(now - self.origin.get()));
    }

    fn write(&self, index: usize, milliseconds: f64) {
        let bytes = milliseconds.floor().to_ne_bytes();
        self.cells[index * 8..][..8].iter().zip(bytes).for_each(|(cell, byte)| cell.set(byte));
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn wall() -> f64 {
    milliseconds(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}
