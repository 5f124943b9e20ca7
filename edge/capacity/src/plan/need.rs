//! How many processors an hour needs: the fewest that keep the p99 at the busiest minute.

use super::{Demand, MAX_VCPUS, Objective, Stream, Work};
use crate::load::WEEK_HOURS;

/// Highest utilisation of a machine at the busiest minute, whatever the formula says: nothing is that regular.
pub(super) const MAX_UTILISATION: f64 = 0.8;
/// Error budget below which the loss of a machine must not matter.
pub(super) const SPARE_BELOW: f64 = 0.005;
/// Without a bound on the p99, a queue may delay a request by this much.
const DEFAULT_SLACK_MS: f64 = 1000.0;

/// What a stream needs in one hour.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct HourNeed {
    /// Processors.
    pub vcpus: u32,
    /// Part of the hour for which they are needed, 0 to 1.
    pub active: f64,
    /// Requests of the hour.
    pub requests: f64,
}

/// A stream's needs, hour by hour, when it is carried where `slack_ms` are left for its queue, on machines of `machine`
/// processors: one of them is spare where the error budget asks for it.
pub(super) fn week(stream: &Stream, slack_ms: Option<f64>, machine: u32) -> Vec<HourNeed> {
    match &stream.demand {
        Demand::Requests(week) => {
            let spare = if needs_spare(&stream.objective) { machine } else { 0 };
            let mut last = (f64::NAN, 0);
            week.hours()
                .iter()
                .map(|hour| {
                    if hour.peak.total_cmp(&last.0).is_ne() {
                        last = (hour.peak, vcpus(hour.peak, &stream.work, slack_ms));
                    }
                    let vcpus = if hour.peak > 0.0 { last.1.saturating_add(spare) } else { 0 };
                    HourNeed { vcpus, active: 1.0, requests: hour.mean * 3600.0 }
                })
                .collect()
        }
        Demand::Batch { cores, minutes, hour } => (0..WEEK_HOURS)
            .map(|index| {
                if index % 24 == usize::from(*hour) {
                    HourNeed { vcpus: *cores, active: minutes / 60.0, requests: f64::from(*cores) }
                } else {
                    HourNeed::default()
                }
            })
            .collect(),
    }
}

/// Whether a stream's error budget is too small for the loss of a machine.
pub(super) fn needs_spare(objective: &Objective) -> bool {
    objective.error_budget.is_some_and(|budget| budget < SPARE_BELOW)
}

/// The fewest processors with which 99 of 100 requests of a Poisson stream wait at most `slack_ms`, by Erlang's second
/// formula: P(wait > t) = C(c, a) e^{-(c - a) t / s}, for c processors, offered load a and service time s.
pub(super) fn vcpus(rate: f64, work: &Work, slack_ms: Option<f64>) -> u32 {
    let service = (work.cpu_ms / 1e3).max(1e-6);
    let offered = rate * service;
    if offered <= 0.0 {
        return 0;
    }
    if offered >= f64::from(MAX_VCPUS) {
        return MAX_VCPUS + 1;
    }
    let slack = slack_ms.unwrap_or(DEFAULT_SLACK_MS).max(0.0) / 1e3;
    // Erlang's first formula, by its stable recursion in the number of processors.
    let (mut count, mut blocked) = (0_u32, 1.0_f64);
    loop {
        count += 1;
        blocked = offered * blocked / (f64::from(count) + offered * blocked);
        let spare = f64::from(count) - offered;
        if offered > MAX_UTILISATION * f64::from(count) && count <= MAX_VCPUS {
            continue;
        }
        let waits = blocked / (1.0 - offered / f64::from(count) * (1.0 - blocked));
        if waits * (-spare * slack / service).exp() <= 0.01 || count > MAX_VCPUS {
            return count;
        }
    }
}

/// Memory for each processor of a stream, in GB: what the requests hold that it computes or that wait, when it is used as
/// much as it may be. It does not depend on the load.
pub(super) fn memory_gb_per_vcpu(stream: &Stream) -> f64 {
    let held = match &stream.demand {
        Demand::Requests(_) => MAX_UTILISATION * stream.work.wall_seconds() / (stream.work.cpu_ms / 1e3),
        Demand::Batch { .. } => 1.0,
    };
    held * stream.work.memory_mb / 1024.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WORK: Work =
        Work { cpu_ms: 10.0, wait_ms: 0.0, p99_ms: None, memory_mb: 32.0, request_bytes: 0.0, response_bytes: 0.0 };

    #[test]
    fn processors_follow_erlangs_formula() {
        // a = 8. For 10 processors C = 0.4092, P(wait > t) = 0.4092 e^{-200 t}: 1 % is reached at t = 18.6 ms.
        assert_eq!(vcpus(800.0, &WORK, Some(18.7)), 10);
        assert_eq!(vcpus(800.0, &WORK, Some(18.5)), 11);
        // However patient, no more than four fifths are used.
        assert_eq!(vcpus(800.0, &WORK, Some(1e9)), 10);
        assert_eq!(vcpus(0.0, &WORK, None), 0);
        assert_eq!(vcpus(1e-9, &WORK, Some(0.0)), 1);
        assert_eq!(vcpus(f64::MAX, &WORK, None), MAX_VCPUS + 1);
    }

    proptest! {
        #[test]
        fn more_load_or_less_patience_never_needs_fewer(rate in 0.0..5000.0f64, more in 0.0..500.0f64, slack in 0.0..200.0f64) {
            let some = vcpus(rate, &WORK, Some(slack));
            prop_assert!(vcpus(rate + more, &WORK, Some(slack)) >= some);
            prop_assert!(vcpus(rate, &WORK, Some(slack / 2.0)) >= some);
        }
    }
}
