//! Configurations that must not be accepted, and what they are told.

use super::*;

fn error(key: Key) -> String {
    Verifier::new(config(vec![key])).unwrap_err().to_string()
}

fn check(key: Key, expect: &str) {
    let message = error(key.clone());
    assert!(message.contains(expect), "{key:?}: {message}");
    assert!(message.starts_with("jwt key 1"), "{message}");
}

fn jwk(algorithm: &str, jwk: Value) -> Key {
    key(algorithm, Material::Jwk(jwk))
}

/// The key in this PEM as JWK, by way of jsonwebtoken.
fn as_jwk(algorithm: &str, pem: &str) -> Value {
    let key = VerifyingKey::configured(super::pem(algorithm, pem)).unwrap();
    serde_json::to_value(jsonwebtoken::jwk::Jwk::from_decoding_key(&key.key, None).unwrap()).unwrap()
}

fn with(mut jwk: Value, member: &str, value: Value) -> Value {
    jwk[member] = value;
    jwk
}

#[test]
fn algorithms_that_do_not_exist_are_named() {
    for none in ["none", "None", "NONE"] {
        check(secret(none), "`none` accepts every token");
    }
    check(secret("HS257"), "unknown algorithm `HS257`: use one of HS256");
    check(secret("hs256"), "unknown algorithm `hs256`");
    check(secret("ES512"), "unknown algorithm `ES512`");
    check(secret(""), "unknown algorithm ``");
}

#[test]
fn weak_and_public_secrets_are_refused() {
    let with = |algorithm: &str, text: &str| key(algorithm, Material::Secret(text.to_owned()));
    check(with("HS256", "secret"), "has 6 bytes: it needs at least 32");
    check(with("HS256", ""), "has 0 bytes");
    check(with("HS384", &SECRET[..47]), "has 47 bytes: it needs at least 48");
    check(with("HS512", &SECRET[..63]), "has 63 bytes: it needs at least 64");
    assert!(Verifier::new(config(vec![with("HS256", &SECRET[..32])])).is_ok());
    for public in [RSA, P256, ED, RSA.trim_start_matches('-'), key_file!("rsa-certificate.pem")] {
        let public = if public.starts_with('-') { public.to_owned() } else { format!("\n -----{public}") };
        check(with("HS256", &public), "looks like a public key");
        check(jwk("HS256", json!({"kty": "oct", "k": encode(&public)})), "looks like a public key");
    }
    check(with("HS256", &as_jwk("RS256", RSA).to_string()), "looks like a public key");
    check(with("HS512", &format!("ssh-rsa {SECRET}")), "looks like a public key");
}

#[test]
fn a_key_must_be_of_its_algorithms_kind() {
    check(pem("HS256", RSA), "HS256 needs a secret, not PEM");
    for algorithm in ["RS256", "PS512", "ES256", "EdDSA"] {
        check(secret(algorithm), "needs a public key, not a secret");
    }
    check(pem("RS256", P256), "no key for RS256 in this PEM: it needs an RSA public key");
    check(pem("ES256", RSA), "no key for ES256 in this PEM: it needs an elliptic curve public key");
    check(pem("EdDSA", P256), "it needs an Ed25519 public key");
    check(pem("ES256", P384), "no valid public key for ES256");
    check(pem("ES384", P256), "no valid public key for ES384");
    check(pem("ES256", key_file!("ec-secp256k1-public.pem")), "no valid public key for ES256");
    check(pem("RS256", key_file!("rsa-1024-public.pem")), "has 1024 bits: use 2048 to 8192");
}

#[test]
fn private_keys_are_sent_back() {
    check(pem("RS256", key_file!("rsa-private.pem")), "this is a private key");
    check(pem("RS256", key_file!("rsa-private-pkcs1.pem")), "this is a private key");
    check(pem("ES256", key_file!("ec-p256-private-sec1.pem")), "this is a private key");
    check(jwk("ES256", with(as_jwk("ES256", P256), "d", json!("AA"))), "this is a private key");
}

#[test]
fn damaged_pem_is_an_error() {
    for text in [
        "",
        "x",
        "-----BEGIN PUBLIC KEY-----",
        &RSA[..RSA.len() / 2],
        &RSA.replace('A', "*"),
        &RSA.replace("PUBLIC", "PUBIC"),
    ] {
        check(pem("RS256", text), "no key for RS256 in this PEM");
    }
    let mut lines: Vec<&str> = RSA.lines().collect();
    lines.remove(3);
    assert!(Verifier::new(config(vec![pem("RS256", &lines.join("\n"))])).is_err());
}

#[test]
fn a_jwk_is_checked_member_by_member() {
    let (rsa, p256, p384, ed) =
        (as_jwk("RS256", RSA), as_jwk("ES256", P256), as_jwk("ES384", P384), as_jwk("EdDSA", ED));
    check(jwk("RS256", p256.clone()), "`kty` is \"EC\" and not \"RSA\"");
    check(jwk("HS256", rsa.clone()), "`kty` is \"RSA\" and not \"oct\"");
    check(jwk("RS256", json!({"kty": "oct", "k": encode(SECRET)})), "`kty` is \"oct\" and not \"RSA\"");
    check(jwk("ES256", p384), "`crv` is \"P-384\" and not \"P-256\"");
    check(jwk("EdDSA", with(ed.clone(), "crv", json!("X25519"))), "`crv` is \"X25519\"");
    check(jwk("EdDSA", with(ed, "x", json!("AAAA"))), "`x` has 3 bytes and not 32");
    check(jwk("ES256", with(p256.clone(), "x", json!(encode([7; 32])))), "no valid public key for ES256");
    check(jwk("ES256", with(p256.clone(), "y", json!("=?"))), "`y` is not base64url");
    check(jwk("ES256", with(p256, "x", json!(7))), "`x` is missing or no text");
    check(jwk("RS256", with(rsa.clone(), "n", json!(encode([0xff; 100])))), "has 800 bits");
    check(jwk("RS256", with(rsa.clone(), "e", json!(""))), "no valid public key for RS256");
    check(jwk("RS256", with(rsa.clone(), "alg", json!("RS512"))), "`alg` is \"RS512\" and not RS256");
    check(jwk("RS256", with(rsa.clone(), "use", json!("enc"))), "`use` is \"enc\"");
    check(jwk("RS256", with(rsa, "key_ops", json!(["encrypt"]))), "`key_ops` does not have \"verify\"");
    for odd in [json!(null), json!([]), json!("x"), json!({}), json!({"kty": 7})] {
        check(jwk("RS256", odd), "`kty`");
    }
}

#[test]
fn a_jwk_verifies_what_its_pem_does() {
    for (algorithm, public, private) in SIGNERS {
        let token = signed(algorithm, Material::Pem(private.to_owned()), Some("k"), claims(json!({})));
        let key = with(with(as_jwk(algorithm, public), "kid", json!("k")), "use", json!("sig"));
        verifier(vec![jwk(algorithm, key.clone())]).verify(&token, NOW).expect(algorithm);
        let renamed = Key { kid: Some("other".to_owned()), ..jwk(algorithm, key) };
        assert_eq!(verifier(vec![renamed]).verify(&token, NOW), Err(Rejection::KeyUnknown));
    }
    let oct = json!({"kty": "oct", "k": encode(SECRET), "alg": "HS256"});
    let token = signed("HS256", Material::Jwk(oct.clone()), None, claims(json!({})));
    verifier(vec![jwk("HS256", oct), secret("HS512")]).verify(&token, NOW).unwrap();
    let zeros = json!({"kty": "RSA", "e": "AAEAAQ", "n": as_jwk("RS256", RSA)["n"]});
    assert!(Verifier::new(config(vec![jwk("RS256", zeros)])).is_ok());
    let ed = with(as_jwk("EdDSA", ED), "alg", json!("Ed25519"));
    assert!(Verifier::new(config(vec![jwk("EdDSA", ed.clone()), jwk("Ed25519", ed)])).is_ok());
}

#[test]
fn a_verifier_needs_parties_keys_and_a_sane_leeway() {
    let message = |change: fn(&mut VerifierConfig)| {
        let mut config = config(vec![secret("HS256")]);
        change(&mut config);
        Verifier::new(config).unwrap_err().to_string()
    };
    assert!(message(|c| c.issuers.clear()).contains("jwt issuers: name 1 to 32"));
    assert!(message(|c| c.audiences.clear()).contains("jwt audiences"));
    assert!(message(|c| c.audiences.push(String::new())).contains("jwt audiences"));
    assert!(message(|c| c.issuers = vec!["x".to_owned(); 33]).contains("jwt issuers"));
    assert!(message(|c| c.keys.clear()).contains("give 1 to 32 keys, or a jwks_url"));
    assert!(message(|c| c.keys = vec![secret("HS256"); 33]).contains("1 to 32 keys"));
    assert!(message(|c| c.leeway = Duration::from_secs(601)).contains("over the 600s allowed"));
}

#[test]
fn two_keys_of_one_name_and_algorithm_are_refused() {
    let named = |algorithm: &str| Key { kid: Some("k".to_owned()), ..secret(algorithm) };
    let error = Verifier::new(config(vec![named("HS256"), named("HS512"), named("HS256")])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "jwt key 3: key 1 already has kid `k` with the same algorithm: give each key its own kid"
    );
    assert!(Verifier::new(config(vec![named("HS256"), named("HS512"), secret("HS256"), secret("HS256")])).is_ok());
}

#[test]
fn no_debug_output_shows_a_key() {
    let key = secret("HS256");
    assert!(!format!("{key:?}").contains(SECRET));
    assert!(!format!("{:?}", verifier(vec![key])).contains(SECRET));
}

#[test]
fn signing_says_which_key_it_needs() {
    let error = |algorithm: &str, material: Material| {
        sign(&SignRequest { algorithm: algorithm.to_owned(), material, kid: None, claims: claims(json!({})) })
            .unwrap_err()
            .to_string()
    };
    let pem = |text: &str| Material::Pem(text.to_owned());
    assert!(error("none", pem("")).contains("`none` accepts every token"));
    assert!(error("HS256", Material::Secret("short".to_owned())).contains("has 5 bytes"));
    assert!(error("HS256", pem(RSA)).contains("HS256 signs with a secret, not with PEM"));
    assert!(
        error("RS256", Material::Secret(SECRET.to_owned())).contains("RS256 signs with an unencrypted RSA private key")
    );
    assert!(error("RS256", Material::Jwk(json!({}))).contains("not with a JWK"));
    assert!(error("RS256", pem(RSA)).contains("no private key for RS256"));
    assert!(error("RS256", pem(key_file!("ec-p256-private.pem"))).contains("no private key for RS256"));
    assert!(error("ES256", pem(key_file!("ec-p384-private.pem"))).contains("needs a P-256 private key"));
    assert!(error("ES256", pem(key_file!("ec-p256-private-sec1.pem"))).contains("openssl pkcs8 -topk8"));
    assert!(error("EdDSA", pem("")).contains("Ed25519 private key"));
}
