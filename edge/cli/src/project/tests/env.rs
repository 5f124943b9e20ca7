//! What a project file puts on `env`.

use origin::bundle::JwtKeyMaterial;

use super::*;

#[test]
fn names_on_env_are_identifiers_and_unique() {
    check_jsonc(
        "\"vars\": {\"A-B\": 1, \"1A\": 1, \"\": 1, \"__proto__\": 1, \"$ok_1\": 1}",
        &[
            ("2:10 vars.A-B", "is not a name"),
            ("2:20 vars.1A", "is not a name"),
            ("2:29 vars.", "is not a name"),
            ("2:36 vars.__proto__", "is not a name"),
        ],
    );
    check_toml(
        "[vars]\nX = 1\n[[ratelimits]]\nname = \"X\"\nsimple = { limit = 1, period = 1 }\n\
         [[cohorts]]\nbinding = \"X\"\nexperiment = \"e\"\ncohorts = { a = 1 }",
        &[
            ("7:8 ratelimits[0].name", "already given by vars.X"),
            ("10:11 cohorts[0].binding", "already given by vars.X"),
        ],
    );
}

#[test]
fn rate_limiters_are_checked() {
    let entry = |rest: &str| format!("\"ratelimits\": [{{\n{rest}}}]");
    check_jsonc(
        &entry("\"name\": \"A\", \"simple\": {\"limit\": 0, \"period\": 86401}"),
        &[
            ("3:34 ratelimits[0].simple.limit", "0 is not a whole number from 1"),
            ("3:47 ratelimits[0].simple.period", "1 to 86400 seconds"),
        ],
    );
    check_jsonc(&entry("\"name\": \"A\""), &[("2:16 ratelimits[0]", "\"simple\" is missing")]);
    check_jsonc(
        &entry("\"simple\": {\"limit\": 1, \"period\": \"1d\"}"),
        &[
            ("2:16 ratelimits[0]", "one of \"name\", \"binding\" is missing"),
            ("3:34 ratelimits[0].simple.period", "seconds"),
        ],
    );
    check_jsonc(
        &entry("\"name\": \"A\", \"binding\": \"B\", \"simple\": {\"limit\": 1, \"period\": 1}"),
        &[("3:14 ratelimits[0].binding", "exclude each other")],
    );
    let private = config(&entry("\"name\": \"A\", \"simple\": {\"limit\": 4294967295, \"period\": \"24h\"}"));
    assert_eq!((private.ratelimits[0].namespace_id.as_str(), private.ratelimits[0].period_seconds), ("", 86_400));
}

#[test]
fn cohorts_are_checked() {
    let entry = |rest: &str| format!("\"cohorts\": [{{\"binding\": \"A\", \"experiment\": \"e\",\n{rest}}}]");
    check_jsonc(&entry("\"cohorts\": {}"), &[("3:12 cohorts[0].cohorts", "has 0 cohorts: give 1 to 64")]);
    check_jsonc(&entry("\"cohorts\": {\"a\": 0}"), &[("3:12 cohorts[0].cohorts", "all weights are 0")]);
    check_jsonc(
        &entry("\"cohorts\": {\"a\": -1, \"b\": 0.5}"),
        &[("3:18 cohorts[0].cohorts.a", "-1 is not"), ("3:27 cohorts[0].cohorts.b", "0.5 is not")],
    );
    check_jsonc(&entry("\"cohorts\": {\"a\": 1}, \"cookie\": \"a b\""), &[("3:32 cohorts[0].cookie", "cookie")]);
    assert_eq!(config(&entry("\"cohorts\": {\"a\": 1}")).cohorts[0].cookie, "skerry-client");
}

/// A verifier with `rest` on line 3.
fn verifier(rest: &str) -> String {
    format!("\"jwt\": [{{\"binding\": \"A\", \"issuer\": \"i\", \"audience\": \"a\",\n{rest}}}]")
}

/// A verifier with one key of `algorithm`; `rest` begins in column 33 of line 3, if that has five letters.
fn with_key(algorithm: &str, rest: &str) -> String {
    verifier(&format!("\"keys\": [{{\"algorithm\": {algorithm:?}, {rest}}}]"))
}

#[test]
fn keys_that_no_token_could_be_verified_with_are_refused() {
    for (algorithm, form, value, words) in [
        ("RS256", "secret", "\"s\"", "needs a public key, not a secret"),
        ("HS256", "pem_file", "\"key.pem\"", "needs a secret, not PEM"),
        ("HS256", "secret", "\"short\"", "has 5 bytes: it needs at least 32"),
        ("ES256", "pem_file", "\"none\"", "does not exist"),
        ("ES256", "pem_file", "\"../k\"", "outside the project folder"),
        ("ES256", "pem_file", "\"private.pem\"", "this is a private key"),
        ("ES256", "pem", "\"AAAA\"", "no key for ES256 in this PEM"),
        ("RS256", "jwk_file", "\"key.jwk\"", "kty"),
        ("ES256", "jwk_file", "\"key.pem\"", "the file is not JSON"),
        ("ES256", "jwk", "1", "expected an object"),
    ] {
        check_jsonc(
            &with_key(algorithm, &format!("{form:?}: {value}")),
            &[(&format!("3:{} jwt[0].keys[0].{form}", 37 + form.len()), words)],
        );
    }
    for (algorithm, words) in [("none!", "use one of HS256"), ("none", "accepts every token there is")] {
        let keys = with_key(algorithm, "\"pem_file\": \"key.pem\"");
        check_jsonc(&keys, &[("3:24 jwt[0].keys[0].algorithm", words)]);
    }
    check_jsonc(&verifier("\"leeway\": 1"), &[("2:9 jwt[0]", "there is no key to verify tokens with")]);
    check_jsonc(&verifier("\"leeway\": 601, \"keys\": []"), &[("3:11 jwt[0].leeway", "0 to 600 seconds")]);
    check_jsonc(&verifier("\"keys\": [{\"algorithm\": \"ES256\"}]"), &[("3:10 jwt[0].keys[0]", "one of \"secret\"")]);
    check_jsonc(
        &with_key("ES256", "\"pem_file\": \"key.pem\", \"jwk\": {}"),
        &[("3:56 jwt[0].keys[0].jwk", "exclude each other")],
    );
    let twin = "{\"kid\": \"1\", \"algorithm\": \"ES256\", \"pem_file\": \"key.pem\"}";
    check_jsonc(&verifier(&format!("\"keys\": [{twin}, {twin}]")), &[("2:9 jwt[0]", "already has kid `1`")]);
}

#[test]
fn keys_come_in_every_form() {
    let secret = "0123456789abcdef0123456789abcdef";
    let material = |keys: &str| config(keys).jwt.remove(0).keys.remove(0).material;
    assert_eq!(material(&with_key("HS256", &format!("\"secret\": {secret:?}"))), JwtKeyMaterial::Secret(secret.into()));
    let pem = JwtKeyMaterial::Pem(PUBLIC_PEM.into());
    assert_eq!(material(&with_key("ES256", "\"pem_file\": \"./key.pem\"")), pem);
    assert_eq!(material(&with_key("ES256", &format!("\"pem\": {PUBLIC_PEM:?}"))), pem);
    let jwk = JwtKeyMaterial::Jwk(serde_json::from_str(PUBLIC_JWK).unwrap());
    assert_eq!(material(&with_key("ES256", "\"jwk_file\": \"key.jwk\"")), jwk);
    assert_eq!(material(&with_key("ES256", &format!("\"jwk\": {PUBLIC_JWK}"))), jwk);
}

#[test]
fn key_sets_come_over_https_and_name_their_algorithms() {
    let set = |url: &str| verifier(&format!("\"jwks_url\": {url:?}, \"jwks_algorithms\": [\"RS256\"]"));
    for url in ["https://a.com/jwks", "http://localhost:1/jwks", "http://127.0.0.1/x", "http://[::1]:8/x"] {
        assert!(config(&set(url)).jwt[0].jwks_url.is_some(), "{url}");
    }
    for url in ["http://a.com/jwks", "ftp://localhost/x", "jwks"] {
        check_jsonc(&set(url), &[("3:13 jwt[0].jwks_url", url)]);
    }
    check_jsonc(&verifier("\"jwks_url\": \"https://a.com/\""), &[("3:1 jwt[0].jwks_url", "needs \"jwks_algorithms\"")]);
    check_jsonc(
        &verifier("\"jwks_url\": \"https://a.com/\", \"jwks_algorithms\": [\"HS256\", \"none\"]"),
        &[
            ("3:51 jwt[0].jwks_algorithms[0]", "published secret"),
            ("3:60 jwt[0].jwks_algorithms[1]", "accepts every token"),
        ],
    );
    check_jsonc(
        &verifier("\"jwks_url\": \"https://a.com/\", \"jwks_algorithms\": []"),
        &[("3:50 jwt[0].jwks_algorithms", "no algorithm is accepted")],
    );
    check_jsonc(
        "\"jwt\": [{\"binding\": \"A\", \"issuers\": [], \"audience\": \"a\"}]",
        &[("2:37 jwt[0].issuers", "at least one")],
    );
}

#[test]
fn a_secret_is_not_shown_in_errors() {
    let errors = load("wrangler.jsonc", &jsonc(&with_key("ES256", "\"secret\": \"hunter2\""))).unwrap_err().to_string();
    assert!(
        errors.starts_with("wrangler.jsonc:3:43: jwt[0].keys[0].secret") && !errors.contains("hunter2"),
        "{errors}"
    );
    let secret = "\"secret\": \"hunter2\"";
    let key = |more: &str| format!("\"keys\": [{{ {more}, {secret} }}]");
    let line = |more: &str, keys: &str| format!("\"jwt\": [{{ \"binding\": \"A\", {more} {keys} }}]");
    for project in [
        line("\"issuer\": \"i\", \"audience\": \"a\",", &key("\"algorithm\": \"nonsense\"")),
        line("\"issuer\": \"i\", \"audience\": \"a\",", &key("\"kidd\": 1, \"algorithm\": \"HS256\"")),
        line("\"issuer\": 5,", &key("\"algorithm\": \"HS256\"")),
        format!("\"jwt\": [{{ {secret} }}]"),
        format!("\"jwt\": [{{ {secret} \"x\" }}]"),
    ] {
        let errors = load("wrangler.jsonc", &jsonc(&project)).unwrap_err().to_string();
        assert!(!errors.contains("hunter2"), "{project}: {errors}");
    }
}

#[test]
fn a_missing_key_of_a_toml_table_is_reported_at_its_header() {
    check_toml("\n[[jwt]]\nbinding = \"A\"\nissuer = \"i\"", &[("5:1 jwt[0]", "one of \"audience\"")]);
}
