//! What load is to be expected: a forecast with intervals, and how good forecasts of this series have been.
//!
//! Three models (Hyndman and Athanasopoulos, *Forecasting: Principles and Practice*, 3rd edition): the drift method
//! (section 5.2), the seasonal naive method with drift, and Holt-Winters' additive method with a damped trend (section
//! 8.3). Which of them is used is chosen by back-testing on the series itself (section 5.10, a rolling origin): each
//! forecasts stretches of the past from what was before them. The errors of the chosen one make its intervals, so that an
//! interval is as wide as this series deserves.

mod model;

pub use model::Model;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::invalid::{Check, Invalids};

/// More points than these are not looked at: the newest count.
pub const MOST_POINTS: usize = 20_160;
/// With fewer forecasts of the past, nothing is known of their errors.
const LEAST_FOLDS: usize = 4;
/// With a greater part of the last season missing, it says too little.
const MOST_MISSING: f64 = 0.2;

/// How a series is forecast.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Predict {
    /// The time between two points.
    #[serde(with = "crate::span")]
    pub step: Duration,
    /// After so long, the series is alike.
    #[serde(with = "crate::span")]
    pub season: Duration,
    /// So far ahead.
    #[serde(with = "crate::span")]
    pub horizon: Duration,
    /// The part of the values that should lie in their intervals.
    pub level: f64,
    /// How many stretches of the past are forecast to see how good it is.
    pub folds: usize,
}

impl Default for Predict {
    fn default() -> Self {
        let minutes = |n: u64| Duration::from_secs(60 * n);
        Self { step: minutes(5), season: minutes(24 * 60), horizon: minutes(60), level: 0.9, folds: 12 }
    }
}

/// What is expected at one step ahead; none is below 0.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Point {
    /// The most likely value.
    pub expected: f64,
    /// The interval's lower end.
    pub lower: f64,
    /// The interval's upper end.
    pub upper: f64,
}

/// How forecasts of the past came out.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Backtest {
    /// By which model.
    pub model: Model,
    /// The sum of the errors, without sign, over the sum of the values: small values do not distort it.
    pub wape: f64,
    /// The mean of the errors, without sign, as parts of their values, of values above 0.
    pub mape: f64,
    /// The part of the values that lay in their intervals, each made from the errors of all other stretches.
    pub coverage: f64,
    /// How many stretches.
    pub folds: usize,
}

/// A forecast.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Forecast {
    /// One for each step of the horizon.
    pub points: Vec<Point>,
    /// How good forecasts of this kind were.
    pub backtest: Backtest,
    /// All models that could be tried, the chosen one first.
    pub tried: Vec<Backtest>,
}

impl Forecast {
    /// The most that is expected within so many steps, with the interval's upper end.
    pub fn most_within(&self, steps: usize) -> f64 {
        self.points.iter().take(steps.max(1)).map(|point| point.upper).fold(0.0, f64::max)
    }
}

/// Why there is no forecast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unforeseeable {
    /// Too few points.
    #[error("the series is too short: it has {have} points, and a forecast needs {need}")]
    TooShort {
        /// Points that there are.
        have: usize,
        /// Points that there must be.
        need: usize,
    },
    /// Too many gaps.
    #[error("{missing} of the last {of} points are missing")]
    Gaps {
        /// Points without a value.
        missing: usize,
        /// Points that were looked at.
        of: usize,
    },
    /// The newest points are missing: the measurement has stopped.
    #[error("the newest {0} points are missing: has the measurement stopped?")]
    Stopped(usize),
}

impl Predict {
    /// A forecast from a series, the newest value last. A value that is missing, no number or negative is a gap.
    ///
    /// # Errors
    /// Why nothing can be said: the caller then does without, it does not take the load to be 0.
    pub fn forecast(&self, series: &[Option<f64>]) -> Result<Forecast, Unforeseeable> {
        let (season, horizon) = (self.season_steps(), self.horizon_steps());
        let series = &series[series.len().saturating_sub(MOST_POINTS)..];
        let values = filled(series, season, horizon)?;
        let folds = |first: usize| (1..=self.folds).take_while(|k| values.len() >= first + k * horizon).count();
        let seasonal = folds(2 * season);
        let (folds, models) = if seasonal >= LEAST_FOLDS {
            (seasonal, vec![Model::Drift, Model::SeasonalDrift, self.holt_winters(&values, seasonal)])
        } else {
            (folds(2), vec![Model::Drift])
        };
        if folds < LEAST_FOLDS {
            return Err(Unforeseeable::TooShort { have: values.len(), need: 2 + LEAST_FOLDS * horizon });
        }
        let mut tried: Vec<_> = models.iter().map(|model| self.backtest(*model, &values, folds)).collect();
        tried.sort_by(|a, b| a.0.wape.total_cmp(&b.0.wape));
        let (best, errors) = &tried[0];
        let (low, high) = self.interval(errors.iter().flatten().copied());
        let points = best.model.forecast(&values, season, horizon).into_iter().map(|expected| Point {
            expected: expected.max(0.0),
            lower: (expected + low).max(0.0),
            upper: (expected + high).max(0.0),
        });
        Ok(Forecast {
            points: points.collect(),
            backtest: *best,
            tried: tried.iter().map(|(backtest, _)| *backtest).collect(),
        })
    }

    fn season_steps(&self) -> usize {
        steps(self.season, self.step).max(2)
    }

    fn horizon_steps(&self) -> usize {
        steps(self.horizon, self.step).max(1)
    }

    /// With the parameters that fit best what was before the first stretch: none of the stretches has been seen.
    fn holt_winters(&self, values: &[f64], folds: usize) -> Model {
        Model::fit_holt_winters(&values[..values.len() - folds * self.horizon_steps()], self.season_steps())
    }

    /// Forecasts the last stretches, each from all that is before it; the errors are values less forecasts.
    fn backtest(&self, model: Model, values: &[f64], folds: usize) -> (Backtest, Vec<Vec<f64>>) {
        let horizon = self.horizon_steps();
        let stretches = (1..=folds)
            .map(|k| values.split_at(values.len() - k * horizon))
            .map(|(before, after)| (before, &after[..horizon]));
        let errors: Vec<Vec<f64>> = stretches
            .clone()
            .map(|(before, after)| {
                let forecast = model.forecast(before, self.season_steps(), horizon);
                after.iter().zip(forecast).map(|(value, expected)| value - expected.max(0.0)).collect()
            })
            .collect();
        let pairs: Vec<(f64, f64)> =
            stretches.flat_map(|(_, after)| after.iter().copied()).zip(errors.iter().flatten().copied()).collect();
        let total: f64 = pairs.iter().map(|(value, _)| value).sum();
        let wrong: f64 = pairs.iter().map(|(_, error)| error.abs()).sum();
        let parts: Vec<f64> =
            pairs.iter().filter(|(value, _)| *value > 0.0).map(|(value, error)| error.abs() / value).collect();
        let mean = |list: &[f64]| if list.is_empty() { 0.0 } else { list.iter().sum::<f64>() / list.len() as f64 };
        let wape = if total > 0.0 { wrong / total } else { wrong };
        let backtest = Backtest { model, wape, mape: mean(&parts), coverage: self.coverage(&errors), folds };
        (backtest, errors)
    }

    fn coverage(&self, errors: &[Vec<f64>]) -> f64 {
        let inside = errors.iter().enumerate().map(|(i, stretch)| {
            let others =
                errors.iter().enumerate().filter(|(j, _)| *j != i).flat_map(|(_, other)| other.iter().copied());
            let (low, high) = self.interval(others);
            stretch.iter().filter(|error| (low..=high).contains(*error)).count()
        });
        inside.sum::<usize>() as f64 / errors.iter().map(Vec::len).sum::<usize>().max(1) as f64
    }

    /// Between which errors the configured part of them lies, counted as if one more had been seen at either end.
    fn interval(&self, errors: impl Iterator<Item = f64>) -> (f64, f64) {
        let mut errors: Vec<f64> = errors.collect();
        errors.sort_by(f64::total_cmp);
        let tail = (errors.len() + 1) as f64 * (1.0 - self.level) / 2.0;
        // Bounded by the length.
        let skipped = (tail.floor() as usize).saturating_sub(1).min(errors.len().saturating_sub(1) / 2);
        (errors[skipped].min(0.0), errors[errors.len() - 1 - skipped].max(0.0))
    }

    /// # Errors
    /// Every key that cannot be used.
    pub fn validate(&self) -> Result<(), Invalids> {
        let mut check = Check::default();
        self.check(&mut check);
        check.done()
    }

    pub(crate) fn check(&self, check: &mut Check) {
        let day = Duration::from_secs(86_400);
        check.span("step", self.step, Duration::from_secs(1)..=day);
        if self.step.is_zero() {
            return;
        }
        check.span("season", self.season, self.step * 2..=self.step * (MOST_POINTS as u32 / 3));
        check.span("horizon", self.horizon, self.step..=self.season.max(self.step));
        check.within("level", self.level, 0.5..=0.999);
        check.that(
            (LEAST_FOLDS..=100).contains(&self.folds),
            "folds",
            format!("must be from {LEAST_FOLDS} to 100, but it is {}", self.folds),
        );
    }
}

fn steps(span: Duration, step: Duration) -> usize {
    usize::try_from(span.as_millis() / step.as_millis().max(1)).unwrap_or(usize::MAX).min(MOST_POINTS)
}

/// The series without gaps: each takes the value a season before, or the one just before.
fn filled(series: &[Option<f64>], season: usize, horizon: usize) -> Result<Vec<f64>, Unforeseeable> {
    let known = |value: &Option<f64>| value.filter(|value| value.is_finite() && *value >= 0.0);
    let stopped = series.iter().rev().take_while(|value| known(value).is_none()).count();
    if stopped >= horizon && stopped < series.len() {
        return Err(Unforeseeable::Stopped(stopped));
    }
    let last = &series[series.len().saturating_sub(season)..];
    let missing = last.iter().filter(|value| known(value).is_none()).count();
    if missing as f64 > last.len() as f64 * MOST_MISSING {
        return Err(Unforeseeable::Gaps { missing, of: last.len() });
    }
    let first = series.iter().find_map(known).unwrap_or(0.0);
    let mut values: Vec<f64> = Vec::with_capacity(series.len());
    for (i, value) in series.iter().enumerate() {
        let before = i.checked_sub(season).map(|i| values[i]).or(values.last().copied()).unwrap_or(first);
        values.push(known(value).unwrap_or(before));
    }
    Ok(values)
}

#[cfg(test)]
mod tests;
