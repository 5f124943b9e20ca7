//! When requests come: arrival processes, all repeatable by a seed.

use serde::{Deserialize, Serialize};

use super::{LoadError, MAX_RATE};
use crate::invalid::Check;
use crate::simulate::chance::{Chance, nanos};
use crate::simulate::{Nanos, Span};

/// Requests that come independently of each other, at a rate that may follow the day, a crowd and chance. With none of
/// these it is a Poisson process; with `bursts` one that is Markov-modulated.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Process {
    /// Requests a second.
    pub rate: f64,
    /// How it follows the day.
    pub day: Option<Day>,
    /// Crowds that come once.
    pub crowds: Vec<Crowd>,
    /// How it varies by chance.
    pub bursts: Option<Bursts>,
}

/// The rate times 1 + `swing` · cos(2π · (t − `peak`) / `period`).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Day {
    /// How long a day is.
    pub period: Span,
    /// When it is busiest.
    pub peak: Span,
    /// How much busier it is then, from 0 to 1.
    pub swing: f64,
}

/// A crowd: the rate goes up to `factor` times, stays, and goes down again, in straight lines.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Crowd {
    /// When it begins.
    pub at: Span,
    /// How many times the rate.
    pub factor: f64,
    /// How long until all are there.
    pub rise: Span,
    /// How long they stay.
    pub stay: Span,
    /// How long until all are gone.
    pub fall: Span,
}

/// The rate times one of several factors, which changes by chance (a Markov chain that goes to each other state with the
/// same chance).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bursts {
    /// The factors.
    pub factors: Vec<f64>,
    /// How long each holds on average.
    pub stays: Vec<Span>,
}

/// A request of a recorded load: a line of an access log, already parsed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// When it came.
    pub at: Nanos,
    /// The number of its function.
    pub function: u32,
    /// How long it occupied a worker.
    pub service: Nanos,
    /// How long it then waited without one.
    pub wait: Nanos,
    /// The number of the object that its function fetches; of none when it fetches nothing.
    pub object: Option<u32>,
    /// The number of its PoP, with all copies counted; when it is not known, the PoPs' shares decide.
    pub pop: Option<u32>,
}

/// A process while it runs.
#[derive(Clone, Debug)]
pub struct Arrivals {
    process: Process,
    chance: Chance,
    burst: usize,
    burst_until: f64,
    now: f64,
}

impl Arrivals {
    /// From the beginning of time.
    pub fn new(process: Process, seed: u64, part: u64) -> Self {
        let mut chance = Chance::new(seed, part);
        let burst_until = match &process.bursts {
            Some(bursts) => bursts.stays[0].0 * chance.exponential(),
            None => f64::INFINITY,
        };
        Self { process, chance, burst: 0, burst_until, now: 0.0 }
    }

    fn factor(&self) -> f64 {
        self.process.bursts.as_ref().map_or(1.0, |bursts| bursts.factors[self.burst])
    }

    fn change_burst(&mut self) {
        if let Some(bursts) = &self.process.bursts {
            if bursts.factors.len() > 1 {
                let step = 1 + self.chance.below(bursts.factors.len() - 1);
                self.burst = (self.burst + step) % bursts.factors.len();
            }
            self.burst_until = self.now + bursts.stays[self.burst].0 * self.chance.exponential();
        }
    }

    /// A rate that is not exceeded before the time beside it.
    fn bound(&self) -> (f64, f64) {
        let (mut rate, mut until) = (self.process.rate * self.factor(), self.burst_until);
        if let Some(day) = &self.process.day {
            // In pieces of a day the bound stays near the rate.
            let end = self.now + day.period.0 / 64.0;
            let steepest = day.swing * std::f64::consts::TAU / 64.0;
            rate *= day.factor(self.now) + steepest;
            until = until.min(end);
        }
        for crowd in &self.process.crowds {
            let [begin, up, down, end] = crowd.corners();
            if let Some(next) = [begin, up, down, end].into_iter().find(|corner| *corner > self.now) {
                until = until.min(next);
                rate *= crowd.factor(self.now).max(crowd.factor(next));
            }
        }
        (rate, until)
    }
}

/// When requests come; it ends when the rate is 0 for good.
impl Iterator for Arrivals {
    type Item = Nanos;

    fn next(&mut self) -> Option<Nanos> {
        // Thinning (Lewis and Shedler), with a bound that holds up to the next change of its parts.
        loop {
            let (bound, until) = self.bound();
            let gap = if bound > 0.0 { self.chance.exponential() / bound } else { f64::INFINITY };
            if self.now + gap >= until {
                if until == f64::INFINITY {
                    return None;
                }
                self.now = until;
                if until >= self.burst_until {
                    self.change_burst();
                }
                continue;
            }
            self.now += gap;
            let rate = self.process.shape(self.now) * self.factor();
            if rate >= bound || self.chance.unit() * bound < rate {
                return Some(nanos(self.now));
            }
        }
    }
}

impl Process {
    /// The rate at a time in seconds, without what chance adds.
    pub fn shape(&self, at: f64) -> f64 {
        let day = self.day.as_ref().map_or(1.0, |day| day.factor(at));
        self.crowds.iter().fold(self.rate * day, |rate, crowd| rate * crowd.factor(at))
    }

    /// A rate that is never exceeded.
    pub fn most(&self) -> f64 {
        let day = self.day.as_ref().map_or(1.0, |day| 1.0 + day.swing);
        let crowds = self.crowds.iter().map(|crowd| crowd.factor.max(1.0)).product::<f64>();
        let bursts = self.bursts.iter().flat_map(|bursts| &bursts.factors).copied().reduce(f64::max).unwrap_or(1.0);
        self.rate * day * crowds * bursts
    }

    pub(crate) fn check(&self, check: &mut Check) {
        check.within("rate", self.rate, 0.0..=MAX_RATE);
        if let Some(day) = &self.day {
            check.that((1.0..=1e9).contains(&day.period.0), "day.period", "must be at least 1s");
            check.within("day.swing", day.swing, 0.0..=1.0);
        }
        for (i, crowd) in self.crowds.iter().enumerate() {
            check.within(&format!("crowds[{i}].factor"), crowd.factor, 0.0..=1e4);
        }
        check.that(self.crowds.len() <= 100, "crowds", "must be at most 100");
        if let Some(bursts) = &self.bursts {
            let paired = bursts.factors.len() == bursts.stays.len() && (1..=100).contains(&bursts.factors.len());
            check.that(paired, "bursts", "needs as many `stays` as `factors`, from 1 to 100");
            let sound = bursts.factors.iter().all(|factor| (0.0..=1e4).contains(factor));
            check.that(sound, "bursts.factors", "must be numbers from 0 to 10000");
            let sound = bursts.stays.iter().all(|stay| stay.0 >= 1e-3);
            check.that(sound, "bursts.stays", "must be at least 1ms each");
        }
    }
}

impl Day {
    fn factor(&self, at: f64) -> f64 {
        1.0 + self.swing * (std::f64::consts::TAU * (at - self.peak.0) / self.period.0).cos()
    }
}

impl Crowd {
    fn corners(&self) -> [f64; 4] {
        let up = self.at.0 + self.rise.0;
        let down = up + self.stay.0;
        [self.at.0, up, down, down + self.fall.0]
    }

    fn factor(&self, at: f64) -> f64 {
        let [begin, up, down, end] = self.corners();
        let part = if at <= begin || at >= end {
            0.0
        } else if at < up {
            (at - begin) / (up - begin)
        } else if at <= down {
            1.0
        } else {
            (end - at) / (end - down)
        };
        1.0 + (self.factor - 1.0) * part
    }
}

/// Refuses a recorded load that cannot be played.
///
/// # Errors
/// There is nothing, or a request lies before the one in front of it.
pub fn in_order(recorded: &[Recorded]) -> Result<(), LoadError> {
    if recorded.is_empty() {
        return Err(LoadError::Empty);
    }
    match recorded.windows(2).position(|pair| pair[1].at < pair[0].at) {
        None => Ok(()),
        Some(i) => Err(LoadError::Unordered { index: i + 1, by_ms: (recorded[i].at - recorded[i + 1].at) / 1_000_000 }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(process: &Process, from: f64, to: f64) -> f64 {
        let mut arrivals = Arrivals::new(process.clone(), 3, 1);
        let mut count = 0.0;
        while let Some(at) = arrivals.next().filter(|at| *at < nanos(to)) {
            count += f64::from(u8::from(at >= nanos(from)));
        }
        count
    }

    #[test]
    fn as_many_come_as_the_shape_says() {
        let mut process = Process { rate: 200.0, ..Process::default() };
        process.day = Some(Day { period: Span(1000.0), peak: Span(250.0), swing: 0.8 });
        process.crowds.push(Crowd {
            at: Span(600.0),
            factor: 10.0,
            rise: Span(30.0),
            stay: Span(60.0),
            fall: Span(30.0),
        });
        for (from, to) in
            [(0.0, 100.0), (200.0, 300.0), (600.0, 630.0), (630.0, 690.0), (690.0, 720.0), (720.0, 1000.0)]
        {
            let steps = 10_000;
            let width = (to - from) / f64::from(steps);
            let told: f64 = (0..steps).map(|i| process.shape(from + (f64::from(i) + 0.5) * width) * width).sum();
            let came = count(&process, from, to);
            assert!((came - told).abs() < 4.0 * told.sqrt(), "{from}..{to}: {came} came, {told} were told");
        }
    }

    #[test]
    fn bursts_leave_the_mean_and_widen_the_counts() {
        let bursts = Bursts { factors: vec![0.5, 1.5], stays: vec![Span(5.0), Span(5.0)] };
        let process = Process { rate: 100.0, bursts: Some(bursts), ..Process::default() };
        let mut arrivals = Arrivals::new(process, 3, 1);
        let mut counts = vec![0.0; 10_000];
        while let Some(second) = arrivals.next().map(|at| at / 1_000_000_000).filter(|second| *second < 10_000) {
            counts[second as usize] += 1.0;
        }
        let mean = counts.iter().sum::<f64>() / 1e4;
        let variance = counts.iter().map(|c| (c - mean) * (c - mean)).sum::<f64>() / 1e4;
        assert!((mean / 100.0 - 1.0).abs() < 0.03, "{mean}");
        assert!(variance > 15.0 * mean, "{variance}");
    }

    #[test]
    fn a_recorded_load_that_goes_back_is_refused() {
        let at = |at| Recorded { at, service: 1, ..Recorded::default() };
        assert!(matches!(in_order(&[]), Err(LoadError::Empty)));
        assert!(in_order(&[at(1), at(1), at(2)]).is_ok());
        let error = in_order(&[at(9_000_000), at(2_000_000)]).unwrap_err();
        assert!(matches!(error, LoadError::Unordered { index: 1, by_ms: 7 }), "{error}");
    }

    #[test]
    fn a_rate_of_none_ends() {
        assert_eq!(Arrivals::new(Process::default(), 1, 1).next(), None);
    }
}
