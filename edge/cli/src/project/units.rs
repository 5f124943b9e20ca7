//! Times and sizes as people write them.

use isolate::limits::Unit;

use super::document::Node;
use super::fields::{Field, Findings};

/// Suffixes of a time, with their length in milliseconds.
const TIMES: [(&str, u64); 4] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];

/// Suffixes of a size, with their length in bytes.
const SIZES: [(&str, u64); 7] = [
    ("B", 1),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];

/// A number in the base unit, or a text with a suffix.
pub(super) fn quantity(findings: &mut Findings<'_>, field: &Field<'_>, unit: Unit) -> Option<u64> {
    let (suffixes, expected): (&[_], _) = match unit {
        Unit::Milliseconds => (&TIMES, "milliseconds as a whole number, or a text such as \"50ms\", \"2s\" or \"1m\""),
        Unit::Bytes => (&SIZES, "bytes as a whole number, or a text such as \"64KiB\", \"128MiB\" or \"1MB\""),
        Unit::Count => (&[], "a whole number"),
    };
    match &field.value.node {
        Node::Number(n) => {
            let value = n.as_u64();
            if value.is_none() {
                findings.wrong(field, format!("{n} is not {expected}"), "");
            }
            value
        }
        Node::String(text) if !suffixes.is_empty() => {
            let value = with_suffix(text, suffixes);
            if value.is_none() {
                findings.wrong(field, format!("{text:?} is not {expected}"), "");
            }
            value
        }
        _ => {
            findings.expected(field, expected);
            None
        }
    }
}

fn with_suffix(text: &str, suffixes: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, suffix) = text.split_at(digits);
    let suffix = suffix.trim_start();
    let (_, factor) = suffixes.iter().find(|(name, _)| name.eq_ignore_ascii_case(suffix))?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// A value in the largest unit that shows it whole.
pub(crate) fn shown(value: u64, unit: Unit) -> String {
    let suffixes: &[(&str, u64)] = match unit {
        Unit::Milliseconds => &TIMES[..2],
        Unit::Bytes => &[SIZES[0], SIZES[4], SIZES[5], SIZES[6]],
        Unit::Count => return value.to_string(),
    };
    let (name, factor) =
        suffixes.iter().rev().find(|(_, factor)| value.is_multiple_of(*factor)).unwrap_or(&suffixes[0]);
    format!("{} {name}", value / factor)
}

/// Seconds in `range`: a whole number, or a text such as `"60s"` or `"1m"`.
pub(super) fn seconds(
    findings: &mut Findings<'_>,
    field: &Field<'_>,
    range: std::ops::RangeInclusive<u64>,
) -> Option<u64> {
    let expected = format!("{} to {} seconds, as a whole number or a text such as \"60s\"", range.start(), range.end());
    let value = match &field.value.node {
        Node::Number(n) => n.as_u64(),
        Node::String(text) => with_suffix(text, &TIMES).filter(|ms| ms.is_multiple_of(1_000)).map(|ms| ms / 1_000),
        _ => {
            findings.expected(field, &expected);
            return None;
        }
    };
    let value = value.filter(|value| range.contains(value));
    if value.is_none() {
        findings.wrong(field, format!("expected {expected}"), "");
    }
    value
}
