//! How soon a thread gets its turn when others want the processor.

#![expect(unsafe_code, reason = "no safe crate asks for the length of a turn")]

/// Turns of a worker, in nanoseconds: the shortest that the scheduler takes.
const TURN_NANOS: u64 = 100_000;
/// How much nicer than workers is what comes after them.
const BEHIND: i32 = 5;

/// Asks for short turns of the calling thread, and so for early ones: Linux lets a thread that wakes go before one that
/// asked for longer turns (EEVDF, since 6.12; `sched_setattr(2)`). A worker has something to do for some dozen microseconds
/// at a time, and the cells beside it for as long as they may. Older systems go on as they did.
pub fn ask_for_short_turns() {
    ask(TURN_NANOS, 0);
}

/// Lets the calling thread come after workers.
pub(crate) fn step_back() {
    ask(0, BEHIND);
}

#[cfg(target_os = "linux")]
fn ask(turn_nanos: u64, nicer: i32) {
    // SAFETY: all zeroes are the attributes of an ordinary thread that asks for nothing.
    let mut wanted: libc::sched_attr = unsafe { std::mem::zeroed() };
    wanted.size = u32::try_from(size_of::<libc::sched_attr>()).unwrap_or(0);
    // Threads and processes that are begun from here have turns of the usual length.
    wanted.sched_flags = libc::SCHED_FLAG_RESET_ON_FORK as u64;
    wanted.sched_runtime = turn_nanos;
    // SAFETY: a question about the calling thread, 0. What it was told to be, it stays.
    wanted.sched_nice = (unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) } + nicer).min(19);
    // SAFETY: the kernel reads `size` bytes of it, and leaves the thread as it is when it refuses.
    unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const wanted, 0) };
}

/// Other systems have their own ways.
#[cfg(not(target_os = "linux"))]
fn ask(_turn_nanos: u64, _nicer: i32) {}
