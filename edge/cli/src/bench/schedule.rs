//! When requests are due. The schedule is made before any answer is known, so a slow server cannot slow it down.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// How arrivals are spread over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Arrivals {
    /// One every `1/rate` seconds.
    Fixed,
    /// Independent clients: exponential gaps with the mean `1/rate`.
    Poisson,
}

/// The instants at which requests are due, as offsets from the start, in order.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    arrivals: Arrivals,
    rate: f64,
    duration: f64,
    sent: u64,
    at: f64,
    random: StdRng,
}

impl Schedule {
    /// `rate` requests a second (above 0) for `duration`; the same seed gives the same schedule.
    pub(crate) fn new(arrivals: Arrivals, rate: f64, duration: Duration, seed: u64) -> Self {
        let random = StdRng::seed_from_u64(seed);
        Self { arrivals, rate, duration: duration.as_secs_f64(), sent: 0, at: 0.0, random }
    }
}

impl Iterator for Schedule {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        // Fixed arrivals are computed from their number: adding up gaps would drift.
        let at = match self.arrivals {
            Arrivals::Fixed => self.sent as f64 / self.rate,
            Arrivals::Poisson => self.at,
        };
        if at >= self.duration {
            return None;
        }
        self.sent += 1;
        if self.arrivals == Arrivals::Poisson {
            let uniform: f64 = self.random.random();
            self.at -= (1.0 - uniform).ln() / self.rate;
        }
        Some(Duration::from_secs_f64(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_arrivals_are_evenly_spaced_and_end_with_the_duration() {
        let all: Vec<_> = Schedule::new(Arrivals::Fixed, 100.0, Duration::from_secs(2), 0).collect();
        assert_eq!(all.len(), 200);
        assert_eq!((all[0], all[150]), (Duration::ZERO, Duration::from_millis(1500)));
    }

    #[test]
    fn poisson_arrivals_have_the_rate_and_the_spread_of_independent_clients() {
        let all: Vec<_> = Schedule::new(Arrivals::Poisson, 1000.0, Duration::from_secs(20), 7).collect();
        assert!((19_000..21_000).contains(&all.len()), "{} arrivals, 20000 are expected", all.len());
        assert!(all.is_sorted());
        let gaps: Vec<f64> = all.windows(2).map(|w| (w[1] - w[0]).as_secs_f64() * 1000.0).collect();
        let long = gaps.iter().filter(|gap| **gap > 1.0).count() as f64 / gaps.len() as f64;
        assert!((long - (-1f64).exp()).abs() < 0.02, "{long} of the gaps are longer than the mean, 1/e is expected");
        let again: Vec<_> = Schedule::new(Arrivals::Poisson, 1000.0, Duration::from_secs(20), 7).collect();
        assert_eq!(all, again);
    }
}
