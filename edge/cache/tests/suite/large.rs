//! Bodies that are too large for memory.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use cache::{Body, Config, DiskConfig, Outcome};
use futures::StreamExt;
use http::{Method, Response};
use http_body_util::BodyExt;
use tempfile::TempDir;

use crate::disk::until;
use crate::support::*;

const URI: &str = "http://example.com/large";
const MIB: usize = 1 << 20;
const CHUNK: usize = 40_000;

/// Memory for 128 KiB of an object.
async fn world(folder: &Path) -> World {
    with_disk(folder, 1 << 30).await
}

async fn with_disk(folder: &Path, bytes: u64) -> World {
    let disk = DiskConfig { retry: Duration::from_millis(5), ..DiskConfig::new(folder.to_owned(), bytes) };
    let world = World::with(Config { capacity_bytes: MIB as u64, disk: Some(disk), ..Config::default() });
    until(&world, |status| !status.scanning).await;
    world
}

fn byte(position: usize) -> u8 {
    b'a' + (position / 1000 % 23) as u8
}

fn bytes(start: usize, end: usize) -> Bytes {
    (start..end).map(byte).collect()
}

/// What the origin sends of a body of this length, chunk after chunk.
fn send(sender: &Sender, start: usize, end: usize) {
    for at in (start..end).step_by(CHUNK) {
        sender.send(bytes(at, end.min(at + CHUNK)));
    }
}

async fn whole(response: Response<Body>) -> Bytes {
    response.into_body().collect().await.unwrap().to_bytes()
}

#[tokio::test]
async fn a_body_larger_than_memory_is_stored_and_sent_from_the_disk_whole_and_in_parts() {
    let folder = TempDir::new().unwrap();
    let mut cache = world(folder.path()).await;
    let length = 5 * MIB + 12_345;
    for told in [true, false] {
        let uri = if told { URI } else { "http://example.com/untold" };
        let reply = Reply::fresh(bytes(0, length)).with("etag", "\"1\"");
        let (sender, mut response) = reply.stream();
        if told {
            response.headers_mut().insert("content-length", length.into());
        }
        let leader = cache.run(get(uri), move |_| async move { Ok(response) }).await.unwrap();
        send(&sender, 0, length);
        drop(sender);
        assert!(whole(leader).await == bytes(0, length), "{told}");
        cache.settled().await;
        for restart in [false, true] {
            if restart {
                until(&cache, |status| status.queued == 0).await;
                drop(cache);
                cache = world(folder.path()).await;
            }
            let hit = cache.run(get(uri), |_| async { Reply::never().send() }).await.unwrap();
            assert_eq!(hit.extensions().get(), Some(&Outcome::Hit));
            assert_eq!(hit.headers()["content-length"], length.to_string());
            assert!(hit.headers()["cache-status"].to_str().unwrap().contains("; detail=disk"));
            assert!(whole(hit).await == bytes(0, length), "{told} {restart}");
            for (start, end) in [(0, 1), (65_535, 65_537), (65_536, 131_072), (MIB - 1, 3 * MIB), (length - 1, length)]
            {
                let range = format!("bytes={start}-{}", end - 1);
                let part = cache.run(get_with(uri, &[("range", &range)]), |_| async { Reply::never().send() });
                let part = part.await.unwrap();
                assert_eq!(part.status(), 206);
                assert!(whole(part).await == bytes(start, end), "{start} to {end}");
            }
            let head = cache.ask(request(Method::HEAD, uri, &[]), Reply::never()).await;
            assert_eq!((head.header("content-length"), head.text()), (&*length.to_string(), ""));
        }
    }
}

#[tokio::test]
async fn readers_of_any_speed_get_it_while_it_arrives_and_memory_stays_small() {
    let folder = TempDir::new().unwrap();
    let cache = world(folder.path()).await;
    let length = 20 * MIB;
    let (sender, response) = Reply::fresh("").with("etag", "\"1\"").stream();
    let leader = cache.run(get(URI), move |_| async move { Ok(response) }).await.unwrap();
    let fast = tokio::spawn(whole(leader));
    let never = |_| async { Reply::never().send() };
    let mut slow = cache.run(get(URI), never).await.unwrap().into_body().into_data_stream();
    let mut got = Vec::new();
    for step in 0..20 {
        send(&sender, step * MIB, (step + 1) * MIB);
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_millis(1)).await;
            assert!(cache.cache.fill_bytes() < 6 * MIB as u64, "{}", cache.cache.fill_bytes());
        }
        if step % 4 == 0 {
            got.extend_from_slice(&slow.next().await.unwrap().unwrap());
        }
    }
    let late = cache.run(get(URI), never).await.unwrap();
    drop(sender);
    while let Some(chunk) = slow.next().await {
        got.extend_from_slice(&chunk.unwrap());
    }
    let expect = bytes(0, length);
    assert!(got == expect);
    assert!(fast.await.unwrap() == expect);
    assert!(whole(late).await == expect);
    let hit = cache.run(get(URI), never).await.unwrap();
    assert!(whole(hit).await == expect);
    assert_eq!((cache.asked(), cache.cache.fill_bytes()), (1, 0));
}

#[tokio::test]
async fn a_large_body_that_breaks_off_or_is_invalidated_leaves_nothing() {
    let folder = TempDir::new().unwrap();
    let cache = world(folder.path()).await;
    for broken in [true, false] {
        let (sender, response) = Reply::fresh("").stream();
        let leader = cache.run(get(URI), move |_| async move { Ok(response) }).await.unwrap();
        send(&sender, 0, 3 * MIB);
        quiet().await;
        if broken {
            sender.fail();
            assert!(leader.into_body().collect().await.is_err());
        } else {
            cache.ask(request(Method::POST, URI, &[]), Reply::new(204, "")).await;
            drop(sender);
            assert!(whole(leader).await == bytes(0, 3 * MIB));
        }
        cache.settled().await;
        until(&cache, |status| status.queued == 0).await;
        let status = cache.cache.disk().unwrap();
        assert_eq!((status.files, status.bytes, cache.cache.fill_bytes()), (0, 0, 0), "{broken}");
        until_empty(&folder.path().join("tmp")).await;
    }
    assert_eq!(cache.get(URI, Reply::fresh("small")).await.text(), "small");
}

async fn until_empty(folder: &Path) {
    while std::fs::read_dir(folder).unwrap().count() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_large_response_is_confirmed_without_writing_its_body_anew() {
    let folder = TempDir::new().unwrap();
    let mut cache = world(folder.path()).await;
    let reply = || Reply::fresh(bytes(0, 2 * MIB)).with("etag", "\"1\"");
    assert_eq!(cache.get(URI, reply()).await.outcome, Outcome::Miss);
    for round in 0..5 {
        cache.settled().await;
        until(&cache, |status| status.queued == 0).await;
        cache.pass(61);
        let field = format!("round {round}");
        let confirmation = Reply::new(304, "").with("etag", "\"1\"").with("cache-control", "max-age=60");
        let answer = cache.get(URI, confirmation.with("x-field", &field)).await;
        assert_eq!(answer.outcome, Outcome::Revalidated);
        assert!(answer.body.unwrap().as_bytes() == bytes(0, 2 * MIB));
        assert_eq!(cache.cache.disk().unwrap().written, u64::from(round == 0));
        until(&cache, |status| status.queued == 0).await;
        drop(cache);
        cache = world(folder.path()).await;
        cache.pass(61 * (round + 1));
        let answer = cache.get(URI, Reply::never()).await;
        assert_eq!((answer.outcome, answer.header("x-field")), (Outcome::Hit, &*field));
        assert!(answer.body.unwrap().as_bytes() == bytes(0, 2 * MIB));
    }
}

#[tokio::test]
async fn a_large_file_that_was_damaged_breaks_the_answer_off_before_a_wrong_byte() {
    let folder = TempDir::new().unwrap();
    let first = world(folder.path()).await;
    first.get(URI, Reply::fresh(bytes(0, 2 * MIB))).await;
    until(&first, |status| status.queued == 0).await;
    drop(first);
    let path = crate::disk::files(folder.path()).pop().unwrap();
    let mut file = std::fs::read(&path).unwrap();
    let middle = file.len() / 2;
    file[middle] ^= 1;
    std::fs::write(&path, file).unwrap();
    let cache = world(folder.path()).await;
    let answer = cache.run(get(URI), |_| async { Reply::never().send() }).await.unwrap();
    let mut stream = answer.into_body().into_data_stream();
    let mut got = Vec::new();
    let error = loop {
        match stream.next().await.expect("it does not end cleanly") {
            Ok(chunk) => got.extend_from_slice(&chunk),
            Err(error) => break error.to_string(),
        }
    };
    assert!(error.contains("can't be read from the disk"), "{error}");
    assert!(got.len() > MIB / 2 && bytes(0, 2 * MIB).starts_with(&got));
    let again = cache.get(URI, Reply::fresh("anew")).await;
    assert_eq!(again.text(), "anew", "the file is gone");
}

#[tokio::test]
async fn what_is_evicted_while_it_is_sent_is_sent_to_its_end() {
    let folder = TempDir::new().unwrap();
    let cache = with_disk(folder.path(), 128 << 20).await;
    let length = 12 * MIB;
    let uri = |number: u32| format!("http://example.com/large/{number}");
    cache.get(&uri(0), Reply::fresh(bytes(0, length))).await;
    let mut stream =
        cache.run(get(&uri(0)), |_| async { Reply::never().send() }).await.unwrap().into_body().into_data_stream();
    let mut got = stream.next().await.unwrap().unwrap().to_vec();
    for number in 1..15 {
        cache.get(&uri(number), Reply::fresh(bytes(0, length))).await;
        until(&cache, |status| status.queued == 0).await;
        assert!(cache.cache.disk().unwrap().bytes <= 128 << 20);
    }
    while let Some(chunk) = stream.next().await {
        got.extend_from_slice(&chunk.unwrap());
    }
    assert!(got == bytes(0, length));
    assert_eq!(cache.get(&uri(0), Reply::fresh("anew")).await.text(), "anew");
    assert_eq!(cache.get(&uri(14), Reply::never()).await.outcome, Outcome::Hit);
}
