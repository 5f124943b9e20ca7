//! What has to be carried: requests a second for each hour of a typical week, measured, from a trace, or described.

pub mod log;
pub mod process;

use serde::{Deserialize, Serialize};

/// Hours of a week. The first is Monday, 0 to 1 o'clock UTC.
pub const WEEK_HOURS: usize = 168;
/// Most requests a second that anything here calculates with.
pub const MAX_RATE: f64 = 1e9;

/// One hour of a typical week.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Hour {
    /// Requests a second, on average.
    pub mean: f64,
    /// Requests a second in its busiest minute; at least `mean`.
    pub peak: f64,
}

/// A typical week, always of [`WEEK_HOURS`] hours.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Week(Vec<Hour>);

/// Why there is no load.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum LoadError {
    /// Nothing came.
    #[error("the trace is empty: at least one request is needed to know a load")]
    Empty,
    /// A time lies before the one in front of it.
    #[error(
        "the trace is not in order: request {index} (from 0) comes {by_ms} ms before the one in front of it; sort it by time"
    )]
    Unordered {
        /// Of the request that is too early.
        index: usize,
        /// How much too early, in milliseconds.
        by_ms: u64,
    },
    /// A part of a description makes no sense.
    #[error("{key}: {problem}")]
    Described {
        /// The key's name.
        key: String,
        /// What is wrong and what to do.
        problem: String,
    },
}

impl Week {
    /// The same rate at all times.
    #[must_use]
    pub fn flat(mean: f64, peak: f64) -> Self {
        Self(vec![Hour { mean, peak: peak.max(mean) }; WEEK_HOURS])
    }

    /// The hours, Monday first.
    #[must_use]
    pub fn hours(&self) -> &[Hour] {
        &self.0
    }

    /// Requests of the whole week.
    #[must_use]
    pub fn requests(&self) -> f64 {
        self.0.iter().map(|hour| hour.mean * 3600.0).sum()
    }

    /// The highest rate.
    #[must_use]
    pub fn peak(&self) -> f64 {
        self.0.iter().map(|hour| hour.peak).fold(0.0, f64::max)
    }

    /// The load times a factor.
    #[must_use]
    pub fn scaled(&self, factor: f64) -> Self {
        Self(self.0.iter().map(|hour| Hour { mean: hour.mean * factor, peak: hour.peak * factor }).collect())
    }

    /// From when requests came, in milliseconds since the Unix epoch. Several weeks are averaged (their peaks are not:
    /// the highest counts). An hour of the week that the trace does not cover is taken for the busiest one it does:
    /// missing data is no reason to have less capacity.
    ///
    /// # Errors
    /// When there is nothing, or it is not in order.
    pub fn from_arrivals(times_ms: &[u64]) -> Result<Self, LoadError> {
        let (Some(first), Some(last)) = (times_ms.first(), times_ms.last()) else { return Err(LoadError::Empty) };
        if let Some(at) = times_ms.windows(2).position(|pair| pair[1] < pair[0]) {
            return Err(LoadError::Unordered { index: at + 1, by_ms: times_ms[at] - times_ms[at + 1] });
        }
        let mut counts = [0_u64; WEEK_HOURS];
        let mut busiest = [0_u64; WEEK_HOURS];
        let mut seen = [0_u64; WEEK_HOURS];
        (first / HOUR_MS..=last / HOUR_MS).for_each(|hour| seen[of_week(hour)] += 1);
        for minute in times_ms.chunk_by(|a, b| a / MINUTE_MS == b / MINUTE_MS) {
            let (hour, count) = (of_week(minute[0] / HOUR_MS), u64::try_from(minute.len()).unwrap_or(u64::MAX));
            counts[hour] += count;
            busiest[hour] = busiest[hour].max(count);
        }
        #[expect(clippy::cast_precision_loss, reason = "counts of requests are far below 2^53")]
        let known = |hour: usize| Hour {
            mean: counts[hour] as f64 / (seen[hour] as f64 * 3600.0),
            peak: (busiest[hour] as f64 / 60.0).max(counts[hour] as f64 / (seen[hour] as f64 * 3600.0)),
        };
        let covered = (0..WEEK_HOURS).filter(|hour| seen[*hour] > 0).map(known);
        let most = covered.fold(Hour::default(), |most, hour| if hour.mean > most.mean { hour } else { most });
        Ok(Self((0..WEEK_HOURS).map(|hour| if seen[hour] > 0 { known(hour) } else { most }).collect()))
    }
}

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;

/// The hour of the week of an hour since the Unix epoch, which was a Thursday.
fn of_week(hour: u64) -> usize {
    usize::try_from((hour + 3 * 24) % 168).unwrap_or(0)
}

/// A load in words: a base rate times a shape of the day, with what comes on top.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Described {
    /// Requests a second where the shape is 1.
    pub base: f64,
    /// 24 factors, midnight UTC first; none: the same all day.
    pub daily: Vec<f64>,
    /// Factor of Saturday and Sunday; none: 1.
    pub weekend: Option<f64>,
    /// Busiest minute of an hour against its average; none: 1.5.
    pub burst: Option<f64>,
    /// Growth a month: 0.05 is 5 %.
    pub growth: f64,
    /// For how many months growth is planned ahead; at most 60.
    pub months_ahead: f64,
    /// What comes on top at certain hours.
    pub peaks: Vec<Peak>,
    /// What is expected once a week at most, for which there must be room.
    pub flash: Option<Flash>,
}

/// A peak of every day, or of some.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peak {
    /// Days of the week, Monday 0; none: every day.
    #[serde(default)]
    pub days: Vec<u8>,
    /// First hour, 0 to 23.
    pub from: u8,
    /// Hour at which it is over, 1 to 24.
    pub to: u8,
    /// Requests a second that it adds.
    pub requests: f64,
}

/// A flash crowd.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flash {
    /// Day of the week, Monday 0.
    pub day: u8,
    /// Hour, 0 to 23.
    pub hour: u8,
    /// How many times the load of that hour it is; at least 1.
    pub factor: f64,
    /// How long it lasts, 1 to 60.
    pub minutes: f64,
}

impl Described {
    /// The week that is described.
    ///
    /// # Errors
    /// Every part that makes no sense.
    pub fn week(&self) -> Result<Week, Vec<LoadError>> {
        let errors = self.errors();
        if !errors.is_empty() {
            return Err(errors);
        }
        let growth = (1.0 + self.growth).powf(self.months_ahead);
        let burst = self.burst.unwrap_or(1.5);
        let hour = |index: usize| {
            let (day, of_day) = (index / 24, index % 24);
            let weekend = if day >= 5 { self.weekend.unwrap_or(1.0) } else { 1.0 };
            let shape = self.daily.get(of_day).copied().unwrap_or(1.0);
            let on_top: f64 = self.peaks.iter().filter(|peak| peak.covers(day, of_day)).map(|peak| peak.requests).sum();
            let mean = (self.base * shape * weekend + on_top) * growth;
            match self.flash {
                Some(flash) if (usize::from(flash.day), usize::from(flash.hour)) == (day, of_day) => Hour {
                    mean: mean * (1.0 + (flash.factor - 1.0) * flash.minutes / 60.0),
                    peak: mean * flash.factor * burst,
                },
                _ => Hour { mean, peak: mean * burst },
            }
        };
        Ok(Week((0..WEEK_HOURS).map(hour).collect()))
    }

    fn errors(&self) -> Vec<LoadError> {
        let mut errors = Vec::new();
        let mut check = |key: &str, sound: bool, problem: &str| {
            if !sound {
                errors.push(LoadError::Described { key: key.to_owned(), problem: problem.to_owned() });
            }
        };
        let rate = |value: f64| (0.0..=MAX_RATE).contains(&value);
        check("base", rate(self.base), "must be requests a second, from 0 to 1e9");
        check(
            "daily",
            matches!(self.daily.len(), 0 | 24),
            "must have 24 factors, one for each hour, midnight UTC first",
        );
        check("daily", self.daily.iter().all(|factor| (0.0..=1e3).contains(factor)), "must be factors from 0 to 1000");
        check("weekend", (0.0..=1e3).contains(&self.weekend.unwrap_or(1.0)), "must be a factor from 0 to 1000");
        check("burst", (1.0..=1e3).contains(&self.burst.unwrap_or(1.0)), "must be a factor from 1 to 1000");
        check("growth", (-0.9..=10.0).contains(&self.growth), "must be growth a month, as in 0.05 for 5 %");
        check("months_ahead", (0.0..=60.0).contains(&self.months_ahead), "must be 0 to 60 months");
        for (index, peak) in self.peaks.iter().enumerate() {
            let sound = peak.from < peak.to && peak.to <= 24 && peak.days.iter().all(|day| *day < 7);
            check(&format!("peaks[{index}]"), sound, "needs from < to <= 24, and days from 0 (Monday) to 6");
            check(&format!("peaks[{index}].requests"), rate(peak.requests), "must be requests a second, from 0 to 1e9");
        }
        if let Some(flash) = self.flash {
            check(
                "flash",
                flash.day < 7 && flash.hour < 24,
                "needs a day from 0 (Monday) to 6, and an hour from 0 to 23",
            );
            check("flash.factor", (1.0..=1e4).contains(&flash.factor), "must be 1 to 10000");
            check("flash.minutes", flash.minutes > 0.0 && flash.minutes <= 60.0, "must be above 0 and at most 60");
        }
        if errors.is_empty() && self.base == 0.0 && self.peaks.iter().all(|peak| peak.requests == 0.0) {
            errors.push(LoadError::Described {
                key: "base".to_owned(),
                problem: "and peaks are 0: there is no load".to_owned(),
            });
        }
        errors
    }
}

impl Peak {
    fn covers(&self, day: usize, hour: usize) -> bool {
        let days = self.days.is_empty() || self.days.iter().any(|on| usize::from(*on) == day);
        days && (usize::from(self.from)..usize::from(self.to)).contains(&hour)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_trace_becomes_a_week_and_what_it_does_not_cover_is_taken_for_busy() {
        // Friday 2026-11-27 10:00 UTC; an hour with a request a second, then one with one in all.
        let start = 1_795_773_600_000;
        let mut times: Vec<u64> = (0..3600).map(|second| start + second * 1000).collect();
        times.push(start + 2 * HOUR_MS - 1);
        let week = Week::from_arrivals(&times).unwrap();
        let friday = 4 * 24;
        assert_eq!(week.hours()[friday + 10], Hour { mean: 1.0, peak: 1.0 });
        assert_eq!(week.hours()[friday + 11], Hour { mean: 1.0 / 3600.0, peak: 1.0 / 60.0 });
        assert_eq!(week.hours()[0], Hour { mean: 1.0, peak: 1.0 });
    }

    #[test]
    fn a_trace_that_is_empty_or_unordered_is_told() {
        assert_eq!(Week::from_arrivals(&[]), Err(LoadError::Empty));
        let error = Week::from_arrivals(&[5, 9, 2]).unwrap_err();
        assert!(error.to_string().contains("request 2 (from 0) comes 7 ms before"), "{error}");
    }

    #[test]
    fn a_description_is_read_as_meant_and_all_its_errors_are_told() {
        let mut described =
            Described { base: 10.0, weekend: Some(0.5), growth: 0.1, months_ahead: 2.0, ..Described::default() };
        described.peaks.push(Peak { days: vec![0], from: 9, to: 10, requests: 90.0 });
        described.flash = Some(Flash { day: 1, hour: 12, factor: 10.0, minutes: 6.0 });
        let week = described.week().unwrap();
        let near = |hour: usize, mean: f64, peak: f64| {
            let got = week.hours()[hour];
            assert!((got.mean - mean).abs() < 1e-9 && (got.peak - peak).abs() < 1e-9, "{hour}: {got:?}");
        };
        near(0, 12.1, 18.15);
        near(9, 121.0, 181.5);
        near(24 + 12, 12.1 * 1.9, 181.5);
        near(6 * 24, 6.05, 9.075);
        let wrong = Described { base: f64::NAN, daily: vec![1.0; 23], burst: Some(0.5), ..Described::default() };
        assert_eq!(wrong.week().unwrap_err().len(), 3);
        assert!(Described::default().week().unwrap_err()[0].to_string().contains("there is no load"));
    }

    proptest! {
        #[test]
        fn no_request_of_a_trace_is_lost(mut times in prop::collection::vec(0..3 * 168 * HOUR_MS, 1..400)) {
            times.sort_unstable();
            let week = Week::from_arrivals(&times).unwrap();
            prop_assert!(week.hours().iter().all(|hour| hour.peak >= hour.mean));
            let hours = (times[times.len() - 1] / HOUR_MS - times[0] / HOUR_MS + 1) as f64;
            prop_assert!(week.requests() * hours / 168.0 >= times.len() as f64 * 0.3);
        }
    }
}
