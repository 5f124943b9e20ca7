//! A server process under measurement. Dropped, it is ended, and every process below it.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::Failure;
use crate::connection::{Answer, Connection, get};
use crate::machine::{Machine, Place};
use crate::process::{self, Process, Usage};

/// How long a server may take until it answers: a PoP tries 10,000 functions first that it has not seen before.
const START_TIMEOUT: Duration = Duration::from_secs(600);

/// How long it may take for one answer while it is starting.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long it may take to end by itself.
const END_TIMEOUT: Duration = Duration::from_secs(10);

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    child: Child,
    program: String,
    log: PathBuf,
}

/// A port of the loopback that nobody uses.
///
/// # Errors
/// When there is none.
pub(crate) fn free_address() -> std::io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

impl Server {
    /// Starts `command` at `place`, its output in the file `log`, and waits until `path` at `address` is a 200; without
    /// a path, until connections are accepted.
    ///
    /// # Errors
    /// When it does not start, with the end of its log.
    pub(crate) async fn start(
        machine: &Machine,
        place: Place,
        command: Command,
        address: SocketAddr,
        path: Option<&str>,
        log: &Path,
    ) -> Result<Self, Failure> {
        let mut server = Self::launch(machine, place, command, address, log)?;
        server.ready(path, Duration::from_millis(20)).await?;
        Ok(server)
    }

    /// Starts `command` as [`Self::start`] and does not wait.
    ///
    /// # Errors
    /// When there is no such program.
    pub(crate) fn launch(
        machine: &Machine,
        place: Place,
        mut command: Command,
        address: SocketAddr,
        log: &Path,
    ) -> Result<Self, Failure> {
        let file = File::create(log).map_err(|error| format!("cannot write {}: {error}", log.display()))?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let program = command.get_program().to_string_lossy().into_owned();
        let child = machine
            .at(place, || command.spawn().map_err(|error| format!("{program} cannot be started: {error}").into()))?;
        Ok(Self { address, child, program, log: log.to_owned() })
    }

    /// Waits until `path` is a 200, or connections are accepted, and looks this often.
    ///
    /// # Errors
    /// When it ends, or takes too long, with the end of its log.
    pub(crate) async fn ready(&mut self, path: Option<&str>, every: Duration) -> Result<(), Failure> {
        let began = Instant::now();
        while let Err(error) = self.ask(path).await {
            if let Some(status) = self.child.try_wait()? {
                return Err(self.failure(format!("it has ended with {status}")));
            }
            if began.elapsed() > START_TIMEOUT {
                return Err(self.failure(format!("not ready after {} s: {error}", START_TIMEOUT.as_secs())));
            }
            // Nothing else runs here meanwhile, and Tokio's timers are a millisecond coarse.
            std::thread::sleep(every);
        }
        Ok(())
    }

    fn failure(&self, why: String) -> Failure {
        format!("{}: {why}{}", self.program, tail(&self.log)).into()
    }

    async fn ask(&self, path: Option<&str>) -> std::io::Result<()> {
        let answer = async {
            let mut connection = Connection::open(self.address).await?;
            match path {
                Some(path) => connection.exchange(&get(self.address, path), |_| ()).await.map(drop),
                None => Ok(()),
            }
        };
        tokio::time::timeout(ANSWER_TIMEOUT, answer).await?
    }

    /// What it has used since it started.
    pub(crate) fn usage(&self) -> Usage {
        process::usage(self.child.id())
    }

    /// Its resident memory, in MiB.
    pub(crate) fn resident_mib(&self) -> f64 {
        self.usage().resident as f64 / f64::from(1 << 20)
    }

    /// Its memory in MiB, where a page that several processes share counts for each in proportion.
    pub(crate) fn proportional_mib(&self) -> f64 {
        process::proportional(self.child.id()) as f64 / f64::from(1 << 20)
    }

    /// Forgets the peak of its memory so far.
    ///
    /// # Errors
    /// When the system does not let it.
    pub(crate) fn reset_peak(&self) -> Result<(), Failure> {
        process::reset_peak(self.child.id())
    }

    /// The peak of its resident memory since then, in MiB.
    pub(crate) fn peak_mib(&self) -> f64 {
        process::peak(self.child.id()) as f64 / f64::from(1 << 20)
    }

    /// Asks once, and gives the answer whatever it is.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) async fn answer(&self, request: &[u8]) -> Result<Answer, Failure> {
        let answer = async { Connection::open(self.address).await?.ask(request).await };
        let late = |_| format!("{}: no answer for {} s", self.program, ANSWER_TIMEOUT.as_secs());
        Ok(tokio::time::timeout(ANSWER_TIMEOUT, answer).await.map_err(late)??)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let tree = Process::tree(self.child.id());
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            process::signal(self.child.id(), Signal::TERM);
        }
        let began = Instant::now();
        while self.child.try_wait().is_ok_and(|ended| ended.is_none()) && began.elapsed() < END_TIMEOUT {
            std::thread::sleep(Duration::from_millis(5));
        }
        // What is left by now ignores signals, or has lost its parent.
        tree.iter().for_each(Process::kill);
        let _ = self.child.wait();
    }
}

/// The end of a log, on lines of its own.
fn tail(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text[text.len().saturating_sub(2000)..]).into_owned();
    if text.trim().is_empty() { String::new() } else { format!("\n{}", text.trim()) }
}
