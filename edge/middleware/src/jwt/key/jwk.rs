//! JSON Web Keys (RFC 7517, 7518 section 6, 8037).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use serde_json::Value;

use super::{KeyError, algorithm, check_public, check_secret};

/// The key in `jwk`, for `wanted`: `kty` and `crv` must fit it, `alg` must be it if there, and `use` and `key_ops` must
/// not speak against verifying.
pub(in crate::jwt) fn from_jwk(wanted: Algorithm, jwk: &Value) -> Result<DecodingKey, KeyError> {
    check_purpose(wanted, jwk)?;
    let (kty, crv) = shape(wanted);
    expect(jwk, "kty", kty)?;
    if let Some(crv) = crv {
        expect(jwk, "crv", crv)?;
    }
    if wanted.family() != AlgorithmFamily::Hmac && jwk.get("d").is_some() {
        return Err(KeyError::Private);
    }
    let key = match wanted.family() {
        AlgorithmFamily::Hmac => {
            let secret = bytes(jwk, "k")?;
            check_secret(wanted, &secret)?;
            return Ok(DecodingKey::from_secret(&secret));
        }
        AlgorithmFamily::Rsa => {
            // The standard forbids leading zeros (RFC 7518, 2), but they do no harm.
            let number = |member| bytes(jwk, member).map(|n| n.into_iter().skip_while(|&b| b == 0).collect::<Vec<_>>());
            DecodingKey::from_rsa_raw_components(&number("n")?, &number("e")?)
        }
        AlgorithmFamily::Ec => {
            let size = if wanted == Algorithm::ES256 { 32 } else { 48 };
            // Uncompressed point: 4, x, y, each coordinate at full length (SEC 1, 2.3.3).
            DecodingKey::from_ec_der(&[&[4], &exact(jwk, "x", size)?[..], &exact(jwk, "y", size)?[..]].concat())
        }
        AlgorithmFamily::Ed => DecodingKey::from_ed_der(&exact(jwk, "x", 32)?),
    };
    check_public(wanted, &key)?;
    Ok(key)
}

/// Those of the configured algorithms that a key of a set is for.
pub(in crate::jwt) fn fitting_algorithms(configured: &[Algorithm], jwk: &Value) -> Vec<Algorithm> {
    let member = |name: &str| jwk.get(name).and_then(Value::as_str);
    let fits = |wanted: &Algorithm| {
        let (kty, crv) = shape(*wanted);
        let own = member("alg").is_none_or(|name| algorithm(name).is_ok_and(|own| own == *wanted));
        member("kty") == Some(kty) && (crv.is_none() || member("crv") == crv) && own
    };
    configured.iter().copied().filter(fits).collect()
}

/// The key's id, if it has one.
pub(in crate::jwt) fn kid_of(jwk: &Value) -> Option<String> {
    jwk.get("kid").and_then(Value::as_str).map(str::to_owned)
}

/// The `kty` and `crv` of the keys of an algorithm.
fn shape(wanted: Algorithm) -> (&'static str, Option<&'static str>) {
    match (wanted.family(), wanted) {
        (AlgorithmFamily::Hmac, _) => ("oct", None),
        (AlgorithmFamily::Rsa, _) => ("RSA", None),
        (AlgorithmFamily::Ec, Algorithm::ES384) => ("EC", Some("P-384")),
        (AlgorithmFamily::Ec, _) => ("EC", Some("P-256")),
        (AlgorithmFamily::Ed, _) => ("OKP", Some("Ed25519")),
    }
}

fn check_purpose(wanted: Algorithm, jwk: &Value) -> Result<(), KeyError> {
    if let Some(name) = jwk.get("alg") {
        let own = name.as_str().and_then(|name| algorithm(name).ok());
        if own != Some(wanted) {
            return Err(wrong("alg", format!("is {name} and not {wanted:?}")));
        }
    }
    if let Some(purpose) = jwk.get("use").filter(|purpose| *purpose != "sig") {
        return Err(wrong("use", format!("is {purpose} and not \"sig\"")));
    }
    if let Some(operations) = jwk.get("key_ops") {
        let verify = |list: &Vec<Value>| list.iter().any(|operation| operation == "verify");
        if !operations.as_array().is_some_and(verify) {
            return Err(wrong("key_ops", "does not have \"verify\"".to_owned()));
        }
    }
    Ok(())
}

fn expect(jwk: &Value, member: &'static str, value: &str) -> Result<(), KeyError> {
    match jwk.get(member) {
        Some(given) if given == value => Ok(()),
        Some(given) => Err(wrong(member, format!("is {given} and not \"{value}\""))),
        None => Err(wrong(member, "is missing".to_owned())),
    }
}

fn bytes(jwk: &Value, member: &'static str) -> Result<Vec<u8>, KeyError> {
    let text =
        jwk.get(member).and_then(Value::as_str).ok_or_else(|| wrong(member, "is missing or no text".to_owned()))?;
    let bytes = URL_SAFE_NO_PAD.decode(text);
    bytes.map_err(|_| wrong(member, "is not base64url without padding".to_owned()))
}

fn exact(jwk: &Value, member: &'static str, size: usize) -> Result<Vec<u8>, KeyError> {
    let bytes = bytes(jwk, member)?;
    if bytes.len() == size {
        Ok(bytes)
    } else {
        Err(wrong(member, format!("has {} bytes and not {size}", bytes.len())))
    }
}

fn wrong(member: &'static str, reason: String) -> KeyError {
    KeyError::Jwk { member, reason: reason.chars().take(120).collect() }
}
