//! How many requests may be tried again, so that trying again never becomes the load (Finagle's `RetryBudget`).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Moment;
use crate::invalid::Check;

/// A deposit lives in one of so many parts of its time.
const SLICES: usize = 10;

/// How much may be tried again. The defaults are Finagle's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retries {
    /// Requests count so long.
    #[serde(with = "crate::span")]
    pub window: Duration,
    /// So many in a second in any case, for whoever has few requests.
    pub least_per_second: u32,
    /// The part of the requests that may be tried again besides.
    pub part: f64,
}

impl Default for Retries {
    fn default() -> Self {
        Self { window: Duration::from_secs(10), least_per_second: 10, part: 0.2 }
    }
}

impl Retries {
    pub(super) fn check(&self, check: &mut Check) {
        check.span("window", self.window, Duration::from_secs(1)..=Duration::from_secs(60));
        check.within("part", self.part, 0.0..=1000.0);
    }
}

/// What is left. In thousandths of a try, so that parts add up exactly.
#[derive(Clone, Debug, Default)]
pub struct Budget {
    /// The newest slice, counted from the epoch.
    newest: u64,
    slices: [i64; SLICES],
}

impl Budget {
    /// A request was sent for the first time.
    pub fn deposit(&mut self, config: &Retries, now: Moment) {
        // The cast saturates.
        self.add(config, now, (config.part * 1000.0).round() as i64);
    }

    /// Whether one may be tried again; it then counts as tried.
    pub fn withdraw(&mut self, config: &Retries, now: Moment) -> bool {
        let may = self.balance(config, now) >= 1;
        if may {
            self.add(config, now, -1000);
        }
        may
    }

    /// How many may be tried again now.
    pub fn balance(&mut self, config: &Retries, now: Moment) -> u64 {
        self.add(config, now, 0);
        let reserve =
            i64::from(config.least_per_second).saturating_mul(config.window.as_secs() as i64).saturating_mul(1000);
        let left = self.slices.iter().fold(reserve, |sum, slice| sum.saturating_add(*slice));
        u64::try_from(left / 1000).unwrap_or(0)
    }

    fn add(&mut self, config: &Retries, now: Moment, amount: i64) {
        let slice = (config.window.as_nanos() / SLICES as u128).max(1);
        let number = u64::try_from(now.elapsed().as_nanos() / slice).unwrap_or(u64::MAX);
        // A clock that went back goes on in the newest slice.
        for passed in 1..=number.saturating_sub(self.newest).min(SLICES as u64) {
            self.slices[(self.newest.wrapping_add(passed) % SLICES as u64) as usize] = 0;
        }
        if number > self.newest {
            // After a long while all are empty, whichever is the newest.
            if number - self.newest > SLICES as u64 {
                self.slices = [0; SLICES];
            }
            self.newest = number;
        }
        let newest = &mut self.slices[(self.newest % SLICES as u64) as usize];
        *newest = newest.saturating_add(amount);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn config(seconds: u64, least_per_second: u32, part: f64) -> Retries {
        Retries { window: Duration::from_secs(seconds), least_per_second, part }
    }

    #[test]
    fn a_part_of_the_requests_and_a_least_number_may_be_tried_again() {
        // RetryBudgetTest, testBudget: ten thousand requests at one moment, each of which wants to be tried again.
        let cases = [
            (60, 0, 0.1),
            (60, 0, 0.5),
            (60, 0, 0.25),
            (60, 0, 0.75),
            (60, 0, 0.99),
            (60, 0, 0.999),
            (60, 0, 0.01),
            (60, 0, 0.001),
            (1, 10, 0.0),
            (2, 5, 0.0),
            (1, 10, 0.1),
            (2, 5, 0.5),
        ];
        for (seconds, least, part) in cases {
            let (config, mut budget) = (config(seconds, least, part), Budget::default());
            let now = Moment::from_secs(1000);
            let reserve = seconds * u64::from(least);
            assert_eq!(budget.balance(&config, now), reserve);
            let tried = (0..10_000)
                .filter(|_| {
                    budget.deposit(&config, now);
                    budget.withdraw(&config, now)
                })
                .count() as u64;
            assert!(tried.abs_diff((10_000.0 * part) as u64 + reserve) <= 1, "{part}: {tried}");
        }
        // "maxPercentOver greater than 1.0".
        let (config, mut budget) = (config(60, 0, 2.0), Budget::default());
        (0..10_000).for_each(|_| budget.deposit(&config, Moment::EPOCH));
        assert_eq!(budget.balance(&config, Moment::EPOCH), 20_000);
    }

    #[test]
    fn deposits_expire() {
        let (config, mut budget) = (config(10, 0, 1.0), Budget::default());
        budget.deposit(&config, Moment::from_secs(100));
        assert_eq!(budget.balance(&config, Moment::from_secs(109)), 1);
        assert_eq!(budget.balance(&config, Moment::from_secs(110)), 0);
        budget.deposit(&config, Moment::from_secs(200));
        assert!(budget.withdraw(&config, Moment::from_secs(50)), "a clock that went back loses nothing");
        assert!(!budget.withdraw(&config, Moment::from_secs(300)));
    }

    proptest! {
        #[test]
        fn within_a_window_no_more_is_tried_again_than_the_part_and_the_least(
            part in 0.0..1.0_f64, least in 0_u32..5, steps in prop::collection::vec((0_u64..300, any::<bool>()), 1..400),
        ) {
            let (config, mut budget) = (config(10, least, part), Budget::default());
            let (mut now, mut sent, mut tried) = (Duration::from_secs(1000), Vec::new(), Vec::new());
            for (wait, retry) in steps {
                now += Duration::from_millis(wait);
                let moment = Moment::after_epoch(now);
                if retry {
                    if budget.withdraw(&config, moment) { tried.push(now); }
                } else {
                    budget.deposit(&config, moment);
                    sent.push(now);
                }
                // Tries of one window are paid by its reserve and by requests of it and of the one before.
                let within = |list: &[Duration], seconds| list.iter().filter(|at| now - **at < Duration::from_secs(seconds)).count() as f64;
                prop_assert!(within(&tried, 9) <= within(&sent, 20) * (part + 0.0005) + f64::from(10 * least));
            }
        }
    }
}
