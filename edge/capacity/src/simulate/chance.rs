//! Chance that can be repeated: xoshiro256++ (Blackman and Vigna), seeded by SplitMix64.
//!
//! It is written out here because results must stay the same bytes for a seed for good, which crates of random numbers
//! promise of none of their small generators. Each part of a simulation has a stream of its own: a policy that lets one part draw
//! more does not change what the others draw, so that two policies are compared under the same arrivals.

use super::Nanos;

/// A stream of random numbers.
#[derive(Clone, Debug)]
pub struct Chance([u64; 4]);

impl Chance {
    /// The stream of a part of what has this seed.
    pub fn new(seed: u64, part: u64) -> Self {
        let mut state = seed ^ part.wrapping_mul(0xd134_2543_de82_ef95).rotate_left(17);
        Self(std::array::from_fn(|_| split_mix(&mut state)))
    }

    fn bits(&mut self) -> u64 {
        let s = &mut self.0;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// Evenly above 0 and below 1.
    pub fn unit(&mut self) -> f64 {
        ((self.bits() >> 12) as f64 + 0.5) / (1_u64 << 52) as f64
    }

    /// Evenly from 0 to `count - 1`; 0 when there is nothing to choose from.
    pub fn below(&mut self, count: usize) -> usize {
        ((u128::from(self.bits()) * count as u128) >> 64) as usize
    }

    /// Exponentially distributed with the mean 1.
    pub fn exponential(&mut self) -> f64 {
        -self.unit().ln()
    }

    /// Normally distributed with the mean 0 and the variance 1 (Box and Muller; the second of the pair is not used).
    pub fn normal(&mut self) -> f64 {
        let radius = (2.0 * self.exponential()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }
}

fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Seconds as nanoseconds; never below 0, and the cast saturates.
pub(crate) fn nanos(seconds: f64) -> Nanos {
    (seconds * 1e9).round() as Nanos
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_numbers_are_those_of_the_reference_implementation() {
        let mut chance = Chance([1, 2, 3, 4]);
        let first: Vec<u64> = (0..4).map(|_| chance.bits()).collect();
        assert_eq!(first, [41_943_041, 58_720_359, 3_588_806_011_781_223, 3_591_011_842_654_386]);
    }

    #[test]
    fn means_and_variances_are_as_they_should_be_and_streams_differ() {
        let mut chance = Chance::new(7, 0);
        let count = 200_000;
        let moments = |mut draw: Box<dyn FnMut() -> f64>| {
            let (sum, squares) = (0..count).fold((0.0, 0.0), |(s, q), _| {
                let x = draw();
                (s + x, q + x * x)
            });
            let mean = sum / f64::from(count);
            (mean, squares / f64::from(count) - mean * mean)
        };
        let mut other = chance.clone();
        let (mean, variance) = moments(Box::new(move || other.normal()));
        assert!(mean.abs() < 0.01 && (variance - 1.0).abs() < 0.02, "{mean} {variance}");
        let (mean, variance) = moments(Box::new(move || chance.exponential()));
        assert!((mean - 1.0).abs() < 0.01 && (variance - 1.0).abs() < 0.03, "{mean} {variance}");
        assert_ne!(Chance::new(7, 1).bits(), Chance::new(7, 2).bits());
        assert_ne!(Chance::new(7, 1).bits(), Chance::new(8, 1).bits());
    }
}
