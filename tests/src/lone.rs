//! One PoP in front of a server that a test brings along.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use crate::fleet::{Fleet, eventually, function};
use crate::free_address;

/// The hosts of [`Lone::for_all`]: requests to the first go through a function that passes them on, those to the second
/// straight to the cache, and those to the third through a function that has a cache in front of it, too.
pub const HOSTS: [&str; 3] = ["function.example", "plain.example", "front.example"];

/// A process of its own beside the PoP `lhr` of a fleet, with the same functions and another origin. Dropped, it is ended.
#[derive(Debug)]
pub struct Lone {
    child: Child,
    command: Command,
    /// Where it listens.
    pub address: SocketAddr,
    /// Held for its control API and its folder.
    pub fleet: Fleet,
}

impl Lone {
    /// Starts one whose every path is of the project that [`HOSTS`] tells for its host.
    pub async fn for_all(origin: SocketAddr, more: &[(&str, &str)]) -> Self {
        let functions = tempfile::tempdir().expect("a temporary folder");
        let own = |name: &str, host: &str, project: &str, modules: &[(&str, &str)]| {
            let folder = function(&functions.path().join(name), project, modules);
            let file = folder.join("wrangler.jsonc");
            let text = std::fs::read_to_string(&file).expect("a project file");
            let route = format!(r#""{host}/*""#);
            let text = text.replace(&format!(r#""*/{name}/*", "*/{name}""#), &route);
            std::fs::write(&file, text.replace(r#""main": "index.txt", "#, "")).expect("a project file");
        };
        let passes = "export default { fetch: (request) => fetch(request) }";
        own("passes", HOSTS[0], "", &[("index.js", passes)]);
        let files = r#""assets": { "directory": "public" }"#;
        own("files", HOSTS[1], files, &[("index.txt", ""), ("public/file.txt", "a project has something")]);
        own("fronted", HOSTS[2], r#""cache": { "enabled": true }"#, &[("index.js", passes)]);
        Self::before(origin, Fleet::of(functions.path()), more).await
    }

    /// Starts one on what the fleet has deployed, and waits until it serves. `more` are further options of `skerry pop`.
    pub async fn before(origin: SocketAddr, fleet: Fleet, more: &[(&str, &str)]) -> Self {
        let address = free_address();
        let template = fleet.command("lhr");
        let mut words: Vec<String> = template.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
        // Its admin address is taken, and the front door, whom it would trust, is not before this one.
        for option in ["--admin", "--trust"] {
            if let Some(at) = words.iter().position(|word| word == option) {
                words.drain(at..at + 2);
            }
        }
        let (address_text, origin) = (address.to_string(), format!("http://{origin}"));
        let data = fleet.state().join("lone").to_string_lossy().into_owned();
        let own = [("--name", "lone"), ("--listen", &*address_text), ("--origin", &*origin), ("--data", &*data)];
        for (option, value) in own.iter().chain(more) {
            match words.iter().position(|word| word == option) {
                Some(at) => words[at + 1] = (*value).to_owned(),
                None => words.extend([(*option).to_owned(), (*value).to_owned()]),
            }
        }
        let mut command = Command::new(template.get_program());
        command.args(words).arg("--exit-with-parent").current_dir(fleet.folder.path());
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        let child = spawn(&mut command, &fleet);
        let lone = Self { child, command, address, fleet };
        lone.ready().await;
        lone
    }

    async fn ready(&self) {
        eventually("the PoP is ready", async || {
            let health = crate::client::try_send(self.address, http::Method::GET, "/.skerry/health", &[], "").await;
            health.is_ok_and(|health| health.status == 200)
        })
        .await;
    }
}

/// Starts it; what it logs is added to what it has logged so far.
fn spawn(command: &mut Command, fleet: &Fleet) -> Child {
    let log = fleet.folder.path().join("lone.log");
    let log = std::fs::File::options().create(true).append(true).open(log).expect("a log");
    command.stderr(log).spawn().expect("skerry starts")
}

impl Lone {
    /// Kills it with SIGKILL and starts it again on what it has left.
    pub async fn crash(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it has ended");
        self.child = spawn(&mut self.command, &self.fleet);
        self.ready().await;
    }

    /// Its data folder.
    pub fn data(&self) -> std::path::PathBuf {
        self.fleet.state().join("lone")
    }

    /// Its resident memory, in bytes (proc(5), `/proc/pid/status`).
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a resident set");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
    }
}

impl Drop for Lone {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.fleet.folder.path().join("lone.log")).unwrap_or_default();
            eprintln!("--- lone.log ---\n{}", log.get(log.len().saturating_sub(3000)..).unwrap_or(&log));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
