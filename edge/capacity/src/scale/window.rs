//! The highest of what was seen in a window.

use std::time::Duration;

use crate::Moment;

/// Counts of the last while, as far as any of them can still be the highest: they fall, so that there are never more than
/// the first of them is high.
#[derive(Clone, Debug, Default)]
pub(crate) struct Highest(Vec<(Moment, u32)>);

impl Highest {
    /// The highest in the window that ends now, with one more count.
    pub(crate) fn with(&mut self, count: u32, window: Duration, now: Moment) -> u32 {
        self.0.retain(|(at, seen)| now.since(*at) < window && *seen > count);
        self.0.push((now, count));
        self.0[0].1
    }
}
