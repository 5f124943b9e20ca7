//! Bodies that break off, are too long, or lie about their length.

use cache::policy::NotStored;
use cache::{Config, Outcome};
use futures::StreamExt;
use http_body::Body as _;
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
    let part = world.ask(get_with("http://example.com/b", &[("range", "bytes=9-")]), reply()).await;
    assert_eq!((part.status, part.text()), (206, "9ab"));
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

#[tokio::test]
async fn clients_that_stall_after_the_body_is_stored_do_not_switch_the_cache_off() {
    let world = World::with(Config { fill_capacity_bytes: 5 << 20, ..Config::default() });
    let bytes: Vec<u8> = (0..(2 << 20) + 5).map(|i| b'a' + (i % 23) as u8).collect();
    let mut stalled = Vec::new();
    for number in 0..9 {
        let uri = format!("{URI}/{number}");
        let reply = Reply::fresh(bytes.clone());
        let mut body = world.run(get(&uri), move |_| async move { reply.send() }).await.unwrap().into_body();
        let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
        world.settled().await;
        assert_eq!(world.cache.fill_bytes(), 0, "stored, so no longer arriving");
        assert_eq!(world.get(&uri, Reply::never()).await.outcome, Outcome::Hit);
        stalled.push((first, body));
    }
    for (first, body) in stalled {
        let rest = body.collect().await.unwrap().to_bytes();
        assert!([&first[..], &rest[..]].concat() == bytes, "they go on where they stopped");
    }
}

#[tokio::test]
async fn readers_that_stall_in_the_middle_of_any_chunk_get_every_byte_once() {
    let world = World::with(Config { capacity_bytes: 1 << 30, ..Config::default() });
    let chunks: Vec<Vec<u8>> = [1, 700_000, 1 << 20, 3, 900_000].into_iter().map(|size| vec![b'x'; size]).collect();
    let (sender, response) = Reply::fresh("").stream();
    let leader = world.run(get(URI), move |_| async move { Ok(response) }).await.unwrap();
    let mut readers = vec![(0, leader.into_body())];
    for _ in 0..chunks.len() {
        let follower = world.run(get(URI), |_| async { Reply::never().send() }).await.unwrap();
        readers.push((0, follower.into_body()));
    }
    chunks.iter().for_each(|chunk| sender.send(chunk.clone()));
    quiet().await;
    for (taken, (length, body)) in readers.iter_mut().enumerate() {
        for _ in 0..taken.min(chunks.len()) {
            *length += body.frame().await.unwrap().unwrap().into_data().unwrap().len();
        }
    }
    drop(sender);
    world.settled().await;
    for (length, body) in readers {
        let rest = body.collect().await.unwrap().to_bytes().len();
        assert_eq!(length + rest, chunks.iter().map(Vec::len).sum::<usize>());
    }
}

#[tokio::test]
async fn a_reader_that_went_on_alone_holds_no_shared_chunks() {
    let world = small();
    let (sender, response) = Reply::fresh("").with("etag", "\"1\"").stream();
    let leader = world.run(get(URI), move |_| async move { Ok(response) }).await.unwrap();
    sender.send("01234567");
    quiet().await;
    let (again, rest) = Reply::fresh("").with("etag", "\"1\"").stream();
    let follower = world.run(get(URI), move |_| async move { Ok(rest) }).await.unwrap();
    sender.send("89ab");
    quiet().await;
    again.send("0123456789abc");
    let (mut leader, mut follower) = (leader.into_body(), follower.into_body());
    for body in [&mut leader, &mut follower] {
        body.frame().await.unwrap().unwrap();
        body.frame().await.unwrap().unwrap();
    }
    sender.send("c");
    for body in [&mut leader, &mut follower] {
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "c");
    }
    assert_eq!(world.cache.fill_bytes(), 0, "both read from the origin now");
}

#[tokio::test]
async fn a_miss_without_content_says_so_before_it_is_read() {
    for reply in [
        Reply::new(204, "").with("cache-control", "max-age=60"),
        Reply::new(205, "").with("cache-control", "max-age=60"),
        Reply::fresh("").with("content-length", "0"),
    ] {
        let world = World::new();
        let miss = world.run(get(URI), move |_| async move { reply.send() }).await.unwrap();
        assert!(miss.body().is_end_stream(), "{}", miss.status());
        assert_eq!(read(miss).await.text(), "");
        world.settled().await;
        assert_eq!(world.get(URI, Reply::never()).await.outcome, Outcome::Hit);
    }
}
