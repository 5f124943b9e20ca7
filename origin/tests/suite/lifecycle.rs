//! Starting, stopping, and what a client or a disk can do to an origin.

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use origin::server::{Config, StartError, StoreConfig};
use origin::store::Attributes;
use tokio::net::{TcpListener, TcpStream};

use crate::harness::{Origin, clock, name, raw};

async fn start_error(config: Config) -> StartError {
    let running = origin::server::run(config, |_| panic!("it must not start"), std::future::pending());
    running.await.expect_err("it must not start")
}

fn config(store: StoreConfig) -> Config {
    let any = || "127.0.0.1:0".parse().expect("an address");
    Config::new(any(), any(), "t".to_owned(), store)
}

#[tokio::test]
async fn what_stands_in_the_way_of_a_start_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = taken.local_addr().expect("an address");
    let error = start_error(Config { listen: address, ..config(StoreConfig::Memory) }).await.to_string();
    assert!(error.contains(&address.to_string()) && error.contains("--listen"), "{error}");
    let error = start_error(Config { admin: address, ..config(StoreConfig::Memory) }).await.to_string();
    assert!(error.contains(&address.to_string()) && error.contains("--admin"), "{error}");
    let long = "x".repeat(origin::server::MAX_TOKEN_BYTES + 1);
    for token in ["", "a b", "ä", &long] {
        let error = start_error(Config { token: token.to_owned(), ..config(StoreConfig::Memory) }).await;
        assert!(matches!(error, StartError::Token { .. }), "{error}");
        assert!(error.to_string().contains("4096") && error.to_string().ends_with("--token-file"), "{error}");
    }
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("something"), b"else").expect("a file");
    let error = start_error(config(StoreConfig::Embedded(folder.path().to_owned()))).await.to_string();
    assert!(error.contains("neither empty nor an object store"), "{error}");
}

#[tokio::test]
async fn a_corrupt_manifest_is_an_error_at_the_start_not_an_empty_fleet() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = || StoreConfig::Embedded(folder.path().to_owned());
    let origin = Origin::start_on(store()).await;
    origin.deploy("hello", &[]).await;
    origin.stop().await;
    let manifest = folder.path().join("objects/manifest.o");
    let whole = fs::read(&manifest).expect("a manifest");
    fs::write(&manifest, &whole[..whole.len() / 2]).expect("it is torn");
    let error = start_error(config(store())).await;
    assert!(matches!(error, StartError::Manifest(_)) && error.to_string().contains("corrupt"), "{error}");
    fs::write(&manifest, &whole).expect("it is restored");
    let origin = Origin::start_on(store()).await;
    assert!(origin.control.manifest().await.expect("a manifest").functions.contains_key(&name("hello")));
    origin.stop().await;
}

#[tokio::test]
async fn what_was_deployed_and_put_is_there_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = || StoreConfig::Embedded(folder.path().to_owned());
    let origin = Origin::start_on(store()).await;
    origin.deploy("site", &[("/a", b"asset")]).await;
    origin.control.put_object("b", "object", &Attributes::default()).await.expect("a put");
    origin.stop().await;
    let origin = Origin::start_on(store()).await;
    assert_eq!(origin.get("/a", &[]).await.body, "asset");
    assert_eq!(origin.get("/b", &[]).await.body, "object");
    assert_eq!(origin.control.manifest().await.expect("a manifest").generation, 1);
    origin.stop().await;
}

fn object_file(folder: &Path, key: &str) -> PathBuf {
    let (folders, name) = key.rsplit_once('/').expect("a key in a folder");
    let folder = folders.split('/').fold(folder.join("objects"), |path, part| path.join(format!("{part}.d")));
    folder.join(format!("{name}.o"))
}

#[tokio::test]
async fn a_damaged_object_is_never_served_as_if_it_were_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let origin = Origin::start_on(StoreConfig::Embedded(folder.path().to_owned())).await;
    let content = vec![7; 3 << 20];
    origin.deploy("site", &[("/small", b"small"), ("/large", &content)]).await;
    let damage = |content: &[u8], at: usize| {
        let path = object_file(folder.path(), &format!("blobs/{}", origin::bundle::Digest::of(content)));
        let mut bytes = fs::read(&path).expect("the blob");
        bytes[at] ^= 1;
        fs::write(&path, bytes).expect("it is damaged");
    };
    damage(b"small", 5);
    let reply = origin.get("/small", &[]).await;
    assert_eq!(
        (reply.status, reply.json()["code"].as_str()),
        (StatusCode::INTERNAL_SERVER_ERROR, Some("store/corrupt"))
    );

    damage(&content, 2 << 20);
    let url = format!("http://{}/large", origin.bound.listen);
    let client = Client::builder(TokioExecutor::new()).build_http();
    let request = Request::get(url).body(Empty::<Bytes>::new()).expect("a request");
    let body = client.request(request).await.expect("an answer").into_body();
    assert!(body.collect().await.is_err(), "the transfer must break off");
    let other_part = origin.get("/large", &[("range", "bytes=0-9")]).await;
    assert_eq!(other_part.body, content[..10], "what is not damaged can be read");
    origin.control.put_blob(&origin::bundle::Digest::of(b"small"), "small").await.expect("put again");
    assert_eq!(origin.get("/small", &[]).await.body, "small");
    origin.stop().await;
}

#[tokio::test]
async fn a_blob_that_is_another_than_its_name_is_not_served() {
    let folder = tempfile::tempdir().expect("a folder");
    let origin = Origin::start_on(StoreConfig::Embedded(folder.path().to_owned())).await;
    origin.deploy("site", &[("/a", b"right")]).await;
    let store = origin::server::open(&StoreConfig::Embedded(folder.path().to_owned()), clock()).await.expect("a store");
    let key = origin::deployment::blob_key(&origin::bundle::Digest::of(b"right"));
    let mode = origin::store::PutMode::Overwrite;
    store.put(&key, b"wrong".to_vec().into(), mode.clone(), Attributes::default()).await.expect("a put");
    let request = Request::get(format!("http://{}/a", origin.bound.listen)).body(Empty::<Bytes>::new());
    let client = Client::builder(TokioExecutor::new()).build_http();
    let answer = client.request(request.expect("a request")).await;
    let whole = match answer {
        Ok(response) => response.into_body().collect().await.is_ok(),
        Err(_) => false,
    };
    assert!(!whole, "the same length, other bytes");
    store.put(&key, b"longer".to_vec().into(), mode, Attributes::default()).await.expect("a put");
    assert_eq!(origin.get("/a", &[]).await.status, StatusCode::INTERNAL_SERVER_ERROR);
    origin.stop().await;
}

#[tokio::test]
async fn invalid_or_oversized_requests_are_refused() {
    let origin = Origin::start().await;
    let long = format!("GET / HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "y".repeat(100_000));
    assert!(raw(origin.bound.listen, long.as_bytes()).await.starts_with("HTTP/1.1 431 "));
    for junk in [
        "HELLO\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "GET /\0 HTTP/1.1\r\n\r\n",
        "\r\n\r\nGET",
        "GET / HTTP/1.1\r\na b: c\r\n\r\n",
    ] {
        let answer = raw(origin.bound.listen, junk.as_bytes()).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{junk:?}: {answer}");
    }
    assert_eq!(origin.get("/", &[]).await.status, StatusCode::NOT_FOUND, "it still serves");
    origin.stop().await;
}

#[tokio::test]
async fn http2_without_tls_is_spoken_too() {
    let origin = Origin::start().await;
    origin.deploy("site", &[("/a", b"asset")]).await;
    let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    for (method, length) in [("GET", 5), ("HEAD", 0)] {
        let url = format!("http://{}/a", origin.bound.listen);
        let request = Request::builder().method(method).uri(url).body(Empty::<Bytes>::new()).expect("a request");
        let response = client.request(request).await.expect("an answer");
        assert_eq!((response.version(), response.status()), (http::Version::HTTP_2, StatusCode::OK));
        assert_eq!(response.headers()["content-length"], "5");
        assert_eq!(response.into_body().collect().await.expect("a body").to_bytes().len(), length);
    }
    origin.stop().await;
}

#[tokio::test]
async fn a_drain_lets_an_open_request_finish_and_takes_no_new_connection() {
    let origin = Origin::start().await;
    let content = Bytes::from(vec![1; 32 << 20]);
    origin.control.put_object("large", content.clone(), &Attributes::default()).await.expect("a put");
    let (listen, admin) = (origin.bound.listen, origin.bound.admin);
    let client = Client::builder(TokioExecutor::new()).build_http();
    let request = Request::get(format!("http://{listen}/large")).body(Empty::<Bytes>::new()).expect("a request");
    let response = client.request(request).await.expect("an answer");
    let running = origin.ask_to_stop();
    while TcpStream::connect(listen).await.is_ok() || TcpStream::connect(admin).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert_eq!(response.into_body().collect().await.expect("the whole body").to_bytes(), content);
    running.await.expect("no panic").expect("no error");
}
