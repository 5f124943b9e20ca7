//! The native parts behind a function's `env`: rate limiters, token verifiers, cohorts.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use middleware::cohort::{CookieName, Experiment, Transport};
use middleware::jwt::{JwksConfig, Key, Material, Rejection, Verifier, VerifierConfig, www_authenticate};
use middleware::rate_limit::{Decision, Limiter};
use origin::bundle::{CohortBinding, FunctionConfig, FunctionName, JwtBinding, JwtKeyMaterial, RateLimitBinding};
use serde::Serialize;
use serde_json::{Value, json};

/// What a client is told to wait when the keys to verify its token cannot be fetched.
const KEYS_RETRY_SECONDS: u32 = 10;

/// Clients that one rate limiter remembers.
const LIMITER_KEYS: usize = 100_000;

/// One thing on `env` that is more than a value.
#[derive(Debug)]
pub(crate) enum Binding {
    RateLimit(Arc<Limiter>),
    Jwt { verifier: Arc<Verifier>, realm: String },
    Cohort(Cohorts),
}

/// Rate limiters by namespace, so that the versions of a function, and functions that share a namespace, share counters.
#[derive(Debug, Default)]
pub(crate) struct Limiters(Mutex<HashMap<(String, u32, u32), Weak<Limiter>>>);

impl Limiters {
    fn get(&self, function: &FunctionName, binding: &RateLimitBinding) -> Arc<Limiter> {
        let RateLimitBinding { name, namespace_id, limit, period_seconds } = binding;
        let space = if namespace_id.is_empty() { format!("{function}/{name}") } else { format!("/{namespace_id}") };
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, limiter| limiter.strong_count() > 0);
        let slot = known.entry((space, *limit, *period_seconds)).or_default();
        slot.upgrade().unwrap_or_else(|| {
            let limiter = Arc::new(Limiter::new(*limit, Duration::from_secs(u64::from(*period_seconds)), LIMITER_KEYS));
            *slot = Arc::downgrade(&limiter);
            limiter
        })
    }
}

impl Binding {
    /// Everything that a configuration binds, by name.
    pub(crate) fn all(
        function: &FunctionName,
        config: &FunctionConfig,
        limiters: &Limiters,
    ) -> Result<HashMap<String, Self>, String> {
        let mut all = HashMap::new();
        for binding in &config.ratelimits {
            all.insert(binding.name.clone(), Self::RateLimit(limiters.get(function, binding)));
        }
        for binding in &config.jwt {
            let verifier = Verifier::new(verifier_config(binding)).map_err(|e| format!("{}: {e}", binding.name))?;
            all.insert(binding.name.clone(), Self::Jwt { verifier: Arc::new(verifier), realm: function.to_string() });
        }
        for binding in &config.cohorts {
            let cohorts = Cohorts::new(binding).map_err(|e| format!("{}: {e}", binding.name))?;
            all.insert(binding.name.clone(), Self::Cohort(cohorts));
        }
        Ok(all)
    }
}

fn verifier_config(binding: &JwtBinding) -> VerifierConfig {
    let key = |key: &origin::bundle::JwtKey| Key {
        kid: key.kid.clone(),
        algorithm: key.algorithm.clone(),
        material: match &key.material {
            JwtKeyMaterial::Secret(secret) => Material::Secret(secret.clone()),
            JwtKeyMaterial::Pem(pem) => Material::Pem(pem.clone()),
            JwtKeyMaterial::Jwk(jwk) => Material::Jwk(jwk.clone()),
        },
    };
    VerifierConfig {
        issuers: binding.issuers.clone(),
        audiences: binding.audiences.clone(),
        keys: binding.keys.iter().map(key).collect(),
        jwks: binding
            .jwks_url
            .as_ref()
            .map(|url| JwksConfig { url: url.clone(), algorithms: binding.jwks_algorithms.clone() }),
        leeway: Duration::from_secs(binding.leeway_seconds),
    }
}

/// A token that was accepted, as the function gets it: written from where the claims lie, since they may be many.
#[derive(Serialize)]
struct Accepted<'a> {
    ok: bool,
    subject: Option<&'a str>,
    claims: &'a serde_json::Map<String, Value>,
}

/// What a verifier's answer is to the function, as JSON.
pub(crate) fn verified(realm: &str, result: Result<middleware::jwt::Claims, Option<Rejection>>) -> String {
    let rejection = match result {
        Ok(claims) => {
            let accepted = Accepted { ok: true, subject: claims.subject(), claims: claims.as_map() };
            // What was parsed as JSON can be written as JSON.
            return serde_json::to_string(&accepted).unwrap_or_default();
        }
        Err(rejection) => rejection,
    };
    json!({
        "ok": false,
        "reason": rejection.as_ref().map_or("missing", |r| r.as_str()),
        "message": rejection.as_ref().map_or_else(|| "send Authorization: Bearer <token>".to_owned(), Rejection::description),
        "status": rejection.as_ref().map_or(401, Rejection::status),
        "challenge": www_authenticate(realm, rejection.as_ref()),
        // The key set was not to be had: it is asked for again after a pause of this length.
        "retryAfter": rejection.as_ref().filter(|r| r.status() == 503).map(|_| KEYS_RETRY_SECONDS),
    })
    .to_string()
}

/// What a limiter's answer is to the function.
pub(crate) fn limited(decision: &Decision) -> Value {
    let headers: serde_json::Map<_, _> =
        middleware::rate_limit::headers(decision).map(|(name, value)| (name.to_owned(), Value::from(value))).collect();
    json!({
        "success": decision.allowed,
        "limit": decision.limit,
        "remaining": decision.remaining,
        "reset": decision.reset.as_secs_f64(),
        "retryAfter": decision.retry_after.as_secs_f64(),
        "headers": headers,
    })
}

/// An experiment with the cookie that holds its clients' identities.
#[derive(Debug)]
pub(crate) struct Cohorts {
    experiment: Experiment,
    cookie: CookieName,
    /// New clients of this PoP so far, and where their sequence begins.
    minted: AtomicU64,
    seed: u64,
}

impl Cohorts {
    fn new(binding: &CohortBinding) -> Result<Self, String> {
        let cohorts = binding.cohorts.iter().map(|c| (c.name.clone(), c.weight)).collect();
        Ok(Self {
            experiment: Experiment::new(binding.experiment.clone(), cohorts).map_err(|e| e.to_string())?,
            cookie: CookieName::parse(&binding.cookie).map_err(|e| e.to_string())?,
            minted: AtomicU64::new(0),
            seed: rand::random(),
        })
    }

    /// By the client's cookie; a client without one gets one.
    pub(crate) fn by_cookie(&self, cookies: &str, transport: Transport) -> Value {
        if let Some(identity) = middleware::cohort::cookie([cookies], &self.cookie) {
            return json!({ "cohort": self.experiment.assign(identity), "isNew": false, "setCookie": null });
        }
        let identity = self.experiment.mint(self.minted.fetch_add(1, Ordering::Relaxed), self.seed, rand::random());
        json!({
            "cohort": self.experiment.assign(identity.as_str()),
            "isNew": true,
            "setCookie": middleware::cohort::set_cookie(&self.cookie, &identity, transport),
        })
    }

    /// The cohort of a client that has the cookie.
    pub(crate) fn known<'a>(&'a self, cookies: &str) -> Option<&'a str> {
        middleware::cohort::cookie([cookies], &self.cookie).map(|identity| self.experiment.assign(identity))
    }

    /// By a key of the function's own, for instance a user's id.
    pub(crate) fn by_key(&self, key: &str) -> Value {
        json!({ "cohort": self.experiment.assign(key), "isNew": false, "setCookie": null })
    }
}
