//! How much memory an isolate holds outside its heap.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use deno_core::v8;

use crate::limits::{Limit, Limits};

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

/// What an isolate may hold outside its heap, whoever allocated it: `buffers` are V8's own and those that ops hand in,
/// `wasm` the memories and modules of WebAssembly.
#[derive(Debug)]
pub(crate) struct External {
    buffers: usize,
    wasm: usize,
    /// The one that was found far over its limit; execution is being ended then.
    pub(crate) over: OnceLock<Limit>,
}

/// Bytes that an isolate holds outside its heap.
struct Outside {
    buffers: usize,
    wasm: usize,
}

/// Bytes that the isolate that is current holds outside its heap, all of them. Costs nothing to ask.
pub(crate) fn external_memory(isolate: &mut v8::Isolate) -> usize {
    usize::try_from(isolate.adjust_amount_of_external_allocated_memory(0)).unwrap_or(0)
}

impl Outside {
    /// Of the isolate that is current. V8 counts buffers (with long strings) and everything; what is in the one count only
    /// belongs to WebAssembly.
    fn of(isolate: &mut v8::Isolate) -> Self {
        let buffers = isolate.get_heap_statistics().external_memory();
        Self { buffers, wasm: external_memory(isolate).saturating_sub(buffers) }
    }
}

impl External {
    /// Limits for the isolate that is current, beyond what the runtime itself holds in it.
    pub(crate) fn new(isolate: &mut v8::Isolate, limits: &Limits) -> Self {
        let own = Outside::of(isolate);
        let limit = |limit, own| usize::try_from(limits.get(limit)).unwrap_or(usize::MAX).saturating_add(own);
        Self { buffers: limit(Limit::Buffers, own.buffers), wasm: limit(Limit::Wasm, own.wasm), over: OnceLock::new() }
    }

    /// The limit that the isolate that is current exceeds `times` over.
    fn exceeded(&self, isolate: &mut v8::Isolate, times: usize) -> Option<Limit> {
        let (buffers, wasm) = (self.buffers.saturating_mul(times), self.wasm.saturating_mul(times));
        if external_memory(isolate) <= buffers.min(wasm) {
            return None;
        }
        let outside = Outside::of(isolate);
        if outside.buffers > buffers { Some(Limit::Buffers) } else { (outside.wasm > wasm).then_some(Limit::Wasm) }
    }

    /// Looks at the isolate that is current, and collects garbage before it says that a limit is broken.
    pub(crate) fn look(&self, isolate: &mut v8::Isolate) -> Option<Limit> {
        self.exceeded(isolate, 1)?;
        isolate.low_memory_notification();
        self.exceeded(isolate, 1)
    }

    /// Notes a limit that the isolate that is current exceeds by far, garbage or not; whether there is one.
    pub(crate) fn is_far_over(&self, isolate: &mut v8::Isolate) -> bool {
        let Some(limit) = self.exceeded(isolate, 2) else { return false };
        let _ = self.over.set(limit);
        true
    }

    /// Whether so many more bytes of WebAssembly memory fit in, after a collection if need be.
    pub(crate) fn has_room(&self, isolate: &mut v8::Isolate, bytes: usize) -> bool {
        let fits = |isolate: &mut v8::Isolate| Outside::of(isolate).wasm.saturating_add(bytes) <= self.wasm;
        if fits(isolate) {
            return true;
        }
        isolate.low_memory_notification();
        fits(isolate)
    }
}
