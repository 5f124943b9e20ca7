//! `Range` (RFC 9110 section 14).

/// What a `Range` field asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// The field is to be ignored: it is malformed, of another unit, or wants several ranges. A server may always
    /// ignore a range (section 14.2), and one of many parts costs more than the whole.
    Whole,
    /// The bytes from `start` up to, not including, `end`; never empty, never past the end.
    Range { start: u64, end: u64 },
    /// None of it exists.
    Unsatisfiable,
}

/// Reads a `Range` field for a body of this length.
pub(super) fn wanted(field: &[u8], length: u64) -> Wanted {
    let Some((unit, set)) = std::str::from_utf8(field).ok().and_then(|field| field.split_once('=')) else {
        return Wanted::Whole;
    };
    let mut specs = set.split(',').map(|spec| spec.trim_matches([' ', '\t'])).filter(|spec| !spec.is_empty());
    let (Some(spec), None) = (specs.next(), specs.next()) else { return Wanted::Whole };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Wanted::Whole;
    }
    match spec.split_once('-') {
        Some(("", suffix)) => {
            number(suffix).map_or(Wanted::Whole, |count| within(length.saturating_sub(count), length, length))
        }
        Some((first, "")) => number(first).map_or(Wanted::Whole, |first| within(first, length, length)),
        Some((first, last)) => match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => within(first, last.saturating_add(1), length),
            _ => Wanted::Whole,
        },
        None => Wanted::Whole,
    }
}

/// Whether a `Range` field asks for one part that begins at `limit` or behind it, or may: where a suffix (`bytes=-5`)
/// begins depends on the length, which nobody knows yet.
pub(crate) fn begins_beyond(field: &[u8], limit: u64) -> bool {
    match wanted(field, u64::MAX) {
        Wanted::Range { start, .. } => start >= limit,
        Wanted::Unsatisfiable => true,
        Wanted::Whole => false,
    }
}

fn within(start: u64, end: u64, length: u64) -> Wanted {
    let end = end.min(length);
    if start < end { Wanted::Range { start, end } } else { Wanted::Unsatisfiable }
}

/// Digits; what is too large is as large as can be.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_forms_of_a_range() {
        let range = |start, end| Wanted::Range { start, end };
        for (field, expect) in [
            ("bytes=0-0", range(0, 1)),
            ("bytes=0-", range(0, 10)),
            ("bytes=5-99", range(5, 10)),
            ("bytes=5-99999999999999999999999", range(5, 10)),
            ("bytes=-3", range(7, 10)),
            ("bytes=-99", range(0, 10)),
            ("Bytes= 2-3 ", range(2, 4)),
            ("bytes=2-3,", range(2, 4)),
            ("bytes=10-", Wanted::Unsatisfiable),
            ("bytes=-0", Wanted::Unsatisfiable),
            ("bytes=3-2", Wanted::Whole),
            ("bytes=0-1,3-4", Wanted::Whole),
            ("bytes=", Wanted::Whole),
            ("bytes=-", Wanted::Whole),
            ("bytes=a-b", Wanted::Whole),
            ("bytes=+1-2", Wanted::Whole),
            ("bytes=1--2", Wanted::Whole),
            ("lines=0-1", Wanted::Whole),
            ("0-1", Wanted::Whole),
        ] {
            assert_eq!(wanted(field.as_bytes(), 10), expect, "{field}");
        }
        assert_eq!(wanted(b"bytes=0-", 0), Wanted::Unsatisfiable);
        assert_eq!(wanted(b"bytes=-5", 0), Wanted::Unsatisfiable);
    }

    #[test]
    fn a_range_that_begins_beyond_what_is_stored_is_recognised() {
        for (field, expect) in [
            ("bytes=0-", false),
            ("bytes=9-", false),
            ("bytes=0-99999", false),
            ("bytes=10-", true),
            ("bytes=10-10", true),
            ("bytes=99999999999999999999999-", true),
            ("bytes=-1", true),
            ("bytes=-99999999999999999999999", false),
            ("bytes=-0", true),
            ("bytes=0-1,10-", false),
            ("lines=10-", false),
            ("bytes=x", false),
        ] {
            assert_eq!(begins_beyond(field.as_bytes(), 10), expect, "{field}");
        }
    }

    proptest! {
        #[test]
        fn a_range_never_leaves_the_body(field in "(bytes=)?[0-9-, ]{0,30}", length in any::<u64>()) {
            if let Wanted::Range { start, end } = wanted(field.as_bytes(), length) {
                prop_assert!(start < end && end <= length);
            }
        }
    }
}
