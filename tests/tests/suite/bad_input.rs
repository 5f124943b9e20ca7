use tests::fleet::{copy, examples, function};
use tests::{Fleet, Options, get};

#[tokio::test]
async fn what_cannot_run_is_refused_with_its_place_and_the_last_good_version_serves() {
    let folder = tempfile::tempdir().unwrap();
    let good =
        function(&folder.path().join("f"), "", &[("index.js", "export default { fetch: () => new Response('good') }")]);
    let fleet = Fleet::of(folder.path());
    let version = get(fleet.pop("lhr"), "/f", &[]).await.header("x-skerry-version").to_owned();
    let handler = "export default { fetch: () => new Response('') }";
    let huge = format!("export const x = '{}'; {handler}", "x".repeat(11 << 20));
    let bad: Vec<(&str, &str, &str, Vec<&str>)> = vec![
        ("index.js", "", "export default {\n  fetch( { return }\n}", vec!["index.js:3:1", "syntax error", "3 | }"]),
        ("index.ts", "", "const n: number = 1;\nlet x: = 2;\nexport default {}", vec!["index.ts", ":2", "let x: = 2"]),
        (
            "index.js",
            "",
            "const a = 1;\nthrow new Error('at the top');",
            vec!["at the top", "index.js:2", "throw new Error"],
        ),
        (
            "index.ts",
            "",
            "interface A { a: string }\n\nconst a: A = (() => { throw new Error('typed') })();\nexport default a",
            vec!["typed", "index.ts:3", "const a: A = (() => { throw"],
        ),
        ("index.js", "", "export const a = 1", vec!["no default export", "index.js"]),
        ("index.js", "", "export default {}", vec!["no fetch", "index.js"]),
        ("index.js", "", "for (;;) {}", vec!["limit", "start"]),
        (
            "index.js",
            "",
            "import x from 'lodash'; export default x",
            vec!["lodash", "outside the bundle", "index.js:1"],
        ),
        ("index.js", "", "import x from '../outside.js'; export default x", vec!["../outside.js", "index.js:1"]),
        ("index.js", "", &huge, vec!["index.js", "MiB"]),
        ("index.js", r#""colour": 1"#, handler, vec!["colour", "wrangler.jsonc:1"]),
        ("index.js", r#""rout": []"#, handler, vec!["rout", "routes"]),
        ("index.js", r#""limits": { "cpu_mss": 5 }"#, handler, vec!["cpu_mss", "cpu_ms"]),
        ("index.js", r#""kv_namespaces": []"#, handler, vec!["kv_namespaces", "does not support"]),
        ("index.js", r#""vars": { "A" 1 }"#, handler, vec!["wrangler.jsonc:1"]),
    ];
    for (main, project, source, parts) in bad {
        std::fs::remove_dir_all(&good).unwrap();
        function(&good, project, &[(main, source)]);
        let error = fleet.fails(&["deploy", &good.to_string_lossy()]);
        for part in parts {
            assert!(error.contains(part), "{part:?} is not in:\n{error}\nof {}", &source[..source.len().min(80)]);
        }
        let still = get(fleet.pop("lhr"), "/f", &[]).await;
        assert_eq!((still.text().as_str(), still.header("x-skerry-version")), ("good", version.as_str()));
    }
    let error = fleet.fails(&["deploy", "no-such-folder"]);
    assert!(error.contains("no-such-folder"), "{error}");
    let error = fleet.fails(&["rollback", "nothing"]);
    assert!(error.contains("nothing"), "{error}");
}

#[tokio::test]
async fn a_version_that_only_a_pop_finds_bad_leaves_the_last_good_one_there() {
    let fleet = Fleet::with(&Options { pops: "lhr=0", ..Options::default() });
    let version = get(fleet.pop("lhr"), "/hello", &[]).await.header("x-skerry-version").to_owned();
    // Past the command line's own check: straight to the API, as another client might.
    let bundle = r#"{"format":1,"name":"hello","main":"i.js","modules":{"i.js":{"source":"throw new Error('no')"}},"config":{"compatibility_date":"2026-11-24","routes":["*/hello"]}}"#;
    let digest = sha256(bundle.as_bytes());
    let authorization = fleet.authorization();
    let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
    let put = tests::send(fleet.admin(), http::Method::PUT, &format!("/v1/bundles/{digest}"), &headers, bundle).await;
    assert!(put.status < 300, "{}", put.text());
    let deploy = format!(r#"{{"version":"{digest}"}}"#);
    let deployed = tests::send(fleet.admin(), http::Method::POST, "/v1/functions/hello/deploy", &headers, deploy).await;
    assert!(deployed.status < 300, "{}", deployed.text());
    tests::eventually("the PoP reports the failure", async || {
        let pops = get(fleet.admin(), "/v1/pops", &headers).await;
        pops.text().contains("no") && pops.json()["pops"][0]["failed"]["hello"].is_string()
    })
    .await;
    let still = get(fleet.pop("lhr"), "/hello", &[]).await;
    assert_eq!((still.status, still.header("x-skerry-version")), (200, version.as_str()));
}

fn sha256(bytes: &[u8]) -> String {
    use std::io::Write as _;
    let mut child = std::process::Command::new("sha256sum")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("coreutils are installed");
    child.stdin.take().expect("a pipe").write_all(bytes).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    String::from_utf8_lossy(&output.stdout)[..64].to_owned()
}

#[tokio::test]
async fn the_admin_api_is_not_on_the_public_side_and_wants_its_token() {
    let fleet = Fleet::with(&Options { pops: "lhr=0", ..Options::default() });
    for public in [fleet.pop("lhr"), fleet.front(), fleet.origin()] {
        let authorization = fleet.authorization();
        let reply = get(public, "/v1/manifest", &[("authorization", &authorization)]).await;
        assert_eq!(reply.status, 404, "{public}");
    }
    for headers in [&[][..], &[("authorization", "Bearer wrong")]] {
        let reply = get(fleet.admin(), "/v1/pops", headers).await;
        assert_eq!(reply.status, 401);
        assert!(reply.header("www-authenticate").starts_with("Bearer"));
    }
}

#[tokio::test]
async fn two_functions_cannot_have_the_same_route() {
    let fleet = Fleet::with(&Options { pops: "lhr=0", ..Options::default() });
    let other = fleet.folder.path().join("other");
    copy(&examples().join("hello"), &other);
    let text = std::fs::read_to_string(other.join("wrangler.jsonc"))
        .unwrap()
        .replace(r#""name": "hello""#, r#""name": "other""#);
    std::fs::write(other.join("wrangler.jsonc"), text).unwrap();
    let error = fleet.fails(&["deploy", &other.to_string_lossy()]);
    assert!(error.contains("*/hello") && error.contains("hello"), "{error}");
}
