//! The admin API: who may use it, what it takes, what it refuses.

use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::{Method, StatusCode};
use origin::api::{Delivery, UsageBatch, UsageRow};
use origin::bundle::{Bundle, Digest, MAX_BUNDLE_BYTES};
use origin::client::{Control, ControlError, Upload};
use origin::store::{Attributes, Body};

use crate::harness::{Origin, TOKEN, asset, bundle, name, raw};

fn code(error: &ControlError) -> &str {
    error.code().unwrap_or("none")
}

#[tokio::test]
async fn nothing_is_answered_without_the_token() {
    let origin = Origin::start().await;
    let paths = ["/v1/manifest", "/v1/stats", "/v1/nothing", "/", "/v1/objects/a"];
    for path in paths {
        let url = format!("http://{}{path}", origin.bound.admin);
        for method in [Method::GET, Method::PUT, Method::DELETE] {
            let none = origin.request(&url, method.clone(), &[], "").await;
            assert_eq!(none.status, StatusCode::UNAUTHORIZED);
            assert_eq!(none.header("www-authenticate"), "Bearer realm=\"skerry admin\"");
            let wrong = origin.request(&url, method, &[("authorization", "Bearer guess")], "").await;
            assert_eq!(wrong.status, StatusCode::UNAUTHORIZED);
            assert!(wrong.header("www-authenticate").contains("invalid_token"));
        }
    }
    assert_eq!(origin.get("/v1/manifest", &[("authorization", "Bearer test-token")]).await.status, 404, "not public");
    let stranger = Control::new(origin.control.base().clone(), "guess");
    assert_eq!(code(&stranger.manifest().await.unwrap_err()), "auth/token");
    origin.stop().await;
}

#[tokio::test]
async fn unknown_paths_and_methods_are_told_apart() {
    let origin = Origin::start().await;
    let digest = Digest::of(b"");
    let cases = [
        (Method::GET, "/v1/nothing".to_owned(), 404, ""),
        (Method::GET, "/v1/objects/".to_owned(), 404, ""),
        (Method::GET, format!("/v1/blobs/{digest}"), 405, "HEAD, PUT"),
        (Method::DELETE, format!("/v1/bundles/{digest}"), 405, "GET, HEAD, PUT"),
        (Method::GET, "/v1/functions/a/deploy".to_owned(), 405, "POST"),
        (Method::POST, "/v1/functions/a/versions".to_owned(), 405, "GET"),
        (Method::GET, "/v1/functions/a".to_owned(), 405, "DELETE"),
        (Method::POST, "/v1/manifest".to_owned(), 405, "GET"),
        (Method::POST, "/v1/objects/a".to_owned(), 405, "GET, HEAD, PUT, DELETE"),
        (Method::PUT, "/v1/blobs/abc".to_owned(), 400, ""),
        (Method::DELETE, "/v1/functions/UPPER".to_owned(), 400, ""),
        (Method::PUT, "/v1/objects/a//b".to_owned(), 400, ""),
        (Method::PUT, "/v1/objects/a/%2e%2e/b".to_owned(), 400, ""),
        (Method::POST, "/v1/poll".to_owned(), 400, ""),
        (Method::POST, "/v1/functions/a/deploy".to_owned(), 400, ""),
        (Method::GET, "/v1/manifest?after=x".to_owned(), 400, ""),
        (Method::DELETE, "/v1/usage".to_owned(), 405, "GET, POST"),
        (Method::GET, "/v1/usage/alerts".to_owned(), 405, "POST"),
        (Method::GET, "/v1/usage".to_owned(), 400, ""),
        (Method::GET, "/v1/usage?period=2026-13".to_owned(), 400, ""),
        (Method::POST, "/v1/usage".to_owned(), 400, ""),
    ];
    for (method, path, status, allow) in cases {
        let reply = origin.admin(method.clone(), &path, "").await;
        assert_eq!((reply.status.as_u16(), reply.header("allow")), (status, allow), "{method} {path}");
        assert_eq!(reply.header("content-type"), "application/problem+json");
    }
    origin.stop().await;
}

#[tokio::test]
async fn a_blob_is_visible_only_with_the_right_digest() {
    let origin = Origin::start().await;
    let digest = Digest::of(b"right");
    assert!(!origin.control.has_blob(&digest).await.unwrap());
    let wrong = origin.control.put_blob(&digest, "wrong").await.unwrap_err();
    assert_eq!(code(&wrong), "request/digest");
    assert!(!origin.control.has_blob(&digest).await.unwrap());
    let torn = stream::iter([Ok(Bytes::from("ri")), Err("the client fails".into())]);
    let upload = Upload { size: Some(5), body: Body::new(torn) };
    origin.control.put_blob(&digest, upload).await.expect_err("it is torn");
    assert!(!origin.control.has_blob(&digest).await.unwrap());
    let head = format!("PUT /v1/blobs/{digest} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\n");
    let cut = raw(origin.bound.admin, format!("{head}content-length: 5\r\n\r\nri").as_bytes()).await;
    assert!(cut.is_empty() || cut.starts_with("HTTP/1.1 400 "), "{cut}");
    assert!(!origin.control.has_blob(&digest).await.unwrap());
    for _ in 0..2 {
        origin.control.put_blob(&digest, "right").await.expect("also twice");
    }
    assert!(origin.control.has_blob(&digest).await.unwrap());
    let unsized_body = stream::iter(["st", "reamed"].map(|c| Ok(Bytes::from(c)))).boxed();
    let upload = Upload { size: None, body: Body::new(unsized_body) };
    origin.control.put_blob(&Digest::of(b"streamed"), upload).await.expect("without a length");
    origin.stop().await;
}

#[tokio::test]
async fn a_function_is_published_deployed_listed_rolled_back_and_deleted() {
    let origin = Origin::start().await;
    let (control, hello) = (&origin.control, name("hello"));
    let mut versions = Vec::new();
    for n in 0..3 {
        let (bytes, version) = bundle("hello", &n.to_string()).encode();
        let published = control.put_bundle(&version, bytes.clone(), Some("a 100% new & better one")).await.unwrap();
        assert_eq!(published.message.as_deref(), Some("a 100% new & better one"));
        assert_eq!(control.bundle(&version).await.unwrap(), bytes);
        let outcome = control.deploy(&hello, &version).await.unwrap();
        assert_eq!((outcome.generation, outcome.changed, outcome.previous), (n + 1, true, versions.last().copied()));
        assert!(!control.deploy(&hello, &version).await.unwrap().changed);
        versions.push(version);
        origin.advance(std::time::Duration::from_secs(1));
    }
    let listed = control.versions(&hello).await.unwrap();
    assert_eq!(listed.iter().map(|v| v.version).collect::<Vec<_>>(), [versions[2], versions[1], versions[0]]);
    assert!(listed[0].live && !listed[1].live);
    assert_eq!(control.rollback(&hello, None).await.unwrap().version, versions[1]);
    assert_eq!(control.rollback(&hello, None).await.unwrap().version, versions[0]);
    assert_eq!(code(&control.rollback(&hello, None).await.unwrap_err()), "deploy/nothing-before");
    assert_eq!(control.rollback(&hello, Some(&versions[2].short())).await.unwrap().version, versions[2]);
    assert_eq!(code(&control.rollback(&hello, Some("ffffffffffff")).await.unwrap_err()), "deploy/unknown-version");
    assert_eq!(control.manifest().await.unwrap().functions[&hello].version, versions[2]);
    assert_eq!(control.delete(&hello).await.unwrap(), 7);
    assert_eq!(code(&control.delete(&hello).await.unwrap_err()), "deploy/not-deployed");
    assert!(control.manifest().await.unwrap().functions.is_empty());
    assert!(control.versions(&name("unknown")).await.unwrap().is_empty());
    origin.stop().await;
}

#[tokio::test]
async fn bundles_that_cannot_work_are_refused_before_anything_changes() {
    let origin = Origin::start().await;
    let control = &origin.control;
    let (bytes, version) = bundle("hello", "1").encode();
    let error = control.put_bundle(&Digest::of(b"other"), bytes.clone(), None).await.unwrap_err();
    assert_eq!(code(&error), "bundle/digest");
    let junk = b"{\"format\":1}".to_vec();
    assert_eq!(code(&control.put_bundle(&Digest::of(&junk), junk, None).await.unwrap_err()), "bundle/invalid");
    let assets = [("/a".to_owned(), asset(b"not there"))].into();
    let (missing, missing_version) = Bundle { assets, ..bundle("hello", "1") }.encode();
    let error = control.put_bundle(&missing_version, missing, None).await.unwrap_err();
    assert_eq!(code(&error), "bundle/missing-blobs");
    assert!(error.to_string().contains(&Digest::of(b"not there").to_string()), "{error}");
    assert_eq!(code(&control.deploy(&name("hello"), &version).await.unwrap_err()), "deploy/unknown-version");
    control.put_bundle(&version, bytes, None).await.unwrap();
    assert_eq!(code(&control.deploy(&name("other"), &version).await.unwrap_err()), "deploy/other-function");
    assert_eq!(control.manifest().await.unwrap().generation, 0);
    origin.stop().await;
}

#[tokio::test]
async fn usage_is_added_once_and_a_wrong_clock_is_told_so() {
    let origin = Origin::start().await;
    let deliver = async |day: &str, number| {
        let used = [("requests".to_owned(), 5)].into();
        let row = UsageRow { day: day.to_owned(), function: "hello".to_owned(), used, ..UsageRow::default() };
        let batch = Some(UsageBatch { ledger: "a1".to_owned(), number, rows: vec![row] });
        let delivery = Delivery { pop: "fra".to_owned(), batch, watch: vec!["hello".to_owned()] };
        origin.control.deliver(&delivery, Duration::from_secs(10)).await
    };
    let refused = deliver("2999-01-01", 1).await.unwrap_err();
    assert_eq!(code(&refused), origin::usage::DAY);
    let ask = Delivery { pop: "fra".to_owned(), batch: None, watch: Vec::new() };
    let today = origin.control.deliver(&ask, Duration::from_secs(10)).await.unwrap().day;
    for _ in 0..2 {
        let receipt = deliver(&today, 1).await.unwrap();
        assert_eq!((receipt.acknowledged, receipt.totals["hello"].month.all["requests"]), (Some(1), 5));
    }
    let report = origin.control.usage(&today).await.unwrap();
    assert_eq!(report.pops["fra"].iter().map(|row| row.used["requests"]).collect::<Vec<_>>(), [5]);
    origin.stop().await;
}

#[tokio::test]
async fn a_bundle_over_the_limit_is_413() {
    let origin = Origin::start().await;
    let size = MAX_BUNDLE_BYTES + 1;
    let version = Digest::of(b"");
    let head = format!(
        "PUT /v1/bundles/{version} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\ncontent-length: {size}\r\nconnection: close\r\n\r\n"
    );
    let answer = raw(origin.bound.admin, &[head.into_bytes(), vec![b' '; size]].concat()).await;
    assert!(answer.starts_with("HTTP/1.1 413 ") || answer.is_empty(), "{answer}");
    let huge = format!(
        "PUT /v1/objects/a HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\ncontent-length: 99999999999999\r\nconnection: close\r\n\r\n"
    );
    assert!(raw(origin.bound.admin, huge.as_bytes()).await.starts_with("HTTP/1.1 413 "));
    origin.stop().await;
}

#[tokio::test]
async fn users_objects_are_put_conditionally_read_and_deleted() {
    let origin = Origin::start().await;
    let control = &origin.control;
    let attributes =
        Attributes { content_type: Some("text/markdown".to_owned()), cache_control: Some("no-cache".to_owned()) };
    let written = control.put_object("docs/ä b.md", "# one", &attributes).await.unwrap();
    assert_eq!(control.object("docs/ä b.md").await.unwrap().collect(100).await.unwrap(), "# one");
    let reply = origin.admin(Method::GET, "/v1/objects/docs/%C3%A4%20b.md", "").await;
    assert_eq!((reply.header("content-type"), reply.header("cache-control")), ("text/markdown", "no-cache"));
    assert_eq!(reply.header("etag"), format!("\"{}\"", written.etag));

    let url = format!("http://{}/v1/objects/docs/%C3%A4%20b.md", origin.bound.admin);
    let put = async |name: &str, value: &str| {
        let token = format!("Bearer {TOKEN}");
        origin.request(&url, Method::PUT, &[("authorization", &token), (name, value)], "# two").await.status.as_u16()
    };
    assert_eq!(put("if-none-match", "*").await, 412);
    assert_eq!(put("if-match", "\"other\"").await, 412);
    assert_eq!(put("if-match", "*").await, 400);
    assert_eq!(put("if-match", &format!("\"{}\"", written.etag)).await, 200);
    control.delete_object("docs/ä b.md").await.unwrap();
    control.delete_object("docs/ä b.md").await.expect("also twice");
    assert_eq!(code(&control.object("docs/ä b.md").await.unwrap_err()), "request/not-found");
    assert_eq!(put("if-none-match", "*").await, 200);
    let bad = Attributes { content_type: Some("x".repeat(600)), cache_control: None };
    assert_eq!(code(&control.put_object("a", "x", &bad).await.unwrap_err()), "request/bad");
    origin.stop().await;
}

#[tokio::test]
async fn the_public_listener_counts_what_it_is_asked() {
    let origin = Origin::start().await;
    origin.deploy("site", &[("/a", b"four")]).await;
    let before = origin.control.stats().await.unwrap();
    assert_eq!((before.requests, before.bytes, before.generation), (0, 0, 1));
    origin.get("/a", &[]).await;
    origin.public(Method::HEAD, "/a", &[]).await;
    let after = origin.control.stats().await.unwrap();
    assert_eq!((after.requests, after.bytes), (2, 4));
    assert!(after.admin_requests > before.admin_requests);
    origin.stop().await;
}

#[tokio::test]
async fn addresses_and_tokens_that_cannot_be_are_errors_of_the_first_call() {
    for address in ["https://localhost:1", "/path/only", "localhost:1"] {
        let error = Control::new(address.parse().unwrap(), "t").manifest().await.unwrap_err();
        assert!(matches!(error, ControlError::Address { .. }), "{address}: {error}");
    }
    let control = Control::new("http://127.0.0.1:1".parse().unwrap(), "a\nb");
    assert!(matches!(control.manifest().await, Err(ControlError::Token)));
    let nobody = Control::new("http://127.0.0.1:1".parse().unwrap(), "t").manifest().await.unwrap_err();
    assert!(nobody.is_temporary() && nobody.to_string().contains("127.0.0.1:1"), "{nobody}");
}
