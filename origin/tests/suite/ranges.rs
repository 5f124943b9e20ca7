//! Parts of objects, and objects larger than anybody wants in memory.

use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use origin::client::Upload;
use origin::server::StoreConfig;
use origin::store::{Attributes, Body};

use crate::harness::Origin;

const CONTENT: &[u8] = b"0123456789abcdefghij";
const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

async fn start() -> Origin {
    let origin = Origin::start().await;
    origin.deploy("site", &[("/asset", CONTENT)]).await;
    origin.control.put_object("user", CONTENT, &Attributes::default()).await.expect("a put");
    origin
}

#[tokio::test]
async fn one_range_is_a_part_and_none_is_416() {
    let origin = start().await;
    for path in ["/asset", "/user"] {
        let cases = [
            ("bytes=0-3", "bytes 0-3/20", "0123"),
            ("bytes=18-", "bytes 18-19/20", "ij"),
            ("bytes=-3", "bytes 17-19/20", "hij"),
            ("bytes=5-100", "bytes 5-19/20", "56789abcdefghij"),
            ("bytes=0-1,2-3", "bytes 0-3/20", "0123"),
            ("bytes=3-4,100-", "bytes 3-4/20", "34"),
        ];
        for (range, content_range, body) in cases {
            let reply = origin.get(path, &[("range", range)]).await;
            assert_eq!((reply.status, &reply.body[..]), (StatusCode::PARTIAL_CONTENT, body.as_bytes()), "{range}");
            assert_eq!(reply.header("content-range"), content_range);
            assert_eq!(reply.header("content-length"), body.len().to_string());
            assert!(reply.headers.contains_key("etag") && reply.headers.contains_key("last-modified"));
        }
        for range in ["bytes=20-", "bytes=-0", "bytes=100-200,300-"] {
            let reply = origin.get(path, &[("range", range)]).await;
            assert_eq!(
                (reply.status, reply.header("content-range")),
                (StatusCode::RANGE_NOT_SATISFIABLE, "bytes */20")
            );
        }
        for range in ["bytes=4-3", "bytes=x", "lines=1-2", "bytes=0-18,1-19", "bytes=0-8,10-19,9-9"] {
            let reply = origin.get(path, &[("range", range)]).await;
            assert!(reply.body == CONTENT, "{range}: {reply:?}");
        }
        let head = origin.public(Method::HEAD, path, &[("range", "bytes=0-3")]).await;
        assert_eq!((head.status, head.header("content-length")), (StatusCode::OK, "20"));
    }
    origin.stop().await;
}

#[tokio::test]
async fn several_ranges_come_as_parts_of_one_body() {
    let origin = start().await;
    for path in ["/asset", "/user"] {
        let reply = origin.get(path, &[("range", "bytes=-2, 0-3 ,7-7")]).await;
        assert_eq!(reply.status, StatusCode::PARTIAL_CONTENT);
        let kind = reply.header("content-type");
        let boundary = kind.strip_prefix("multipart/byteranges; boundary=").expect("a multipart body");
        assert!(!reply.headers.contains_key("content-range"));
        assert_eq!(reply.header("content-length"), reply.body.len().to_string());
        let body = std::str::from_utf8(&reply.body).expect("text");
        let parts: Vec<&str> = body.split(&format!("\r\n--{boundary}")).collect();
        assert_eq!((parts[0], parts[4], parts.len()), ("", "--\r\n", 5));
        let whole = origin.get(path, &[]).await;
        for (part, (range, content)) in parts[1..4].iter().zip([("18-19", "ij"), ("0-3", "0123"), ("7-7", "7")]) {
            let (head, content_found) = part.split_once("\r\n\r\n").expect("a head and a body");
            assert_eq!(content_found, content);
            assert!(head.contains(&format!("Content-Range: bytes {range}/20")), "{head}");
            assert!(head.contains(&format!("Content-Type: {}", whole.header("content-type"))), "{head}");
        }
    }
    origin.stop().await;
}

#[tokio::test]
async fn a_part_is_sent_only_of_the_object_the_client_began() {
    let origin = start().await;
    for path in ["/asset", "/user"] {
        let etag = origin.get(path, &[]).await.header("etag").to_owned();
        let status = async |if_range: &str| {
            let headers = [("range", "bytes=0-0"), ("if-range", if_range)];
            origin.get(path, &headers).await.status.as_u16()
        };
        assert_eq!(status(&etag).await, 206);
        assert_eq!(status("\"other\"").await, 200);
        assert_eq!(status(&format!("W/{etag}")).await, 200);
        assert_eq!(status("Sun, 06 Nov 1994 08:49:36 GMT").await, 200);
    }
    let date = [("range", "bytes=0-0"), ("if-range", DATE)];
    assert_eq!(origin.get("/asset", &date).await.status.as_u16(), 200, "changed in this very second");
    origin.advance(Duration::from_secs(2));
    assert_eq!(origin.get("/asset", &date).await.status.as_u16(), 206);
    origin.stop().await;
}

#[tokio::test]
async fn an_empty_object_has_no_ranges() {
    let origin = Origin::start().await;
    origin.deploy("site", &[("/empty", b"")]).await;
    let reply = origin.get("/empty", &[]).await;
    assert_eq!((reply.status, reply.header("content-length")), (StatusCode::OK, "0"));
    assert_eq!(origin.get("/empty", &[("range", "bytes=0-")]).await.status, StatusCode::RANGE_NOT_SATISFIABLE);
    origin.stop().await;
}

#[tokio::test]
async fn a_large_object_streams_in_and_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let origin = Origin::start_on(StoreConfig::Embedded(folder.path().to_owned())).await;
    let chunk = Bytes::from((0..1_000_003_u32).map(|i| ((i * 31) >> 4) as u8).collect::<Vec<_>>());
    let count = 64;
    let size = (chunk.len() * count) as u64;
    let chunks = stream::iter(vec![chunk.clone(); count].into_iter().map(Ok));
    let upload = Upload { size: Some(size), body: Body::new(chunks) };
    let written = origin.control.put_object("large", upload, &Attributes::default()).await.expect("a put");
    assert_eq!(written.size, size);
    let url = format!("http://{}/large", origin.bound.listen);
    let client = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new()).build_http();
    let request = http::Request::get(url).body(http_body_util::Empty::<Bytes>::new()).expect("a request");
    let mut body = client.request(request).await.expect("an answer").into_body();
    let mut at = 0;
    while let Some(frame) = body.frame().await {
        let data = frame.expect("no error").into_data().expect("data");
        for byte in data {
            assert_eq!(byte, chunk[at % chunk.len()]);
            at += 1;
        }
    }
    assert_eq!(at as u64, size);
    let part = origin.get("/large", &[("range", "bytes=1000002-1000003")]).await;
    assert_eq!(part.body, [chunk[1_000_002], chunk[0]][..]);
    origin.stop().await;
}
