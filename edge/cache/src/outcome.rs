//! What the cache did with a request.

use crate::policy::NotStored;

/// What the cache did; in the extensions of every response that [`fetch`](crate::fetch) returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// A fresh stored response; the origin was not asked.
    Hit,
    /// The origin was asked, and its answer goes into the store.
    Miss,
    /// A stale stored response, because RFC 5861 (or the configuration, or the client) allows it.
    Stale,
    /// The origin confirmed a stored response.
    Revalidated,
    /// The answer to another client's request, shared while it arrived.
    Collapsed,
    /// The origin was asked, and its answer must not be shared, for this reason.
    Uncacheable(NotStored),
    /// The cache does not handle such requests.
    Bypass(Bypass),
    /// Nothing stored, and the client forbade asking the origin (`only-if-cached`): a 504.
    OnlyIfCached,
}

impl Outcome {
    /// The name in metrics and logs. Reasons are not part of it: see [`Outcome::reason`].
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Stale => "stale",
            Self::Revalidated => "revalidated",
            Self::Collapsed => "collapsed",
            Self::Uncacheable(_) => "uncacheable",
            Self::Bypass(_) => "bypass",
            Self::OnlyIfCached => "only-if-cached",
        }
    }

    /// Why, where there is a reason.
    pub fn reason(self) -> Option<&'static str> {
        match self {
            Self::Uncacheable(reason) => Some(reason.as_str()),
            Self::Bypass(reason) => Some(reason.as_str()),
            _ => None,
        }
    }
}

/// Why the cache does not handle a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bypass {
    /// Only GET and HEAD are looked up (RFC 9111 section 2).
    Method,
    /// The request has a body, or [`CarriesBody`](crate::CarriesBody): what the answer depends on is not in the key.
    RequestBody,
    /// The request wants nothing stored, and nothing of it stored ([`Mode::NoStore`](crate::policy::overrides::Mode)).
    Demanded,
    /// No host, neither in the URI nor in `Host`: there is no key.
    NoHost,
    /// The request asks to leave HTTP (`Upgrade`).
    Upgrade,
    /// A HEAD request, and no GET response stored that could answer it.
    Head,
    /// Too many shared requests at a time ([`Config::max_fills`](crate::Config::max_fills)).
    Overload,
    /// The last answer could not be shared, and this request wants a part or has a condition: the origin answers it.
    HitForPass,
    /// Nothing stored, and the request wants a part that lies or may lie beyond what would be stored: getting all that is
    /// before it could cost the origin far more than the client gets.
    Range,
}

impl Bypass {
    /// The name in metrics, logs and `Cache-Status` details.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::RequestBody => "request-body",
            Self::Demanded => "request-no-store",
            Self::NoHost => "no-host",
            Self::Upgrade => "upgrade",
            Self::Head => "head",
            Self::Overload => "overload",
            Self::HitForPass => "hit-for-pass",
            Self::Range => "range",
        }
    }
}
