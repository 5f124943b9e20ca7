//! How long requests took: counts in buckets of a sixty-fourth of their value.

use super::Nanos;

/// Low bits that a bucket's number keeps: a quantile is at most 1/64 too high.
const BITS: u32 = 6;

/// Times, with their exact sum.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    counts: Vec<u64>,
    count: u64,
    sum: u128,
    most: Nanos,
}

impl Histogram {
    /// Adds a time.
    pub fn record(&mut self, time: Nanos) {
        let bucket = bucket(time);
        if bucket >= self.counts.len() {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] += 1;
        self.count += 1;
        self.sum += u128::from(time);
        self.most = self.most.max(time);
    }

    /// How many.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The exact mean in seconds; 0 of none.
    pub fn mean(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum as f64 / self.count as f64 / 1e9 }
    }

    /// What this part of them is not above, in seconds; 0 of none.
    pub fn quantile(&self, part: f64) -> f64 {
        let rank = (part * self.count as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return highest(bucket).min(self.most) as f64 / 1e9;
            }
        }
        0.0
    }

    /// Adds all of another.
    pub fn merge(&mut self, other: &Self) {
        if other.counts.len() > self.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.count += other.count;
        self.sum += other.sum;
        self.most = self.most.max(other.most);
    }
}

fn bucket(time: Nanos) -> usize {
    let shift = (64 - BITS - 1).saturating_sub(time.leading_zeros());
    ((shift as usize) << BITS) + (time >> shift) as usize
}

/// The highest time of a bucket.
fn highest(bucket: usize) -> Nanos {
    let shift = (bucket >> BITS).saturating_sub(1) as u32;
    let shown = (bucket as u64) - (u64::from(shift) << BITS);
    ((u128::from(shown + 1) << shift) - 1).min(u128::from(Nanos::MAX)) as Nanos
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_bucket_holds_its_times_and_is_narrow(time: u64) {
            let top = highest(bucket(time));
            prop_assert!(top >= time);
            prop_assert!((top - time) as f64 <= time as f64 / 64.0);
            prop_assert!(bucket(time) == 0 || highest(bucket(time) - 1) < time);
        }

        #[test]
        fn quantiles_are_those_of_the_sorted_times(mut times in prop::collection::vec(1..10_000_000_u64, 1..300), part in 0.0..1.0_f64) {
            let mut histogram = Histogram::default();
            times.iter().for_each(|time| histogram.record(*time));
            times.sort_unstable();
            let rank = ((part * times.len() as f64).ceil() as usize).clamp(1, times.len());
            let exact = times[rank - 1] as f64 / 1e9;
            prop_assert!((histogram.quantile(part) / exact - 1.0).abs() <= 1.0 / 64.0);
        }
    }
}
