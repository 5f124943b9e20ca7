//! How many invocations a PoP takes at once, learnt from how long they take.
//!
//! The algorithm is Netflix's `Gradient2Limit` (concurrency-limits): a long mean of the latency stands for the usual one,
//! the newest sample for the present one. While they agree, the limit grows by the queue that is allowed; when the present
//! one is longer, the limit shrinks in proportion, to the half at most.
//!
//! Alone it drifts: under a load that stays, the long latency becomes the usual one and the limit grows for ever. So the
//! usual latency counts for no more than [`Gradient::tolerance`] times the best one, which is known as in Envoy's adaptive
//! concurrency filter: it is measured anew when the limit has become so small that the latency cannot be due to it.

use serde::{Deserialize, Serialize};

use crate::invalid::Check;

/// How the limit moves. The defaults are the original's, but for bounds that fit one worker.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gradient {
    /// At first.
    pub initial: u32,
    /// Never less.
    pub min: u32,
    /// Never more.
    pub max: u32,
    /// How far each sample moves the limit towards what it asks for: 0 to 1.
    pub smoothing: f64,
    /// So many may queue while latency is as usual.
    pub queue: f64,
    /// How many samples the usual latency is a mean of.
    pub window: u32,
    /// So many times the best latency may become usual.
    pub tolerance: f64,
}

impl Default for Gradient {
    fn default() -> Self {
        Self { initial: 20, min: 4, max: 1000, smoothing: 0.2, queue: 4.0, window: 600, tolerance: 2.0 }
    }
}

impl Gradient {
    pub(super) fn check(&self, check: &mut Check) {
        check.that(self.min >= 1, "min", "must be at least 1, but it is 0");
        check.that(
            self.min <= self.initial && self.initial <= self.max,
            "initial",
            format!("must be from `min` ({}) to `max` ({}), but it is {}", self.min, self.max, self.initial),
        );
        check.within("smoothing", self.smoothing, 0.01..=1.0);
        check.within("queue", self.queue, 0.0..=1000.0);
        check.that(self.window >= 10, "window", format!("must be at least 10, but it is {}", self.window));
        check.within("tolerance", self.tolerance, 1.0..=100.0);
    }
}

/// The limit as it is now.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    limit: f64,
    usual: Mean,
    best: Best,
}

impl Limit {
    /// As it is at first.
    pub fn new(config: &Gradient) -> Self {
        Self { limit: f64::from(config.initial), usual: Mean::default(), best: Best::default() }
    }

    /// So many invocations at once.
    pub fn get(&self) -> u32 {
        // The cast saturates.
        self.limit as u32
    }

    /// An invocation (or a window of them, with their mean) took so many seconds, with so many at once. What is no number
    /// above 0 is left out.
    pub fn sample(&mut self, config: &Gradient, seconds: f64, in_flight: u32) {
        if !(seconds.is_finite() && seconds > 0.0) {
            return;
        }
        let usual = self.usual.add(seconds, config.window);
        // After a long load the usual latency is too long: it comes back sooner than by its mean alone.
        if usual / seconds > 2.0 {
            self.usual.value *= 0.9;
        }
        // The fixed point of halving: below, a limit does not go by itself.
        let low = self.limit <= f64::from(config.min).max(2.0 * config.queue + 1.0);
        self.best.add(seconds, low);
        // With so little to do, latency says nothing about the limit.
        if f64::from(in_flight) < self.limit / 2.0 {
            return;
        }
        let usual = usual.min(self.best.value.unwrap_or(usual) * config.tolerance);
        let gradient = (usual / seconds).clamp(0.5, 1.0);
        let asked = self.limit * gradient + config.queue;
        let smooth = self.limit * (1.0 - config.smoothing) + asked * config.smoothing;
        self.limit = smooth.clamp(f64::from(config.min), f64::from(config.max));
    }
}

/// The best latency: the least mean of a hundred samples.
#[derive(Clone, Copy, Debug, Default)]
struct Best {
    value: Option<f64>,
    sum: f64,
    count: u32,
    /// Hundreds in a row at a low limit.
    low: u32,
}

impl Best {
    fn add(&mut self, seconds: f64, low: bool) {
        self.sum += seconds;
        self.count += 1;
        if self.count < 100 {
            return;
        }
        let mean = self.sum / 100.0;
        self.low = if low { self.low + 1 } else { 0 };
        let anew = self.low >= 5;
        self.value = Some(if anew { mean } else { self.value.unwrap_or(mean).min(mean) });
        (self.sum, self.count) = (0.0, 0);
        if anew {
            self.low = 0;
        }
    }
}

/// A mean in which old samples weigh less and less (`ExpAvgMeasurement`); a plain one for the first ten.
#[derive(Clone, Copy, Debug, Default)]
struct Mean {
    value: f64,
    count: u32,
}

impl Mean {
    fn add(&mut self, sample: f64, window: u32) -> f64 {
        let part = if self.count < 10 {
            self.count += 1;
            1.0 / f64::from(self.count)
        } else {
            2.0 / (f64::from(window) + 1.0)
        };
        self.value += (sample - self.value) * part;
        self.value
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_mean_warms_up_and_then_follows_slowly() {
        // ExpAvgMeasurementTest.testWarmup.
        let mut mean = Mean::default();
        for (i, expected) in [10.0, 10.5, 11.0, 11.5, 12.0, 12.5, 13.0, 13.5, 14.0, 14.5].into_iter().enumerate() {
            assert!((mean.add(10.0 + i as f64, 100) - expected).abs() < 0.01);
        }
        assert!((mean.add(100.0, 100) - 16.2).abs() < 0.1);
    }

    #[test]
    fn usual_latency_lets_the_limit_grow_by_a_part_of_the_queue() {
        let config = Gradient::default();
        let mut limit = Limit::new(&config);
        limit.sample(&config, 0.01, 20);
        // 20 * 0.8 + (20 + 4) * 0.2.
        assert!((limit.limit - 20.8).abs() < 1e-9);
        limit.sample(&config, 0.01, 10);
        assert!((limit.limit - 20.8).abs() < 1e-9, "with less than half in flight it stays");
    }

    #[test]
    fn long_latency_shrinks_it_to_a_half_at_most_in_a_step() {
        let config = Gradient { smoothing: 1.0, ..Gradient::default() };
        let mut limit = Limit::new(&config);
        for _ in 0..1000 {
            limit.sample(&config, 0.01, 1);
        }
        limit.sample(&config, 10.0, 20);
        assert!((limit.limit - 14.0).abs() < 1e-9, "20 / 2 + 4");
    }

    /// So many at once take a time; more wait for one another.
    fn serve(limit: &mut Limit, servers: f64, seconds: f64, samples: u32) {
        for _ in 0..samples {
            limit.sample(&Gradient::default(), seconds * (limit.limit / servers).max(1.0), limit.get());
        }
    }

    #[test]
    fn it_finds_what_the_server_carries_and_does_not_drift() {
        let mut limit = Limit::new(&Gradient::default());
        serve(&mut limit, 16.0, 0.01, 20_000);
        let found = limit.get();
        assert!((16..=64).contains(&found), "{found}");
        serve(&mut limit, 16.0, 0.01, 100_000);
        assert_eq!(limit.get(), found);
    }

    #[test]
    fn a_function_that_became_slower_is_not_held_back_for_ever() {
        let mut limit = Limit::new(&Gradient::default());
        serve(&mut limit, 100.0, 0.01, 5000);
        assert!(limit.get() >= 100);
        serve(&mut limit, 100.0, 0.1, 20_000);
        assert!(limit.get() >= 100, "{}", limit.get());
    }

    proptest! {
        #[test]
        fn it_stays_within_its_bounds_whatever_comes(samples in prop::collection::vec((prop::num::f64::ANY, any::<u32>()), 1..200)) {
            let config = Gradient::default();
            let mut limit = Limit::new(&config);
            for (seconds, in_flight) in samples {
                limit.sample(&config, seconds, in_flight);
                prop_assert!((config.min..=config.max).contains(&limit.get()));
            }
        }

        #[test]
        fn longer_latency_never_gives_a_higher_limit(before in prop::collection::vec(0.001..1.0_f64, 1..50), short in 0.001..1.0_f64, more in 0.0..1.0_f64) {
            let config = Gradient::default();
            let after = |seconds| {
                let mut limit = Limit::new(&config);
                before.iter().for_each(|s| limit.sample(&config, *s, 1000));
                limit.sample(&config, seconds, 1000);
                limit.limit
            };
            prop_assert!(after(short) >= after(short + more) - 1e-9);
        }
    }
}
