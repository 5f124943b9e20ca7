//! What a purge is about.

use http::Uri;
use http::uri::{Authority, Scheme};
use serde::{Deserialize, Serialize};

use crate::bundle::FunctionName;

/// Longest URL or prefix, in bytes: as long as a request's may be.
pub const MAX_URL_BYTES: usize = 8192;

/// Longest tag, in bytes.
pub const MAX_TAG_BYTES: usize = 1024;

/// Longest host with its port, in bytes.
pub const MAX_HOST_BYTES: usize = 261;

/// Which stored responses a purge is about. Made by the functions below, it is in normal form: hosts and tags are lower
/// case, a default port is left out, paths and queries are as given, byte for byte, as the cache keeps them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// All that is stored for one URL, whatever its variants. The scheme does not matter.
    Url(String),
    /// All whose URL, without its scheme, begins with this: `example.com/a/`.
    Prefix(String),
    /// All of one host, with its port unless that is the default: `example.com`.
    Host(String),
    /// All that carry this tag in `Cache-Tag` or `Surrogate-Key`.
    Tag(String),
    /// Of what caches in front of a function have, a part.
    Front {
        /// The function's name.
        function: FunctionName,
        /// Which part.
        part: Part,
    },
    /// All.
    Everything,
}

/// A part of what caches in front of a function have.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// All whose path begins with this, whatever their host: `/a/`.
    Prefix(String),
    /// All that carry this tag.
    Tag(String),
    /// All.
    Everything,
}

/// Why something is not what can be purged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {value:?}: {why}")]
pub struct ScopeError {
    kind: &'static str,
    /// As given; long ones are cut.
    value: String,
    why: String,
}

impl Scope {
    /// All that is stored for a URL: `https://example.com/a?b`.
    ///
    /// # Errors
    /// When it is longer than [`MAX_URL_BYTES`], no `http` or `https` URL with a host, or has a user name.
    pub fn url(text: &str) -> Result<Self, ScopeError> {
        let bad = |why: &str| Err(error("URL", text, why));
        if text.len() > MAX_URL_BYTES {
            return bad(&format!("longer than {MAX_URL_BYTES} bytes"));
        }
        if !text.contains("://") {
            return bad("write it whole, with scheme and host: https://example.com/path");
        }
        let uri: Uri = match text.parse() {
            Ok(uri) => uri,
            Err(source) => return bad(&format!("not a URL ({source}); write https://example.com/path")),
        };
        let (scheme, authority) = match (uri.scheme(), uri.authority()) {
            (Some(scheme), Some(authority)) if [Scheme::HTTP, Scheme::HTTPS].contains(scheme) => (scheme, authority),
            _ => return bad("not the URL of a web page; write https://example.com/path"),
        };
        let host = host(authority, default_port(scheme)).map_err(|why| error("URL", text, why))?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let slash = if path.starts_with('/') { "" } else { "/" };
        Ok(Self::Url(format!("{scheme}://{host}{slash}{path}")))
    }

    /// All whose URL begins with this: `example.com/a/`, a scheme in front does not matter.
    ///
    /// # Errors
    /// When it is longer than [`MAX_URL_BYTES`], has no host, no path, or a query.
    pub fn prefix(text: &str) -> Result<Self, ScopeError> {
        let bad = |why: &str| Err(error("prefix", text, why));
        if text.len() > MAX_URL_BYTES {
            return bad(&format!("longer than {MAX_URL_BYTES} bytes"));
        }
        let (port, rest) = match text.split_once("://") {
            Some(("https", rest)) => (443, rest),
            Some(("http", rest)) => (80, rest),
            Some(_) => return bad("write it without a scheme: example.com/path/"),
            None => (0, text),
        };
        let Some((authority, path)) = rest.split_once('/') else {
            return bad("has no path: write example.com/path/, or purge the host");
        };
        check_path(path).map_err(|why| error("prefix", text, why))?;
        let authority: Authority = match authority.parse() {
            Ok(authority) => authority,
            Err(_) => return bad("does not begin with a host: write example.com/path/"),
        };
        let host = host(&authority, port).map_err(|why| error("prefix", text, why))?;
        Ok(Self::Prefix(format!("{host}/{path}")))
    }

    /// All of a host: `example.com` or `example.com:8080`.
    ///
    /// # Errors
    /// When it is no host.
    pub fn host(text: &str) -> Result<Self, ScopeError> {
        let bad = |why: &str| Err(error("host", text, why));
        if text.contains('/') {
            return bad("write the host alone: example.com");
        }
        let authority: Authority = match text.parse() {
            Ok(authority) => authority,
            Err(_) => return bad("not a host: write example.com"),
        };
        host(&authority, 0).map(Self::Host).map_err(|why| error("host", text, why))
    }

    /// All with a tag.
    ///
    /// # Errors
    /// When it is empty, longer than [`MAX_TAG_BYTES`], or has a space, a comma or what is not visible ASCII.
    pub fn tag(text: &str) -> Result<Self, ScopeError> {
        tag(text).map(Self::Tag)
    }

    /// All of a function whose path begins with this: `/a/`.
    ///
    /// # Errors
    /// When it is longer than [`MAX_URL_BYTES`], does not begin with `/`, or has a query.
    pub fn front_prefix(function: &FunctionName, text: &str) -> Result<Self, ScopeError> {
        let bad = |why: &str| Err(error("path prefix", text, why));
        if text.len() > MAX_URL_BYTES {
            return bad(&format!("longer than {MAX_URL_BYTES} bytes"));
        }
        if !text.starts_with('/') {
            return bad("a path begins with '/': write /path/, without scheme and host");
        }
        check_path(text).map_err(|why| error("path prefix", text, why))?;
        Ok(Self::Front { function: function.clone(), part: Part::Prefix(text.to_owned()) })
    }

    /// All of a function with a tag.
    ///
    /// # Errors
    /// As [`Scope::tag`].
    pub fn front_tag(function: &FunctionName, text: &str) -> Result<Self, ScopeError> {
        let tag = tag(text)?;
        Ok(Self::Front { function: function.clone(), part: Part::Tag(tag) })
    }

    /// Its kind, as metrics and logs have it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Url(_) => "url",
            Self::Prefix(_) => "prefix",
            Self::Host(_) => "host",
            Self::Tag(_) => "tag",
            Self::Front { .. } => "front",
            Self::Everything => "everything",
        }
    }

    /// The URL, prefix, host or tag; empty for everything, also of a function.
    pub fn text(&self) -> &str {
        match self {
            Self::Url(text) | Self::Prefix(text) | Self::Host(text) | Self::Tag(text) => text,
            Self::Front { part: Part::Prefix(text) | Part::Tag(text), .. } => text,
            Self::Front { part: Part::Everything, .. } | Self::Everything => "",
        }
    }
}

fn check_path(path: &str) -> Result<(), &'static str> {
    if path.contains(['?', '#']) {
        return Err("a prefix ends in the path, it has no '?' and no '#'");
    }
    let visible = path.bytes().all(|byte| byte.is_ascii_graphic());
    visible.then_some(()).ok_or("a path has only visible ASCII characters; write others as %XX")
}

fn tag(text: &str) -> Result<String, ScopeError> {
    let bad = |why: &str| Err(error("tag", text, why));
    match text {
        "" => bad("is empty"),
        long if long.len() > MAX_TAG_BYTES => bad(&format!("longer than {MAX_TAG_BYTES} bytes")),
        sound if sound.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',') => Ok(sound.to_ascii_lowercase()),
        _ => bad("a tag has visible ASCII characters but no comma and no space"),
    }
}

fn error(kind: &'static str, value: &str, why: impl Into<String>) -> ScopeError {
    let cut = match value.char_indices().nth(100) {
        Some((end, _)) => format!("{}...", &value[..end]),
        None => value.to_owned(),
    };
    ScopeError { kind, value: cut, why: why.into() }
}

fn default_port(scheme: &Scheme) -> u16 {
    if *scheme == Scheme::HTTPS { 443 } else { 80 }
}

/// The host in lower case, with its port unless that is `default`.
fn host(authority: &Authority, default: u16) -> Result<String, &'static str> {
    let text = authority.as_str();
    if text.contains('@') {
        return Err("has a user name, which no stored response has");
    }
    if text.len() > MAX_HOST_BYTES {
        return Err("its host is longer than 261 bytes");
    }
    if authority.host().is_empty() {
        return Err("has no host");
    }
    if authority.host().contains('*') {
        return Err("a host is purged by its whole name, without '*'");
    }
    let name = authority.host().to_ascii_lowercase();
    let port = text[authority.host().len()..].strip_prefix(':');
    match (port, authority.port_u16()) {
        (None | Some(""), _) => Ok(name),
        (Some(_), Some(port)) if port == default => Ok(name),
        (Some(_), Some(port)) => Ok(format!("{name}:{port}")),
        (Some(_), None) => Err("its port is not a number up to 65535"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_purged_is_brought_into_the_form_in_which_the_cache_keeps_it() {
        let url = |text| Scope::url(text).unwrap().text().to_owned();
        assert_eq!(url("HTTPS://Example.COM:443/A/%2e;x?Q#part"), "https://example.com/A/%2e;x?Q");
        assert_eq!(url("http://example.com"), "http://example.com/");
        assert_eq!(url("http://example.com?q"), "http://example.com/?q");
        assert_eq!(url("http://[::1]:8080/"), "http://[::1]:8080/");
        let prefix = |text| Scope::prefix(text).unwrap().text().to_owned();
        assert_eq!(prefix("Example.com/A/"), "example.com/A/");
        assert_eq!(prefix("https://example.com:443/a"), "example.com/a");
        assert_eq!(Scope::host("Example.com:8080").unwrap().text(), "example.com:8080");
        assert_eq!(Scope::tag("Product-1").unwrap().text(), "product-1");
    }

    #[test]
    fn what_cannot_be_purged_is_named_with_what_is_wrong() {
        let long = "x".repeat(9000);
        let urls = [
            "",
            "/a",
            "example.com/a",
            "http://",
            "http:///a",
            "ftp://example.com/",
            "http://a b/",
            "http://u@h/",
            "https://example.com:99999/",
            "http://*.example.com/",
            &format!("http://h/{long}"),
        ];
        for bad in urls {
            assert!(Scope::url(bad).is_err(), "{bad:?}");
        }
        for bad in ["", "example.com", "/a", "example.com/a?b", "ftp://example.com/", "a b/c", "example.com/a b", &long]
        {
            assert!(Scope::prefix(bad).is_err(), "{bad:?}");
        }
        for bad in ["", "example.com/", "*.example.com", "http://example.com", "a b", &long] {
            assert!(Scope::host(bad).is_err(), "{bad:?}");
        }
        for bad in ["", "a b", "a,b", "ü", "a\n", &long] {
            assert!(Scope::tag(bad).is_err(), "{bad:?}");
        }
        assert_eq!(Scope::tag("").unwrap_err().to_string(), "tag \"\": is empty");
        assert!(Scope::url("/a").unwrap_err().to_string().contains("https://example.com/path"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_and_the_normal_form_is_read_as_itself(text in "\\PC*") {
            for read in [Scope::url, Scope::prefix, Scope::host, Scope::tag] {
                if let Ok(scope) = read(&text) {
                    prop_assert_eq!(read(scope.text()), Ok(scope.clone()));
                }
            }
        }
    }
}
