//! How long a response is fresh, and how old it is (RFC 9111 section 4.2).

use std::time::{Duration, SystemTime};

use http::header::{AGE, DATE, EXPIRES, HeaderName, LAST_MODIFIED};
use http::{HeaderMap, StatusCode};

use super::{Control, Rules, list};

/// When the origin was asked and when its head was there (section 4.2.3: request_time, response_time).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exchange {
    /// When the request was sent.
    pub requested: SystemTime,
    /// When the response head had arrived.
    pub received: SystemTime,
}

/// Status codes whose responses may get a heuristic lifetime (RFC 9110 section 15.1), without 206, which is not stored.
pub fn heuristically_cacheable(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501)
}

/// The first line of a field that holds a date. Anything else than a valid HTTP-date is no date (RFC 9110 section 5.6.7).
/// What lies before 1970 is taken for its first second.
pub fn date(headers: &HeaderMap, name: &HeaderName) -> Option<SystemTime> {
    let text = headers.get(name)?.to_str().ok()?.trim();
    httpdate::parse_http_date(text).ok().or_else(|| before_1970(text).then_some(SystemTime::UNIX_EPOCH))
}

/// Whether this is a date that only lies too far back for the parser: 400 years later it has the same weekday.
fn before_1970(text: &str) -> bool {
    text.split(' ').filter(|word| word.len() == 4).filter_map(|word| word.parse::<u32>().ok()).any(|year| {
        let later = text.replacen(&format!(" {year:04}"), &format!(" {}", year + 400), 1);
        (1570..1970).contains(&year) && httpdate::parse_http_date(&later).is_ok()
    })
}

/// When the response was made: its `Date`, or when it arrived (RFC 9110 section 6.6.1).
pub fn made_at(headers: &HeaderMap, exchange: Exchange) -> SystemTime {
    date(headers, &DATE).unwrap_or(exchange.received)
}

/// freshness_lifetime for a shared cache (sections 4.2.1 and 4.2.2): `s-maxage`, `max-age`, `Expires` minus `Date`, or
/// a tenth of the time since `Last-Modified`. Zero when nothing gives one.
pub fn lifetime(
    status: StatusCode,
    headers: &HeaderMap,
    control: &Control,
    exchange: Exchange,
    rules: &Rules,
) -> Duration {
    if let Some(lifetime) = control.s_maxage.or(control.max_age) {
        return lifetime;
    }
    let made = made_at(headers, exchange);
    if !control.targeted && headers.contains_key(EXPIRES) {
        // An invalid date, "0" above all, lies in the past (section 5.3).
        let expires = date(headers, &EXPIRES);
        return expires.and_then(|expires| expires.duration_since(made).ok()).unwrap_or_default();
    }
    if !rules.negative_ttl.is_zero() && matches!(status.as_u16(), 404 | 405 | 410 | 414 | 501) {
        return rules.negative_ttl;
    }
    if heuristically_cacheable(status) || control.public { heuristic(headers, made, rules) } else { Duration::ZERO }
}

fn heuristic(headers: &HeaderMap, made: SystemTime, rules: &Rules) -> Duration {
    let unchanged = date(headers, &LAST_MODIFIED).and_then(|modified| made.duration_since(modified).ok());
    let tenth = unchanged.and_then(|unchanged| unchanged.checked_div(rules.heuristic_divisor));
    tenth.unwrap_or_default().min(rules.heuristic_max)
}

/// `Age` (section 5.1): the first member, when it is digits; too large a number is 2^31.
pub fn age_value(headers: &HeaderMap) -> Duration {
    let text = list::members(headers, &AGE).next().unwrap_or_default();
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return Duration::ZERO;
    }
    let seconds = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).unwrap_or(1 << 31);
    Duration::from_secs(seconds.min(1 << 31))
}

/// corrected_initial_age (section 4.2.3): how old the response was when it arrived, by its `Date` or by what the caches
/// before this one say, whichever is more.
pub fn initial_age(headers: &HeaderMap, exchange: Exchange) -> Duration {
    let apparent = exchange.received.duration_since(made_at(headers, exchange)).unwrap_or_default();
    let delay = exchange.received.duration_since(exchange.requested).unwrap_or_default();
    apparent.max(age_value(headers).saturating_add(delay))
}

/// current_age (section 4.2.3). A clock that was set back adds nothing.
pub fn current_age(initial_age: Duration, received: SystemTime, now: SystemTime) -> Duration {
    initial_age.saturating_add(now.duration_since(received).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    const DAY: u64 = 24 * 3600;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds)
    }

    fn headers(lines: &[(HeaderName, String)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap())).collect()
    }

    fn when(seconds: u64) -> String {
        httpdate::fmt_http_date(at(seconds))
    }

    fn exchange(requested: u64, received: u64) -> Exchange {
        Exchange { requested: at(requested), received: at(received) }
    }

    fn lifetime_of(lines: &[(HeaderName, String)]) -> u64 {
        let headers = headers(lines);
        let control = Control::of_response(&headers);
        lifetime(StatusCode::OK, &headers, &control, exchange(DAY, DAY), &Rules::default()).as_secs()
    }

    #[test]
    fn s_maxage_beats_max_age_beats_expires_beats_the_heuristic() {
        let control = |value: &str| (http::header::CACHE_CONTROL, value.to_owned());
        let expires = (EXPIRES, when(DAY + 30));
        let modified = (LAST_MODIFIED, when(0));
        assert_eq!(lifetime_of(&[control("max-age=20, s-maxage=10"), expires.clone()]), 10);
        assert_eq!(lifetime_of(&[control("max-age=20"), expires.clone(), modified.clone()]), 20);
        assert_eq!(lifetime_of(&[expires.clone(), modified.clone()]), 30);
        assert_eq!(lifetime_of(&[expires, (DATE, when(DAY + 10))]), 20, "Expires counts from Date");
        assert_eq!(lifetime_of(&[modified]), DAY / 10);
        assert_eq!(lifetime_of(&[]), 0);
    }

    #[test]
    fn an_invalid_or_past_expires_is_stale_at_once() {
        for value in ["0", "-1", "Thu, 99 Foo 2065", "2065-01-01", "Wed, 21 Oct 2065 07:28:00 EST"] {
            assert_eq!(lifetime_of(&[(EXPIRES, value.into()), (LAST_MODIFIED, when(0))]), 0, "{value}");
        }
        assert_eq!(lifetime_of(&[(EXPIRES, when(0)), (DATE, when(DAY))]), 0);
        assert!(lifetime_of(&[(EXPIRES, "Fri, 31 Dec 9999 23:59:59 GMT".into())]) > 200_000_000_000);
    }

    #[test]
    fn a_date_before_1970_is_a_date() {
        let of = |text: &str| date(&headers(&[(DATE, text.into())]), &DATE);
        for old in ["Wed, 31 Dec 1969 23:59:59 GMT", "Tue, 01 Mar 1904 00:00:00 GMT", "Wed Dec 31 23:59:59 1969"] {
            assert_eq!(of(old), Some(SystemTime::UNIX_EPOCH), "{old}");
        }
        for bad in
            ["Wed, 32 Dec 1969 23:59:59 GMT", "1969", "Wed, 31 Dec 1969 23:59:59 EST", "Wed, 31 Dec 0969 23:59:59 GMT"]
        {
            assert_eq!(of(bad), None, "{bad}");
        }
        let headers = headers(&[(DATE, "Wed, 31 Dec 1969 23:59:59 GMT".into())]);
        assert!(initial_age(&headers, exchange(0, 0)) > Duration::from_secs(1_600_000_000));
    }

    #[test]
    fn heuristics_have_a_ceiling_and_need_a_status_that_allows_them() {
        let old = headers(&[(LAST_MODIFIED, "Thu, 01 Jan 1970 00:00:00 GMT".into())]);
        let plain = Control::default();
        let of = |status, control: &Control| lifetime(status, &old, control, exchange(0, 0), &Rules::default());
        assert_eq!(of(StatusCode::OK, &plain), Rules::default().heuristic_max);
        assert_eq!(of(StatusCode::FOUND, &plain), Duration::ZERO);
        let public = Control { public: true, ..Control::default() };
        assert_eq!(of(StatusCode::FOUND, &public), Rules::default().heuristic_max);
        assert_eq!(lifetime_of(&[(LAST_MODIFIED, when(DAY + 50))]), 0, "modified in the future");
    }

    #[test]
    fn an_answer_that_there_is_nothing_lives_as_long_as_configured_unless_it_says_otherwise() {
        let rules = Rules { negative_ttl: Duration::from_secs(5), ..Rules::default() };
        let of = |status: u16, lines: &[(HeaderName, String)]| {
            let headers = headers(lines);
            let control = Control::of_response(&headers);
            lifetime(StatusCode::from_u16(status).unwrap(), &headers, &control, exchange(DAY, DAY), &rules).as_secs()
        };
        for status in [404, 405, 410, 414, 501] {
            assert_eq!(of(status, &[]), 5);
            assert_eq!(of(status, &[(http::header::CACHE_CONTROL, "max-age=0".into())]), 0);
            assert_eq!(of(status, &[(EXPIRES, "0".into())]), 0);
        }
        for status in [200, 204, 302, 403, 500, 503] {
            assert_eq!(of(status, &[]), 0, "{status}");
        }
    }

    #[test]
    fn age_is_the_larger_of_what_date_and_age_say() {
        let by_date = headers(&[(DATE, when(0))]);
        assert_eq!(initial_age(&by_date, exchange(9, 10)), Duration::from_secs(10));
        let both = headers(&[(DATE, when(0)), (AGE, "30".into())]);
        assert_eq!(initial_age(&both, exchange(8, 10)), Duration::from_secs(32), "Age plus the delay");
        let future = headers(&[(DATE, when(500))]);
        assert_eq!(initial_age(&future, exchange(10, 10)), Duration::ZERO);
        assert_eq!(current_age(Duration::from_secs(5), at(0), at(7)), Duration::from_secs(12));
    }

    #[test]
    fn a_malformed_age_is_ignored_and_of_several_the_first_counts() {
        for (value, expect) in
            [("7", 7), ("7, 9", 7), ("-1", 0), ("7.5", 0), ("x", 0), ("", 0), ("99999999999999999999", 1 << 31)]
        {
            assert_eq!(age_value(&headers(&[(AGE, value.into())])).as_secs(), expect, "{value}");
        }
    }

    proptest! {
        #[test]
        fn age_never_shrinks_as_time_passes_and_never_hides_what_was_told(
            told in 0u64..4_000_000_000, date in 0u64..10_000, delay in 0u64..100, first in 0u64..10_000, more in 0u64..10_000,
        ) {
            let headers = headers(&[(DATE, when(date)), (AGE, told.to_string())]);
            let exchange = exchange(10_000, 10_000 + delay);
            let initial = initial_age(&headers, exchange);
            prop_assert!(initial >= age_value(&headers));
            let earlier = current_age(initial, exchange.received, at(10_000 + delay + first));
            let later = current_age(initial, exchange.received, at(10_000 + delay + first + more));
            prop_assert_eq!(later - earlier, Duration::from_secs(more));
        }
    }
}
