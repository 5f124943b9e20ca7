//! The manifest: what is live. Pure; the store is elsewhere.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::DeployError;
use crate::bundle::{Digest, FunctionName, RoutePattern};

/// Most functions live at once.
pub const MAX_FUNCTIONS: usize = 10_000;

/// Versions that a rollback without a version can walk back.
const MAX_LINE: usize = 100;

/// The same of all functions together: with very many functions, each has a shorter line.
const MAX_LINES: usize = 80_000;

/// Format of the stored manifest.
const FORMAT: u32 = 1;

/// What is live. A PoP that has it can answer every request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Which store it is of: random, given to it when it is first written, empty before. Generations of two stores do not
    /// follow each other, so a PoP that finds another store must take the manifest whatever its generation.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub store: String,
    /// Grows by one with each change; 0 before the first.
    pub generation: u64,
    /// The live version of each function.
    pub functions: BTreeMap<FunctionName, Deployment>,
}

/// A function's live version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// Its bundle.
    pub version: Digest,
    /// Length of the bundle in bytes.
    pub size: u64,
    /// The requests it answers. No two functions have the same pattern.
    pub routes: Vec<RoutePattern>,
    /// When it went live, in milliseconds since the Unix epoch.
    pub deployed_at_ms: u64,
}

/// The manifest as stored, with what only the origin needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stored {
    format: u32,
    #[serde(flatten)]
    pub(super) manifest: Manifest,
    /// For each live function, the versions that led to the live one, which is the last: a deploy adds one, a
    /// rollback removes some.
    lines: BTreeMap<FunctionName, Vec<Digest>>,
}

impl Default for Stored {
    fn default() -> Self {
        Self { format: FORMAT, manifest: Manifest::default(), lines: BTreeMap::new() }
    }
}

impl Stored {
    pub(super) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a manifest has only string keys")
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, DeployError> {
        let stored: Self = serde_json::from_slice(bytes).map_err(|e| DeployError::Manifest(e.to_string()))?;
        match stored.format {
            FORMAT => Ok(stored),
            other => Err(DeployError::Manifest(format!("it has format {other}, this release reads format {FORMAT}"))),
        }
    }

    /// Gives the manifest its identity, where it has none.
    pub(super) fn identify(&mut self, id: impl FnOnce() -> String) {
        if self.manifest.store.is_empty() {
            self.manifest.store = id();
        }
    }

    /// The version that was live before the live one.
    pub(super) fn before(&self, name: &FunctionName) -> Result<Digest, DeployError> {
        match self.line(name) {
            [.., before, _] => Ok(*before),
            [version] => Err(DeployError::NothingBefore { name: name.clone(), version: *version }),
            [] => Err(DeployError::NotDeployed { name: name.clone() }),
        }
    }

    /// The versions that led to the live one, which is the last.
    pub(super) fn line(&self, name: &FunctionName) -> &[Digest] {
        self.lines.get(name).map_or(&[], Vec::as_slice)
    }

    /// Makes a version live that follows the live one.
    pub(super) fn deploy(&mut self, name: &FunctionName, deployment: Deployment) -> Result<(), DeployError> {
        let before = self.longest_line();
        self.lines.entry(name.clone()).or_default().push(deployment.version);
        let longest = self.longest_line();
        let shorten = |line: &mut Vec<Digest>| drop(line.drain(..line.len().saturating_sub(longest)));
        if longest < before {
            self.lines.values_mut().for_each(shorten);
        } else if let Some(line) = self.lines.get_mut(name) {
            shorten(line);
        }
        self.set(name, deployment)
    }

    fn longest_line(&self) -> usize {
        (MAX_LINES / self.lines.len().max(1)).min(MAX_LINE)
    }

    /// Makes a version live that precedes the live one: what came after it leaves the line. A version that is not in
    /// the line follows the live one like a deploy.
    pub(super) fn roll_back(&mut self, name: &FunctionName, deployment: Deployment) -> Result<(), DeployError> {
        let line = self.lines.entry(name.clone()).or_default();
        match line.iter().rposition(|v| *v == deployment.version) {
            Some(at) => {
                line.truncate(at + 1);
                self.set(name, deployment)
            }
            None => self.deploy(name, deployment),
        }
    }

    /// Takes a function out; `false` when it is not in.
    pub(super) fn remove(&mut self, name: &FunctionName) -> bool {
        self.lines.remove(name);
        let removed = self.manifest.functions.remove(name).is_some();
        self.manifest.generation += u64::from(removed);
        removed
    }

    fn set(&mut self, name: &FunctionName, deployment: Deployment) -> Result<(), DeployError> {
        let functions = &mut self.manifest.functions;
        functions.insert(name.clone(), deployment);
        if functions.len() > MAX_FUNCTIONS {
            return Err(DeployError::TooManyFunctions { limit: MAX_FUNCTIONS });
        }
        self.manifest.generation += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment(n: u8) -> Deployment {
        Deployment { version: Digest::of(&[n]), size: 1, routes: Vec::new(), deployed_at_ms: n.into() }
    }

    fn name() -> FunctionName {
        "hello".parse().unwrap()
    }

    fn back(stored: &mut Stored) -> Result<(), DeployError> {
        let version = stored.before(&name())?;
        let deployment = Deployment { version, ..deployment(0) };
        stored.roll_back(&name(), deployment)
    }

    fn live(stored: &Stored) -> Digest {
        stored.manifest.functions[&name()].version
    }

    #[test]
    fn rollbacks_walk_back_and_a_deploy_begins_a_new_line() {
        let mut stored = Stored::default();
        for n in 1..=3 {
            stored.deploy(&name(), deployment(n)).unwrap();
        }
        back(&mut stored).unwrap();
        assert_eq!(live(&stored), deployment(2).version);
        stored.deploy(&name(), deployment(4)).unwrap();
        for expected in [2, 1] {
            back(&mut stored).unwrap();
            assert_eq!(live(&stored), deployment(expected).version);
        }
        assert!(matches!(back(&mut stored), Err(DeployError::NothingBefore { .. })));
        assert_eq!(stored.manifest.generation, 7);
    }

    #[test]
    fn rolling_back_to_a_version_outside_of_the_line_can_be_rolled_back() {
        let mut stored = Stored::default();
        stored.deploy(&name(), deployment(1)).unwrap();
        stored.roll_back(&name(), deployment(9)).unwrap();
        back(&mut stored).unwrap();
        assert_eq!(live(&stored), deployment(1).version);
    }

    #[test]
    fn the_line_is_bounded() {
        let mut stored = Stored::default();
        for n in 0..=255 {
            stored.deploy(&name(), deployment(n)).unwrap();
        }
        assert_eq!(stored.line(&name()).len(), MAX_LINE);
        assert_eq!(stored.before(&name()).unwrap(), deployment(254).version);
    }

    #[test]
    fn all_lines_together_are_bounded() {
        let mut stored = Stored::default();
        for n in 0..MAX_LINE {
            stored.deploy(&name(), deployment(n as u8)).unwrap();
        }
        // Twice as many functions as can have lines of that length.
        for n in 1..2 * MAX_LINES / MAX_LINE {
            stored.deploy(&format!("f{n}").parse().unwrap(), deployment(1)).unwrap();
        }
        assert_eq!(stored.line(&name()).len(), MAX_LINE / 2);
        assert_eq!(stored.before(&name()).unwrap(), deployment((MAX_LINE - 2) as u8).version, "the newest stay");
    }

    #[test]
    fn what_is_written_is_read_back_and_other_formats_are_named() {
        let mut stored = Stored::default();
        stored.deploy(&name(), deployment(1)).unwrap();
        assert_eq!(Stored::decode(&stored.encode()).unwrap(), stored, "also one from before there were identities");
        stored.identify(|| "first".to_owned());
        stored.identify(|| "second".to_owned());
        assert_eq!(Stored::decode(&stored.encode()).unwrap().manifest.store, "first");
        let newer = String::from_utf8(stored.encode()).unwrap().replace("\"format\":1", "\"format\":2");
        assert!(Stored::decode(newer.as_bytes()).unwrap_err().to_string().contains("format 2"));
        assert!(Stored::decode(b"{").is_err());
    }

    #[test]
    fn the_manifest_is_bounded() {
        let mut stored = Stored::default();
        for n in 0..MAX_FUNCTIONS {
            stored.deploy(&format!("f{n}").parse().unwrap(), deployment(1)).unwrap();
        }
        let refused = stored.deploy(&name(), deployment(1));
        assert!(matches!(refused, Err(DeployError::TooManyFunctions { .. })));
    }
}
