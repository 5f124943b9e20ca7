//! Token verifiers: who may issue, for whom, and the keys that prove it. What a PoP would refuse is refused here, by
//! the same code.

use middleware::jwt::{ConfigError, JwksConfig, Key, KeyError, Material, Verifier, VerifierConfig};
use origin::bundle::{JwtBinding, JwtKey, JwtKeyMaterial};

use super::bindings::{self, Names};
use super::document::Node;
use super::fields::{Field, Fields, Findings};
use super::folder::Folder;
use super::{schema, units};

/// Largest key file read, in bytes: an RSA key of 16384 bits takes 3 KiB.
const MAX_KEY_FILE_BYTES: u64 = 64 << 10;

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
    let most = middleware::jwt::MAX_LEEWAY.as_secs();
    let leeway = fields.get("leeway").and_then(|field| units::seconds(findings, &field, 0..=most));
    if items.is_empty() && jwks_url.is_none() && findings.count() == before {
        let help = "give \"keys\": [{ \"algorithm\": \"ES256\", \"pem_file\": \"key.pem\" }], or a \"jwks_url\"";
        fields.missing(findings, "there is no key to verify tokens with", help);
    }
    fields.finish(findings, &[]);
    let binding = JwtBinding {
        name: name?,
        issuers,
        audiences,
        keys,
        jwks_url,
        jwks_algorithms,
        leeway_seconds: leeway.unwrap_or(0),
    };
    if findings.count() == before
        && let Err(error) = Verifier::new(verifier_config(&binding))
    {
        findings.wrong(field, error.to_string(), "");
    }
    Some(binding)
}

/// A binding as the verifier takes it.
fn verifier_config(binding: &JwtBinding) -> VerifierConfig {
    let key = |key: &JwtKey| Key {
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
        jwks: binding.jwks_url.clone().map(|url| JwksConfig { url, algorithms: binding.jwks_algorithms.clone() }),
        leeway: std::time::Duration::from_secs(binding.leeway_seconds),
    }
}

/// What is wrong with one part of a verifier, when all others are right.
fn fault_of(keys: Vec<JwtKey>, jwks: Option<(String, Vec<String>)>) -> Option<ConfigError> {
    let (jwks_url, jwks_algorithms) = jwks.unzip();
    let binding = JwtBinding {
        name: String::new(),
        issuers: vec!["issuer".to_owned()],
        audiences: vec!["audience".to_owned()],
        keys,
        jwks_url,
        jwks_algorithms: jwks_algorithms.unwrap_or_default(),
        leeway_seconds: 0,
    };
    Verifier::new(verifier_config(&binding)).err()
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
    let items = algorithms_field.as_ref().map(|field| findings.array(field)).unwrap_or_default();
    let algorithms = items.iter().filter_map(|item| key_set_algorithm(findings, item)).collect();
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

fn key_set_url(findings: &mut Findings<'_>, field: &Field<'_>) -> Option<String> {
    let url = findings.string(field)?.to_owned();
    if let Some(error) = fault_of(Vec::new(), Some((url.clone(), vec!["RS256".to_owned()]))) {
        findings.wrong(field, error.to_string(), "");
        return None;
    }
    Some(url)
}

fn key_set_algorithm(findings: &mut Findings<'_>, field: &Field<'_>) -> Option<String> {
    let name = findings.string(field)?.to_owned();
    if let Some(error) = fault_of(Vec::new(), Some(("https://localhost/".to_owned(), vec![name.clone()]))) {
        findings.wrong(field, error.to_string(), "");
        return None;
    }
    Some(name)
}

/// `{ kid, algorithm, … }` with exactly one form of key.
fn key(findings: &mut Findings<'_>, folder: &Folder, field: &Field<'_>) -> Option<JwtKey> {
    let mut fields = findings.table(field)?;
    let kid = fields.get("kid").and_then(|field| findings.string(&field).map(str::to_owned));
    let algorithm = fields
        .required(findings, "algorithm", "a key is for one algorithm, for instance \"ES256\"")
        .and_then(|field| Some((findings.string(&field)?.to_owned(), field)));
    let material = fields
        .one_of(findings, &["secret", "pem", "pem_file", "jwk", "jwk_file"])
        .and_then(|(form, field)| Some((material(findings, folder, form, &field)?, field)));
    fields.finish(findings, &[]);
    let ((algorithm, algorithm_field), (material, material_field)) = (algorithm?, material?);
    let key = JwtKey { kid, algorithm, material };
    match fault_of(vec![key.clone()], None) {
        None => Some(key),
        Some(ConfigError::Key { source, .. }) => {
            let about_algorithm = matches!(source, KeyError::AlgorithmNone | KeyError::AlgorithmUnknown(_));
            let field = if about_algorithm { &algorithm_field } else { &material_field };
            findings.wrong(field, source.to_string(), "");
            None
        }
        Some(error) => {
            findings.wrong(field, error.to_string(), "");
            None
        }
    }
}

/// The key itself, in one of its forms.
fn material(findings: &mut Findings<'_>, folder: &Folder, form: &str, field: &Field<'_>) -> Option<JwtKeyMaterial> {
    match form {
        "secret" => findings.string(field).map(|text| JwtKeyMaterial::Secret(text.to_owned())),
        "pem" => findings.string(field).map(|text| JwtKeyMaterial::Pem(text.to_owned())),
        "pem_file" => key_file(findings, folder, field).map(JwtKeyMaterial::Pem),
        "jwk" => findings.table(field).map(|_| JwtKeyMaterial::Jwk(field.value.to_json())),
        _ => jwk_file(findings, folder, field).map(JwtKeyMaterial::Jwk),
    }
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
