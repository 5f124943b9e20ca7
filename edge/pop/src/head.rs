//! Rules of HTTP about message heads that a gateway must keep (RFC 9110 section 7, RFC 8586).

use http::{HeaderMap, HeaderName, HeaderValue, Uri, header};

/// Fields that belong to one connection and are never passed on (RFC 9110 section 7.6.1).
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

const CDN_LOOP: HeaderName = HeaderName::from_static("cdn-loop");

/// Removes the fields of one connection: the known ones, and those that `Connection` names.
pub(crate) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// This PoP's `cdn-id` (RFC 8586 section 2).
pub(crate) fn cdn_id(pop: &str) -> String {
    format!("skerry-{pop}")
}

/// Whether the request has been here before.
pub(crate) fn has_looped(headers: &HeaderMap, id: &str) -> bool {
    let values = headers.get_all(CDN_LOOP).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|member| member.split(';').next().is_some_and(|m| m.trim() == id))
}

/// Notes on a request that leaves that it has been here.
pub(crate) fn mark_loop(headers: &mut HeaderMap, id: &str) {
    if let Ok(value) = HeaderValue::from_str(id) {
        headers.append(CDN_LOOP, value);
    }
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
    // What is in it ends up in URLs and cache keys, so it has to be one.
    let parsed: http::uri::Authority = authority.parse().ok()?;
    let clean = !parsed.as_str().contains('@') && !parsed.host().is_empty();
    clean.then(|| parsed.as_str().to_ascii_lowercase())
}

/// The host of an [`authority`], without its port.
pub(crate) fn host(authority: &str) -> &str {
    match authority.rfind(':') {
        Some(colon) if !authority[colon..].contains(']') => &authority[..colon],
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_loop_is_seen_among_other_members() {
        for (value, looped) in [("skerry-lhr", true), ("a, skerry-lhr;x=1", true), ("skerry-lhr2", false), ("", false)]
        {
            assert_eq!(has_looped(&headers(&[("cdn-loop", value)]), "skerry-lhr"), looped, "{value}");
        }
    }

    #[test]
    fn the_authority_comes_from_the_target_or_the_one_host_field() {
        let uri = Uri::from_static("/x");
        assert_eq!(authority(&uri, &headers(&[("host", "A.b:80")])).as_deref(), Some("a.b:80"));
        assert_eq!(authority(&Uri::from_static("http://c/x"), &headers(&[("host", "a")])).as_deref(), Some("c"));
        for bad in ["", "a b", "u@h", "a/b"] {
            assert_eq!(authority(&uri, &headers(&[("host", bad)])), None, "{bad}");
        }
        let mut two = headers(&[("host", "a")]);
        two.append("host", HeaderValue::from_static("b"));
        assert_eq!(authority(&uri, &two), None);
    }

    #[test]
    fn a_host_has_no_port() {
        for (authority, expected) in [("a:80", "a"), ("a", "a"), ("[::1]:80", "[::1]"), ("[::1]", "[::1]")] {
            assert_eq!(host(authority), expected);
        }
    }
}
