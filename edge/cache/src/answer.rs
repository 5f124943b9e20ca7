//! What a client gets from a response that the cache has: conditionals, ranges, `Age`.

use std::time::{Duration, SystemTime};

use http::header::{
    ACCEPT_RANGES, AGE, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, DATE, ETAG,
    IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, LAST_MODIFIED, RANGE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use crate::policy::{freshness, validation};

pub(crate) mod range;
pub(crate) mod status;

use range::Wanted;

/// Which part of the body goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// None of it: 204, 205, 304, 416, or the request was HEAD.
    Nothing,
    /// All of it.
    Whole,
    /// The bytes from `start` up to, not including, `end`.
    Range { start: u64, end: u64 },
}

/// Makes the response that a client with this request gets out of a whole response: 304 when its condition says so
/// (RFC 9110 section 13.2.2), 206 or 416 when it wants a range, otherwise the response itself. Changes status and header
/// to that, and says which part of the body goes with it.
///
/// `length` is the length of the whole body, where it is known; `received` when the response arrived.
pub(crate) fn shape(
    request: &Parts,
    status: &mut StatusCode,
    headers: &mut HeaderMap,
    length: Option<u64>,
    received: SystemTime,
) -> Part {
    let body = if request.method == Method::HEAD || has_no_content(*status) { Part::Nothing } else { Part::Whole };
    if *status != StatusCode::OK {
        // A condition or a range speaks of a successful response (RFC 9110 sections 13.2.1 and 14.2).
        return body;
    }
    if is_not_modified(&request.headers, headers, received) {
        *status = StatusCode::NOT_MODIFIED;
        for name in [CONTENT_LENGTH, CONTENT_TYPE, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_RANGE, ACCEPT_RANGES] {
            headers.remove(name);
        }
        return Part::Nothing;
    }
    let (Some(wanted), Some(length), Part::Whole) = (request.headers.get(RANGE), length, body) else { return body };
    if !range_applies(&request.headers, headers) {
        return body;
    }
    match range::wanted(wanted.as_bytes(), length) {
        Wanted::Whole => Part::Whole,
        Wanted::Range { start, end } => {
            *status = StatusCode::PARTIAL_CONTENT;
            headers.insert(CONTENT_LENGTH, (end - start).into());
            insert_text(headers, format!("bytes {start}-{}/{length}", end - 1));
            Part::Range { start, end }
        }
        Wanted::Unsatisfiable => {
            *status = StatusCode::RANGE_NOT_SATISFIABLE;
            headers.remove(CONTENT_TYPE);
            headers.remove(CONTENT_ENCODING);
            headers.insert(CONTENT_LENGTH, 0.into());
            insert_text(headers, format!("bytes */{length}"));
            Part::Nothing
        }
    }
}

/// Whether responses of this status never have content (RFC 9110 sections 15.3.5, 15.3.6 and 15.4.5).
fn has_no_content(status: StatusCode) -> bool {
    matches!(status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED)
}

fn insert_text(headers: &mut HeaderMap, text: String) {
    if let Ok(value) = HeaderValue::try_from(text) {
        headers.insert(CONTENT_RANGE, value);
    }
}

/// Sets `Age` (RFC 9111 section 5.1).
pub(crate) fn set_age(headers: &mut HeaderMap, age: Duration) {
    headers.insert(AGE, age.as_secs().into());
}

/// Whether the client has this response already: `If-None-Match`, and only without it `If-Modified-Since`
/// (RFC 9111 section 4.3.2).
fn is_not_modified(request: &HeaderMap, response: &HeaderMap, received: SystemTime) -> bool {
    if request.contains_key(IF_NONE_MATCH) {
        return validation::none_match_names(request.get_all(IF_NONE_MATCH), response.get(ETAG));
    }
    let Some(since) = freshness::date(request, &IF_MODIFIED_SINCE) else { return false };
    let modified = freshness::date(response, &LAST_MODIFIED).or_else(|| freshness::date(response, &DATE));
    modified.unwrap_or(received) <= since
}

/// `If-Range` (RFC 9110 section 13.1.5): the range applies only to the representation that the client has a part of; a
/// tag must match strongly, a date exactly and be a strong validator.
fn range_applies(request: &HeaderMap, response: &HeaderMap) -> bool {
    let Some(condition) = request.get(IF_RANGE) else { return true };
    if condition.as_bytes().starts_with(b"\"") || condition.as_bytes().starts_with(b"W/") {
        return response.get(ETAG).is_some_and(|tag| validation::strongly_equal(condition.as_bytes(), tag.as_bytes()));
    }
    let Some(modified) = freshness::date(response, &LAST_MODIFIED) else { return false };
    // Section 8.8.2.2: at least a second before the response was made.
    let strong = freshness::date(response, &DATE).is_some_and(|made| made > modified);
    strong && freshness::date(request, &IF_RANGE) == Some(modified)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    const MODIFIED: &str = "Tue, 15 Nov 1994 12:45:26 GMT";
    const LATER: &str = "Tue, 15 Nov 1994 12:45:27 GMT";

    fn answer(method: Method, request: &[(&str, &str)]) -> (u16, Part, HeaderMap) {
        let mut builder = Request::builder().method(method).uri("http://h/");
        for (name, value) in request {
            builder = builder.header(*name, *value);
        }
        let request = builder.body(()).unwrap().into_parts().0;
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("etag", "\"a\""),
            ("last-modified", MODIFIED),
            ("date", LATER),
            ("content-type", "text/plain"),
            ("vary", "x"),
        ] {
            headers.insert(name, value.parse().unwrap());
        }
        let mut status = StatusCode::OK;
        let part = shape(&request, &mut status, &mut headers, Some(10), SystemTime::UNIX_EPOCH);
        (status.as_u16(), part, headers)
    }

    fn get(request: &[(&str, &str)]) -> (u16, Part) {
        let (status, part, _) = answer(Method::GET, request);
        (status, part)
    }

    #[test]
    fn conditions_are_answered_by_tag_and_only_then_by_date() {
        assert_eq!(get(&[]), (200, Part::Whole));
        assert_eq!(get(&[("if-none-match", "W/\"a\"")]), (304, Part::Nothing));
        assert_eq!(get(&[("if-none-match", "*")]), (304, Part::Nothing));
        assert_eq!(get(&[("if-modified-since", MODIFIED)]), (304, Part::Nothing));
        assert_eq!(get(&[("if-modified-since", LATER)]), (304, Part::Nothing));
        assert_eq!(get(&[("if-modified-since", "Tue, 15 Nov 1994 12:45:25 GMT")]), (200, Part::Whole));
        assert_eq!(get(&[("if-modified-since", "yesterday")]), (200, Part::Whole));
        assert_eq!(get(&[("if-none-match", "\"b\""), ("if-modified-since", LATER)]), (200, Part::Whole));
        assert_eq!(get(&[("if-none-match", "\"a\""), ("range", "bytes=0-1")]), (304, Part::Nothing));
    }

    #[test]
    fn a_304_keeps_what_guides_caches_and_drops_what_describes_a_body() {
        let (_, _, headers) = answer(Method::GET, &[("if-none-match", "\"a\"")]);
        assert!(headers.contains_key(ETAG) && headers.contains_key("vary") && headers.contains_key(DATE));
        assert!(!headers.contains_key(CONTENT_TYPE) && !headers.contains_key(CONTENT_LENGTH));
    }

    #[test]
    fn ranges_are_cut_out_of_the_whole() {
        let (status, part, headers) = answer(Method::GET, &[("range", "bytes=2-5")]);
        assert_eq!((status, part), (206, Part::Range { start: 2, end: 6 }));
        assert_eq!(headers[CONTENT_RANGE], "bytes 2-5/10");
        assert_eq!(headers[CONTENT_LENGTH], "4");
        let (status, part, headers) = answer(Method::GET, &[("range", "bytes=10-")]);
        assert_eq!((status, part), (416, Part::Nothing));
        assert_eq!(headers[CONTENT_RANGE], "bytes */10");
        let (status, part, headers) = answer(Method::HEAD, &[("range", "bytes=2-5")]);
        assert_eq!((status, part), (200, Part::Nothing));
        assert!(!headers.contains_key(CONTENT_RANGE), "a range of HEAD has no meaning");
    }

    #[test]
    fn if_range_needs_a_strong_match() {
        let ranged = |condition| get(&[("range", "bytes=0-1"), ("if-range", condition)]).0;
        assert_eq!(ranged("\"a\""), 206);
        assert_eq!(ranged("\"b\""), 200);
        assert_eq!(ranged("W/\"a\""), 200);
        assert_eq!(ranged(MODIFIED), 206);
        assert_eq!(ranged(LATER), 200, "a date matches exactly or not at all");
        assert_eq!(ranged("junk"), 200);
    }
}
