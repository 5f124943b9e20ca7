//! Rules of HTTP about message heads that a gateway must keep (RFC 9110 section 7, RFC 8586).

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue, Uri, header};

/// Fields that belong to one connection and are never passed on (RFC 9110 sections 7.6.1 and 11.7).
const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

pub(crate) const CDN_LOOP: HeaderName = HeaderName::from_static("cdn-loop");
// A name as text is looked up among the known ones each time.
pub(crate) const CLIENT: HeaderName = HeaderName::from_static("cf-connecting-ip");
pub(crate) const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(crate) const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Fields that mean the whole way; a `Connection` that names them is not believed (RFC 9110 section 7.6.1, RFC 8586 section
/// 2 for the first). Most say who may keep a response, and for how long.
const END_TO_END: [HeaderName; 13] = [
    CDN_LOOP,
    header::HOST,
    header::CONTENT_LENGTH,
    header::AGE,
    header::CACHE_CONTROL,
    HeaderName::from_static("cdn-cache-control"),
    HeaderName::from_static("skerry-cdn-cache-control"),
    HeaderName::from_static("surrogate-control"),
    header::DATE,
    header::EXPIRES,
    header::PRAGMA,
    header::SET_COOKIE,
    header::VARY,
];

/// Removes what origins tell the caches before clients: the tags that purges name, and `Surrogate-Control`, which its
/// specification has the last surrogate take away. RFC 9213 lets `CDN-Cache-Control` through.
pub(crate) fn remove_for_caches(headers: &mut HeaderMap) {
    for name in ["cache-tag", "surrogate-key", "surrogate-control"] {
        headers.remove(name);
    }
}

/// Removes the fields of one connection: the known ones, and those that `Connection` names.
pub(crate) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    // Most heads have none, and looking through the few names is cheaper than asking for each.
    if !headers.keys().any(|name| HOP_BY_HOP.contains(name)) {
        return;
    }
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .filter(|name| !END_TO_END.contains(name))
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// Bytes of a request head, about as they were on the wire.
pub(crate) fn size(uri: &Uri, headers: &HeaderMap) -> usize {
    let target = uri.path_and_query().map_or(0, |target| target.as_str().len());
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum::<usize>() + target
}

/// This PoP's `cdn-id` (RFC 8586 section 2).
pub(crate) fn cdn_id(pop: &str) -> String {
    format!("skerry-{pop}")
}

/// Whether the request has been here before.
pub(crate) fn has_looped(headers: &HeaderMap, id: &str) -> bool {
    let members = headers.get_all(CDN_LOOP).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    members.filter_map(|member| member.split(|byte| *byte == b';').next()).any(|m| m.trim_ascii() == id.as_bytes())
}

/// A field value as functions see it: each byte is a character (`ByteString` of Web IDL). What decides about a request must
/// not see less than they do.
pub(crate) fn text(value: &HeaderValue) -> Cow<'_, str> {
    match value.to_str() {
        Ok(text) => text.into(),
        Err(_) => value.as_bytes().iter().copied().map(char::from).collect::<String>().into(),
    }
}

/// Notes on a request that leaves that it has been here.
pub(crate) fn mark_loop(headers: &mut HeaderMap, id: &str) {
    if let Ok(value) = HeaderValue::from_str(id) {
        headers.append(CDN_LOOP, value);
    }
}

/// The fields of a request by which frameworks take another host, path, scheme or method than it has, each with its value:
/// parts of its cache key, since an answer that goes by them is of no use to who has not sent them. Origins seldom say so in
/// `Vary`. Mostly there are none.
pub(crate) fn pretences(headers: &HeaderMap) -> Vec<String> {
    let pretends = |name: &str| {
        matches!(
            name,
            "forwarded"
                | "front-end-https"
                | "x-forwarded-host"
                | "x-forwarded-path"
                | "x-forwarded-port"
                | "x-forwarded-prefix"
                | "x-forwarded-protocol"
                | "x-forwarded-scheme"
                | "x-forwarded-server"
                | "x-forwarded-ssl"
                | "x-forwarded-uri"
                | "x-host"
                | "x-http-host-override"
                | "x-http-method"
                | "x-http-method-override"
                | "x-method-override"
                | "x-original-host"
                | "x-original-uri"
                | "x-original-url"
                | "x-rewrite-url"
                | "x-url-scheme"
        )
    };
    let mut found: Vec<_> = headers.iter().filter(|(name, _)| pretends(name.as_str())).collect();
    found.sort_by_key(|(name, _)| name.as_str());
    found.iter().map(|(name, value)| format!("{name}: {}", value.as_bytes().escape_ascii())).collect()
}

/// Host and port of a request: of its target in absolute form or HTTP/2, else of its `Host` field; lower case.
/// `None` when there is none, or several that differ.
pub(crate) fn authority(uri: &Uri, headers: &HeaderMap) -> Option<String> {
    let mut fields = headers.get_all(header::HOST).iter();
    let field = fields.next().map(|value| value.to_str().unwrap_or(""));
    if fields.next().is_some() {
        return None;
    }
    let authority = uri.authority().map(http::uri::Authority::as_str).or(field)?;
    if is_plain(authority) {
        return Some(authority.to_owned());
    }
    // What is in it ends up in URLs and cache keys, so it has to be one.
    let parsed: http::uri::Authority = authority.parse().ok()?;
    // The parser takes any text for a port.
    let port = parsed.as_str().strip_prefix(parsed.host())?;
    let clean = !parsed.host().is_empty() && (matches!(port, "" | ":") || parsed.port_u16().is_some());
    // A default port is left out, as URLs leave it out: what a function asks of its own host must look the same.
    let text = parsed.as_str();
    let text = text.strip_suffix(":80").or_else(|| text.strip_suffix(':')).unwrap_or(text);
    clean.then(|| text.to_ascii_lowercase())
}

/// Whether a host with or without a port is in the form it shall have: as nearly all are, which need no parser then.
fn is_plain(authority: &str) -> bool {
    let (host, port) = authority.split_once(':').unwrap_or((authority, "1"));
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    let port_is_plain = port.bytes().all(|b| b.is_ascii_digit()) && port != "80" && port.parse::<u16>().is_ok();
    !host.is_empty() && host.bytes().all(plain) && port_is_plain
}

/// The target with its path in the one form that routes, functions, cache and origin read alike; `None` when it has that
/// form already. Dot segments are resolved and escapes of unreserved characters undone (RFC 3986 sections 6.2.2.2 and
/// 6.2.2.3), and `\` is `/`, as in every URL that JavaScript parses. Otherwise `/site/%2e%2e/auth/x` would be routed to one
/// function and mean another's path by the time somebody parsed it.
pub(crate) fn canonical(uri: &Uri) -> Option<Uri> {
    let path = uri.path();
    if !path.contains(['%', '\\']) && !path.contains("/.") {
        return None;
    }
    let mut plain = unescaped(path, "%");
    if unescaped(&plain, "%") != plain {
        // A `%` that began no escape would begin one now, with what the escape behind it stood for: `%%32e`.
        plain = unescaped(path, "%25");
    }
    let mut segments: Vec<&str> = Vec::new();
    let mut rest = plain.split('/').skip(1).peekable();
    while let Some(segment) = rest.next() {
        let last = rest.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    segments.pop();
                }
                if last {
                    segments.push("");
                }
            }
            _ => segments.push(segment),
        }
    }
    let canonical = format!("/{}", segments.join("/"));
    if canonical == path {
        return None;
    }
    let query = uri.query().map_or_else(String::new, |query| format!("?{query}"));
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = format!("{canonical}{query}").parse().ok();
    Uri::from_parts(parts).ok()
}

/// A path without needless escapes, the others in upper case, with `/` for `\`, and `lone` for a `%` that begins none.
fn unescaped(path: &str, lone: &str) -> String {
    let bytes = path.as_bytes();
    let mut plain = String::with_capacity(path.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex =
            path.get(at + 1..at + 3).filter(|hex| bytes[at] == b'%' && hex.bytes().all(|b| b.is_ascii_hexdigit()));
        let escape = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match escape {
            Some(byte) if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => plain.push(byte as char),
            Some(byte) => plain.push_str(&format!("%{byte:02X}")),
            None => {
                let character = path[at..].chars().next().unwrap_or_default();
                match character {
                    '\\' => plain.push('/'),
                    '%' => plain.push_str(lone),
                    _ => plain.push(character),
                }
                at += character.len_utf8();
                continue;
            }
        }
        at += 3;
    }
    plain
}

/// Makes one field of a `Cookie` that came in several, as HTTP/2 allows (RFC 9113 section 8.2.3).
pub(crate) fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(header::COOKIE).iter().nth(1).is_some() {
        let lines: Vec<_> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
        if let Ok(joined) = HeaderValue::from_bytes(&lines.join(&b"; "[..])) {
            headers.insert(header::COOKIE, joined);
        }
    }
}

/// The host of an [`authority`], without its port.
pub(crate) fn host(authority: &str) -> &str {
    match authority.rfind(':') {
        Some(colon) if !authority[colon..].contains(']') => &authority[..colon],
        _ => authority,
    }
}

/// The number in a field; 0 where there is none.
pub(crate) fn number(value: Option<HeaderValue>) -> u64 {
    value.and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests;
