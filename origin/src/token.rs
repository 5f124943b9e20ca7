//! The token of an admin API.

use http::HeaderMap;
use http::header::AUTHORIZATION;

use crate::bundle::Digest;

/// RFC 6750, section 3: no credentials were given.
const MISSING: &str = "Bearer realm=\"skerry admin\"";

/// RFC 6750, section 3.1: they are not ours.
const WRONG: &str = "Bearer realm=\"skerry admin\", error=\"invalid_token\"";

/// What a request must know. Only its digest is kept.
pub struct Token(Digest);

impl Token {
    /// The token of this text.
    pub fn new(token: &str) -> Self {
        Self(Digest::of(token.as_bytes()))
    }

    /// Lets a request with the token pass (`Authorization: Bearer`).
    ///
    /// # Errors
    /// What `WWW-Authenticate` the others get.
    pub fn check(&self, headers: &HeaderMap) -> Result<(), &'static str> {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else { return Err(MISSING) };
        let Some((scheme, given)) = value.to_str().ok().and_then(|v| v.split_once(' ')) else { return Err(MISSING) };
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(MISSING);
        }
        if self.is(given.trim()) { Ok(()) } else { Err(WRONG) }
    }

    /// Compares digests, all of their bytes: how long it takes tells nothing about the token.
    fn is(&self, given: &str) -> bool {
        let (ours, theirs) = (self.0.to_string(), Digest::of(given.as_bytes()).to_string());
        let difference = ours.bytes().zip(theirs.bytes()).fold(0, |all, (a, b)| all | (a ^ b));
        std::hint::black_box(difference) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_very_token_passes() {
        let token = Token::new("secret");
        let check = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            values.iter().for_each(|v| _ = headers.append(AUTHORIZATION, v.parse().unwrap()));
            token.check(&headers)
        };
        assert_eq!(check(&["Bearer secret"]), Ok(()));
        assert_eq!(check(&["bearer  secret"]), Ok(()));
        for missing in [&[][..], &["secret"], &["Basic secret"], &["Bearer secret", "Bearer secret"]] {
            assert_eq!(check(missing), Err(MISSING), "{missing:?}");
        }
        for wrong in ["Bearer ", "Bearer secre", "Bearer secret2", "Bearer SECRET"] {
            assert_eq!(check(&[wrong]), Err(WRONG), "{wrong}");
        }
    }
}
