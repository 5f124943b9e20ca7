//! What a deploy uploads: one function's modules, configuration and asset table, named by its digest.
//!
//! A bundle is immutable. Its bytes are canonical JSON (object keys in a fixed order), its version is the SHA-256 of
//! those bytes, so a torn or altered bundle can never pass for the version it claims to be.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

mod budget;
mod front;

pub use budget::{Brake, Budget, MAX_ALERTS, MAX_PERCENT, Period};
pub use front::{FrontCache, KeyPart, RouteCache};

/// The bundle format this code reads and writes.
pub const FORMAT: u32 = 1;

/// Largest encoded bundle accepted anywhere, in bytes.
pub const MAX_BUNDLE_BYTES: usize = 10 << 20;

/// A SHA-256 digest: the name of a version, a bundle or an asset's bytes. Shown as 64 hexadecimal characters.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// A digest computed elsewhere, for instance over a stream.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The first 12 hexadecimal characters: enough for people, never used as a key.
    pub fn short(&self) -> String {
        hex::encode(&self.0[..6])
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({})", self.short())
    }
}

impl FromStr for Digest {
    type Err = BundleError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(s, &mut bytes).map_err(|_| BundleError::Digest(s.to_owned()))?;
        Ok(Self(bytes))
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A function's name: 1 to 63 of `a-z`, `0-9` and `-`, beginning with a letter and not ending with `-`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FunctionName(String);

impl FunctionName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for FunctionName {
    type Error = BundleError;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        let ok = (1..=63).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && name.as_bytes()[0].is_ascii_lowercase()
            && !name.ends_with('-');
        if ok { Ok(Self(name)) } else { Err(BundleError::Name(name)) }
    }
}

impl FromStr for FunctionName {
    type Err = BundleError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        s.to_owned().try_into()
    }
}

impl From<FunctionName> for String {
    fn from(name: FunctionName) -> Self {
        name.0
    }
}

impl fmt::Display for FunctionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One version of a function.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    /// [`FORMAT`].
    pub format: u32,
    /// The function this is a version of.
    pub name: FunctionName,
    /// Path of the entry module among `modules`; `None` for a function that is only assets.
    pub main: Option<String>,
    /// Every module the entry can reach, already JavaScript, by path relative to the project folder (`src/index.ts`).
    pub modules: BTreeMap<String, Module>,
    /// What the project file said.
    pub config: FunctionConfig,
    /// Static files published at the origin with this version, by URL path (`/site/logo.png`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub assets: BTreeMap<String, Asset>,
}

/// One ES module, ready to compile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Module {
    /// JavaScript source.
    pub source: String,
    /// Source map (JSON, version 3) when the source was transpiled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_map: Option<String>,
}

/// One static file of a version. Its bytes are stored under their digest, apart from the bundle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asset {
    /// SHA-256 of the bytes: the object's name, and a part of its entity tag.
    pub digest: Digest,
    /// Length in bytes.
    pub size: u64,
    /// `Content-Type` it is served with.
    pub content_type: String,
    /// `Cache-Control` it is served with.
    pub cache_control: String,
}

/// What a project file says about a function, checked and in base units.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FunctionConfig {
    /// `YYYY-MM-DD`.
    #[serde(default)]
    pub compatibility_date: String,
    /// Plain values on `env`.
    #[serde(default)]
    pub vars: BTreeMap<String, serde_json::Value>,
    /// Which requests this function answers.
    #[serde(default)]
    pub routes: Vec<RoutePattern>,
    /// Limits that differ from the defaults, by key of the limits table, in its base unit.
    #[serde(default)]
    pub limits: BTreeMap<String, u64>,
    /// Rate limiter bindings on `env`.
    #[serde(default)]
    pub ratelimits: Vec<RateLimitBinding>,
    /// Token verifier bindings on `env`.
    #[serde(default)]
    pub jwt: Vec<JwtBinding>,
    /// Cohort bindings on `env`.
    #[serde(default)]
    pub cohorts: Vec<CohortBinding>,
    /// What a client gets when this function fails.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// Workers of each PoP that have the function started before anybody asks for it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub min_ready: u32,
    /// What stands between this function and those of other tenants.
    #[serde(default, skip_serializing_if = "Isolation::is_default")]
    pub isolation: Isolation,
    /// Where this function runs when the fleet has a region.
    #[serde(default, skip_serializing_if = "Placement::is_default")]
    pub placement: Placement,
    /// Limits that it has on region nodes, by key of the limits table, in its base unit; what is not here is the node's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub region_limits: BTreeMap<String, u64>,
    /// The latency, in milliseconds, that 99 in 100 of its requests shall keep where it is moved to the region for its cost;
    /// without one it never is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region_objective_ms: Option<u64>,
    /// Functions of one tenant share a cell; without one, a function shares its cell with nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<FunctionName>,
    /// The cache in front of this function; `None` for no cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<FrontCache>,
    /// Routes with another.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub route_caches: Vec<RouteCache>,
    /// What it may cost; `None`: anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// What stands between a function and those of other tenants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// A V8 isolate.
    #[default]
    Isolate,
    /// A V8 isolate, and around it a process that can do nothing by itself: a cell.
    Process,
}

impl Isolation {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl FromStr for Isolation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "isolate" => Ok(Self::Isolate),
            "process" => Ok(Self::Process),
            _ => Err(format!("{text:?} is no isolation: write \"isolate\" or \"process\"")),
        }
    }
}

impl fmt::Display for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Isolate => "isolate",
            Self::Process => "process",
        })
    }
}

/// Where a function runs in a fleet that has a region. Without one, all run on the PoPs but those of the region alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Placement {
    /// On the PoPs only.
    Edge,
    /// On region nodes only.
    Region,
    /// On the PoPs, and in the region where that is the better place for a request.
    #[default]
    Auto,
}

impl Placement {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl FromStr for Placement {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "edge" => Ok(Self::Edge),
            "region" => Ok(Self::Region),
            "auto" => Ok(Self::Auto),
            _ => Err(format!("{text:?} is no placement: write \"edge\", \"region\" or \"auto\"")),
        }
    }
}

/// What a client gets when the function fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// The fault's own status: right for anything that authorises.
    #[default]
    Closed,
    /// The origin's answer, as if the function were not there.
    Origin,
}

/// A rate limiter on `env`, as Workers' `ratelimits` entry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimitBinding {
    /// Name on `env`.
    pub name: String,
    /// Counters are shared by every binding with the same namespace; empty: private to the function and binding.
    #[serde(default)]
    pub namespace_id: String,
    /// Requests allowed in each period, at least 1.
    pub limit: u32,
    /// Length of the period in seconds, 1 to 86400.
    pub period_seconds: u32,
}

/// A token verifier on `env`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JwtBinding {
    /// Name on `env`.
    pub name: String,
    /// Accepted `iss`; at least one.
    pub issuers: Vec<String>,
    /// Accepted `aud`; at least one.
    pub audiences: Vec<String>,
    /// Keys given in the project file.
    #[serde(default)]
    pub keys: Vec<JwtKey>,
    /// Address of a JWK set (`https`, or `http` on loopback), fetched and kept fresh by each PoP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks_url: Option<String>,
    /// Algorithms accepted from the JWK set; ignored for `keys`, which each name their own.
    #[serde(default)]
    pub jwks_algorithms: Vec<String>,
    /// Clock skew allowed on `exp` and `nbf`, in seconds.
    #[serde(default)]
    pub leeway_seconds: u64,
}

/// One verification key. The algorithm is the configuration's, never the token's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JwtKey {
    /// Matched against the token's `kid` when both have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kid: Option<String>,
    /// `HS256`, `RS256`, `ES256`, `EdDSA` and their siblings.
    pub algorithm: String,
    /// The key.
    pub material: JwtKeyMaterial,
}

/// Where a key's bytes are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JwtKeyMaterial {
    /// A shared secret, as text (HS*).
    Secret(String),
    /// A public key in PEM (SPKI or PKCS#1).
    Pem(String),
    /// A JSON Web Key.
    Jwk(serde_json::Value),
}

/// An A/B experiment on `env`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CohortBinding {
    /// Name on `env`.
    pub name: String,
    /// Experiment name: the seed of the assignment, so that two experiments are independent.
    pub experiment: String,
    /// Cohort names with their weights, in order; at least one weight above 0.
    pub cohorts: Vec<Cohort>,
    /// Cookie that holds the client's identity.
    pub cookie: String,
}

/// One cohort of an experiment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cohort {
    /// Name as the function sees it.
    pub name: String,
    /// Share of clients relative to the sum of all weights.
    pub weight: u32,
}

/// Which requests go to a function: `host/path`, as in Workers routes.
///
/// - The host is a name, `*` for any, or `*.example.com` for every name below one; a port is not part of it.
/// - The path begins with `/`; one `*` may end it and stands for any rest.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RoutePattern {
    host: String,
    path: String,
    prefix: bool,
}

impl RoutePattern {
    /// Host part, lower case: a name, `*` or `*.name`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Whether `host` (lower case, without port) is one this pattern answers for.
    pub fn matches_host(&self, host: &str) -> bool {
        match self.host.strip_prefix('*') {
            Some("") => true,
            Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
            None => host == self.host,
        }
    }

    /// Whether `path` (no query) is one this pattern answers for.
    pub fn matches_path(&self, path: &str) -> bool {
        if self.prefix { path.starts_with(&self.path) } else { path == self.path }
    }

    /// The path's first segment, when every path that matches has that one whole: `a` of `/a/*` and `/a`, none of `/a*`.
    pub fn first_segment(&self) -> Option<&str> {
        let (segment, rest) =
            self.path[1..].split_once('/').map_or((&self.path[1..], None), |(s, rest)| (s, Some(rest)));
        (rest.is_some() || !self.prefix).then_some(segment)
    }

    /// Sorts the more specific pattern first: exact host, then longer host, exact path, then longer path.
    pub fn specificity(&self) -> impl Ord + use<> {
        std::cmp::Reverse((!self.host.starts_with('*'), self.host.len(), !self.prefix, self.path.len()))
    }
}

impl TryFrom<String> for RoutePattern {
    type Error = BundleError;

    fn try_from(pattern: String) -> Result<Self, Self::Error> {
        let bad = |why| Err(BundleError::Route { pattern: pattern.clone(), why });
        let Some(slash) = pattern.find('/') else {
            return bad("there is no '/': write host/path, for instance */hello or example.com/api/*");
        };
        let host = pattern[..slash].to_ascii_lowercase();
        let path = &pattern[slash..];
        let name = host.strip_prefix("*.").unwrap_or(if host == "*" { "" } else { &host });
        if host.is_empty() || name.contains('*') || (name.is_empty() && host != "*") {
            return bad("the host must be a name, '*' or '*.name'");
        }
        let address = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let named = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
        if !address.map_or(named, |address| address.parse::<std::net::Ipv6Addr>().is_ok()) {
            return bad("the host has a character that no host name has (a port is not part of a route)");
        }
        let (path, prefix) = match path.strip_suffix('*') {
            Some(rest) => (rest, true),
            None => (path, false),
        };
        if path.contains('*') {
            return bad("'*' may stand only at the end of the path");
        }
        if path.contains(['?', '#', ' ']) {
            return bad("a path has no '?', '#' or space");
        }
        Ok(Self { host, path: path.to_owned(), prefix })
    }
}

impl FromStr for RoutePattern {
    type Err = BundleError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        s.to_owned().try_into()
    }
}

impl From<RoutePattern> for String {
    fn from(route: RoutePattern) -> Self {
        route.to_string()
    }
}

impl fmt::Display for RoutePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{}", self.host, self.path, if self.prefix { "*" } else { "" })
    }
}

impl Bundle {
    /// The canonical bytes and their digest.
    pub fn encode(&self) -> (Vec<u8>, Digest) {
        let bytes = serde_json::to_vec(self).expect("a bundle has only string keys");
        let digest = Digest::of(&bytes);
        (bytes, digest)
    }

    /// Reads a bundle and checks that it is the version `expected`.
    ///
    /// # Errors
    /// [`BundleError::Corrupt`] when the digest differs, [`BundleError::Format`] or [`BundleError::Json`] when the
    /// bytes are not a bundle this code reads.
    pub fn decode(bytes: &[u8], expected: &Digest) -> Result<Self, BundleError> {
        let found = Digest::of(bytes);
        if found != *expected {
            return Err(BundleError::Corrupt { expected: *expected, found });
        }
        let bundle: Self = serde_json::from_slice(bytes).map_err(|e| BundleError::Json(e.to_string()))?;
        if bundle.format != FORMAT {
            return Err(BundleError::Format(bundle.format));
        }
        if let Some(main) = &bundle.main
            && !bundle.modules.contains_key(main)
        {
            return Err(BundleError::Json(format!("main module {main:?} is not among the modules")));
        }
        Ok(bundle)
    }
}

/// Why bytes or text are not what a deployment needs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// Not 64 hexadecimal characters.
    #[error("{0:?} is not a version: 64 hexadecimal characters are expected")]
    Digest(String),
    /// Not a [`FunctionName`].
    #[error("{0:?} is not a function name: 1 to 63 of a-z, 0-9 and -, beginning with a letter, not ending with -")]
    Name(String),
    /// Not a [`RoutePattern`].
    #[error("route {pattern:?}: {why}")]
    Route {
        /// As written.
        pattern: String,
        /// What is wrong.
        why: &'static str,
    },
    /// The bytes are not the version they are stored as.
    #[error("the bundle is corrupt: expected version {expected}, found {found}")]
    Corrupt {
        /// The version asked for.
        expected: Digest,
        /// The version of the bytes.
        found: Digest,
    },
    /// Written by another release.
    #[error("the bundle has format {0}, this release reads format {FORMAT}")]
    Format(u32),
    /// Not a bundle.
    #[error("the bundle is not valid: {0}")]
    Json(String),
}

#[cfg(test)]
mod tests;
