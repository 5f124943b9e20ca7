//! What every [`ObjectStore`] must do, as checks that each implementation's tests run.
//!
//! The checks panic on the first difference. They leave objects below `contract/` and expect none there.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt as _, stream};

use super::{Attributes, Body, MAX_CONDITIONAL_BYTES, ObjectStore, PutMode, StoreError};
use crate::bundle::Digest;
use crate::key::Key;

/// Every check.
pub async fn all(store: Arc<dyn ObjectStore>) {
    objects_come_back_as_they_were_put(&*store).await;
    puts_keep_their_conditions(&*store).await;
    ranges_are_exact(&*store).await;
    a_put_whose_body_fails_changes_nothing(&*store).await;
    large_objects_stream(&*store).await;
    attributes_no_header_could_carry_are_refused(&*store).await;
    unusual_keys_are_kept_apart(&*store).await;
    listing_visits_every_key_once(&*store).await;
    of_many_creators_one_wins(store.clone()).await;
    concurrent_updates_are_never_lost(store.clone()).await;
    readers_see_whole_objects_while_they_are_replaced(store).await;
}

fn key(name: &str) -> Key {
    Key::parse(&format!("contract/{name}")).expect("a key")
}

fn plain() -> Attributes {
    Attributes::default()
}

async fn put(store: &dyn ObjectStore, name: &str, content: &[u8]) -> super::Written {
    put_as(store, name, content, PutMode::Overwrite).await.expect("a put")
}

async fn put_as(
    store: &dyn ObjectStore,
    name: &str,
    content: &[u8],
    mode: PutMode,
) -> Result<super::Written, StoreError> {
    store.put(&key(name), content.to_vec().into(), mode, plain()).await
}

async fn read(store: &dyn ObjectStore, name: &str) -> Bytes {
    store.get(&key(name), None).await.expect("an object").body.collect(64 << 20).await.expect("its bytes")
}

/// Bytes that repeat only after a long time, so that a misplaced block is seen.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i ^ (i >> 8) ^ (i >> 16)) as u8).collect()
}

/// Put, get, head, replace, delete.
pub async fn objects_come_back_as_they_were_put(store: &dyn ObjectStore) {
    let name = key("object");
    assert!(store.get(&name, None).await.expect_err("nothing there yet").is_not_found());
    assert!(store.head(&name).await.expect_err("nothing there yet").is_not_found());
    store.delete(&name).await.expect("deleting nothing succeeds");

    let attributes = Attributes {
        content_type: Some("text/plain; charset=utf-8".to_owned()),
        cache_control: Some("public, max-age=60".to_owned()),
    };
    let body = Body::new(stream::iter(["hello, ", "", "world"].map(|c| Ok(Bytes::from_static(c.as_bytes())))));
    let written = store.put(&name, body, PutMode::Overwrite, attributes.clone()).await.expect("a put");
    assert_eq!(written.size, 12);
    let object = store.get(&name, None).await.expect("the object");
    assert_eq!((object.meta.size, object.range.clone()), (12, 0..12));
    assert_eq!((&object.meta.etag, &object.attributes), (&written.etag, &attributes));
    assert_eq!(store.head(&name).await.expect("its head"), (object.meta, attributes));
    assert_eq!(object.body.collect(100).await.expect("its bytes"), "hello, world");

    let replaced = put(store, "object", b"other").await;
    assert_ne!(replaced.etag, written.etag);
    assert_eq!(read(store, "object").await, "other");
    assert_eq!(put(store, "empty", b"").await.size, 0);
    assert_eq!(read(store, "empty").await, "");
    store.delete(&name).await.expect("a delete");
    assert!(store.get(&name, None).await.expect_err("it is gone").is_not_found());
}

/// Create only what is not there; update only what is known.
pub async fn puts_keep_their_conditions(store: &dyn ObjectStore) {
    let missing = put_as(store, "condition", b"0", PutMode::Update("0123".to_owned())).await;
    assert!(matches!(missing, Err(StoreError::Precondition { .. })), "{missing:?}");
    let first = put_as(store, "condition", b"1", PutMode::Create).await.expect("nothing there yet");
    let again = put_as(store, "condition", b"2", PutMode::Create).await;
    assert!(matches!(again, Err(StoreError::AlreadyExists { .. })), "{again:?}");
    assert_eq!(read(store, "condition").await, "1");
    let second = put_as(store, "condition", b"3", PutMode::Update(first.etag.clone())).await.expect("as read");
    let stale = put_as(store, "condition", b"4", PutMode::Update(first.etag)).await;
    assert!(matches!(stale, Err(StoreError::Precondition { .. })), "{stale:?}");
    assert_eq!(read(store, "condition").await, "3");
    put_as(store, "condition", b"5", PutMode::Update(second.etag)).await.expect("as read");

    let large = pattern(MAX_CONDITIONAL_BYTES as usize + 1);
    let refused = put_as(store, "condition-large", &large, PutMode::Create).await;
    assert!(matches!(refused, Err(StoreError::TooLarge { .. })), "{refused:?}");
    assert!(store.head(&key("condition-large")).await.expect_err("nothing written").is_not_found());
    let most = &large[..MAX_CONDITIONAL_BYTES as usize];
    put_as(store, "condition-large", most, PutMode::Create).await.expect("the largest conditional put");
    assert_eq!(Digest::of(&read(store, "condition-large").await), Digest::of(most));
}

/// Ranges within, across and outside of blocks.
pub async fn ranges_are_exact(store: &dyn ObjectStore) {
    let content = pattern(200_000);
    put(store, "ranges", &content).await;
    let block = 64 << 10;
    let cases = [(0, 1), (0, 200_000), (5, 6), (block - 1, block + 1), (block, 2 * block), (199_999, 200_000)];
    for (start, end) in cases {
        let object = store.get(&key("ranges"), Some(start..end)).await.expect("a range");
        assert_eq!((object.range, object.meta.size), (start..end, 200_000));
        let bytes = object.body.collect(1 << 20).await.expect("its bytes");
        assert_eq!(bytes, content[start as usize..end as usize], "{start}..{end}");
    }
    let cut = store.get(&key("ranges"), Some(199_000..u64::MAX)).await.expect("a range cut at the end");
    assert_eq!(cut.range, 199_000..200_000);
    assert_eq!(cut.body.collect(1 << 20).await.expect("its bytes"), content[199_000..]);
    #[expect(clippy::reversed_empty_ranges, reason = "that is what is refused")]
    for outside in [200_000..200_001, 5..5, 9..3] {
        let refused = store.get(&key("ranges"), Some(outside.clone())).await;
        assert!(matches!(refused, Err(StoreError::Range { size: 200_000, .. })), "{outside:?}: {refused:?}");
    }
    put(store, "ranges-empty", b"").await;
    let refused = store.get(&key("ranges-empty"), Some(0..1)).await;
    assert!(matches!(refused, Err(StoreError::Range { size: 0, .. })), "{refused:?}");
}

/// A body that ends with an error leaves the old object, or none.
pub async fn a_put_whose_body_fails_changes_nothing(store: &dyn ObjectStore) {
    put(store, "failing", b"old").await;
    // Below and above the size from which stores write in several steps.
    for chunks in [1, 40] {
        let good = stream::iter((0..chunks).map(|_| Ok(Bytes::from(vec![7; 512 << 10]))));
        let body = || good.clone().chain(stream::once(async { Err("the client went away".into()) }));
        let mode = PutMode::Overwrite;
        let refused = store.put(&key("failing"), Body::new(body()), mode.clone(), plain()).await;
        assert!(matches!(refused, Err(StoreError::Body { .. })), "{refused:?}");
        assert_eq!(read(store, "failing").await, "old");
        store.put(&key("failing-new"), Body::new(body()), mode, plain()).await.expect_err("it fails");
        assert!(store.head(&key("failing-new")).await.expect_err("nothing written").is_not_found());
    }
    let torn = Body::from(b"torn".to_vec()).verified(Digest::of(b"whole"));
    store.put(&key("failing"), torn, PutMode::Overwrite, plain()).await.expect_err("not the bytes promised");
    assert_eq!(read(store, "failing").await, "old");
}

/// An object of many blocks and parts.
pub async fn large_objects_stream(store: &dyn ObjectStore) {
    let chunk = Bytes::from(pattern(700_001));
    let count = 48;
    let whole: Vec<u8> = chunk.repeat(count);
    let body = Body::new(stream::iter((0..count).map({
        let chunk = chunk.clone();
        move |_| Ok(chunk.clone())
    })));
    let written = store.put(&key("large"), body, PutMode::Overwrite, plain()).await.expect("a large put");
    assert_eq!(written.size, whole.len() as u64);
    let object = store.get(&key("large"), None).await.expect("the object");
    assert_eq!(object.meta.etag, written.etag);
    let mut body = object.body;
    let mut at = 0;
    while let Some(chunk) = body.next().await {
        let chunk = chunk.expect("a chunk");
        assert!(chunk.len() <= whole.len() / 2, "a large object must come in pieces");
        assert!(whole[at..].starts_with(&chunk), "different bytes after {at}");
        at += chunk.len();
    }
    assert_eq!(at, whole.len());
    let (start, end) = (whole.len() / 2, whole.len() - 3);
    let part = store.get(&key("large"), Some(start as u64..end as u64)).await.expect("a range");
    assert!(part.body.collect(64 << 20).await.expect("its bytes") == whole[start..end]);
    store.delete(&key("large")).await.expect("a delete");
}

/// Attributes are bounded and printable.
pub async fn attributes_no_header_could_carry_are_refused(store: &dyn ObjectStore) {
    for bad in ["", "a\r\nset-cookie: x", "\u{fc}", &"x".repeat(513)] {
        let attributes = Attributes { content_type: Some(bad.to_owned()), cache_control: None };
        let refused = store.put(&key("attributes"), b"x".to_vec().into(), PutMode::Overwrite, attributes).await;
        assert!(matches!(refused, Err(StoreError::Attributes { .. })), "{bad:?}: {refused:?}");
    }
}

/// Names that look like other names, or like syntax.
pub async fn unusual_keys_are_kept_apart(store: &dyn ObjectStore) {
    let names = [
        "keys/a b",
        "keys/a+b",
        "keys/a%20b",
        "keys/ü/日本",
        "keys/?q=1#f",
        "keys/x.o",
        "keys/x.d",
        "keys/x.d/y.o",
        "keys/...",
        "keys/&<>'\"",
        "keys/~",
        "keys/a,b;c=d",
        "keys/A",
        "keys/aa",
        "keys/.hidden",
    ];
    for name in names {
        put(store, name, name.as_bytes()).await;
    }
    for name in names {
        assert_eq!(read(store, name).await, name.as_bytes(), "{name}");
    }
    let long = format!("keys/{}", ["s".repeat(250), "t".repeat(250), "u".repeat(250)].join("/"));
    put(store, &long, b"long").await;
    assert_eq!(read(store, &long).await, "long");
}

/// Pages are complete, bounded, and stop at the folder's end.
pub async fn listing_visits_every_key_once(store: &dyn ObjectStore) {
    let names = ["list/a/1", "list/a/2/x", "list/a/2/y", "list/a-b", "list/a0", "list/b/c/d/e", "list/zz"];
    for name in names.iter().rev() {
        put(store, name, b"x").await;
    }
    for outside in ["list-other", "lis", "list0"] {
        put(store, outside, b"x").await;
    }
    let mut expected: Vec<Key> = names.iter().map(|n| key(n)).collect();
    expected.sort();
    for limit in [1, 2, 3, 7, 8] {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = store.list(&key("list"), after.as_ref(), limit).await.expect("a page");
            assert!(page.keys.len() <= limit);
            found.extend(page.keys);
            after = found.last().cloned();
            if !page.more {
                break;
            }
        }
        found.sort();
        assert_eq!(found, expected, "pages of {limit}");
    }
    store.delete(&key("list/a/1")).await.expect("a delete");
    let page = store.list(&key("list/a"), None, 10).await.expect("a page");
    assert_eq!(page.keys, [key("list/a/2/x"), key("list/a/2/y")]);
    assert_eq!(store.list(&key("nothing"), None, 10).await.expect("a page"), super::Page::default());
    assert!(store.list(&key("list"), Some(&key("zzz")), 10).await.expect("a page").keys.is_empty());
}

/// A race of creators.
pub async fn of_many_creators_one_wins(store: Arc<dyn ObjectStore>) {
    let racers = (0..16).map(|n: u32| {
        let store = store.clone();
        tokio::spawn(async move { put_as(&*store, "race", n.to_string().as_bytes(), PutMode::Create).await })
    });
    let mut winners = Vec::new();
    for (n, racer) in futures::future::join_all(racers).await.into_iter().enumerate() {
        match racer.expect("no panic") {
            Ok(_) => winners.push(n.to_string()),
            Err(e) => assert!(e.is_conflict(), "{e}"),
        }
    }
    assert_eq!(winners.len(), 1);
    assert_eq!(read(&*store, "race").await, winners[0].as_bytes());
}

/// Compare-and-swap counts to the number of additions that succeeded.
pub async fn concurrent_updates_are_never_lost(store: Arc<dyn ObjectStore>) {
    put(&*store, "counter", b"0").await;
    let tasks = (0..8).map(|_| {
        let store = store.clone();
        tokio::spawn(async move {
            for _ in 0..5 {
                while !add_one(&*store).await {}
            }
        })
    });
    for task in futures::future::join_all(tasks).await {
        task.expect("no panic");
    }
    assert_eq!(read(&*store, "counter").await, "40");
}

async fn add_one(store: &dyn ObjectStore) -> bool {
    let object = store.get(&key("counter"), None).await.expect("the counter");
    let bytes = object.body.collect(100).await.expect("its bytes");
    let count: u32 = std::str::from_utf8(&bytes).expect("text").parse().expect("a number");
    match put_as(store, "counter", (count + 1).to_string().as_bytes(), PutMode::Update(object.meta.etag)).await {
        Ok(_) => true,
        Err(e) if e.is_conflict() => false,
        Err(e) => panic!("{e}"),
    }
}

/// Never a mixture of two versions.
pub async fn readers_see_whole_objects_while_they_are_replaced(store: Arc<dyn ObjectStore>) {
    put(&*store, "replaced", &[0; 300_000]).await;
    let writer = tokio::spawn({
        let store = store.clone();
        async move {
            for n in 1..=20 {
                put(&*store, "replaced", &vec![n; 300_000]).await;
            }
        }
    });
    while !writer.is_finished() {
        let bytes = read(&*store, "replaced").await;
        assert!(bytes.len() == 300_000 && bytes.iter().all(|b| *b == bytes[0]), "a mixture was read");
        tokio::task::yield_now().await;
    }
    writer.await.expect("no panic");
    assert_eq!(read(&*store, "replaced").await[0], 20);
}
