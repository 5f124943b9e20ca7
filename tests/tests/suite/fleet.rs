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
    let (pop, origin) = (&report["targets"][0], &report["targets"][1]);
    let count = |class: &str| pop["classes"][class]["count"].as_u64().unwrap_or_else(|| panic!("no {class}: {report}"));
    // Every request ran the function, in a cold isolate or a warm one, which asked the cache.
    assert_eq!((count("cold") + count("warm"), count("hit") + count("miss")), (100, 100), "{report}");
    assert!(count("cold") >= 1 && count("miss") >= 1, "{report}");
    assert!(pop["all"]["p50_ms"].as_f64() < origin["all"]["p50_ms"].as_f64(), "{report}");
    let error = fleet.fails(&["bench", "/nothing", "--rate", "20", "--duration", "500ms"]);
    assert!(error.contains("no successful answer"), "{error}");
    let table = fleet.ok(&["bench", "/hello", "--pop", "NRT", "--rate", "20", "--duration", "500ms"]);
    for row in ["cold", "warm", "hit", "miss", "all"] {
        assert!(table.lines().any(|line| line.starts_with("nrt") && line.contains(row)), "{row}: {table}");
    }
    // Tokyo to Frankfurt and back takes at least 90 ms in fibre: what the origin serves cannot be faster than that.
    let began = std::time::Instant::now();
    assert_eq!(get(fleet.pop("nrt"), "/site/style.css", &[]).await.status, 200);
    assert!(began.elapsed() >= std::time::Duration::from_millis(90), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_bench_of_a_dead_pop_fails_at_once() {
    let fleet = Fleet::with(&Options { distance: true, pops: "lhr=0", ..Options::default() });
    fleet.signal("lhr", Signal::TERM);
    let address = fleet.pop("lhr");
    eventually("lhr is stopped", async || tokio::net::TcpStream::connect(address).await.is_err()).await;
    let began = std::time::Instant::now();
    let error = fleet.fails(&["bench", "/hello", "--duration", "60s"]);
    assert!(error.contains("lhr") && error.contains("takes no connection"), "{error}");
    assert!(began.elapsed() < std::time::Duration::from_secs(30));
}

#[tokio::test]
async fn clients_of_a_pop_that_hangs_are_served_by_the_next_nearest() {
    let fleet = Fleet::with(&Options { pops: "lhr=0,nrt=0", ..Options::default() });
    let japan = [("x-forwarded-for", "133.11.0.1")];
    let front = fleet.front();
    assert_eq!(get(front, "/hello", &japan).await.header("x-skerry-pop"), "nrt");
    fleet.signal("nrt", Signal::STOP);
    let began = std::time::Instant::now();
    let reply = get(front, "/hello", &japan).await;
    fleet.signal("nrt", Signal::CONT);
    assert_eq!((reply.status, reply.header("x-skerry-pop")), (200, "lhr"));
    assert!(began.elapsed() < std::time::Duration::from_secs(30), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_second_interrupt_ends_everything_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let slow = "export default { fetch: () => new Promise(done => setTimeout(() => done(new Response('x')), 4500)) }";
    tests::fleet::function(&folder.path().join("slow"), r#""limits": { "wall_ms": 6000 }"#, &[("index.js", slow)]);
    let fleet = Fleet::of(folder.path());
    let pop = fleet.pop("lhr");
    let asking = tokio::spawn(async move { tests::client::try_send(pop, http::Method::GET, "/slow", &[], "").await });
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    let (supervisor, state) = (fleet.supervisor(), fleet.state());
    let began = std::time::Instant::now();
    rustix::process::kill_process(supervisor, Signal::INT).unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    rustix::process::kill_process(supervisor, Signal::INT).unwrap();
    eventually("the fleet has ended", async || !state.join("fleet.json").exists()).await;
    assert!(began.elapsed() < std::time::Duration::from_secs(3), "{:?}", began.elapsed());
    assert!(asking.await.unwrap().is_err(), "the request was cut off");
    let folder = fleet.folder.path().to_owned();
    eventually("no process is left", async || processes_of(&folder).is_empty()).await;
}

#[test]
fn a_folder_that_holds_no_functions_and_two_functions_with_one_name_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let free = ["--front", "localhost:0", "--origin", "0", "--admin", "0", "--pops", "lhr=0"];
    let with = |functions: &str| up(folder.path(), &[&free[..], &["--functions", functions]].concat());
    std::fs::create_dir(folder.path().join("empty")).unwrap();
    let (ok, error) = with("empty");
    assert!(!ok && error.contains("no subfolder of empty") && error.contains("--no-functions"), "{error}");
    for name in ["a", "b"] {
        tests::fleet::copy(&tests::fleet::examples().join("hello"), &folder.path().join("twice").join(name));
    }
    let (ok, error) = with("twice");
    assert!(!ok && error.contains("twice/a") && error.contains("twice/b") && error.contains("hello"), "{error}");
    let (ok, error) = with("twice/a");
    assert!(!ok && error.contains("is a function itself") && error.contains("skerry deploy twice/a"), "{error}");
    assert_eq!(processes_of(folder.path()), Vec::<String>::new());
}

#[tokio::test]
async fn objects_in_memory_are_in_memory() {
    let more = vec!["--store".to_owned(), "memory".to_owned()];
    let fleet = Fleet::with(&Options { pops: "lhr=0", more, ..Options::default() });
    assert_eq!(get(fleet.pop("lhr"), "/site/logo.png", &[]).await.status, 200);
    assert!(!fleet.folder.path().join("memory").exists());
}
