//! What is stored, for how long, for whom.

use std::sync::{Arc, Mutex};

use cache::{Bypass, Config, Key, Outcome};
use http::Method;
use http::request::Parts;

use crate::support::*;

const URI: &str = "http://example.com/a";

#[tokio::test]
async fn a_miss_is_stored_and_the_next_request_is_a_hit_with_its_age() {
    let world = World::new();
    let first = world.get(URI, Reply::fresh("hello").with("etag", "\"1\"")).await;
    assert_eq!((first.status, first.text(), first.outcome), (200, "hello", Outcome::Miss));
    assert_eq!(first.cache_status(), "lhr; fwd=uri-miss; fwd-status=200; ttl=60; stored");
    world.pass(3);
    let second = world.get(URI, Reply::never()).await;
    assert_eq!((second.status, second.text(), second.outcome), (200, "hello", Outcome::Hit));
    assert_eq!(second.header("age"), "3");
    assert_eq!(second.header("content-length"), "5");
    assert_eq!(second.header("etag"), "\"1\"");
    assert!(!second.header("date").is_empty());
    assert_eq!(second.cache_status(), "lhr; hit; ttl=57");
    assert_eq!(world.asked(), 1);
}

#[tokio::test]
async fn the_age_that_upstream_tells_counts_and_its_cache_status_comes_first() {
    let world = World::new();
    let reply = Reply::fresh("x").with("age", "50").with("cache-status", "shield; hit");
    assert_eq!(world.get(URI, reply).await.header("age"), "50");
    world.pass(5);
    let hit = world.get(URI, Reply::never()).await;
    assert_eq!(hit.header("age"), "55");
    assert_eq!(hit.cache_status(), "shield; hit, lhr; hit; ttl=5");
    world.pass(5);
    assert_eq!(world.get(URI, Reply::fresh("y")).await.outcome, Outcome::Miss);
}

#[tokio::test]
async fn every_line_of_a_repeated_field_survives() {
    let world = World::new();
    world.get(URI, Reply::fresh("x").with("link", "<a>").with("link", "<b>")).await;
    let hit = world.get(URI, Reply::never()).await;
    assert_eq!(hit.headers.get_all("link").iter().collect::<Vec<_>>(), ["<a>", "<b>"]);
}

#[tokio::test]
async fn a_stale_response_is_validated_and_a_304_freshens_it() {
    let world = World::new();
    let reply = Reply::fresh("hello").with("etag", "\"1\"").with("last-modified", "Tue, 15 Nov 1994 12:45:26 GMT");
    world.get(URI, reply.with("x-version", "1")).await;
    world.pass(60);
    let confirmed =
        Reply::new(304, "").with("etag", "\"1\"").with("cache-control", "max-age=10").with("x-version", "2");
    let second = world.get(URI, confirmed).await;
    assert_eq!(world.asked_with("if-none-match").as_deref(), Some("\"1\""));
    assert_eq!(world.asked_with("if-modified-since").as_deref(), Some("Tue, 15 Nov 1994 12:45:26 GMT"));
    assert_eq!((second.status, second.text(), second.outcome), (200, "hello", Outcome::Revalidated));
    assert_eq!((second.header("x-version"), second.header("age")), ("2", "0"));
    assert_eq!(second.cache_status(), "lhr; fwd=stale; fwd-status=304; ttl=10; stored");
    world.pass(9);
    let third = world.get(URI, Reply::never()).await;
    assert_eq!((third.outcome, third.header("x-version"), third.header("age")), (Outcome::Hit, "2", "9"));
}

#[tokio::test]
async fn a_200_on_validation_replaces_what_was_stored() {
    let world = World::new();
    world.get(URI, Reply::fresh("old").with("etag", "\"1\"")).await;
    world.pass(60);
    let new = world.get(URI, Reply::fresh("new").with("etag", "\"2\"")).await;
    assert_eq!((new.text(), new.outcome), ("new", Outcome::Miss));
    assert_eq!(new.cache_status(), "lhr; fwd=stale; fwd-status=200; ttl=60; stored");
    assert_eq!(world.get(URI, Reply::never()).await.text(), "new");
}

#[tokio::test]
async fn a_304_for_something_else_is_a_corrupt_origin_and_forgets_the_stored_response() {
    let world = World::new();
    world.get(URI, Reply::fresh("old").with("etag", "\"1\"")).await;
    world.pass(60);
    // Asked once more, without the condition, it insists.
    let (wrong, asked) = (|| Reply::new(304, "").with("etag", "\"9\"").send(), Arc::new(Mutex::new(Vec::new())));
    let seen = Arc::clone(&asked);
    let origin = move |parts: Parts| {
        seen.lock().unwrap().push(parts.headers.contains_key("if-none-match"));
        async move { wrong() }
    };
    let failure = cache::fetch(&world.cache, get(URI).into_parts().0, origin).await.err().unwrap();
    assert_eq!((failure.kind, asked.lock().unwrap().as_slice()), (cache::FailureKind::Corrupt, &[true, false][..]));
    assert_eq!(world.get(URI, Reply::fresh("new")).await.text(), "new");
    assert_eq!(world.asked_with("if-none-match"), None);
}

#[tokio::test]
async fn a_304_that_forbids_storing_is_used_once() {
    let world = World::new();
    world.get(URI, Reply::fresh("old").with("etag", "\"1\"")).await;
    world.pass(60);
    let once = world.get(URI, Reply::new(304, "").with("cache-control", "no-store").with("set-cookie", "a=b")).await;
    assert_eq!((once.status, once.text(), once.outcome), (200, "old", Outcome::Revalidated));
    assert_eq!(once.header("set-cookie"), "a=b");
    world.get(URI, Reply::fresh("new")).await;
    assert_eq!(world.asked_with("if-none-match"), None);
}

#[tokio::test]
async fn no_cache_is_stored_and_validated_each_time() {
    let world = World::new();
    let reply = Reply::new(200, "x").with("cache-control", "no-cache").with("etag", "\"1\"");
    world.get(URI, reply).await;
    for _ in 0..3 {
        let again = world.get(URI, Reply::new(304, "").with("etag", "\"1\"")).await;
        assert_eq!((again.text(), again.outcome), ("x", Outcome::Revalidated));
    }
    assert_eq!(world.asked(), 4);
}

#[tokio::test]
async fn variants_are_kept_apart_and_told_by_normalised_fields() {
    let world = World::new();
    let vary = |body: &'static str| Reply::fresh(body).with("vary", "Accept-Language, Accept-Encoding");
    world.ask(get_with(URI, &[("accept-language", "de")]), vary("de")).await;
    let english =
        world.ask(get_with(URI, &[("accept-language", "en"), ("accept-encoding", "gzip, br")]), vary("en")).await;
    assert_eq!(english.cache_status(), "lhr; fwd=vary-miss; fwd-status=200; ttl=60; stored");
    let hit =
        world.ask(get_with(URI, &[("accept-encoding", "br,GZIP"), ("accept-language", "EN")]), Reply::never()).await;
    assert_eq!((hit.text(), hit.outcome), ("en", Outcome::Hit));
    assert_eq!(world.ask(get_with(URI, &[("accept-language", "de")]), Reply::never()).await.text(), "de");
    assert_eq!(world.get(URI, vary("none")).await.text(), "none");
    world.cache.run_pending();
    assert_eq!(world.cache.entries(), 1, "variants live under one URI");
}

#[tokio::test]
async fn variants_are_bounded_and_the_oldest_goes() {
    let world = World::with(Config { max_variants: 2, ..Config::default() });
    let ask = |n: &'static str, reply: Reply| world.ask(get_with(URI, &[("x", n)]), reply);
    for n in ["1", "2", "3"] {
        ask(n, Reply::fresh(n).with("vary", "x")).await;
    }
    assert_eq!(ask("3", Reply::never()).await.text(), "3");
    assert_eq!(ask("2", Reply::never()).await.text(), "2");
    assert_eq!(ask("1", Reply::fresh("again").with("vary", "x")).await.text(), "again");
}

#[tokio::test]
async fn the_cdn_field_decides_over_cache_control() {
    let world = World::new();
    let reply = Reply::new(200, "x").with("cache-control", "no-store").with("cdn-cache-control", "max-age=60");
    world.get(URI, reply).await;
    let hit = world.get(URI, Reply::never()).await;
    assert_eq!(hit.outcome, Outcome::Hit);
    assert_eq!(hit.header("cache-control"), "no-store", "the client's own directives reach the client");
}

#[tokio::test]
async fn head_is_answered_from_a_stored_get_and_otherwise_by_the_origin() {
    let world = World::new();
    let head = || request(Method::HEAD, URI, &[]);
    let passed = world.ask(head(), Reply::new(200, "").with("cache-control", "max-age=60")).await;
    assert_eq!(passed.outcome, Outcome::Bypass(Bypass::Head));
    world.get(URI, Reply::fresh("hello")).await;
    let hit = world.ask(head(), Reply::never()).await;
    assert_eq!((hit.text(), hit.header("content-length"), hit.outcome), ("", "5", Outcome::Hit));
}

#[tokio::test]
async fn a_head_response_freshens_or_removes_the_stored_get() {
    let world = World::new();
    let head = || request(Method::HEAD, URI, &[]);
    world.get(URI, Reply::fresh("hello").with("etag", "\"1\"")).await;
    world.pass(60);
    world.ask(head(), Reply::fresh("").with("etag", "\"1\"").with("content-length", "5").with("x-new", "1")).await;
    let hit = world.get(URI, Reply::never()).await;
    assert_eq!((hit.outcome, hit.header("x-new"), hit.text()), (Outcome::Hit, "1", "hello"));
    world.pass(60);
    world.ask(head(), Reply::fresh("").with("etag", "\"2\"")).await;
    world.get(URI, Reply::fresh("new")).await;
    assert_eq!(world.asked_with("if-none-match"), None, "what disagreed is gone");
}

#[tokio::test]
async fn parts_of_the_key_separate_and_purge_reaches_all() {
    let world = World::new();
    let key = Key::of_uri(&URI.parse().unwrap()).unwrap();
    let ask = |cohort: &'static str, reply: Reply| {
        let mut request = get(URI);
        request.extensions_mut().insert(key.clone().with_parts([cohort]));
        world.ask(request, reply)
    };
    ask("a", Reply::fresh("for a")).await;
    ask("b", Reply::fresh("for b")).await;
    assert_eq!(ask("a", Reply::never()).await.text(), "for a");
    assert_eq!(ask("b", Reply::never()).await.text(), "for b");
    assert!(world.cache.invalidate(&key));
    assert!(!world.cache.invalidate(&key));
    assert_eq!(ask("a", Reply::fresh("new")).await.outcome, Outcome::Miss);
}

#[tokio::test]
async fn the_store_stays_within_its_bytes() {
    let world = World::with(Config { capacity_bytes: 64 << 10, ..Config::default() });
    for n in 0..200 {
        world.get(&format!("http://example.com/{n}"), Reply::fresh(vec![b'x'; 4096])).await;
    }
    world.cache.run_pending();
    assert!(world.cache.bytes() <= 64 << 10 && world.cache.entries() > 0, "{}", world.cache.bytes());
    assert_eq!(world.cache.fill_bytes(), 0);
}
