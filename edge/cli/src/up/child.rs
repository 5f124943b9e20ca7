//! A process of the fleet: started, watched, ended.
//!
//! A child holds the read end of a pipe on its standard input, and runs with `--exit-with-parent`: when the pipe closes it
//! drains and ends. So a child ends with its supervisor even when that is killed outright, and no signal has to be sent.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::process::{ChildStdin, Command};
use tokio::time::Instant;

/// How long a child may take to answer after its start. A debug build on a busy machine needs seconds.
pub(crate) const START_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a child may take to finish its requests before it is killed.
pub(crate) const DRAIN_TIMEOUT: Duration = Duration::from_secs(15);

/// Between two looks at a child that starts.
const START_INTERVAL: Duration = Duration::from_millis(25);

/// Lines of a log that an error shows.
const TAIL_LINES: usize = 15;

/// Bytes of a log that are searched for them.
const TAIL_BYTES: u64 = 8 << 10;

/// A log longer than this is moved aside, so that two of this size are kept at most.
pub(crate) const MAX_LOG_BYTES: u64 = 32 << 20;

/// What to start.
#[derive(Clone, Debug)]
pub(crate) struct Recipe {
    /// What people call it (`PoP lhr`).
    pub name: String,
    /// The executable.
    pub program: PathBuf,
    /// Its arguments, as for a start by hand.
    pub arguments: Vec<OsString>,
    /// Where its output goes.
    pub log: PathBuf,
}

/// A running process.
#[derive(Debug)]
pub(crate) struct Child {
    process: tokio::process::Child,
    /// Dropped to ask for the end.
    input: Option<ChildStdin>,
}

/// Why a process is not there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// It could not be started at all.
    #[error("cannot start {name} ({}): {source}", program.display())]
    Spawn {
        /// What.
        name: String,
        /// The executable, or its log.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It ended before it was ready.
    #[error("{name} ended while it started, with {status}. The end of its log ({}):\n{tail}", log.display())]
    Ended {
        /// What.
        name: String,
        /// How it ended.
        status: String,
        /// Its log.
        log: PathBuf,
        /// The last lines of it.
        tail: String,
    },
    /// It did not become ready in time.
    #[error("{name} was not ready after {} s. The end of its log ({}):\n{tail}", START_TIMEOUT.as_secs(), log.display())]
    TimedOut {
        /// What.
        name: String,
        /// Its log.
        log: PathBuf,
        /// The last lines of it.
        tail: String,
    },
}

impl Recipe {
    /// The command for a start by hand, as a shell takes it.
    pub(crate) fn command(&self) -> Vec<String> {
        let program = std::iter::once(self.program.as_os_str());
        program
            .chain(self.arguments.iter().map(OsString::as_os_str))
            .map(|part| part.to_string_lossy().into_owned())
            .collect()
    }

    /// Starts the process.
    ///
    /// # Errors
    /// [`StartError::Spawn`].
    pub(crate) fn spawn(&self) -> Result<Child, StartError> {
        let failed =
            |program: &Path, source| StartError::Spawn { name: self.name.clone(), program: program.to_owned(), source };
        let log = open_log(&self.log).map_err(|error| failed(&self.log, error))?;
        let errors = log.try_clone().map_err(|error| failed(&self.log, error))?;
        let mut process = Command::new(&self.program)
            .args(&self.arguments)
            .arg("--exit-with-parent")
            .stdin(Stdio::piped())
            .stdout(log)
            .stderr(errors)
            // Ctrl-C reaches the supervisor alone, which ends its children in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| failed(&self.program, error))?;
        let input = process.stdin.take();
        Ok(Child { process, input })
    }

    /// Waits until `ready` says so.
    ///
    /// # Errors
    /// [`StartError::Ended`] or [`StartError::TimedOut`], with the end of the log.
    pub(crate) async fn wait_ready<F>(&self, child: &mut Child, ready: impl Fn() -> F) -> Result<(), StartError>
    where
        F: Future<Output = bool>,
    {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            if let Ok(Some(status)) = child.process.try_wait() {
                return Err(StartError::Ended {
                    name: self.name.clone(),
                    status: describe(status),
                    log: self.log.clone(),
                    tail: tail(&self.log),
                });
            }
            if ready().await {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(StartError::TimedOut {
                    name: self.name.clone(),
                    log: self.log.clone(),
                    tail: tail(&self.log),
                });
            }
            tokio::time::sleep(START_INTERVAL).await;
        }
    }
}

impl Child {
    /// Its process id; `None` once it has ended.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.process.id()
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> io::Result<ExitStatus> {
        // `wait` of tokio closes the standard input it owns; ours was taken out and stays open.
        self.process.wait().await
    }

    /// Asks it to drain, and kills it when it has not ended by the deadline. True when it ended by itself.
    pub(crate) async fn stop(&mut self) -> bool {
        drop(self.input.take());
        if tokio::time::timeout(DRAIN_TIMEOUT, self.process.wait()).await.is_ok() {
            return true;
        }
        let _ = self.process.kill().await;
        false
    }
}

/// Whether somebody ended the process on purpose: it finished by itself, or was asked to (SIGTERM, SIGINT).
pub(crate) fn on_purpose(status: ExitStatus) -> bool {
    const SIGINT: i32 = 2;
    const SIGTERM: i32 = 15;
    status.success() || matches!(status.signal(), Some(SIGINT | SIGTERM))
}

/// How a process ended, for people.
pub(crate) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "an unknown status".to_owned(),
    }
}

/// Opens a log for appending; one that has grown long is moved aside first.
fn open_log(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    if fs::metadata(path).is_ok_and(|log| log.len() > MAX_LOG_BYTES) {
        fs::rename(path, aside(path))?;
    }
    OpenOptions::new().append(true).create(true).open(path)
}

/// Keeps the log of a running process from growing without end: a copy is kept and the file emptied, which an appending
/// writer does not notice.
///
/// # Errors
/// When the folder cannot be written.
pub(crate) fn rotate_log(path: &Path) -> io::Result<()> {
    if fs::metadata(path)?.len() > MAX_LOG_BYTES {
        fs::copy(path, aside(path))?;
        OpenOptions::new().write(true).open(path)?.set_len(0)?;
    }
    Ok(())
}

fn aside(path: &Path) -> PathBuf {
    path.with_extension("log.old")
}

/// The last lines of a log.
pub(crate) fn tail(path: &Path) -> String {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let text = String::from_utf8_lossy(&read().unwrap_or_default()).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    let last = lines[lines.len().saturating_sub(TAIL_LINES)..].iter().map(|line| format!("  {line}"));
    let last: Vec<String> = last.collect();
    if last.is_empty() { "  (it is empty)".to_owned() } else { last.join("\n") }
}

/// Joins a command for a shell, quoting what needs it.
pub(crate) fn shell(command: &[String]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    let quote = |part: &String| {
        if !part.is_empty() && part.chars().all(plain) {
            part.clone()
        } else {
            format!("'{}'", part.replace('\'', r"'\''"))
        }
    };
    command.iter().map(quote).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe(folder: &Path, script: &str) -> Recipe {
        let program = folder.join("child.sh");
        fs::write(&program, script).unwrap();
        // The script is read by the shell, so no test ever executes a file that another test's fork still writes.
        Recipe {
            name: "PoP lhr".to_owned(),
            program: "/bin/sh".into(),
            arguments: vec![program.into()],
            log: folder.join("logs/lhr.log"),
        }
    }

    #[tokio::test]
    async fn a_child_that_ends_while_it_starts_is_an_error_with_the_end_of_its_log() {
        let root = tempfile::tempdir().unwrap();
        let recipe = recipe(root.path(), "echo no such city >&2; exit 3\n");
        let mut child = recipe.spawn().unwrap();
        let error = recipe.wait_ready(&mut child, || async { false }).await.unwrap_err().to_string();
        assert!(
            error.contains("PoP lhr") && error.contains("exit code 3") && error.contains("no such city"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn closing_the_pipe_asks_a_child_to_end() {
        let root = tempfile::tempdir().unwrap();
        let recipe = recipe(root.path(), "echo ready; cat >/dev/null; exit 0\n");
        let mut child = recipe.spawn().unwrap();
        recipe.wait_ready(&mut child, || async { tail(&recipe.log).contains("ready") }).await.unwrap();
        assert!(child.pid().is_some());
        assert!(child.stop().await);
        assert!(on_purpose(child.ended().await.unwrap()));
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_named() {
        let root = tempfile::tempdir().unwrap();
        let recipe = Recipe { program: root.path().join("absent"), ..recipe(root.path(), "") };
        assert!(recipe.spawn().unwrap_err().to_string().contains("absent"));
    }

    #[test]
    fn a_crash_is_told_from_an_end_on_purpose() {
        let [kill, term, failure, success] = [9, 15, 1 << 8, 0].map(ExitStatus::from_raw);
        assert!(on_purpose(term) && on_purpose(success) && !on_purpose(kill) && !on_purpose(failure));
        assert_eq!((describe(kill), describe(failure)), ("signal 9".to_owned(), "exit code 1".to_owned()));
    }

    #[test]
    fn only_the_end_of_a_log_is_shown_and_a_long_one_is_emptied() {
        let root = tempfile::tempdir().unwrap();
        let log = root.path().join("x.log");
        fs::write(&log, (0..10_000).map(|i| format!("line {i}\n")).collect::<String>()).unwrap();
        let shown = tail(&log);
        assert!(shown.ends_with("line 9999") && shown.lines().count() == TAIL_LINES);
        rotate_log(&log).unwrap();
        assert!(fs::metadata(&log).unwrap().len() > 0, "a short log is left alone");
        File::options().write(true).open(&log).unwrap().set_len(MAX_LOG_BYTES + 1).unwrap();
        rotate_log(&log).unwrap();
        assert_eq!(fs::metadata(&log).unwrap().len(), 0);
        assert_eq!(tail(&root.path().join("none")), "  (it is empty)");
    }

    #[test]
    fn a_command_can_be_pasted_into_a_shell() {
        let command = ["skerry", "--data", "my folder/it's", ""].map(str::to_owned);
        assert_eq!(shell(&command), r"skerry --data 'my folder/it'\''s' ''");
    }
}
