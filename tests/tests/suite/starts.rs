//! Starts of isolates as users meet them: code caches, functions kept ready, and starting and giving up without end.

use std::path::{Path, PathBuf};

use rustix::process::Signal;
use tests::client::{Reply, try_send};
use tests::fleet::function;
use tests::{Fleet, Options, eventually, get};

const SOURCE: &str = "let asked = 0; export default { fetch: () => new Response(`${++asked}`) }";

/// These functions on one PoP with one worker.
fn fleet(functions: &Path, more: &[&str]) -> Fleet {
    let more = ["--workers=1"].iter().chain(more).map(|&option| option.to_owned()).collect();
    Fleet::with(&Options { functions: Some(functions.to_owned()), pops: "lhr=0", more, ..Options::default() })
}

fn started(reply: &Reply) -> bool {
    reply.header("server-timing").contains("compile;dur=")
}

fn cached(reply: &Reply) -> bool {
    reply
        .header("server-timing")
        .split(", ")
        .any(|phase| phase.starts_with("compile;") && phase.ends_with("desc=cached"))
}

/// The only file in a folder of a PoP.
fn only_file(fleet: &Fleet, folder: &str) -> PathBuf {
    let mut files = std::fs::read_dir(fleet.state().join("pops/lhr").join(folder)).expect("a folder");
    files.next().expect("one file").expect("a file").path()
}

async fn restarted(fleet: &Fleet) -> Reply {
    let pid = fleet.pid("lhr");
    fleet.signal("lhr", Signal::KILL);
    eventually("it is started again", async || fleet.pid("lhr").is_some_and(|now| Some(now) != pid)).await;
    let pop = fleet.pop("lhr");
    let mut first = None;
    eventually("it answers", async || {
        first = try_send(pop, http::Method::GET, "/f", &[], "").await.ok().filter(|reply| reply.status == 200);
        first.is_some()
    })
    .await;
    first.expect("an answer")
}

#[tokio::test]
async fn a_deploy_leaves_a_code_cache_that_starts_take_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    function(&folder.path().join("f"), "", &[("index.js", SOURCE)]);
    let fleet = fleet(folder.path(), &[]);
    let first = get(fleet.pop("lhr"), "/f", &[]).await;
    assert!(cached(&first), "{first:?}");
    let cache = only_file(&fleet, "code");
    let whole = std::fs::read(&cache).unwrap();

    let again = restarted(&fleet).await;
    assert!(cached(&again), "a restart has it: {again:?}");

    // One bit, anywhere.
    let mut altered = whole.clone();
    let middle = altered.len() / 2;
    altered[middle] ^= 1;
    std::fs::write(&cache, altered).unwrap();
    let compiled = restarted(&fleet).await;
    assert!(started(&compiled) && !cached(&compiled), "{compiled:?}");
    assert_eq!(compiled.text(), "1");
    eventually("it is made anew", async || {
        std::fs::read(&cache).is_ok_and(|bytes| bytes == whole || bytes.len() == whole.len())
    })
    .await;

    // A key that somebody else has chosen, too.
    std::fs::write(fleet.state().join("pops/lhr/code.key"), [7; 32]).unwrap();
    let foreign = restarted(&fleet).await;
    assert!(started(&foreign) && !cached(&foreign), "{foreign:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_isolate_is_started_by_the_head_of_a_request_before_its_body_has_come() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let folder = tempfile::tempdir().unwrap();
    let source = "export default { fetch: async (request) => new Response(await request.text()) }";
    function(&folder.path().join("f"), "", &[("index.js", source)]);
    let fleet = fleet(folder.path(), &[]);
    let residents = async || fleet.scrape("lhr").await.sum("skerry_isolates", &[("state", "resident")]);
    assert_eq!(residents().await, 0.0);
    let mut client = tokio::net::TcpStream::connect(fleet.pop("lhr")).await.unwrap();
    client.write_all(b"POST /f HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\nconnection: close\r\n\r\n").await.unwrap();
    eventually("it has started", async || residents().await == 1.0).await;
    client.write_all(b"late").await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("late"), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_function_with_min_ready_is_started_before_it_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let f = function(&folder.path().join("f"), "\"min_ready\": 1", &[("index.js", SOURCE)]);
    let fleet = fleet(folder.path(), &[]);
    let first = get(fleet.pop("lhr"), "/f", &[]).await;
    assert!(!started(&first), "warm after the first deploy: {first:?}");
    assert_eq!(first.text(), "1");

    std::fs::write(f.join("index.js"), format!("{SOURCE} // another version")).unwrap();
    tokio::task::block_in_place(|| fleet.deploy(&f));
    let second = get(fleet.pop("lhr"), "/f", &[]).await;
    assert!(!started(&second), "warm after a deploy: {second:?}");
    assert_eq!(second.text(), "1", "it is the new version");

    let third = restarted(&fleet).await;
    assert!(!started(&third), "warm after a restart: {third:?}");
}

#[tokio::test]
async fn isolates_come_and_go_a_thousand_times_and_memory_stays() {
    const FUNCTIONS: usize = 40;
    let folder = tempfile::tempdir().unwrap();
    for n in 0..FUNCTIONS {
        function(&folder.path().join(format!("f{n}")), "", &[("index.js", SOURCE)]);
    }
    // Room for about a dozen.
    let fleet = fleet(folder.path(), &["--isolates=32MiB"]);
    let (pop, pid) = (fleet.pop("lhr"), fleet.pid("lhr").expect("a process"));
    let resident = || {
        let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).expect("the process is there");
        statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).expect("pages") * 4096
    };
    let mut starts = 0;
    let mut early = 0;
    for round in 0..30 {
        for n in 0..FUNCTIONS {
            let reply = get(pop, &format!("/f{n}"), &[]).await;
            assert_eq!(reply.status, 200, "{reply:?}");
            starts += usize::from(started(&reply));
        }
        if round == 5 {
            early = resident();
        }
    }
    assert!(
        starts > 1000,
        "{starts} starts: they are asked for in turn, so that each is gone when it is asked for again"
    );
    // Pages come and go with the moment at which garbage is collected.
    let late = resident();
    assert!(late < early + early / 4, "{early} bytes after 240 starts, {late} after 1,200");
}

#[tokio::test]
async fn a_pop_has_a_startup_snapshot_of_its_own_and_makes_a_damaged_one_anew() {
    let folder = tempfile::tempdir().unwrap();
    function(&folder.path().join("f"), "", &[("index.js", SOURCE)]);
    let more = vec!["--workers=1".to_owned()];
    let options =
        Options { functions: Some(folder.path().to_owned()), pops: "lhr=0,nrt=0", more, ..Options::default() };
    let fleet = Fleet::with(&options);
    assert_eq!(get(fleet.pop("lhr"), "/f", &[]).await.text(), "1");
    let file = |pop: &str| fleet.state().join("pops").join(pop).join("engine.snapshot");
    let first = std::fs::read(file("lhr")).unwrap();
    assert!(first != std::fs::read(file("nrt")).unwrap());

    assert!(cached(&restarted(&fleet).await), "the code cache is for the same snapshot");
    assert!(std::fs::read(file("lhr")).unwrap() == first, "it is kept");

    let mut altered = first.clone();
    let middle = altered.len() / 2;
    altered[middle] ^= 1;
    std::fs::write(file("lhr"), &altered).unwrap();
    let anew = restarted(&fleet).await;
    assert_eq!(anew.text(), "1");
    assert!(started(&anew) && !cached(&anew), "its code cache was for another: {anew:?}");
    assert!(std::fs::read(file("lhr")).unwrap() != altered);
    assert!(!fleet.state().join("pops/lhr/engine.snapshot.unproven").exists());
}

#[test]
fn names_hash_alike_in_one_startup_snapshot_and_otherwise_in_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&std::ffi::OsStr]| {
        let output =
            std::process::Command::new(tests::fleet::skerry()).arg("snapshot").args(arguments).output().unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    };
    let (one, other) = (folder.path().join("one"), folder.path().join("other"));
    for file in [&one, &other] {
        assert!(run(&[file.as_os_str()]).0);
    }
    let hashes = |file: &PathBuf| run(&["--prove".as_ref(), file.as_os_str()]);
    let (proven, said) = hashes(&one);
    assert!(proven && said.contains("has the hash"), "{said}");
    assert_eq!(hashes(&one).1, said);
    assert!(hashes(&other).0 && hashes(&other).1 != said);
    // Not a snapshot: its lazily compiled parts have no source.
    let whole = std::fs::read(&one).unwrap();
    std::fs::write(&other, &whole[..whole.len() / 2]).unwrap();
    assert!(!hashes(&other).0);
}
