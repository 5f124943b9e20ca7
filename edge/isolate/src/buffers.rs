//! How much memory an isolate holds outside its heap.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// How many `ArrayBuffer` bytes an isolate has, and may have.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    used: AtomicUsize,
    pub(crate) limit: AtomicUsize,
    /// Set when an allocation was refused, until one is granted or the next stretch of JavaScript begins.
    pub(crate) refused: AtomicBool,
}

impl Buffers {
    /// Counts `length` bytes in; whether they are within the limit.
    pub(crate) fn reserve(&self, length: usize) -> bool {
        let limit = self.limit.load(Ordering::Relaxed);
        let within = |used: usize| used.checked_add(length).filter(|sum| *sum <= limit);
        let granted = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within).is_ok();
        self.refused.store(!granted, Ordering::Relaxed);
        granted
    }

    /// Counts `length` bytes out.
    pub(crate) fn release(&self, length: usize) {
        self.used.fetch_sub(length, Ordering::Relaxed);
    }
}
