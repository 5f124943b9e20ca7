//! Durations and sizes as people write them: `250ms`, `2s`, `1.5h`, `64MiB`.

use std::time::Duration;

/// Longest duration accepted anywhere on the command line: one year.
const MAX_SECONDS: f64 = 366.0 * 86_400.0;

/// Reads a duration: a number with the unit `us`, `ms`, `s`, `m`, `h` or `d`. `0` needs no unit.
///
/// # Errors
/// Says which forms are accepted.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let seconds = number(text, &[("us", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0), ("d", 86_400.0)])
        .ok_or_else(|| format!("{text:?} is not a duration: write a number with its unit, like 250ms, 2s or 1h"))?;
    if seconds > MAX_SECONDS {
        return Err(format!("{text:?} is more than a year"));
    }
    Ok(Duration::from_secs_f64(seconds))
}

/// Reads a size in bytes: a number, alone or with the unit `B`, `KiB`, `MiB` or `GiB`.
///
/// # Errors
/// Says which forms are accepted.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let units = [("KiB", 1024.0), ("MiB", 1_048_576.0), ("GiB", 1_073_741_824.0), ("B", 1.0), ("", 1.0)];
    number(text, &units)
        .filter(|bytes| *bytes < (1u64 << 53) as f64)
        .map(|bytes| bytes as u64)
        .ok_or_else(|| format!("{text:?} is not a size: write a number with its unit, like 64MiB or 1GiB"))
}

/// A non-negative decimal number times its unit's factor.
fn number(text: &str, units: &[(&str, f64)]) -> Option<f64> {
    let split = text.find(|c: char| c != '.' && !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let value: f64 = number.parse().ok()?;
    if value == 0.0 && unit.is_empty() {
        return Some(0.0);
    }
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    Some(value * factor).filter(|v| v.is_finite())
}

/// A size for people: `512 B`, `1.5 KiB`, `20 MiB`.
pub(crate) fn show_bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    for unit in ["KiB", "MiB", "GiB"] {
        value /= 1024.0;
        if value < 1024.0 || unit == "GiB" {
            let digits = usize::from(value.fract() != 0.0);
            return format!("{value:.digits$} {unit}");
        }
    }
    unreachable!("the last unit always returns")
}

/// A duration in milliseconds for people, three significant digits.
pub(crate) fn show_ms(ms: f64) -> String {
    match ms {
        ms if ms < 10.0 => format!("{ms:.2} ms"),
        ms if ms < 100.0 => format!("{ms:.1} ms"),
        ms => format!("{ms:.0} ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_with_their_unit() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("1.5h"), Ok(Duration::from_secs(5400)));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        for bad in ["", "5", "ms", "-1s", "1 s", "1.2.3s", "1e9s", "9999999d", "inf", "NaNs", "."] {
            assert!(duration(bad).is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn sizes_are_read_with_their_unit() {
        assert_eq!((bytes("64MiB"), bytes("7"), bytes("1.5KiB")), (Ok(64 << 20), Ok(7), Ok(1536)));
        for bad in ["", "64MB", "x", "-1", "99999999999999GiB"] {
            assert!(bytes(bad).is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn amounts_are_shown_in_the_unit_that_reads_best() {
        assert_eq!((show_bytes(512).as_str(), show_bytes(1536).as_str()), ("512 B", "1.5 KiB"));
        assert_eq!((show_bytes(20 << 20).as_str(), show_bytes(u64::MAX).ends_with("GiB")), ("20 MiB", true));
        assert_eq!(
            (show_ms(1.234).as_str(), show_ms(12.34).as_str(), show_ms(123.4).as_str()),
            ("1.23 ms", "12.3 ms", "123 ms")
        );
    }
}
