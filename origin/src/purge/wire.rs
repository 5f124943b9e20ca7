//! What the admin API, PoPs and the command line say to each other about purges, in JSON.

use serde::{Deserialize, Serialize};

use super::{Batch, Mode, Part, Scope, ScopeError};
use crate::bundle::FunctionName;

/// Most purges in one call.
pub const MAX_SCOPES: usize = 100;

/// Body of `POST /v1/purges`: everything named is purged, in one batch. The names are those of Cloudflare's API.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PurgeRequest {
    /// URLs: [`Scope::url`].
    pub files: Vec<String>,
    /// Tags: [`Scope::tag`], or [`Scope::front_tag`] beside a function.
    pub tags: Vec<String>,
    /// Prefixes: [`Scope::prefix`], or [`Scope::front_prefix`] beside a function.
    pub prefixes: Vec<String>,
    /// Hosts: [`Scope::host`].
    pub hosts: Vec<String>,
    /// With it, what is named is purged only from what caches in front of this function have; its prefixes are paths then,
    /// and files and hosts are not to be named.
    pub function: Option<FunctionName>,
    /// All that there is. Nothing else may be named beside it.
    pub purge_everything: bool,
    /// Whether what is purged becomes stale; otherwise it is gone.
    pub soft: bool,
    /// How long to wait for the PoPs, in milliseconds, at most [`crate::api::MAX_WAIT_MS`].
    pub wait_ms: u64,
}

impl PurgeRequest {
    /// What is to be purged.
    ///
    /// # Errors
    /// Names the argument that is wrong: as `field` calls the fields of this struct.
    pub fn scopes(&self, field: impl Fn(&'static str) -> &'static str) -> Result<Vec<Scope>, String> {
        let function = self.function.as_ref();
        let tag = |text: &str| function.map_or_else(|| Scope::tag(text), |name| Scope::front_tag(name, text));
        let prefix = |text: &str| function.map_or_else(|| Scope::prefix(text), |name| Scope::front_prefix(name, text));
        type Read<'a> = &'a dyn Fn(&str) -> Result<Scope, ScopeError>;
        let lists: [(&'static str, &[String], Read<'_>); 4] = [
            ("files", &self.files, &Scope::url),
            ("tags", &self.tags, &tag),
            ("prefixes", &self.prefixes, &prefix),
            ("hosts", &self.hosts, &Scope::host),
        ];
        if function.is_some() && !(self.files.is_empty() && self.hosts.is_empty()) {
            let [files, tags, prefixes, hosts] = lists.map(|(name, ..)| field(name));
            let function = field("function");
            return Err(format!(
                "beside {function} stand {tags} or {prefixes}, which are paths: not {files}, not {hosts}"
            ));
        }
        let named: usize = lists.iter().map(|(_, values, _)| values.len()).sum();
        let everything = field("purge_everything");
        match (self.purge_everything, named) {
            (true, 0) => {
                let of = |name: &FunctionName| Scope::Front { function: name.clone(), part: Part::Everything };
                return Ok(vec![function.map_or(Scope::Everything, of)]);
            }
            (true, _) => return Err(format!("{everything} stands alone: it covers all that is named beside it")),
            (false, 0) => {
                let [files, tags, prefixes, hosts] = lists.map(|(name, ..)| field(name));
                return Err(format!("nothing to purge: give {files}, {tags}, {prefixes}, {hosts} or {everything}"));
            }
            (false, 1..=MAX_SCOPES) => {}
            (false, _) => return Err(format!("{named} things to purge, the most in one call is {MAX_SCOPES}")),
        }
        let mut scopes = Vec::with_capacity(named);
        for (name, values, read) in lists {
            for value in values {
                let scope = read(value).map_err(|why| format!("{}: {why}", field(name)))?;
                if !scopes.contains(&scope) {
                    scopes.push(scope);
                }
            }
        }
        Ok(scopes)
    }

    /// What it does.
    pub fn mode(&self) -> Mode {
        if self.soft { Mode::Soft } else { Mode::Hard }
    }
}

/// Answer of `POST /v1/purges`: the purges are durable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Number of the last of the purges: a PoP that is there has done them all.
    pub number: u64,
    /// How many they are.
    pub purges: usize,
    /// What they do.
    pub mode: Mode,
    /// When they were accepted, in milliseconds since the Unix epoch, by the origin's clock.
    pub at_ms: u64,
    /// The PoPs that this origin has heard of in the last hour, by name.
    pub pops: Vec<Confirmation>,
}

/// How far a PoP is with some purges.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirmation {
    /// The PoP.
    pub pop: String,
    /// Milliseconds from when the purges were durable until the PoP's word that they are in force there; `None` before it.
    pub done_ms: Option<u64>,
    /// When the PoP was heard of last, in milliseconds since the Unix epoch, by the origin's clock.
    pub last_seen_ms: u64,
}

/// Answer of `GET /v1/purges`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purges {
    /// Number of the newest purge.
    pub last: u64,
    /// Every purge with a number above this one is in the log. A PoP that is behind it forgets everything.
    pub known_after: u64,
    /// Purges in the log.
    pub length: u64,
    /// The newest calls to this origin since it started, at most 100, newest first.
    pub recent: Vec<Receipt>,
    /// The PoPs that this origin has heard of in the last hour, by name.
    pub pops: Vec<PurgeFollower>,
}

/// A PoP that follows the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PurgeFollower {
    /// The PoP.
    pub pop: String,
    /// Number of the purge that is in force there.
    pub number: u64,
    /// Whether it validated what it has before it used it, when it was heard of last.
    pub fenced: bool,
    /// When it was heard of last, in milliseconds since the Unix epoch, by the origin's clock.
    pub last_seen_ms: u64,
}

/// The body of `POST /v1/purges/poll`: it is a PoP's word that all purges up to its number are in force there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PurgePoll {
    /// The PoP's name, as in [`crate::api::PopReport`].
    pub pop: String,
    /// Number of the last purge that is in force there; 0 for none.
    pub number: u64,
    /// Whether it validates what it has before it uses it.
    #[serde(default)]
    pub fenced: bool,
    /// How long to wait for a purge after that one, in milliseconds, at most [`crate::api::MAX_WAIT_MS`].
    #[serde(default)]
    pub wait_ms: u64,
}

/// Answer of `POST /v1/purges/poll`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PurgePage {
    /// Number of the newest purge in the log.
    pub last: u64,
    /// Every purge with a number above this one is in the log: who is behind it does not know what to forget.
    pub known_after: u64,
    /// Purges in the log.
    pub length: u64,
    /// What follows the purge that was named, in order; not all of it when there is much.
    pub batches: Vec<Batch>,
}
