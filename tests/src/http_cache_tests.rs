//! The npm package `http-cache-tests`: its origin, its client, and what is known to fail.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

/// What came of one test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Its name in the package.
    pub id: String,
    /// What it is about.
    pub name: String,
    /// `required`, `optimal`, or `check` for one that only tells how a cache is.
    pub kind: String,
    /// Whether it passed.
    pub passed: bool,
    /// Why it did not.
    pub why: String,
}

/// Tests that are known to fail, by their id, with the reason.
pub type Known = BTreeMap<String, String>;

/// Where the package is; `None`, said loudly, where it is not. With `CI` set that is a failure.
pub fn package() -> Option<PathBuf> {
    let folder = workspace().join(".tools/http-cache-tests/node_modules/http-cache-tests");
    if folder.is_dir() {
        return Some(folder);
    }
    let missing = "no package http-cache-tests: `make tools` installs it, with nodejs and npm";
    assert!(std::env::var_os("CI").is_none(), "{missing}");
    eprintln!("\n*** NOT TESTED: {missing}\n");
    None
}

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package is in the workspace")
}

/// The origin that the tests configure. Dropped, it is ended.
#[derive(Debug)]
pub struct Server {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Server {
    /// Starts it on a free port.
    pub fn start(package: &Path, folder: &Path) -> Self {
        let mut command = Command::new("node");
        command.arg(package.join("server/server.mjs")).current_dir(package);
        for (name, value) in [("port", "0"), ("protocol", "http")] {
            command.env(format!("npm_config_{name}"), value);
        }
        command.env("npm_config_pidfile", folder.join("server.pid"));
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("node starts");
        let mut output = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut line = String::new();
        output.read_line(&mut line).expect("a pipe that can be read");
        let port = line.trim().trim_end_matches('/').rsplit(':').next().and_then(|port| port.parse().ok());
        let port: u16 = port.unwrap_or_else(|| panic!("the server did not say where it listens: {line:?}"));
        // What it prints later, as when a request comes twice, must not fill the pipe.
        std::thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
        Self { child, address: SocketAddr::from(([127, 0, 0, 1], port)) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs the tests of these ids, or all, against a cache.
pub fn run(package: &Path, cache: SocketAddr, ids: &[&str]) -> Vec<Outcome> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("http-cache-tests.mjs");
    let mut command = Command::new("node");
    command.arg("--no-warnings").arg(script).arg(package).arg(format!("http://{cache}")).args(ids);
    let output = command.stdin(Stdio::null()).output().expect("node starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let outcomes: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}{errors}"));
    let text = |outcome: &Value, key: &str| outcome[key].as_str().unwrap_or_default().to_owned();
    let read = |outcome: &Value| Outcome {
        id: text(outcome, "id"),
        name: text(outcome, "name"),
        kind: text(outcome, "kind"),
        passed: outcome["passed"] == true,
        why: text(outcome, "why"),
    };
    outcomes.iter().map(read).collect()
}

/// What `tests/http-cache-tests.json` says of a set-up: its entries, without those that are `only` of another one.
pub fn known(setup: &str) -> Known {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("http-cache-tests.json"));
    let all: BTreeMap<String, Value> = serde_json::from_str(&text.expect("a file")).expect("JSON");
    let own = all.into_iter().filter(|(_, entry)| entry["only"].as_str().is_none_or(|only| only == setup));
    own.map(|(id, entry)| (id, entry["reason"].as_str().unwrap_or_default().to_owned())).collect()
}

/// How many tests of a kind passed, of how many.
pub fn score(outcomes: &[Outcome], kind: &str) -> (usize, usize) {
    let of_kind: Vec<_> = outcomes.iter().filter(|outcome| outcome.kind == kind).collect();
    (of_kind.iter().filter(|outcome| outcome.passed).count(), of_kind.len())
}

/// Tests that failed and should not have.
pub fn unexpected<'a>(outcomes: &'a [Outcome], known: &Known) -> Vec<&'a Outcome> {
    let fails = |outcome: &&Outcome| !outcome.passed && outcome.kind != "check" && !known.contains_key(&outcome.id);
    outcomes.iter().filter(fails).collect()
}

/// What is wrong with the list of known failures: entries that pass now, or are of no test, or have no reason.
pub fn outdated(outcomes: &[Outcome], known: &Known) -> Vec<String> {
    let judge = |(id, reason): (&String, &String)| match outcomes.iter().find(|outcome| outcome.id == *id) {
        _ if reason.trim().is_empty() => Some(format!("{id}: the list gives no reason")),
        None => Some(format!("{id}: the package has no such test, take it off the list")),
        Some(outcome) if outcome.passed => Some(format!("{id} passes now, take it off the list: {}", outcome.name)),
        Some(_) => None,
    };
    known.iter().filter_map(judge).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(id: &str, kind: &str, passed: bool) -> Outcome {
        Outcome { id: id.to_owned(), name: String::new(), kind: kind.to_owned(), passed, why: String::new() }
    }

    fn judge(outcomes: &[Outcome], known: &[(&str, &str)]) -> (usize, usize) {
        let known = known.iter().map(|(id, reason)| ((*id).to_owned(), (*reason).to_owned())).collect();
        (unexpected(outcomes, &known).len(), outdated(outcomes, &known).len())
    }

    #[test]
    fn a_list_that_says_what_is_so_is_taken() {
        let outcomes = [outcome("a", "required", true), outcome("b", "optimal", false), outcome("c", "check", false)];
        assert_eq!(judge(&outcomes, &[("b", "a reason")]), (0, 0));
        assert_eq!((score(&outcomes, "required"), score(&outcomes, "optimal")), ((1, 1), (0, 1)));
    }

    #[test]
    fn a_result_that_got_worse_is_refused() {
        let outcomes = [outcome("a", "required", false), outcome("b", "optimal", false)];
        assert_eq!(judge(&outcomes, &[("b", "a reason")]), (1, 0));
        assert_eq!(judge(&outcomes, &[("a", "a reason")]), (1, 0));
    }

    #[test]
    fn a_list_that_is_longer_than_it_must_be_is_refused() {
        let outcomes = [outcome("a", "required", true), outcome("b", "optimal", false)];
        assert_eq!(judge(&outcomes, &[("a", "a reason"), ("b", "a reason")]), (0, 1), "one that passes");
        assert_eq!(judge(&outcomes, &[("b", "a reason"), ("z", "a reason")]), (0, 1), "one that is not there");
        assert_eq!(judge(&outcomes, &[("b", " ")]), (0, 1), "one without a reason");
    }
}
