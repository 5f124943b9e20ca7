//! One PoP in front of a server that a test brings along.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};

use crate::fleet::{Fleet, eventually};

/// A process of its own beside the PoP `lhr` of a fleet, with the same functions and another origin. Dropped, it is ended.
#[derive(Debug)]
pub struct Lone {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
    /// Held for its control API and its folder.
    pub fleet: Fleet,
}

impl Lone {
    /// Starts one on what the fleet has deployed, and waits until it serves. `more` are further options of `skerry pop`.
    pub async fn before(origin: SocketAddr, fleet: Fleet, more: &[&str]) -> Self {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|free| free.local_addr());
        let address = free.expect("a free port");
        let template = fleet.command("lhr");
        let mut words: Vec<String> = template.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
        for (option, value) in [
            ("--name", "lone".to_owned()),
            ("--listen", address.to_string()),
            ("--origin", format!("http://{origin}")),
            ("--data", fleet.state().join("lone").to_string_lossy().into_owned()),
        ] {
            let at = words.iter().position(|word| word == option).expect("an option that `up` gives");
            words[at + 1] = value;
        }
        if let Some(at) = words.iter().position(|word| word == "--admin") {
            words.drain(at..at + 2);
        }
        let log = std::fs::File::create(fleet.folder.path().join("lone.log")).expect("a log");
        let mut command = Command::new(template.get_program());
        command.args(words).arg("--exit-with-parent").args(more).current_dir(fleet.folder.path());
        let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log).spawn().expect("skerry starts");
        let lone = Self { child, address, fleet };
        eventually("the PoP is ready", async || {
            let health = crate::client::try_send(address, http::Method::GET, "/.skerry/health", &[], "").await;
            health.is_ok_and(|health| health.status == 200)
        })
        .await;
        lone
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
