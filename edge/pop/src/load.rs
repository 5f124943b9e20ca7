//! How much is under way on a PoP, from a request's head to the last byte of its answer and of what runs after it: what
//! scaling goes by.
//!
//! Each worker keeps the sum over time of what it has under way, so that the mean over any window is exact, however seldom
//! somebody looks. A task beside the workers takes the means over the windows that Knative's autoscaler has.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use capacity::Moment;
use capacity::scale::concurrency::Recent;
use serde::Serialize;

use crate::state::State;

/// The windows of the means: of calm, and of panic.
pub(crate) const WINDOWS: [Duration; 2] = [Duration::from_secs(60), Duration::from_secs(6)];

/// What one PoP has under way.
pub(crate) struct Load {
    workers: Box<[Share]>,
    means: Mutex<[Recent; 2]>,
}

/// Of one worker, which alone writes it.
#[derive(Default)]
#[repr(align(128))]
struct Share {
    now: AtomicU64,
    /// When that changed last, in microseconds since the start.
    since: AtomicU64,
    /// Request-microseconds until then.
    sum: AtomicU64,
}

impl Load {
    pub(crate) fn new(workers: usize) -> Self {
        Self { workers: (0..workers).map(|_| Share::default()).collect(), means: Mutex::new(WINDOWS.map(Recent::new)) }
    }

    /// A request comes to a worker.
    pub(crate) fn enter(&self, worker: usize, micros: u64) {
        self.workers[worker].change(micros, |now| now + 1);
    }

    /// It is over.
    pub(crate) fn leave(&self, worker: usize, micros: u64) {
        self.workers[worker].change(micros, |now| now.saturating_sub(1));
    }

    /// A worker begins, perhaps in the place of one that was lost with what it had under way. Should that come back, what it
    /// ends counts for the new one, which is too little for as long as that has something under way.
    pub(crate) fn begin(&self, worker: usize, micros: u64) {
        self.workers[worker].change(micros, |_| 0);
    }

    /// Requests under way.
    pub(crate) fn now(&self) -> u64 {
        self.workers.iter().map(|share| share.now.load(Ordering::Relaxed)).sum()
    }

    /// Request-microseconds until this moment. Torn reads are off by what is under way in a moment.
    pub(crate) fn sum(&self, micros: u64) -> u64 {
        self.workers.iter().map(|share| share.until(micros)).sum()
    }

    /// The means over [`WINDOWS`]; nothing before the first second.
    pub(crate) fn means(&self, micros: u64) -> [Option<f64>; 2] {
        let now = moment(micros);
        let means = self.means.lock().unwrap_or_else(PoisonError::into_inner);
        [means[0].mean(now), means[1].mean(now)]
    }
}

impl Share {
    fn change(&self, micros: u64, change: impl FnOnce(u64) -> u64) {
        self.sum.store(self.until(micros), Ordering::Relaxed);
        self.since.store(micros, Ordering::Relaxed);
        self.now.store(change(self.now.load(Ordering::Relaxed)), Ordering::Relaxed);
    }

    fn until(&self, micros: u64) -> u64 {
        let passed = micros.saturating_sub(self.since.load(Ordering::Relaxed));
        self.sum.load(Ordering::Relaxed).saturating_add(passed.saturating_mul(self.now.load(Ordering::Relaxed)))
    }
}

fn moment(micros: u64) -> Moment {
    Moment::after_epoch(Duration::from_micros(micros))
}

/// Takes the means, each second, for ever.
pub(crate) async fn follow(state: Arc<State>) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut at, mut sum) = (state.micros(), state.load.sum(state.micros()));
    loop {
        ticks.tick().await;
        let now = state.micros();
        let (passed, until) = (now.saturating_sub(at), state.load.sum(now));
        if passed == 0 {
            continue;
        }
        let mean = until.saturating_sub(sum) as f64 / passed as f64;
        (at, sum) = (now, until);
        let mut means = state.load.means.lock().unwrap_or_else(PoisonError::into_inner);
        means.iter_mut().for_each(|recent| recent.record(moment(now), mean));
    }
}

/// What an autoscaler is told, as JSON: `skerry up`, and KEDA's `metrics-api` scaler by a `valueLocation` such as
/// `in_flight.stable`.
#[derive(Debug, Serialize)]
pub(crate) struct Report<'a> {
    pop: &'a str,
    /// Whether it takes requests.
    ready: bool,
    in_flight: InFlight,
    /// Seconds of processor time that the process has used.
    cpu_seconds: f64,
    /// Seconds since its start.
    uptime_seconds: f64,
}

/// Requests under way.
#[derive(Debug, Serialize)]
struct InFlight {
    now: u64,
    /// The mean of the last minute; `null` while nothing is measured, which is not the same as nothing under way.
    stable: Option<f64>,
    /// The mean of the last six seconds.
    panic: Option<f64>,
    /// Request-seconds since the start.
    sum_seconds: f64,
}

impl<'a> Report<'a> {
    pub(crate) fn new(state: &'a State, ready: bool, cpu: Duration) -> Self {
        let micros = state.micros();
        let [stable, panic] = state.load.means(micros);
        let sum_seconds = Duration::from_micros(state.load.sum(micros)).as_secs_f64();
        Self {
            pop: &state.name,
            ready,
            in_flight: InFlight { now: state.load.now(), stable, panic, sum_seconds },
            cpu_seconds: cpu.as_secs_f64(),
            uptime_seconds: Duration::from_micros(micros).as_secs_f64(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_over_time_is_exact_whenever_somebody_looks() {
        let load = Load::new(2);
        load.enter(0, 1_000);
        load.enter(1, 2_000);
        load.enter(1, 3_000);
        assert_eq!((load.now(), load.sum(3_000)), (3, 2_000 + 1_000));
        load.leave(1, 5_000);
        assert_eq!(load.sum(5_000), 4_000 + 1_000 + 4_000);
        load.leave(0, 6_000);
        load.leave(1, 6_000);
        assert_eq!((load.now(), load.sum(9_000)), (0, 5_000 + 1_000 + 4_000 + 1_000));
    }
}
