//! Which bytes of a representation there are.

use http::HeaderMap;
use http::header::CONTENT_RANGE;

/// Some bytes of a representation whose length is known: from `start` up to, not including, `end`; never none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// The length of the whole representation; at least `end`.
    pub(crate) total: u64,
}

impl Span {
    /// What the `Content-Range` of a 206 says (RFC 9110 section 14.4); `None` for one of several parts, of an unknown
    /// length, or that makes no sense.
    pub(crate) fn of_response(headers: &HeaderMap) -> Option<Self> {
        let mut lines = headers.get_all(CONTENT_RANGE).iter();
        let (Some(line), None) = (lines.next(), lines.next()) else { return None };
        let (range, total) = line.to_str().ok()?.trim().strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let (start, end, total) = (number(first)?, number(last)?.checked_add(1)?, number(total)?);
        (start < end && end <= total).then_some(Self { start, end, total })
    }

    pub(crate) fn length(&self) -> u64 {
        self.end - self.start
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.length() == self.total
    }

    /// Whether both together are one span.
    pub(crate) fn touches(&self, other: &Self) -> bool {
        self.total == other.total && self.start <= other.end && other.start <= self.end
    }

    /// What is missing, where that is one span.
    pub(crate) fn rest(&self) -> Option<Self> {
        match (self.start == 0, self.end == self.total) {
            (true, false) => Some(Self { start: self.end, end: self.total, total: self.total }),
            (false, true) => Some(Self { start: 0, end: self.start, total: self.total }),
            _ => None,
        }
    }

    /// The `Range` that asks for it (RFC 9110 section 14.2).
    pub(crate) fn range(&self) -> String {
        if self.end == self.total {
            format!("bytes={}-", self.start)
        } else {
            format!("bytes={}-{}", self.start, self.end - 1)
        }
    }
}

fn number(text: &str) -> Option<u64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lines: &[&str]) -> Option<(u64, u64, u64)> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(CONTENT_RANGE, line.parse().unwrap());
        }
        Span::of_response(&headers).map(|span| (span.start, span.end, span.total))
    }

    #[test]
    fn a_content_range_is_taken_only_where_it_makes_sense() {
        assert_eq!(of(&["bytes 0-4/10"]), Some((0, 5, 10)));
        assert_eq!(of(&["bytes 9-9/10"]), Some((9, 10, 10)));
        for bad in [
            "bytes 0-4/*",
            "bytes */10",
            "bytes 5-4/10",
            "bytes 0-10/10",
            "bytes -4/10",
            "bytes +0-4/10",
            "lines 0-4/10",
            "0-4/10",
            "bytes 0-18446744073709551615/18446744073709551615",
            "",
        ] {
            assert_eq!(of(&[bad]), None, "{bad}");
        }
        assert_eq!(of(&["bytes 0-4/10", "bytes 0-4/10"]), None);
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn what_is_missing_is_asked_for_at_either_end() {
        let span = |start, end| Span { start, end, total: 10 };
        assert_eq!(span(0, 5).rest().map(|rest| rest.range()).as_deref(), Some("bytes=5-"));
        assert_eq!(span(5, 10).rest().map(|rest| rest.range()).as_deref(), Some("bytes=0-4"));
        assert_eq!(span(2, 5).rest(), None);
        assert_eq!(span(0, 10).rest(), None);
        assert!(span(0, 5).touches(&span(5, 6)) && span(4, 6).touches(&span(0, 5)) && !span(0, 5).touches(&span(6, 7)));
    }
}
