//! Requests that say themselves how their answer is cached.

use std::time::Duration;

use cache::policy::Overrides;
use cache::policy::overrides::Mode;
use cache::{Bypass, Outcome};
use http::Request;

use crate::support::{Reply, World, get};

const URI: &str = "http://example.com/a";

fn saying(overrides: Overrides) -> Request<()> {
    let mut request = get(URI);
    request.extensions_mut().insert(overrides);
    request
}

fn mode(mode: Mode) -> Request<()> {
    saying(Overrides { mode, ..Overrides::default() })
}

#[tokio::test]
async fn a_lifetime_of_the_requests_counts_from_the_answer_on_and_again_from_its_validation() {
    let world = World::new();
    let ten = || saying(Overrides { ttl: Some(Duration::from_secs(10)), ..Overrides::default() });
    let kept = Reply::new(200, "a").with("cache-control", "no-store").with("etag", "\"1\"").with("age", "500");
    world.ask(ten(), kept).await;
    world.settled().await;
    world.pass(9);
    assert_eq!(world.ask(ten(), Reply::never()).await.outcome, Outcome::Hit);
    world.pass(1);
    let confirmed = world.ask(ten(), Reply::new(304, "").with("cache-control", "no-store").with("etag", "\"1\"")).await;
    assert_eq!((confirmed.outcome, confirmed.text()), (Outcome::Revalidated, "a"));
    world.pass(9);
    assert_eq!(world.ask(ten(), Reply::never()).await.outcome, Outcome::Hit);
}

#[tokio::test]
async fn each_mode_of_the_fetch_api_does_what_it_says() {
    let world = World::new();
    world.get(URI, Reply::fresh("old")).await;
    world.settled().await;
    let past = world.ask(mode(Mode::NoStore), Reply::fresh("unkept")).await;
    assert_eq!((past.outcome, past.text()), (Outcome::Bypass(Bypass::Demanded), "unkept"));
    assert_eq!(world.get(URI, Reply::never()).await.text(), "old");
    assert_eq!(world.ask(mode(Mode::Reload), Reply::fresh("new")).await.text(), "new");
    world.settled().await;
    assert_eq!(world.get(URI, Reply::never()).await.text(), "new");
    world.ask(mode(Mode::NoCache), Reply::fresh("newer")).await;
    world.settled().await;
    assert_eq!(world.get(URI, Reply::never()).await.text(), "newer");
    world.pass(100);
    for lenient in [Mode::ForceCache, Mode::OnlyIfCached] {
        let stale = world.ask(mode(lenient), Reply::never()).await;
        assert_eq!((stale.outcome, stale.text()), (Outcome::Stale, "newer"), "{lenient:?}");
    }
    world.cache.invalidate(&cache::Key::of_uri(&URI.parse().unwrap()).unwrap());
    assert_eq!(world.ask(mode(Mode::OnlyIfCached), Reply::never()).await.outcome, Outcome::OnlyIfCached);
    assert_eq!(world.ask(mode(Mode::ForceCache), Reply::fresh("fetched")).await.text(), "fetched");
}
