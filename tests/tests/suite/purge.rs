//! Purges: `skerry purge`, the log behind it, and the PoPs that follow it. What they purge comes from a stub that counts.

mod own;
mod push;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::Response;
use rustix::process::Signal;
use serde_json::Value;
use tests::fleet::function;
use tests::{Fleet, Lone, Options, Reply, Stub, eventually, get};

const POPS: [&str; 3] = ["lhr", "iad", "nrt"];
const PATHS: [&str; 4] = ["/a/1", "/a/2", "/b/1", "/b/2"];

/// A function that fetches a page of the stub, through the cache behind it.
fn via(folder: &Path, stub: &Stub) {
    let source = format!(
        "export default {{ fetch: (request) => fetch('http://{}/' + new URL(request.url).pathname.slice(5)) }}",
        stub.address
    );
    function(&folder.join("via"), "", &[("index.js", &source)]);
}

/// Pages that stay fresh for an hour, with the tags `t` and their number; and how many requests for them asked whether they
/// have changed.
async fn pages() -> (Stub, Arc<AtomicUsize>) {
    let conditional = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&conditional);
    let stub = Stub::start(move |request| {
        let page = Response::builder()
            .header("cache-control", "max-age=3600")
            .header("etag", "\"e\"")
            .header("cache-tag", format!("T, n{}", request.uri().path().rsplit('/').next().unwrap_or_default()));
        if request.headers().contains_key("if-none-match") {
            counter.fetch_add(1, Ordering::Relaxed);
            return page.status(304).body(String::new()).expect("a response");
        }
        page.body("page".to_owned()).expect("a response")
    });
    (stub.await, conditional)
}

async fn page(address: std::net::SocketAddr, path: &str) -> Reply {
    let reply = get(address, &format!("/via{path}"), &[]).await;
    assert_eq!((reply.status, reply.text().as_str()), (200, "page"));
    reply
}

async fn three(stub: &Stub) -> Fleet {
    let folder = tempfile::tempdir().expect("a folder");
    via(folder.path(), stub);
    let more = vec!["--allow-fetch".to_owned(), "127.0.0.1/32".to_owned()];
    Fleet::with(&Options { functions: Some(folder.path().to_owned()), more, ..Options::default() })
}

async fn every_page(fleet: &Fleet) {
    for pop in POPS {
        for path in PATHS {
            page(fleet.pop(pop), path).await;
        }
    }
}

fn asked(stub: &Stub) -> usize {
    stub.seen.lock().expect("no panic holds this").len()
}

fn purge(fleet: &Fleet, what: &[&str]) -> Value {
    let json = fleet.ok(&[&["purge", "--json", "--wait", "20s"], what].concat());
    serde_json::from_str(&json).expect("JSON")
}

#[tokio::test]
async fn each_scope_purges_what_it_names_on_every_pop_and_nothing_else() {
    let (stub, conditional) = pages().await;
    let fleet = three(&stub).await;
    every_page(&fleet).await;
    let host = stub.address.to_string();
    let (one, two, prefix) = (format!("http://{host}/a/1"), format!("https://{host}/b/2"), format!("{host}/a/"));
    let mut last = 0;
    for (what, pages) in [
        (vec![one.as_str()], 1),
        (vec![&one, &two], 2),
        (vec!["--prefix", &prefix], 2),
        (vec!["--host", &host], 4),
        (vec!["--tag", "N2"], 2),
        (vec!["--tag", "t"], 4),
        (vec!["--tag", "absent"], 0),
        (vec!["--tag", "n1", "--prefix", &prefix, "--tag", "absent"], 3),
        (vec!["--everything"], 4),
    ] {
        for soft in [false, true] {
            every_page(&fleet).await;
            let before = (asked(&stub), conditional.load(Ordering::Relaxed));
            let receipt = purge(&fleet, &[&what[..], if soft { &["--soft"] } else { &[] }].concat());
            every_page(&fleet).await;
            let after = (asked(&stub), conditional.load(Ordering::Relaxed));
            assert_eq!(after.0 - before.0, 3 * pages, "{what:?}, soft: {soft}");
            assert_eq!(after.1 - before.1, if soft { 3 * pages } else { 0 }, "{what:?}, soft: {soft}");
            let number = receipt["number"].as_u64().expect("a number");
            assert!(number > last && receipt["confirmed"] == true, "{receipt}");
            let named: Vec<&str> =
                receipt["pops"].as_array().unwrap().iter().map(|p| p["pop"].as_str().unwrap()).collect();
            assert_eq!(named, ["iad", "lhr", "nrt"]);
            last = number;
        }
    }
    let pops: Value = serde_json::from_str(&fleet.ok(&["pops", "--json"])).expect("JSON");
    for pop in pops.as_array().expect("PoPs") {
        assert_eq!(
            (&pop["purge"], &pop["purged"], &pop["fenced"]),
            (&last.into(), &true.into(), &false.into()),
            "{pop}"
        );
    }
    let scrape = fleet.scrape("nrt").await;
    assert_eq!(scrape.sum("skerry_purge_number", &[]), last as f64);
    assert_eq!(scrape.sum("skerry_purges_total", &[("scope", "url"), ("mode", "soft")]), 3.0);
    assert_eq!(scrape.sum("skerry_purge_log_length", &[]), 24.0);
    assert_eq!(scrape.sum("skerry_purge_fenced", &[]), 0.0);
    let text = fleet.ok(&["purge", &one]);
    assert!(text.contains("1 purge: gone") && text.contains("nrt") && text.contains(" ms"), "{text}");
}

#[tokio::test]
async fn what_cannot_be_purged_is_refused_by_name_and_nothing_is() {
    let fleet = Fleet::with(&Options { functions: None, ..Options::default() });
    let (long_tag, long_url) = ("x".repeat(1025), format!("https://h/{}", "x".repeat(8192)));
    let many: Vec<String> = (0..101).map(|n| format!("https://h/{n}")).collect();
    let many: Vec<&str> = std::iter::once("purge").chain(many.iter().map(String::as_str)).collect();
    for (arguments, named) in [
        (&["purge"][..], "nothing to purge"),
        (&["purge", "/a/b"], "URL"),
        (&["purge", "http://"], "URL"),
        (&["purge", "https://h/a", "ftp://h/a"], "ftp://h/a"),
        (&["purge", &long_url], "8192"),
        (&["purge", "--tag", ""], "--tag"),
        (&["purge", "--tag", "fine", "--tag", "not fine"], "not fine"),
        (&["purge", "--tag", &long_tag], "1024"),
        (&["purge", "--prefix", "h"], "--prefix"),
        (&["purge", "--host", "*.h"], "--host"),
        (&["purge", "--everything", "--tag", "x"], "--everything"),
        (&["purge", "--tag", "x", "--wait", "31s"], "--wait"),
        (&many, "100"),
    ] {
        let output = fleet.cli(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {errors}");
        assert!(errors.contains(named), "{arguments:?}: {errors}");
    }
    let authorization = fleet.authorization();
    let post = async |body: &str, authorization: &str| {
        tests::send(
            fleet.admin(),
            http::Method::POST,
            "/v1/purges",
            &[("authorization", authorization)],
            body.to_owned(),
        )
        .await
    };
    for (body, named) in [
        (r#"{"tags": ["fine", ""]}"#, "tags"),
        (r#"{"files": ["https://h/", "x"]}"#, "files"),
        (r#"{"tag": ["x"]}"#, "tag"),
        (r#"{"tags": "x"}"#, "a sequence at line 1 column"),
        ("{}", "purge_everything"),
        ("[", "body"),
    ] {
        let reply = post(body, &authorization).await;
        assert!(reply.status == 400 && reply.text().contains(named), "{body}: {}", reply.text());
    }
    assert_eq!(post(r#"{"purge_everything": true}"#, "Bearer wrong").await.status, 401);
    let reply = get(fleet.admin(), "/v1/purges", &[("authorization", &authorization)]).await.json();
    assert_eq!((&reply["length"], &reply["recent"]), (&0.into(), &Value::Array(Vec::new())), "nothing half-applied");
}

#[tokio::test]
async fn a_pop_that_was_away_is_named_and_never_serves_what_was_purged() {
    let (stub, _) = pages().await;
    let fleet = three(&stub).await;
    every_page(&fleet).await;
    let url = format!("http://{}/a/1", stub.address);
    // Stopped, it has everything when it goes on.
    fleet.signal("lhr", Signal::STOP);
    let output = fleet.cli(&["purge", "--json", "--wait", "500ms", &url]);
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stderr).contains("by lhr:"), "{output:?}");
    let receipt: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let done =
        |name: &str| receipt["pops"].as_array().unwrap().iter().find(|p| p["pop"] == name).unwrap()["done_ms"].clone();
    assert!(receipt["confirmed"] == false && done("lhr").is_null() && done("iad").is_u64() && done("nrt").is_u64());
    fleet.signal("lhr", Signal::CONT);
    let number = receipt["number"].as_f64().expect("a number");
    eventually("lhr has caught up", async || fleet.scrape("lhr").await.sum("skerry_purge_number", &[]) == number).await;
    let before = asked(&stub);
    every_page(&fleet).await;
    assert_eq!(asked(&stub) - before, 3);
    // Killed, it has to begin with the log.
    fleet.signal("lhr", Signal::KILL);
    purge(&fleet, &["--tag", "t"]);
    eventually("lhr is back", async || {
        let up = tests::client::try_send(fleet.pop("lhr"), http::Method::GET, "/.skerry/health", &[], "").await;
        up.is_ok_and(|up| up.status == 200)
    })
    .await;
    let scrape = fleet.scrape("lhr").await;
    assert!(scrape.sum("skerry_purges_total", &[("scope", "tag")]) >= 1.0, "the log was replayed before it served");
    let before = asked(&stub);
    every_page(&fleet).await;
    assert_eq!(asked(&stub) - before, 12);
}

#[tokio::test]
async fn a_response_that_is_under_way_when_its_page_is_purged_is_not_kept() {
    let stub = Stub::after(Duration::from_millis(700), |_| {
        Response::builder().header("cache-control", "max-age=3600").body("page".to_owned()).expect("a response")
    })
    .await;
    let fleet = three(&stub).await;
    let lhr = fleet.pop("lhr");
    let fill = tokio::spawn(async move { page(lhr, "/a/1").await });
    eventually("the request is under way", async || asked(&stub) == 1).await;
    let authorization = fleet.authorization();
    let body = format!(r#"{{"files": ["http://{}/a/1"], "wait_ms": 20000}}"#, stub.address);
    let fields = [("authorization", authorization.as_str())];
    let receipt = tests::send(fleet.admin(), http::Method::POST, "/v1/purges", &fields, body).await;
    assert!(receipt.status == 200 && !receipt.text().contains("null"), "{}", receipt.text());
    fill.await.expect("an answer");
    page(lhr, "/a/1").await;
    page(lhr, "/a/1").await;
    assert_eq!(asked(&stub), 2);
}

#[tokio::test]
async fn an_origin_killed_right_after_it_has_acknowledged_loses_nothing() {
    let fleet = Fleet::with(&Options { functions: None, ..Options::default() });
    let authorization = fleet.authorization();
    let fields = [("authorization", authorization.as_str())];
    let mut numbers = Vec::new();
    for round in 0..4 {
        for n in 0..=round {
            let body = format!(r#"{{"tags": ["r{round}-{n}"]}}"#);
            let sent = tests::client::try_send(fleet.admin(), http::Method::POST, "/v1/purges", &fields, body).await;
            let receipt = sent.expect("an answer");
            assert_eq!(receipt.status, 200, "{}", receipt.text());
            numbers.push(receipt.json()["number"].as_u64().expect("a number"));
        }
        fleet.signal("origin", Signal::KILL);
        eventually("the origin is back", async || {
            let answer = tests::client::try_send(fleet.admin(), http::Method::GET, "/v1/purges", &fields, "").await;
            answer.is_ok_and(|answer| answer.status == 200)
        })
        .await;
    }
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    let body = r#"{"pop": "reader", "number": 0}"#;
    let log = tests::send(fleet.admin(), http::Method::POST, "/v1/purges/poll", &fields, body).await.json();
    let kept: Vec<u64> =
        log["batches"].as_array().unwrap().iter().map(|batch| batch["number"].as_u64().unwrap()).collect();
    assert_eq!(kept, numbers);
    let last = *numbers.last().expect("some") as f64;
    for pop in POPS {
        eventually("each PoP has them all", async || fleet.scrape(pop).await.sum("skerry_purge_number", &[]) == last)
            .await;
    }
}

#[tokio::test]
async fn a_pop_that_cannot_reach_the_log_validates_what_it_has_until_it_can() {
    let (stub, conditional) = pages().await;
    let folder = tempfile::tempdir().expect("a folder");
    via(folder.path(), &stub);
    let more = [("--purge-fence", "1s"), ("--allow-fetch", "127.0.0.1/32")];
    let lone = Lone::before(stub.address, Fleet::of(folder.path()), &more).await;
    page(lone.address, "/a/1").await;
    page(lone.address, "/a/1").await;
    assert_eq!((asked(&stub), conditional.load(Ordering::Relaxed)), (1, 0));
    lone.fleet.signal("origin", Signal::STOP);
    eventually("it is fenced", async || {
        page(lone.address, "/a/1").await;
        conditional.load(Ordering::Relaxed) > 0
    })
    .await;
    let before = conditional.load(Ordering::Relaxed);
    page(lone.address, "/a/1").await;
    assert_eq!(conditional.load(Ordering::Relaxed), before + 1, "each time");
    lone.fleet.signal("origin", Signal::CONT);
    eventually("it has caught up", async || {
        let before = asked(&stub);
        page(lone.address, "/a/1").await;
        asked(&stub) == before
    })
    .await;
    assert_eq!(asked(&stub), 1 + conditional.load(Ordering::Relaxed), "what it had is still good");
}
