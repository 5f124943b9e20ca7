//! Minted identities.

use std::fmt;

use sha2::{Digest, Sha256};

use super::first_64_bits;

/// The golden ratio's fraction in units of 2^-64, so that multiplication modulo 2^64 is multiplication modulo 1.
const PHI: u64 = 0x9E37_79B9_7F4A_7C15;

/// The identity of a client that came without one: `v1.<16 hex digits>.<16 hex digits>`.
///
/// The first number is the client's point in [0, 1) as a fraction of 2^64. Of the second, 32 bits are random and 32
/// are a mark of the experiment that minted it, so that any other experiment hashes it like foreign text and stays
/// independent. The mark is no secret: who forges an identity chooses his own cohort, as he could by
/// deleting cookies until it suits him.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity(String);

impl Identity {
    pub(super) fn mint(experiment: &str, n: u64, seed: u64, random: u64) -> Self {
        let point = seed.wrapping_add(n.wrapping_mul(PHI));
        let random = (random >> 32) as u32;
        Self(format!("v1.{point:016x}.{random:08x}{:08x}", mark(experiment, point, random)))
    }

    /// The value for the cookie: 36 characters that need no quoting anywhere.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for Identity {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// The point in `identity`, if `experiment` minted it. Upper case, other lengths and other marks are foreign text.
pub(super) fn minted_point(experiment: &str, identity: &str) -> Option<u64> {
    let (point, rest) = identity.strip_prefix("v1.")?.split_once('.')?;
    let (point, rest) = (hex(point)?, hex(rest)?);
    let random = (rest >> 32) as u32;
    (rest as u32 == mark(experiment, point, random)).then_some(point)
}

fn mark(experiment: &str, point: u64, random: u32) -> u32 {
    let hash = Sha256::new().chain_update(experiment).chain_update([0]).chain_update("mint");
    (first_64_bits(hash.chain_update(point.to_be_bytes()).chain_update(random.to_be_bytes())) >> 32) as u32
}

fn hex(digits: &str) -> Option<u64> {
    let canonical = digits.len() == 16 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    canonical.then(|| u64::from_str_radix(digits, 16).ok())?
}
