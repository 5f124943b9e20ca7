//! Why the origin gave no response.

use std::fmt;
use std::sync::Arc;

use crate::body::BoxError;

/// What went wrong on the way to the origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// No connection, or it broke before there was a response head.
    Unreachable,
    /// The origin took too long.
    TimedOut,
    /// The origin's response makes no sense.
    Corrupt,
    /// The request for the origin was given up before it finished, e.g. because its worker shut down.
    Abandoned,
    /// It was not asked: it failed so often lately that the caller leaves it alone for a while.
    Withheld,
    /// It was not asked: the caller has too many requests under way.
    Busy,
}

impl FailureKind {
    /// The name in metrics, logs and `Cache-Status` details.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "origin-unreachable",
            Self::TimedOut => "origin-timed-out",
            Self::Corrupt => "origin-corrupt",
            Self::Abandoned => "origin-abandoned",
            Self::Withheld => "origin-withheld",
            Self::Busy => "origin-busy",
        }
    }
}

/// The origin gave no response. Cheap to clone: everybody who waited for one request gets the same failure.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the origin gave no response ({}): {source}", kind.as_str())]
pub struct OriginFailure {
    /// What went wrong.
    pub kind: FailureKind,
    source: Shared,
}

impl OriginFailure {
    /// A failure with the error that caused it, for the log.
    pub fn new(kind: FailureKind, cause: impl Into<BoxError>) -> Self {
        Self { kind, source: Shared(Arc::from(cause.into())) }
    }

    /// The error that caused it, to look for a type of the caller's own in.
    pub fn cause(&self) -> &(dyn std::error::Error + Send + Sync + 'static) {
        &*self.source.0
    }
}

/// A shared error is an error.
#[derive(Clone)]
struct Shared(Arc<dyn std::error::Error + Send + Sync>);

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl std::error::Error for Shared {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}
