//! What a function used.

use std::time::Duration;

use super::Vertical;
use super::histogram::{Buckets, Decaying, Histogram};
use crate::Moment;

/// The weight of a sample of CPU that stands for no more than one invocation.
const LEAST_WEIGHT: f64 = 0.1;

/// Why a measurement was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// It is no number, or negative.
    #[error("a measurement must be a number of at least 0")]
    NoNumber,
    /// It is not after the one before.
    #[error("a measurement must be later than the one before")]
    OutOfOrder,
    /// The isolate ran out of memory too long ago.
    #[error("it ran out of memory longer ago than one interval")]
    TooOld,
}

/// What a function used of CPU and memory, as far as it still counts.
#[derive(Clone, Debug)]
pub struct Usage {
    cpu: Decaying,
    memory: Decaying,
    /// The end of the interval of which the memory's peak is known.
    interval_end: Option<Moment>,
    interval: Duration,
    peak: f64,
    out_of_memory_peak: f64,
    last_memory: Option<Moment>,
    /// The first and the last sample of CPU.
    span: Option<(Moment, Moment)>,
    samples: u64,
}

impl Usage {
    /// Nothing yet.
    pub fn new(config: &Vertical) -> Self {
        Self {
            cpu: Decaying::new(Buckets::CPU_MS, config.half_life),
            memory: Decaying::new(Buckets::MEMORY, config.half_life),
            interval_end: None,
            interval: config.memory_interval.max(Duration::from_secs(1)),
            peak: 0.0,
            out_of_memory_peak: 0.0,
            last_memory: None,
            span: None,
            samples: 0,
        }
    }

    /// The peak of CPU, in milliseconds of an invocation, over a while in which there were so many invocations. Give one a
    /// minute: [`Vertical::confidence`] counts on it. A while that was busy weighs more, in proportion.
    ///
    /// # Errors
    /// Why it was left out.
    pub fn cpu_peak(&mut self, ms: f64, invocations: u64, at: Moment) -> Result<(), Rejected> {
        if !(ms.is_finite() && ms >= 0.0) {
            return Err(Rejected::NoNumber);
        }
        let first = match self.span {
            Some((_, last)) if at <= last => return Err(Rejected::OutOfOrder),
            Some((first, _)) => first,
            None => at,
        };
        self.cpu.add(ms, LEAST_WEIGHT * invocations.max(1) as f64, at);
        self.span = Some((first, at));
        self.samples += 1;
        Ok(())
    }

    /// Bytes of memory at a time. One peak counts for each interval.
    ///
    /// # Errors
    /// Why it was left out.
    pub fn memory_now(&mut self, bytes: f64, at: Moment) -> Result<(), Rejected> {
        if self.last_memory.is_some_and(|last| at < last) {
            return Err(Rejected::OutOfOrder);
        }
        if self.add_memory(bytes, at)? {
            self.peak = bytes;
        }
        Ok(())
    }

    /// An isolate ran out of memory with so many bytes allowed: it needs more than it ever showed.
    ///
    /// # Errors
    /// Why it was left out.
    pub fn out_of_memory(&mut self, config: &Vertical, allowed: f64, at: Moment) -> Result<(), Rejected> {
        // From the last sample, not from the interval's end, which may lie a whole interval ahead of it.
        if self.last_memory.is_some_and(|last| at < last.before(self.interval)) {
            return Err(Rejected::TooOld);
        }
        // Not from an earlier estimate: that would run away when it happens again and again.
        let used = allowed.max(self.peak);
        let needed = (used + config.out_of_memory_least).max(used * config.out_of_memory_ratio);
        if self.add_memory(needed, at)? {
            self.out_of_memory_peak = needed;
        }
        Ok(())
    }

    /// Whether it is the peak of its interval.
    fn add_memory(&mut self, bytes: f64, at: Moment) -> Result<bool, Rejected> {
        if !(bytes.is_finite() && bytes >= 0.0) {
            return Err(Rejected::NoNumber);
        }
        self.last_memory = Some(at);
        let end = *self.interval_end.get_or_insert(at);
        if at < end {
            let old = self.peak.max(self.out_of_memory_peak);
            if old == 0.0 || bytes <= old {
                return Ok(false);
            }
            self.memory.subtract(old, 1.0, end);
            self.memory.add(bytes, 1.0, end);
        } else {
            let passed = at.since(end).as_millis() / self.interval.as_millis() + 1;
            let end = end + self.interval.saturating_mul(u32::try_from(passed).unwrap_or(u32::MAX));
            self.interval_end = Some(end);
            (self.peak, self.out_of_memory_peak) = (0.0, 0.0);
            self.memory.add(bytes, 1.0, end);
        }
        Ok(true)
    }

    pub(super) fn cpu(&self) -> &Histogram {
        self.cpu.histogram()
    }

    pub(super) fn memory(&self) -> &Histogram {
        self.memory.histogram()
    }

    /// How much history there is, in parts of a span: its length, or the number of its samples at one a minute, whichever
    /// is less.
    pub fn confidence(&self, of: Duration) -> f64 {
        let Some((first, last)) = self.span else { return 0.0 };
        let span = last.since(first).as_secs_f64() / of.as_secs_f64();
        let samples = self.samples as f64 / (of.as_secs_f64() / 60.0);
        span.min(samples)
    }
}
