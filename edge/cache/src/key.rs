//! What a stored response is stored under.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use http::header::HOST;
use http::request::Parts;
use http::{HeaderValue, Uri};

/// The cache key (RFC 9111 section 2): the target URI, and parts that the caller declares.
///
/// Only GET responses are stored, so the method is not in it. The scheme and host are lower case and a default port is
/// left out (RFC 3986 sections 6.2.2.1 and 6.2.3). **Path and query are kept byte for byte**: two spellings that the
/// origin might tell apart (`%2e`, `;`, case, `//`) never share an entry, which is what keeps path confusion out.
///
/// Parts (a cohort, a country, a function version) separate answers to one URI. They are kept apart from the URI, so
/// that invalidating the URI (section 4.4) reaches all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    uri: Arc<str>,
    parts: Option<Arc<str>>,
}

/// In front of the parts of a key that has an owner, who is the first of them.
const OWNED: char = '@';

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.uri.hash(state);
    }
}

impl Key {
    /// The key of a request: the [`Key`] in its extensions when the caller put one there, otherwise its effective
    /// request URI (RFC 9110 section 7.1): the URI when it is absolute, otherwise `http`, `Host` and the path.
    /// `None` when there is no host, or more than one `Host` line, or one that is no authority.
    pub fn of_request(request: &Parts) -> Option<Self> {
        if let Some(key) = request.extensions.get::<Self>() {
            return Some(key.clone());
        }
        if request.uri.authority().is_some() {
            return Self::of_uri(&request.uri);
        }
        let mut hosts = request.headers.get_all(HOST).iter();
        let host = match (hosts.next(), hosts.next()) {
            (Some(host), None) => authority(host)?,
            _ => return None,
        };
        Some(Self::build("http", host.as_str(), request.uri.path_and_query().map_or("/", |path| path.as_str())))
    }

    /// The key of an absolute URI; `None` when it has no host.
    pub fn of_uri(uri: &Uri) -> Option<Self> {
        let authority = uri.authority()?.as_str();
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Some(Self::build(uri.scheme_str().unwrap_or("http"), authority, path))
    }

    /// The same URI, with these parts. Order and spelling matter; an empty list means none.
    #[must_use]
    pub fn with_parts<'a>(mut self, parts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut joined = String::new();
        for part in parts {
            // The length in front makes the joined text unambiguous whatever the parts contain.
            joined.push_str(&format!("{}:{part};", part.len()));
        }
        self.parts = (!joined.is_empty()).then(|| joined.into());
        self
    }

    /// The same URI, for an owner: what the owner purges of its own ([`Scope::Own`](crate::Scope::Own)) is under keys made
    /// so, and they are equal to none of another owner or of none.
    #[must_use]
    pub fn owned<'a>(self, owner: &'a str, parts: impl IntoIterator<Item = &'a str>) -> Self {
        let joined = self.with_parts(std::iter::once(owner).chain(parts));
        // No part begins so: their lengths stand in front.
        let parts = joined.parts.as_deref().map(|parts| format!("{OWNED}{parts}").into());
        Self { parts, ..joined }
    }

    /// Whose it is: see [`Key::owned`].
    pub(crate) fn owner(&self) -> Option<&str> {
        let (length, rest) = self.parts.as_deref()?.strip_prefix(OWNED)?.split_once(':')?;
        rest.get(..length.parse().ok()?)
    }

    /// The same URI in a space of its own: no key of another space, or of none, is equal to it, and whoever invalidates
    /// the URI (section 4.4) does not reach it. A purge of the URI does: it asks for no scheme, and a space stands in its
    /// place.
    #[must_use]
    pub fn in_space(self, space: &[&str]) -> Self {
        Self { parts: self.parts.clone(), ..Self::named(space, &self.uri) }
    }

    /// A key by any name, in a space.
    pub fn named(space: &[&str], name: &str) -> Self {
        let mut uri = String::new();
        for (index, part) in space.iter().enumerate() {
            uri.push_str(if index == 0 { "" } else { "+" });
            for byte in part.bytes() {
                // What is left says where a part and the space end, whatever they hold. No URI has a space in it.
                match byte {
                    b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => uri.push(char::from(byte)),
                    _ => uri.push_str(&format!("%{byte:02x}")),
                }
            }
        }
        uri.push(' ');
        uri.push_str(name);
        Self { uri: uri.into(), parts: None }
    }

    /// The normalised URI.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    pub(crate) fn shared_uri(&self) -> &Arc<str> {
        &self.uri
    }

    pub(crate) fn parts(&self) -> Option<&str> {
        self.parts.as_deref()
    }

    /// The key that [`Key::uri`] and [`Key::parts`] are of.
    pub(crate) fn restored(uri: &str, parts: Option<&str>) -> Self {
        Self { uri: uri.into(), parts: parts.map(Into::into) }
    }

    fn build(scheme: &str, authority: &str, path: &str) -> Self {
        let default_port = if scheme.eq_ignore_ascii_case("https") { ":443" } else { ":80" };
        let host = authority.strip_suffix(default_port).or_else(|| authority.strip_suffix(':')).unwrap_or(authority);
        let mut uri = String::with_capacity(scheme.len() + host.len() + path.len() + 4);
        uri.push_str(scheme);
        uri.push_str("://");
        uri.push_str(host);
        uri.make_ascii_lowercase();
        if !path.starts_with('/') {
            uri.push('/');
        }
        uri.push_str(path);
        Self { uri: uri.into(), parts: None }
    }
}

fn authority(value: &HeaderValue) -> Option<http::uri::Authority> {
    http::uri::Authority::try_from(value.as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(uri: &str) -> Key {
        Key::of_uri(&uri.parse().unwrap()).unwrap()
    }

    fn request(uri: &str, hosts: &[&str]) -> Option<Key> {
        let mut builder = http::Request::get(uri);
        for host in hosts {
            builder = builder.header(HOST, *host);
        }
        Key::of_request(&builder.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn host_case_and_default_port_do_not_matter() {
        assert_eq!(key("http://Example.COM:80/a"), key("http://example.com/a"));
        assert_eq!(key("https://example.com:443/a"), key("https://example.com/a"));
        assert_ne!(key("http://example.com:443/a"), key("http://example.com/a"));
        assert_ne!(key("http://example.com:8080/a"), key("http://example.com/a"));
        assert_eq!(key("http://example.com?q").uri(), "http://example.com/?q");
    }

    #[test]
    fn path_and_query_are_kept_byte_for_byte() {
        for (a, b) in [("/a/../b", "/b"), ("/%2e", "/."), ("/A", "/a"), ("/a;b", "/a"), ("/a//b", "/a/b"), ("/?", "/")]
        {
            assert_ne!(key(&format!("http://h{a}")), key(&format!("http://h{b}")), "{a} {b}");
        }
    }

    #[test]
    fn a_request_is_keyed_by_its_host_line_unless_the_uri_is_absolute() {
        assert_eq!(request("/x?y=1", &["Example.com:80"]).unwrap().uri(), "http://example.com/x?y=1");
        assert_eq!(request("http://a/x", &["b"]).unwrap().uri(), "http://a/x");
        assert_eq!(request("/x", &[]), None);
        assert_eq!(request("/x", &["a", "b"]), None);
        assert_eq!(request("/x", &["a b"]), None);
    }

    #[test]
    fn parts_separate_and_cannot_run_into_each_other() {
        let plain = key("http://h/");
        assert_ne!(plain, plain.clone().with_parts(["a"]));
        assert_ne!(plain.clone().with_parts(["ab", "c"]), plain.clone().with_parts(["a", "bc"]));
        assert_ne!(plain.clone().with_parts([""]), plain);
        assert_eq!(plain.clone().with_parts([]), plain);
    }

    #[test]
    fn an_owner_is_told_from_parts_that_look_like_one() {
        let plain = key("http://h/");
        for (owner, parts) in [("says", &["a", "@1:b;"][..]), ("", &[]), ("4:x;", &["é"])] {
            let owned = plain.clone().owned(owner, parts.iter().copied());
            assert_eq!((owned.owner(), owned.uri()), (Some(owner), plain.uri()));
            assert_ne!(owned, plain.clone().with_parts(std::iter::once(owner).chain(parts.iter().copied())));
        }
        assert_eq!(plain.clone().with_parts(["@4:says;", "says"]).owner(), None);
        assert_eq!(plain.owner(), None);
    }

    proptest! {
        #[test]
        fn keys_of_two_spaces_are_never_equal(
            a in proptest::collection::vec("[a/:+ %é]{0,3}", 0..3), b in proptest::collection::vec("[a/:+ %é]{0,3}", 0..3),
            name in ".{0,9}", other in ".{0,9}",
        ) {
            let space = |parts: &[String], name: &str| Key::named(&parts.iter().map(String::as_str).collect::<Vec<_>>(), name);
            prop_assume!(!a.is_empty() && !b.is_empty());
            prop_assert_eq!(space(&a, &name) == space(&b, &other), a == b && name == other);
            prop_assert!(space(&a, "http://h/") != key("http://h/"));
        }
    }

    #[test]
    fn a_uri_in_a_space_is_found_by_who_purges_it() {
        let key = key("https://h/a").with_parts(["x"]).in_space(&["cache", "a://b"]);
        assert_eq!(key.uri(), "cache+a%3a%2f%2fb https://h/a");
        assert_eq!(key.uri().split_once("://").unwrap().1, "h/a");
        assert!(key.parts().is_some());
    }
}
