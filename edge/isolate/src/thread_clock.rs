//! The time that a thread was on a processor, as another thread reads it.
//!
//! The system tells it in `/proc` as well, but a process behind the second wall has no file system to read that from.

#![expect(unsafe_code, reason = "no safe crate reads the processor clock of another thread")]

use std::time::Duration;

/// The processor clock of one thread of this process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ThreadClock(Option<libc::clockid_t>);

impl ThreadClock {
    /// That of the calling thread.
    pub(crate) fn own() -> Self {
        let mut clock = 0;
        // SAFETY: the calling thread exists, and `clock` is there to be written.
        let failed = unsafe { libc::pthread_getcpuclockid(libc::pthread_self(), &raw mut clock) };
        Self((failed == 0).then_some(clock))
    }

    /// What it shows; `None` once the thread has ended.
    pub(crate) fn now(self) -> Option<Duration> {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `time` is there to be written. The clock of a thread that has ended is refused by the system.
        let failed = unsafe { libc::clock_gettime(self.0?, &raw mut time) };
        let seconds = u64::try_from(time.tv_sec).ok()?;
        (failed == 0).then(|| Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_thread_reads_the_time_that_this_one_works_and_not_the_time_that_it_sleeps() {
        let clock = ThreadClock::own();
        let began = clock.now().unwrap();
        std::thread::sleep(Duration::from_millis(50));
        let slept = std::thread::spawn(move || clock.now().unwrap()).join().unwrap();
        assert!(slept - began < Duration::from_millis(25), "{:?}", slept - began);
        while clock.now().unwrap() < slept + Duration::from_millis(10) {}
        let worked = std::thread::spawn(move || clock.now().unwrap()).join().unwrap();
        assert!(worked >= slept + Duration::from_millis(10));
        let ended = std::thread::spawn(ThreadClock::own).join().unwrap();
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(ended.now(), None);
    }
}
