//! Purges: what caches must forget, as a durable, numbered log in the object store.
//!
//! ```text
//! purges/log                              the log's newest batches and a list of its segments; changed by compare-and-swap
//! purges/segments/<last>-<digest>         older batches, never changed
//! ```
//!
//! **The bucket is the truth.** A purge is acknowledged when the log that has it is durable; PoPs apply the log in order and
//! say how far they are, and a [`Receipt`] tells who asked when each was. Whoever is behind the log's reach
//! ([`PurgePage::known_after`]) forgets everything.
//!
//! **Numbers** go up and never repeat: the next one is the time in milliseconds since 1970, or the last one and one,
//! whichever is more. So they go up also when the store is lost or put back from a backup, where plain counting would give
//! numbers that PoPs have seen already; nobody has to notice the loss for caches to be right after it.

pub use log::{Log, PurgeError};
pub use scope::{MAX_HOST_BYTES, MAX_TAG_BYTES, MAX_URL_BYTES, Part, Scope, ScopeError};
pub use wire::{Confirmation, MAX_SCOPES, PurgeFollower, PurgePage, PurgePoll, PurgeRequest, Purges, Receipt};

use serde::{Deserialize, Serialize};

mod head;
mod log;
pub mod push;
pub(crate) mod receipts;
mod scope;
mod wire;

/// Purges that the log keeps at least, unless they are older than [`MAX_AGE_MS`] or take more than [`MAX_BYTES`].
pub const MAX_PURGES: u64 = 10_000;

/// How long the log keeps purges, in milliseconds: 7 days.
pub const MAX_AGE_MS: u64 = 7 * 24 * 3600 * 1000;

/// The most that the log keeps, in bytes of JSON.
pub const MAX_BYTES: u64 = 16 << 20;

/// What a purge does to a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// It is gone.
    Hard,
    /// It is stale from then on: validated before it is used, or used where stale responses may be.
    Soft,
}

/// The purges of one call: all of them are in the log, or none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// Number of the first purge; the others follow without a gap.
    pub number: u64,
    /// When it was accepted, in milliseconds since the Unix epoch, by the origin's clock.
    pub at_ms: u64,
    /// What it does.
    pub mode: Mode,
    /// What it is about, at least one.
    pub scopes: Vec<Scope>,
    /// Random: by it an origin finds its own batch in the log after an answer of the store was lost.
    pub id: String,
}

impl Batch {
    /// Number of the last purge.
    pub fn last(&self) -> u64 {
        self.number + (self.scopes.len() as u64).saturating_sub(1)
    }

    /// Each purge with its number.
    pub fn purges(&self) -> impl Iterator<Item = (u64, &Scope)> {
        (self.number..).zip(&self.scopes)
    }

    /// Roughly its length as JSON.
    fn bytes(&self) -> u64 {
        let around =
            |scope: &Scope| if let Scope::Front { function, .. } = scope { 48 + function.as_str().len() } else { 16 };
        100 + self.scopes.iter().map(|scope| (scope.text().len() + around(scope)) as u64).sum::<u64>()
    }
}
