//! May a response be stored, and what of it (RFC 9111 section 3).

use std::time::Duration;

use http::header::{
    AGE, AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, DATE, ETAG, EXPIRES, HeaderName, LAST_MODIFIED,
    PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, VARY,
};
use http::{HeaderMap, Method, StatusCode};

use super::freshness::heuristically_cacheable;
use super::{Control, Demand, Scope, list, vary};

/// Why a response is not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NotStored {
    /// The request was no GET: what else may be stored, this cache does not (section 3).
    Method,
    /// The client sent `no-store`, where clients are obeyed (section 5.2.1.5).
    Demanded,
    /// The request carries `Authorization` and the response does not allow sharing (section 3.5).
    Authorization,
    /// 206 and 304 are answers to questions that this cache does not ask, or the status is not final (section 3).
    Status,
    /// `must-understand`, and the status code is not understood (section 5.2.2.3).
    NotUnderstood,
    /// `no-store` (section 5.2.2.5).
    NoStore,
    /// `private` (section 5.2.2.7).
    Private,
    /// `Set-Cookie`: made for one client.
    SetCookie,
    /// `Vary: *`, or one that can't be read: it would never match (section 4.1).
    Vary,
    /// No explicit lifetime, and a status code that has no heuristic one (section 3).
    NotExplicit,
    /// Stale at once, and nothing to validate it by: storing it would never help.
    Useless,
    /// Longer than the cache stores.
    TooLarge,
    /// Too much arrives at a time.
    Overload,
    /// The header fields contradict each other about how long the body is.
    Framing,
    /// Whoever answered says that it only stands in for another ([`NoStore`](crate::NoStore)).
    StandIn,
    /// The resource was invalidated while the response arrived (section 4.4).
    Invalidated,
}

impl NotStored {
    /// The name in metrics, logs and `Cache-Status` details.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::Demanded => "request-no-store",
            Self::Authorization => "authorization",
            Self::Status => "status",
            Self::NotUnderstood => "must-understand",
            Self::NoStore => "no-store",
            Self::Private => "private",
            Self::SetCookie => "set-cookie",
            Self::Vary => "vary",
            Self::NotExplicit => "not-explicit",
            Self::Useless => "stale-without-validator",
            Self::TooLarge => "too-large",
            Self::Overload => "overload",
            Self::Framing => "framing",
            Self::StandIn => "stand-in",
            Self::Invalidated => "invalidated",
        }
    }

    /// Whether the reason lies in this one request, so that it says nothing about the next one for the same key.
    pub fn is_of_request(self) -> bool {
        matches!(self, Self::Method | Self::Demanded | Self::Authorization | Self::StandIn)
    }
}

/// What is known when the decision is made.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// The request's method.
    pub method: &'a Method,
    /// The request's header.
    pub request: &'a HeaderMap,
    /// What the request's cache directives ask.
    pub demand: &'a Demand,
    /// The response's status.
    pub status: StatusCode,
    /// The response's header.
    pub response: &'a HeaderMap,
    /// The response's cache directives.
    pub control: &'a Control,
    /// The response's freshness lifetime.
    pub lifetime: Duration,
}

/// Whether a shared cache may store the response (section 3), and whether it is of any use to.
///
/// A response with `Set-Cookie` is never stored, although RFC 9111 section 7.3 leaves that to the origin: handing one
/// client's session to the next is the worst thing that a shared cache can do. An origin that wants the rest shared says
/// so with `private="set-cookie"` or `no-cache="set-cookie"`; the field is then left out.
pub fn storable(candidate: Candidate<'_>) -> Result<(), NotStored> {
    let Candidate { method, request, demand, status, response, control, .. } = candidate;
    if *method != Method::GET {
        return Err(NotStored::Method);
    }
    if demand.no_store {
        return Err(NotStored::Demanded);
    }
    if status.is_informational() || matches!(status.as_u16(), 206 | 304) {
        return Err(NotStored::Status);
    }
    match (control.must_understand, understood(status)) {
        (true, false) => return Err(NotStored::NotUnderstood),
        // must-understand that is satisfied overrides no-store (section 5.2.2.3).
        (true, true) => {}
        (false, _) if control.no_store => return Err(NotStored::NoStore),
        (false, _) => {}
    }
    if control.private == Scope::Whole {
        return Err(NotStored::Private);
    }
    if request.contains_key(AUTHORIZATION) && !shares_authorized(control) {
        return Err(NotStored::Authorization);
    }
    if response.contains_key(SET_COOKIE) && !control.withheld().any(|name| name == SET_COOKIE) {
        return Err(NotStored::SetCookie);
    }
    if response.contains_key(VARY) && vary::names(response).is_none() {
        return Err(NotStored::Vary);
    }
    if !explicit(response, control) && !heuristically_cacheable(status) {
        return Err(NotStored::NotExplicit);
    }
    content_length(response).map_err(|Contradiction| NotStored::Framing)?;
    useful(candidate)
}

/// Section 3.5: `must-revalidate`, `public` or `s-maxage` allow to store what was asked for with `Authorization`.
fn shares_authorized(control: &Control) -> bool {
    control.must_revalidate || control.public || control.s_maxage.is_some()
}

/// Section 3: at least one of `public`, an expiry, or (checked by the caller) a status with a heuristic lifetime.
fn explicit(response: &HeaderMap, control: &Control) -> bool {
    let expires = !control.targeted && response.contains_key(EXPIRES);
    control.public || control.max_age.is_some() || control.s_maxage.is_some() || expires
}

/// Whether a response says itself for how long it is fresh (section 4.2.1): what POST answers must (RFC 9110 section 9.3.3).
pub fn tells_lifetime(response: &HeaderMap) -> bool {
    let control = Control::of_response(response);
    let expires = !control.targeted && response.contains_key(EXPIRES);
    control.s_maxage.or(control.max_age).is_some() || expires
}

/// Stale from the start is worth keeping only to validate it, or to send it stale.
fn useful(candidate: Candidate<'_>) -> Result<(), NotStored> {
    let Candidate { response, control, lifetime, .. } = candidate;
    let validator = response.contains_key(ETAG) || response.contains_key(LAST_MODIFIED);
    let stale = control.stale_while_revalidate.is_some() || control.stale_if_error.is_some();
    let fresh = !lifetime.is_zero() && control.no_cache != Scope::Whole;
    if fresh || validator || (stale && control.no_cache != Scope::Whole) { Ok(()) } else { Err(NotStored::Useless) }
}

/// Final status codes whose caching behaviour is implemented here (section 3): all that RFC 9110 defines, but 206 and
/// 304, and 1xx.
fn understood(status: StatusCode) -> bool {
    matches!(status.as_u16(),
        200..=205 | 300..=303 | 305 | 307 | 308 | 400..=417 | 421 | 422 | 426 | 428 | 429 | 431 | 451 | 500..=505 | 511)
}

/// The lines of `Content-Length` do not agree, or are no number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contradiction;

/// `Content-Length` where there is one. Several equal values are one (RFC 9110 section 8.6).
pub fn content_length(headers: &HeaderMap) -> Result<Option<u64>, Contradiction> {
    let mut length = None;
    for line in headers.get_all(CONTENT_LENGTH) {
        let mut members = list::split(line.as_bytes(), b',').peekable();
        if members.peek().is_none() {
            return Err(Contradiction);
        }
        for member in members {
            let digits = member.iter().all(u8::is_ascii_digit);
            let text = std::str::from_utf8(member).map_err(|_| Contradiction)?;
            let value: u64 = text.parse().map_err(|_| Contradiction)?;
            if !digits || length.is_some_and(|length| length != value) {
                return Err(Contradiction);
            }
            length = Some(value);
        }
    }
    Ok(length)
}

/// Fields that are for the whole way, so that a `Connection` that names them is not believed (RFC 9110 section 7.6.1): they
/// say who may keep a response and for how long.
const END_TO_END: [HeaderName; 10] = [
    AGE,
    CACHE_CONTROL,
    HeaderName::from_static("cdn-cache-control"),
    HeaderName::from_static("skerry-cdn-cache-control"),
    HeaderName::from_static("surrogate-control"),
    CONTENT_LENGTH,
    DATE,
    EXPIRES,
    SET_COOKIE,
    VARY,
];

/// Takes out what belongs to one connection (RFC 9110 section 7.6.1): `Connection`, what it names, and its kin.
pub fn strip_connection(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<_> =
            list::members(headers, &CONNECTION).filter_map(|name| HeaderName::from_bytes(name).ok()).collect();
        for name in named.iter().filter(|name| !END_TO_END.contains(name)) {
            headers.remove(name);
        }
    }
    const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
    const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
    for name in [CONNECTION, KEEP_ALIVE, PROXY_CONNECTION, TE, TRANSFER_ENCODING, UPGRADE] {
        headers.remove(name);
    }
}

/// Takes out what must not be stored (section 3.1): fields of the connection, of this proxy, and those that `private` or
/// `no-cache` name; and `Trailer`, because trailers are not kept.
pub fn strip_unstored(headers: &mut HeaderMap, control: &Control) {
    const PROXY_AUTHENTICATION_INFO: HeaderName = HeaderName::from_static("proxy-authentication-info");
    strip_connection(headers);
    for name in [PROXY_AUTHENTICATE, PROXY_AUTHENTICATION_INFO, PROXY_AUTHORIZATION, TRAILER] {
        headers.remove(name);
    }
    for name in control.withheld() {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Exchange, Rules, freshness};
    use http::HeaderValue;
    use proptest::prelude::*;
    use std::time::SystemTime;

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn decide(
        method: &Method,
        request: &[(&str, &str)],
        status: u16,
        response: &[(&str, &str)],
    ) -> Result<(), NotStored> {
        let (request, response) = (headers(request), headers(response));
        let (control, status) = (Control::of_response(&response), StatusCode::from_u16(status).unwrap());
        let exchange = Exchange { requested: SystemTime::UNIX_EPOCH, received: SystemTime::UNIX_EPOCH };
        let lifetime = freshness::lifetime(status, &response, &control, exchange, &Rules::default());
        let demand = Demand::default();
        let candidate = Candidate {
            method,
            request: &request,
            demand: &demand,
            status,
            response: &response,
            control: &control,
            lifetime,
        };
        storable(candidate)
    }

    fn with_control(value: &str) -> Result<(), NotStored> {
        decide(&Method::GET, &[], 200, &[("cache-control", value)])
    }

    #[test]
    fn directives_decide() {
        assert_eq!(with_control("max-age=60"), Ok(()));
        assert_eq!(with_control("no-store, max-age=60"), Err(NotStored::NoStore));
        assert_eq!(with_control("private, max-age=60"), Err(NotStored::Private));
        assert_eq!(with_control("private=\"x-a\", max-age=60"), Ok(()));
        assert_eq!(with_control("max-age=0"), Err(NotStored::Useless));
        assert_eq!(with_control("no-cache, max-age=60"), Err(NotStored::Useless));
        assert_eq!(with_control("max-age=0, stale-while-revalidate=9"), Ok(()));
        assert_eq!(decide(&Method::GET, &[], 200, &[("cache-control", "no-cache"), ("etag", "\"a\"")]), Ok(()));
    }

    #[test]
    fn must_understand_overrides_no_store_for_a_status_that_is_understood() {
        assert_eq!(with_control("must-understand, no-store, max-age=60"), Ok(()));
        let unknown = [("cache-control", "must-understand, max-age=60")];
        assert_eq!(decide(&Method::GET, &[], 599, &unknown), Err(NotStored::NotUnderstood));
        assert_eq!(decide(&Method::GET, &[], 599, &[("cache-control", "max-age=60")]), Ok(()));
    }

    #[test]
    fn status_and_method_decide() {
        let fresh = [("cache-control", "max-age=60")];
        assert_eq!(decide(&Method::HEAD, &[], 200, &fresh), Err(NotStored::Method));
        assert_eq!(decide(&Method::POST, &[], 200, &fresh), Err(NotStored::Method));
        assert_eq!(decide(&Method::GET, &[], 206, &fresh), Err(NotStored::Status));
        assert_eq!(decide(&Method::GET, &[], 304, &fresh), Err(NotStored::Status));
        assert_eq!(decide(&Method::GET, &[], 503, &fresh), Ok(()));
        assert_eq!(decide(&Method::GET, &[], 302, &[("etag", "\"a\"")]), Err(NotStored::NotExplicit));
        assert_eq!(decide(&Method::GET, &[], 404, &[("etag", "\"a\"")]), Ok(()));
    }

    #[test]
    fn authorization_needs_permission_to_share() {
        let request = [("authorization", "Bearer x")];
        let store = |value| decide(&Method::GET, &request, 200, &[("cache-control", value)]);
        assert_eq!(store("max-age=60"), Err(NotStored::Authorization));
        for allowed in ["max-age=60, public", "s-maxage=60", "max-age=60, must-revalidate"] {
            assert_eq!(store(allowed), Ok(()), "{allowed}");
        }
    }

    #[test]
    fn a_cookie_is_never_shared() {
        let cookie = ("set-cookie", "id=1");
        for value in ["max-age=60", "public, s-maxage=60", "private=\"x-a\", max-age=60"] {
            let decision = decide(&Method::GET, &[], 200, &[cookie, ("cache-control", value)]);
            assert_eq!(decision, Err(NotStored::SetCookie), "{value}");
        }
        let left_out = [cookie, ("cache-control", "private=\"set-cookie\", max-age=60")];
        assert_eq!(decide(&Method::GET, &[], 200, &left_out), Ok(()));
    }

    #[test]
    fn contradictory_lengths_are_not_stored() {
        let lengths = |lines: &[&str]| {
            content_length(&headers(&lines.iter().map(|v| ("content-length", *v)).collect::<Vec<_>>()))
        };
        assert_eq!(lengths(&[]), Ok(None));
        assert_eq!(lengths(&["5", "5"]), Ok(Some(5)));
        assert_eq!(lengths(&["5, 5"]), Ok(Some(5)));
        for bad in [&["5", "6"][..], &["5, 6"], &["+5"], &["-5"], &[""], &["5x"], &["99999999999999999999999"]] {
            assert_eq!(lengths(bad), Err(Contradiction), "{bad:?}");
        }
    }

    #[test]
    fn fields_of_the_connection_and_named_ones_are_left_out() {
        let mut map = headers(&[
            ("connection", "close, x-hop, vary"),
            ("vary", "accept"),
            ("x-hop", "1"),
            ("keep-alive", "1"),
            ("transfer-encoding", "chunked"),
            ("proxy-authenticate", "Basic"),
            ("trailer", "x"),
            ("x-secret", "1"),
            ("x-kept", "1"),
            ("link", "a"),
            ("link", "b"),
        ]);
        strip_unstored(&mut map, &Control::of_response(&headers(&[("cache-control", "private=\"x-secret\"")])));
        assert_eq!(map, headers(&[("vary", "accept"), ("x-kept", "1"), ("link", "a"), ("link", "b")]));
    }

    proptest! {
        #[test]
        fn whatever_else_is_said_no_store_and_private_and_cookies_win(
            others in proptest::sample::subsequence(vec!["public", "max-age=60", "s-maxage=60", "immutable", "must-revalidate", "x=\"y, z\""], 0..6),
            forbidding in prop_oneof![Just("no-store"), Just("private")],
            status in 200u16..600,
        ) {
            let value = others.iter().copied().chain([forbidding]).collect::<Vec<_>>().join(", ");
            prop_assert!(decide(&Method::GET, &[], status, &[("cache-control", &value)]).is_err());
            let cookie = decide(&Method::GET, &[], status, &[("cache-control", &others.join(",")), ("set-cookie", "a=b")]);
            prop_assert!(cookie.is_err());
        }
    }
}
