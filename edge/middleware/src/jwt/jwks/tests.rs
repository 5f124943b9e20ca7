use std::cell::Cell;
use std::convert::Infallible;
use std::future::pending;

use serde_json::json;

use super::*;
use crate::jwt::tests::{ED, NOW, P256, RSA, claims, config, key_file, pem, signed};
use crate::jwt::{Attempt, Material, Rejection, Verifier, VerifierConfig};

const URL: &str = "https://issuer.test/jwks.json";

fn verifier(algorithms: &[&str]) -> Verifier {
    let algorithms = algorithms.iter().map(|&name| name.to_owned()).collect();
    let jwks = Some(JwksConfig { url: URL.to_owned(), algorithms });
    Verifier::new(VerifierConfig { jwks, ..config(vec![]) }).unwrap()
}

fn jwk(algorithm: &str, text: &str, kid: &str) -> Value {
    let key = VerifyingKey::configured(pem(algorithm, text)).unwrap();
    let mut jwk = serde_json::to_value(jsonwebtoken::jwk::Jwk::from_decoding_key(&key.key, None).unwrap()).unwrap();
    jwk["kid"] = json!(kid);
    jwk
}

fn token(algorithm: &str, kid: Option<&str>) -> String {
    let private = match algorithm {
        "ES256" => key_file!("ec-p256-private.pem"),
        "EdDSA" => key_file!("ed25519-private.pem"),
        _ => key_file!("rsa-private.pem"),
    };
    signed(algorithm, Material::Pem(private.to_owned()), kid, claims(json!({"exp": NOW + 1_000_000})))
}

fn document(keys: &[Value], max_age: Option<u64>) -> Document<Vec<u8>> {
    let body = serde_json::to_vec(&json!({"keys": keys})).unwrap();
    Document { body, max_age: max_age.map(Duration::from_secs) }
}

/// The refresh that this token needs.
fn need(verifier: &Verifier, token: &str, now: u64) -> Refresh {
    match verifier.attempt(token, now) {
        Attempt::NeedsRefresh(refresh) => refresh,
        done => panic!("decided already: {done:?}"),
    }
}

async fn serve(
    verifier: &Verifier,
    token: &str,
    now: u64,
    document: Document<Vec<u8>>,
) -> Result<Refreshed, JwksError> {
    let refresh = need(verifier, token, now);
    verifier.refresh(refresh, now, async |_: String| Ok::<_, Infallible>(document)).await
}

async fn failing(verifier: &Verifier, token: &str, now: u64) -> Result<Refreshed, JwksError> {
    verifier.refresh(need(verifier, token, now), now, async |_| Err::<Document<Vec<u8>>, _>("down")).await
}

fn accepted(verifier: &Verifier, token: &str, now: u64) -> bool {
    matches!(verifier.attempt(token, now), Attempt::Done(Ok(_)))
}

#[tokio::test]
async fn keys_are_fetched_once_and_then_at_hand() {
    let verifier = verifier(&["RS256", "ES256"]);
    let token = token("RS256", Some("r"));
    assert_eq!(verifier.verify(&token, NOW), Err(Rejection::KeysUnavailable));
    let keys = [jwk("RS256", RSA, "r"), jwk("ES256", P256, "e")];
    let refresh = need(&verifier, &token, NOW);
    let fetched = verifier
        .refresh(refresh, NOW, async |url| {
            assert_eq!(url, URL);
            Ok::<_, Infallible>(document(&keys, None))
        })
        .await;
    assert_eq!(fetched, Ok(Refreshed::Fetched { keys: 2, skipped: vec![] }));
    assert!(accepted(&verifier, &token, NOW) && accepted(&verifier, &super::tests::token("ES256", Some("e")), NOW));
    assert!(accepted(&verifier, &super::tests::token("ES256", None), NOW), "tried in turn");
}

#[tokio::test]
async fn a_token_with_an_algorithm_not_configured_never_causes_a_fetch() {
    let verifier = verifier(&["ES256"]);
    for algorithm in ["RS256", "PS256", "EdDSA"] {
        assert_eq!(verifier.attempt(&token(algorithm, Some("x")), NOW), Attempt::Done(Err(Rejection::Algorithm)));
    }
    serve(&verifier, &token("ES256", Some("r")), NOW, document(&[jwk("ES256", P256, "e")], None)).await.unwrap();
    let hmac = signed("HS256", Material::Secret(crate::jwt::tests::SECRET.to_owned()), Some("e"), claims(json!({})));
    assert_eq!(verifier.attempt(&hmac, NOW), Attempt::Done(Err(Rejection::Algorithm)));
}

#[tokio::test]
async fn bad_keys_are_skipped_and_do_not_spoil_the_good_one() {
    let verifier = verifier(&["RS256"]);
    let mut encryption = jwk("RS256", RSA, "r");
    encryption["use"] = json!("enc");
    let mut private = jwk("RS256", RSA, "r");
    private["d"] = json!("AAAA");
    let mut other = jwk("RS256", RSA, "r");
    other["alg"] = json!("RS512");
    let secret = json!({"kty": "oct", "kid": "r", "k": "A".repeat(60)});
    let odd = [json!(7), json!(null), json!({}), json!({"kty": "AKP"}), json!({"kty": "RSA", "n": 7})];
    let keys =
        [&odd[..], &[secret, encryption, private, other, jwk("ES256", P256, "r"), jwk("RS256", RSA, "r")]].concat();
    let fetched = serve(&verifier, &token("RS256", Some("r")), NOW, document(&keys, None)).await.unwrap();
    let Refreshed::Fetched { keys: 1, skipped } = fetched else { panic!("{fetched:?}") };
    assert_eq!(skipped.len(), MAX_REASONS);
    assert!(skipped[5].contains("key 6: symmetric") && skipped[6].contains("`use` is \"enc\""), "{skipped:?}");
    assert!(accepted(&verifier, &token("RS256", Some("r")), NOW));
}

#[tokio::test]
async fn an_rsa_key_without_alg_serves_every_configured_rsa_algorithm_and_no_other() {
    let verifier = verifier(&["RS256", "PS512"]);
    serve(&verifier, &token("RS256", None), NOW, document(&[jwk("RS256", RSA, "r")], None)).await.unwrap();
    assert!(
        accepted(&verifier, &token("RS256", Some("r")), NOW) && accepted(&verifier, &token("PS512", Some("r")), NOW)
    );
    assert_eq!(verifier.verify(&token("RS384", Some("r")), NOW), Err(Rejection::Algorithm));
}

#[tokio::test]
async fn a_set_is_fresh_for_its_max_age_within_bounds() {
    for (max_age, fresh) in [(None, 300), (Some(60), 60), (Some(0), 10), (Some(1 << 40), 3_600)] {
        let verifier = verifier(&["EdDSA"]);
        let token = token("EdDSA", Some("k"));
        serve(&verifier, &token, NOW, document(&[jwk("EdDSA", ED, "k")], max_age)).await.unwrap();
        assert!(accepted(&verifier, &token, NOW + fresh), "{max_age:?}");
        assert_eq!(need(&verifier, &token, NOW + fresh + 1).need, Need::Freshness);
    }
}

#[tokio::test]
async fn the_last_good_set_serves_while_fetching_fails_but_not_for_ever() {
    let verifier = verifier(&["EdDSA"]);
    let token = token("EdDSA", Some("k"));
    serve(&verifier, &token, NOW, document(&[jwk("EdDSA", ED, "k")], Some(60))).await.unwrap();
    for late in [61, 100, 3_600, 60 + MAX_STALE] {
        let error = failing(&verifier, &token, NOW + late).await.unwrap_err();
        assert_eq!(error.to_string(), format!("key set {URL}: down"));
        assert!(verifier.verify(&token, NOW + late).is_ok());
    }
    assert_eq!(verifier.verify(&token, NOW + 61 + MAX_STALE), Err(Rejection::KeysUnavailable));
}

#[tokio::test]
async fn an_unknown_key_id_causes_a_fetch_but_not_one_for_each_request() {
    let verifier = verifier(&["ES256", "EdDSA"]);
    serve(&verifier, &token("ES256", Some("old")), NOW, document(&[jwk("ES256", P256, "old")], None)).await.unwrap();
    let rotated = token("EdDSA", Some("new"));
    let both = document(&[jwk("ES256", P256, "old"), jwk("EdDSA", ED, "new")], None);
    assert_eq!(serve(&verifier, &rotated, NOW + 5, both.clone()).await, Ok(Refreshed::Throttled));
    assert_eq!(verifier.verify(&rotated, NOW + 5), Err(Rejection::KeyUnknown));
    assert!(matches!(serve(&verifier, &rotated, NOW + 10, both).await, Ok(Refreshed::Fetched { keys: 2, .. })));
    assert!(accepted(&verifier, &rotated, NOW + 10));
    let forged = rotated.replace(rotated.rsplit_once('.').unwrap().1, "AAAA");
    assert_eq!(verifier.attempt(&forged, NOW + 30), Attempt::Done(Err(Rejection::Signature)), "its key is there");
}

#[tokio::test]
async fn a_clock_that_is_set_back_neither_blocks_a_refresh_nor_keeps_a_set_fresh() {
    const YEAR: u64 = 365 * 24 * 3_600;
    let verifier = verifier(&["ES256"]);
    let known = token("ES256", Some("k"));
    let keys = || document(&[jwk("ES256", P256, "k")], Some(3_600));
    serve(&verifier, &known, NOW, keys()).await.unwrap();
    let (future, back) = (NOW + 500_000, NOW + 60);
    serve(&verifier, &known, future, keys()).await.unwrap();
    assert!(accepted(&verifier, &known, future - 9), "threads read the clock a moment apart");
    assert_eq!(need(&verifier, &known, back).need, Need::Freshness);
    assert!(verifier.verify(&known, back).is_ok());
    assert!(matches!(serve(&verifier, &known, back, keys()).await, Ok(Refreshed::Fetched { .. })));
    assert!(accepted(&verifier, &known, back));
    let rotated = token("ES256", Some("new"));
    assert_eq!(serve(&verifier, &rotated, back + 9, keys()).await, Ok(Refreshed::Throttled));
    assert!(matches!(serve(&verifier, &rotated, back - YEAR, keys()).await, Ok(Refreshed::Fetched { .. })));
}

#[tokio::test]
async fn a_withdrawn_key_is_gone_and_a_broken_set_is_not_believed() {
    let verifier = verifier(&["ES256"]);
    let known = token("ES256", Some("k"));
    serve(&verifier, &known, NOW, document(&[jwk("ES256", P256, "k")], Some(10))).await.unwrap();
    let broken = serve(&verifier, &known, NOW + 20, document(&[json!({"kty": "EC"})], Some(10))).await.unwrap_err();
    assert!(broken.to_string().contains("no key that can be used: key 1"), "{broken}");
    assert!(verifier.verify(&known, NOW + 20).is_ok());
    assert_eq!(
        serve(&verifier, &known, NOW + 40, document(&[], Some(10))).await,
        Ok(Refreshed::Fetched { keys: 0, skipped: vec![] })
    );
    assert_eq!(verifier.verify(&known, NOW + 40), Err(Rejection::KeyUnknown));
}

#[tokio::test]
async fn bodies_that_are_no_set_are_errors() {
    let verifier = verifier(&["ES256"]);
    let token = token("ES256", None);
    let bodies = ["", "null", "[]", "{}", "{\"keys\":{}}", "<html>", &"[".repeat(10_000), "{\"keys\":[]} x"];
    for (n, body) in bodies.into_iter().enumerate() {
        let document = Document { body: body.as_bytes().to_vec(), max_age: None };
        let error = serve(&verifier, &token, NOW + 10 * n as u64, document).await.unwrap_err();
        assert!(matches!(error, JwksError::Malformed { .. }), "{body}");
    }
    let huge = Document { body: vec![b' '; MAX_JWKS_BYTES + 1], max_age: None };
    assert!(matches!(serve(&verifier, &token, NOW + 1_000, huge).await, Err(JwksError::TooLarge { .. })));
    let many = document(&vec![jwk("ES256", P256, "k"); MAX_SET_KEYS + 10], None);
    assert_eq!(
        serve(&verifier, &token, NOW + 2_000, many).await,
        Ok(Refreshed::Fetched { keys: MAX_SET_KEYS, skipped: vec![] })
    );
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_never_ends_is_given_up() {
    let verifier = verifier(&["ES256"]);
    let refresh = need(&verifier, &token("ES256", None), NOW);
    let error =
        verifier.refresh(refresh, NOW, async |_| pending::<Result<Document<Vec<u8>>, Infallible>>().await).await;
    assert_eq!(error.unwrap_err().to_string(), format!("key set {URL}: no answer within 5s"));
}

#[tokio::test]
async fn all_who_wait_for_the_first_set_share_one_fetch() {
    let verifier = verifier(&["ES256"]);
    let token = token("ES256", Some("k"));
    let fetches = Cell::new(0);
    let (open, gate) = tokio::sync::oneshot::channel::<()>();
    let gate = Cell::new(Some(gate));
    let refresh = need(&verifier, &token, NOW);
    let one = || {
        verifier.refresh(refresh, NOW, async |_| {
            fetches.set(fetches.get() + 1);
            gate.take().unwrap().await.unwrap();
            Ok::<_, Infallible>(document(&[jwk("ES256", P256, "k")], None))
        })
    };
    let opener = async { open.send(()).unwrap() };
    let (a, b, c, ()) = tokio::join!(one(), one(), one(), opener);
    assert!(matches!(a, Ok(Refreshed::Fetched { keys: 1, .. })));
    assert_eq!((b, c, fetches.get()), (Ok(Refreshed::NotNeeded), Ok(Refreshed::NotNeeded), 1));
    assert!(accepted(&verifier, &token, NOW));
}

#[tokio::test]
async fn an_expired_set_is_used_by_others_while_one_fetches() {
    let verifier = verifier(&["ES256"]);
    let token = token("ES256", Some("k"));
    serve(&verifier, &token, NOW, document(&[jwk("ES256", P256, "k")], Some(10))).await.unwrap();
    let (now, refresh) = (NOW + 20, need(&verifier, &token, NOW + 20));
    let slow = verifier.refresh(refresh, now, async |_| pending::<Result<Document<Vec<u8>>, Infallible>>().await);
    let mut slow = std::pin::pin!(slow);
    assert!(futures_poll(&mut slow).await.is_none());
    let other = verifier.refresh(refresh, now, async |_| Err::<Document<Vec<u8>>, _>("must not be called")).await;
    assert_eq!(other, Ok(Refreshed::NotNeeded));
    assert!(verifier.verify(&token, now).is_ok());
}

/// Polls once.
async fn futures_poll<F: Future>(future: &mut std::pin::Pin<&mut F>) -> Option<F::Output> {
    std::future::poll_fn(|context| {
        std::task::Poll::Ready(match future.as_mut().poll(context) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        })
    })
    .await
}

#[tokio::test]
async fn configured_keys_need_no_set() {
    let jwks = Some(JwksConfig { url: URL.to_owned(), algorithms: vec!["ES256".to_owned(), "RS256".to_owned()] });
    let verifier = Verifier::new(VerifierConfig { jwks, ..config(vec![pem("RS256", RSA)]) }).unwrap();
    assert!(accepted(&verifier, &token("RS256", Some("any")), NOW));
    assert_eq!(need(&verifier, &token("ES256", None), NOW).need, Need::Keys);
}

#[test]
fn addresses_and_algorithms_of_sets_are_checked() {
    let error = |url: &str, algorithms: &[&str]| {
        let algorithms = algorithms.iter().map(|&name| name.to_owned()).collect();
        let jwks = Some(JwksConfig { url: url.to_owned(), algorithms });
        Verifier::new(VerifierConfig { jwks, ..config(vec![]) })
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default()
    };
    for fine in [URL, "http://127.0.0.1:80/x", "http://[::1]/", "http://localhost:8090/jwks"] {
        assert_eq!(error(fine, &["RS256"]), "");
    }
    assert!(error("http://issuer.test/", &["RS256"]).contains("in the clear"));
    assert!(error("http://localhost.evil.test/", &["RS256"]).contains("in the clear"));
    assert!(error("file:///etc/passwd", &["RS256"]).contains("`file` is no way"));
    assert!(error("https://user:pw@issuer.test/", &["RS256"]).contains("credentials"));
    assert!(error("nonsense", &["RS256"]).contains("jwks_url `nonsense`"));
    assert!(error(URL, &[]).contains("name those"));
    assert!(error(URL, &["RS256", "HS256"]).contains("HS256 would need a published secret"));
    assert!(error(URL, &["none"]).contains("`none` accepts"));
    assert!(error(URL, &["RS255"]).contains("unknown algorithm"));
}
