//! Rate limits per key, in bounded memory, shared by all worker threads.
//!
//! A [`Limiter`] is strict: in **any** window of one period, at whatever instant it begins, it never allows more than
//! `limit` requests of one key. Fixed windows allow twice that across their border, and a token bucket as well; so
//! this one counts in a window that slides by sixteenths of the period. A new key has the whole limit at once.
//!
//! A [`Throttle`] has no keys: it paces one activity, such as the log lines of one function.

mod fields;
mod store;
mod throttle;
mod window;

use std::net::IpAddr;
use std::time::Duration;

pub use self::fields::{POLICY, headers};
pub use self::throttle::Throttle;

use self::store::Store;
use self::window::Pace;

/// Counts requests by key. See the [module](self) for what it promises.
///
/// Memory is bounded by the capacity: about 200 bytes a key, allocated as keys come. When it is full, the key with the
/// most of its limit left among a sample of eight makes room, so that an attacker who rotates keys pushes out his
/// own throw-away keys and not the ones that are being refused.
#[derive(Debug)]
pub struct Limiter {
    pace: Pace,
    store: Store,
}

/// What a [`Limiter`] says about one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether the request may go on. Only then was it counted.
    pub allowed: bool,
    /// Requests allowed in each period.
    pub limit: u32,
    /// Length of the period.
    pub period: Duration,
    /// Requests left right now.
    pub remaining: u32,
    /// Time until more of the limit is available than now; `None` when nothing is used.
    pub more_in: Option<Duration>,
    /// Time until the whole limit is available again, if no request comes.
    pub reset: Duration,
    /// Time until a request will be allowed: zero when one would be now.
    pub retry_after: Duration,
}

impl Limiter {
    /// Allows `limit` requests of each key in any `period`, for up to `capacity` keys at a time.
    ///
    /// A limit of 0 refuses everything. The period counts in whole milliseconds, at least one; a capacity of 0 counts
    /// as one.
    pub fn new(limit: u32, period: Duration, capacity: usize) -> Self {
        Self { pace: Pace::new(limit, period), store: Store::new(capacity) }
    }

    /// Decides about one request of `key` and counts it if it is allowed.
    ///
    /// `now` is in milliseconds of any monotonic clock that all callers share. A caller whose clock reading is a little
    /// older than one already seen for the key is treated as if it came at that newer time. Keys may have any length:
    /// only a keyed 128-bit hash of them is kept.
    pub fn check(&self, key: &str, now: u64) -> Decision {
        self.store.with(key, now, &self.pace, |window| window.take(&self.pace, now))
    }

    /// How many keys are held right now, at most [`capacity`](Self::capacity). A number for metrics.
    pub fn keys(&self) -> usize {
        self.store.len()
    }

    /// How many keys can be held.
    pub fn capacity(&self) -> usize {
        self.store.capacity()
    }
}

/// The key to limit a client address by: the address itself for IPv4, its /64 network for IPv6.
///
/// One IPv6 subscriber has at least a /64, and would otherwise have 2^64 keys. IPv4-mapped addresses count as IPv4.
pub fn client_key(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let network = std::net::Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64));
            format!("{network}/64")
        }
    }
}

#[cfg(test)]
mod tests;
