//! The one place with `unsafe`: entering and leaving isolates, handing them over, and counting their buffers.
//!
//! V8 keeps the current isolate in a thread-local. An isolate touched while another is current corrupts both heaps,
//! silently. So an [`Isolate`] is left as soon as it is made, entered for exactly the length of [`Isolate::with`], which
//! cannot span an `.await`, and entered once more to be dropped. It changes thread at most once, before it has a function:
//! [`InTransit`].

#![expect(unsafe_code, reason = "this module is where the discipline of entering isolates is kept")]

use std::ffi::c_void;
use std::mem::ManuallyDrop;
use std::rc::Rc;
use std::sync::Arc;

use deno_core::{JsRuntime, ModuleLoader, RuntimeOptions, v8};

use crate::allowed::Stage;
use crate::blank::Blank;
use crate::buffers::{Buffers, External};
use crate::extension::extensions;
use crate::loss::watch_memory;
use crate::platform::snapshot;

/// A JavaScript heap with its event loop. Neither `Send` nor `Sync`.
pub(crate) struct Isolate {
    runtime: ManuallyDrop<JsRuntime>,
    pub(crate) buffers: Arc<Buffers>,
}

impl Isolate {
    /// A new isolate from the startup snapshot. Must be called inside a current-thread tokio runtime.
    pub(crate) fn new(loader: Rc<dyn ModuleLoader>, heap_bytes: usize, buffers: Arc<Buffers>) -> Self {
        let params = v8::CreateParams::default()
            .heap_limits(0, heap_bytes)
            .array_buffer_allocator(allocator(Arc::clone(&buffers)));
        let mut runtime = JsRuntime::new(RuntimeOptions {
            startup_snapshot: Some(snapshot().bytes),
            skip_op_registration: true,
            module_loader: Some(loader),
            extensions: extensions(Stage::Run),
            create_params: Some(params),
            ..RuntimeOptions::default()
        });
        // A worker's thread must never sleep inside JavaScript: no time on a processor passes there, so no limit ends it.
        runtime.v8_isolate().set_allow_atomics_wait(false);
        runtime.v8_isolate().set_prepare_stack_trace_callback(crate::stack::prepare);
        watch_memory(runtime.v8_isolate());
        // SAFETY: construction left this isolate entered once on this thread; this balances it.
        unsafe { runtime.v8_isolate().exit() };
        Self { runtime: ManuallyDrop::new(runtime), buffers }
    }

    /// Runs `body` with this isolate current.
    pub(crate) fn with<R>(&mut self, body: impl FnOnce(&mut JsRuntime) -> R) -> R {
        /// Leaves on every way out, a panic included.
        struct Leave<'a>(&'a mut JsRuntime);
        impl Drop for Leave<'_> {
            fn drop(&mut self) {
                // SAFETY: balances the `enter` below, on the same thread, and is reached exactly once per entry.
                unsafe { self.0.v8_isolate().exit() };
            }
        }
        // SAFETY: the isolate is alive and belongs to this thread (the type is not `Send`). Entries nest properly:
        // V8 keeps the previous isolate on this entry's stack and restores it on exit.
        unsafe { self.runtime.v8_isolate().enter() };
        let entered = Leave(&mut self.runtime);
        body(entered.0)
    }
}

impl Drop for Isolate {
    fn drop(&mut self) {
        // SAFETY: dropping a runtime needs its isolate current, and itself leaves it: entering here is what that
        // leaving balances. The field is not touched again.
        unsafe {
            self.runtime.v8_isolate().enter();
            ManuallyDrop::drop(&mut self.runtime);
        }
    }
}

/// A blank isolate on its way from the thread that made it to the one that will use it.
pub(crate) struct InTransit(Blank);

// SAFETY: no thread is in it, and it is whole: whatever in it is counted without atomics (its runtime's state, its loader) is
// referred to from inside only, and moves with it. deno_core has spawned nothing for it before its first op. What the
// platform keeps of it (its queue of tasks) is made for several threads.
unsafe impl Send for InTransit {}

impl InTransit {
    /// V8 is reached by the name that its function has under the C++ ABI of these systems.
    pub(crate) const IS_POSSIBLE: bool = cfg!(unix);

    /// From the thread that has made it.
    pub(crate) fn new(blank: Blank) -> Self {
        Self(blank)
    }

    /// The isolate is the calling thread's from now on.
    pub(crate) fn arrive(self) -> Blank {
        let mut blank = self.0;
        blank.isolate.settle();
        blank
    }
}

impl Isolate {
    /// Takes V8's lock of this isolate, which has V8 believe that the calling thread runs it (`v8-locker.h`): limits of the stack
    /// and whatever else belongs to a thread are the calling one's then. The lock is never given back: it is a part of the
    /// isolate, and goes with it.
    fn settle(&mut self) {
        #[cfg(unix)]
        {
            unsafe extern "C" {
                /// `v8::Locker::Initialize(v8::Isolate*)`, for which rusty_v8 has no binding in this version.
                #[link_name = "_ZN2v86Locker10InitializeEPNS_7IsolateE"]
                fn initialize(locker: *mut [usize; 2], isolate: v8::UnsafeRawIsolatePtr);
            }
            // Two flags and the isolate. Only its destructor, which is not called, would look at it again.
            let mut locker = [0; 2];
            // SAFETY: the isolate is alive, and no thread is in it or has its lock; `locker` is as large as V8's.
            unsafe { initialize(&raw mut locker, self.runtime.v8_isolate().as_raw_isolate_ptr()) };
        }
    }
}

/// Gives memory that isolates have left back to the system: the pages that V8 pools among all isolates, which it lets go
/// when one of them is told that memory is short, and what the allocator holds.
pub(crate) fn give_back(any: &mut Isolate) {
    any.with(|runtime| runtime.v8_isolate().memory_pressure_notification(v8::MemoryPressureLevel::Critical));
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: `malloc_trim` may be called at any time, by any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}

fn allocator(buffers: Arc<Buffers>) -> v8::UniqueRef<v8::Allocator> {
    const VTABLE: &v8::RustAllocatorVtable<Buffers> = &v8::RustAllocatorVtable {
        allocate: allocate_zeroed,
        allocate_uninitialized: allocate_zeroed,
        free,
        drop: drop_counter,
    };
    // SAFETY: the functions of the vtable agree on `Buffers` as their handle, and `drop_counter` gives back the count
    // of the `Arc` taken here.
    unsafe { v8::new_rust_allocator(Arc::into_raw(buffers), VTABLE) }
}

const ALIGNMENT: usize = 16;

fn layout(length: usize) -> Option<std::alloc::Layout> {
    std::alloc::Layout::from_size_align(length.max(1), ALIGNMENT).ok()
}

/// Zeroed memory, or null over the limit: V8 then collects garbage, tries once more, and throws a `RangeError`.
///
/// # Safety
/// Called by V8 only, with the handle given at creation.
unsafe extern "C" fn allocate_zeroed(buffers: &Buffers, length: usize) -> *mut c_void {
    if !buffers.reserve(length) {
        return std::ptr::null_mut();
    }
    let data = match layout(length) {
        // SAFETY: the layout has a size above zero.
        Some(layout) => unsafe { std::alloc::alloc_zeroed(layout) },
        None => std::ptr::null_mut(),
    };
    if data.is_null() {
        buffers.release(length);
    }
    data.cast()
}

/// # Safety
/// Called by V8 only, with memory that [`allocate_zeroed`] gave for the same length.
unsafe extern "C" fn free(buffers: &Buffers, data: *mut c_void, length: usize) {
    buffers.release(length);
    if let Some(layout) = layout(length) {
        // SAFETY: `data` came from `alloc_zeroed` with this very layout.
        unsafe { std::alloc::dealloc(data.cast(), layout) };
    }
}

/// # Safety
/// Called by V8 once, when the allocator goes.
unsafe extern "C" fn drop_counter(buffers: *const Buffers) {
    // SAFETY: the pointer came from `Arc::into_raw` in `allocator`.
    drop(unsafe { Arc::from_raw(buffers) });
}

/// Has the thread that runs an isolate look at its memory at the next point where JavaScript can be interrupted.
pub(crate) fn look_at_memory(handle: &v8::IsolateHandle) {
    handle.request_interrupt(interrupted, std::ptr::null_mut());
}

/// # Safety
/// Called by V8 only, on the thread that runs `isolate`, while that is current.
unsafe extern "C" fn interrupted(isolate: v8::UnsafeRawIsolatePtr, _data: *mut c_void) {
    // SAFETY: V8 passes the isolate that it interrupts, which lives for the length of this call.
    let mut isolate = unsafe { v8::Isolate::from_raw_isolate_ptr(isolate) };
    let Some(external) = isolate.get_slot::<Arc<External>>().map(Arc::clone) else { return };
    // A collection has no place inside an interrupt; it is done after the segment, when something is to be decided.
    if external.is_far_over(&mut isolate) {
        isolate.terminate_execution();
    }
}
