//! An isolate without a function: what the pool holds ready.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use deno_core::{JsRuntime, v8};

use crate::buffers::Buffers;
use crate::clock::Clock;
use crate::entered::Isolate;
use crate::limits::Limit;
use crate::program::Loader;

/// Head room that V8 gets once a heap is full, so that one huge allocation ends the function and not the process: it
/// has to hold the largest single object until the next point where execution can be stopped.
const HEAD_ROOM: usize = 1_280 << 20;

/// Below this, it is not worth letting a heap grow on.
const LEAST_MORE: usize = 8 << 20;

/// An isolate that any function may claim.
pub(crate) struct Blank {
    pub(crate) boot: v8::Global<v8::Function>,
    pub(crate) dispatch: v8::Global<v8::Function>,
    pub(crate) release: v8::Global<v8::Function>,
    pub(crate) clock: Clock,
    pub(crate) loader: Rc<Loader>,
    pub(crate) heap: Heap,
    pub(crate) isolate: Isolate,
}

/// The limit of an isolate's heap. V8 is made with the default one; a function that may have more is let go on when it
/// reaches that.
#[derive(Clone)]
pub(crate) struct Heap {
    granted: Arc<AtomicUsize>,
    /// Set when the heap was full; the isolate is being ended then.
    pub(crate) full: Arc<AtomicBool>,
}

impl Heap {
    fn new() -> Self {
        Self { granted: Arc::default(), full: Arc::default() }
    }

    /// Lets the function that claims the isolate have so many bytes.
    pub(crate) fn grant(&self, bytes: u64) {
        self.granted.store(usize::try_from(bytes).unwrap_or(usize::MAX), Ordering::Relaxed);
    }

    /// V8's new limit once the heap is near the `current` one.
    fn next(&self, current: usize) -> Option<usize> {
        let granted = self.granted.load(Ordering::Relaxed);
        // A little more is no help to V8, which then ends the process.
        let more = granted > Blank::HEAP as usize && granted >= current + LEAST_MORE;
        (more && !self.full.load(Ordering::Relaxed)).then_some(granted)
    }
}

impl Blank {
    /// For the functions that may have a heap of the default size or more. Must be called inside a current-thread tokio
    /// runtime, on the thread that will use it.
    pub(crate) fn new() -> Self {
        Self::with_heap(Self::HEAP)
    }

    /// V8's own limit of the heaps that any function may claim.
    pub(crate) const HEAP: u64 = Limit::Heap.row().default;

    /// As [`Blank::new`], for a function that may have less.
    pub(crate) fn with_heap(heap_bytes: u64) -> Self {
        let loader = Rc::new(Loader::default());
        let bytes = usize::try_from(heap_bytes).unwrap_or(usize::MAX);
        let buffers = Arc::new(Buffers::default());
        // What the runtime itself needs at the start is small; the claim sets the function's own limit.
        buffers.limit.store(64 << 20, Ordering::Relaxed);
        let mut isolate = Isolate::new(Rc::clone(&loader) as _, bytes, buffers);
        let heap = Heap::new();
        let bounds = heap.clone();
        let ([boot, dispatch, release], clock) = isolate.with(|runtime| {
            let handle = runtime.v8_isolate().thread_safe_handle();
            runtime.add_near_heap_limit_callback(move |current, _initial| {
                if let Some(more) = bounds.next(current) {
                    return more;
                }
                // The watchdog repeats this until execution has ended.
                handle.terminate_execution();
                if bounds.full.swap(true, Ordering::Relaxed) { current } else { current + HEAD_ROOM }
            });
            take_functions(runtime)
        });
        Self { boot, dispatch, release, clock, loader, heap, isolate }
    }
}

/// Takes what the snapshot left for Rust, and removes every name by which a function could reach the platform.
fn take_functions(runtime: &mut JsRuntime) -> ([v8::Global<v8::Function>; 3], Clock) {
    deno_core::scope!(scope, runtime);
    let context = scope.get_current_context();
    context.set_allow_generation_from_strings(false);
    let global = context.global(scope);
    let get = |object: v8::Local<v8::Object>, name: &str| {
        let key = v8::String::new(scope, name)?;
        object.get(scope, key.into())
    };
    let holder = get(global, "__skerry").and_then(|object| v8::Local::<v8::Object>::try_from(object).ok());
    let holder = holder.expect("the snapshot holds __skerry: build.rs made it so");
    let taken = ["boot", "dispatch", "release"].map(|name| {
        let function = get(holder, name).and_then(|function| v8::Local::<v8::Function>::try_from(function).ok());
        v8::Global::new(scope, function.unwrap_or_else(|| panic!("the snapshot holds {name}: build.rs made it so")))
    });
    let cells = get(holder, "clock").and_then(|cells| v8::Local::<v8::Float64Array>::try_from(cells).ok());
    let cells = cells.and_then(|cells| cells.buffer(scope)).map(|buffer| buffer.get_backing_store());
    let clock = Clock::new(cells.expect("the snapshot holds the clock: build.rs made it so"));
    for name in ["__skerry", "__bootstrap", "Deno"] {
        if let Some(key) = v8::String::new(scope, name) {
            global.delete(scope, key.into());
        }
    }
    (taken, clock)
}
