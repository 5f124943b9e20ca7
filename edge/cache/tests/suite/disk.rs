//! What a cache finds on its disk again, and what it must not.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cache::{Config, DiskConfig, DiskStatus, Outcome};
use http::Method;
use tempfile::TempDir;

use crate::support::*;

const URI: &str = "http://example.com/a";

fn config(folder: &Path) -> Config {
    let disk = DiskConfig { retry: Duration::from_millis(5), ..DiskConfig::new(folder.to_owned(), 64 << 20) };
    Config { disk: Some(disk), ..Config::default() }
}

async fn world(folder: &Path) -> World {
    let world = World::with(config(folder));
    until(&world, |status| !status.failing && !status.scanning).await;
    world
}

/// Until the disk is as it is wanted.
pub(crate) async fn until(world: &World, mut wanted: impl FnMut(DiskStatus) -> bool) {
    while !wanted(world.cache.disk().unwrap()) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn idle(world: &World) {
    until(world, |status| status.queued == 0 && !status.scanning).await;
}

/// The same cache in a new life, when all that was ordered has been done.
async fn restarted(old: World, folder: &Path) -> World {
    idle(&old).await;
    drop(old);
    world(folder).await
}

/// The files with responses.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let below = |path: &Path| fs::read_dir(path).into_iter().flatten().map(|entry| entry.unwrap().path());
    let folders = below(folder).filter(|path| path.is_dir() && !path.ends_with("tmp"));
    folders.flat_map(|path| below(&path).collect::<Vec<_>>()).collect()
}

#[tokio::test]
async fn what_was_stored_answers_after_a_restart_first_from_the_disk_then_from_memory() {
    let folder = TempDir::new().unwrap();
    let first = world(folder.path()).await;
    let reply = Reply::fresh("kept").with("etag", "\"1\"").with("x-field", "\u{e4}").with("vary", "accept-language");
    let german = || get_with(URI, &[("accept-language", "de")]);
    first.ask(german(), reply).await;
    let second = restarted(first, folder.path()).await;
    let answer = second.ask(german(), Reply::never()).await;
    assert_eq!((answer.text(), answer.outcome), ("kept", Outcome::Hit));
    assert_eq!(answer.cache_status(), "lhr; hit; ttl=60; detail=disk");
    assert_eq!((answer.header("etag"), answer.headers["x-field"].as_bytes()), ("\"1\"", "\u{e4}".as_bytes()));
    assert_eq!(second.ask(german(), Reply::never()).await.cache_status(), "lhr; hit; ttl=60");
    let english = || get_with(URI, &[("accept-language", "en")]);
    let reply = Reply::fresh("English").with("vary", "accept-language");
    assert_eq!(second.ask(english(), reply).await.text(), "English");
    let third = restarted(second, folder.path()).await;
    assert_eq!(third.ask(english(), Reply::never()).await.text(), "English");
    assert_eq!(third.ask(german(), Reply::never()).await.text(), "kept");
}

#[tokio::test]
async fn what_was_invalidated_replaced_or_refused_does_not_come_back() {
    let folder = TempDir::new().unwrap();
    let mut world = world(folder.path()).await;
    for (round, change) in ["post", "newer", "not-stored", "part-of-a-newer"].into_iter().enumerate() {
        world.get(URI, Reply::fresh("old").with("etag", "\"1\"")).await;
        idle(&world).await;
        if round % 2 == 0 {
            // Found on the disk only: memory has nothing to remove.
            world = restarted(world, folder.path()).await;
        }
        match change {
            "post" => {
                world.ask(request(Method::POST, URI, &[]), Reply::new(204, "")).await;
                assert!(files(folder.path()).is_empty(), "gone before the answer is sent");
            }
            _ => {
                world.pass(61);
                let reply = match change {
                    "newer" => Reply::fresh("new"),
                    "not-stored" => Reply::new(200, "new").with("cache-control", "no-store"),
                    _ => Reply::new(404, "new"),
                };
                assert_eq!(world.get(URI, reply).await.text(), "new");
            }
        }
        world = restarted(world, folder.path()).await;
        let again = world.get(URI, Reply::fresh("new")).await;
        assert_eq!(again.text(), "new", "{change}");
        world.ask(request(Method::DELETE, URI, &[]), Reply::new(204, "")).await;
    }
}

#[tokio::test]
async fn a_confirmed_response_is_fresh_after_a_restart() {
    let folder = TempDir::new().unwrap();
    let first = world(folder.path()).await;
    first.get(URI, Reply::fresh("kept").with("etag", "\"1\"")).await;
    idle(&first).await;
    first.pass(61);
    let confirmation = Reply::new(304, "").with("etag", "\"1\"").with("cache-control", "max-age=600");
    assert_eq!(first.get(URI, confirmation).await.outcome, Outcome::Revalidated);
    let second = restarted(first, folder.path()).await;
    second.pass(120);
    let answer = second.get(URI, Reply::never()).await;
    assert_eq!((answer.text(), answer.outcome), ("kept", Outcome::Hit));
}

#[tokio::test]
async fn a_damaged_file_is_a_miss_and_goes_whatever_the_damage() {
    let folder = TempDir::new().unwrap();
    let first = world(folder.path()).await;
    let body = "0123456789abcdef".repeat(5000);
    first.get(URI, Reply::fresh(body.clone())).await;
    idle(&first).await;
    let [path] = &files(folder.path())[..] else { panic!("one file") };
    let whole = fs::read(path).unwrap();
    drop(first);
    let damages = (0..whole.len()).step_by(997).chain(0..64).flat_map(|at| {
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (at % 8);
        [("flip", at, flipped), ("cut", at, whole[..at].to_vec())]
    });
    for (damage, at, bytes) in damages {
        fs::write(path, &bytes).unwrap();
        let world = world(folder.path()).await;
        let answer = world.get(URI, Reply::fresh(body.clone())).await;
        // Padding between the parts of a file is nobody's byte.
        let hit = answer.outcome == Outcome::Hit;
        assert_eq!(answer.text(), body, "{damage} at {at}");
        let status = world.cache.disk().unwrap();
        assert_eq!(status.damaged, u64::from(!hit), "{damage} at {at}");
        assert!(!hit || damage == "flip", "cut at {at}");
        idle(&world).await;
    }
}

#[tokio::test]
async fn leftovers_of_a_killed_process_are_removed_and_strange_files_are_left_alone() {
    let folder = TempDir::new().unwrap();
    fs::create_dir_all(folder.path().join("tmp")).unwrap();
    fs::create_dir_all(folder.path().join("ab")).unwrap();
    fs::write(folder.path().join("tmp/17"), "half a file").unwrap();
    fs::write(folder.path().join("ab/readme"), "mine").unwrap();
    let world = world(folder.path()).await;
    assert_eq!(fs::read_dir(folder.path().join("tmp")).unwrap().count(), 0);
    assert_eq!(fs::read(folder.path().join("ab/readme")).unwrap(), b"mine");
    assert_eq!(world.cache.disk().unwrap().files, 0);
}

#[tokio::test]
async fn files_are_bounded_by_bytes_and_what_is_asked_for_again_stays() {
    let folder = TempDir::new().unwrap();
    let uri = |number: u32| format!("http://example.com/{number}");
    let disk = DiskConfig { retry: Duration::from_millis(5), ..DiskConfig::new(folder.path().to_owned(), 1 << 20) };
    // Memory for nothing: what answers comes from the disk.
    let world = World::with(Config { capacity_bytes: 200 << 10, disk: Some(disk), ..Config::default() });
    until(&world, |status| !status.scanning).await;
    for number in 0..500 {
        world.get(&uri(number), Reply::fresh(vec![b'x'; 10_000])).await;
        world.cache.run_pending();
        idle(&world).await;
        assert_eq!(world.get(&uri(0), Reply::never()).await.status, 200, "{number}");
        assert!(world.cache.disk().unwrap().bytes <= 1 << 20);
    }
    let on_disk: u64 = files(folder.path()).iter().map(|path| fs::metadata(path).unwrap().len()).sum();
    assert_eq!(on_disk, world.cache.disk().unwrap().bytes);
    assert!(on_disk > 900 << 10, "{on_disk}");
}

#[tokio::test]
async fn without_a_folder_memory_serves_and_the_disk_is_back_when_the_folder_is() {
    let folder = TempDir::new().unwrap();
    let blocked = folder.path().join("cache");
    fs::write(&blocked, "not a folder").unwrap();
    let world = World::with(config(&blocked));
    until(&world, |status| status.failing).await;
    world.get(URI, Reply::fresh("kept")).await;
    assert_eq!(world.get(URI, Reply::never()).await.text(), "kept");
    fs::remove_file(&blocked).unwrap();
    until(&world, |status| !status.failing).await;
    world.get("http://example.com/b", Reply::fresh("b")).await;
    let world = restarted(world, &blocked).await;
    assert_eq!(world.get("http://example.com/b", Reply::never()).await.text(), "b");
}

#[tokio::test]
async fn two_caches_do_not_share_a_folder() {
    let folder = TempDir::new().unwrap();
    let first = world(folder.path()).await;
    let second = World::with(config(folder.path()));
    until(&second, |status| status.failing).await;
    drop(first);
    until(&second, |status| !status.failing).await;
}
