//! RFC 5861: stale while revalidating, stale on errors.

use std::time::Duration;

use cache::policy::Rules;
use cache::{Config, Outcome};

use crate::support::*;

const URI: &str = "http://example.com/a";

fn reply(body: &'static str, control: &str) -> Reply {
    Reply::new(200, body).with("cache-control", control).with("etag", "\"1\"")
}

#[tokio::test]
async fn stale_is_served_while_one_request_revalidates() {
    let world = World::new();
    world.get(URI, reply("old", "max-age=10, stale-while-revalidate=30")).await;
    world.pass(12);
    let (sender, response) = Reply::fresh("").stream();
    let first = world.run(get(URI), move |_| async move { Ok(response) }).await.unwrap();
    let first = read(first).await;
    assert_eq!((first.text(), first.outcome, first.header("age")), ("old", Outcome::Stale, "12"));
    assert_eq!(first.cache_status(), "lhr; hit; ttl=-2; detail=stale-while-revalidate");
    quiet().await;
    assert_eq!(world.asked_with("if-none-match").as_deref(), Some("\"1\""));
    for _ in 0..5 {
        assert_eq!(world.get(URI, Reply::never()).await.text(), "old");
    }
    sender.send("new");
    drop(sender);
    world.settled().await;
    let fresh = world.get(URI, Reply::never()).await;
    assert_eq!((fresh.text(), fresh.outcome), ("new", Outcome::Hit));
    assert_eq!(world.asked(), 2);
}

#[tokio::test]
async fn past_the_window_the_client_waits_for_the_origin() {
    let world = World::new();
    world.get(URI, reply("old", "max-age=10, stale-while-revalidate=30")).await;
    world.pass(40);
    assert_eq!(world.get(URI, Reply::fresh("new")).await.text(), "new");
}

#[tokio::test]
async fn a_background_304_freshens() {
    let world = World::new();
    world.get(URI, reply("same", "max-age=10, stale-while-revalidate=30")).await;
    world.pass(12);
    assert_eq!(world.get(URI, Reply::new(304, "")).await.outcome, Outcome::Stale);
    world.settled().await;
    let hit = world.get(URI, Reply::never()).await;
    assert_eq!((hit.text(), hit.outcome, hit.header("age")), ("same", Outcome::Hit, "0"));
}

#[tokio::test]
async fn stale_if_error_stands_in_for_failures_and_server_errors() {
    let world = World::new();
    world.get(URI, reply("old", "max-age=10, stale-if-error=30")).await;
    world.pass(20);
    let failed = world.run(get(URI), |_| async { Err(unreachable()) }).await.unwrap();
    let failed = read(failed).await;
    assert_eq!((failed.text(), failed.outcome), ("old", Outcome::Stale));
    assert_eq!(failed.cache_status(), "lhr; fwd=stale; ttl=-10; detail=stale-if-error");
    let errored = world.get(URI, Reply::new(503, "down")).await;
    assert_eq!((errored.status, errored.text()), (200, "old"));
    assert_eq!(errored.cache_status(), "lhr; fwd=stale; fwd-status=503; ttl=-10; detail=stale-if-error");
    let missing = world.get(URI, Reply::new(404, "gone")).await;
    assert_eq!((missing.status, missing.text()), (404, "gone"), "404 is an answer, not an error");
}

#[tokio::test]
async fn without_permission_an_error_is_an_error() {
    for control in [
        "max-age=10",
        "max-age=10, stale-if-error=5",
        "max-age=10, stale-if-error=99, must-revalidate",
        "s-maxage=10, stale-if-error=99",
    ] {
        let world = World::new();
        world.get(URI, reply("old", control)).await;
        world.pass(20);
        let failed = world.run(get(URI), |_| async { Err(unreachable()) }).await;
        assert!(failed.is_err(), "{control}");
        assert_eq!(world.get(URI, Reply::new(503, "down")).await.status, 503, "{control}");
        // The stored response is still there to be validated.
        assert_eq!(world.get(URI, Reply::new(304, "")).await.text(), "old", "{control}");
    }
}

#[tokio::test]
async fn a_default_window_serves_responses_that_say_nothing() {
    let rules = Rules { stale_if_error: Some(Duration::from_secs(60)), ..Rules::default() };
    let world = World::with(Config { rules, ..Config::default() });
    world.get(URI, reply("old", "max-age=10")).await;
    world.pass(70);
    let failed = world.run(get(URI), |_| async { Err(unreachable()) }).await.unwrap();
    assert_eq!(read(failed).await.text(), "old");
    world.pass(1);
    assert!(world.run(get(URI), |_| async { Err(unreachable()) }).await.is_err());
}

#[tokio::test]
async fn fresh_responses_are_served_with_the_origin_gone() {
    let world = World::new();
    world.get(URI, reply("x", "max-age=10")).await;
    world.pass(9);
    let served = world.run(get(URI), |_| async { Err(unreachable()) }).await.unwrap();
    assert_eq!(read(served).await.outcome, Outcome::Hit);
    assert_eq!(world.asked(), 1);
}

#[tokio::test]
async fn stale_if_error_stands_in_for_a_head_request_too() {
    let world = World::new();
    world.get(URI, reply("old", "max-age=10, stale-if-error=30")).await;
    world.pass(20);
    let head = || request(http::Method::HEAD, URI, &[]);
    let failed = world.run(head(), |_| async { Err(unreachable()) }).await.unwrap();
    let failed = read(failed).await;
    assert_eq!((failed.status, failed.text(), failed.outcome), (200, "", Outcome::Stale));
    assert_eq!((failed.header("etag"), failed.header("content-length")), ("\"1\"", "3"));
    let errored = world.ask(head(), Reply::new(503, "")).await;
    assert_eq!((errored.status, errored.outcome), (200, Outcome::Stale));
    world.pass(30);
    assert!(world.run(head(), |_| async { Err(unreachable()) }).await.is_err());
    assert_eq!(world.ask(head(), Reply::new(503, "")).await.status, 503);
}
