//! How soon a thread gets its turn when others want the processor.

#![expect(unsafe_code, reason = "no safe crate asks for the length of a turn")]

/// Turns of a worker, in nanoseconds: the shortest that the scheduler takes.
const TURN_NANOS: u64 = 100_000;

/// Asks for short turns of the calling thread, and so for early ones: Linux lets a thread that wakes go before one that
/// asked for longer turns (EEVDF, since 6.12; `sched_setattr(2)`). A worker has something to do for some dozen microseconds
/// at a time, and the cells beside it for as long as they may. Older systems go on as they did.
#[cfg(target_os = "linux")]
pub fn ask_for_short_turns() {
    // SAFETY: all zeroes are the attributes of an ordinary thread that asks for nothing.
    let mut wanted: libc::sched_attr = unsafe { std::mem::zeroed() };
    wanted.size = u32::try_from(size_of::<libc::sched_attr>()).unwrap_or(0);
    wanted.sched_runtime = TURN_NANOS;
    // SAFETY: a question about the calling thread, 0. What it was told to be, it stays.
    wanted.sched_nice = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
    // SAFETY: the kernel reads `size` bytes of it, and leaves the thread as it is when it refuses.
    unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const wanted, 0) };
}

/// Asks for nothing: other systems have their own ways.
#[cfg(not(target_os = "linux"))]
pub fn ask_for_short_turns() {}
