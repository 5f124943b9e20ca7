use http::Method;
use rustix::process::Signal;
use tests::{Fleet, eventually, get, send};

const LOGO: &str = "/site/logo.png";

#[tokio::test]
async fn objects_come_from_the_cache_after_the_first_time() {
    let fleet = Fleet::start();
    let pop = fleet.pop("lhr");
    let miss = get(pop, LOGO, &[]).await;
    assert_eq!((miss.status, miss.header("content-type")), (200, "image/png"));
    assert!(
        miss.header("cache-status").contains("fwd=uri-miss") && miss.header("cache-status").contains("stored"),
        "{}",
        miss.header("cache-status")
    );
    let original = std::fs::read(tests::fleet::examples().join("site/public/site/logo.png")).unwrap();
    assert_eq!(miss.body, original);

    let before = fleet.origin_requests().await;
    let hit = get(pop, LOGO, &[]).await;
    assert!(hit.header("cache-status").starts_with("lhr; hit"), "{}", hit.header("cache-status"));
    assert_eq!(hit.body, original);
    assert!(hit.header("age").parse::<u32>().is_ok());
    let etag = hit.header("etag").to_owned();
    assert!(etag.starts_with('"'), "{etag}");

    let same = get(pop, LOGO, &[("if-none-match", &etag)]).await;
    assert_eq!((same.status, same.body.len()), (304, 0));
    let other = get(pop, LOGO, &[("if-none-match", "\"other\"")]).await;
    assert_eq!(other.status, 200);
    let modified = get(pop, LOGO, &[("if-modified-since", hit.header("last-modified"))]).await;
    assert_eq!(modified.status, 304);

    let part = get(pop, LOGO, &[("range", "bytes=10-19")]).await;
    assert_eq!((part.status, &part.body[..]), (206, &original[10..20]));
    assert_eq!(part.header("content-range"), format!("bytes 10-19/{}", original.len()));
    let tail = get(pop, LOGO, &[("range", "bytes=-5")]).await;
    assert_eq!(&tail.body[..], &original[original.len() - 5..]);
    let beyond = get(pop, LOGO, &[("range", "bytes=999999-")]).await;
    assert_eq!((beyond.status, beyond.header("content-range")), (416, format!("bytes */{}", original.len()).as_str()));
    let head = send(pop, Method::HEAD, LOGO, &[], "").await;
    assert_eq!(
        (head.status, head.header("content-length"), head.body.len()),
        (200, original.len().to_string().as_str(), 0)
    );
    assert_eq!(fleet.origin_requests().await, before, "all of that came from the cache");
}

#[tokio::test]
async fn what_is_fresh_is_served_without_the_origin() {
    let fleet = Fleet::start();
    let pop = fleet.pop("iad");
    assert_eq!(get(pop, LOGO, &[]).await.status, 200);
    fleet.signal("origin", Signal::TERM);
    let origin = fleet.origin();
    eventually("the origin is stopped", async || tokio::net::TcpStream::connect(origin).await.is_err()).await;
    let hit = get(pop, LOGO, &[]).await;
    assert!(hit.status == 200 && hit.header("cache-status").contains("hit"), "{hit:?}");
    assert_eq!(get(pop, "/hello", &[]).await.status, 200, "functions need no origin");
    let missing = get(pop, "/site/style.css", &[]).await;
    assert_eq!((missing.status, missing.header("x-skerry-error")), (502, "origin/unreachable"));
    assert_eq!(missing.json()["code"], "origin/unreachable");
}

#[tokio::test]
async fn many_clients_of_a_cold_object_cost_the_origin_one_request() {
    let fleet = Fleet::start();
    let pop = fleet.pop("nrt");
    let before = fleet.origin_requests().await;
    let asked: Vec<_> =
        (0..50).map(|_| tokio::spawn(async move { get(pop, "/site/index.html", &[]).await.status })).collect();
    for status in asked {
        assert_eq!(status.await.unwrap(), 200);
    }
    assert_eq!(fleet.origin_requests().await, before + 1);
}

#[tokio::test]
async fn whoever_has_received_an_object_finds_it_in_the_cache() {
    let fleet = Fleet::with(&tests::Options { pops: "lhr=0", ..tests::Options::default() });
    let pop = fleet.pop("lhr");
    for name in ["logo.png", "index.html", "style.css"] {
        let path = format!("/site/{name}");
        for query in 0..20 {
            let path = format!("{path}?{query}");
            assert!(get(pop, &path, &[]).await.header("cache-status").contains("fwd=uri-miss"));
            let again = get(pop, &path, &[]).await.header("cache-status").to_owned();
            assert!(again.starts_with("lhr; hit"), "{path}: {again}");
        }
    }
}
