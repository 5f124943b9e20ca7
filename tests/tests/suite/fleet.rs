use std::net::TcpListener;
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;
use tests::{Fleet, Options, eventually, get, skerry};

fn up(folder: &std::path::Path, arguments: &[&str]) -> (bool, String) {
    let output = Command::new(skerry()).current_dir(folder).arg("up").args(arguments).output().expect("skerry runs");
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Processes whose command line names this folder.
fn processes_of(folder: &std::path::Path) -> Vec<String> {
    let folder = folder.to_string_lossy().into_owned();
    std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(&folder))
        .collect()
}

#[tokio::test]
async fn a_stopped_pop_is_replaced_by_the_next_nearest_and_catches_up_when_started_again() {
    let fleet = Fleet::start();
    let japan = [("x-forwarded-for", "133.11.0.1")];
    let front = fleet.front();
    assert_eq!(get(front, "/hello", &japan).await.header("x-skerry-pop"), "nrt");
    fleet.signal("nrt", Signal::TERM);
    let (address, mut seen) = (fleet.pop("nrt"), Vec::new());
    eventually("nrt is stopped", async || {
        let reply = get(front, "/hello", &japan).await;
        seen.push((reply.status, reply.header("x-skerry-pop").to_owned()));
        tokio::net::TcpStream::connect(address).await.is_err()
    })
    .await;
    for _ in 0..20 {
        let reply = get(front, "/hello", &japan).await;
        seen.push((reply.status, reply.header("x-skerry-pop").to_owned()));
    }
    // By great circle, Tokyo is nearer to London (9,600 km) than to Washington (10,900 km).
    assert!(seen.iter().all(|(status, pop)| *status == 200 && ["nrt", "lhr"].contains(&pop.as_str())), "{seen:?}");
    assert_eq!(seen.last().unwrap().1, "lhr");

    let hello = fleet.folder.path().join("hello");
    tests::fleet::copy(&tests::fleet::examples().join("hello"), &hello);
    std::fs::write(hello.join("index.js"), "export default { fetch: () => new Response('while it was away') }")
        .unwrap();
    fleet.deploy(&hello);
    let mut again = fleet.command("nrt").spawn().expect("the PoP starts");
    eventually("nrt serves the new version", async || {
        tests::client::try_send(address, http::Method::GET, "/hello", &[], "")
            .await
            .is_ok_and(|reply| reply.text() == "while it was away")
    })
    .await;
    eventually("the front door uses nrt", async || get(front, "/hello", &japan).await.header("x-skerry-pop") == "nrt")
        .await;
    rustix::process::kill_process(rustix::process::Pid::from_child(&again), Signal::TERM).unwrap();
    again.wait().unwrap();
}

#[tokio::test]
async fn a_fleet_that_ends_leaves_no_process_and_its_state_starts_again() {
    let fleet = Fleet::with(&Options { pops: "lhr=0", ..Options::default() });
    let version = get(fleet.pop("lhr"), "/hello", &[]).await.header("x-skerry-version").to_owned();
    let folder = fleet.stop();
    assert_eq!(processes_of(folder.path()), Vec::<String>::new());
    let fleet = Fleet::within(folder, &Options { pops: "lhr=0", functions: None, ..Options::default() });
    assert_eq!(get(fleet.pop("lhr"), "/hello", &[]).await.header("x-skerry-version"), version);
}

#[tokio::test]
async fn children_of_a_killed_supervisor_end_with_it() {
    let mut fleet = Fleet::with(&Options { pops: "lhr=0", ..Options::default() });
    fleet.kill();
    let folder = fleet.folder.path().to_owned();
    eventually("the children end", async || processes_of(&folder).is_empty()).await;
}

#[test]
fn what_keeps_a_fleet_from_starting_is_said_and_nothing_is_left_running() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let pops = format!("lhr={port}");
    let free = ["--front", "0", "--origin", "0", "--admin", "0", "--no-functions"];
    for (flag, value) in [("--front", port.as_str()), ("--origin", &port), ("--admin", &port), ("--pops", &pops)] {
        let mut arguments: Vec<&str> =
            free.chunks(2).filter(|pair| pair[0] != flag && pair.len() == 2).flatten().copied().collect();
        arguments.extend(["--no-functions", flag, value]);
        if flag != "--pops" {
            arguments.extend(["--pops", "lhr=0"]);
        }
        let (ok, error) = up(folder.path(), &arguments);
        assert!(!ok && error.contains(&port) && error.contains(flag), "{flag}: {error}");
    }
    let (ok, error) = up(
        folder.path(),
        &["--front", "0", "--origin", "0", "--admin", "0", "--pops", "lhr=0", "--functions", "nowhere"],
    );
    assert!(!ok && error.contains("nowhere") && error.contains("--functions"), "{error}");
    std::fs::write(folder.path().join("bad.mmdb"), "not a database").unwrap();
    let (ok, error) = up(
        folder.path(),
        &["--front", "0", "--origin", "0", "--admin", "0", "--pops", "lhr=0", "--no-functions", "--geo", "bad.mmdb"],
    );
    assert!(!ok && error.contains("bad.mmdb"), "{error}");
    assert_eq!(processes_of(folder.path()), Vec::<String>::new());
}

#[test]
fn a_second_fleet_on_the_same_state_is_refused() {
    let fleet = Fleet::with(&Options { pops: "lhr=0", functions: None, ..Options::default() });
    let (ok, error) = up(
        fleet.folder.path(),
        &["--front", "0", "--origin", "0", "--admin", "0", "--pops", "lhr=0", "--no-functions"],
    );
    assert!(!ok && error.contains(".skerry") && error.contains(&fleet.json["pid"].to_string()), "{error}");
}

#[tokio::test]
async fn distances_are_felt_and_the_bench_shows_what_an_edge_saves() {
    let fleet = Fleet::with(&Options { distance: true, pops: "nrt=0", ..Options::default() });
    let report: Value = serde_json::from_str(&fleet.ok(&[
        "bench",
        "/site/logo.png",
        "--from",
        "JP",
        "--rate",
        "50",
        "--duration",
        "2s",
        "--json",
    ]))
    .unwrap();
    let text = report.to_string();
    for part in ["hit", "miss", "p50", "p99"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    // Tokyo to Frankfurt and back takes at least 90 ms in fibre: what the origin serves cannot be faster than that.
    let began = std::time::Instant::now();
    assert_eq!(get(fleet.pop("nrt"), "/site/style.css", &[]).await.status, 200);
    assert!(began.elapsed() >= std::time::Duration::from_millis(90), "{:?}", began.elapsed());
}
