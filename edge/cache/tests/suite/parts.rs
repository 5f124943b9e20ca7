//! Parts of responses: stored, put together, completed (RFC 9111 sections 3.3 and 3.4).

use cache::{Bypass, Config, FailureKind, Mode, Outcome, Purge, Scope};
use http::Method;
use proptest::prelude::*;

use crate::support::*;

const URI: &str = "http://example.com/film";
const TEXT: &str = "0123456789";

/// The 206 that an origin sends for these bytes of [`TEXT`].
fn part(start: usize, end: usize) -> Reply {
    Reply::new(206, &TEXT[start..end])
        .with("cache-control", "max-age=60")
        .with("content-range", &format!("bytes {start}-{}/10", end - 1))
        .with("etag", "\"1\"")
}

async fn range(world: &World, range: &str, reply: Reply) -> Answer {
    world.ask(get_with(URI, &[("range", range)]), reply).await
}

#[tokio::test]
async fn a_part_that_passed_by_answers_who_wants_no_more() {
    let world = World::new();
    let first = range(&world, "bytes=-6", part(4, 10)).await;
    assert_eq!((first.text(), first.outcome), ("456789", Outcome::Bypass(Bypass::Range)));
    assert_eq!(first.cache_status(), "lhr; fwd=bypass; fwd-status=206; stored; detail=range");
    for (wanted, text, content_range) in [
        ("bytes=-6", "456789", "bytes 4-9/10"),
        ("bytes=-1", "9", "bytes 9-9/10"),
        ("bytes=4-", "456789", "bytes 4-9/10"),
        ("bytes=6-8", "678", "bytes 6-8/10"),
        ("bytes=6-99", "6789", "bytes 6-9/10"),
    ] {
        let answer = range(&world, wanted, Reply::never()).await;
        assert_eq!((answer.status, answer.text(), answer.outcome), (206, text, Outcome::Hit), "{wanted}");
        assert_eq!(answer.header("content-range"), content_range);
        assert_eq!(answer.header("content-length"), text.len().to_string());
        assert!(answer.cache_status().starts_with("lhr; hit; ttl=60"), "{}", answer.cache_status());
    }
    assert_eq!(range(&world, "bytes=10-", Reply::never()).await.status, 416);
    let unchanged = get_with(URI, &[("range", "bytes=-2"), ("if-none-match", "\"1\"")]);
    assert_eq!(world.ask(unchanged, Reply::never()).await.status, 304);
}

#[tokio::test]
async fn a_part_never_stands_for_the_whole() {
    let world = World::new();
    range(&world, "bytes=-6", part(4, 10)).await;
    let head = world.ask(request(Method::HEAD, URI, &[]), Reply::new(200, "").with("content-length", "10")).await;
    assert_eq!(head.outcome, Outcome::Bypass(Bypass::Head));
    let changed = get_with(URI, &[("range", "bytes=-6"), ("if-range", "\"0\"")]);
    let answer = world.ask(changed, Reply::new(200, "new").with("etag", "\"2\"")).await;
    assert_eq!((answer.status, answer.text()), (200, "new"));
}

#[tokio::test]
async fn the_rest_is_asked_for_and_both_are_the_whole() {
    for (stored, wanted, asked) in [((0, 4), (4, 10), "bytes=4-"), ((4, 10), (0, 4), "bytes=0-3")] {
        let world = World::new();
        range(&world, "bytes=-6", part(stored.0, stored.1)).await;
        let answer = world.get(URI, part(wanted.0, wanted.1).with("x-new", "1")).await;
        assert_eq!(world.asked_with("range").as_deref(), Some(asked));
        assert_eq!(world.asked_with("if-range").as_deref(), Some("\"1\""));
        assert_eq!((answer.status, answer.text()), (200, TEXT));
        assert_eq!((answer.header("content-length"), answer.header("content-range")), ("10", ""));
        assert_eq!(answer.header("x-new"), "1", "fields of the new response count");
        assert_eq!(answer.cache_status(), "lhr; fwd=partial; fwd-status=200; ttl=60; stored");
        assert_eq!(world.get(URI, Reply::never()).await.text(), TEXT);
        assert_eq!(range(&world, "bytes=3-5", Reply::never()).await.text(), "345");
    }
}

#[tokio::test]
async fn who_changed_meanwhile_sends_the_whole() {
    let world = World::new();
    range(&world, "bytes=-6", part(0, 4)).await;
    let answer = world.get(URI, Reply::fresh("all new").with("etag", "\"2\"")).await;
    assert_eq!((answer.status, answer.text()), (200, "all new"));
    assert_eq!(world.get(URI, Reply::never()).await.text(), "all new");
}

#[tokio::test]
async fn bytes_of_two_representations_are_never_put_together() {
    for wrong in [
        part(4, 10).with("etag", "\"2\""),
        part(5, 10),
        part(4, 9),
        Reply::new(206, "456789").with("content-range", "bytes 4-9/10").with("etag", "\"2\""),
        Reply::new(206, "456789").with("content-range", "bytes 4-9/11").with("etag", "\"1\""),
        Reply::new(206, "456789").with("etag", "\"1\""),
        Reply::new(416, ""),
    ] {
        let world = World::new();
        range(&world, "bytes=-6", part(0, 4)).await;
        let twice = wrong.clone();
        let answer = world.run(get(URI), move |_| async move { wrong.send() }).await;
        match answer {
            Err(failure) => assert_eq!(failure.kind, FailureKind::Corrupt),
            // Of two tags, the first counts.
            Ok(response) => assert_eq!(read(response).await.text(), TEXT),
        }
        assert_ne!(world.ask(get(URI), twice).await.body, Ok("0123".to_owned() + "56789"));
    }
}

#[tokio::test]
async fn a_weak_tag_puts_nothing_together() {
    let world = World::new();
    let weak = Reply::new(206, "0123").with("cache-control", "max-age=60").with("content-range", "bytes 0-3/10");
    range(&world, "bytes=-6", weak.with("etag", "W/\"1\"")).await;
    world.get(URI, Reply::fresh(TEXT)).await;
    assert_eq!(world.asked_with("range"), None);
    assert_eq!(world.asked_with("if-range"), None);
}

#[tokio::test]
async fn parts_that_touch_grow_together_and_become_the_whole() {
    let world = World::with(Config { max_object_bytes: 10, ..Config::default() });
    range(&world, "bytes=-6", part(2, 4)).await;
    range(&world, "bytes=-6", part(4, 7)).await;
    assert_eq!(range(&world, "bytes=2-6", Reply::never()).await.text(), "23456");
    range(&world, "bytes=-6", part(0, 3)).await;
    assert_eq!(range(&world, "bytes=0-6", Reply::never()).await.text(), "0123456");
    range(&world, "bytes=-6", part(6, 10)).await;
    assert_eq!(world.get(URI, Reply::never()).await.text(), TEXT);
}

#[tokio::test]
async fn a_part_of_another_representation_takes_the_place_of_the_first() {
    let world = World::new();
    range(&world, "bytes=-6", part(2, 4)).await;
    let other = Reply::new(206, "xyz").with("cache-control", "max-age=60").with("content-range", "bytes 4-6/10");
    range(&world, "bytes=-6", other.with("etag", "\"2\"")).await;
    assert_eq!(range(&world, "bytes=4-6", Reply::never()).await.text(), "xyz");
    assert_eq!(range(&world, "bytes=-8", part(2, 10)).await.text(), "23456789");
}

#[tokio::test]
async fn a_part_that_is_not_what_it_says_is_not_kept() {
    for wrong in [
        Reply::new(206, "01234").with("content-range", "bytes 4-9/10"),
        Reply::new(206, "0123456").with("content-range", "bytes 4-9/10"),
        Reply::new(206, "456789").with("content-range", "bytes 4-9/*"),
        Reply::new(206, "456789").with("content-range", "bytes 4-9/10").with("content-length", "5"),
        Reply::new(206, "456789"),
        part(4, 10).with("set-cookie", "a=b"),
        Reply::new(206, "456789").with("content-range", "bytes 4-9/10").with("cache-control", "no-store"),
    ] {
        let world = World::new();
        range(&world, "bytes=-6", wrong.with("cache-control", "max-age=60")).await;
        assert_eq!(range(&world, "bytes=-6", part(4, 10)).await.text(), "456789");
        assert_eq!(world.asked(), 2);
        assert_eq!(world.cache.fill_bytes(), 0);
    }
}

#[tokio::test]
async fn a_part_that_broke_off_is_not_kept() {
    let world = World::new();
    let (sender, response) = part(4, 10).stream();
    let response = world.run(get_with(URI, &[("range", "bytes=-6")]), move |_| async move { Ok(response) });
    let response = response.await.unwrap();
    sender.send("456");
    sender.fail();
    assert!(read(response).await.body.is_err());
    assert_eq!(range(&world, "bytes=-6", part(4, 10)).await.outcome, Outcome::Bypass(Bypass::Range));
    assert_eq!((world.cache.fills(), world.cache.fill_bytes()), (0, 0));
}

#[tokio::test]
async fn a_part_is_gone_with_its_time_a_purge_or_an_invalidation() {
    let world = World::new();
    for gone in 0..3 {
        range(&world, "bytes=-6", part(4, 10)).await;
        assert_eq!(range(&world, "bytes=-6", Reply::never()).await.outcome, Outcome::Hit);
        match gone {
            0 => world.pass(60),
            1 => world.cache.purge(&Purge { number: 1, scope: Scope::Everything, mode: Mode::Hard, at: world.now() }),
            _ => drop(world.ask(request(Method::PUT, URI, &[]), Reply::new(204, "")).await),
        }
        assert_eq!(range(&world, "bytes=-6", part(4, 10)).await.outcome, Outcome::Bypass(Bypass::Range), "{gone}");
        world.pass(100);
    }
}

/// An origin that does as RFC 9110 says, with this text under this tag.
fn origin(asked: &http::request::Parts, text: &str, tag: &str) -> Reply {
    let tagged = |status, body: &str| {
        Reply::new(status, body.to_owned()).with("cache-control", "max-age=5").with("etag", tag).with("date", "x")
    };
    let field = |name: &str| asked.headers.get(name).map(|value| value.to_str().unwrap());
    if field("if-none-match") == Some(tag) {
        return tagged(304, "");
    }
    let range = field("range").filter(|_| field("if-range").is_none_or(|condition| condition == tag));
    let Some((first, last)) = range.and_then(|range| range.strip_prefix("bytes=")?.split_once('-')) else {
        return tagged(200, text);
    };
    let (start, end) = match (first.parse::<usize>(), last.parse::<usize>()) {
        (Ok(first), Ok(last)) => (first, last.saturating_add(1).min(text.len())),
        (Ok(first), Err(_)) => (first, text.len()),
        (Err(_), Ok(count)) => (text.len().saturating_sub(count), text.len()),
        _ => return tagged(200, text),
    };
    if start >= end {
        return tagged(416, "").with("content-range", &format!("bytes */{}", text.len()));
    }
    let content_range = format!("bytes {start}-{}/{}", end - 1, text.len());
    tagged(206, &text[start..end]).with("content-range", &content_range)
}

#[derive(Debug, Clone)]
enum Step {
    Ask(Option<String>),
    Change,
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let number = 0usize..45;
    prop_oneof![
        4 => (number.clone(), number.clone()).prop_map(|(a, b)| Step::Ask(Some(format!("bytes={a}-{b}")))),
        3 => number.clone().prop_map(|a| Step::Ask(Some(format!("bytes={a}-")))),
        4 => (1usize..45).prop_map(|a| Step::Ask(Some(format!("bytes=-{a}")))),
        2 => Just(Step::Ask(None)),
        1 => Just(Step::Change),
        1 => (0u64..9).prop_map(Step::Pass),
    ]
}

proptest! {
    #[test]
    fn whoever_asks_for_whatever_gets_bytes_of_one_representation(
        steps in proptest::collection::vec(step(), 1..30), limit in 1u64..60,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let world = World::with(Config { max_object_bytes: limit, ..Config::default() });
            let texts: Vec<String> = (0..40).map(|n| format!("{n:02}").repeat(20)).collect();
            let mut version = 0;
            for step in steps {
                match step {
                    Step::Change => version += 1,
                    Step::Pass(seconds) => world.pass(seconds),
                    Step::Ask(range) => {
                        let mut asked = get(URI);
                        if let Some(range) = &range {
                            asked.headers_mut().insert("range", range.parse().unwrap());
                        }
                        let (head, text) = (asked.clone().into_parts().0, texts[version].clone());
                        let response = world.run(asked, move |head| async move {
                            origin(&head, &text, &format!("\"{version}\"")).send()
                        });
                        let answer = read(response.await.unwrap()).await;
                        let tag = answer.header("etag").trim_matches('"');
                        let told: usize = tag.parse().unwrap();
                        let model = origin(&head, &texts[told], answer.header("etag"));
                        let expect = read(world.run(get("http://other/"), move |_| async move { model.send() }).await.unwrap()).await;
                        if answer.status == 200 {
                            // Also for who wanted a part: a server may send the whole.
                            prop_assert_eq!(answer.text(), &texts[told]);
                        } else {
                            prop_assert_eq!((answer.status, answer.text()), (expect.status, expect.text()), "{:?}", range);
                            prop_assert_eq!(answer.header("content-range"), expect.header("content-range"));
                        }
                        prop_assert!(told == version || answer.outcome != Outcome::Miss);
                        world.cache.invalidate(&cache::Key::of_uri(&"http://other/".parse().unwrap()).unwrap());
                    }
                }
            }
            Ok(())
        })?;
    }
}
