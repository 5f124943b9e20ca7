//! What a cache can be told.

use std::path::PathBuf;
use std::time::Duration;

use crate::policy::Rules;

/// Limits and choices of one [`Cache`](crate::Cache). Every field has a default that suits a PoP.
#[derive(Debug, Clone)]
pub struct Config {
    /// The name of this cache in `Cache-Status` (RFC 9211 section 2), e.g. `lhr`. Characters that a structured field
    /// string cannot carry are replaced by `_`. Default: `skerry`.
    pub identity: String,
    /// Most bytes of stored responses in memory, heads and bookkeeping included. Default: 256 MiB.
    pub capacity_bytes: u64,
    /// The longest body that is stored in memory; longer ones go to the [`disk`](Self::disk), or stream through. Never
    /// more than an eighth of [`capacity_bytes`](Self::capacity_bytes), so that one object can't sweep the store.
    /// Default: 16 MiB.
    pub max_object_bytes: u64,
    /// Most bytes held by bodies that are still arriving, all together. Past it a new chunk sends its fill to the disk, or
    /// turns it into a pass-through. Default: 128 MiB.
    pub fill_capacity_bytes: u64,
    /// Most responses that are asked for or arriving at a time; past it requests go to the origin unshared and unstored.
    /// Default: 8,192.
    pub max_fills: usize,
    /// Most variants (`Vary`, [`Key`](crate::Key) parts) under one URI; the least recently stored goes first. Default: 64.
    pub max_variants: usize,
    /// For how long requests are not collapsed after an answer that could not be shared ("hit-for-pass"). They are
    /// still stored when they turn out storable. Default: 10 s.
    pub pass_for: Duration,
    /// The same after an answer that was too large to store: it seldom becomes small soon, and each look at it costs the
    /// origin up to [`max_object_bytes`](Self::max_object_bytes) more than the client asked for. Default: 10 min.
    pub pass_large_for: Duration,
    /// How long followers wait for the head of the response before one of them asks the origin anew; the second time they
    /// are told that it timed out. It should be a little longer than the caller's own limit on the time to a response
    /// head: a slow origin must not be asked by all who wait. Default: 35 s.
    pub follower_wait: Duration,
    /// How long a fill waits for the next bytes of a body before it is given up. Default: 30 s.
    pub fill_idle: Duration,
    /// The choices that RFC 9111 leaves to a cache.
    pub rules: Rules,
    /// Where stored responses are kept besides memory. Default: nowhere.
    pub disk: Option<DiskConfig>,
}

/// Where on a disk stored responses are kept, and how much of it is theirs. A disk that fails is done without.
#[derive(Debug, Clone)]
pub struct DiskConfig {
    /// The folder; it is made when there is none. One cache at a time can use it.
    pub folder: PathBuf,
    /// Most bytes of the files in it. Their own bytes count, not what the file system adds. A response that is being
    /// sent or received still takes space after it was evicted.
    pub capacity_bytes: u64,
    /// The longest body that is stored; never more than an eighth of [`capacity_bytes`](Self::capacity_bytes).
    /// Default: 1 GiB.
    pub max_object_bytes: u64,
    /// Most files; each takes about 100 bytes of memory. Default: 1,000,000.
    pub max_files: usize,
    /// Most bytes that wait to be written. What comes while it is full stays in memory only. Default: 64 MiB.
    pub queue_bytes: u64,
    /// How long the disk is left alone after it failed. Default: 30 s.
    pub retry: Duration,
}

impl DiskConfig {
    /// The defaults, with this folder and size.
    pub fn new(folder: PathBuf, capacity_bytes: u64) -> Self {
        Self {
            folder,
            capacity_bytes,
            max_object_bytes: 1 << 30,
            max_files: 1_000_000,
            queue_bytes: 64 << 20,
            retry: Duration::from_secs(30),
        }
    }

    /// The longest body that is really stored.
    pub(crate) fn object_limit(&self) -> u64 {
        self.max_object_bytes.min(self.capacity_bytes / 8)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            identity: "skerry".to_owned(),
            capacity_bytes: 256 << 20,
            max_object_bytes: 16 << 20,
            fill_capacity_bytes: 128 << 20,
            max_fills: 8192,
            max_variants: 64,
            pass_for: Duration::from_secs(10),
            pass_large_for: Duration::from_secs(600),
            follower_wait: Duration::from_secs(35),
            fill_idle: Duration::from_secs(30),
            rules: Rules::default(),
            disk: None,
        }
    }
}

impl Config {
    /// The longest body that is really stored: [`max_object_bytes`](Self::max_object_bytes) within an eighth of the store.
    pub(crate) fn object_limit(&self) -> u64 {
        self.max_object_bytes.min(self.capacity_bytes / 8)
    }
}
