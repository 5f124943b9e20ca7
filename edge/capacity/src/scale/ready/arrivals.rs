//! How often something arrives, and how evenly.

use std::time::Duration;

use crate::Moment;

/// So many spans that ended weigh as the newest does: old ones are forgotten slowly enough to see bursts that come again.
const MEMORY: f64 = 600.0;

/// Arrivals, counted in spans; means over the last several hundred of them, the newest weighing most.
#[derive(Clone, Debug)]
pub struct Arrivals {
    span: Duration,
    /// The number of the span that runs, and what arrived in it.
    running: Option<(u64, f64)>,
    /// The weight of all spans that have ended, and the means of their counts and of the squares of these.
    weight: f64,
    mean: f64,
    square: f64,
}

impl Arrivals {
    /// Nothing yet. The span is at least a millisecond.
    pub fn new(span: Duration) -> Self {
        Self { span: span.max(Duration::from_millis(1)), running: None, weight: 0.0, mean: 0.0, square: 0.0 }
    }

    /// In what the arrivals are counted.
    pub fn span(&self) -> Duration {
        self.span
    }

    /// So many arrived. Those of a span that has ended count to the one that runs.
    pub fn record(&mut self, count: u64, at: Moment) {
        self.advance(at);
        if let Some((_, running)) = &mut self.running {
            *running += count as f64;
        }
    }

    /// Arrivals in a span: the mean and the index of dispersion (1 for a Poisson process, more for bursts). Nothing before
    /// the first span has ended.
    pub fn in_span(&self, now: Moment) -> Option<(f64, f64)> {
        let mut until_now = self.clone();
        until_now.advance(now);
        let Self { mean, square, weight, .. } = until_now;
        if weight == 0.0 {
            return None;
        }
        let variance = (square - mean * mean).max(0.0);
        Some((mean, if mean > 0.0 { variance / mean } else { 1.0 }))
    }

    fn advance(&mut self, now: Moment) {
        let number = u64::try_from(now.elapsed().as_nanos() / self.span.as_nanos()).unwrap_or(u64::MAX);
        let Some((running, count)) = self.running else {
            self.running = Some((number, 0.0));
            return;
        };
        if number <= running {
            return;
        }
        self.end(count, 1.0);
        // The empty ones between, at once.
        let empty = (number - running - 1) as f64;
        if empty > 0.0 {
            self.end(0.0, empty);
        }
        self.running = Some((number, 0.0));
    }

    /// So many spans have ended with the same count.
    fn end(&mut self, count: f64, spans: f64) {
        let kept = self.weight * (1.0 - 1.0 / MEMORY).powf(spans);
        // The sum of the weights of the new ones, the newest 1.
        let added = MEMORY * (1.0 - (1.0 - 1.0 / MEMORY).powf(spans));
        self.weight = kept + added;
        self.mean = (self.mean * kept + count * added) / self.weight;
        self.square = (self.square * kept + count * count * added) / self.weight;
    }
}
