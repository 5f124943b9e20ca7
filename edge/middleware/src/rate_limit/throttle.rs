//! Pacing of one activity.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

/// Lets one activity happen at an even pace, with a burst: log lines of one function, say.
///
/// Built on governor's GCRA. Unlike a [`Limiter`](super::Limiter) it has no keys and may allow the burst again right
/// across a window's border; it is for protecting what is behind it, not for a promise to a client.
#[derive(Debug)]
pub struct Throttle {
    clock: GivenClock,
    limiter: RateLimiter<NotKeyed, InMemoryState, GivenClock, NoOpMiddleware<Duration>>,
}

/// A clock that shows the newest time it was given, in milliseconds.
#[derive(Clone, Debug, Default)]
struct GivenClock(Arc<AtomicU64>);

impl Throttle {
    /// Allows `burst` at once, then one each `interval` (at least a millisecond).
    pub fn new(interval: Duration, burst: NonZeroU32) -> Self {
        let interval = interval.max(Duration::from_millis(1));
        // The period is not zero, so the quota always exists; one a second would be a safe pace if it did not.
        let quota = Quota::with_period(interval).unwrap_or(Quota::per_second(NonZeroU32::MIN)).allow_burst(burst);
        let clock = GivenClock::default();
        Self { limiter: RateLimiter::direct_with_clock(quota, clock.clone()), clock }
    }

    /// Whether it may happen now, and if so counts it. `now` is in milliseconds of one clock; an older reading than one
    /// already given counts as that newer one.
    pub fn check(&self, now: u64) -> bool {
        self.clock.0.fetch_max(now, Ordering::Relaxed);
        self.limiter.check().is_ok()
    }
}

impl Clock for GivenClock {
    type Instant = Duration;

    fn now(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }
}
