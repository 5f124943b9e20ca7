//! Conditional requests (RFC 9110, section 13) for GET and HEAD. Pure.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE};
use http::{HeaderMap, HeaderName};

/// What identifies the object at this moment.
#[derive(Clone, Debug)]
pub(super) struct Validators {
    /// Strong entity tag, without quotes; empty when there is none.
    pub(super) etag: String,
    /// When it was last written.
    pub(super) modified: SystemTime,
}

/// What the preconditions allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Answer as if there were none.
    Proceed,
    /// 304: the client has it.
    NotModified,
    /// 412: not the object the client means.
    Failed,
}

/// Judges the preconditions in the order of section 13.2.2.
pub(super) fn judge(headers: &HeaderMap, validators: &Validators) -> Verdict {
    let modified = seconds(validators.modified);
    if headers.contains_key(IF_MATCH) {
        if !tag_matches(headers, &IF_MATCH, &validators.etag, Comparison::Strong) {
            return Verdict::Failed;
        }
    } else if date(headers, &IF_UNMODIFIED_SINCE).is_some_and(|since| modified > since) {
        return Verdict::Failed;
    }
    if headers.contains_key(IF_NONE_MATCH) {
        if tag_matches(headers, &IF_NONE_MATCH, &validators.etag, Comparison::Weak) {
            return Verdict::NotModified;
        }
    } else if date(headers, &IF_MODIFIED_SINCE).is_some_and(|since| modified <= since) {
        return Verdict::NotModified;
    }
    Verdict::Proceed
}

/// Whether a range may be sent (section 13.1.5): there is no `If-Range`, or it names exactly this object.
pub(super) fn range_applies(headers: &HeaderMap, validators: &Validators, now: SystemTime) -> bool {
    if !headers.contains_key(IF_RANGE) {
        return true;
    }
    match date(headers, &IF_RANGE) {
        Some(date) => {
            let modified = seconds(validators.modified);
            // Within a second of the change the date could stand for two objects: not a strong validator.
            date == modified && seconds(now) > modified
        }
        None => {
            let value = headers.get(IF_RANGE).and_then(|v| v.to_str().ok()).unwrap_or_default();
            let tag = value.strip_prefix('"').and_then(|v| v.strip_suffix('"'));
            !validators.etag.is_empty() && tag == Some(&validators.etag)
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Strong,
    Weak,
}

/// Whether a list of entity tags, over all fields of the name, has `etag` or is `*`.
fn tag_matches(headers: &HeaderMap, name: &HeaderName, etag: &str, comparison: Comparison) -> bool {
    headers.get_all(name).iter().filter_map(|v| v.to_str().ok()).any(|list| {
        list.trim() == "*"
            || tags(list)
                .any(|(weak, tag)| tag == etag && !etag.is_empty() && (!weak || comparison == Comparison::Weak))
    })
}

/// The entity tags of a list, each with whether it is weak. A malformed rest is not looked at.
fn tags(list: &str) -> impl Iterator<Item = (bool, &str)> {
    let mut rest = list;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let weak = rest.starts_with("W/");
        let quoted = rest.strip_prefix("W/").unwrap_or(rest).strip_prefix('"')?;
        let (tag, after) = quoted.split_once('"')?;
        rest = after;
        Some((weak, tag))
    })
}

/// The date in a field; `None` when it is absent, not a date, or there are several.
fn date(headers: &HeaderMap, name: &HeaderName) -> Option<SystemTime> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    if values.next().is_some() {
        return None;
    }
    httpdate::parse_http_date(value.trim()).ok()
}

/// A time as an HTTP date can say it: whole seconds, from 1970 to 9999.
pub(super) fn seconds(time: SystemTime) -> SystemTime {
    const LAST: u64 = 253_402_300_799;
    UNIX_EPOCH + Duration::from_secs(time.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs().min(LAST)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const SAME: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const AFTER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

    fn validators() -> Validators {
        let modified = UNIX_EPOCH + Duration::from_millis(784_111_777_400);
        Validators { etag: "abc".to_owned(), modified }
    }

    fn check(fields: &[(&HeaderName, &str)], expected: Verdict) {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        assert_eq!(judge(&headers, &validators()), expected, "{fields:?}");
    }

    #[test]
    fn entity_tags_are_compared_strongly_or_weakly() {
        use Verdict::*;
        check(&[], Proceed);
        for (value, matched, not_none) in [
            ("\"abc\"", Proceed, NotModified),
            ("*", Proceed, NotModified),
            ("W/\"abc\"", Failed, NotModified),
            ("\"x\", W/\"y\",\"abc\"", Proceed, NotModified),
            ("\"x,\\\"abc\"", Failed, Proceed),
            ("abc", Failed, Proceed),
            ("\"ABC\"", Failed, Proceed),
            ("\"\"", Failed, Proceed),
            ("\"abc", Failed, Proceed),
        ] {
            check(&[(&IF_MATCH, value)], matched);
            check(&[(&IF_NONE_MATCH, value)], not_none);
        }
        check(&[(&IF_NONE_MATCH, "\"x\""), (&IF_NONE_MATCH, "\"abc\"")], NotModified);
    }

    #[test]
    fn dates_count_whole_seconds() {
        use Verdict::*;
        for (value, unmodified, modified) in [
            (BEFORE, Failed, Proceed),
            (SAME, Proceed, NotModified),
            (AFTER, Proceed, NotModified),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Proceed, NotModified),
            ("Sun Nov  6 08:49:37 1994", Proceed, NotModified),
            ("yesterday", Proceed, Proceed),
        ] {
            check(&[(&IF_UNMODIFIED_SINCE, value)], unmodified);
            check(&[(&IF_MODIFIED_SINCE, value)], modified);
        }
    }

    #[test]
    fn entity_tags_take_precedence_over_dates_and_match_over_none_match() {
        use Verdict::*;
        check(&[(&IF_MATCH, "\"abc\""), (&IF_UNMODIFIED_SINCE, BEFORE)], Proceed);
        check(&[(&IF_NONE_MATCH, "\"x\""), (&IF_MODIFIED_SINCE, AFTER)], Proceed);
        check(&[(&IF_MATCH, "\"x\""), (&IF_NONE_MATCH, "\"abc\"")], Failed);
        check(&[(&IF_MATCH, "\"abc\""), (&IF_NONE_MATCH, "\"abc\"")], NotModified);
        check(&[(&IF_UNMODIFIED_SINCE, AFTER), (&IF_MODIFIED_SINCE, AFTER)], NotModified);
    }

    #[test]
    fn a_range_is_sent_only_of_the_object_that_is_meant() {
        let later = validators().modified + Duration::from_secs(60);
        let applies = |value: &str, now| {
            let headers = HeaderMap::from_iter([(IF_RANGE, value.parse().unwrap())]);
            range_applies(&headers, &validators(), now)
        };
        assert!(range_applies(&HeaderMap::new(), &validators(), later));
        assert!(applies("\"abc\"", later));
        assert!(applies(SAME, later));
        assert!(!applies(SAME, validators().modified), "too fresh to be sure");
        for other in ["\"x\"", "W/\"abc\"", BEFORE, AFTER, "abc", "\"abc", "*"] {
            assert!(!applies(other, later), "{other}");
        }
    }
}
