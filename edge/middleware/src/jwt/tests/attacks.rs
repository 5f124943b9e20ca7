//! What attackers send. None of it may be accepted, and none may panic.

use super::*;

/// A token with this header and these claims, and this signature.
fn raw(header: &str, payload: &str, signature: &str) -> String {
    format!("{}.{}.{signature}", encode(header), encode(payload))
}

/// As a client would sign it that knows the secret, whatever the header says.
fn hmac_signed(header: &str, payload: &str, secret: &[u8]) -> String {
    let message = format!("{}.{}", encode(header), encode(payload));
    install_provider();
    let key = jsonwebtoken::EncodingKey::from_secret(secret);
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
    format!("{message}.{signature}")
}

fn good_claims() -> String {
    Value::from(claims(json!({}))).to_string()
}

fn everything() -> Verifier {
    verifier(vec![secret("HS256"), pem("RS256", RSA), pem("ES256", P256), pem("EdDSA", ED)])
}

fn refused(token: &str, expect: Rejection) {
    assert_eq!(everything().verify(token, NOW), Err(expect), "{token}");
}

#[test]
fn an_unsigned_token_is_refused_however_it_is_spelt() {
    for alg in ["none", "None", "NONE", "nOnE", "", " none", "HS256 ", "hs256", "RS1", "HS256\\u0000", "dir"] {
        let header = format!(r#"{{"alg":"{alg}","typ":"JWT"}}"#);
        refused(&raw(&header, &good_claims(), ""), Rejection::Algorithm);
        refused(&hmac_signed(&header, &good_claims(), SECRET.as_bytes()), Rejection::Algorithm);
    }
    for header in ["{}", r#"{"alg":null}"#, r#"{"alg":["HS256"]}"#, r#"{"alg":0}"#, r#"{"Alg":"HS256"}"#] {
        refused(&raw(header, &good_claims(), ""), Rejection::Malformed);
    }
}

#[test]
fn a_public_key_used_as_hmac_secret_does_not_verify() {
    let header = r#"{"alg":"HS256","typ":"JWT"}"#;
    for public in [RSA, RSA.trim(), P256, ED, key_file!("rsa-public-pkcs1.pem"), key_file!("rsa-certificate.pem")] {
        let forged = hmac_signed(header, &good_claims(), public.as_bytes());
        assert_eq!(verifier(vec![pem("RS256", RSA)]).verify(&forged, NOW), Err(Rejection::Algorithm));
        refused(&forged, Rejection::Signature);
    }
}

#[test]
fn a_change_in_any_part_is_found() {
    let token = hs256(claims(json!({})));
    let parts: Vec<&str> = token.split('.').collect();
    let other = claims(json!({"sub": "root"}));
    refused(&format!("{}.{}.{}", parts[0], encode(Value::from(other).to_string()), parts[2]), Rejection::Signature);
    refused(&format!("{}.{}.{}", encode(r#"{"alg":"HS256"}"#), parts[1], parts[2]), Rejection::Signature);
    refused(&format!("{}.{}.{}", parts[0], parts[1], encode([7; 32])), Rejection::Signature);
    for signature in ["", "AA", &parts[2][1..], &format!("{}A", parts[2]), &format!("{}=", parts[2]), "!!!!", "ä"] {
        refused(&format!("{}.{}.{signature}", parts[0], parts[1]), Rejection::Signature);
    }
    for (at, part) in parts.iter().enumerate() {
        for position in 0..part.len() {
            let mut changed: Vec<String> = parts.iter().map(|&part| part.to_owned()).collect();
            let replacement = if part.as_bytes()[position] == b'A' { "B" } else { "A" };
            changed[at].replace_range(position..=position, replacement);
            assert!(everything().verify(&changed.join("."), NOW).is_err(), "part {at} position {position}");
        }
    }
}

#[test]
fn an_empty_or_zero_signature_is_never_valid() {
    for alg in ["HS256", "RS256", "ES256", "EdDSA"] {
        for signature in ["".to_owned(), encode([0; 32]), encode([0; 64]), encode([0; 256])] {
            refused(&raw(&format!(r#"{{"alg":"{alg}"}}"#), &good_claims(), &signature), Rejection::Signature);
        }
    }
}

#[test]
fn what_is_no_token_is_malformed() {
    let token = hs256(claims(json!({})));
    let parts: Vec<&str> = token.split('.').collect();
    let mut bad: Vec<String> = ["", ".", "..", "...", "a", "a.b", "a.b.c", "....."].map(str::to_owned).into();
    bad.extend([
        token[1..].to_owned(),
        format!(" {token}"),
        format!("{token}.x"),
        format!("x.{token}"),
        token.replace('.', ""),
    ]);
    bad.extend([
        format!("{}=.{}.{}", parts[0], parts[1], parts[2]),
        format!("{}\n.{}.{}", parts[0], parts[1], parts[2]),
    ]);
    for header in ["", "null", "[]", "\"x\"", "{", "{}{}", r#"{"alg":"HS256"} x"#, "{\"alg\":\"HS256\",}", "\u{feff}{}"]
    {
        bad.push(raw(header, &good_claims(), "AA"));
    }
    bad.push(raw(&format!(r#"{{"alg":"HS256","x":{}1{}}}"#, "[".repeat(500), "]".repeat(500)), "{}", ""));
    bad.push(format!("{}.{}.AA", encode([0xff, 0xfe]), parts[1]));
    bad.push(raw(r#"{"alg":"HS256","kid":7}"#, &good_claims(), ""));
    bad.push(raw(r#"{"alg":"HS256","typ":7}"#, &good_claims(), ""));
    for token in bad {
        refused(&token, Rejection::Malformed);
    }
}

#[test]
fn a_signed_payload_that_is_no_object_of_claims_is_malformed() {
    for payload in
        ["", "[]", "null", "7", "{", &format!("{} x", good_claims()), r#"{"exp":1,"exp":2}"#, r#"{"exp":1e999}"#]
    {
        refused(&hmac_signed(r#"{"alg":"HS256"}"#, payload, SECRET.as_bytes()), Rejection::Malformed);
    }
}

#[test]
fn a_name_that_is_there_twice_is_refused() {
    let sneaky = good_claims().replacen('{', r#"{"iss":"https://evil.test/","#, 1);
    refused(&hmac_signed(r#"{"alg":"HS256"}"#, &sneaky, SECRET.as_bytes()), Rejection::Malformed);
    refused(&hmac_signed(r#"{"alg":"none","alg":"HS256"}"#, &good_claims(), SECRET.as_bytes()), Rejection::Malformed);
    refused(
        &hmac_signed(r#"{"alg":"HS256","\u0061lg":"none"}"#, &good_claims(), SECRET.as_bytes()),
        Rejection::Malformed,
    );
}

#[test]
fn a_token_over_the_bound_is_not_even_parsed() {
    let token = hs256(claims(json!({"filler": "x".repeat(MAX_TOKEN_BYTES)})));
    refused(&token, Rejection::TooLarge);
    refused(&"a".repeat(MAX_TOKEN_BYTES + 1), Rejection::TooLarge);
    refused(&"a".repeat(MAX_TOKEN_BYTES), Rejection::Malformed);
    let largest = hs256(claims(json!({"filler": "x".repeat(5_900)})));
    assert!(largest.len() <= MAX_TOKEN_BYTES && everything().verify(&largest, NOW).is_ok());
}

#[test]
fn keys_that_the_token_brings_along_are_ignored() {
    let jwk = json!({"kty": "oct", "k": encode("a".repeat(32))});
    let rsa = json!({"kty": "RSA", "n": encode([0xC1; 256]), "e": "AQAB"});
    for (name, value) in
        [("jwk", jwk), ("jwk", rsa), ("jku", json!("https://evil.test/")), ("x5c", json!(["MII"])), ("x5u", json!("x"))]
    {
        let mut header = json!({"alg": "HS256"});
        header[name] = value;
        let forged = hmac_signed(&header.to_string(), &good_claims(), "a".repeat(32).as_bytes());
        refused(&forged, Rejection::Signature);
        let honest = hmac_signed(&header.to_string(), &good_claims(), SECRET.as_bytes());
        assert!(everything().verify(&honest, NOW).is_ok());
    }
}

#[test]
fn extensions_that_must_be_understood_are_refused() {
    for crit in [r#"["b64"]"#, r#"["exp"]"#, "[]", "null", "\"x\""] {
        let header = format!(r#"{{"alg":"HS256","b64":false,"crit":{crit}}}"#);
        refused(&hmac_signed(&header, &good_claims(), SECRET.as_bytes()), Rejection::Critical);
    }
}

#[test]
fn a_token_for_another_purpose_is_refused() {
    let with = |member: &str| hmac_signed(&format!(r#"{{"alg":"HS256",{member}}}"#), &good_claims(), SECRET.as_bytes());
    for bad in [r#""typ":"logout+jwt""#, r#""typ":"application/dpop+JWT""#, r#""cty":"JWT""#, r#""typ":"secevent+jwt""#]
    {
        refused(&with(bad), Rejection::TokenType);
    }
    for fine in
        [r#""typ":"JWT""#, r#""typ":"at+jwt""#, r#""typ":"application/at+JWT""#, r#""typ":"jwt""#, r#""typ":"""#]
    {
        assert!(everything().verify(&with(fine), NOW).is_ok(), "{fine}");
    }
}

#[test]
fn a_signature_of_another_key_of_the_same_kind_is_refused() {
    let rsa = signed("RS256", Material::Pem(key_file!("rsa-private.pem").to_owned()), None, claims(json!({})));
    let ps = signed("PS256", Material::Pem(key_file!("rsa-private.pem").to_owned()), None, claims(json!({})));
    // The header of one with the signature of the other.
    let (signed_part, _) = rsa.rsplit_once('.').unwrap();
    let (_, signature) = ps.rsplit_once('.').unwrap();
    refused(&format!("{signed_part}.{signature}"), Rejection::Signature);
    refused(&ps, Rejection::Algorithm);
}

proptest! {
    #[test]
    fn nothing_random_is_accepted(token in "[ -~]{0,300}") {
        prop_assert!(everything().verify(&token, NOW).is_err());
    }

    #[test]
    fn nothing_random_in_the_right_form_is_accepted(
        alg in prop::sample::select(vec!["HS256", "RS256", "ES256", "EdDSA", "none", "PS256", "XX"]),
        payload in prop::collection::vec(any::<u8>(), 0..200),
        signature in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let token = format!("{}.{}.{}", encode(format!(r#"{{"alg":"{alg}"}}"#)), encode(payload), encode(signature));
        prop_assert!(everything().verify(&token, NOW).is_err());
    }

    #[test]
    fn signed_claims_of_any_shape_are_decided(exp in any::<f64>(), nbf in any::<i64>(), sub in ".{0,20}", aud in prop::collection::vec(".{0,5}", 0..4)) {
        let token = hs256(claims(json!({"exp": exp, "nbf": nbf, "sub": sub, "aud": aud})));
        let accepted = everything().verify(&token, NOW).is_ok();
        prop_assert_eq!(accepted, (NOW as f64) < exp && exp <= 253_402_300_799.0 && nbf <= NOW as i64 && aud.iter().any(|a| a == "api"));
    }
}
