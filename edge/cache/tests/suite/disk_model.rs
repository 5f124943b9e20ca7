//! Any order of requests, changes, restarts and crashes against a model: each answer is one whole version of what it is
//! for, and none that was declared wrong before.

use std::fs;
use std::path::Path;
use std::time::Duration;

use cache::{Config, DiskConfig};
use http::Method;
use http::header::IF_NONE_MATCH;
use proptest::prelude::*;
use tempfile::TempDir;

use crate::disk::until;
use crate::support::*;

#[derive(Debug, Clone)]
enum Step {
    Get(usize),
    /// The origin has a new version, and the cache is not told.
    Change(usize),
    /// The same by a request that the cache sees.
    Post(usize),
    /// All that is stored is stale.
    Pass,
    /// The disk has done all it was told.
    Settle,
    /// A new process on the same folder.
    Restart,
    /// A new process on the folder as it is this moment, whatever is under way.
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    let number = 0..LENGTHS.len();
    prop_oneof![
        8 => number.clone().prop_map(Step::Get),
        2 => number.clone().prop_map(Step::Change),
        2 => number.prop_map(Step::Post),
        1 => Just(Step::Pass),
        1 => Just(Step::Settle),
        1 => Just(Step::Restart),
        2 => Just(Step::Crash),
    ]
}

/// What the bodies of the URIs repeat; the last ones are too large for memory.
const LENGTHS: [usize; 6] = [0, 10, 3_000, 65_536, 140_000, 400_000];

/// One URI.
#[derive(Default, Clone)]
struct Page {
    /// At the origin.
    version: u64,
    /// The oldest that may be sent, as long as the process lives, and after a crash.
    oldest: u64,
    settled: u64,
}

fn uri(number: usize) -> String {
    format!("http://example.com/{number}")
}

fn body(number: usize, version: u64) -> String {
    let line = format!("{version:08}{number}");
    line.chars().cycle().take(LENGTHS[number]).collect()
}

async fn world(folder: &Path) -> World {
    let disk = DiskConfig { retry: Duration::from_millis(2), ..DiskConfig::new(folder.to_owned(), 4 << 20) };
    let world = World::with(Config { capacity_bytes: 1 << 20, disk: Some(disk), ..Config::default() });
    until(&world, |status| !status.failing).await;
    world
}

fn reply(number: usize, version: u64, known: Option<&str>) -> Reply {
    let tag = format!("\"{version}\"");
    let reply = match known {
        Some(known) if known == tag => Reply::new(304, ""),
        _ => Reply::new(200, body(number, version)),
    };
    reply.with("etag", &tag).with("cache-control", "max-age=60").with("x-version", &version.to_string())
}

async fn check(world: &World, pages: &mut [Page], number: usize) {
    let version = pages[number].version;
    let response = world.run(get(&uri(number)), move |parts| async move {
        let known = parts.headers.get(IF_NONE_MATCH).map(|tag| tag.to_str().unwrap().to_owned());
        reply(number, version, known.as_deref()).send()
    });
    let answer = read(response.await.unwrap()).await;
    let got: u64 = answer.header("x-version").parse().unwrap();
    let page = &mut pages[number];
    assert!((page.oldest..=page.version).contains(&got), "{number}: {got}, not {} to {}", page.oldest, page.version);
    assert!(answer.text() == body(number, got), "{number}: not the body of {got}");
    page.oldest = got;
}

/// Until the cache on this folder has ended.
async fn ended(folder: &Path) {
    while fs::File::create(folder.join("lock")).is_ok_and(|lock| lock.try_lock().is_err()) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        // What is renamed or removed under the copier's eyes is either there or not.
        let Ok(entry) = entry else { continue };
        if entry.path().is_dir() {
            copy(&entry.path(), &to.join(entry.file_name()));
        } else {
            let _ = fs::copy(entry.path(), to.join(entry.file_name()));
        }
    }
}

async fn run(steps: Vec<Step>) {
    let mut folder = TempDir::new().unwrap();
    let mut world_now = world(folder.path()).await;
    let mut pages = vec![Page::default(); LENGTHS.len()];
    for step in steps {
        match step {
            Step::Get(number) => check(&world_now, &mut pages, number).await,
            Step::Change(number) => pages[number].version += 1,
            Step::Post(number) => {
                let page = &mut pages[number];
                page.version += 1;
                world_now.ask(request(Method::POST, &uri(number), &[]), Reply::new(204, "")).await;
                (page.oldest, page.settled) = (page.version, page.version);
            }
            Step::Pass => world_now.pass(61),
            Step::Settle => until(&world_now, |status| status.queued == 0).await,
            Step::Restart => {
                drop(world_now);
                ended(folder.path()).await;
                world_now = world(folder.path()).await;
                pages.iter_mut().for_each(|page| page.oldest = page.settled);
            }
            Step::Crash => {
                let next = TempDir::new().unwrap();
                copy(folder.path(), next.path());
                drop(world_now);
                folder = next;
                world_now = world(folder.path()).await;
                pages.iter_mut().for_each(|page| page.oldest = page.settled);
            }
        }
    }
    world_now.settled().await;
    until(&world_now, |status| status.queued == 0 && !status.scanning).await;
    let status = world_now.cache.disk().unwrap();
    let files = crate::disk::files(folder.path());
    let bytes: u64 = files.iter().map(|path| fs::metadata(path).unwrap().len()).sum();
    assert_eq!((status.files, status.bytes), (files.len() as u64, bytes), "the index knows what there is");
    assert!(bytes <= status.capacity_bytes && status.damaged == 0, "{status:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn every_answer_is_a_whole_version_that_nobody_has_declared_wrong(
        steps in proptest::collection::vec(step(), 1..40),
    ) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(run(steps));
    }
}
