//! Spans of time in configuration: `"250ms"`, `"15s"`, `"5m"`, `"24h"`, `"7d"`.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer, de::Error};

const UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

pub(crate) fn serialize<S: Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&text(*span))
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
    parse(&text).ok_or_else(|| {
        D::Error::custom(format!("`{text}` is no span of time: write it like \"250ms\", \"15s\", \"5m\" or \"24h\""))
    })
}

/// In the largest unit that needs no fraction; below a millisecond is cut off.
pub(crate) fn text(span: Duration) -> String {
    let ms = span.as_millis();
    let (unit, size) =
        UNITS.iter().rev().find(|(_, size)| ms > 0 && ms.is_multiple_of(u128::from(*size))).unwrap_or(&UNITS[1]);
    format!("{}{unit}", ms / u128::from(*size))
}

fn parse(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let (_, size) = UNITS.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*size).map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_as_they_are_written() {
        for (written, ms) in [("250ms", 250), ("15s", 15_000), ("90s", 90_000), ("5m", 300_000), ("24h", 86_400_000)] {
            assert_eq!(parse(written), Some(Duration::from_millis(ms)), "{written}");
            assert_eq!(parse(&text(Duration::from_millis(ms))), Some(Duration::from_millis(ms)));
        }
        for wrong in ["", "5", "s", "-5s", "1.5s", "5 s", "99999999999999999999s", "18446744073709551615d"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
        assert_eq!(text(Duration::ZERO), "0s");
    }
}
