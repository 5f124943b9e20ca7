//! What was decided about scaling, one JSON object a line: for `skerry plan --explain`, and whoever asks later why.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use capacity::scale::policy::Decision;
use serde::{Deserialize, Serialize};

use crate::output::note;

/// Its name in the state folder.
pub(crate) const FILE: &str = "decisions.jsonl";

/// A file longer than this is moved aside: two of this size are kept at most.
const MAX_BYTES: u64 = 4 << 20;
/// The end of it that is read.
const TAIL_BYTES: u64 = 1 << 20;
/// Decisions that are like the last one are written so often.
const HEARTBEAT: Duration = Duration::from_secs(60);

/// A line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// Seconds since 1970.
    pub(crate) at: f64,
    pub(crate) subject: String,
    pub(crate) current: u32,
    pub(crate) desired: u32,
    /// What decided: a rule's name.
    pub(crate) by: String,
    /// Inputs, formula and result of every rule, in sentences.
    pub(crate) explanation: String,
    /// The same as data.
    pub(crate) decision: serde_json::Value,
}

impl Entry {
    fn new(decision: &Decision) -> Self {
        Self {
            at: decision.at.elapsed().as_secs_f64(),
            subject: decision.subject.clone(),
            current: decision.current,
            desired: decision.desired,
            by: decision.decided_by.as_str().to_owned(),
            explanation: decision.explain(),
            decision: serde_json::to_value(decision).unwrap_or_default(),
        }
    }

    /// Whether it says no more than another.
    fn is_like(&self, other: &Self) -> bool {
        self.current == other.current
            && self.desired == other.desired
            && self.by == other.by
            && self.decision["held"] == other.decision["held"]
    }
}

/// The file, as it is written.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    /// What was written last, by subject; told once when it cannot be.
    last: Mutex<(Vec<Entry>, bool)>,
}

impl Log {
    /// Of this state folder.
    pub(crate) fn new(state: &Path) -> Self {
        Self { path: state.join(FILE), last: Mutex::default() }
    }

    /// Writes a decision, unless the last one about its subject was like it and not long ago.
    pub(crate) fn write(&self, decision: &Decision) {
        let entry = Entry::new(decision);
        let (last, failing) = &mut *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let known = last.iter_mut().find(|last| last.subject == entry.subject);
        let recent = |last: &Entry| (0.0..HEARTBEAT.as_secs_f64()).contains(&(entry.at - last.at));
        if known.as_ref().is_some_and(|last| last.is_like(&entry) && recent(last)) {
            return;
        }
        match append(&self.path, &entry) {
            Ok(()) => *failing = false,
            Err(error) if !std::mem::replace(failing, true) => {
                note(format_args!("decisions are not written to {}: {error}", self.path.display()));
            }
            Err(_) => {}
        }
        match known {
            Some(last) => *last = entry,
            None => last.push(entry),
        }
    }
}

fn append(path: &Path, entry: &Entry) -> io::Result<()> {
    if fs::metadata(path).is_ok_and(|file| file.len() > MAX_BYTES) {
        fs::rename(path, path.with_extension("jsonl.old"))?;
    }
    let mut line = serde_json::to_vec(entry)?;
    line.push(b'\n');
    OpenOptions::new().create(true).append(true).open(path)?.write_all(&line)
}

/// The last decisions that a state folder knows of, at most `most`, the latest last. A line that was cut short is left out.
///
/// # Errors
/// When there is no such file, or it cannot be read.
pub(crate) fn last(state: &Path, most: usize) -> io::Result<Vec<Entry>> {
    let mut file = File::open(state.join(FILE))?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let entries: Vec<Entry> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    Ok(entries[entries.len().saturating_sub(most)..].to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use capacity::Moment;
    use capacity::scale::policy::{Observation, Policy};

    fn decision(at: u64, current: u32) -> Decision {
        let policy = Policy::default();
        let seen = Observation {
            current,
            ready: current,
            replicas: &[],
            metrics: &[],
            load: None,
            measured: None,
            reachable: true,
            foreseen: None,
            room: None,
        };
        policy.decide(&mut policy.start(), "processes of PoP lhr", &seen, Moment::from_secs(at))
    }

    #[test]
    fn what_changes_is_written_and_what_does_not_once_a_minute() {
        let state = tempfile::tempdir().unwrap();
        let log = Log::new(state.path());
        for (at, current) in [(1000, 1), (1002, 1), (1010, 2), (1012, 2), (1075, 2)] {
            log.write(&decision(at, current));
        }
        let entries = last(state.path(), 10).unwrap();
        let said: Vec<_> = entries.iter().map(|entry| (entry.at as u64, entry.current)).collect();
        assert_eq!(said, [(1000, 1), (1010, 2), (1075, 2)]);
        assert!(entries[0].explanation.starts_with("processes of PoP lhr stays at 1: it is held"), "{:?}", entries[0]);
        assert_eq!(last(state.path(), 1).unwrap().len(), 1);
        fs::write(state.path().join(FILE), "{\"at\": 1").unwrap();
        assert!(last(state.path(), 10).unwrap().is_empty());
    }
}
