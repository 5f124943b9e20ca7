use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;

mod attacks;
mod config;

pub(super) const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
pub(super) const NOW: u64 = 1_800_000_000;

/// Signed by OpenSSL and Python's hmac, not by us: see tests/keys.
const TOKENS: &str = include_str!("../../tests/keys/tokens.txt");

macro_rules! key_file {
    ($name:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/keys/", $name))
    };
}
pub(super) use key_file;

pub(super) const RSA: &str = key_file!("rsa-public.pem");
pub(super) const P256: &str = key_file!("ec-p256-public.pem");
pub(super) const P384: &str = key_file!("ec-p384-public.pem");
pub(super) const ED: &str = key_file!("ed25519-public.pem");

const SIGNERS: [(&str, &str, &str); 9] = [
    ("RS256", RSA, key_file!("rsa-private.pem")),
    ("RS384", RSA, key_file!("rsa-private-pkcs1.pem")),
    ("RS512", key_file!("rsa-public-pkcs1.pem"), key_file!("rsa-private.pem")),
    ("PS256", key_file!("rsa-certificate.pem"), key_file!("rsa-private.pem")),
    ("PS384", RSA, key_file!("rsa-private.pem")),
    ("PS512", RSA, key_file!("rsa-private.pem")),
    ("ES256", P256, key_file!("ec-p256-private.pem")),
    ("ES384", P384, key_file!("ec-p384-private.pem")),
    ("EdDSA", ED, key_file!("ed25519-private.pem")),
];

pub(super) fn key(algorithm: &str, material: Material) -> Key {
    Key { kid: None, algorithm: algorithm.to_owned(), material }
}

pub(super) fn pem(algorithm: &str, pem: &str) -> Key {
    key(algorithm, Material::Pem(pem.to_owned()))
}

pub(super) fn secret(algorithm: &str) -> Key {
    key(algorithm, Material::Secret(SECRET.to_owned()))
}

pub(super) fn config(keys: Vec<Key>) -> VerifierConfig {
    let issuers = vec!["https://other.test/".to_owned(), "https://issuer.test/".to_owned()];
    VerifierConfig { issuers, audiences: vec!["api".to_owned()], keys, ..VerifierConfig::default() }
}

pub(super) fn verifier(keys: Vec<Key>) -> Verifier {
    Verifier::new(config(keys)).unwrap()
}

/// Claims that are accepted, with some replaced, or removed by null.
pub(super) fn claims(change: Value) -> Map<String, Value> {
    let mut claims = json!({"iss": "https://issuer.test/", "aud": "api", "sub": "user-1", "exp": NOW + 60});
    for (name, value) in change.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims.as_object().unwrap().clone().into_iter().filter(|(_, value)| !value.is_null()).collect()
}

pub(super) fn signed(algorithm: &str, material: Material, kid: Option<&str>, claims: Map<String, Value>) -> String {
    let (algorithm, kid) = (algorithm.to_owned(), kid.map(str::to_owned));
    sign(&SignRequest { algorithm, material, kid, claims }).unwrap()
}

pub(super) fn hs256(claims: Map<String, Value>) -> String {
    signed("HS256", Material::Secret(SECRET.to_owned()), None, claims)
}

pub(super) fn encode(text: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

#[test]
fn tokens_made_by_another_implementation_are_accepted() {
    for line in TOKENS.lines() {
        let (algorithm, token) = line.split_once(' ').unwrap();
        let public = SIGNERS.iter().find(|signer| signer.0 == algorithm);
        let key = public.map_or_else(|| secret(algorithm), |signer| pem(algorithm, signer.1));
        let claims = verifier(vec![key]).verify(token, NOW).expect(algorithm);
        assert_eq!((claims.subject(), claims.issuer()), (Some("user-1"), Some("https://issuer.test/")));
        assert_eq!(claims.get("iat"), Some(&json!(1_700_000_000)));
    }
    assert_eq!(TOKENS.lines().count(), 12);
}

#[test]
fn what_is_signed_is_accepted_with_every_algorithm_and_no_other_key() {
    for (algorithm, public, private) in SIGNERS {
        let token = signed(algorithm, Material::Pem(private.to_owned()), None, claims(json!({})));
        verifier(vec![pem(algorithm, public)]).verify(&token, NOW).expect(algorithm);
        for (other, public, _) in SIGNERS.into_iter().filter(|other| other.0 != algorithm) {
            assert_eq!(verifier(vec![pem(other, public)]).verify(&token, NOW), Err(Rejection::Algorithm));
        }
    }
    for algorithm in ["HS256", "HS384", "HS512"] {
        let token = signed(algorithm, Material::Secret(SECRET.to_owned()), None, claims(json!({})));
        verifier(vec![secret(algorithm)]).verify(&token, NOW).expect(algorithm);
        let other = key(algorithm, Material::Secret(SECRET.replace('0', "x")));
        assert_eq!(verifier(vec![other]).verify(&token, NOW), Err(Rejection::Signature));
    }
}

#[test]
fn every_time_is_checked_at_its_second() {
    let check = |change: Value, leeway: u64, expect: Result<(), Rejection>| {
        let config = VerifierConfig { leeway: Duration::from_secs(leeway), ..config(vec![secret("HS256")]) };
        let verdict = Verifier::new(config).unwrap().verify(&hs256(claims(change.clone())), NOW);
        assert_eq!(verdict.map(drop), expect, "{change} leeway {leeway}");
    };
    use Rejection::{ClaimMalformed, ClaimMissing, Expired, NotYetValid};
    check(json!({"exp": NOW + 1}), 0, Ok(()));
    check(json!({"exp": NOW}), 0, Err(Expired));
    check(json!({"exp": NOW}), 1, Ok(()));
    check(json!({"exp": NOW - 10}), 10, Err(Expired));
    check(json!({"exp": NOW as f64 + 0.5}), 0, Ok(()));
    check(json!({"exp": NOW as f64 - 0.5}), 0, Err(Expired));
    check(json!({"exp": 0}), 60, Err(Expired));
    check(json!({"exp": -1}), 60, Err(Expired));
    check(json!({"exp": -1e300}), 60, Err(Expired));
    check(json!({"exp": null}), 60, Err(ClaimMissing("exp")));
    for wrong in [
        json!("1900000000"),
        json!([NOW + 60]),
        json!({}),
        json!(true),
        json!(1e300),
        json!(u64::MAX),
        json!(NOW * 1000),
    ] {
        check(json!({"exp": wrong}), 0, Err(ClaimMalformed("exp")));
        check(json!({"nbf": wrong}), 0, Err(ClaimMalformed("nbf")));
        check(json!({"iat": wrong}), 0, Err(ClaimMalformed("iat")));
    }
    for name in ["nbf", "iat"] {
        check(json!({name: NOW}), 0, Ok(()));
        check(json!({name: NOW + 1}), 0, Err(NotYetValid));
        check(json!({name: NOW + 30}), 30, Ok(()));
        check(json!({name: NOW + 31}), 30, Err(NotYetValid));
    }
}

#[test]
fn issuer_audience_and_subject_must_be_right() {
    use Rejection::{Audience, ClaimMalformed, ClaimMissing, Issuer};
    let verifier = verifier(vec![secret("HS256")]);
    let check = |change: Value, expect: Result<(), Rejection>| {
        assert_eq!(verifier.verify(&hs256(claims(change.clone())), NOW).map(drop), expect, "{change}");
    };
    check(json!({"iss": "https://other.test/"}), Ok(()));
    check(json!({"iss": "https://issuer.test"}), Err(Issuer));
    check(json!({"iss": "HTTPS://ISSUER.TEST/"}), Err(Issuer));
    check(json!({"iss": null}), Err(ClaimMissing("iss")));
    check(json!({"iss": ["https://issuer.test/"]}), Err(ClaimMalformed("iss")));
    check(json!({"aud": ["web", "api"]}), Ok(()));
    check(json!({"aud": "web"}), Err(Audience));
    check(json!({"aud": ["web"]}), Err(Audience));
    check(json!({"aud": []}), Err(Audience));
    check(json!({"aud": "api web"}), Err(Audience));
    check(json!({"aud": null}), Err(ClaimMissing("aud")));
    check(json!({"aud": 7}), Err(ClaimMalformed("aud")));
    check(json!({"aud": {"api": true}}), Err(ClaimMalformed("aud")));
    check(json!({"aud": ["api", 7]}), Err(ClaimMalformed("aud")));
    check(json!({"sub": null}), Ok(()));
    check(json!({"sub": 7}), Err(ClaimMalformed("sub")));
}

#[test]
fn keys_are_told_apart_by_kid_and_tried_in_turn_without() {
    let named =
        |kid: &str, text: &str| Key { kid: Some(kid.to_owned()), ..key("HS256", Material::Secret(text.repeat(8))) };
    let (one, two, open) =
        (named("1", "11111111"), named("2", "22222222"), key("HS256", Material::Secret("00000000".repeat(8))));
    let token =
        |text: &str, kid: Option<&str>| signed("HS256", Material::Secret(text.repeat(8)), kid, claims(json!({})));
    let verdict = |keys: &[&Key], token: &str| {
        verifier(keys.iter().map(|&key| key.clone()).collect()).verify(token, NOW).map(drop)
    };
    assert_eq!(verdict(&[&one, &two], &token("22222222", Some("2"))), Ok(()));
    assert_eq!(verdict(&[&one, &two], &token("22222222", None)), Ok(()));
    assert_eq!(verdict(&[&one, &two], &token("22222222", Some("1"))), Err(Rejection::Signature));
    assert_eq!(verdict(&[&one, &two], &token("22222222", Some("3"))), Err(Rejection::KeyUnknown));
    assert_eq!(verdict(&[&one, &open], &token("00000000", Some("3"))), Ok(()), "a key without a name is for any");
    assert_eq!(verdict(&[&one, &two], &token("00000000", None)), Err(Rejection::Signature));
    let rsa = Key { kid: Some("1".to_owned()), ..pem("RS256", RSA) };
    assert_eq!(verdict(&[&one, &rsa], &token("11111111", Some("1"))), Ok(()), "same name, another algorithm");
    assert_eq!(verdict(&[&rsa, &two], &token("11111111", Some("1"))), Err(Rejection::Algorithm));
}

#[test]
fn the_provider_can_be_installed_again_and_again() {
    install_provider();
    install_provider();
    verifier(vec![secret("HS256")]).verify(&hs256(claims(json!({}))), NOW).unwrap();
}

#[test]
fn without_a_key_set_an_attempt_is_always_decided() {
    let verifier = verifier(vec![secret("HS256")]);
    let token = hs256(claims(json!({})));
    assert!(matches!(verifier.attempt(&token, NOW), Attempt::Done(Ok(_))));
    for token in [
        "",
        "a.b.c",
        &hs256(claims(json!({"exp": 1}))),
        &signed("HS256", Material::Secret(SECRET.to_owned()), Some("x"), claims(json!({"iss": "x"}))),
    ] {
        assert_eq!(verifier.attempt(token, NOW), Attempt::Done(verifier.verify(token, NOW)));
    }
}

#[test]
fn every_rejection_has_its_own_name() {
    use Rejection::*;
    let all = [
        TooLarge,
        Malformed,
        Algorithm,
        Critical,
        TokenType,
        KeyUnknown,
        Signature,
        ClaimMissing("exp"),
        ClaimMalformed("exp"),
        Expired,
        NotYetValid,
        Issuer,
        Audience,
        KeysUnavailable,
    ];
    let names: std::collections::HashSet<_> = all.iter().map(Rejection::as_str).collect();
    assert_eq!(names.len(), all.len());
    assert!(all.iter().all(|rejection| rejection.status() == 401 || *rejection == KeysUnavailable));
}
