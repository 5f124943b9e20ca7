//! Whether a bundle makes sense, beyond being readable. Every problem is reported, not only the first.

use std::collections::HashSet;

use super::MAX_MESSAGE_BYTES;
use crate::bundle::{
    Asset, Budget, Bundle, CohortBinding, FunctionConfig, JwtBinding, JwtKeyMaterial, MAX_ALERTS, MAX_PERCENT,
    RateLimitBinding,
};
use crate::key::Key;
use crate::store::{Attributes, MAX_OBJECT_BYTES};

/// Most problems reported; more do not help anybody.
const MAX_PROBLEMS: usize = 20;

/// Most routes of a function, and longest of them in bytes: they are in the manifest, which every PoP has.
const MAX_ROUTES: usize = 100;
const MAX_ROUTE_BYTES: usize = 1024;

const SYMMETRIC: [&str; 3] = ["HS256", "HS384", "HS512"];
/// `Ed25519` (RFC 9864) is the newer name of `EdDSA` with that curve.
const ASYMMETRIC: [&str; 10] =
    ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA", "Ed25519"];

/// Checks a bundle and the message that comes with it.
pub(super) fn bundle(bundle: &Bundle, message: Option<&str>) -> Result<(), Vec<String>> {
    let mut problems = Vec::new();
    if message.is_some_and(|m| m.len() > MAX_MESSAGE_BYTES || m.chars().any(|c| c.is_control() && c != '\n')) {
        problems.push(format!("the message must be text of at most {MAX_MESSAGE_BYTES} bytes"));
    }
    if bundle.main.is_none() && bundle.assets.is_empty() {
        problems.push("there is neither a main module nor an asset".to_owned());
    }
    for path in bundle.modules.keys().filter(|path| Key::parse(path).is_err()) {
        problems.push(format!("module {path:?}: the path must be relative, without '.' or '..'"));
    }
    for (path, asset) in &bundle.assets {
        problems.extend(check_asset(path, asset));
    }
    check_config(&bundle.config, &mut problems);
    problems.truncate(MAX_PROBLEMS);
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

fn check_asset(path: &str, asset: &Asset) -> Option<String> {
    let problem = |why: &str| Some(format!("asset {path:?}: {why}"));
    let Some(Ok(key)) = path.strip_prefix('/').map(Key::parse) else {
        return problem("the path must begin with '/' and have no empty, '.' or '..' segment");
    };
    if path.contains('\\') {
        return problem("the path must have no '\\': no request could name it");
    }
    if asset.size > MAX_OBJECT_BYTES {
        return problem("it is too large");
    }
    let (content_type, cache_control) = (Some(asset.content_type.clone()), Some(asset.cache_control.clone()));
    Attributes { content_type, cache_control }.check(&key).err().map(|e| e.to_string())
}

fn check_config(config: &FunctionConfig, problems: &mut Vec<String>) {
    if !config.compatibility_date.is_empty() && !is_date(&config.compatibility_date) {
        problems.push(format!("compatibility date {:?}: write YYYY-MM-DD", config.compatibility_date));
    }
    if config.routes.len() > MAX_ROUTES {
        problems.push(format!("there are {} routes, the limit is {MAX_ROUTES}: use patterns", config.routes.len()));
    }
    for route in config.routes.iter().filter(|route| route.to_string().len() > MAX_ROUTE_BYTES) {
        problems.push(format!("route {:.80}...: it is longer than {MAX_ROUTE_BYTES} bytes", route.to_string()));
    }
    let mut routes = HashSet::new();
    for route in config.routes.iter().filter(|route| !routes.insert(*route)) {
        problems.push(format!("route {route} is there twice"));
    }
    let bindings = config.ratelimits.iter().map(|b| &b.name);
    let bindings = bindings.chain(config.jwt.iter().map(|b| &b.name)).chain(config.cohorts.iter().map(|b| &b.name));
    let mut names: HashSet<&String> = config.vars.keys().collect();
    for name in bindings {
        if name.is_empty()
            || name.len() > 64
            || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'$')
        {
            problems.push(format!("binding {name:?}: the name must be 1 to 64 letters, digits, '_' or '$'"));
        }
        if !names.insert(name) {
            problems.push(format!("{name:?} is on env twice"));
        }
    }
    problems.extend(config.ratelimits.iter().filter_map(check_rate_limit));
    problems.extend(config.jwt.iter().flat_map(check_jwt));
    problems.extend(config.cohorts.iter().filter_map(check_cohorts));
    problems.extend(config.budget.as_ref().and_then(check_budget));
}

fn check_rate_limit(binding: &RateLimitBinding) -> Option<String> {
    let ok = binding.limit > 0 && (1..=86_400).contains(&binding.period_seconds);
    (!ok).then(|| format!("rate limit {}: the limit must be at least 1, the period 1 to 86400 seconds", binding.name))
}

fn check_jwt(binding: &JwtBinding) -> Vec<String> {
    let mut problems = Vec::new();
    let mut problem = |why: String| problems.push(format!("jwt {}: {why}", binding.name));
    if binding.issuers.is_empty() || binding.audiences.is_empty() {
        problem("at least one issuer and one audience are needed".to_owned());
    }
    if binding.keys.is_empty() && binding.jwks_url.is_none() {
        problem("there is neither a key nor the address of a key set".to_owned());
    }
    for key in &binding.keys {
        let algorithm = key.algorithm.as_str();
        let fits = match key.material {
            JwtKeyMaterial::Secret(_) => SYMMETRIC.contains(&algorithm),
            JwtKeyMaterial::Pem(_) => ASYMMETRIC.contains(&algorithm),
            JwtKeyMaterial::Jwk(_) => SYMMETRIC.contains(&algorithm) || ASYMMETRIC.contains(&algorithm),
        };
        if !fits {
            problem(format!(
                "algorithm {algorithm:?} does not fit the key (a secret is for HS*, a PEM for the others)"
            ));
        }
    }
    for algorithm in binding.jwks_algorithms.iter().filter(|a| !ASYMMETRIC.contains(&a.as_str())) {
        problem(format!("algorithm {algorithm:?} cannot be used with keys from an address"));
    }
    problems
}

fn check_cohorts(binding: &CohortBinding) -> Option<String> {
    let names: HashSet<_> = binding.cohorts.iter().map(|c| &c.name).collect();
    let problem = |why: &str| Some(format!("cohorts {}: {why}", binding.name));
    match binding.cohorts.iter().map(|c| u64::from(c.weight)).sum::<u64>() {
        0 => problem("at least one weight must be above 0"),
        _ if names.len() < binding.cohorts.len() => problem("two cohorts have the same name"),
        _ => None,
    }
}

fn check_budget(budget: &Budget) -> Option<String> {
    let percents = budget.alerts.iter().all(|percent| (1..=MAX_PERCENT).contains(percent));
    let ok = budget.amount_micros > 0 && budget.alerts.len() <= MAX_ALERTS && percents && budget.alerts.is_sorted();
    (!ok).then(|| {
        format!(
            "budget: the amount is above 0, and the alerts at most {MAX_ALERTS} percents up to {MAX_PERCENT}, ascending"
        )
    })
}

fn is_date(text: &str) -> bool {
    let digits = |range: std::ops::Range<usize>| text.get(range).and_then(|d| d.parse::<u32>().ok());
    let shape = text.len() == 10 && text.bytes().enumerate().all(|(i, b)| (b == b'-') == (i == 4 || i == 7));
    shape
        && digits(0..4).is_some()
        && digits(5..7).is_some_and(|m| (1..=12).contains(&m))
        && digits(8..10).is_some_and(|d| (1..=31).contains(&d))
}
