//! A fleet of real processes.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// How a fleet is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// Folder of the functions; `None` for none.
    pub functions: Option<PathBuf>,
    /// PoPs, as `--pops` takes them.
    pub pops: &'static str,
    /// Whether round trips are simulated.
    pub distance: bool,
    /// Further arguments of `skerry up`.
    pub more: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self { functions: Some(examples()), pops: "lhr=0,iad=0,nrt=0", distance: false, more: Vec::new() }
    }
}

/// The example functions.
pub fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package is in the workspace").join("functions")
}

/// The binary under test, beside the one that runs the tests.
pub fn skerry() -> PathBuf {
    let own = std::env::current_exe().expect("a test has a path");
    let folder = own.ancestors().find(|folder| folder.join("skerry").is_file());
    folder.expect("build it first: cargo build --package cli").join("skerry")
}

/// A running `skerry up`. Dropped, it is stopped, and every process with it.
#[derive(Debug)]
pub struct Fleet {
    child: Child,
    /// What `up --json` said.
    pub json: Value,
    /// The folder it runs in; its state is in `.skerry`.
    pub folder: TempDir,
}

impl Fleet {
    /// The example functions on three PoPs, without distances.
    pub fn start() -> Self {
        Self::with(&Options::default())
    }

    /// A fleet with these functions on one PoP, `lhr`.
    pub fn of(functions: &Path) -> Self {
        Self::with(&Options { functions: Some(functions.to_owned()), pops: "lhr=0", ..Options::default() })
    }

    /// A fleet started in some other way.
    pub fn with(options: &Options) -> Self {
        Self::within(tempfile::tempdir().expect("a temporary folder"), options)
    }

    /// A fleet on a state that is there already.
    pub fn within(folder: TempDir, options: &Options) -> Self {
        let mut command = Command::new(skerry());
        command.current_dir(folder.path()).args(["up", "--json", "--front", "0", "--origin", "0", "--admin", "0"]);
        command.args(["--pops", options.pops]);
        match &options.functions {
            Some(functions) => command.arg("--functions").arg(functions),
            None => command.arg("--no-functions"),
        };
        if !options.distance {
            command.arg("--no-distance");
        }
        // The suite holds for functions in cells, too, but for what it says of lost workers.
        let own = options.more.iter().any(|argument| argument == "--isolation");
        if let Some(isolation) = std::env::var_os("SUITE_ISOLATION").filter(|_| !own) {
            command.arg("--isolation").arg(isolation);
        }
        // Functions are not to notice where a PoP stands.
        command.env("TZ", "Asia/Tokyo");
        let errors = std::fs::File::create(folder.path().join("up.log")).expect("a log");
        command.args(&options.more).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors);
        let mut child = command.spawn().expect("skerry starts");
        let mut text = String::new();
        let mut output = BufReader::new(child.stdout.take().expect("a pipe"));
        let json = loop {
            let read = output.read_line(&mut text).expect("a pipe that can be read");
            if let Ok(json) = serde_json::from_str(&text) {
                break json;
            }
            if read == 0 {
                let _ = child.wait();
                panic!(
                    "skerry up has ended:\n{text}{}",
                    std::fs::read_to_string(folder.path().join("up.log")).unwrap_or_default()
                );
            }
        };
        // Whatever it prints later must not fill the pipe.
        std::thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
        Self { child, json, folder }
    }

    /// The process of `skerry up` itself.
    pub fn supervisor(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// The state folder.
    pub fn state(&self) -> PathBuf {
        self.folder.path().join(".skerry")
    }

    fn address(value: &Value) -> SocketAddr {
        value.as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("no address: {value}"))
    }

    /// Where a PoP listens.
    pub fn pop(&self, name: &str) -> SocketAddr {
        Self::address(&self.pop_json(name)["address"])
    }

    /// Where a PoP's health and metrics are.
    pub fn pop_admin(&self, name: &str) -> SocketAddr {
        Self::address(&self.pop_json(name)["admin"])
    }

    /// What a PoP counts now.
    pub async fn scrape(&self, name: &str) -> crate::Scrape {
        let authorization = self.authorization();
        let reply = crate::get(self.pop_admin(name), "/metrics", &[("authorization", &authorization)]).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        crate::Scrape::parse(&reply.text()).unwrap_or_else(|why| panic!("{why}"))
    }

    fn pop_json(&self, name: &str) -> Value {
        let find = |json: &Value| {
            let nodes = ["pops", "regions"].map(|kind| json[kind].as_array().expect("a list of nodes"));
            nodes.into_iter().flatten().find(|pop| pop["name"] == name).cloned()
        };
        // One that was started since then is in the file alone.
        find(&self.json).or_else(|| find(&self.current())).unwrap_or_else(|| panic!("no PoP {name}"))
    }

    /// Where the front door listens.
    pub fn front(&self) -> SocketAddr {
        Self::address(&self.json["front"])
    }

    /// Where the origin listens.
    pub fn origin(&self) -> SocketAddr {
        Self::address(&self.json["origin"]["address"])
    }

    /// Where the admin API listens.
    pub fn admin(&self) -> SocketAddr {
        Self::address(&self.json["admin"])
    }

    /// The admin API's token, as a header value.
    pub fn authorization(&self) -> String {
        let path = self.json["token_file"].as_str().expect("a path");
        format!("Bearer {}", std::fs::read_to_string(path).expect("a token").trim())
    }

    /// The fleet as its file tells it now: process ids change with restarts.
    pub fn current(&self) -> Value {
        let text = std::fs::read_to_string(self.state().join("fleet.json")).expect("fleet.json");
        serde_json::from_str(&text).expect("JSON")
    }

    /// The process of a PoP, or of the origin; `None` while it is down.
    pub fn pid(&self, name: &str) -> Option<i32> {
        let json = self.current();
        let node = if name == "origin" {
            json["origin"].clone()
        } else {
            let nodes = ["pops", "regions"].map(|kind| json[kind].as_array().expect("nodes"));
            nodes.into_iter().flatten().find(|pop| pop["name"] == name).expect("a node").clone()
        };
        node["pid"].as_i64().map(|pid| i32::try_from(pid).expect("a process id"))
    }

    /// Sends a signal to the process of a PoP or of the origin. One that has just come back answers before the
    /// supervisor has written down its process id: that is waited for. A process that is told to stop has stopped
    /// when this returns: until the thread that takes the signal gets a turn, the others go on answering.
    pub fn signal(&self, name: &str, signal: Signal) {
        for _ in 0..500 {
            let pid = self.pid(name).and_then(Pid::from_raw);
            if pid.is_some_and(|pid| kill_process(pid, signal).is_ok() && (signal != Signal::STOP || has_stopped(pid)))
            {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{name} is down");
    }

    /// The command that starts a stopped node again.
    pub fn command(&self, name: &str) -> Command {
        let node = if name == "origin" { self.json["origin"].clone() } else { self.pop_json(name) };
        let words: Vec<String> = serde_json::from_value(node["command"].clone()).expect("a command");
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).current_dir(self.folder.path()).stdin(Stdio::null());
        command
    }

    /// Requests that the origin's public listener has answered.
    pub async fn origin_requests(&self) -> u64 {
        let reply = crate::get(self.admin(), "/v1/stats", &[("authorization", &self.authorization())]).await;
        reply.json()["requests"].as_u64().expect("a number")
    }

    /// Runs a command of the CLI against this fleet.
    pub fn cli(&self, arguments: &[&str]) -> Output {
        Command::new(skerry())
            .current_dir(self.folder.path())
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .expect("skerry runs")
    }

    /// Runs a command that must succeed; its standard output.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let output = self.cli(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "skerry {arguments:?}: {errors}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// Runs a command that must fail; its standard error.
    pub fn fails(&self, arguments: &[&str]) -> String {
        let output = self.cli(arguments);
        assert!(
            !output.status.success(),
            "skerry {arguments:?} succeeded: {}",
            String::from_utf8_lossy(&output.stdout)
        );
        String::from_utf8(output.stderr).expect("text")
    }

    /// Deploys a folder; what `--json` printed.
    pub fn deploy(&self, folder: &Path) -> Value {
        serde_json::from_str(&self.ok(&["deploy", "--json", &folder.to_string_lossy()])).expect("JSON")
    }

    /// Ends the supervisor as Ctrl-C does, and waits for it.
    pub fn stop(mut self) -> TempDir {
        self.end();
        std::mem::replace(&mut self.folder, tempfile::tempdir().expect("a temporary folder"))
    }

    fn end(&mut self) {
        if let Some(pid) = Pid::from_raw(i32::try_from(self.child.id()).expect("a process id"))
            && self.child.try_wait().is_ok_and(|ended| ended.is_none())
        {
            let _ = kill_process(pid, Signal::INT);
            let _ = self.child.wait();
        }
    }

    /// Kills the supervisor without notice.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut log = String::new();
            let _ = std::fs::File::open(self.folder.path().join("up.log"))
                .and_then(|mut file| file.read_to_string(&mut log));
            eprintln!("--- up.log ---\n{log}");
            for name in ["origin", "lhr", "iad", "nrt", "eu-west-1"] {
                if let Ok(log) = std::fs::read_to_string(self.state().join(format!("logs/{name}.log"))) {
                    let start = log.len().saturating_sub(3000);
                    eprintln!("--- {name}.log ---\n{}", log.get(start..).unwrap_or(&log));
                }
            }
        }
        self.end();
    }
}

/// Asks until the answer is yes. Panics with `what` after 20 seconds.
pub async fn eventually<F: AsyncFnMut() -> bool>(what: &str, mut ask: F) {
    let began = Instant::now();
    while !ask().await {
        assert!(began.elapsed() < Duration::from_secs(20), "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Copies a folder of files.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("a copy");
        }
    }
}

/// Writes a function's folder: its project file without the braces, and its modules.
pub fn function(folder: &Path, project: &str, modules: &[(&str, &str)]) -> PathBuf {
    std::fs::create_dir_all(folder).expect("a folder");
    let name = folder.file_name().and_then(|name| name.to_str()).expect("a name");
    let separator = if project.is_empty() { "" } else { ", " };
    let text = format!(
        r#"{{ "name": "{name}", "main": "{}", "compatibility_date": "2026-11-24", "routes": ["*/{name}/*", "*/{name}"]{separator}{project} }}"#,
        modules[0].0
    );
    std::fs::write(folder.join("wrangler.jsonc"), text).expect("a file");
    for (path, source) in modules {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, source).expect("a file");
    }
    folder.to_owned()
}

/// Whether every thread of a process is in the state `T` (proc(5), `/proc/pid/stat`: the field after the name).
fn has_stopped(pid: Pid) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero())).expect("the threads of a process");
    threads.flatten().all(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_none_or(|(_, fields)| fields.starts_with('T'))
    })
}
