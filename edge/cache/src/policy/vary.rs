//! Is a stored response the right one for this request (RFC 9111 section 4.1)?

use http::HeaderMap;
use http::header::{ACCEPT, ACCEPT_CHARSET, ACCEPT_ENCODING, ACCEPT_LANGUAGE, HeaderName, VARY};

use super::list;

/// A header field that a stored response was selected by, with the normalised value that the request had; `None` when
/// the request did not have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector {
    /// The field.
    pub name: HeaderName,
    /// Its value, normalised.
    pub value: Option<Box<[u8]>>,
}

/// The names in `Vary`, sorted and without repetition. `None` when one of them is `*` or no field name: no request
/// ever matches such a response.
pub fn names(response: &HeaderMap) -> Option<Vec<HeaderName>> {
    let mut names = Vec::new();
    for member in list::members(response, &VARY) {
        match HeaderName::from_bytes(member) {
            Ok(name) if name.as_str() != "*" => names.push(name),
            _ => return None,
        }
    }
    names.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    names.dedup();
    Some(names)
}

/// What a response with these [`names`] is selected by, given the request that it answered.
pub fn selectors(names: &[HeaderName], request: &HeaderMap) -> Box<[Selector]> {
    names.iter().map(|name| Selector { name: name.clone(), value: normalised(request, name) }).collect()
}

/// Whether all selecting fields of a stored response match this request's.
pub fn matches(selectors: &[Selector], request: &HeaderMap) -> bool {
    selectors.iter().all(|selector| normalised(request, &selector.name) == selector.value)
}

/// The value of a request field in a form that is equal where section 4.1 allows to treat values as equal: lines
/// combined, whitespace around commas gone; and for the negotiation fields, whose semantics are known: lower case, in
/// order of preference, weights in one spelling. Languages of the same weight keep their order: many take the first for
/// the preferred one (RFC 9110 section 12.5.4).
pub fn normalised(request: &HeaderMap, name: &HeaderName) -> Option<Box<[u8]>> {
    if !request.contains_key(name) {
        return None;
    }
    let members = list::members(request, name);
    if [ACCEPT, ACCEPT_CHARSET, ACCEPT_ENCODING, ACCEPT_LANGUAGE].contains(name) {
        return Some(negotiated(members, *name == ACCEPT_LANGUAGE));
    }
    Some(members.collect::<Vec<_>>().join(&b","[..]).into())
}

fn negotiated<'a>(members: impl Iterator<Item = &'a [u8]>, ordered: bool) -> Box<[u8]> {
    let mut ranges: Vec<_> = members.map(weighted).collect();
    if !ordered {
        ranges.sort();
    }
    ranges.sort_by_key(|(_, weight)| std::cmp::Reverse(*weight));
    ranges.dedup();
    let mut value = Vec::new();
    for (range, weight) in ranges {
        value.extend_from_slice(&range);
        if weight != FULL_WEIGHT {
            value.extend_from_slice(format!(";q={weight}").as_bytes());
        }
        value.push(b',');
    }
    value.into()
}

/// A weight of 1, in thousandths (RFC 9110 section 12.4.2 has three digits).
const FULL_WEIGHT: u16 = 1000;

/// A member without its weight, lower case, and the weight. A weight that is malformed stays part of the member, so
/// that only the same malformed text matches it.
fn weighted(member: &[u8]) -> (Vec<u8>, u16) {
    let mut parameters: Vec<_> = list::split(member, b';').map(<[u8]>::to_ascii_lowercase).collect();
    let weight = match parameters.last() {
        Some(last) if parameters.len() > 1 => last.strip_prefix(b"q=").and_then(thousandths),
        _ => None,
    };
    if weight.is_some() {
        parameters.pop();
    }
    (parameters.join(&b';'), weight.unwrap_or(FULL_WEIGHT))
}

fn thousandths(text: &[u8]) -> Option<u16> {
    let (whole, fraction) = match text {
        [whole] => (whole, &[][..]),
        [whole, b'.', fraction @ ..] if fraction.len() <= 3 => (whole, fraction),
        _ => return None,
    };
    let mut value = match whole {
        b'0' => 0,
        b'1' => 1000,
        _ => return None,
    };
    for (place, digit) in [100, 10, 1].into_iter().zip(fraction) {
        value += place * u16::from(digit.is_ascii_digit().then(|| digit - b'0')?);
    }
    (value <= FULL_WEIGHT).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn same(name: &str, a: &str, b: &str) -> bool {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        let selectors = selectors(std::slice::from_ref(&name), &headers(&[(name.as_str(), a)]));
        matches(&selectors, &headers(&[(name.as_str(), b)]))
    }

    #[test]
    fn a_star_or_an_unreadable_name_never_matches() {
        for value in ["*", "accept, *", "a b", "accept, \"x\""] {
            assert_eq!(names(&headers(&[("vary", value)])), None, "{value}");
        }
        assert_eq!(names(&headers(&[("vary", "Foo, accept"), ("vary", "foo, ")])).unwrap(), ["accept", "foo"]);
    }

    #[test]
    fn values_are_equal_when_only_whitespace_and_lines_differ() {
        assert!(same("foo", "1, 2", "1,2"));
        assert!(same("foo", "1 , 2", " 1,\t2"));
        assert!(!same("foo", "1, 2", "2, 1"), "order means something in a field that is not known");
        assert!(!same("foo", "A", "a"));
        assert!(!same("foo", "1 2", "12"));
        let two_lines = headers(&[("foo", "1"), ("foo", "2")]);
        assert!(matches(&selectors(&[HeaderName::from_static("foo")], &headers(&[("foo", "1, 2")])), &two_lines));
    }

    #[test]
    fn an_absent_field_matches_only_an_absent_one() {
        let name = HeaderName::from_static("foo");
        let absent = selectors(std::slice::from_ref(&name), &HeaderMap::new());
        assert!(matches(&absent, &HeaderMap::new()));
        assert!(!matches(&absent, &headers(&[("foo", "")])));
    }

    #[test]
    fn negotiation_fields_are_compared_by_meaning() {
        assert!(same("accept-encoding", "gzip, br", "br,GZIP"));
        assert!(same("accept-encoding", "gzip;q=1.0, br;q=0.5", "br; q=0.50, gzip"));
        assert!(same("accept-language", "en-GB, de;q=0.8", "EN-gb,de;q=0.8"));
        assert!(same("accept-language", "de;q=0.8, en-GB", "en-GB, de;q=0.8"));
        assert!(!same("accept-encoding", "gzip, br;q=0", "gzip, br"));
        assert!(!same("accept-encoding", "gzip;q=0.5, br", "gzip, br;q=0.5"));
        assert!(!same("accept-encoding", "gzip;q=2", "gzip"), "a malformed weight is not 1");
    }

    #[test]
    fn languages_of_the_same_weight_keep_their_order() {
        assert!(!same("accept-language", "de, en", "en, de"));
        assert!(!same("accept-language", "fr, de;q=0.5, en;q=0.5", "fr, en;q=0.5, de;q=0.5"));
        assert!(same("accept", "text/html, text/plain", "text/plain, text/html"));
    }

    proptest! {
        #[test]
        fn matching_is_reflexive_and_order_of_equal_preferences_is_nothing(
            mut codings in proptest::collection::vec("[a-z]{1,4}(;q=0\\.[0-9]{1,3})?", 1..6), seed in any::<prop::sample::Index>(),
        ) {
            let before = codings.join(", ");
            let pivot = seed.index(codings.len());
            codings.rotate_left(pivot);
            prop_assert!(same("accept-encoding", &before, &codings.join(",")));
            prop_assert!(same("x-any", &before, &before));
        }
    }
}
