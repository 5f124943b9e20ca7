//! How long things take: distributions as data.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use super::Nanos;
use super::chance::{Chance, nanos};
use crate::invalid::Check;

/// The 99th percentile of the standard normal distribution.
const Z99: f64 = 2.326_347_874_040_841;

/// A span of time, in seconds: `"0.81ms"`, `"250us"`, `"15s"`, `"5m"`, `"24h"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
pub struct Span(pub f64);

/// A distribution of a span of time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Law {
    /// Always the same.
    Constant(Span),
    /// Without memory, with this mean.
    Exponential(Span),
    /// Log-normal through two measured percentiles.
    Lognormal {
        /// Half are below.
        p50: Span,
        /// One in a hundred is above.
        p99: Span,
    },
    /// As measured: pairs of a part of 1 and what that part stays below, with straight lines between.
    Measured(Vec<(f64, Span)>),
}

impl Law {
    /// One draw.
    pub fn draw(&self, chance: &mut Chance) -> Nanos {
        nanos(match self {
            Self::Constant(span) => span.0,
            Self::Exponential(mean) => mean.0 * chance.exponential(),
            Self::Lognormal { p50, p99 } => p50.0 * ((p99.0 / p50.0).ln() / Z99 * chance.normal()).exp(),
            Self::Measured(points) => at_part(points, chance.unit()),
        })
    }

    /// Its mean in seconds, and the mean of its square.
    pub fn moments(&self) -> (f64, f64) {
        match self {
            Self::Constant(span) => (span.0, span.0 * span.0),
            Self::Exponential(mean) => (mean.0, 2.0 * mean.0 * mean.0),
            Self::Lognormal { p50, p99 } => {
                let variance = ((p99.0 / p50.0).ln() / Z99).powi(2);
                (p50.0 * (variance / 2.0).exp(), p50.0 * p50.0 * (2.0 * variance).exp())
            }
            Self::Measured(points) => {
                let edge = |part| at_part(points, part);
                let mut sums = (0.0, 0.0);
                let mut from = (0.0, edge(0.0));
                for to in points.iter().map(|(part, span)| (*part, span.0)).chain([(1.0, edge(1.0))]) {
                    let (width, a, b) = (to.0 - from.0, from.1, to.1);
                    sums.0 += width * (a + b) / 2.0;
                    sums.1 += width * (a * a + a * b + b * b) / 3.0;
                    from = to;
                }
                sums
            }
        }
    }

    /// What 99 in 100 stay below, in seconds.
    pub fn p99(&self) -> f64 {
        match self {
            Self::Constant(span) => span.0,
            Self::Exponential(mean) => mean.0 * 100.0_f64.ln(),
            Self::Lognormal { p99, .. } => p99.0,
            Self::Measured(points) => at_part(points, 0.99),
        }
    }

    pub(crate) fn check(&self, key: &str, check: &mut Check) {
        let day = 86_400.0;
        match self {
            Self::Constant(span) | Self::Exponential(span) => {
                check.that((0.0..=day).contains(&span.0), key, "must be from 0s to 24h");
            }
            Self::Lognormal { p50, p99 } => {
                let sound = p50.0 > 0.0 && p50 <= p99 && p99.0 <= day;
                check.that(sound, key, "needs 0 < `p50` <= `p99` <= 24h");
            }
            Self::Measured(points) => {
                let rising = points.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1);
                let within =
                    points.iter().all(|(part, span)| (0.0..=1.0).contains(part) && (0.0..=day).contains(&span.0));
                let sound = !points.is_empty() && points.len() <= 1000 && rising && within;
                check.that(sound, key, "needs 1 to 1000 pairs of a part from 0 to 1 and a span, both rising");
            }
        }
    }
}

/// Before the first point and after the last one, their values hold.
fn at_part(points: &[(f64, Span)], part: f64) -> f64 {
    let next = points.partition_point(|(p, _)| *p < part);
    match (next.checked_sub(1).and_then(|i| points.get(i)), points.get(next)) {
        (Some((p, a)), Some((q, b))) => a.0 + (b.0 - a.0) * (part - p) / (q - p),
        (Some((_, only)), None) | (None, Some((_, only))) => only.0,
        (None, None) => 0.0,
    }
}

impl Span {
    /// In nanoseconds.
    pub fn nanos(self) -> Nanos {
        nanos(self.0)
    }

    fn parse(text: &str) -> Option<Self> {
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, unit) = text.split_at(digits);
        let (_, size) = UNITS.iter().find(|(name, _)| *name == unit)?;
        number.parse::<f64>().ok().map(|number| Self(number * size)).filter(|span| span.0.is_finite())
    }
}

const UNITS: [(&str, f64); 7] =
    [("ns", 1e-9), ("us", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0), ("d", 86_400.0)];

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (unit, size) = UNITS.iter().rev().find(|(_, size)| self.0 >= *size).unwrap_or(&("s", 1.0));
        // Six digits are enough to read, and hide what binary fractions add.
        let number = (self.0 / size * 1e6).round() / 1e6;
        write!(f, "{number}{unit}")
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| {
            D::Error::custom(format!(
                "`{text}` is no span of time: write it like \"0.81ms\", \"15s\", \"5m\" or \"24h\""
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_have_the_moments_that_are_told() {
        let ms = |ms: f64| Span(ms / 1e3);
        for law in [
            Law::Constant(ms(5.0)),
            Law::Exponential(ms(5.0)),
            Law::Lognormal { p50: ms(0.81), p99: ms(4.3) },
            Law::Measured(vec![(0.0, ms(1.0)), (0.5, ms(2.0)), (0.9, ms(8.0)), (1.0, ms(20.0))]),
            Law::Measured(vec![(0.5, ms(2.0)), (0.99, ms(8.0))]),
        ] {
            let mut chance = Chance::new(1, 1);
            let draws: Vec<f64> = (0..200_000).map(|_| law.draw(&mut chance) as f64 / 1e9).collect();
            let mean = draws.iter().sum::<f64>() / 2e5;
            let square = draws.iter().map(|x| x * x).sum::<f64>() / 2e5;
            let (told, told_square) = law.moments();
            assert!((mean / told - 1.0).abs() < 0.01, "{law:?}: {mean} and not {told}");
            assert!((square / told_square - 1.0).abs() < 0.03, "{law:?}: {square} and not {told_square}");
        }
    }

    #[test]
    fn spans_read_as_they_are_written() {
        for (written, seconds) in [("0.81ms", 0.000_81), ("250us", 0.000_25), ("15s", 15.0), ("1.5h", 5400.0)] {
            let span = Span::parse(written).unwrap();
            assert!((span.0 - seconds).abs() < 1e-12, "{written}");
            assert!((Span::parse(&span.to_string()).unwrap().0 - seconds).abs() < 1e-9, "{span}");
        }
        for wrong in ["", "5", "ms", "-5ms", "1.2.3s", "5 s", "5parsecs"] {
            assert_eq!(Span::parse(wrong), None, "{wrong}");
        }
    }
}
