//! What requests ask for: Zipf's law, drawn independently (the independent reference model).

use super::chance::Chance;

/// Things by popularity, the most popular first.
#[derive(Clone, Debug)]
pub struct Popular {
    parts: Vec<f64>,
    /// For Walker's alias method: where a draw of the column stays, and where it goes otherwise.
    stay: Vec<f64>,
    other: Vec<u32>,
}

impl Popular {
    /// `count` things, the n-th drawn in proportion to n to the power of −`exponent`. Of none there is one.
    pub fn zipf(count: u32, exponent: f64) -> Self {
        let weights: Vec<f64> = (1..=count.max(1)).map(|rank| f64::from(rank).powf(-exponent)).collect();
        Self::weighted(&weights)
    }

    /// Things with these weights, not all 0.
    pub fn weighted(weights: &[f64]) -> Self {
        let sum: f64 = weights.iter().sum();
        let parts: Vec<f64> = weights.iter().map(|weight| weight / sum).collect();
        let count = parts.len();
        let mut stay: Vec<f64> = parts.iter().map(|part| part * count as f64).collect();
        let mut other: Vec<u32> = (0..count as u32).collect();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) = (0..count).partition(|i| stay[*i] < 1.0);
        while let (Some(less), Some(more)) = (small.pop(), large.last().copied()) {
            other[less] = more as u32;
            stay[more] -= 1.0 - stay[less];
            if stay[more] < 1.0 {
                large.pop();
                small.push(more);
            }
        }
        // What is left over by rounding is full.
        small.into_iter().chain(large).for_each(|i| stay[i] = 1.0);
        Self { parts, stay, other }
    }

    /// One of them.
    pub fn draw(&self, chance: &mut Chance) -> u32 {
        let column = chance.below(self.parts.len());
        if chance.unit() < self.stay[column] { column as u32 } else { self.other[column] }
    }

    /// The part of the requests that asks for each.
    pub fn parts(&self) -> &[f64] {
        &self.parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_are_drawn_as_often_as_their_parts_say() {
        let popular = Popular::zipf(50, 0.9);
        let mut counts = vec![0.0; 50];
        let mut chance = Chance::new(5, 5);
        (0..400_000).for_each(|_| counts[popular.draw(&mut chance) as usize] += 1.0 / 4e5);
        for (count, part) in counts.iter().zip(popular.parts()) {
            assert!((count - part).abs() < 4.0 * (part / 4e5).sqrt(), "{count} {part}");
        }
        assert!((popular.parts().iter().sum::<f64>() - 1.0).abs() < 1e-12);
    }
}
