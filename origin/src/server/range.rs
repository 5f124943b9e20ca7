//! `Range` (RFC 9110, section 14): which bytes of an object a request asks for. Pure.

use std::ops::Range;

/// Most ranges in one request; with more the whole object is sent, which is always allowed.
const MAX_RANGES: usize = 32;

/// What to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Selection {
    /// All of it: no range was asked for, or none that is worth honouring.
    Whole,
    /// One range.
    One(Range<u64>),
    /// Two or more ranges, none overlapping another, in the order asked for unless some had to be joined.
    Several(Vec<Range<u64>>),
    /// Ranges were asked for and none of them has a byte.
    Unsatisfiable,
}

/// Which bytes of an object of `size` the field value `range` asks for.
///
/// A value that is not a list of byte ranges is ignored, as section 14.2 allows.
pub(super) fn select(range: &str, size: u64) -> Selection {
    let Some(list) = strip_unit(range) else { return Selection::Whole };
    let mut ranges = Vec::new();
    let mut asked = 0;
    for item in list.split(',').map(|item| item.trim_matches([' ', '\t'])).filter(|item| !item.is_empty()) {
        asked += 1;
        match parse(item, size) {
            _ if asked > MAX_RANGES => return Selection::Whole,
            None => return Selection::Whole,
            Some(range) if range.is_empty() => {}
            Some(range) => ranges.push(range),
        }
    }
    if asked == 0 {
        return Selection::Whole;
    }
    let mut ranges = join(ranges);
    let total: u64 = ranges.iter().map(|r| r.end - r.start).sum();
    match ranges.len() {
        0 => Selection::Unsatisfiable,
        1 => Selection::One(ranges.remove(0)),
        _ if total >= size => Selection::Whole,
        _ => Selection::Several(ranges),
    }
}

fn strip_unit(range: &str) -> Option<&str> {
    let (unit, list) = range.split_once('=')?;
    unit.trim_matches([' ', '\t']).eq_ignore_ascii_case("bytes").then_some(list)
}

/// The bytes one item asks for, empty when there are none; `None` when it is not a range.
fn parse(item: &str, size: u64) -> Option<Range<u64>> {
    let (first, last) = item.split_once('-')?;
    if first.is_empty() {
        let suffix = number(last)?;
        return Some(size - suffix.min(size)..size);
    }
    let first = number(first)?;
    let end = match last {
        "" => size,
        last => {
            let last = number(last)?;
            if last < first {
                return None;
            }
            last.saturating_add(1).min(size)
        }
    };
    Some(first.min(end)..end)
}

/// A number of digits only; too large a one is as good as the largest.
fn number(digits: &str) -> Option<u64> {
    let only_digits = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    only_digits.then(|| digits.parse().unwrap_or(u64::MAX))
}

/// The same bytes without overlaps: as they are when there are none, otherwise sorted and joined.
fn join(ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    let mut sorted = ranges.clone();
    sorted.sort_by_key(|r| r.start);
    if sorted.is_sorted_by(|a, b| a.end < b.start) {
        return ranges;
    }
    let mut joined: Vec<Range<u64>> = Vec::new();
    for range in sorted {
        match joined.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_are_read_as_the_standard_says() {
        let one = |r: Range<u64>| Selection::One(r);
        let cases = [
            ("bytes=0-0", one(0..1)),
            ("bytes=0-499", one(0..500)),
            ("bytes=500-", one(500..1000)),
            ("bytes=-1", one(999..1000)),
            ("bytes=-5000", one(0..1000)),
            ("bytes=0-99999999999999999999999", one(0..1000)),
            ("Bytes = 5-6", one(5..7)),
            ("bytes=,5-6,,", one(5..7)),
            ("bytes=0-9, 5-19", one(0..20)),
            ("bytes=0-9,10-19", one(0..20)),
            ("bytes=990-,2000-3000", one(990..1000)),
            ("bytes=0-1,5-6", Selection::Several(vec![0..2, 5..7])),
            ("bytes=-2,0-0", Selection::Several(vec![998..1000, 0..1])),
            ("bytes=1000-", Selection::Unsatisfiable),
            ("bytes=-0", Selection::Unsatisfiable),
            ("bytes=99999999999999999999999-", Selection::Unsatisfiable),
            ("bytes=1000-2000, -0", Selection::Unsatisfiable),
        ];
        for (text, expected) in cases {
            assert_eq!(select(text, 1000), expected, "{text}");
        }
    }

    #[test]
    fn what_is_not_a_range_or_not_worth_one_is_ignored() {
        for text in [
            "",
            "bytes",
            "bytes=",
            "bytes= , ,",
            "bytes=5-4",
            "bytes=a-b",
            "bytes=-",
            "bytes=--1",
            "bytes=+1-2",
            "items=0-1",
            "bytes=0-1;",
            "bytes=0-0x10",
            "bytes=0 -1",
            "0-1",
        ] {
            assert_eq!(select(text, 1000), Selection::Whole, "{text:?}");
        }
        let many: Vec<String> = (0..33).map(|n| format!("{}-{}", n * 10, n * 10)).collect();
        assert_eq!(select(&format!("bytes={}", many.join(",")), 1000), Selection::Whole);
        assert_eq!(select("bytes=0-", 0), Selection::Unsatisfiable);
        assert_eq!(select("bytes=-5", 0), Selection::Unsatisfiable);
    }

    proptest! {
        #[test]
        fn any_text_is_answered_within_the_object(text in "bytes=[-0-9, ]{0,60}|.{0,40}", size in 0_u64..3000) {
            let ranges = match select(&text, size) {
                Selection::Whole | Selection::Unsatisfiable => vec![],
                Selection::One(range) => vec![range],
                Selection::Several(ranges) => ranges,
            };
            prop_assert!(ranges.iter().all(|r| r.start < r.end && r.end <= size));
            prop_assert!(ranges.iter().map(|r| r.end - r.start).sum::<u64>() <= size, "no byte twice");
        }

        #[test]
        fn a_range_that_exists_is_found_exactly(size in 1_u64..u64::MAX, a in any::<u64>(), b in any::<u64>()) {
            let (a, b) = (a % size, b % size);
            let (first, last) = (a.min(b), a.max(b));
            prop_assert_eq!(select(&format!("bytes={first}-{last}"), size), Selection::One(first..last + 1));
        }
    }
}
