//! The mean of what was measured in a window.

use std::time::Duration;

use crate::Moment;

/// Sums of the last seconds, one each (`aggregation/bucketing.go`).
#[derive(Clone, Debug)]
pub struct Recent {
    /// By second, modulo the window.
    sums: Vec<f64>,
    /// The first and the last second in which something was recorded.
    span: Option<(u64, u64)>,
}

impl Recent {
    /// Nothing yet. The window is rounded up to whole seconds and is at least one.
    pub fn new(window: Duration) -> Self {
        let seconds = usize::try_from(window.as_secs()).unwrap_or(usize::MAX).clamp(1, 3600);
        Self { sums: vec![0.0; seconds], span: None }
    }

    /// Adds to a second's sum: the mean in flight during it, of one part of the fleet. What is too old, no number or
    /// negative is left out.
    pub fn record(&mut self, at: Moment, value: f64) {
        if !(value.is_finite() && value >= 0.0) {
            return;
        }
        let second = at.elapsed().as_secs();
        let window = self.sums.len() as u64;
        let (first, last) = match self.span {
            Some((_, last)) if second >= last + window => {
                self.sums.fill(0.0);
                (second, second)
            }
            Some((first, last)) if second > last => {
                for passed in last + 1..=second {
                    let i = self.index(passed);
                    self.sums[i] = 0.0;
                }
                (first, second)
            }
            Some((_, last)) if second + window <= last => return,
            Some((first, last)) => (first.min(second), last),
            None => (second, second),
        };
        self.span = Some((first, last));
        let i = self.index(second);
        self.sums[i] += value;
    }

    /// The mean over the window that ends now; over the part of it since the first and until the last record. Nothing
    /// when nothing was recorded in it: that there was no load must be measured.
    pub fn mean(&self, now: Moment) -> Option<f64> {
        let (first, last) = self.span?;
        let window = self.sums.len() as u64;
        let now = now.elapsed().as_secs().max(last);
        let begin = (now + 1).saturating_sub(window).max(first);
        let count = (last + 1).checked_sub(begin).filter(|count| *count > 0)?;
        let sum: f64 = (begin..=last).map(|second| self.sums[self.index(second)]).sum();
        Some(sum / count as f64)
    }

    fn index(&self, second: u64) -> usize {
        // Below the length, which is a usize.
        (second % self.sums.len() as u64) as usize
    }
}
