//! The cookie that holds a client's identity (RFC 6265).

use super::{Identity, MAX_IDENTITY_BYTES};

/// A year: `Max-Age` of an identity's cookie, in seconds. Browsers cap it at 400 days.
const MAX_AGE_SECONDS: u32 = 31_536_000;

/// Longest name of a cookie, in bytes.
const MAX_NAME_BYTES: usize = 128;

/// The name of a cookie: 1 to 128 characters of a token (RFC 9110, 5.6.2).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CookieName(String);

/// Why a text is no cookie name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cookie name {0:?}: use 1 to {MAX_NAME_BYTES} letters, digits or any of !#$%&'*+-.^_`|~")]
pub struct CookieError(String);

/// How the client's request came, as far as cookies are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// In the clear: a `Secure` cookie would be dropped.
    Http,
    /// Over TLS: the cookie is `Secure`.
    Https,
}

impl CookieName {
    /// The name, if it is one.
    ///
    /// # Errors
    /// [`CookieError`] for anything that is not a token of at most 128 bytes.
    pub fn parse(name: &str) -> Result<Self, CookieError> {
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        let ok = (1..=MAX_NAME_BYTES).contains(&name.len()) && name.bytes().all(token);
        if ok { Ok(Self(name.to_owned())) } else { Err(CookieError(name.chars().take(MAX_NAME_BYTES).collect())) }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The value of the cookie `name` in the `Cookie` header lines of a request: the first one, as browsers send the most
/// specific first, without surrounding quotes. An empty value and one over [`MAX_IDENTITY_BYTES`] are none.
pub fn cookie<'a>(headers: impl IntoIterator<Item = &'a str>, name: &CookieName) -> Option<&'a str> {
    let pairs = headers.into_iter().flat_map(|header| header.split(';'));
    let value = pairs.filter_map(|pair| pair.split_once('=')).find(|(key, _)| key.trim() == name.0)?.1.trim();
    let value = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value);
    (1..=MAX_IDENTITY_BYTES).contains(&value.len()).then_some(value)
}

/// The value of `Set-Cookie` that makes a client keep `identity` for a year.
///
/// `Path=/` because an experiment may span paths, `SameSite=Lax` so that a client who follows a link stays in its
/// cohort, `HttpOnly` because no script needs it.
pub fn set_cookie(name: &CookieName, identity: &Identity, transport: Transport) -> String {
    let secure = match transport {
        Transport::Http => "",
        Transport::Https => "; Secure",
    };
    format!("{}={identity}; Path=/; Max-Age={MAX_AGE_SECONDS}; SameSite=Lax; HttpOnly{secure}", name.0)
}
