//! The cache in front of functions.

use std::collections::HashSet;
use std::path::Path;

use http::Method;
use tests::client::exchange;
use tests::fleet::{eventually, function};
use tests::{Fleet, Reply, get, send};

/// What a call answers, and how, stands in its query; the body is one that no other call has.
const SAYS: &str = r#"
export default {
  async fetch(request, env) {
    const url = new URL(request.url);
    const wait = Number(url.searchParams.get('wait') ?? 0);
    if (wait) await scheduler.wait(wait);
    if (url.searchParams.has('throw')) throw new Error('as it was told');
    const headers = JSON.parse(url.searchParams.get('headers') ?? '{"cache-control":"max-age=60"}');
    const said = request.method === 'POST' ? await request.text() : '';
    const tail = url.searchParams.get('tail') ?? '';
    return new Response(crypto.randomUUID() + said + tail, { status: Number(url.searchParams.get('status') ?? 200), headers });
  }
}
"#;

const ON: &str = r#""cache": { "enabled": true }"#;

fn says(folder: &Path, project: &str) -> Fleet {
    function(&folder.join("says"), project, &[("index.js", SAYS)]);
    Fleet::of(folder)
}

async fn ask(fleet: &Fleet, query: &str, headers: &[(&str, &str)]) -> Reply {
    get(fleet.pop("lhr"), &format!("/says/{query}"), headers).await
}

#[tokio::test]
async fn what_a_function_has_answered_answers_the_next_and_nothing_is_started_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let fleet = says(folder.path(), ON);
    let first = ask(&fleet, "", &[]).await;
    assert_eq!(first.header("cache-status"), "lhr/front; fwd=uri-miss; fwd-status=200; ttl=60; stored");
    assert!(first.header("server-timing").contains("function;dur="), "{}", first.header("server-timing"));
    assert!(first.header("server-timing").contains("front;desc=miss"), "{}", first.header("server-timing"));
    let second = ask(&fleet, "", &[]).await;
    assert_eq!(second.body, first.body);
    assert!(second.header("cache-status").starts_with("lhr/front; hit; ttl="), "{}", second.header("cache-status"));
    assert!(second.header("server-timing").contains("front;desc=hit"), "{}", second.header("server-timing"));
    assert!(!second.header("server-timing").contains("function;dur="), "{}", second.header("server-timing"));
    assert_ne!(second.header("age"), "");
    assert_eq!(second.header("content-length"), "36");
    assert_eq!(second.header("x-skerry-version"), first.header("x-skerry-version"));
    assert_ne!(ask(&fleet, "?other", &[]).await.body, first.body, "another URL");
    let head = send(fleet.pop("lhr"), Method::HEAD, "/says/", &[], "").await;
    assert_eq!((head.header("content-length"), head.body.len()), ("36", 0));
    let part = ask(&fleet, "", &[("range", "bytes=0-7")]).await;
    assert_eq!((part.status, &part.body[..]), (206, &first.body[..8]));
    let scrape = fleet.scrape("lhr").await;
    let front = |outcome| scrape.sum("skerry_cache_requests_total", &[("position", "front"), ("outcome", outcome)]);
    assert_eq!((front("miss"), front("hit")), (2.0, 3.0));
}

#[tokio::test]
async fn without_being_asked_for_there_is_no_cache_in_front() {
    let folder = tempfile::tempdir().unwrap();
    let fleet = says(folder.path(), "");
    let first = ask(&fleet, "", &[]).await;
    assert_eq!(first.header("cache-status"), "");
    assert_ne!(ask(&fleet, "", &[]).await.body, first.body);
}

#[tokio::test]
async fn a_route_may_have_another_cache_than_its_function() {
    let folder = tempfile::tempdir().unwrap();
    let project = folder.path().join("says");
    function(&project, "", &[("index.js", SAYS)]);
    let text = r#"{ "name": "says", "main": "index.js", "compatibility_date": "2026-11-24", "cache": { "enabled": true },
        "routes": ["*/says/*", { "pattern": "*/says/live/*", "cache": { "enabled": false } }] }"#;
    std::fs::write(project.join("wrangler.jsonc"), text).unwrap();
    let fleet = Fleet::of(folder.path());
    assert_eq!(ask(&fleet, "", &[]).await.body, ask(&fleet, "", &[]).await.body);
    assert_ne!(ask(&fleet, "live/", &[]).await.body, ask(&fleet, "live/", &[]).await.body);
}

#[tokio::test]
async fn only_what_the_rfc_lets_be_shared_is() {
    let folder = tempfile::tempdir().unwrap();
    let fleet = says(folder.path(), ON);
    for headers in [
        r#"{}"#,
        r#"{"cache-control":"no-store"}"#,
        r#"{"cache-control":"private, max-age=60"}"#,
        r#"{"cache-control":"max-age=60","set-cookie":"a=b"}"#,
        r#"{"cache-control":"max-age=60","vary":"*"}"#,
    ] {
        let query = format!("?headers={}", headers.replace('"', "%22").replace(' ', "%20"));
        assert_ne!(ask(&fleet, &query, &[]).await.body, ask(&fleet, &query, &[]).await.body, "{headers}");
    }
    let query = "?headers=%7B%22cdn-cache-control%22:%22max-age=60%22,%22cache-control%22:%22no-store%22%7D";
    assert_eq!(ask(&fleet, query, &[]).await.body, ask(&fleet, query, &[]).await.body, "targeted at CDNs");
    let token = [("authorization", "Bearer x")];
    assert_ne!(ask(&fleet, "?a", &token).await.body, ask(&fleet, "?a", &token).await.body, "asked for with a token");
    let vary = "?headers=%7B%22cache-control%22:%22max-age=60%22,%22vary%22:%22x-forwarded-for%22%7D";
    let from = |address| [("x-forwarded-for", address)];
    let one = ask(&fleet, vary, &from("1.2.3.4")).await;
    assert_eq!(ask(&fleet, vary, &from("1.2.3.4")).await.body, one.body);
}

#[tokio::test]
async fn a_thousand_clients_of_a_cold_page_are_one_call() {
    let folder = tempfile::tempdir().unwrap();
    let fleet = says(folder.path(), ON);
    let address = fleet.pop("lhr");
    let clients: Vec<_> =
        (0..1000).map(|_| tokio::spawn(async move { get(address, "/says/?wait=1500", &[]).await })).collect();
    let mut answers = HashSet::new();
    for client in clients {
        let reply = client.await.unwrap();
        assert_eq!(reply.status, 200, "{}", reply.text());
        answers.insert(reply.body);
    }
    assert_eq!(answers.len(), 1);
}

#[tokio::test]
async fn a_deploy_never_serves_what_the_version_before_has_answered_unless_it_may() {
    for (project, survives) in [(ON, false), (r#""cache": { "enabled": true, "cross_version": true }"#, true)] {
        let folder = tempfile::tempdir().unwrap();
        let fleet = says(folder.path(), project);
        let before = ask(&fleet, "", &[]).await;
        let slow = tokio::spawn(get(fleet.pop("lhr"), "/says/?wait=3000", &[]));
        // On its way before the deploy, which holds this thread.
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        let changed = SAYS.replace("as it was told", "otherwise");
        fleet.deploy(&function(&folder.path().join("says"), project, &[("index.js", &changed)]));
        let version = || async { ask(&fleet, "?probe", &[]).await.header("x-skerry-version").to_owned() };
        eventually("the new version is live", async || version().await != before.header("x-skerry-version")).await;
        assert_eq!(ask(&fleet, "", &[]).await.body == before.body, survives, "{project}");
        let old = slow.await.unwrap();
        assert_eq!(ask(&fleet, "?wait=3000", &[]).await.body == old.body, survives, "{project}: filled meanwhile");
    }
}

#[tokio::test]
async fn cohort_country_cookie_and_header_keep_apart_only_where_they_are_declared() {
    let folder = tempfile::tempdir().unwrap();
    let key = r#""cache": { "enabled": true, "key": ["cohort:AB", "country", "cookie:theme", "header:x-kind"] },
        "cohorts": [{ "binding": "AB", "experiment": "e", "cohorts": { "a": 1, "b": 1 } }]"#;
    let fleet = says(folder.path(), key);
    let of = |cookie: &'static str, kind: &'static str| {
        let fleet = &fleet;
        async move { ask(fleet, "", &[("cookie", cookie), ("x-kind", kind)]).await.body }
    };
    let plain = of("", "").await;
    assert_eq!(of("session=1", "").await, plain, "an undeclared cookie");
    assert_ne!(of("theme=dark", "").await, plain);
    assert_eq!(of("theme=dark; x=y", "").await, of("theme=dark", "").await);
    assert_ne!(of("", "k").await, plain);
    assert_eq!(of("", "k").await, of("", "k").await);
    let mut answers = HashSet::new();
    for client in 0..32 {
        let cookie: &'static str = Box::leak(format!("skerry-client=client{client}").into_boxed_str());
        answers.insert(of(cookie, "").await);
    }
    assert_eq!(answers.len(), 2, "one for each cohort");
    assert!(!answers.contains(&plain), "who has no cohort yet is another");
}

#[tokio::test]
async fn a_cookie_line_with_an_odd_byte_is_not_stored_for_those_without_a_cookie() {
    let folder = tempfile::tempdir().unwrap();
    let key = r#""cache": { "enabled": true, "key": ["cookie:theme", "cohort:AB"] },
        "cohorts": [{ "binding": "AB", "experiment": "e", "cohorts": { "a": 1 } }]"#;
    let fleet = says(folder.path(), key);
    for cookie in ["theme=evil", "skerry-client=evil"] {
        let mut odd = format!("GET /says/?{cookie} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nCookie: {cookie}; x=")
            .into_bytes();
        odd.extend_from_slice(b"\xff\r\n\r\n");
        let poisoned = exchange(fleet.pop("lhr"), odd).await;
        assert_eq!(poisoned.field("cache-status").split(';').nth(1), Some(" fwd=uri-miss"), "{}", poisoned.head);
        let plain = ask(&fleet, &format!("?{cookie}"), &[("host", "a")]).await;
        assert_ne!(plain.text(), poisoned.text());
        let same = ask(&fleet, &format!("?{cookie}"), &[("host", "a"), ("cookie", cookie)]).await;
        assert_eq!(same.text(), poisoned.text(), "the odd byte is in another cookie");
    }
}

#[tokio::test]
async fn a_failure_is_the_clients_as_without_the_cache_and_is_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let fleet = says(folder.path(), r#""cache": { "enabled": true }, "limits": { "cpu_ms": 20 }"#);
    let failed = ask(&fleet, "?throw", &[]).await;
    assert_eq!((failed.status, failed.header("x-skerry-error")), (500, "function/threw"));
    assert!(failed.header("server-timing").contains("function;dur="), "{}", failed.header("server-timing"));
    let scrape = fleet.scrape("lhr").await;
    assert_eq!(scrape.sum("skerry_function_failures_total", &[("function", "says")]), 1.0);
    assert_eq!(ask(&fleet, "?throw", &[]).await.status, 500);
    let scrape = fleet.scrape("lhr").await;
    assert_eq!(scrape.sum("skerry_function_failures_total", &[("function", "says")]), 2.0, "it was not kept");
}

#[tokio::test]
async fn a_stale_answer_may_stand_in_for_a_function_that_fails() {
    let folder = tempfile::tempdir().unwrap();
    let source = "let calls = 0; export default { fetch() { if (calls++) throw new Error('from now on'); \
                  return new Response('good', { headers: { 'cache-control': 'max-age=1, stale-if-error=60' } }) } }";
    function(&folder.path().join("says"), ON, &[("index.js", source)]);
    let fleet = Fleet::of(folder.path());
    let pop = tests::Lone::before(fleet.origin(), fleet, &[("--workers", "1")]).await;
    assert_eq!(get(pop.address, "/says/", &[]).await.text(), "good");
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    let stale = get(pop.address, "/says/", &[]).await;
    assert_eq!((stale.status, stale.text()), (200, "good".to_owned()));
    assert!(stale.header("cache-status").contains("detail=stale-if-error"), "{}", stale.header("cache-status"));
}

#[tokio::test]
async fn what_stands_in_for_a_function_that_failed_is_not_kept_as_its_answer() {
    let folder = tempfile::tempdir().unwrap();
    let origin = tests::Stub::start(|_| {
        http::Response::builder().header("cache-control", "max-age=60").body("from the origin".to_owned()).unwrap()
    })
    .await;
    let source = "let calls = 0; export default { fetch(request) { if (new URL(request.url).searchParams.has('throw') && calls++ < 1) \
                  throw new Error('once'); return new Response('from the function', { headers: { 'cache-control': 'max-age=60' } }) } }";
    let project = r#""cache": { "enabled": true }, "on_failure": "origin""#;
    function(&folder.path().join("says"), project, &[("index.js", source)]);
    let fleet = Fleet::of(folder.path());
    let pop = tests::Lone::before(origin.address, fleet, &[("--workers", "1")]).await;
    assert_eq!(get(pop.address, "/says/?throw", &[]).await.text(), "from the origin");
    assert_eq!(get(pop.address, "/says/?throw", &[]).await.text(), "from the function");
    assert_eq!(get(pop.address, "/says/?throw", &[]).await.text(), "from the function");
}

#[tokio::test]
async fn an_unsafe_method_that_works_makes_the_page_be_asked_for_anew() {
    let folder = tempfile::tempdir().unwrap();
    let fleet = says(folder.path(), ON);
    let before = ask(&fleet, "", &[]).await;
    let posted = send(fleet.pop("lhr"), Method::POST, "/says/", &[], "some words").await;
    assert!(posted.text().ends_with("some words"), "{}", posted.text());
    assert_ne!(ask(&fleet, "", &[]).await.body, before.body);
}

#[tokio::test]
async fn what_has_grown_stale_is_sent_and_brought_up_to_date_behind_the_clients_back() {
    let folder = tempfile::tempdir().unwrap();
    let fleet = says(folder.path(), ON);
    let query = "?headers=%7B%22cache-control%22:%22max-age=1,stale-while-revalidate=60%22%7D";
    let first = ask(&fleet, query, &[]).await;
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    let stale = ask(&fleet, query, &[]).await;
    assert_eq!(stale.body, first.body);
    assert!(stale.header("cache-status").contains("detail=stale-while-revalidate"), "{}", stale.header("cache-status"));
    eventually("the new answer is there", async || ask(&fleet, query, &[]).await.body != first.body).await;
}

#[tokio::test]
async fn whatever_a_request_pretends_to_be_keeps_its_answer_from_others() {
    let folder = tempfile::tempdir().unwrap();
    let fleet = says(folder.path(), ON);
    let poisoned = ask(&fleet, "", &[("x-forwarded-host", "evil.example")]).await;
    let clean = ask(&fleet, "", &[]).await;
    assert_ne!(clean.body, poisoned.body);
    let fat = send(fleet.pop("lhr"), Method::GET, "/says/", &[], "a body").await;
    assert_ne!(fat.body, clean.body);
    assert_eq!(ask(&fleet, "", &[]).await.body, clean.body);
}

#[tokio::test]
async fn what_is_wrong_with_the_key_is_said_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let fleet = says(folder.path(), "");
    for (project, says) in [
        (r#""cache": true"#, "expected an object"),
        (r#""cache": {}"#, "the key \"enabled\" is missing"),
        (r#""cache": { "enabled": "yes" }"#, "expected true or false"),
        (r#""cache": { "enabled": true, "keys": [] }"#, "key"),
        (r#""cache": { "enabled": true, "key": ["city"] }"#, "\"city\" is nothing to keep answers apart by"),
        (r#""cache": { "enabled": true, "key": ["country", "country"] }"#, "\"country\" is there twice"),
        (r#""cache": { "enabled": true, "key": ["cohort:none"] }"#, "there is no cohort binding \"none\""),
    ] {
        let bad = function(&folder.path().join("bad"), project, &[("index.js", SAYS)]);
        let error = fleet.fails(&["deploy", bad.to_str().unwrap()]);
        assert!(error.contains(says) && error.contains("wrangler.jsonc:1:"), "{project}: {error}");
    }
}
