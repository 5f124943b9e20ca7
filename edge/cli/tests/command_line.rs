//! The binary as a person meets it: messages, exit codes, and what is left running.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Long enough for V8 in a debug build on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

fn skerry(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_skerry"));
    command.args(arguments).current_dir(folder).stdin(Stdio::null());
    for variable in ["SKERRY_ADMIN_URL", "SKERRY_ADMIN_TOKEN", "SKERRY_STORE", "SKERRY_POP", "RUST_LOG"] {
        command.env_remove(variable);
    }
    command
}

fn run(folder: &Path, arguments: &[&str]) -> Output {
    skerry(folder, arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Ends with an error that says all of `parts`, on standard error alone.
fn fails(folder: &Path, arguments: &[&str], code: i32, parts: &[&str]) {
    let output = run(folder, arguments);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
    assert!(output.stdout.is_empty(), "{arguments:?} printed {}", text(&output.stdout));
    for part in parts {
        assert!(said.contains(part), "{arguments:?} does not say {part:?}: {said}");
    }
}

const FREE: [&str; 9] = [
    "up",
    "--no-functions",
    "--front=0",
    "--origin=0",
    "--admin=0",
    "--pops=lhr,nrt",
    "--workers=1",
    "--json",
    "--hop=1ms",
];

/// A fleet on free ports, without functions.
struct Fleet {
    supervisor: Child,
    json: serde_json::Value,
}

impl Fleet {
    fn start(folder: &Path) -> Self {
        let mut supervisor = skerry(folder, &FREE).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut document = String::new();
        for line in BufReader::new(supervisor.stdout.as_mut().unwrap()).lines() {
            document.push_str(&line.unwrap());
            if let Ok(json) = serde_json::from_str(&document) {
                return Self { supervisor, json };
            }
        }
        let mut said = String::new();
        supervisor.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        let _ = supervisor.wait();
        panic!("the fleet did not start: {said}");
    }

    fn processes(&self) -> Vec<u64> {
        let pops = self.json["pops"].as_array().unwrap();
        let nodes = pops.iter().chain([&self.json["origin"]]);
        nodes.map(|node| node["pid"].as_u64().unwrap()).collect()
    }

    fn signal(&self, name: &str) {
        signal(u64::from(self.supervisor.id()), name);
    }

    fn all_end(&mut self) {
        let processes = self.processes();
        eventually("every process has ended", || !processes.iter().any(|pid| is_running(*pid)));
        let _ = self.supervisor.wait();
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        // Its children end with it.
        let _ = self.supervisor.kill();
        let _ = self.supervisor.wait();
    }
}

fn signal(pid: u64, name: &str) {
    assert!(Command::new("kill").args([name, &pid.to_string()]).status().unwrap().success());
}

/// Whether a process runs; one that has ended and waits for its parent to notice does not.
fn is_running(pid: u64) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_wrong_command_line_is_told_from_a_failure_by_its_exit_code() {
    let root = tempfile::tempdir().unwrap();
    fails(root.path(), &["up", "--pops", "atlantis=1"], 2, &["atlantis", "known are"]);
    fails(root.path(), &["up", "--pops", "lhr=1,lhr=2"], 2, &["lhr twice"]);
    fails(root.path(), &["bench", "no-slash"], 2, &["begins with '/'"]);
    fails(root.path(), &["origin", "--store", "gs://x", "--token-file", "none"], 2, &["s3://bucket"]);
    fails(root.path(), &["nonsense"], 2, &["nonsense"]);
}

#[test]
fn without_a_fleet_commands_say_how_to_get_one() {
    let root = tempfile::tempdir().unwrap();
    for command in [
        &["pops"][..],
        &["versions", "hello"],
        &["rollback", "hello"],
        &["delete", "hello"],
        &["functions"],
        &["bench", "/"],
    ] {
        fails(root.path(), command, 1, &["no fleet is running", "skerry up"]);
    }
    let url = ["pops", "--admin-url", "http://127.0.0.1:1"];
    fails(root.path(), &url, 1, &["no token", "--token-file", "SKERRY_ADMIN_TOKEN"]);
    let output = skerry(root.path(), &url).env("SKERRY_ADMIN_TOKEN", "t").output().unwrap();
    assert!(text(&output.stderr).contains("cannot be reached"), "{}", text(&output.stderr));
}

#[test]
fn a_missing_folder_of_functions_is_named_and_nothing_is_made() {
    let root = tempfile::tempdir().unwrap();
    fails(root.path(), &["up"], 1, &["functions", "--functions", "--no-functions"]);
    assert!(!root.path().join(".skerry").exists());
}

#[test]
fn a_port_in_use_is_named_with_its_flag_and_its_owner_before_anything_starts() {
    let root = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let own = format!("process {}", std::process::id());
    let arguments = ["up", "--no-functions", "--front=0", "--origin=0", "--pops=lhr", "--admin", &address];
    fails(root.path(), &arguments, 1, &[&address, "--admin", "admin API", &own]);
    assert!(!root.path().join(".skerry/logs").exists());
}

#[test]
fn a_function_that_cannot_be_built_is_named_and_nothing_starts() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("functions/broken");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("wrangler.json"), r#"{ "name": "broken", "mian": "index.js" }"#).unwrap();
    let arguments = ["up", "--front=0", "--origin=0", "--admin=0", "--pops=lhr"];
    fails(root.path(), &arguments, 1, &["functions/broken", "mian", "main"]);
    assert!(!root.path().join(".skerry/logs").exists());
}

#[test]
fn a_token_is_alone_on_standard_output() {
    let root = tempfile::tempdir().unwrap();
    let secret = "0123456789abcdef0123456789abcdef";
    let output = run(root.path(), &["jwt", "sign", "--secret", secret, "--sub", "ann"]);
    let token = text(&output.stdout);
    assert!(output.status.success() && output.stderr.is_empty(), "{}", text(&output.stderr));
    assert_eq!((token.trim_end().split('.').count(), token.lines().count()), (3, 1), "{token}");
}

#[test]
fn completions_name_the_verbs() {
    let root = tempfile::tempdir().unwrap();
    let output = run(root.path(), &["completions", "bash"]);
    assert!(output.status.success() && text(&output.stdout).contains("rollback"));
}

#[test]
fn a_second_supervisor_is_refused_and_the_first_ends_all_its_processes_on_a_signal() {
    let root = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::start(root.path());
    assert_eq!(fleet.processes().len(), 3);
    fails(root.path(), &FREE, 1, &["another `skerry up`", &format!("process {}", fleet.supervisor.id()), "--state"]);
    let output = run(root.path(), &["pops", "--json"]);
    let pops: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&pops[0]["pop"], &pops[1]["pop"]), (&"lhr".into(), &"nrt".into()), "{pops}");
    fleet.signal("-INT");
    fleet.all_end();
    assert_eq!(fleet.supervisor.wait().unwrap().code(), Some(0));
    assert!(!root.path().join(".skerry/fleet.json").exists());
}

#[test]
fn processes_end_with_a_supervisor_that_is_killed_and_the_state_can_be_used_again() {
    let root = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::start(root.path());
    let token = std::fs::read(root.path().join(".skerry/admin.token")).unwrap();
    fleet.signal("-KILL");
    fleet.all_end();
    let again = Fleet::start(root.path());
    assert_eq!(std::fs::read(root.path().join(".skerry/admin.token")).unwrap(), token, "the token is kept");
    assert_ne!(again.json["pid"], fleet.json["pid"]);
}

#[test]
fn a_pop_that_crashes_is_started_again_and_one_that_is_ended_stays_down_until_its_command_is_run() {
    let root = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::start(root.path());
    let pid = |index: usize| {
        let file = std::fs::read(root.path().join(".skerry/fleet.json")).unwrap();
        serde_json::from_slice::<serde_json::Value>(&file).unwrap()["pops"][index]["pid"].as_u64()
    };
    let crashed = fleet.processes()[0];
    signal(crashed, "-KILL");
    eventually("the crashed PoP runs as another process", || pid(0).is_some_and(|pid| pid != crashed));
    let ended = fleet.processes()[1];
    signal(ended, "-TERM");
    eventually("the ended PoP is known to be down", || pid(1).is_none());
    let command: Vec<String> = serde_json::from_value(fleet.json["pops"][1]["command"].clone()).unwrap();
    let mut by_hand = Command::new(&command[0]).args(&command[1..]).stdin(Stdio::null()).spawn().unwrap();
    let pops: serde_json::Value = serde_json::from_slice(&run(root.path(), &["pops", "--json"]).stdout).unwrap();
    let address = pops[1]["address"].as_str().unwrap();
    // Ended as soon as its port is open, it still ends in order.
    while std::net::TcpStream::connect(address).is_err() {
        assert!(by_hand.try_wait().unwrap().is_none(), "the PoP has ended by itself");
        std::thread::sleep(Duration::from_millis(1));
    }
    signal(u64::from(by_hand.id()), "-TERM");
    assert!(by_hand.wait().unwrap().success());
    fleet.signal("-TERM");
    assert!(fleet.supervisor.wait().unwrap().success());
}
