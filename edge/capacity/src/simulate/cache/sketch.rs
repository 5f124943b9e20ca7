//! How often objects were asked for lately, near enough, in little memory.

/// Rows of a count-min sketch.
const ROWS: usize = 4;
/// After so many counts for each object that fits, all are halved.
const SAMPLE: u64 = 10;
/// Counts end here, as in the four bits of the original.
const MOST: u8 = 15;

/// Counts that age.
#[derive(Clone, Debug)]
pub(super) struct Sketch {
    counts: Vec<u8>,
    mask: usize,
    counted: u64,
    sample: u64,
}

impl Sketch {
    pub(super) fn new(capacity: usize) -> Self {
        let width = (capacity * 4).next_power_of_two().max(64);
        Self { counts: vec![0; width * ROWS], mask: width - 1, counted: 0, sample: SAMPLE * capacity as u64 }
    }

    pub(super) fn count(&mut self, object: u32) {
        for row in 0..ROWS {
            let place = self.place(object, row);
            self.counts[place] = (self.counts[place] + 1).min(MOST);
        }
        self.counted += 1;
        if self.counted >= self.sample {
            self.counts.iter_mut().for_each(|count| *count /= 2);
            self.counted = 0;
        }
    }

    pub(super) fn estimate(&self, object: u32) -> u8 {
        (0..ROWS).map(|row| self.counts[self.place(object, row)]).min().unwrap_or(0)
    }

    fn place(&self, object: u32, row: usize) -> usize {
        let salted = u64::from(object) ^ (row as u64 + 1) << 40;
        let mixed = salted.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        row * (self.mask + 1) + ((mixed ^ (mixed >> 32)) as usize & self.mask)
    }
}
