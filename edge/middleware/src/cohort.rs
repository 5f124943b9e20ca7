//! Cohorts of an experiment: which variant a client sees.
//!
//! A client's identity fixes a point in [0, 1), and the weights cut that interval into cohorts. Nothing else is looked
//! at, so every PoP agrees with every other without a word between them, and a client keeps its cohort for as long as
//! it keeps its identity.
//!
//! - A **new client** gets a minted [`Identity`], which carries its point. The points are a low-discrepancy sequence,
//!   `seed + n * phi` modulo 1 (phi the golden ratio): any stretch of 10,000 of them splits within 0.1 percentage
//!   points of the weights. Hashing random identities would not do: the share of a half-half split then has a standard
//!   deviation of sqrt(0.25 / 10,000) = 0.5 points, and one experiment in twenty is off by a whole point.
//! - **Any other identity** (a user id, somebody else's cookie) is hashed together with the experiment's name.
//!   Two experiments are then independent: knowing a client's cohort in one says nothing about the other. The same
//!   holds for an identity minted by another experiment, so that two of them can share a cookie.
//!
//! **Changing weights** moves the borders between cohorts, and only clients between an old and a new place of a border
//! move. With two cohorts that is exactly the difference of the weights; with more, cohorts in the middle shift. To
//! ramp up a third cohort at the cost of its neighbour only, put it beside that neighbour. Renaming the experiment
//! deals all clients anew.

mod cookie;
mod identity;

use sha2::{Digest, Sha256};

pub use self::cookie::{CookieError, CookieName, Transport, cookie, set_cookie};
pub use self::identity::Identity;

/// Most cohorts of one experiment.
pub const MAX_COHORTS: usize = 64;

/// Longest name of an experiment or a cohort, in bytes.
pub const MAX_NAME_BYTES: usize = 128;

/// Longest identity that [`cookie`] hands out, in bytes. Longer values are not identities we or a sane application set.
pub const MAX_IDENTITY_BYTES: usize = 256;

/// Cohorts with their weights.
#[derive(Clone, Debug)]
pub struct Experiment {
    name: String,
    /// Name, and the sum of the weights up to and including this one.
    cohorts: Vec<(String, u64)>,
    total: u64,
}

/// Why a list of cohorts is no experiment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExperimentError {
    /// A name is empty, too long, or has a NUL in it.
    #[error("cohort experiment `{0}`: a name must have 1 to {MAX_NAME_BYTES} bytes and no NUL")]
    Name(String),
    /// None or too many.
    #[error("cohort experiment `{experiment}` has {count} cohorts: give 1 to {MAX_COHORTS}")]
    Count {
        /// Name of the experiment.
        experiment: String,
        /// Cohorts given.
        count: usize,
    },
    /// The same name twice.
    #[error("cohort experiment `{experiment}` names cohort `{cohort}` twice: add the weights up, or rename one")]
    Duplicate {
        /// Name of the experiment.
        experiment: String,
        /// The name that is there twice.
        cohort: String,
    },
    /// Nobody could be anywhere.
    #[error("cohort experiment `{0}`: all weights are 0: give at least one cohort a weight above 0")]
    NoWeight(String),
}

impl Experiment {
    /// An experiment with these cohorts, in this order. A cohort of weight 0 gets nobody.
    ///
    /// # Errors
    /// [`ExperimentError`] for bad or double names, no or too many cohorts, and weights that are all 0.
    pub fn new(name: impl Into<String>, cohorts: Vec<(String, u32)>) -> Result<Self, ExperimentError> {
        let name = name.into();
        if !(1..=MAX_COHORTS).contains(&cohorts.len()) {
            return Err(ExperimentError::Count { experiment: name, count: cohorts.len() });
        }
        let bad = |name: &str| name.is_empty() || name.len() > MAX_NAME_BYTES || name.contains('\0');
        if bad(&name) || cohorts.iter().any(|(cohort, _)| bad(cohort)) {
            return Err(ExperimentError::Name(name));
        }
        let mut total = 0u64;
        let mut borders: Vec<(String, u64)> = Vec::with_capacity(cohorts.len());
        for (cohort, weight) in cohorts {
            if borders.iter().any(|(earlier, _)| *earlier == cohort) {
                return Err(ExperimentError::Duplicate { experiment: name, cohort });
            }
            total += u64::from(weight);
            borders.push((cohort, total));
        }
        if total == 0 {
            return Err(ExperimentError::NoWeight(name));
        }
        Ok(Self { name, cohorts: borders, total })
    }

    /// The experiment's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The identity of a new client.
    ///
    /// `n` counts the clients of one sequence (one counter per PoP is enough), `seed` tells sequences apart, and of
    /// `random` the upper half makes identities hard to guess.
    pub fn mint(&self, n: u64, seed: u64, random: u64) -> Identity {
        Identity::mint(&self.name, n, seed, random)
    }

    /// The cohort of `identity`: for one minted by this experiment by the point it carries, for any other text by hash.
    pub fn assign(&self, identity: &str) -> &str {
        let point = identity::minted_point(&self.name, identity).unwrap_or_else(|| hashed_point(&self.name, identity));
        // The point as a fraction of 2^64, scaled to the weights: below the total by construction.
        let place = ((u128::from(point) * u128::from(self.total)) >> 64) as u64;
        let index = self.cohorts.partition_point(|&(_, border)| border <= place);
        &self.cohorts[index].0
    }
}

/// The first 64 bits of SHA-256 over the experiment's name, a NUL and the key, as a fraction of 2^64.
fn hashed_point(experiment: &str, key: &str) -> u64 {
    first_64_bits(Sha256::new().chain_update(experiment).chain_update([0]).chain_update(key))
}

fn first_64_bits(hash: Sha256) -> u64 {
    hash.finalize().iter().take(8).fold(0, |bits, &byte| bits << 8 | u64::from(byte))
}

#[cfg(test)]
mod tests;
