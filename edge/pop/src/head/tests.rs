use proptest::prelude::*;

use super::*;

#[path = "../../../../tests/src/near.rs"]
mod near;

fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    fields.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect()
}

#[test]
fn fields_of_the_connection_are_removed_the_named_ones_too() {
    let mut map =
        headers(&[("connection", "close, X-Secret"), ("x-secret", "1"), ("te", "trailers"), ("accept", "*/*")]);
    remove_hop_by_hop(&mut map);
    assert_eq!(map.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["accept"]);
}

#[test]
fn every_spelling_of_a_path_becomes_the_same() {
    for (spelling, expected) in [
        ("/a/b", None),
        ("/", None),
        ("/.well-known/x", None),
        ("/%61uth/x", Some("/auth/x")),
        ("/site/../auth/x", Some("/auth/x")),
        ("/site/%2e%2E/auth/x", Some("/auth/x")),
        ("/a/./b/..", Some("/a/")),
        ("/..", Some("/")),
        ("/../../a?b=%61", Some("/a?b=%61")),
        ("/a\\..\\b", Some("/b")),
        ("/a%2fb", Some("/a%2Fb")),
        ("/a%2Fb", None),
        ("/%", None),
        ("/%+1", None),
        ("/%zz/%7e", Some("/%zz/~")),
        ("/site/%%32e%%32e/auth", Some("/site/%252e%252e/auth")),
        ("/a//b", None),
    ] {
        let uri: Uri = spelling.parse().unwrap();
        assert_eq!(canonical(&uri).map(|uri| uri.to_string()).as_deref(), expected, "{spelling}");
    }
}

#[test]
fn cookies_in_several_fields_become_one() {
    let mut map = HeaderMap::new();
    for value in ["a=1", "b=2; c=3"] {
        map.append(header::COOKIE, HeaderValue::from_static(value));
    }
    join_cookies(&mut map);
    assert_eq!(map.get_all(header::COOKIE).iter().collect::<Vec<_>>(), ["a=1; b=2; c=3"]);
}

#[test]
fn a_connection_field_cannot_remove_what_goes_the_whole_way() {
    let mut map = headers(&[("connection", "cdn-loop, host"), ("cdn-loop", "x"), ("host", "h")]);
    remove_hop_by_hop(&mut map);
    assert!(map.contains_key("cdn-loop") && map.contains_key("host") && !map.contains_key("connection"));
}

#[test]
fn a_loop_is_seen_among_other_members() {
    for (value, looped) in [("skerry-lhr", true), ("a, skerry-lhr;x=1", true), ("skerry-lhr2", false), ("", false)] {
        assert_eq!(has_looped(&headers(&[("cdn-loop", value)]), "skerry-lhr"), looped, "{value}");
    }
}

#[test]
fn the_authority_comes_from_the_target_or_the_one_host_field() {
    let uri = Uri::from_static("/x");
    assert_eq!(authority(&uri, &headers(&[("host", "A.b:81")])).as_deref(), Some("a.b:81"));
    assert_eq!(authority(&uri, &headers(&[("host", "A.b:80")])).as_deref(), Some("a.b"));
    assert_eq!(authority(&Uri::from_static("http://c/x"), &headers(&[("host", "a")])).as_deref(), Some("c"));
    for bad in ["", "a b", "u@h", "a/b"] {
        assert_eq!(authority(&uri, &headers(&[("host", bad)])), None, "{bad}");
    }
    let mut two = headers(&[("host", "a")]);
    two.append("host", HeaderValue::from_static("b"));
    assert_eq!(authority(&uri, &two), None);
    for bad in ["a:b", "a:65536", "a:-1", "A:B", "[::1]:x"] {
        assert_eq!(authority(&uri, &headers(&[("host", bad)])), None, "{bad}");
    }
}

#[test]
fn a_host_has_no_port() {
    for (authority, expected) in [("a:80", "a"), ("a", "a"), ("[::1]:80", "[::1]"), ("[::1]", "[::1]")] {
        assert_eq!(host(authority), expected);
    }
}

/// Heads as clients and attackers write them; each becomes a request or is refused by the parser before.
const TARGETS: [&str; 9] = [
    "/",
    "/a/./b/../c?d=%2e%2e",
    "/%61uth/%2e%2E/%2f%5c",
    "/a\\..\\b",
    "//host/x",
    "http://example.com:80/a/../b?c#d",
    "/\u{e9}%C3%A9/..",
    "http://[::1]:8080/%7e",
    "*",
];

#[test]
fn what_a_request_pretends_to_be_is_told_in_one_order_and_without_ambiguity() {
    let one = headers(&[("x-original-url", "/a"), ("accept", "b"), ("forwarded", "host=c"), ("x-forwarded-for", "d")]);
    let other = headers(&[("forwarded", "host=c"), ("x-original-url", "/a")]);
    assert_eq!(pretences(&one), ["forwarded: host=c", "x-original-url: /a"]);
    assert_eq!(pretences(&one), pretences(&other));
    assert!(pretences(&headers(&[("accept", "x"), ("x-forwarded-proto", "https")])).is_empty());
    assert_ne!(pretences(&headers(&[("x-host", "a\\tb")])), pretences(&headers(&[("x-host", "a\tb")])));
}

proptest! {
    #![proptest_config(near::cases(500))]

    /// Never panics. The canonical form is one: it has no other, no segment of it climbs, and a parser of URLs (what
    /// JavaScript has) reads the same path from it, but for characters that it escapes. What is no path stays as it is.
    #[test]
    fn the_canonical_form_of_a_target_is_its_last(target in near::text(&TARGETS)) {
        let Ok(uri) = target.parse::<Uri>() else { return Ok(()) };
        let form = canonical(&uri).unwrap_or_else(|| uri.clone());
        prop_assert_eq!(canonical(&form), None, "of {:?}", form);
        prop_assert_eq!(form.query(), uri.query());
        prop_assert_eq!(form.authority(), uri.authority());
        if form.path().starts_with('/') {
            prop_assert!(!form.path().split('/').any(|segment| matches!(segment, "." | "..")), "{form:?}");
            let parsed = url::Url::parse(&format!("http://h{}", form.path())).unwrap();
            let plain = |path: &str| percent_encoding::percent_decode_str(path).collect::<Vec<u8>>();
            prop_assert_eq!(plain(parsed.path()), plain(form.path()), "{}", form);
        }
    }

    /// What is taken for plain is what the parser would have made of it.
    #[test]
    fn a_plain_authority_needs_no_parser(text in "[a-z0-9.:-]{0,3}[a-z0-9.-]{0,4}(:[0-9]{0,6}|:80)?") {
        if is_plain(&text) {
            let parsed: http::uri::Authority = text.parse().unwrap();
            prop_assert_eq!(parsed.as_str(), text.as_str());
            prop_assert!(!text.ends_with(":80") && !text.ends_with(':'));
        }
    }

    /// Never panics, whatever the fields hold; what is named the authority is a plain one, in lower case.
    #[test]
    fn the_authority_is_one_whatever_the_fields_are(target in near::text(&TARGETS), host in near::bytes(vec![b"example.com".to_vec(), b"EXAMPLE.com:80".to_vec(), b"[::1]:8080".to_vec(), b"u@h".to_vec(), b"".to_vec()]), connection in near::bytes(vec![b"close, X-Secret".to_vec(), b"cdn-loop,host".to_vec()])) {
        let (Ok(uri), Ok(host_field)) = (target.parse::<Uri>(), HeaderValue::from_bytes(&host)) else { return Ok(()) };
        let mut map = headers(&[("x-secret", "1"), ("content-length", "2"), ("cdn-loop", "skerry-a")]);
        map.insert(header::HOST, host_field);
        if let Ok(connection) = HeaderValue::from_bytes(&connection) {
            map.insert(header::CONNECTION, connection);
        }
        if let Some(authority) = authority(&uri, &map) {
            prop_assert!(!authority.is_empty() && !authority.contains(['@', '/', '\\', '?', '#', ' ']), "{authority:?}");
            prop_assert_eq!(authority.to_ascii_lowercase(), authority.as_str());
            prop_assert!(authority.starts_with(super::host(&authority)));
        }
        remove_hop_by_hop(&mut map);
        prop_assert!(!map.contains_key(header::CONNECTION));
        prop_assert!(map.contains_key(header::HOST) && map.contains_key("content-length") && map.contains_key(CDN_LOOP));
    }
}
