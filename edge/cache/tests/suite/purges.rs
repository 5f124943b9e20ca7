//! Purges and the fence, over what is stored and what arrives.

use cache::{Mode, Outcome, Purge, Scope};

use crate::support::*;

const URI: &str = "http://example.com/a/b";

fn purge(world: &World, scope: Scope, mode: Mode) {
    let number = world.cache.purged() + 1;
    world.cache.purge(&Purge { number, scope, mode, at: world.now() });
    assert_eq!(world.cache.purged(), number);
}

fn tagged(body: &'static str) -> Reply {
    Reply::fresh(body).with("cache-tag", "news")
}

#[tokio::test]
async fn a_hard_purge_removes_what_it_covers_and_what_comes_after_it_stays() {
    for scope in [
        Scope::Uri(URI.into()),
        Scope::Prefix("example.com/a".into()),
        Scope::Host("example.com".into()),
        Scope::Tag("News".into()),
        Scope::Everything,
    ] {
        let world = World::new();
        world.get(URI, tagged("old")).await;
        world.get("http://other.com/", Reply::fresh("other")).await;
        purge(&world, scope.clone(), Mode::Hard);
        assert_eq!(world.get(URI, tagged("new")).await.text(), "new", "{scope:?}");
        assert_eq!(world.get(URI, Reply::never()).await.outcome, Outcome::Hit);
        if scope != Scope::Everything {
            assert_eq!(world.get("http://other.com/", Reply::never()).await.text(), "other", "{scope:?}");
        }
    }
}

#[tokio::test]
async fn what_was_purged_gives_its_room_back_before_anybody_asks_for_it() {
    let world = World::new();
    for n in 0..100 {
        world.get(&format!("http://example.com/{n}"), tagged("x")).await;
    }
    world.get("http://example.com/", Reply::fresh("x")).await;
    world.cache.run_pending();
    assert_eq!(world.cache.entries(), 101);
    purge(&world, Scope::Tag("news".into()), Mode::Hard);
    world.cache.run_pending();
    assert_eq!(world.cache.entries(), 1);
}

#[tokio::test]
async fn a_soft_purge_makes_stale_and_a_validation_makes_fresh_again() {
    let world = World::new();
    world.get(URI, tagged("old").with("etag", "\"1\"")).await;
    purge(&world, Scope::Tag("news".into()), Mode::Soft);
    let answer = world.get(URI, Reply::new(304, "").with("etag", "\"1\"")).await;
    assert_eq!((answer.text(), answer.outcome), ("old", Outcome::Revalidated));
    assert_eq!(world.asked_with("if-none-match").as_deref(), Some("\"1\""));
    assert_eq!(world.get(URI, Reply::never()).await.outcome, Outcome::Hit);
}

#[tokio::test]
async fn the_windows_of_rfc_5861_begin_with_a_soft_purge() {
    let world = World::new();
    let control = "max-age=60, stale-while-revalidate=10, stale-if-error=20";
    world.get(URI, Reply::new(200, "old").with("cache-control", control)).await;
    world.pass(5);
    purge(&world, Scope::Everything, Mode::Soft);
    world.pass(9);
    let answer = world.get(URI, Reply::new(500, "")).await;
    assert_eq!((answer.text(), answer.outcome), ("old", Outcome::Stale));
    assert!(answer.cache_status().contains("ttl=-9"), "{}", answer.cache_status());
    world.settled().await;
    world.pass(5);
    assert_eq!(world.get(URI, Reply::new(503, "")).await.text(), "old");
    world.pass(10);
    assert_eq!(world.get(URI, Reply::new(503, "no")).await.text(), "no");
}

#[tokio::test]
async fn who_asks_after_a_purge_does_not_join_what_was_asked_before_it() {
    for scope in [Scope::Uri(URI.into()), Scope::Tag("news".into())] {
        let world = World::new();
        let (sender, response) = tagged("").stream();
        let response = world.run(get(URI), move |_| async move { Ok(response) }).await.unwrap();
        sender.send("old ");
        purge(&world, scope.clone(), Mode::Hard);
        assert_eq!(world.get(URI, tagged("new")).await.text(), "new", "{scope:?}");
        sender.send("and slow");
        drop(sender);
        assert_eq!(read(response).await.text(), "old and slow", "who asked before gets what was asked for");
        world.settled().await;
        assert_eq!(world.get(URI, Reply::never()).await.text(), "new", "{scope:?}");
    }
}

#[tokio::test]
async fn a_purge_of_something_else_does_not_part_who_shares_an_answer() {
    let world = World::new();
    let (sender, response) = tagged("").stream();
    let leader = world.run(get(URI), move |_| async move { Ok(response) }).await.unwrap();
    purge(&world, Scope::Tag("sports".into()), Mode::Hard);
    let follower = world.run(get(URI), |_| async { panic!("the origin must not be asked") }).await.unwrap();
    sender.send("shared");
    drop(sender);
    assert_eq!((read(leader).await.text(), read(follower).await.text()), ("shared", "shared"));
}

#[tokio::test]
async fn behind_a_fence_everything_is_validated_first() {
    let world = World::new();
    world.get(URI, Reply::fresh("old").with("etag", "\"1\"")).await;
    world.cache.fence(true);
    let not_modified = || Reply::new(304, "").with("etag", "\"1\"");
    assert_eq!(world.get(URI, not_modified()).await.outcome, Outcome::Revalidated);
    assert_eq!(world.get(URI, not_modified()).await.outcome, Outcome::Revalidated);
    assert_eq!(world.get(URI, Reply::fresh("new")).await.text(), "new");
    world.cache.fence(false);
    assert_eq!(world.get(URI, Reply::never()).await.outcome, Outcome::Hit);
    world.cache.fence_from(world.now() + std::time::Duration::from_secs(5));
    world.pass(4);
    assert_eq!(world.get(URI, Reply::never()).await.outcome, Outcome::Hit);
    world.pass(1);
    assert_eq!(world.get(URI, Reply::fresh("newer")).await.text(), "newer", "nobody had to say so");
}
