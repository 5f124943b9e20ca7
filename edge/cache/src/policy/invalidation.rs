//! What an unsafe method makes wrong (RFC 9111 section 4.4).

use http::header::{CONTENT_LOCATION, HeaderName, LOCATION};
use http::{HeaderMap, Method, StatusCode, Uri};
use url::Url;

/// Whether a method may change something: all but those registered as safe (RFC 9110 section 9.2.1, and QUERY). What is
/// not known may.
pub fn is_unsafe(method: &Method) -> bool {
    !matches!(method.as_str(), "GET" | "HEAD" | "OPTIONS" | "TRACE" | "QUERY" | "PROPFIND" | "REPORT" | "SEARCH")
}

/// Whether a response says that the method worked: 2xx or 3xx.
pub fn succeeded(status: StatusCode) -> bool {
    status.is_success() || status.is_redirection()
}

/// The further URIs that a successful unsafe request invalidates: `Location` and `Content-Location`, resolved against
/// the target, and only where the origin is the same; anything else would let one site empty another's cache.
pub fn also_invalidated(target: &str, response: &HeaderMap) -> Vec<Uri> {
    [LOCATION, CONTENT_LOCATION].iter().filter_map(|name| resolved(target, response, name)).collect()
}

/// The URI in a field, resolved against the target, where both have the same origin.
pub fn resolved(target: &str, response: &HeaderMap, name: &HeaderName) -> Option<Uri> {
    let target = Url::parse(target).ok()?;
    let mut place = target.join(response.get(name)?.to_str().ok()?).ok()?;
    place.set_fragment(None);
    (place.origin() == target.origin()).then(|| place.as_str().parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_to_be_safe_is_unsafe() {
        for safe in ["GET", "HEAD", "OPTIONS", "TRACE"] {
            assert!(!is_unsafe(&safe.parse().unwrap()));
        }
        for other in ["POST", "PUT", "DELETE", "PATCH", "get", "FOO"] {
            assert!(is_unsafe(&other.parse().unwrap()), "{other}");
        }
    }

    #[test]
    fn only_uris_of_the_same_origin_are_invalidated() {
        let check = |location: &str, expect: &[&str]| {
            let mut headers = HeaderMap::new();
            headers.insert(LOCATION, location.parse().unwrap());
            let found = also_invalidated("http://a.example/x/y?z", &headers);
            assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), expect, "{location}");
        };
        check("/b", &["http://a.example/b"]);
        check("b?c#d", &["http://a.example/x/b?c"]);
        check("http://A.example:80/b", &["http://a.example/b"]);
        check("http://b.example/b", &[]);
        check("https://a.example/b", &[]);
        check("http://a.example:81/b", &[]);
        check("http://[", &[]);
    }
}
