//! The models.

use serde::Serialize;

/// The trend of a forecast fades so much with each step: an endless rise is never right.
const DAMPING: f64 = 0.98;

/// How a series goes on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Model {
    /// From the last value, as it went from the first to the last.
    Drift,
    /// As in the last season, by as much more as that was above the one before.
    SeasonalDrift,
    /// A level, a trend and a season, each a mean in which old values weigh less.
    HoltWinters {
        /// How fast the level follows: 0 to 1.
        alpha: f64,
        /// How fast the trend follows.
        beta: f64,
        /// How fast the season follows.
        gamma: f64,
    },
}

impl Model {
    /// As a label, a log field and a header value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Drift => "drift",
            Self::SeasonalDrift => "seasonal_drift",
            Self::HoltWinters { .. } => "holt_winters",
        }
    }

    /// The values of the next steps. The seasonal models need two seasons.
    pub(super) fn forecast(self, values: &[f64], season: usize, horizon: usize) -> Vec<f64> {
        let last = values.len() - 1;
        match self {
            Self::Drift => {
                let slope = (values[last] - values[0]) / last.max(1) as f64;
                (1..=horizon).map(|step| values[last] + slope * step as f64).collect()
            }
            Self::SeasonalDrift => {
                let begin = values.len() - season;
                let change = (begin..values.len()).map(|i| values[i] - values[i - season]).sum::<f64>() / season as f64;
                (0..horizon).map(|step| values[begin + step % season] + change * (step / season + 1) as f64).collect()
            }
            Self::HoltWinters { alpha, beta, gamma } => {
                Smoothed::run(values, season, (alpha, beta, gamma)).ahead(horizon)
            }
        }
    }

    /// Holt-Winters with the parameters of a coarse grid that err least one step ahead.
    pub(super) fn fit_holt_winters(values: &[f64], season: usize) -> Self {
        let grid = [0.1, 0.3, 0.6]
            .into_iter()
            .flat_map(|a| [0.0, 0.05, 0.2].into_iter().flat_map(move |b| [0.05, 0.2, 0.5].map(|g| (a, b, g))));
        let error = |parameters| Smoothed::run(values, season, parameters).error;
        let best = grid.map(|parameters| (error(parameters), parameters)).min_by(|a, b| a.0.total_cmp(&b.0));
        let (alpha, beta, gamma) = best.map_or((0.3, 0.05, 0.2), |(_, parameters)| parameters);
        Self::HoltWinters { alpha, beta, gamma }
    }
}

/// Holt-Winters' state after a series.
struct Smoothed {
    level: f64,
    trend: f64,
    /// The season's parts, the next one first.
    seasonal: std::collections::VecDeque<f64>,
    /// The sum of the squares of the errors one step ahead.
    error: f64,
}

impl Smoothed {
    fn run(values: &[f64], season: usize, (alpha, beta, gamma): (f64, f64, f64)) -> Self {
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
        let (first, second) = (&values[..season], &values[season..2 * season]);
        let trend = (mean(second) - mean(first)) / season as f64;
        let middle = (season as f64 - 1.0) / 2.0;
        // What is left of the first season without its level and trend.
        let seasonal =
            first.iter().enumerate().map(|(i, value)| value - mean(first) - trend * (i as f64 - middle)).collect();
        let mut state = Self { level: mean(first) + trend * middle, trend, seasonal, error: 0.0 };
        for value in &values[season..] {
            let part = state.seasonal.pop_front().unwrap_or(0.0);
            let (level, trend) = (state.level, state.trend * DAMPING);
            state.error += (value - level - trend - part).powi(2);
            state.level = alpha * (value - part) + (1.0 - alpha) * (level + trend);
            state.trend = beta * (state.level - level) + (1.0 - beta) * trend;
            state.seasonal.push_back(gamma * (value - level - trend) + (1.0 - gamma) * part);
        }
        state
    }

    fn ahead(&self, horizon: usize) -> Vec<f64> {
        let mut damped = 0.0;
        let mut factor = 1.0;
        (0..horizon)
            .map(|step| {
                factor *= DAMPING;
                damped += factor;
                self.level + self.trend * damped + self.seasonal[step % self.seasonal.len()]
            })
            .collect()
    }
}
