//! What the RFCs say, as pure functions of heads and times.
//!
//! | file | rules |
//! |---|---|
//! | [`control`] | `Cache-Control` of a response (RFC 9111 section 5.2.2), targeted fields (RFC 9213) |
//! | [`demand`] | `Cache-Control` of a request (RFC 9111 section 5.2.1), and which of it a CDN obeys |
//! | [`storing`] | may a response be stored (sections 3, 3.1, 3.5) |
//! | [`freshness`] | lifetime and age (sections 4.2.1 to 4.2.3) |
//! | [`reuse`] | may it be sent, fresh or stale (sections 4 and 4.2.4, RFC 5861) |
//! | [`vary`] | is it the right variant (section 4.1) |
//! | [`validation`] | asking whether it is still right, and the answer (sections 3.2, 4.3) |
//! | [`invalidation`] | what an unsafe method makes wrong (section 4.4) |
//! | [`overrides`] | what a function says instead of the origin |
//!
//! Where an RFC leaves a choice, the choice is a field of [`Rules`] and its reason stands there.

use std::time::Duration;

pub mod control;
pub mod demand;
pub mod freshness;
pub mod invalidation;
pub mod list;
pub mod overrides;
pub mod reuse;
pub mod storing;
pub mod validation;
pub mod vary;

pub use control::{Control, Scope};
pub use demand::Demand;
pub use freshness::Exchange;
pub use overrides::Overrides;
pub use reuse::Reuse;
pub use storing::NotStored;

/// The choices that the RFCs leave to a cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// The heuristic lifetime is the time since `Last-Modified` divided by this (RFC 9111 section 4.2.2 suggests a
    /// tenth). 0 turns heuristics off. Default: 10.
    pub heuristic_divisor: u32,
    /// The longest heuristic lifetime. Default: 24 h, the age past which RFC 7234 wanted a warning.
    pub heuristic_max: Duration,
    /// How long past its lifetime a response may be sent when the origin fails, where the response itself says nothing
    /// (`stale-if-error`, RFC 5861 section 4). Default: none.
    pub stale_if_error: Option<Duration>,
    /// The heuristic lifetime of 404, 405, 410, 414 and 501 (RFC 9111 section 4.2.2), which seldom have a `Last-Modified`;
    /// 0 gives them that of all others. A response that names one keeps its own. Default: 0.
    pub negative_ttl: Duration,
    /// Which request directives count. Default: [`ClientControl::Ignore`].
    pub client_control: ClientControl,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            heuristic_divisor: 10,
            heuristic_max: Duration::from_secs(24 * 3600),
            stale_if_error: None,
            negative_ttl: Duration::ZERO,
            client_control: ClientControl::Ignore,
        }
    }
}

/// What the `Cache-Control` of a request can do here.
///
/// RFC 9111 section 5.2.1: request directives "are advisory; caches MAY implement them, but are not required to".
/// A cache that shields an origin must not let every client switch it off, so a CDN does not: the default obeys only
/// `only-if-cached`, which costs the origin nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientControl {
    /// `no-cache`, `no-store`, `max-age`, `min-fresh`, `max-stale` and `Pragma` are ignored.
    #[default]
    Ignore,
    /// All of them are obeyed: for a cache that belongs to its clients.
    Honour,
}
