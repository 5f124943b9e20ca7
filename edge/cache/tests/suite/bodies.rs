//! Bodies that break off, are too long, or lie about their length.

use cache::policy::NotStored;
use cache::{Config, Outcome};
use futures::StreamExt;
use http_body_util::BodyExt;

use crate::support::*;

const URI: &str = "http://example.com/a";

fn small() -> World {
    World::with(Config { max_object_bytes: 10, ..Config::default() })
}

#[tokio::test]
async fn a_body_that_breaks_off_is_an_error_for_everybody_and_not_stored() {
    let world = World::new();
    let (sender, response) = Reply::fresh("").stream();
    let leader = world.run(get(URI), move |_| async move { Ok(response) }).await.unwrap();
    let follower = world.run(get(URI), |_| async { Reply::never().send() }).await.unwrap();
    sender.send("half");
    sender.fail();
    for response in [leader, follower] {
        let answer = read(response).await;
        assert!(answer.body.unwrap_err().contains("broke off"));
    }
    assert_eq!(world.get(URI, Reply::fresh("whole")).await.text(), "whole");
}

#[tokio::test]
async fn a_body_of_another_length_than_promised_is_not_stored() {
    for (promised, sent) in [("10", "short"), ("3", "too long")] {
        let world = World::new();
        let answer = world.get(URI, Reply::fresh(sent).with("content-length", promised)).await;
        assert!(answer.body.is_err(), "{promised}");
        assert_eq!(world.get(URI, Reply::fresh("right")).await.text(), "right");
    }
}

#[tokio::test]
async fn a_body_announced_as_too_long_passes_through_and_is_not_stored() {
    let world = small();
    let reply = || Reply::fresh("0123456789ab").with("content-length", "12");
    let answer = world.get(URI, reply()).await;
    assert_eq!((answer.text(), answer.outcome), ("0123456789ab", Outcome::Uncacheable(NotStored::TooLarge)));
    let part = world.ask(get_with("http://example.com/b", &[("range", "bytes=10-")]), reply()).await;
    assert_eq!((part.status, part.text()), (206, "ab"));
}

#[tokio::test]
async fn a_body_that_grows_too_long_goes_on_for_its_leader_and_followers_ask_themselves() {
    let world = small();
    let (sender, response) = Reply::fresh("").with("etag", "\"1\"").stream();
    let leader = world.run(get(URI), move |_| async move { Ok(response) }).await.unwrap();
    sender.send("01234567");
    quiet().await;
    let again = Reply::fresh("0123456789abcdef").with("etag", "\"1\"");
    let same = world.run(get(URI), move |_| async move { again.send() }).await.unwrap();
    let other = Reply::fresh("something else, longer").with("etag", "\"2\"");
    let changed = world.run(get(URI), move |_| async move { other.send() }).await.unwrap();
    assert_eq!(world.asked(), 1);
    sender.send("89ab");
    quiet().await;
    sender.send("cdef");
    drop(sender);
    assert_eq!(read(leader).await.text(), "0123456789abcdef");
    assert_eq!(read(same).await.text(), "0123456789abcdef");
    let changed = read(changed).await;
    assert!(changed.body.unwrap_err().contains("changed"), "never bytes of two representations");
    assert_eq!(world.asked(), 3);
    assert_eq!(world.cache.fill_bytes(), 0);
    world.cache.run_pending();
    assert_eq!(world.cache.entries(), 0);
}

#[tokio::test]
async fn a_body_that_grows_too_long_with_nobody_reading_is_given_up() {
    let world = small();
    let (sender, response) = Reply::fresh("").stream();
    let leader = world.run(get(URI), move |_| async move { Ok(response) }).await.unwrap();
    drop(leader);
    sender.send("0123456789ab");
    world.settled().await;
    quiet().await;
    assert!(sender.is_abandoned(), "an endless body must not be read for nobody");
}

#[tokio::test]
async fn an_endless_body_is_not_read_ahead_of_its_reader() {
    let world = small();
    let chunks = futures::stream::repeat_with(|| Ok(http_body::Frame::data("0123456789".into())));
    let body = http_body_util::StreamBody::new(chunks).boxed_unsync();
    let response = http::Response::builder().header("cache-control", "max-age=60").body(body).unwrap();
    let leader = world.run(get(URI), move |_| async move { Ok(response) }).await.unwrap();
    let read: Vec<_> = leader.into_body().into_data_stream().take(1000).collect().await;
    assert!(read.iter().all(Result::is_ok));
    drop(read);
    assert_eq!(world.cache.fill_bytes(), 0);
}

#[tokio::test]
async fn too_much_arriving_at_a_time_makes_pass_throughs_that_still_end_well() {
    let world = World::with(Config { fill_capacity_bytes: 1000, ..Config::default() });
    let (sender, response) = Reply::fresh("").stream();
    let leader = world.run(get(URI), move |_| async move { Ok(response) }).await.unwrap();
    for _ in 0..100 {
        sender.send("0123456789");
    }
    drop(sender);
    quiet().await;
    assert!(world.cache.fill_bytes() <= 1100);
    assert_eq!(read(leader).await.text().len(), 1000);
    assert_eq!(world.cache.fill_bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stalls_for_ever_is_given_up() {
    let world = World::new();
    let (sender, response) = Reply::fresh("").stream();
    let leader = world.run(get(URI), move |_| async move { Ok(response) }).await.unwrap();
    sender.send("half");
    assert!(read(leader).await.body.is_err());
    assert_eq!(world.cache.fills(), 0);
}
