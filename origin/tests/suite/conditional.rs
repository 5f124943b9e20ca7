//! What a cache and a browser may ask of an object.

use std::time::Duration;

use http::{Method, StatusCode};
use origin::bundle::Digest;
use origin::store::Attributes;

use crate::harness::{Origin, raw};

const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";

#[tokio::test]
async fn an_asset_of_a_live_version_is_served_with_all_a_cache_needs() {
    let origin = Origin::start().await;
    origin.deploy("site", &[("/site/logo.txt", b"logo")]).await;
    let reply = origin.get("/site/logo.txt", &[]).await;
    assert_eq!((reply.status, &reply.body[..]), (StatusCode::OK, &b"logo"[..]));
    assert!(reply.header("etag").starts_with(&format!("\"{}-", Digest::of(b"logo"))));
    assert_eq!(reply.header("last-modified"), DATE);
    assert_eq!(reply.header("content-type"), "text/plain");
    assert_eq!(reply.header("cache-control"), "public, max-age=300");
    assert_eq!(reply.header("accept-ranges"), "bytes");
    assert_eq!(reply.header("content-length"), "4");
    let mut names: Vec<&str> = reply.headers.keys().map(|k| k.as_str()).collect();
    names.sort_unstable();
    let allowed = ["accept-ranges", "cache-control", "content-length", "content-type", "date", "etag", "last-modified"];
    assert_eq!(names, allowed, "and nothing else");

    let head = origin.public(Method::HEAD, "/site/logo.txt", &[]).await;
    assert_eq!((head.status, head.body.len()), (StatusCode::OK, 0));
    assert_eq!(head.headers, reply.headers);
    assert_eq!(origin.get("/site/other.txt", &[]).await.status, StatusCode::NOT_FOUND);
    origin.stop().await;
}

#[tokio::test]
async fn conditions_are_kept_for_assets_and_for_users_objects() {
    let origin = Origin::start().await;
    origin.deploy("site", &[("/site/a", b"content")]).await;
    let attributes = Attributes { content_type: None, cache_control: Some("max-age=5".to_owned()) };
    let written = origin.control.put_object("user/a.html", "content", &attributes).await.expect("a put");
    let user = origin.get("/user/a.html", &[]).await;
    assert!(user.header("etag").starts_with(&format!("\"{}-", written.etag)));
    assert_eq!((user.header("content-type"), user.header("cache-control")), ("text/html", "max-age=5"));

    for path in ["/site/a", "/user/a.html"] {
        let etag = origin.get(path, &[]).await.header("etag").to_owned();
        let weak = format!("W/{etag}");
        let cases: [(&[(&str, &str)], u16); 14] = [
            (&[("if-none-match", &etag)], 304),
            (&[("if-none-match", &weak)], 304),
            (&[("if-none-match", "*")], 304),
            (&[("if-none-match", "\"other\"")], 200),
            (&[("if-none-match", "\"other\""), ("if-modified-since", DATE)], 200),
            (&[("if-modified-since", DATE)], 304),
            (&[("if-modified-since", BEFORE)], 200),
            (&[("if-modified-since", "not a date")], 200),
            (&[("if-match", &etag)], 200),
            (&[("if-match", &weak)], 412),
            (&[("if-match", "\"other\"")], 412),
            (&[("if-unmodified-since", DATE)], 200),
            (&[("if-unmodified-since", BEFORE)], 412),
            (&[("if-match", "\"other\""), ("if-none-match", &etag), ("range", "bytes=0-0")], 412),
        ];
        for method in [Method::GET, Method::HEAD] {
            for (headers, status) in cases {
                let reply = origin.public(method.clone(), path, headers).await;
                assert_eq!(reply.status.as_u16(), status, "{method} {path} {headers:?}");
                if status == 304 {
                    assert_eq!((reply.header("etag"), reply.body.len()), (etag.as_str(), 0));
                    assert!(reply.headers.contains_key("cache-control") && reply.headers.contains_key("date"));
                    assert!(!reply.headers.contains_key("content-type"));
                }
            }
        }
    }
    origin.stop().await;
}

#[tokio::test]
async fn a_new_version_of_an_asset_is_another_object() {
    let origin = Origin::start().await;
    origin.deploy("site", &[("/a", b"one"), ("/gone", b"gone")]).await;
    let old = origin.get("/a", &[]).await.header("etag").to_owned();
    origin.advance(Duration::from_secs(10));
    origin.deploy("site", &[("/a", b"two")]).await;
    let reply = origin.get("/a", &[("if-none-match", &old)]).await;
    assert_eq!((reply.status, &reply.body[..]), (StatusCode::OK, &b"two"[..]));
    assert_eq!(reply.header("last-modified"), "Sun, 06 Nov 1994 08:49:47 GMT");
    assert_eq!(origin.get("/gone", &[]).await.status, StatusCode::NOT_FOUND);
    origin.control.rollback(&"site".parse().unwrap(), None).await.expect("a rollback");
    assert_eq!(origin.get("/a", &[("if-none-match", &old)]).await.status, StatusCode::NOT_MODIFIED);
    assert_eq!(origin.get("/gone", &[]).await.body, "gone");
    origin.stop().await;
}

#[tokio::test]
async fn errors_are_small_documents_with_a_code_and_the_request_id() {
    let origin = Origin::start().await;
    let missing = origin.get("/nothing", &[("x-request-id", "abc-123")]).await;
    assert_eq!(missing.header("content-type"), "application/problem+json");
    assert_eq!(missing.header("cache-control"), "no-store");
    let fields = missing.json();
    assert_eq!((&fields["code"], &fields["request_id"]), (&"request/not-found".into(), &"abc-123".into()));
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS, Method::PATCH] {
        let reply = origin.public(method, "/nothing", &[]).await;
        assert_eq!((reply.status, reply.header("allow")), (StatusCode::METHOD_NOT_ALLOWED, "GET, HEAD"));
    }
    let bad = ["/%", "/%4", "/%zz", "/a%ff", "/..", "/../manifest", "/a/./b"];
    for path in bad {
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        let answer = raw(origin.bound.listen, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{path}");
    }
    for path in ["/", "//", "/a%2fb", "/a%00", "/manifest", "/public/x"] {
        assert_eq!(origin.get(path, &[]).await.status, StatusCode::NOT_FOUND, "{path}");
    }
    origin.stop().await;
}

#[tokio::test]
async fn paths_are_decoded_and_folders_have_an_index() {
    let origin = Origin::start().await;
    origin.deploy("site", &[("/docs/index.html", b"docs"), ("/a b/ü.txt", b"unusual")]).await;
    origin.control.put_object("mine/index.html", "mine", &Attributes::default()).await.expect("a put");
    origin.control.put_object("50% off?/#1", "odd", &Attributes::default()).await.expect("a put");
    assert_eq!(origin.get("/docs/", &[]).await.body, "docs");
    assert_eq!(origin.get("/docs", &[]).await.status, StatusCode::NOT_FOUND);
    assert_eq!(origin.get("/mine/", &[]).await.body, "mine");
    assert_eq!(origin.get("/a%20b/%C3%BC.txt?query=ignored", &[]).await.body, "unusual");
    assert_eq!(origin.get("/50%25%20off%3F/%231", &[]).await.body, "odd");
    origin.stop().await;
}

#[tokio::test]
async fn an_asset_stands_before_a_users_object_of_the_same_path() {
    let origin = Origin::start().await;
    origin.control.put_object("a", "users", &Attributes::default()).await.expect("a put");
    assert_eq!(origin.get("/a", &[]).await.body, "users");
    assert_eq!(origin.get("/a", &[]).await.header("cache-control"), "public, max-age=60");
    origin.deploy("site", &[("/a", b"asset")]).await;
    assert_eq!(origin.get("/a", &[]).await.body, "asset");
    origin.control.delete(&"site".parse().unwrap()).await.expect("a delete");
    assert_eq!(origin.get("/a", &[]).await.body, "users");
    origin.stop().await;
}

#[tokio::test]
async fn a_path_has_one_way_of_writing_so_that_no_other_goes_round_a_guard() {
    let origin = Origin::start().await;
    origin.deploy("site", &[("/auth/profile.json", b"asset"), ("/a-b_c~d.txt", b"asset")]).await;
    origin.control.put_object("auth/user.json", "object", &Attributes::default()).await.expect("a put");
    for path in ["/auth/profile.json", "/auth/user.json", "/a-b_c~d.txt"] {
        assert_eq!(origin.get(path, &[]).await.status, StatusCode::OK, "{path}");
        for (at, character) in path.char_indices().filter(|(_, c)| *c != '/') {
            let escape = format!("%{:02x}", u32::from(character));
            let other = [&path[..at], &escape, &path[at + 1..]].concat();
            let reply = origin.get(&other, &[]).await;
            assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{other}");
            let says = format!("has '{}' for '{character}'", escape.to_uppercase());
            assert!(reply.json()["message"].as_str().expect("a message").contains(&says), "{other}");
        }
    }
    for path in ["/x/%2e%2e/auth/user.json", "/x\\..\\auth\\user.json", "/auth\\user.json", "/auth%5Cuser.json"] {
        assert_eq!(origin.get(path, &[]).await.status, StatusCode::BAD_REQUEST, "{path}");
    }
    for path in ["/x/../auth/user.json", "/./auth/user.json", "/auth/./user.json"] {
        let answer = raw(origin.bound.listen, format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{path}: {answer}");
    }
    for path in ["//auth/user.json", "/auth//user.json", "/auth%2Fuser.json", "/auth%2fuser.json"] {
        assert_eq!(origin.get(path, &[]).await.status, StatusCode::NOT_FOUND, "{path}");
    }
    origin.stop().await;
}

#[tokio::test]
async fn the_same_bytes_as_another_type_are_another_representation() {
    let origin = Origin::start().await;
    let typed = |content_type: &str| Attributes { content_type: Some(content_type.to_owned()), cache_control: None };
    origin.control.put_object("a", "{}", &typed("text/plain")).await.expect("a put");
    let plain = origin.get("/a", &[]).await.header("etag").to_owned();
    origin.control.put_object("a", "{}", &typed("application/json")).await.expect("a put");
    let reply = origin.get("/a", &[("if-none-match", &plain)]).await;
    assert_eq!((reply.status, reply.header("content-type")), (StatusCode::OK, "application/json"));
    let part = origin.get("/a", &[("range", "bytes=0-0"), ("if-range", &plain)]).await;
    assert_eq!((part.status, &part.body[..]), (StatusCode::OK, &b"{}"[..]));
    let json = reply.header("etag");
    assert_eq!(origin.get("/a", &[("if-none-match", json)]).await.status, StatusCode::NOT_MODIFIED);
    let part = origin.get("/a", &[("range", "bytes=0-0"), ("if-range", json)]).await;
    assert_eq!((part.status, &part.body[..]), (StatusCode::PARTIAL_CONTENT, &b"{"[..]));
    origin.stop().await;
}
