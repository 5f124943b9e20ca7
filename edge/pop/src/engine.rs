//! The startup snapshot of this PoP, made when it first starts: with a hash seed that nobody else has.

use std::fs;
use std::io::{Error, Result};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use isolate::Snapshot;

use crate::shelf::{seal_key_of, write};

/// The file with the snapshot, under the seal of the code caches: who can write it can write machine code for this PoP.
const SNAPSHOT: &str = "engine.snapshot";
/// What is made and not yet proven.
const UNPROVEN: &str = "engine.snapshot.unproven";
/// Each of the two steps takes a fraction of a second.
const PATIENCE: Duration = Duration::from_secs(30);

/// What this PoP starts isolates from: its own snapshot, made now if there is none for this build; the build's when it
/// cannot be made, which is no reason not to serve.
pub(crate) fn snapshot(data: &Path, maker: Option<&Path>) -> Snapshot {
    let Some(maker) = maker else { return Snapshot::built_in() };
    kept(data).or_else(|_| made(data, maker)).unwrap_or_else(|error| {
        tracing::warn!(folder = %data.display(), %error, "no startup snapshot of its own: this PoP shares its hash seed with all of its build");
        Snapshot::built_in()
    })
}

fn kept(data: &Path) -> Result<Snapshot> {
    let sealed = fs::read(data.join(SNAPSHOT))?;
    Snapshot::open(&sealed, &seal_key_of(data)?).map_err(|why| Error::other(why.as_str()))
}

fn made(data: &Path, maker: &Path) -> Result<Snapshot> {
    fs::create_dir_all(data)?;
    let unproven = data.join(UNPROVEN);
    run(Command::new(maker).arg("snapshot").arg(&unproven))?;
    run(Command::new(maker).arg("snapshot").arg("--prove").arg(&unproven))?;
    let snapshot = Snapshot::new(fs::read(&unproven)?);
    fs::remove_file(&unproven)?;
    write(data, SNAPSHOT, &snapshot.seal(&seal_key_of(data)?))?;
    Ok(snapshot)
}

fn run(command: &mut Command) -> Result<()> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
    let began = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if began.elapsed() > PATIENCE {
            child.kill()?;
            break child.wait()?;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    if status.success() { Ok(()) } else { Err(Error::other(format!("{command:?} has ended with {status}"))) }
}
