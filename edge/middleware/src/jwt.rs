//! JSON Web Tokens (RFC 7519) as bearer tokens (RFC 6750): verifying, and signing for the command line.
//!
//! What a token says about how to verify it is never believed (RFC 8725):
//!
//! - The algorithm is the key's, fixed in the configuration. A token's `alg` only has to agree; `none` cannot be
//!   configured, and what looks like a public key cannot be an HMAC secret.
//! - Keys come from the configuration or from a configured key set ([`JwksConfig`]). `jwk`, `jku`, `x5c` and `x5u` in a header
//!   are not read, and a header with `crit` is refused.
//! - `exp`, `iss` and `aud` must be there and right; `nbf` and `iat` must be right if they are there.
//!
//! [`Verifier::verify`] is synchronous and does no I/O. When a key set has to be fetched first,
//! [`Verifier::attempt`] says so, [`Verifier::refresh`] does it, and `verify` then decides.

mod bearer;
mod claims;
mod jwks;
mod key;
mod rejection;
mod sign;
mod token;

use std::time::Duration;

use jsonwebtoken::Algorithm;

pub use self::bearer::{bearer, www_authenticate};
pub use self::claims::Claims;
pub use self::jwks::{Document, JwksConfig, JwksError, MAX_JWKS_BYTES, Refresh, Refreshed};
pub use self::key::{Key, KeyError, Material};
pub use self::rejection::Rejection;
pub use self::sign::{SignError, SignRequest, sign};
pub use self::token::MAX_TOKEN_BYTES;

use self::claims::Policy;
use self::jwks::{Jwks, KeySet};
use self::key::VerifyingKey;
use self::token::Token;

/// Most keys in one configuration.
pub const MAX_KEYS: usize = 32;

/// Most issuers, and most audiences, in one configuration.
pub const MAX_PARTIES: usize = 32;

/// Largest leeway: beyond a few minutes a clock is not skewed but wrong (RFC 7519, 4.1.4).
pub const MAX_LEEWAY: Duration = Duration::from_secs(600);

/// What tokens to accept.
#[derive(Clone, Debug, Default)]
pub struct VerifierConfig {
    /// Accepted `iss`: at least one.
    pub issuers: Vec<String>,
    /// Accepted `aud`: at least one.
    pub audiences: Vec<String>,
    /// Keys known beforehand. There must be one, or a key set.
    pub keys: Vec<Key>,
    /// A key set to fetch.
    pub jwks: Option<JwksConfig>,
    /// Clock skew allowed on `exp`, `nbf` and `iat`, at most [`MAX_LEEWAY`].
    pub leeway: Duration,
}

/// Why a [`VerifierConfig`] cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Tokens would be accepted from anybody for anything, or the list is too long or has an empty entry.
    #[error("jwt {0}: name 1 to {MAX_PARTIES} of them, none empty; a token must have one of them")]
    Parties(&'static str),
    /// No key could ever fit, or there are too many.
    #[error("jwt keys: give 1 to {MAX_KEYS} keys, or a jwks_url")]
    Keys,
    /// One key is unusable.
    #[error("jwt key {number}{}: {source}", kid.as_ref().map(|kid| format!(" (kid `{kid}`)")).unwrap_or_default())]
    Key {
        /// Its place in the list, from 1.
        number: usize,
        /// Its key id.
        kid: Option<String>,
        /// What is wrong with it.
        source: KeyError,
    },
    /// Two keys answer to the same name: which one was meant?
    #[error(
        "jwt key {number}: key {earlier} already has kid `{kid}` with the same algorithm: give each key its own kid"
    )]
    DuplicateKid {
        /// Its place in the list, from 1.
        number: usize,
        /// The place of the one before.
        earlier: usize,
        /// The key id both have.
        kid: String,
    },
    /// The address of the key set is not one to fetch keys from.
    #[error("jwt jwks_url `{url}`: {reason}: use an https address, or http on loopback")]
    JwksUrl {
        /// As configured.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The algorithms of the key set are missing or unusable.
    #[error("jwt jwks_algorithms: {0}")]
    JwksAlgorithms(String),
    /// Skew beyond reason.
    #[error("jwt leeway: {given:?} is over the {MAX_LEEWAY:?} allowed: fix the clock instead")]
    Leeway {
        /// As configured.
        given: Duration,
    },
}

/// Verifies tokens. Shared by all threads.
#[derive(Debug)]
pub struct Verifier {
    policy: Policy,
    keys: Vec<VerifyingKey>,
    jwks: Option<Jwks>,
}

/// What [`Verifier::attempt`] came to.
#[derive(Debug, PartialEq)]
pub enum Attempt {
    /// Decided with the keys at hand.
    Done(Result<Claims, Rejection>),
    /// The key set should be fetched before deciding: call [`Verifier::refresh`] with this, then [`Verifier::verify`].
    NeedsRefresh(Refresh),
}

/// Where the key that verified a token came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Provenance {
    Configured,
    Fetched,
}

/// Makes AWS-LC the provider of jsonwebtoken's cryptography, in this process. May be called any number of times, by any
/// thread; [`Verifier::new`] and [`sign`] do it themselves.
///
/// Naming the provider means that a build without it fails to compile, instead of panicking at the first token.
pub fn install_provider() {
    // The error is "there is one already". Nothing else in the workspace installs any, so it is this one.
    let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
}

impl Verifier {
    /// Checks the configuration and every key in it.
    ///
    /// # Errors
    /// The first [`ConfigError`].
    pub fn new(config: VerifierConfig) -> Result<Self, ConfigError> {
        install_provider();
        let VerifierConfig { issuers, audiences, keys, jwks, leeway } = config;
        for (name, parties) in [("issuers", &issuers), ("audiences", &audiences)] {
            if !(1..=MAX_PARTIES).contains(&parties.len()) || parties.iter().any(String::is_empty) {
                return Err(ConfigError::Parties(name));
            }
        }
        if leeway > MAX_LEEWAY {
            return Err(ConfigError::Leeway { given: leeway });
        }
        if (keys.is_empty() && jwks.is_none()) || keys.len() > MAX_KEYS {
            return Err(ConfigError::Keys);
        }
        let keys = configured_keys(keys)?;
        let jwks = jwks.map(Jwks::new).transpose()?;
        Ok(Self { policy: Policy { issuers, audiences, leeway: leeway.as_secs() }, keys, jwks })
    }

    /// Decides about a token with the keys at hand. `now_unix` is in seconds after 1970.
    ///
    /// # Errors
    /// The [`Rejection`] says why not.
    pub fn verify(&self, token: &str, now_unix: u64) -> Result<Claims, Rejection> {
        let token = Token::parse(token)?;
        let set = self.jwks.as_ref().and_then(|jwks| jwks.current(now_unix));
        self.authenticate(&token, set.as_deref())?;
        self.policy.check(token.claims()?, now_unix)
    }

    /// As [`verify`](Self::verify), unless the key set should be fetched first: because there is none yet, because it
    /// has expired, or because it lacks the token's key and may be older than that key.
    pub fn attempt(&self, token: &str, now_unix: u64) -> Attempt {
        let token = match Token::parse(token) {
            Ok(token) => token,
            Err(rejection) => return Attempt::Done(Err(rejection)),
        };
        let fetchable = self.jwks.as_ref().filter(|jwks| jwks.algorithms().contains(&token.algorithm));
        let set = fetchable.and_then(|jwks| jwks.current(now_unix));
        let authentic = self.authenticate(&token, set.as_deref());
        let refresh = fetchable.and_then(|jwks| match authentic {
            Ok(Provenance::Configured) => None,
            Ok(Provenance::Fetched) => jwks.refresh_if_expired(now_unix),
            Err(_) => jwks.refresh_for(token.kid.as_deref(), now_unix),
        });
        match refresh {
            Some(refresh) => Attempt::NeedsRefresh(refresh),
            None => Attempt::Done(authentic.and_then(|_| self.policy.check(token.claims()?, now_unix))),
        }
    }

    /// Fetches the key set, if that is still needed by the time it is this caller's turn.
    ///
    /// `fetch` gets the address and answers with the body, of which it should read no more than
    /// [`MAX_JWKS_BYTES`] plus one, and the `max-age` of its `Cache-Control`. One fetch is in
    /// flight at a time and takes at most five seconds; one is begun at most every ten. While an expired set is being
    /// fetched anew it still serves everybody else, and it stays for a day when fetching fails.
    ///
    /// Run this in a task of its own rather than in the request's: a client that goes away would otherwise cancel a
    /// fetch that others wait for, and the next one is not begun before its time.
    ///
    /// # Errors
    /// [`JwksError`], for the log. The keys at hand are then as before, and [`verify`](Self::verify) decides with them.
    pub async fn refresh<F, R, B, E>(&self, refresh: Refresh, now_unix: u64, fetch: F) -> Result<Refreshed, JwksError>
    where
        F: FnOnce(String) -> R,
        R: Future<Output = Result<Document<B>, E>>,
        B: AsRef<[u8]>,
        E: std::fmt::Display,
    {
        match &self.jwks {
            Some(jwks) => jwks.refresh(refresh, now_unix, fetch).await,
            None => Ok(Refreshed::NotNeeded),
        }
    }

    /// Finds the key that signed the token. Keys are told apart by `kid` when both sides have one, and tried in turn
    /// when not; that is at most as many tries as there are keys, and both sources are bounded.
    fn authenticate(&self, token: &Token<'_>, set: Option<&KeySet>) -> Result<Provenance, Rejection> {
        let kid = token.kid.as_deref();
        let configured = self.keys.iter().map(|key| (Provenance::Configured, key));
        let fetched = set.into_iter().flat_map(|set| &set.keys).map(|key| (Provenance::Fetched, key));
        let mut tried = false;
        let mut named = false;
        for (provenance, key) in configured.chain(fetched).filter(|(_, key)| key.answers_to(kid)) {
            named |= kid.is_some() && key.kid.as_deref() == kid;
            if key.algorithms.contains(&token.algorithm) {
                tried = true;
                if key.verifies(token) {
                    return Ok(provenance);
                }
            }
        }
        let fetchable = self.jwks.as_ref().is_some_and(|jwks| jwks.algorithms().contains(&token.algorithm));
        Err(match () {
            () if tried => Rejection::Signature,
            () if fetchable && set.is_none() => Rejection::KeysUnavailable,
            () if named || !(fetchable || self.knows(token.algorithm)) => Rejection::Algorithm,
            () => Rejection::KeyUnknown,
        })
    }

    fn knows(&self, algorithm: Algorithm) -> bool {
        self.keys.iter().any(|key| key.algorithms.contains(&algorithm))
    }
}

fn configured_keys(keys: Vec<Key>) -> Result<Vec<VerifyingKey>, ConfigError> {
    let mut checked: Vec<VerifyingKey> = Vec::with_capacity(keys.len());
    for (index, key) in keys.into_iter().enumerate() {
        let number = index + 1;
        let kid = key.kid.clone();
        let key = VerifyingKey::configured(key).map_err(|source| ConfigError::Key { number, kid, source })?;
        let same = |other: &VerifyingKey| other.kid == key.kid && other.algorithms == key.algorithms;
        if let (Some(kid), Some(earlier)) = (&key.kid, checked.iter().position(same)) {
            return Err(ConfigError::DuplicateKid { number, earlier: earlier + 1, kid: kid.clone() });
        }
        checked.push(key);
    }
    Ok(checked)
}

#[cfg(test)]
mod tests;
