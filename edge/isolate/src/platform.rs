//! V8 itself: initialised once per process, before any thread that runs JavaScript exists.

use std::sync::OnceLock;

use deno_core::{JsRuntime, v8};

use crate::limits::Limit;
use crate::snapshot::Snapshot;

/// Bytes of a page of WebAssembly memory.
const WASM_PAGE: u64 = 64 << 10;

/// What this process starts isolates from.
static SNAPSHOT: OnceLock<Snapshot> = OnceLock::new();

/// The startup snapshot of this process.
pub(crate) fn snapshot() -> &'static Snapshot {
    SNAPSHOT.get_or_init(Snapshot::built_in)
}

/// Proof that V8 runs in this process. Workers are made from it.
#[derive(Clone, Copy, Debug)]
pub struct Platform(());

impl Platform {
    /// Starts V8. Call it on the main thread before starting others: with memory protection keys, only threads that
    /// descend from the initialising one may run JavaScript. A second call changes nothing.
    pub fn start() -> Self {
        Self::start_from(Snapshot::built_in())
    }

    /// As [`Platform::start`], with this startup snapshot for all isolates.
    pub fn start_from(snapshot: Snapshot) -> Self {
        let _ = SNAPSHOT.set(snapshot);
        stand_nowhere();
        // Garbage collection runs on the thread of the function that made the garbage, so that its time is charged to
        // it. V8 has one bound for a WebAssembly memory and one for the stack in a process, which the table of limits names.
        // Turboshaft's loop unrolling also removes the interrupt checks of loops that it takes for short, and in V8 15.0
        // it takes `for (;;) new Array(1000).fill(7)` for one: that loop could never be ended. Hence without it.
        v8::V8::set_flags_from_string(&format!(
            "--single-threaded-gc --no-memory-reducer --wasm-max-mem-pages={} --stack-size={} \
             --enable-sharedarraybuffer-per-context --no-turboshaft-loop-unrolling",
            Limit::Wasm.row().max / WASM_PAGE,
            Limit::Stack.row().max >> 10,
        ));
        // A WebAssembly module is validated in one native call that nothing interrupts; this bounds it. It is as much as a
        // bundle can hold.
        v8::V8::set_flags_from_string("--wasm-max-module-size=8388608");
        JsRuntime::init_platform(None);
        crate::loss::install();
        Self(())
    }
}

/// Stack of a thread that runs functions, in bytes: JavaScript may use about 1 MiB of it; what calls it, and what it calls,
/// needs room beyond.
pub const STACK_BYTES: usize = 8 << 20;

/// Functions live in UTC, as on Workers: they neither learn where this machine stands nor behave otherwise than on the next.
#[expect(unsafe_code, reason = "ICU takes the time zone from the environment and from nowhere else")]
fn stand_nowhere() {
    // SAFETY: this is called before there is another thread ([`Platform::start`]), and whoever asks for a variable in Rust waits.
    unsafe { std::env::set_var("TZ", "UTC") };
}
