//! Asking whether a stored response is still right, and the answer (RFC 9111 sections 3.2 and 4.3).

use http::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderName, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH,
    IF_RANGE, IF_UNMODIFIED_SINCE, LAST_MODIFIED, RANGE, SET_COOKIE,
};
use http::{HeaderMap, HeaderValue};

use super::{Control, storing};

/// Whether two entity tags are equal by strong comparison (RFC 9110 section 8.8.3.2).
pub fn strongly_equal(a: &[u8], b: &[u8]) -> bool {
    a == b && !a.starts_with(b"W/")
}

/// Whether two entity tags are equal by weak comparison.
pub fn weakly_equal(a: &[u8], b: &[u8]) -> bool {
    a.strip_prefix(b"W/").unwrap_or(a) == b.strip_prefix(b"W/").unwrap_or(b)
}

/// Takes out of a request what would make the origin send less than the whole response: `Range` and all conditions.
/// They are answered from what comes back. `If-Match` and `If-Unmodified-Since` are an origin's business, and a cache may
/// ignore them (RFC 9110 sections 13.1.1 and 13.1.4).
pub fn strip_conditions(request: &mut HeaderMap) {
    for name in [RANGE, IF_RANGE, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_MATCH, IF_UNMODIFIED_SINCE] {
        request.remove(name);
    }
}

/// Whether a request wants a part, or has a condition.
pub fn is_conditional(request: &HeaderMap) -> bool {
    [RANGE, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_MATCH, IF_UNMODIFIED_SINCE]
        .iter()
        .any(|name| request.contains_key(name))
}

/// Makes a request ask for validation of a stored response (section 4.3.1). Without a validator it stays as it is.
pub fn add_validators(request: &mut HeaderMap, stored: &HeaderMap) {
    if let Some(tag) = stored.get(ETAG) {
        request.insert(IF_NONE_MATCH, tag.clone());
    }
    if let Some(modified) = stored.get(LAST_MODIFIED) {
        request.insert(IF_MODIFIED_SINCE, modified.clone());
    }
}

/// Whether a 304 speaks of this stored response (section 4.3.4): its validators, where it has some, are the stored ones.
pub fn confirms(not_modified: &HeaderMap, stored: &HeaderMap) -> bool {
    match (not_modified.get(ETAG), stored.get(ETAG)) {
        (Some(new), Some(old)) => weakly_equal(new.as_bytes(), old.as_bytes()),
        (Some(_), None) => false,
        (None, _) => match (not_modified.get(LAST_MODIFIED), stored.get(LAST_MODIFIED)) {
            (Some(new), Some(old)) => new == old,
            _ => true,
        },
    }
}

/// Whether a HEAD response speaks of the same representation as a stored GET response (section 4.3.5): no validator or
/// length that both have differs.
pub fn head_agrees(head: &HeaderMap, stored: &HeaderMap) -> bool {
    let agrees = |name: &HeaderName| match (head.get(name), stored.get(name)) {
        (Some(new), Some(old)) => new == old,
        _ => true,
    };
    agrees(&ETAG) && agrees(&LAST_MODIFIED) && agrees(&CONTENT_LENGTH)
}

/// The stored header brought up to date from a 304 or a HEAD response (section 3.2): each field that the new one has
/// replaces all stored lines of it, except those that are not stored (section 3.1), `Content-Length`, the two that say how
/// the stored bytes are to be read, and digests (RFC 9530): they go with the stored bytes.
pub fn freshened(stored: &HeaderMap, new: &HeaderMap, control: &Control) -> HeaderMap {
    let mut update = new.clone();
    storing::strip_unstored(&mut update, control);
    for name in [CONTENT_LENGTH, CONTENT_ENCODING, CONTENT_RANGE, SET_COOKIE] {
        update.remove(name);
    }
    for digest in ["content-md5", "digest", "content-digest", "repr-digest"] {
        update.remove(digest);
    }
    let mut merged = stored.clone();
    // A response that was validated has the age that the validating one says, not the old one.
    merged.remove(http::header::AGE);
    for name in update.keys() {
        merged.remove(name);
    }
    for (name, value) in &update {
        merged.append(name.clone(), value.clone());
    }
    for name in control.withheld() {
        merged.remove(name);
    }
    merged
}

/// Whether `If-None-Match` names this tag, by weak comparison, or everything.
pub fn none_match_names(condition: http::header::GetAll<'_, HeaderValue>, tag: Option<&HeaderValue>) -> bool {
    super::list::of_lines(condition)
        .any(|member| member == b"*" || tag.is_some_and(|tag| weakly_equal(member, tag.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn the_table_of_rfc_9110_section_8_8_3_2() {
        for (a, b, strong, weak) in [
            ("W/\"1\"", "W/\"1\"", false, true),
            ("W/\"1\"", "W/\"2\"", false, false),
            ("W/\"1\"", "\"1\"", false, true),
            ("\"1\"", "\"1\"", true, true),
        ] {
            assert_eq!(strongly_equal(a.as_bytes(), b.as_bytes()), strong);
            assert_eq!(weakly_equal(a.as_bytes(), b.as_bytes()), weak);
        }
    }

    #[test]
    fn freshening_replaces_whole_fields_and_leaves_the_body_alone() {
        let stored = headers(&[
            ("etag", "\"1\""),
            ("link", "a"),
            ("link", "b"),
            ("content-length", "5"),
            ("content-encoding", "gzip"),
            ("content-md5", "x"),
            ("age", "50"),
            ("x-old", "1"),
        ]);
        let new = headers(&[
            ("etag", "\"1\""),
            ("link", "c"),
            ("link", "d"),
            ("content-length", "0"),
            ("content-encoding", "br"),
            ("content-md5", "y"),
            ("set-cookie", "a=b"),
            ("connection", "x-hop"),
            ("x-hop", "1"),
            ("cache-control", "max-age=9"),
        ]);
        let merged = freshened(&stored, &new, &Control::default());
        let expect = headers(&[
            ("etag", "\"1\""),
            ("link", "c"),
            ("link", "d"),
            ("content-length", "5"),
            ("content-encoding", "gzip"),
            ("content-md5", "x"),
            ("x-old", "1"),
            ("cache-control", "max-age=9"),
        ]);
        assert_eq!(merged, expect);
    }

    #[test]
    fn a_304_confirms_only_what_it_names() {
        let stored = headers(&[("etag", "\"1\""), ("last-modified", "x")]);
        assert!(confirms(&headers(&[]), &stored));
        assert!(confirms(&headers(&[("etag", "W/\"1\"")]), &stored));
        assert!(!confirms(&headers(&[("etag", "\"2\"")]), &stored));
        assert!(!confirms(&headers(&[("last-modified", "y")]), &stored));
        assert!(!confirms(&headers(&[("etag", "\"1\"")]), &headers(&[])));
    }

    #[test]
    fn if_none_match_compares_weakly_over_all_lines() {
        let condition = headers(&[("if-none-match", "\"a\", W/\"b,c\""), ("if-none-match", "\"d\"")]);
        let named = |tag: &str| {
            none_match_names(condition.get_all("if-none-match"), Some(&HeaderValue::from_str(tag).unwrap()))
        };
        assert!(named("\"a\"") && named("\"b,c\"") && named("W/\"d\"") && !named("\"b\""));
        assert!(none_match_names(headers(&[("if-none-match", "*")]).get_all("if-none-match"), None));
    }
}
