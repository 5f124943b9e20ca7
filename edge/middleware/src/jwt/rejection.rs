//! Why a token was not accepted.

/// Why a token was not accepted. [`as_str`](Self::as_str) is the metric label and log field,
/// [`description`](Self::description) what the client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rejection {
    /// Longer than [`MAX_TOKEN_BYTES`](super::MAX_TOKEN_BYTES).
    TooLarge,
    /// Not three parts of base64url, or no JSON object with unique names in the first two.
    Malformed,
    /// Signed with an algorithm that no key is for, or not signed.
    Algorithm,
    /// The header asks for an extension.
    Critical,
    /// The token declares to be something other than a bearer token.
    TokenType,
    /// No key has the token's `kid`.
    KeyUnknown,
    /// No key verifies the signature.
    Signature,
    /// A required claim is missing: its name.
    ClaimMissing(&'static str),
    /// A claim has the wrong type or an impossible value: its name.
    ClaimMalformed(&'static str),
    /// The time in `exp` has come.
    Expired,
    /// The time in `nbf` or `iat` has not come.
    NotYetValid,
    /// Somebody else's token.
    Issuer,
    /// A token for somebody else.
    Audience,
    /// The key set could not be fetched, so nothing can be said about the token. Not the client's fault.
    KeysUnavailable,
}

impl Rejection {
    /// The stable name: `expired`, `key_unknown`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::TooLarge => "too_large",
            Self::Malformed => "malformed",
            Self::Algorithm => "algorithm",
            Self::Critical => "critical",
            Self::TokenType => "token_type",
            Self::KeyUnknown => "key_unknown",
            Self::Signature => "signature",
            Self::ClaimMissing(_) => "claim_missing",
            Self::ClaimMalformed(_) => "claim_malformed",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::KeysUnavailable => "keys_unavailable",
        }
    }

    /// A sentence for the client. It says what is wrong with the token and nothing about the configuration.
    pub fn description(&self) -> String {
        match self {
            Self::TooLarge => "The token is too long".to_owned(),
            Self::Malformed => "The token is malformed".to_owned(),
            Self::Algorithm => "The token's algorithm is not accepted".to_owned(),
            Self::Critical => "The token requires an extension that is not supported".to_owned(),
            Self::TokenType => "The token is not an access token".to_owned(),
            Self::KeyUnknown => "The token's key is not known".to_owned(),
            Self::Signature => "The token's signature is invalid".to_owned(),
            Self::ClaimMissing(claim) => format!("The token has no {claim} claim"),
            Self::ClaimMalformed(claim) => format!("The token's {claim} claim is malformed"),
            Self::Expired => "The token has expired".to_owned(),
            Self::NotYetValid => "The token is not valid yet".to_owned(),
            Self::Issuer => "The token's issuer is not accepted".to_owned(),
            Self::Audience => "The token is not for this audience".to_owned(),
            Self::KeysUnavailable => "The token cannot be verified at the moment".to_owned(),
        }
    }

    /// The status of the response: 401, or 503 when verifying was not possible.
    pub fn status(&self) -> u16 {
        match self {
            Self::KeysUnavailable => 503,
            _ => 401,
        }
    }
}

impl std::fmt::Display for Rejection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.description())
    }
}

impl std::error::Error for Rejection {}
