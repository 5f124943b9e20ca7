//! `Cache-Status` (RFC 9211).

use std::fmt::Write;

use bytes::Bytes;
use http::header::HeaderName;
use http::{HeaderMap, HeaderValue, StatusCode};
use sfv::{ItemSerializer, StringRef, TokenRef};

/// The name of this cache, as the structured field item that starts its member: a token where it can be one.
#[derive(Debug, Clone)]
pub(crate) struct Identity(String);

impl Identity {
    pub(crate) fn new(name: &str) -> Self {
        if let Ok(token) = TokenRef::from_str(name) {
            return Self(ItemSerializer::new().bare_item(token).finish());
        }
        let printable: String = name.chars().map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '_' }).collect();
        let text = StringRef::from_str(&printable).map(|text| ItemSerializer::new().bare_item(text).finish());
        Self(text.unwrap_or_else(|_| "cache".to_owned()))
    }
}

/// One member of `Cache-Status`: how this cache handled the request. Parameters as in RFC 9211 section 2.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Member {
    pub(crate) hit: bool,
    /// Why the request went to the origin.
    pub(crate) fwd: Option<Fwd>,
    pub(crate) fwd_status: Option<StatusCode>,
    pub(crate) ttl: Option<i64>,
    pub(crate) stored: bool,
    pub(crate) collapsed: bool,
    /// A token.
    pub(crate) detail: Option<&'static str>,
}

/// Why the request was forwarded (RFC 9211 section 2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fwd {
    Bypass,
    Method,
    UriMiss,
    VaryMiss,
    Request,
    Stale,
    Partial,
}

impl Fwd {
    fn as_str(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Method => "method",
            Self::UriMiss => "uri-miss",
            Self::VaryMiss => "vary-miss",
            Self::Request => "request",
            Self::Stale => "stale",
            Self::Partial => "partial",
        }
    }
}

/// Adds this cache's member behind those of the caches before it (section 2: the last is the closest to the client).
pub(crate) fn append(headers: &mut HeaderMap, identity: &Identity, member: Member) {
    const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
    if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(member.text(identity))) {
        headers.append(CACHE_STATUS, value);
    }
}

impl Member {
    fn text(self, Identity(name): &Identity) -> String {
        let mut text = String::with_capacity(name.len() + 72);
        text.push_str(name);
        if self.hit {
            text.push_str("; hit");
        }
        if let Some(fwd) = self.fwd {
            text.push_str("; fwd=");
            text.push_str(fwd.as_str());
        }
        // Writing to a String never fails.
        if let Some(status) = self.fwd_status {
            let _ = write!(text, "; fwd-status={}", status.as_u16());
        }
        if let Some(ttl) = self.ttl {
            let _ = write!(text, "; ttl={}", ttl.clamp(-999_999_999_999_999, 999_999_999_999_999));
        }
        if self.stored {
            text.push_str("; stored");
        }
        if self.collapsed {
            text.push_str("; collapsed");
        }
        if let Some(detail) = self.detail {
            text.push_str("; detail=");
            text.push_str(detail);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sfv::{List, Parser};

    #[test]
    fn members_read_as_the_rfc_writes_them() {
        let hit = Member { hit: true, ttl: Some(57), ..Member::default() };
        assert_eq!(hit.text(&Identity::new("lhr")), "lhr; hit; ttl=57");
        let miss = Member {
            fwd: Some(Fwd::UriMiss),
            fwd_status: Some(StatusCode::OK),
            stored: true,
            collapsed: true,
            ..Member::default()
        };
        assert_eq!(miss.text(&Identity::new("lhr")), "lhr; fwd=uri-miss; fwd-status=200; stored; collapsed");
    }

    #[test]
    fn every_name_gives_a_valid_structured_field_behind_the_upstream_one() {
        for name in ["lhr", "a b", "ä\"\\\n", "", "9x", "lhr.example.net"] {
            let mut headers = HeaderMap::new();
            headers.append("cache-status", "shield; hit".parse().unwrap());
            let member = Member { ttl: Some(i64::MIN), detail: Some("no-store"), ..Member::default() };
            append(&mut headers, &Identity::new(name), member);
            let joined =
                headers.get_all("cache-status").iter().map(|v| v.to_str().unwrap()).collect::<Vec<_>>().join(", ");
            let list: List = Parser::new(&joined).parse().unwrap();
            assert_eq!(list.len(), 2, "{joined}");
            assert!(joined.starts_with("shield"));
        }
    }
}
