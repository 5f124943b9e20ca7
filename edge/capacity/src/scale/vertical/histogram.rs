//! Histograms whose samples lose weight with time.

use std::time::Duration;

use crate::Moment;

/// A bucket with less weight counts as empty.
const EPSILON: f64 = 0.0001;
/// Weights grow with time instead of all falling; when they have doubled so often, all are scaled down.
const MOST_DOUBLINGS: f64 = 100.0;
/// More buckets are not made, whatever the parameters.
const MOST_BUCKETS: f64 = 10_000.0;

/// How values are put into buckets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Buckets {
    /// All of the same size.
    Linear {
        /// The size.
        size: f64,
        /// The last bucket begins here or above.
        max: f64,
    },
    /// Each larger than the one before.
    Exponential {
        /// The size of the first.
        first: f64,
        /// Each is so many times as large as the one before; above 1.
        ratio: f64,
        /// The last bucket begins here or above.
        max: f64,
    },
}

impl Buckets {
    /// CPU of an invocation in milliseconds: from 0.1 ms to 1000 s, each 5 % wider.
    pub const CPU_MS: Self = Self::Exponential { first: 0.1, ratio: 1.05, max: 1e6 };
    /// Memory in bytes: from 1 MB to 1 TB, each 5 % wider.
    pub const MEMORY: Self = Self::Exponential { first: 1e6, ratio: 1.05, max: 1e12 };

    fn count(self) -> usize {
        let count = match self {
            Self::Linear { size, max } => (max / size).ceil(),
            Self::Exponential { first, ratio, max } => (max * (ratio - 1.0) / first + 1.0).log(ratio).ceil(),
        };
        // The cast saturates, and NaN is 0.
        count.min(MOST_BUCKETS) as usize + 1
    }

    fn find(self, value: f64) -> usize {
        let bucket = match self {
            Self::Linear { size, .. } => value / size,
            Self::Exponential { first, .. } if value < first => 0.0,
            Self::Exponential { first, ratio, .. } => (value * (ratio - 1.0) / first + 1.0).log(ratio),
        };
        // The cast saturates, and NaN is 0.
        (bucket as usize).min(self.count() - 1)
    }

    fn start(self, bucket: usize) -> f64 {
        match self {
            Self::Linear { size, .. } => bucket as f64 * size,
            Self::Exponential { first, ratio, .. } => first * (ratio.powf(bucket as f64) - 1.0) / (ratio - 1.0),
        }
    }
}

/// Weights of values.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    buckets: Buckets,
    weights: Vec<f64>,
}

impl Histogram {
    /// Without samples.
    pub fn new(buckets: Buckets) -> Self {
        Self { buckets, weights: vec![0.0; buckets.count()] }
    }

    /// Adds weight at a value; what is no number, negative or without weight is left out.
    pub fn add(&mut self, value: f64, weight: f64) {
        if value >= 0.0 && weight.is_finite() && weight > 0.0 {
            self.weights[self.buckets.find(value)] += weight;
        }
    }

    /// Takes weight away again, not below none.
    pub fn subtract(&mut self, value: f64, weight: f64) {
        let left = &mut self.weights[self.buckets.find(value)];
        *left = if *left - weight < EPSILON { 0.0 } else { *left - weight };
    }

    /// The end of the bucket below which so great a part of the weight lies; the start of the last bucket, which has no
    /// end. Nothing without samples.
    pub fn percentile(&self, part: f64) -> Option<f64> {
        let first = self.weights.iter().position(|weight| *weight >= EPSILON)?;
        let last = self.weights.iter().rposition(|weight| *weight >= EPSILON)?;
        let threshold = part * self.weights.iter().sum::<f64>();
        let mut sum = 0.0;
        let bucket = (first..last).find(|bucket| {
            sum += self.weights[*bucket];
            sum >= threshold
        });
        let bucket = bucket.unwrap_or(last);
        Some(self.buckets.start(if bucket + 1 < self.weights.len() { bucket + 1 } else { bucket }))
    }

    fn scale(&mut self, factor: f64) {
        for weight in &mut self.weights {
            *weight *= factor;
        }
    }
}

/// A histogram whose samples lose half their weight in each half life. A new sample is made heavier rather than all old
/// ones lighter.
#[derive(Clone, Debug)]
pub struct Decaying {
    histogram: Histogram,
    half_life: f64,
    /// In half lives since the epoch, whole. A sample at this time has its own weight.
    reference: f64,
}

impl Decaying {
    /// Without samples.
    pub fn new(buckets: Buckets, half_life: Duration) -> Self {
        Self {
            histogram: Histogram::new(buckets),
            half_life: half_life.as_secs_f64().max(f64::MIN_POSITIVE),
            reference: 0.0,
        }
    }

    /// Adds a sample of some time, which may lie before others.
    pub fn add(&mut self, value: f64, weight: f64, at: Moment) {
        let factor = self.factor(at);
        self.histogram.add(value, weight * factor);
    }

    /// Takes a sample of some time away again.
    pub fn subtract(&mut self, value: f64, weight: f64, at: Moment) {
        let factor = self.factor(at);
        self.histogram.subtract(value, weight * factor);
    }

    /// All samples, weighted.
    pub fn histogram(&self) -> &Histogram {
        &self.histogram
    }

    fn factor(&mut self, at: Moment) -> f64 {
        let at = at.elapsed().as_secs_f64() / self.half_life;
        if at > self.reference + MOST_DOUBLINGS {
            let reference = at.round();
            self.histogram.scale((self.reference - reference).exp2());
            self.reference = reference;
        }
        (at - self.reference).exp2()
    }
}
