//! What one metric asks for.

use std::time::Duration;

use serde::Serialize;

use super::Horizontal;
use crate::Moment;

/// One thing that is counted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Replica {
    /// How far it is.
    pub phase: Phase,
    /// When it was started, where that is known.
    pub started: Option<Moment>,
    /// Whether it answers, where that is known.
    pub readiness: Option<Readiness>,
    /// What it is meant to use, in the unit of the samples of [`Measured::Utilisation`].
    pub request: f64,
}

/// How far a replica is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It waits for a place.
    Pending,
    /// It runs.
    Running,
    /// It has ended, or it is about to: it counts for nothing.
    Gone,
}

/// Whether a replica answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// It does.
    pub ready: bool,
    /// Since when that is so.
    pub since: Moment,
}

/// A measurement of one replica.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// The mean over the window.
    pub value: f64,
    /// The window's end.
    pub at: Moment,
    /// The window.
    pub window: Duration,
}

/// A measurement and what it should be.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// What it is called in logs.
    pub name: String,
    /// What it should be, above 0.
    pub target: f64,
    /// What it is.
    pub measured: Measured,
}

/// What was measured. Samples stand in the order of the replicas; `None` is one that is missing.
#[derive(Clone, Debug, PartialEq)]
pub enum Measured {
    /// What the replicas use of what they are meant to, the target in percent (a resource metric).
    Utilisation {
        /// One for each replica.
        samples: Vec<Option<Sample>>,
        /// A start costs this resource (CPU does): replicas that have only begun are left out.
        start_costs: bool,
    },
    /// The mean over the replicas, against the target for each (a pods metric).
    Average(Vec<Option<Sample>>),
    /// One value, against the target for all together (an object or external metric with a value).
    Value(Option<f64>),
    /// One value, against the target times the replicas (an object or external metric with an average value).
    Share(Option<f64>),
}

/// What a metric asks for.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Proposal {
    /// Which.
    pub metric: String,
    /// So many replicas.
    pub replicas: u32,
    /// The measurement over the target, with all replicas that count.
    pub ratio: f64,
}

/// A metric that could not be read.
#[derive(Clone, Debug, PartialEq, Serialize, thiserror::Error)]
#[error("metric {metric}: {why}")]
pub struct Missing {
    /// Which.
    pub metric: String,
    /// Why not.
    pub why: &'static str,
}

/// The replicas by what their samples are worth.
#[derive(Default)]
struct Groups {
    /// With a sample that counts.
    ready: Vec<(f64, f64)>,
    /// Not ready: left out, but they are there to take load. The request of each.
    ignored: Vec<f64>,
    /// Running without a sample. The request of each.
    missing: Vec<f64>,
}

impl Horizontal {
    /// What one metric asks for.
    ///
    /// # Errors
    /// Nothing that counts was measured, or the target cannot be used.
    pub fn propose(
        &self,
        current: u32,
        replicas: &[Replica],
        metric: &Metric,
        now: Moment,
    ) -> Result<Proposal, Missing> {
        let missing = |why| Missing { metric: metric.name.clone(), why };
        if !(metric.target.is_finite() && metric.target > 0.0) {
            return Err(missing("its target is not a number above 0"));
        }
        let (replicas, ratio) = match &metric.measured {
            Measured::Utilisation { samples, start_costs } => {
                let groups = self.group(replicas, samples, *start_costs, now);
                if replicas.iter().any(|replica| replica.phase != Phase::Gone && !usable(replica.request)) {
                    return Err(missing("a replica has no request to compare with"));
                }
                // In whole percent, as the original has it.
                let ratio = |used: f64, requested: f64| (used * 100.0 / requested).trunc() / metric.target;
                self.ask_for_samples(current, &groups, ratio, None)
            }
            Measured::Average(samples) => {
                let groups = self.group(replicas, samples, false, now);
                let ratio = |used: f64, count: f64| used / count / metric.target;
                self.ask_for_samples(current, &groups, ratio, Some(metric.target))
            }
            Measured::Value(value) => Some(self.ask_for_value(
                current,
                replicas,
                checked(*value).ok_or_else(|| missing("no value"))? / metric.target,
            )),
            Measured::Share(value) => {
                Some(self.ask_for_share(current, checked(*value).ok_or_else(|| missing("no value"))?, metric.target))
            }
        }
        .ok_or_else(|| missing("no sample of a ready replica"))?;
        Ok(Proposal { metric: metric.name.clone(), replicas, ratio })
    }

    fn group(&self, replicas: &[Replica], samples: &[Option<Sample>], start_costs: bool, now: Moment) -> Groups {
        let mut groups = Groups::default();
        for (i, replica) in replicas.iter().enumerate() {
            let sample = samples.get(i).copied().flatten().filter(|sample| checked(Some(sample.value)).is_some());
            match (replica.phase, sample) {
                (Phase::Gone, _) => {}
                (Phase::Pending, _) => groups.ignored.push(replica.request),
                (Phase::Running, None) => groups.missing.push(replica.request),
                (Phase::Running, Some(sample)) if start_costs && self.starting(replica, sample, now) => {
                    groups.ignored.push(replica.request)
                }
                (Phase::Running, Some(sample)) => groups.ready.push((sample.value, replica.request)),
            }
        }
        groups
    }

    /// Whether a sample may show the start of a replica rather than its load.
    fn starting(&self, replica: &Replica, sample: Sample, now: Moment) -> bool {
        let (Some(started), Some(readiness)) = (replica.started, replica.readiness) else { return true };
        if started + self.initialisation > now {
            !readiness.ready || sample.at < readiness.since + sample.window
        } else {
            // Unready now, and it never was ready.
            !readiness.ready && started + self.initial_readiness > readiness.since
        }
    }

    /// A count from samples: what is missing or unready is taken to dampen the change, whichever its direction. `each` is
    /// what a missing replica is taken to use when the count falls, where that is not its request.
    fn ask_for_samples(
        &self,
        current: u32,
        groups: &Groups,
        ratio: impl Fn(f64, f64) -> f64,
        each: Option<f64>,
    ) -> Option<(u32, f64)> {
        if groups.ready.is_empty() {
            return None;
        }
        let weight = |request: f64| if each.is_some() { 1.0 } else { request };
        let mut used: f64 = groups.ready.iter().map(|(value, _)| value).sum();
        let mut base: f64 = groups.ready.iter().map(|(_, request)| weight(*request)).sum();
        let first = ratio(used, base);
        let rebalance = !groups.ignored.is_empty() && first > 1.0;
        if groups.missing.is_empty() && !rebalance {
            let replicas = if self.near(first) { current } else { ceil(first * groups.ready.len() as f64) };
            return Some((replicas, first));
        }
        let mut count = groups.ready.len();
        // Falling: the missing use all that they may. Rising: they use nothing.
        if first != 1.0 {
            for request in &groups.missing {
                used += if first < 1.0 { each.unwrap_or(*request) } else { 0.0 };
                base += weight(*request);
                count += 1;
            }
        }
        if rebalance {
            base += groups.ignored.iter().map(|request| weight(*request)).sum::<f64>();
            count += groups.ignored.len();
        }
        let second = ratio(used, base);
        let replicas = ceil(second * count as f64);
        let turned = (first < 1.0 && second > 1.0) || (first > 1.0 && second < 1.0);
        let against = (second < 1.0 && replicas > current) || (second > 1.0 && replicas < current);
        Some((if self.near(second) || turned || against { current } else { replicas }, second))
    }

    fn ask_for_value(&self, current: u32, replicas: &[Replica], ratio: f64) -> (u32, f64) {
        let ready =
            replicas.iter().filter(|r| r.phase == Phase::Running && r.readiness.is_some_and(|r| r.ready)).count();
        let replicas = match current {
            // From none, what is asked for is known only as a whole.
            0 => ceil(ratio),
            _ if self.near(ratio) => current,
            _ => ceil(ratio * ready as f64),
        };
        (replicas, ratio)
    }

    fn ask_for_share(&self, current: u32, value: f64, target: f64) -> (u32, f64) {
        if current == 0 {
            return (ceil(value / target), value / target);
        }
        let ratio = value / (target * f64::from(current));
        (if self.near(ratio) { current } else { ceil(value / target) }, ratio)
    }

    fn near(&self, ratio: f64) -> bool {
        (1.0 - ratio).abs() <= self.tolerance
    }
}

fn usable(value: f64) -> bool {
    value.is_finite() && value > 0.0
}

fn checked(value: Option<f64>) -> Option<f64> {
    value.filter(|value| value.is_finite() && *value >= 0.0)
}

/// The cast saturates.
fn ceil(value: f64) -> u32 {
    value.ceil() as u32
}
