use std::path::Path;
use std::process::Command;

use http::Response;
use tests::fleet::function;
use tests::stub::Stub;
use tests::{Fleet, Options, Reply, get};

const HANDLER: &str = "export default { async fetch(request, env) {
  const token = await env.AUTH.verify(request);
  if (!token.ok) return token.response;
  const toOrigin = new Request(request);
  toOrigin.headers.set('x-subject', token.subject);
  return fetch(toOrigin);
} }";

async fn with_token(fleet: &Fleet, path: &str, token: &str) -> Reply {
    get(fleet.pop("lhr"), path, &[("authorization", &format!("Bearer {token}"))]).await
}

fn sign(fleet: &Fleet, more: &[&str]) -> String {
    let example = tests::fleet::examples().join("auth");
    let example = example.to_string_lossy();
    let mut arguments = vec!["jwt", "sign"];
    if !more.contains(&"--key-file") && !more.contains(&"--secret") {
        arguments.extend(["--function", &*example]);
    }
    arguments.extend(more);
    let printed = fleet.ok(&arguments);
    assert_eq!(printed.lines().count(), 1, "the token stands alone: {printed}");
    printed.trim().to_owned()
}

#[tokio::test]
async fn only_a_valid_token_reaches_the_origin() {
    let fleet = Fleet::start();
    let none = get(fleet.pop("lhr"), "/auth/profile", &[]).await;
    assert_eq!(none.status, 401);
    assert_eq!(none.header("www-authenticate"), r#"Bearer realm="auth""#);

    let good = sign(&fleet, &["--sub", "alice"]);
    let tampered = {
        let (head, rest) = good.split_once('.').unwrap();
        let (_, signature) = rest.split_once('.').unwrap();
        let other = sign(&fleet, &["--sub", "mallory"]);
        format!("{head}.{}.{signature}", other.split('.').nth(1).unwrap())
    };
    // {"alg":"none","typ":"JWT"} over the good token's claims.
    let unsigned = format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{}.", good.split('.').nth(1).unwrap());
    let bad = [
        ("expired", sign(&fleet, &["--exp", "-1h"])),
        ("not yet valid", sign(&fleet, &["--nbf", "1h"])),
        ("issuer", sign(&fleet, &["--iss", "https://elsewhere.example"])),
        ("audience", sign(&fleet, &["--aud", "somebody-else"])),
        (
            "key",
            sign(
                &fleet,
                &[
                    "--secret",
                    "another secret that is as long as it has to be",
                    "--iss",
                    "https://issuer.example",
                    "--aud",
                    "skerry-demo",
                ],
            ),
        ),
        ("tampered", tampered),
        ("none", unsigned),
        ("garbage", "not.a.token".to_owned()),
        ("empty", String::new()),
    ];
    let before = fleet.origin_requests().await;
    for (why, token) in bad {
        let reply = with_token(&fleet, "/auth/profile", &token).await;
        assert_eq!(reply.status, 401, "{why}: {}", reply.text());
        assert!(reply.header("www-authenticate").starts_with("Bearer "), "{why}");
        if !token.is_empty() {
            assert!(
                reply.header("www-authenticate").contains(r#"error="invalid_token""#),
                "{why}: {}",
                reply.header("www-authenticate")
            );
        }
    }
    assert_eq!(fleet.origin_requests().await, before, "the origin was asked for a request without a valid token");

    let reply = with_token(&fleet, "/auth/profile", &good).await;
    assert_eq!((reply.status, reply.header("x-skerry-subject")), (200, "alice"), "{}", reply.text());
    assert!(reply.json()["profile"].is_string());
    assert_eq!(fleet.origin_requests().await, before + 1);

    let reply = with_token(&fleet, "/auth/profile", &sign(&fleet, &["--sub", "山田\n"])).await;
    let subject = "%E5%B1%B1%E7%94%B0%0A";
    assert_eq!((reply.status, reply.header("x-skerry-subject")), (200, subject), "{}", reply.text());
}

fn openssl(folder: &Path, arguments: &str) -> String {
    let output =
        Command::new("openssl").current_dir(folder).args(arguments.split(' ')).output().expect("openssl is installed");
    assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn keys_of_every_kind_verify_and_none_stands_in_for_another() {
    let origin = Stub::start(|request| {
        Response::builder()
            .header("cache-control", "no-store")
            .body(format!("{:?}", request.headers().get("x-subject")))
            .unwrap()
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let auth = function(&folder.path().join("auth"), "", &[("index.js", HANDLER)]);
    for (name, how) in [
        ("RS256", "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out RS256.key"),
        ("ES256", "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out ES256.key"),
        ("EdDSA", "genpkey -algorithm ED25519 -out EdDSA.key"),
    ] {
        openssl(&auth, how);
        openssl(&auth, &format!("pkey -in {name}.key -pubout -out {name}.pub"));
    }
    let keys = ["RS256", "ES256", "EdDSA"]
        .map(|a| format!(r#"{{ "kid": "{a}", "algorithm": "{a}", "pem_file": "{a}.pub" }}"#));
    let project = format!(
        r#"{{ "name": "auth", "main": "index.js", "compatibility_date": "2026-11-24", "routes": ["*/auth"],
             "jwt": [{{ "binding": "AUTH", "issuer": "i", "audience": "a", "keys": [{}] }}] }}"#,
        keys.join(", ")
    );
    std::fs::write(auth.join("wrangler.jsonc"), project).unwrap();
    let fleet = Fleet::of(folder.path());
    let _ = origin;
    for name in ["RS256", "ES256", "EdDSA"] {
        let key = auth.join(format!("{name}.key"));
        let key = key.to_string_lossy();
        let token = sign(&fleet, &["--key-file", &key, "--alg", name, "--kid", name, "--iss", "i", "--aud", "a"]);
        let reply = with_token(&fleet, "/auth", &token).await;
        // The origin has no such object: 404 is its answer, so the token was accepted.
        assert_eq!(reply.status, 404, "{name}: {}", reply.text());
    }
    // The RSA public key as an HMAC secret (RFC 8725 section 2.1). `skerry jwt sign` refuses to make such a token.
    let public = std::fs::read(auth.join("RS256.pub")).unwrap();
    let arguments = ["jwt", "sign", "--secret", std::str::from_utf8(&public).unwrap(), "--alg", "HS256"];
    assert!(fleet.fails(&arguments).contains("public key"));
    let claims = sign(&fleet, &["--secret", "a secret of thirty-two bytes or more", "--iss", "i", "--aud", "a"]);
    let claims = claims.split('.').nth(1).unwrap();
    for head in [r#"{"alg":"HS256","kid":"RS256"}"#, r#"{"alg":"HS256"}"#] {
        let signed = format!("{}.{claims}", base64url(head.as_bytes()));
        std::fs::write(auth.join("signed"), &signed).unwrap();
        let key: String = public.iter().map(|byte| format!("{byte:02x}")).collect();
        openssl(&auth, &format!("dgst -sha256 -mac HMAC -macopt hexkey:{key} -binary -out signature signed"));
        let signature = base64url(&std::fs::read(auth.join("signature")).unwrap());
        assert_eq!(with_token(&fleet, "/auth", &format!("{signed}.{signature}")).await.status, 401, "{head}");
    }
}

#[tokio::test]
async fn keys_come_from_the_address_of_a_key_set() {
    let folder = tempfile::tempdir().unwrap();
    openssl(folder.path(), "genpkey -algorithm ED25519 -out key.pem");
    let text = openssl(folder.path(), "pkey -in key.pem -pubout -outform DER -out public.der");
    drop(text);
    let der = std::fs::read(folder.path().join("public.der")).unwrap();
    let x = base64url(&der[der.len() - 32..]);
    let stub = Stub::start(move |_| {
        let set =
            format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"k1","alg":"EdDSA","use":"sig","x":"{x}"}}]}}"#);
        Response::builder().header("cache-control", "max-age=300").body(set).unwrap()
    })
    .await;
    let jwt = format!(
        r#""jwt": [{{ "binding": "AUTH", "issuer": "i", "audience": "a", "jwks_url": "http://{}/jwks", "jwks_algorithms": ["EdDSA"] }}]"#,
        stub.address
    );
    let functions = folder.path().join("functions");
    function(
        &functions.join("auth"),
        &jwt,
        &[(
            "index.js",
            "export default { async fetch(r, env) { const t = await env.AUTH.verify(r); return t.ok ? new Response(t.subject) : t.response } }",
        )],
    );
    let more = vec!["--allow-fetch".to_owned(), "127.0.0.1/32".to_owned()];
    let fleet = Fleet::with(&Options { functions: Some(functions), pops: "lhr=0", more, ..Options::default() });
    let key = folder.path().join("key.pem");
    let key = key.to_string_lossy();
    let token = sign(
        &fleet,
        &["--key-file", &key, "--alg", "EdDSA", "--kid", "k1", "--iss", "i", "--aud", "a", "--sub", "bob"],
    );
    for _ in 0..3 {
        let reply = with_token(&fleet, "/auth", &token).await;
        assert_eq!((reply.status, reply.text().as_str()), (200, "bob"));
    }
    let stranger = sign(&fleet, &["--key-file", &key, "--alg", "EdDSA", "--kid", "k2", "--iss", "i", "--aud", "a"]);
    assert_eq!(with_token(&fleet, "/auth", &stranger).await.status, 401);
    assert_eq!(*stub.seen.lock().unwrap(), ["GET /jwks"], "one fetch serves all, and an unknown kid does not hammer");
}

fn base64url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let sextets = bytes.len() * 8;
    (0..sextets.div_ceil(6))
        .map(|i| {
            let bit = |b: usize| bytes.get(b / 8).map_or(0, |byte| byte >> (7 - b % 8) & 1);
            let value = (0..6).fold(0, |v, k| v << 1 | bit(i * 6 + k));
            ALPHABET[usize::from(value)] as char
        })
        .collect()
}
