//! An isolate without a function: what the pool holds ready.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use deno_core::{JsRuntime, v8};

use crate::buffers::Buffers;
use crate::clock::Clock;
use crate::entered::Isolate;
use crate::program::Loader;

/// Head room that V8 gets once a heap is full, so that one huge allocation ends the function and not the process: it
/// has to hold the largest single object until the next point where execution can be stopped.
const HEAD_ROOM: usize = 1_280 << 20;

/// An isolate that any function may claim.
pub(crate) struct Blank {
    pub(crate) boot: v8::Global<v8::Function>,
    pub(crate) dispatch: v8::Global<v8::Function>,
    pub(crate) release: v8::Global<v8::Function>,
    pub(crate) clock: Clock,
    pub(crate) loader: Rc<Loader>,
    /// Set when the heap was full; the isolate is being ended then.
    pub(crate) heap_full: Arc<AtomicBool>,
    pub(crate) isolate: Isolate,
}

impl Blank {
    /// Must be called inside a current-thread tokio runtime, on the thread that will use it.
    pub(crate) fn new(heap_bytes: u64) -> Self {
        let loader = Rc::new(Loader::default());
        let heap = usize::try_from(heap_bytes).unwrap_or(usize::MAX);
        let buffers = Arc::new(Buffers::default());
        // What the runtime itself needs at the start is small; the claim sets the function's own limit.
        buffers.limit.store(64 << 20, Ordering::Relaxed);
        let mut isolate = Isolate::new(Rc::clone(&loader) as _, heap, buffers);
        let heap_full = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&heap_full);
        let ([boot, dispatch, release], clock) = isolate.with(|runtime| {
            let handle = runtime.v8_isolate().thread_safe_handle();
            runtime.add_near_heap_limit_callback(move |current, _initial| {
                // The watchdog repeats this until execution has ended.
                handle.terminate_execution();
                if flag.swap(true, Ordering::Relaxed) { current } else { current + HEAD_ROOM }
            });
            take_functions(runtime)
        });
        Self { boot, dispatch, release, clock, loader, heap_full, isolate }
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
