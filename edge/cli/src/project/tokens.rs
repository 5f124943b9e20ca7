//! Token verifiers: who may issue, for whom, and the keys that prove it.

use std::net::IpAddr;

use origin::bundle::{JwtBinding, JwtKey, JwtKeyMaterial};
use url::{Host, Url};

use super::bindings::{self, Names};
use super::document::Node;
use super::fields::{Field, Fields, Findings};
use super::folder::Folder;
use super::{schema, units};

/// Largest key file read, in bytes: an RSA key of 16384 bits takes 3 KiB.
const MAX_KEY_FILE_BYTES: u64 = 64 << 10;

/// Most clock skew that can be allowed, in seconds.
const MAX_LEEWAY_SECONDS: u64 = 600;

/// What a key of an algorithm is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Hmac,
    Rsa,
    EllipticCurve,
    Edwards,
}

/// Algorithms a key can have (RFC 7518, section 3.1, and RFC 8037). `none` is not one of them.
const ALGORITHMS: [(&str, Family); 12] = [
    ("HS256", Family::Hmac),
    ("HS384", Family::Hmac),
    ("HS512", Family::Hmac),
    ("RS256", Family::Rsa),
    ("RS384", Family::Rsa),
    ("RS512", Family::Rsa),
    ("PS256", Family::Rsa),
    ("PS384", Family::Rsa),
    ("PS512", Family::Rsa),
    ("ES256", Family::EllipticCurve),
    ("ES384", Family::EllipticCurve),
    ("EdDSA", Family::Edwards),
];

/// `{ binding, issuer, audience, keys, jwks_url, jwks_algorithms, leeway }`.
pub(super) fn verifier(
    findings: &mut Findings<'_>,
    names: &mut Names,
    folder: &Folder,
    field: &Field<'_>,
) -> Option<JwtBinding> {
    let before = findings.count();
    let mut fields = findings.table(field)?;
    let name = bindings::name(findings, names, &mut fields, &["binding"]);
    let issuers = one_or_many(findings, &mut fields, ["issuer", "issuers"]);
    let audiences = one_or_many(findings, &mut fields, ["audience", "audiences"]);
    let keys_field = fields.get("keys");
    let items = keys_field.as_ref().map(|field| findings.array(field)).unwrap_or_default();
    let keys: Vec<JwtKey> = items.iter().filter_map(|item| key(findings, folder, item)).collect();
    let (jwks_url, jwks_algorithms) = key_set(findings, &mut fields);
    let leeway = fields.get("leeway").and_then(|field| units::seconds(findings, &field, 0..=MAX_LEEWAY_SECONDS));
    if items.is_empty() && jwks_url.is_none() && findings.count() == before {
        let help = "give \"keys\": [{ \"algorithm\": \"ES256\", \"pem_file\": \"key.pem\" }], or a \"jwks_url\"";
        fields.missing(findings, "there is no key to verify tokens with", help);
    }
    fields.finish(findings, &[]);
    Some(JwtBinding {
        name: name?,
        issuers,
        audiences,
        keys,
        jwks_url,
        jwks_algorithms,
        leeway_seconds: leeway.unwrap_or(0),
    })
}

/// A text under the first key, or an array of texts under the second. Either key takes either form.
fn one_or_many(findings: &mut Findings<'_>, fields: &mut Fields<'_>, keys: [&'static str; 2]) -> Vec<String> {
    let Some((_, field)) = fields.one_of(findings, &keys) else { return Vec::new() };
    if !matches!(field.value.node, Node::Array(_)) {
        return findings.string(&field).map(str::to_owned).into_iter().collect();
    }
    let before = findings.count();
    let values: Vec<String> = findings.strings(&field).into_iter().map(str::to_owned).collect();
    if values.is_empty() && findings.count() == before {
        findings.wrong(&field, "at least one is needed: a token is never accepted from anyone for anyone", "");
    }
    values
}

fn key_set(findings: &mut Findings<'_>, fields: &mut Fields<'_>) -> (Option<String>, Vec<String>) {
    let url_field = fields.get("jwks_url");
    let algorithms_field = fields.get("jwks_algorithms");
    let url = url_field.as_ref().and_then(|field| key_set_url(findings, field));
    let mut algorithms = Vec::new();
    for item in algorithms_field.as_ref().map(|field| findings.array(field)).unwrap_or_default() {
        let Some((name, family)) = algorithm(findings, &item) else { continue };
        if family == Family::Hmac {
            let message = format!("{name} has a shared secret, which no key set may publish");
            findings.wrong(&item, message, "give the secret under \"keys\"");
            continue;
        }
        algorithms.push(name.to_owned());
    }
    match (&url_field, &algorithms_field) {
        (Some(field), None) => {
            let help = "name the algorithms you accept, for instance \"jwks_algorithms\": [\"RS256\"]";
            findings.error(&field.path, field.key_span.clone(), "\"jwks_url\" needs \"jwks_algorithms\"", help);
        }
        (None, Some(field)) => {
            let message = "\"jwks_algorithms\" is for the keys of a \"jwks_url\", and there is none";
            findings.error(&field.path, field.key_span.clone(), message, "each of \"keys\" names its own algorithm");
        }
        (Some(_), Some(field)) if matches!(&field.value.node, Node::Array(items) if items.is_empty()) => {
            findings.wrong(field, "no algorithm is accepted", "for instance [\"RS256\"]");
        }
        _ => {}
    }
    (url, algorithms)
}

/// An address keys can be trusted from: `https`, or `http` on this machine.
fn key_set_url(findings: &mut Findings<'_>, field: &Field<'_>) -> Option<String> {
    let text = findings.string(field)?;
    let url = match Url::parse(text) {
        Ok(url) => url,
        Err(error) => {
            findings.wrong(field, format!("{text:?} is not an address: {error}"), "");
            return None;
        }
    };
    let loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(ip)) => IpAddr::V4(ip).is_loopback(),
        Some(Host::Ipv6(ip)) => IpAddr::V6(ip).is_loopback(),
        None => false,
    };
    if url.scheme() == "https" || (url.scheme() == "http" && loopback) {
        return Some(url.into());
    }
    findings.wrong(field, "keys are fetched over https only (http is for loopback)", "");
    None
}

fn algorithm<'v>(findings: &mut Findings<'_>, field: &Field<'v>) -> Option<(&'v str, Family)> {
    let name = findings.string(field)?;
    let found = ALGORITHMS.iter().find(|(known, _)| *known == name);
    if found.is_none() {
        let names = ALGORITHMS.map(|(name, _)| name).join(", ");
        findings.wrong(field, format!("{name:?} is not an algorithm"), format!("write one of {names}"));
    }
    found.map(|(_, family)| (name, *family))
}

/// `{ kid, algorithm, … }` with exactly one form of key.
fn key(findings: &mut Findings<'_>, folder: &Folder, field: &Field<'_>) -> Option<JwtKey> {
    let mut fields = findings.table(field)?;
    let kid = fields.get("kid").and_then(|field| findings.string(&field).map(str::to_owned));
    let algorithm = fields
        .required(findings, "algorithm", "a key is for one algorithm, for instance \"ES256\"")
        .and_then(|field| algorithm(findings, &field));
    let material = fields.one_of(findings, &["secret", "pem", "pem_file", "jwk", "jwk_file"]);
    fields.finish(findings, &[]);
    let ((algorithm, family), (form, field)) = (algorithm?, material?);
    let material = match form {
        "secret" => secret(findings, &field, algorithm, family),
        "pem" => findings.string(&field).map(str::to_owned).and_then(|text| pem(findings, &field, text, family)),
        "pem_file" => key_file(findings, folder, &field).and_then(|text| pem(findings, &field, text, family)),
        "jwk" => jwk(findings, &field, field.value.to_json(), algorithm, family),
        _ => jwk_file(findings, folder, &field).and_then(|value| jwk(findings, &field, value, algorithm, family)),
    }?;
    Some(JwtKey { kid, algorithm: algorithm.to_owned(), material })
}

fn key_file(findings: &mut Findings<'_>, folder: &Folder, field: &Field<'_>) -> Option<String> {
    let path = schema::existing_file(findings, folder, field)?;
    match folder.read(&path, MAX_KEY_FILE_BYTES) {
        Ok(text) => Some(text),
        Err(error) => {
            findings.wrong(field, format!("{path:?} {error}"), "");
            None
        }
    }
}

fn jwk_file(findings: &mut Findings<'_>, folder: &Folder, field: &Field<'_>) -> Option<serde_json::Value> {
    let text = key_file(findings, folder, field)?;
    match serde_json::from_str(&text) {
        Ok(value) => Some(value),
        Err(error) => {
            findings.wrong(field, format!("the file is not JSON: {error}"), "");
            None
        }
    }
}

fn secret(findings: &mut Findings<'_>, field: &Field<'_>, algorithm: &str, family: Family) -> Option<JwtKeyMaterial> {
    let text = findings.string(field)?;
    if family != Family::Hmac {
        let message = format!("{algorithm} verifies with a public key, not with a shared secret");
        findings.wrong(field, message, "give \"pem\", \"pem_file\", \"jwk\" or \"jwk_file\"");
        return None;
    }
    let needed = algorithm[2..].parse::<usize>().unwrap_or(256) / 8;
    if text.len() < needed {
        let message = format!("the secret has {} bytes, {algorithm} asks for {needed} (RFC 7518, 3.2)", text.len());
        findings.doubt(&field.path, field.value.span.clone(), message, "a short secret can be guessed from one token");
    }
    Some(JwtKeyMaterial::Secret(text.to_owned()))
}

fn pem(findings: &mut Findings<'_>, field: &Field<'_>, text: String, family: Family) -> Option<JwtKeyMaterial> {
    let label = text.split_once("-----BEGIN ").and_then(|(_, rest)| rest.split_once("-----")).map(|(label, _)| label);
    let (message, help) = match label {
        _ if family == Family::Hmac => ("a shared secret is not PEM".to_owned(), "give it as \"secret\""),
        Some("PUBLIC KEY") => return Some(JwtKeyMaterial::Pem(text)),
        Some("RSA PUBLIC KEY") if family == Family::Rsa => return Some(JwtKeyMaterial::Pem(text)),
        Some(label) if label.ends_with("PRIVATE KEY") => {
            ("this is a private key, and a bundle is no place for it".to_owned(), "give the public key")
        }
        Some(label) => (format!("this is a {label}, not a public key"), "give a PUBLIC KEY (SPKI)"),
        None => ("this is not PEM".to_owned(), "it begins with -----BEGIN PUBLIC KEY-----"),
    };
    findings.wrong(field, message, help);
    None
}

fn jwk(
    findings: &mut Findings<'_>,
    field: &Field<'_>,
    value: serde_json::Value,
    algorithm: &str,
    family: Family,
) -> Option<JwtKeyMaterial> {
    let kind = match family {
        Family::Hmac => "oct",
        Family::Rsa => "RSA",
        Family::EllipticCurve => "EC",
        Family::Edwards => "OKP",
    };
    let text = |name: &str| value.get(name).and_then(serde_json::Value::as_str);
    let (message, help) = if !value.is_object() {
        ("a JSON Web Key is an object".to_owned(), String::new())
    } else if text("kty") != Some(kind) {
        (format!("the key for {algorithm} has \"kty\": {kind:?}, this one does not"), String::new())
    } else if text("alg").is_some_and(|alg| alg != algorithm) {
        (format!("this key says it is for {}", text("alg").unwrap_or_default()), "correct \"algorithm\"".to_owned())
    } else if family != Family::Hmac && value.get("d").is_some() {
        ("this is a private key, and a bundle is no place for it".to_owned(), "remove \"d\" and the primes".to_owned())
    } else {
        return Some(JwtKeyMaterial::Jwk(value));
    };
    findings.wrong(field, message, help);
    None
}
