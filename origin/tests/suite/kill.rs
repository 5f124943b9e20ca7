//! What `kill -9` leaves: everything acknowledged, and nothing half.

use std::env;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use bytes::Bytes;
use origin::deployment::Deployments;
use origin::key::Key;
use origin::store::{Attributes, Embedded, ObjectStore, PutMode};

use crate::harness::{bundle, clock, name};

const FOLDER: &str = "SKERRY_TEST_KILL_FOLDER";

fn key() -> Key {
    Key::parse("k/object").expect("a key")
}

/// The number, then as many blocks of its last byte as it takes to be in the middle of one often.
fn content(number: u64) -> Vec<u8> {
    let filler = vec![number as u8; (number as usize % 7) * 50_000];
    [&number.to_le_bytes()[..], &filler].concat()
}

fn number(content: &[u8]) -> u64 {
    u64::from_le_bytes(content[..8].try_into().expect("eight bytes"))
}

async fn read(store: &Embedded) -> Option<Bytes> {
    match store.get(&key(), None).await {
        Ok(object) => Some(object.body.collect(1 << 20).await.expect("a whole object")),
        Err(e) => {
            assert!(e.is_not_found(), "{e}");
            None
        }
    }
}

/// Not a test of its own: the process that is killed. It does nothing unless it is started for that.
#[tokio::test]
async fn a_writer_to_be_killed() {
    let Some(folder) = env::var_os(FOLDER) else { return };
    let store = Embedded::open(Path::new(&folder), clock()).expect("a store");
    let deployments = Deployments::new(std::sync::Arc::new(store.clone()));
    let first = read(&store).await.map_or(0, |bytes| number(&bytes) + 1);
    for next in first.. {
        store.put(&key(), content(next).into(), PutMode::Overwrite, Attributes::default()).await.expect("a put");
        let (bytes, version) = bundle("hello", &next.to_string()).encode();
        deployments.publish(bytes.into(), &version, None, next).await.expect("a version");
        let generation = deployments.deploy(&name("hello"), &version, next).await.expect("a deploy").generation;
        let mut out = std::io::stdout();
        writeln!(out, "\nacknowledged {next} {generation}").and_then(|()| out.flush()).expect("the parent listens");
    }
}

/// Starts the writer, kills it after `lines` acknowledgements, and returns the last one.
fn killed_after(folder: &Path, lines: usize) -> (u64, u64) {
    let mut child = Command::new(env::current_exe().expect("this binary"))
        .args(["kill::a_writer_to_be_killed", "--exact", "--nocapture"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .spawn()
        .expect("a child");
    let mut output = BufReader::new(child.stdout.take().expect("its output")).lines();
    let mut acknowledged = output.by_ref().filter_map(|line| {
        let line = line.expect("text");
        let (next, generation) = line.strip_prefix("acknowledged ")?.split_once(' ')?;
        Some((next.parse::<u64>().expect("a number"), generation.parse::<u64>().expect("a number")))
    });
    let mut last = acknowledged.nth(lines).expect("the child goes on until it is killed");
    child.kill().expect("it still runs");
    child.wait().expect("it ends");
    // What it had acknowledged before the signal came counts too.
    last = acknowledged.last().unwrap_or(last);
    last
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_and_nothing_half_is_seen() {
    let folder = tempfile::tempdir().expect("a folder");
    for round in 0..12 {
        let (acknowledged, generation) = killed_after(folder.path(), round % 5);
        let store = Embedded::open(folder.path(), clock()).expect("a store");
        let bytes = read(&store).await.expect("it was acknowledged");
        let found = number(&bytes);
        assert!(found == acknowledged || found == acknowledged + 1, "{found} after {acknowledged}");
        assert!(bytes == content(found), "not as it was written");
        assert_eq!(fs::read_dir(folder.path().join("tmp")).expect("a folder").count(), 0);

        let deployments = Deployments::new(std::sync::Arc::new(store.clone()));
        let (manifest, _) = deployments.manifest().await.expect("a manifest");
        assert!(manifest.generation == generation || manifest.generation == generation + 1);
        let live = manifest.functions[&name("hello")].version;
        deployments.bundle(&live).await.expect("the live version's bundle");
        let versions = deployments.versions(&name("hello")).await.expect("versions");
        assert!(versions.iter().any(|v| v.version == live && v.live), "the live version has its record");
        // The dead held a lock, perhaps: nobody waits for it.
        store.put(&key(), content(found).into(), PutMode::Overwrite, Attributes::default()).await.expect("a put");
    }
}
