//! Why a function gave no answer.

use crate::limits::Limit;

/// What went wrong in a function. The message is for its author: it may quote the function's own code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The version cannot be started: it does not compile, throws at top level, or has no handler.
    #[error("the function does not start: {0}")]
    Boot(String),
    /// The version cannot be read where it is kept.
    #[error("the function cannot be had: {0}")]
    Gone(String),
    /// The handler threw, or its promise was rejected.
    #[error("the function threw: {0}")]
    Threw(String),
    /// The handler's promise can never settle: nothing is left that it could wait for.
    #[error("the function will never answer: its promise is pending and nothing is left to wait for")]
    NeverAnswered,
    /// What the handler returned is not a response that HTTP can carry.
    #[error("the function gave no valid response: {0}")]
    InvalidResponse(String),
    /// A limit was broken.
    #[error("the function went over its limit on {} ({} {})", .limit.row().doc, .value, unit(.limit))]
    Limit {
        /// Which.
        limit: Limit,
        /// Its value, in the unit of its row.
        value: u64,
    },
}

fn unit(limit: &Limit) -> &'static str {
    match limit.row().unit {
        crate::limits::Unit::Milliseconds => "ms",
        crate::limits::Unit::Bytes => "bytes",
        crate::limits::Unit::Count => "at most",
    }
}

impl Fault {
    /// Stable name: error code, log field and metric label at once.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Boot(_) => "function/boot",
            Self::Gone(_) => "origin/corrupt",
            Self::Threw(_) => "function/threw",
            Self::NeverAnswered => "function/never-answered",
            Self::InvalidResponse(_) => "function/invalid-response",
            Self::Limit { limit, .. } => limit.row().code,
        }
    }

    /// HTTP status for the client.
    pub const fn status(&self) -> u16 {
        match self {
            Self::Limit { limit, .. } => limit.row().status(),
            Self::Gone(_) => 502,
            _ => 500,
        }
    }
}
