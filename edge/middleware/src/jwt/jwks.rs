//! A key set that is fetched and kept fresh (RFC 7517, 5).

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use jsonwebtoken::{Algorithm, AlgorithmFamily};
use serde_json::Value;
use tokio::sync::Mutex;
use url::{Host, Url};

use super::ConfigError;
use super::key::{VerifyingKey, algorithm, fitting_algorithms, from_jwk, kid_of};

/// Largest body of a key set, in bytes.
pub const MAX_JWKS_BYTES: usize = 256 << 10;

/// Most keys kept of one set; the rest are skipped.
const MAX_SET_KEYS: usize = 64;

/// Reasons kept for keys that were skipped.
const MAX_REASONS: usize = 8;

/// How long a set is fresh when its response does not say.
const DEFAULT_TTL: Duration = Duration::from_secs(300);

/// Bounds on what its response says.
const TTL_BOUNDS: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(3_600));

/// How long an expired set serves on while no other can be fetched, in seconds. Then nothing is trusted any more.
const MAX_STALE: u64 = 24 * 3_600;

/// Fetches are begun at most this often, in seconds, whatever tokens come: unknown key ids must not make us a nuisance.
const MIN_INTERVAL: u64 = 10;

/// A fetch that takes longer has failed.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// Where a key set is, and what its keys may be used for.
#[derive(Clone, Debug)]
pub struct JwksConfig {
    /// Address: `https`, or `http` on loopback.
    pub url: String,
    /// Accepted algorithms, at least one, none of them HS*: a published secret is none.
    pub algorithms: Vec<String>,
}

/// What fetching a set brought.
#[derive(Clone, Debug)]
pub struct Document<B> {
    /// The body of a response with status 200.
    pub body: B,
    /// `max-age` of its `Cache-Control`, if it has one. Kept within 10 seconds and an hour.
    pub max_age: Option<Duration>,
}

/// Why a set should be fetched. Made by [`Verifier::attempt`](super::Verifier::attempt).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refresh {
    need: Need,
    /// Generation of the set that did not do.
    seen: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    /// There is no set, or none that has the token's key: the token has to wait.
    Keys,
    /// There is one that will do until a new one is there.
    Freshness,
}

/// How a refresh ended well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refreshed {
    /// A new set is in use.
    Fetched {
        /// Keys in it that we can use.
        keys: usize,
        /// Why others were skipped, at most eight reasons, for the log.
        skipped: Vec<String>,
    },
    /// Somebody else has fetched it meanwhile, or is about to.
    NotNeeded,
    /// The last fetch was too short a time ago.
    Throttled,
}

/// Why a refresh did not bring a set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwksError {
    /// The request failed.
    #[error("key set {url}: {reason}")]
    Fetch {
        /// Its address.
        url: String,
        /// What the fetch said.
        reason: String,
    },
    /// No answer within five seconds.
    #[error("key set {url}: no answer within {FETCH_TIMEOUT:?}")]
    TimedOut {
        /// Its address.
        url: String,
    },
    /// Too long a body.
    #[error("key set {url} has over {MAX_JWKS_BYTES} bytes")]
    TooLarge {
        /// Its address.
        url: String,
    },
    /// Not a JSON object with a list `keys`.
    #[error("key set {url} is no JSON object with a list `keys`")]
    Malformed {
        /// Its address.
        url: String,
    },
    /// Keys, but none that fits.
    #[error("key set {url} has no key that can be used: {}", skipped.join("; "))]
    NothingUsable {
        /// Its address.
        url: String,
        /// Why not, at most eight reasons.
        skipped: Vec<String>,
    },
}

impl Refreshed {
    /// The stable name, for metrics and logs.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Fetched { .. } => "fetched",
            Self::NotNeeded => "not_needed",
            Self::Throttled => "throttled",
        }
    }
}

impl JwksError {
    /// The stable name, for metrics and logs.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Fetch { .. } => "fetch",
            Self::TimedOut { .. } => "timed_out",
            Self::TooLarge { .. } => "too_large",
            Self::Malformed { .. } => "malformed",
            Self::NothingUsable { .. } => "nothing_usable",
        }
    }
}

/// The set at one address.
#[derive(Debug)]
pub(super) struct Jwks {
    url: String,
    algorithms: Vec<Algorithm>,
    current: ArcSwapOption<KeySet>,
    /// Held while fetching; when the last fetch began, in seconds after 1970.
    last_fetch: Mutex<Option<u64>>,
}

/// Keys as they were fetched.
#[derive(Debug)]
pub(super) struct KeySet {
    pub(super) keys: Vec<VerifyingKey>,
    /// Counts the sets at this address, from 1.
    generation: u64,
    /// Seconds after 1970.
    fetched_at: u64,
    /// Likewise.
    fresh_until: u64,
}

impl KeySet {
    /// Whether it should be fetched anew. A set from the future is as good as expired: since then the clock was set back,
    /// and until it is there again a key that was withdrawn would be believed.
    fn is_expired(&self, now: u64) -> bool {
        now > self.fresh_until || now.saturating_add(MIN_INTERVAL) <= self.fetched_at
    }
}

impl Jwks {
    pub(super) fn new(config: JwksConfig) -> Result<Self, ConfigError> {
        let JwksConfig { url, algorithms: names } = config;
        check_url(&url).map_err(|reason| ConfigError::JwksUrl { url: url.clone(), reason })?;
        let mut algorithms = Vec::new();
        for name in names {
            let algorithm = algorithm(&name).map_err(|error| ConfigError::JwksAlgorithms(error.to_string()))?;
            if algorithm.family() == AlgorithmFamily::Hmac {
                let reason = format!("{name} would need a published secret: put it under keys");
                return Err(ConfigError::JwksAlgorithms(reason));
            }
            if !algorithms.contains(&algorithm) {
                algorithms.push(algorithm);
            }
        }
        if algorithms.is_empty() {
            return Err(ConfigError::JwksAlgorithms("name those that the keys of the set are for".to_owned()));
        }
        Ok(Self { url, algorithms, current: ArcSwapOption::empty(), last_fetch: Mutex::default() })
    }

    pub(super) fn algorithms(&self) -> &[Algorithm] {
        &self.algorithms
    }

    /// The set in use, fresh or not.
    pub(super) fn current(&self, now: u64) -> Option<Arc<KeySet>> {
        self.current.load_full().filter(|set| now <= set.fresh_until.saturating_add(MAX_STALE))
    }

    /// What to do about a token that a key of the set verified.
    pub(super) fn refresh_if_expired(&self, now: u64) -> Option<Refresh> {
        let set = self.current(now)?;
        set.is_expired(now).then_some(Refresh { need: Need::Freshness, seen: set.generation })
    }

    /// What to do about a token that no key verified: nothing if the set has a key of its name, and it is fresh.
    pub(super) fn refresh_for(&self, kid: Option<&str>, now: u64) -> Option<Refresh> {
        let Some(set) = self.current(now) else { return Some(Refresh { need: Need::Keys, seen: self.generation() }) };
        let named = kid.is_some() && set.keys.iter().any(|key| key.kid.as_deref() == kid);
        if named {
            return self.refresh_if_expired(now);
        }
        Some(Refresh { need: Need::Keys, seen: set.generation })
    }

    pub(super) async fn refresh<F, R, B, E>(&self, refresh: Refresh, now: u64, fetch: F) -> Result<Refreshed, JwksError>
    where
        F: FnOnce(String) -> R,
        R: Future<Output = Result<Document<B>, E>>,
        B: AsRef<[u8]>,
        E: Display,
    {
        let mut last_fetch = match (refresh.need, self.last_fetch.try_lock()) {
            (_, Ok(guard)) => guard,
            (Need::Freshness, Err(_)) => return Ok(Refreshed::NotNeeded),
            (Need::Keys, Err(_)) => self.last_fetch.lock().await,
        };
        if self.generation() != refresh.seen {
            return Ok(Refreshed::NotNeeded);
        }
        // The distance, and not the time since: a clock that was set back must not put fetches off until it is there again.
        if last_fetch.is_some_and(|last| last.abs_diff(now) < MIN_INTERVAL) {
            return Ok(Refreshed::Throttled);
        }
        *last_fetch = Some(now);
        let url = || self.url.clone();
        let document = tokio::time::timeout(FETCH_TIMEOUT, fetch(url())).await;
        let document = document.map_err(|_| JwksError::TimedOut { url: url() })?;
        let document = document.map_err(|error| JwksError::Fetch { url: url(), reason: error.to_string() })?;
        self.admit(document, now)
    }

    /// Takes a fetched set into use, if it is one.
    ///
    /// An empty set is: its owner has withdrawn all keys. A set of which nothing can be used is not: that is rather a
    /// mistake, and the last good one serves on.
    fn admit<B: AsRef<[u8]>>(&self, document: Document<B>, now: u64) -> Result<Refreshed, JwksError> {
        let (url, body) = (|| self.url.clone(), document.body.as_ref());
        if body.len() > MAX_JWKS_BYTES {
            return Err(JwksError::TooLarge { url: url() });
        }
        let parsed: Value = serde_json::from_slice(body).map_err(|_| JwksError::Malformed { url: url() })?;
        let listed = parsed.get("keys").and_then(Value::as_array).ok_or_else(|| JwksError::Malformed { url: url() })?;
        let mut skipped = Vec::new();
        let mut keys = Vec::new();
        for (index, jwk) in listed.iter().take(MAX_SET_KEYS).enumerate() {
            match usable(&self.algorithms, jwk) {
                Ok(key) => keys.push(key),
                Err(reason) if skipped.len() < MAX_REASONS => skipped.push(format!("key {}: {reason}", index + 1)),
                Err(_) => {}
            }
        }
        if keys.is_empty() && !listed.is_empty() {
            return Err(JwksError::NothingUsable { url: url(), skipped });
        }
        let (shortest, longest) = TTL_BOUNDS;
        let ttl = document.max_age.unwrap_or(DEFAULT_TTL).clamp(shortest, longest);
        let count = keys.len();
        let fresh_until = now.saturating_add(ttl.as_secs());
        let set = KeySet { keys, generation: self.generation() + 1, fetched_at: now, fresh_until };
        self.current.store(Some(Arc::new(set)));
        Ok(Refreshed::Fetched { keys: count, skipped })
    }

    /// Of the set fetched last, even one too old to use; 0 before the first.
    fn generation(&self) -> u64 {
        self.current.load().as_ref().map_or(0, |set| set.generation)
    }
}

/// The key in a member of the set, or why it cannot be used. One bad key does not spoil the others.
fn usable(algorithms: &[Algorithm], jwk: &Value) -> Result<VerifyingKey, String> {
    if jwk.get("kty").is_some_and(|kty| kty == "oct") {
        return Err("symmetric: a published secret is none".to_owned());
    }
    let algorithms = fitting_algorithms(algorithms, jwk);
    let Some(&any) = algorithms.first() else { return Err("for none of the configured algorithms".to_owned()) };
    // All that fit one `kty` and `crv` take the same key; if it names its `alg`, only that one fits.
    let key = from_jwk(any, jwk).map_err(|error| error.to_string())?;
    Ok(VerifyingKey { kid: kid_of(jwk), algorithms, key })
}

fn check_url(url: &str) -> Result<(), String> {
    let url = Url::parse(url).map_err(|error| error.to_string())?;
    let loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err("credentials do not belong in an address".to_owned());
    }
    match url.scheme() {
        "https" => Ok(()),
        "http" if loopback => Ok(()),
        "http" => Err("keys fetched in the clear can be exchanged on the way".to_owned()),
        scheme => Err(format!("`{scheme}` is no way to fetch keys")),
    }
}

#[cfg(test)]
mod tests;
