use std::fmt;
use std::iter::Sum;
use std::ops::Add;

use serde::{Serialize, Serializer};

/// An amount of the book's currency, whole millionths of it: sums are exact, so that the lines of a bill add up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Money(u64);

impl Money {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// Rounded to the nearest millionth. What is negative or no number is nothing, what is too much is the most.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a cast from f64 saturates: that is meant"
    )]
    pub fn from_f64(amount: f64) -> Self {
        Self((amount * 1e6).round() as u64)
    }

    /// Exact.
    #[must_use]
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Millionths.
    #[must_use]
    pub const fn micros(self) -> u64 {
        self.0
    }

    /// For ratios and plots.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "below nine thousand million, exact to a millionth")]
    pub fn as_f64(self) -> f64 {
        self.0 as f64 / 1e6
    }
}

impl Add for Money {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sum for Money {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Add::add)
    }
}

impl fmt::Display for Money {
    /// To the cent; what is less than a cent keeps its millionths.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 != 0 && self.0 < 10_000 {
            return write!(f, "0.{:06}", self.0);
        }
        let cents = self.0.saturating_add(5000) / 10_000;
        let whole = (cents / 100).to_string();
        let mut grouped = String::with_capacity(whole.len() + whole.len() / 3);
        for (index, digit) in whole.chars().enumerate() {
            if index > 0 && (whole.len() - index).is_multiple_of(3) {
                grouped.push(',');
            }
            grouped.push(digit);
        }
        f.pad(&format!("{grouped}.{:02}", cents % 100))
    }
}

impl Serialize for Money {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.as_f64())
    }
}
