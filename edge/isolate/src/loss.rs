//! A worker that is lost: its thread is inside V8 and will not come out in time, or must not come out at all.
//!
//! V8 ends the whole process when it meets what it cannot answer with an exception: a heap that is full in spite of its
//! head room, an array of a size that no array can have. All of these ends go through handlers that are called on the
//! thread that was running JavaScript. Here they never return: the thread sleeps for ever where it stands, with its
//! isolates, and whoever started it puts another in its place. Nothing else in the process waits for it: an isolate is
//! its thread's own, collects its garbage there (`--single-threaded-gc`), and V8 reports these errors before it takes one
//! of the few locks that isolates share. The price is the memory that the thread holds, so a process bears only some.

#![expect(unsafe_code, reason = "handlers that V8 calls are unsafe functions, and one is known by its symbol alone")]

use std::cell::RefCell;
use std::ffi::{CStr, c_char};
use std::fmt;
use std::sync::{Arc, Once, Weak};

use deno_core::v8;
use serde::{Deserialize, Serialize};

use crate::program::Program;
use crate::slot::Slot;

/// A worker is lost: nothing runs on its thread any more, or not before the thread has been given up.
#[derive(Clone, Debug)]
pub struct Loss {
    /// What it ran; `None` when V8 failed between two stretches of JavaScript.
    pub program: Option<Arc<Program>>,
    /// Why.
    pub cause: Cause,
}

/// Why a worker is lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// It was told to end and did not: it is in a native call of V8, which nothing can interrupt. The thread may come back.
    Stuck,
    /// V8 asked for more memory than there can be. Its state is sound, the thread sleeps for ever.
    Exhausted(String),
    /// V8 found its own state impossible. What it shares among isolates may be damaged too.
    Broken(String),
    /// A panic in the platform's own code, called from JavaScript.
    Panicked(String),
}

impl Cause {
    /// Stable name: metric label.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Stuck => "stuck",
            Self::Exhausted(_) => "exhausted",
            Self::Broken(_) => "broken",
            Self::Panicked(_) => "panicked",
        }
    }

    /// Whether the whole process should be replaced: what its other threads run on cannot be trusted any more.
    pub const fn taints_process(&self) -> bool {
        matches!(self, Self::Broken(_))
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stuck => write!(
                f,
                "it was over a limit and could not be ended: a single call of a built-in function (a split, a sort, a \
                 normalize of something very large) went on for too long"
            ),
            Self::Exhausted(what) => write!(f, "it asked V8 for more memory than there can be ({what})"),
            Self::Broken(what) => write!(f, "it broke V8 ({what})"),
            Self::Panicked(what) => write!(f, "the platform failed under it ({what})"),
        }
    }
}

/// Who is told of losses. Called on the thread that is lost, or on the watchdog's: it must neither block nor panic.
pub(crate) type Tell = Arc<dyn Fn(Loss) + Send + Sync>;

thread_local! {
    /// The slots of this thread's workers, for handlers that V8 calls without saying for whom.
    static SLOTS: RefCell<Vec<Weak<Slot>>> = const { RefCell::new(Vec::new()) };
}

/// Makes the calling thread one that can be lost.
pub(crate) fn adopt(slot: &Arc<Slot>) {
    SLOTS.with_borrow_mut(|slots| {
        slots.retain(|slot| slot.strong_count() > 0);
        slots.push(Arc::downgrade(slot));
    });
}

/// The slot of what this thread runs, else of any of its workers; `None` on threads that belong to nobody who would hear.
fn own_slot(running: bool) -> Option<Arc<Slot>> {
    let slots = SLOTS.try_with(|slots| Some(slots.try_borrow().ok()?.iter().filter_map(Weak::upgrade).collect()));
    let slots: Vec<Arc<Slot>> = slots.ok()??;
    let slots = slots.into_iter().filter(|slot| slot.is_told());
    slots.filter(|slot| !running || slot.is_running()).max_by_key(|slot| slot.is_running())
}

/// Gives up the calling thread if it is a worker's; then this never returns. Else the caller goes on to its own end.
fn lose(cause: Cause) {
    if let Some(slot) = own_slot(false) {
        slot.lose(cause);
        sleep_for_ever();
    }
}

fn sleep_for_ever() -> ! {
    loop {
        std::thread::park();
    }
}

/// Puts the handlers in place, once per process. V8 must be running.
pub(crate) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        v8::V8::set_fatal_error_handler(|_file: &str, _line: i32, message: &str| {
            lose(Cause::Broken(message.to_owned()));
        });
        // SAFETY: the symbol is that of `v8::base::SetPrintStackTrace(void (*)())` in the static library that this crate's
        // exact version of v8 brings, it is called while no isolate exists, and the function given lives for ever.
        unsafe { set_print_stack_trace(gave_up) };
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            before(panic);
            // Below this lie V8's frames, through which no panic can pass: it would end the process.
            if let Some(slot) = own_slot(true) {
                slot.lose(Cause::Panicked(panic.to_string()));
                sleep_for_ever();
            }
        }));
    });
}

unsafe extern "C" {
    /// What V8 calls to print a stack trace, after it has said what is wrong and before it aborts. Errors of V8 "without
    /// security impact" (an impossible array size, no memory for a compiler) ask no other handler.
    #[link_name = "_ZN2v84base18SetPrintStackTraceEPFvvE"]
    fn set_print_stack_trace(print: extern "C" fn());
}

extern "C" fn gave_up() {
    lose(Cause::Exhausted("an impossible size; V8's own words are on standard error".to_owned()));
}

/// Has `isolate` report a full heap here.
pub(crate) fn watch_memory(isolate: &mut v8::Isolate) {
    isolate.set_oom_error_handler(out_of_memory);
}

/// # Safety
/// Called by V8 only, with text that lives for the length of the call.
unsafe extern "C" fn out_of_memory(location: *const c_char, _details: &v8::OomDetails) {
    let location = if location.is_null() {
        "out of memory".into()
    } else {
        // SAFETY: not null, and V8 passes a literal of its own.
        unsafe { CStr::from_ptr(location) }.to_string_lossy()
    };
    lose(Cause::Exhausted(location.into_owned()));
}
