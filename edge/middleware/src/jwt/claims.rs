//! What a verified token claims, and whether that is enough (RFC 7519, 4.1).

use serde_json::{Map, Value};

use super::Rejection;

/// The last second of the year 9999. A later time in a token is not a time but a mistake, milliseconds usually, and
/// the token would practically never expire.
const LAST_DATE: f64 = 253_402_300_799.0;

/// The claims of a token that was accepted: all of them, as they were signed.
#[derive(Clone, Debug, PartialEq)]
pub struct Claims(Map<String, Value>);

/// Whose tokens are accepted, for whom.
#[derive(Debug)]
pub(super) struct Policy {
    pub(super) issuers: Vec<String>,
    pub(super) audiences: Vec<String>,
    /// Seconds.
    pub(super) leeway: u64,
}

impl Claims {
    /// The claim of this name.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// The subject, `sub`: whom the token is about.
    pub fn subject(&self) -> Option<&str> {
        self.get("sub")?.as_str()
    }

    /// The issuer, `iss`: one of those configured.
    pub fn issuer(&self) -> Option<&str> {
        self.get("iss")?.as_str()
    }

    /// All claims.
    pub fn as_map(&self) -> &Map<String, Value> {
        &self.0
    }

    /// All claims, for keeps.
    pub fn into_map(self) -> Map<String, Value> {
        self.0
    }
}

impl Policy {
    /// The claims, if they are acceptable at `now`.
    pub(super) fn check(&self, claims: Map<String, Value>, now: u64) -> Result<Claims, Rejection> {
        let (now, leeway) = (now as f64, self.leeway as f64);
        let expires = date(&claims, "exp")?.ok_or(Rejection::ClaimMissing("exp"))?;
        if now >= expires + leeway {
            return Err(Rejection::Expired);
        }
        for name in ["nbf", "iat"] {
            if date(&claims, name)?.is_some_and(|begins| begins > now + leeway) {
                return Err(Rejection::NotYetValid);
            }
        }
        let issuer = claims.get("iss").ok_or(Rejection::ClaimMissing("iss"))?;
        let issuer = issuer.as_str().ok_or(Rejection::ClaimMalformed("iss"))?;
        if !self.issuers.iter().any(|accepted| accepted == issuer) {
            return Err(Rejection::Issuer);
        }
        let audience = claims.get("aud").ok_or(Rejection::ClaimMissing("aud"))?;
        if !audiences(audience)?.iter().any(|given| self.audiences.iter().any(|accepted| accepted == given)) {
            return Err(Rejection::Audience);
        }
        if claims.get("sub").is_some_and(|subject| !subject.is_string()) {
            return Err(Rejection::ClaimMalformed("sub"));
        }
        Ok(Claims(claims))
    }
}

/// A NumericDate: seconds after 1970, with or without a fraction (RFC 7519, 2).
fn date(claims: &Map<String, Value>, name: &'static str) -> Result<Option<f64>, Rejection> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let seconds = value.as_f64().ok_or(Rejection::ClaimMalformed(name))?;
    if seconds <= LAST_DATE { Ok(Some(seconds)) } else { Err(Rejection::ClaimMalformed(name)) }
}

/// One audience or a list of them (RFC 7519, 4.1.3).
fn audiences(value: &Value) -> Result<Vec<&str>, Rejection> {
    let malformed = Rejection::ClaimMalformed("aud");
    match value {
        Value::String(audience) => Ok(vec![audience]),
        Value::Array(list) => list.iter().map(|audience| audience.as_str().ok_or(malformed)).collect(),
        _ => Err(malformed),
    }
}
