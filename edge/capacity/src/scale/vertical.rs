//! How much CPU and memory a function needs: the recommender of Kubernetes' Vertical Pod Autoscaler.
//!
//! Follows `vertical-pod-autoscaler/pkg/recommender` of kubernetes/autoscaler: `util` for the histograms, `model` for
//! what is put into them, `logic` for what is read from them. The units are a function's: CPU in milliseconds of an
//! invocation, memory in bytes of an isolate.

mod histogram;
mod usage;

pub use histogram::{Buckets, Decaying, Histogram};
pub use usage::{Rejected, Usage};

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::invalid::{Check, Invalids};

/// How a need is read from what was used. The defaults are the VPA's, but for the least, which fit functions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Vertical {
    /// The part of what was used that the target covers.
    pub target_percentile: f64,
    /// The part that the lower bound covers.
    pub lower_percentile: f64,
    /// The part that the upper bound covers.
    pub upper_percentile: f64,
    /// So much is added, as a part.
    pub margin: f64,
    /// With so much history, the bounds lie near the target.
    #[serde(with = "crate::span")]
    pub confidence: Duration,
    /// In so long, a sample loses half its weight.
    #[serde(with = "crate::span")]
    pub half_life: Duration,
    /// Of memory, one peak counts for each such interval.
    #[serde(with = "crate::span")]
    pub memory_interval: Duration,
    /// After running out of memory, the need is so many times what was there…
    pub out_of_memory_ratio: f64,
    /// … and so many bytes more at least.
    pub out_of_memory_least: f64,
    /// Never less CPU, in milliseconds.
    pub least_cpu_ms: f64,
    /// Never less memory, in bytes.
    pub least_memory: f64,
}

impl Default for Vertical {
    fn default() -> Self {
        let day = Duration::from_secs(86_400);
        Self {
            target_percentile: 0.9,
            lower_percentile: 0.5,
            upper_percentile: 0.95,
            margin: 0.15,
            confidence: day,
            half_life: day,
            memory_interval: day,
            out_of_memory_ratio: 1.2,
            out_of_memory_least: (16 << 20) as f64,
            least_cpu_ms: 1.0,
            least_memory: (8 << 20) as f64,
        }
    }
}

/// What is recommended of one resource. `lower` ≤ `target` need not hold of histories that are short: the lower bound is
/// then near 0 and the upper one is boundless, so that nothing is changed on thin evidence.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// A limit below this is too small.
    pub lower: f64,
    /// The limit to set.
    pub target: f64,
    /// A limit above this wastes.
    pub upper: f64,
}

/// What a function needs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Need {
    /// CPU of an invocation, in milliseconds.
    pub cpu_ms: Estimate,
    /// Memory of an isolate, in bytes.
    pub memory: Estimate,
    /// How much history there is, in parts of [`Vertical::confidence`].
    pub confidence: f64,
}

impl Vertical {
    /// The need of a function, once both its resources were measured.
    pub fn need(&self, usage: &Usage) -> Option<Need> {
        let confidence = usage.confidence(self.confidence);
        let estimate = |histogram: &Histogram, least: f64| -> Option<Estimate> {
            let read = |percentile| histogram.percentile(percentile).map(|value| value * (1.0 + self.margin));
            Some(Estimate {
                lower: (read(self.lower_percentile)? * multiplier(0.001, -2.0, confidence)).max(least),
                target: read(self.target_percentile)?.max(least),
                upper: (read(self.upper_percentile)? * multiplier(1.0, 1.0, confidence)).max(least),
            })
        };
        let cpu_ms = estimate(usage.cpu(), self.least_cpu_ms)?;
        let memory = estimate(usage.memory(), self.least_memory)?;
        Some(Need { cpu_ms, memory, confidence })
    }

    /// # Errors
    /// Every key that cannot be used.
    pub fn validate(&self) -> Result<(), Invalids> {
        let mut check = Check::default();
        self.check(&mut check);
        check.done()
    }

    pub(crate) fn check(&self, check: &mut Check) {
        check.within("target_percentile", self.target_percentile, 0.01..=1.0);
        check.within("lower_percentile", self.lower_percentile, 0.0..=self.target_percentile);
        check.within("upper_percentile", self.upper_percentile, self.target_percentile..=1.0);
        check.within("margin", self.margin, 0.0..=10.0);
        let spans = Duration::from_secs(60)..=Duration::from_secs(90 * 86_400);
        check.span("confidence", self.confidence, spans.clone());
        check.span("half_life", self.half_life, spans.clone());
        check.span("memory_interval", self.memory_interval, spans);
        check.within("out_of_memory_ratio", self.out_of_memory_ratio, 1.0..=10.0);
        check.within("out_of_memory_least", self.out_of_memory_least, 0.0..=f64::MAX);
        check.within("least_cpu_ms", self.least_cpu_ms, 0.0..=f64::MAX);
        check.within("least_memory", self.least_memory, 0.0..=f64::MAX);
    }
}

/// By how much a bound moves away while there is little history (`logic/estimator.go`).
fn multiplier(multiplier: f64, exponent: f64, confidence: f64) -> f64 {
    (1.0 + multiplier / confidence).powf(exponent)
}

#[cfg(test)]
mod tests;
