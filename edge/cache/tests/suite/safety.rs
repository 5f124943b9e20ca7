//! What must not be shared, and what must be forgotten.

use cache::policy::{ClientControl, NotStored, Rules};
use cache::{Bypass, CarriesBody, Config, Outcome};
use http::Method;

use crate::support::*;

const URI: &str = "http://example.com/a";

#[tokio::test]
async fn what_is_private_is_never_shared_and_the_reason_is_told() {
    for (name, value, reason) in [
        ("cache-control", "no-store", NotStored::NoStore),
        ("cache-control", "private, max-age=60", NotStored::Private),
        ("set-cookie", "id=1", NotStored::SetCookie),
        ("vary", "*", NotStored::Vary),
        ("content-length", "5, 6", NotStored::Framing),
    ] {
        let world = World::new();
        for _ in 0..2 {
            let answer =
                world.get(URI, Reply::new(200, "mine").with(name, value).with("expires", &world.date(60))).await;
            assert_eq!((answer.text(), answer.outcome), ("mine", Outcome::Uncacheable(reason)), "{value}");
            let status = format!("lhr; fwd=uri-miss; fwd-status=200; detail={}", reason.as_str());
            assert_eq!(answer.cache_status(), status);
        }
        assert_eq!(world.asked(), 2);
    }
}

#[tokio::test]
async fn named_fields_reach_the_first_client_only() {
    let world = World::new();
    let reply = Reply::new(200, "x").with("cache-control", "max-age=60, private=\"set-cookie, x-user\"");
    let first = world.get(URI, reply.with("set-cookie", "id=1").with("x-user", "ann")).await;
    assert_eq!((first.header("set-cookie"), first.header("x-user")), ("id=1", "ann"));
    let second = world.get(URI, Reply::never()).await;
    assert_eq!((second.header("set-cookie"), second.header("x-user"), second.text()), ("", "", "x"));
}

#[tokio::test]
async fn an_authorized_answer_is_shared_only_where_the_origin_allows() {
    let world = World::new();
    let authorized = || get_with(URI, &[("authorization", "Bearer x")]);
    let answer = world.ask(authorized(), Reply::fresh("mine")).await;
    assert_eq!(answer.outcome, Outcome::Uncacheable(NotStored::Authorization));
    assert_eq!(world.get(URI, Reply::fresh("anyone's")).await.outcome, Outcome::Miss);
    assert_eq!(world.ask(authorized(), Reply::never()).await.text(), "anyone's");

    let world = World::new();
    world.ask(authorized(), Reply::fresh("shared").with("cache-control", "public")).await;
    assert_eq!(world.get(URI, Reply::never()).await.text(), "shared");
}

#[tokio::test]
async fn a_successful_unsafe_request_invalidates_its_uri_and_the_places_it_names() {
    let world = World::new();
    let places = ["http://example.com/a", "http://example.com/b", "http://example.com/c", "http://other.com/a"];
    for place in places {
        world.get(place, Reply::fresh("old")).await;
    }
    let post = || request(Method::POST, URI, &[("content-length", "3")]);
    let failed = world.ask(post(), Reply::new(500, "")).await;
    assert_eq!(failed.outcome, Outcome::Bypass(Bypass::Method));
    assert_eq!(failed.cache_status(), "lhr; fwd=method; fwd-status=500; detail=method");
    assert_eq!(world.get(URI, Reply::never()).await.text(), "old", "an error changes nothing");
    let reply = Reply::new(201, "").with("location", "/b").with("content-location", "http://other.com/a");
    world.ask(post(), reply).await;
    let mut texts = Vec::new();
    for place in places {
        texts.push(world.get(place, Reply::fresh("new")).await.body.unwrap());
    }
    assert_eq!(texts, ["new", "new", "old", "old"]);
}

#[tokio::test]
async fn what_arrives_while_it_is_invalidated_is_not_stored() {
    let world = World::new();
    let (sender, response) = Reply::fresh("").stream();
    let slow = world.run(get(URI), move |_| async move { Ok(response) }).await.unwrap();
    sender.send("old");
    world.ask(request(Method::DELETE, URI, &[]), Reply::new(204, "")).await;
    drop(sender);
    assert_eq!(read(slow).await.text(), "old");
    assert_eq!(world.get(URI, Reply::fresh("new")).await.text(), "new");
}

#[tokio::test]
async fn a_get_with_a_body_is_not_looked_up() {
    let world = World::new();
    world.get(URI, Reply::fresh("stored")).await;
    for fat in [("content-length", "5"), ("transfer-encoding", "chunked")] {
        let answer = world.ask(get_with(URI, &[fat]), Reply::fresh("poison")).await;
        assert_eq!((answer.text(), answer.outcome), ("poison", Outcome::Bypass(Bypass::RequestBody)));
    }
    // Who forwards the request has taken the fields of its framing away.
    let mut marked = get(URI);
    marked.extensions_mut().insert(CarriesBody);
    let answer = world.ask(marked, Reply::fresh("poison")).await;
    assert_eq!((answer.text(), answer.outcome), ("poison", Outcome::Bypass(Bypass::RequestBody)));
    assert_eq!(world.get(URI, Reply::never()).await.text(), "stored");
}

#[tokio::test]
async fn a_request_without_a_host_is_passed_on() {
    let answer = World::new().get("/a", Reply::fresh("x")).await;
    assert_eq!(answer.outcome, Outcome::Bypass(Bypass::NoHost));
}

#[tokio::test]
async fn only_if_cached_never_reaches_the_origin() {
    let world = World::new();
    let only = || get_with(URI, &[("cache-control", "only-if-cached")]);
    let none = world.ask(only(), Reply::never()).await;
    assert_eq!((none.status, none.outcome), (504, Outcome::OnlyIfCached));
    world.get(URI, Reply::fresh("x")).await;
    assert_eq!(world.ask(only(), Reply::never()).await.text(), "x");
    assert_eq!(world.asked(), 1);
}

#[tokio::test]
async fn a_client_cannot_switch_the_cache_off_unless_it_is_configured_so() {
    let reload = || get_with(URI, &[("cache-control", "no-cache"), ("pragma", "no-cache")]);
    let world = World::new();
    world.get(URI, Reply::fresh("x")).await;
    assert_eq!(world.ask(reload(), Reply::never()).await.outcome, Outcome::Hit);

    let rules = Rules { client_control: ClientControl::Honour, ..Rules::default() };
    let world = World::with(Config { rules, ..Config::default() });
    world.get(URI, Reply::fresh("x")).await;
    let reloaded = world.ask(reload(), Reply::fresh("y")).await;
    assert_eq!(reloaded.cache_status(), "lhr; fwd=request; fwd-status=200; ttl=60; stored");
    let unstored =
        world.ask(get_with("http://example.com/b", &[("cache-control", "no-store")]), Reply::fresh("x")).await;
    assert_eq!(unstored.outcome, Outcome::Uncacheable(NotStored::Demanded));
}

#[tokio::test]
async fn connection_fields_are_neither_stored_nor_passed_on() {
    let world = World::new();
    let reply = || Reply::fresh("x").with("connection", "x-hop").with("x-hop", "1").with("keep-alive", "timeout=5");
    for answer in [world.get(URI, reply()).await, world.get(URI, Reply::never()).await] {
        assert!(["connection", "x-hop", "keep-alive"].iter().all(|name| answer.header(name).is_empty()));
    }
}

#[tokio::test]
async fn what_a_post_answers_is_kept_for_get_only_where_it_says_that_it_is_that() {
    let post = || request(Method::POST, "http://example.com/a?b", &[("content-length", "3")]);
    let named = |location: &str, control: &str| {
        Reply::new(200, "posted").with("content-location", location).with("cache-control", control)
    };
    for location in ["/a?b", "?b", "http://EXAMPLE.com/a?b"] {
        let world = World::new();
        let answer = world.ask(post(), named(location, "max-age=60")).await;
        assert_eq!(answer.cache_status(), "lhr; fwd=method; fwd-status=200; stored; detail=method");
        let got = world.get("http://example.com/a?b", Reply::never()).await;
        assert_eq!((got.text(), got.header("content-length")), ("posted", "6"), "{location}");
        world.ask(post(), named("/other", "max-age=60")).await;
        assert_eq!(world.get("http://example.com/a?b", Reply::fresh("new")).await.text(), "new", "it was invalidated");
    }
    for reply in [
        named("/a", "max-age=60"),
        named("http://other.com/a?b", "max-age=60"),
        named("/a?b", "public").with("last-modified", "Wed, 01 Jan 2020 00:00:00 GMT"),
        named("/a?b", "no-store, max-age=60"),
        named("/a?b", "max-age=60").with("set-cookie", "a=b"),
        Reply::fresh("posted"),
    ] {
        let world = World::new();
        world.ask(post(), reply).await;
        assert_eq!(world.get("http://example.com/a?b", Reply::fresh("got")).await.text(), "got");
    }
    let world = World::new();
    world.ask(request(Method::PUT, "http://example.com/a?b", &[]), named("/a?b", "max-age=60")).await;
    assert_eq!(world.get("http://example.com/a?b", Reply::fresh("got")).await.text(), "got");
}
