//! Conditions and ranges, from the store and while the response arrives.

use cache::{Bypass, Config, Outcome};
use futures::StreamExt;
use http_body::Body as _;
use http_body_util::BodyExt;

use crate::support::*;

const URI: &str = "http://example.com/a";

fn digits() -> Reply {
    Reply::fresh("0123456789").with("etag", "\"1\"").with("content-type", "text/plain").with("content-length", "10")
}

#[tokio::test]
async fn conditions_are_answered_from_the_store() {
    let world = World::new();
    world.get(URI, digits()).await;
    let same = world.ask(get_with(URI, &[("if-none-match", "W/\"1\"")]), Reply::never()).await;
    assert_eq!((same.status, same.text(), same.outcome), (304, "", Outcome::Hit));
    assert_eq!((same.header("etag"), same.header("content-length")), ("\"1\"", ""));
    let other = world.ask(get_with(URI, &[("if-none-match", "\"2\"")]), Reply::never()).await;
    assert_eq!((other.status, other.text()), (200, "0123456789"));
}

#[tokio::test]
async fn ranges_are_cut_from_the_store() {
    let world = World::new();
    world.get(URI, digits()).await;
    let range = |range| world.ask(get_with(URI, &[("range", range)]), Reply::never());
    let middle = range("bytes=2-5").await;
    assert_eq!((middle.status, middle.text()), (206, "2345"));
    assert_eq!((middle.header("content-range"), middle.header("content-length")), ("bytes 2-5/10", "4"));
    assert_eq!(range("bytes=-3").await.text(), "789");
    assert_eq!(range("bytes=7-").await.text(), "789");
    let beyond = range("bytes=10-").await;
    assert_eq!((beyond.status, beyond.text(), beyond.header("content-range")), (416, "", "bytes */10"));
    let several = range("bytes=0-1,4-5").await;
    assert_eq!((several.status, several.text()), (200, "0123456789"));
    let changed = world.ask(get_with(URI, &[("range", "bytes=0-1"), ("if-range", "\"0\"")]), Reply::never()).await;
    assert_eq!((changed.status, changed.text()), (200, "0123456789"));
}

#[tokio::test]
async fn a_miss_with_a_range_or_condition_fills_the_whole_response() {
    let world = World::new();
    let request = get_with(URI, &[("range", "bytes=8-"), ("if-none-match", "\"0\""), ("if-match", "\"x\"")]);
    let part = world.ask(request, digits()).await;
    for stripped in ["range", "if-none-match", "if-match"] {
        assert_eq!(world.asked_with(stripped), None, "{stripped}");
    }
    assert_eq!((part.status, part.text(), part.outcome), (206, "89", Outcome::Miss));
    world.settled().await;
    assert_eq!(world.get(URI, Reply::never()).await.text(), "0123456789");

    let elsewhere = "http://example.com/b";
    let same = world.ask(get_with(elsewhere, &[("if-none-match", "\"1\"")]), digits()).await;
    assert_eq!((same.status, same.text()), (304, ""));
    world.settled().await;
    assert_eq!(world.get(elsewhere, Reply::never()).await.outcome, Outcome::Hit);
}

#[tokio::test]
async fn a_range_of_a_body_in_many_blocks_is_exact() {
    let world = World::with(Config { capacity_bytes: 1 << 30, ..Config::default() });
    let size = (5 << 20) + 321;
    let bytes: Vec<u8> = (0..size).map(|i| b'a' + (i % 23) as u8).collect();
    world.get(URI, Reply::fresh(bytes.clone())).await;
    for (start, end) in [(0, 0), (1048575, 1048576), (3 << 20, (4 << 20) - 1), (size - 1, size - 1), (12345, size - 2)]
    {
        let range = format!("bytes={start}-{end}");
        let part = world.ask(get_with(URI, &[("range", &range)]), Reply::never()).await;
        assert!(part.text().as_bytes() == &bytes[start..=end], "{range}");
    }
}

#[tokio::test]
async fn a_stored_body_tells_its_exact_length() {
    let world = World::new();
    world.get(URI, digits()).await;
    let whole = world.run(get(URI), |_| async { Err(unreachable()) }).await.unwrap();
    assert_eq!(whole.body().size_hint().exact(), Some(10));
    let part = world.run(get_with(URI, &[("range", "bytes=1-3")]), |_| async { Err(unreachable()) }).await.unwrap();
    assert_eq!(part.body().size_hint().exact(), Some(3));
    let frames: Vec<_> = part.into_body().into_data_stream().collect().await;
    assert_eq!(frames.len(), 1);
}

#[tokio::test]
async fn after_an_answer_that_could_not_be_shared_ranges_go_to_the_origin_as_they_are() {
    let world = World::new();
    let ranged = || get_with(URI, &[("range", "bytes=0-3")]);
    let huge = || Reply::fresh("0123456789").with("content-length", "10").with("cache-control", "no-store");
    let first = world.ask(ranged(), huge()).await;
    assert_eq!((first.status, first.text()), (206, "0123"));
    let second = world.ask(ranged(), Reply::new(206, "0123").with("content-range", "bytes 0-3/10")).await;
    assert_eq!(world.asked_with("range").as_deref(), Some("bytes=0-3"));
    assert_eq!((second.status, second.text(), second.outcome), (206, "0123", Outcome::Bypass(Bypass::HitForPass)));
    world.pass(11);
    world.ask(ranged(), huge()).await;
    assert_eq!(world.asked_with("range"), None, "the marker has an end");
}

#[tokio::test]
async fn a_range_beyond_what_is_stored_never_makes_the_origin_send_what_is_before_it() {
    for range in ["bytes=10-", "bytes=10-11", "bytes=-1"] {
        let world = World::with(Config { max_object_bytes: 10, ..Config::default() });
        let reply = Reply::new(206, "x").with("content-range", "bytes 99-99/100");
        let part = world.ask(get_with(URI, &[("range", range)]), reply).await;
        assert_eq!(world.asked_with("range").as_deref(), Some(range));
        assert_eq!((part.status, part.outcome), (206, Outcome::Bypass(Bypass::Range)));
        assert_eq!(part.cache_status(), "lhr; fwd=bypass; fwd-status=206; detail=range");
    }
    let world = World::with(Config { max_object_bytes: 10, ..Config::default() });
    assert_eq!(world.get(URI, digits()).await.outcome, Outcome::Miss);
    assert_eq!(world.ask(get_with(URI, &[("range", "bytes=-1")]), Reply::never()).await.text(), "9");
}

#[tokio::test]
async fn that_an_object_is_too_large_is_remembered_for_its_ranges() {
    let world = World::with(Config { max_object_bytes: 10, ..Config::default() });
    let ranged = || get_with(URI, &[("range", "bytes=0-0")]);
    let large = || Reply::fresh("0123456789ab").with("content-length", "12");
    assert_eq!(world.ask(ranged(), large()).await.text(), "0");
    world.pass(599);
    let part = world.ask(ranged(), Reply::new(206, "0").with("content-range", "bytes 0-0/12")).await;
    assert_eq!((world.asked_with("range").as_deref(), part.status), (Some("bytes=0-0"), 206));
    world.pass(2);
    world.ask(ranged(), large()).await;
    assert_eq!(world.asked_with("range"), None, "the marker has an end");
}
