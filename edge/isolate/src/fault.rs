//! Why a function gave no answer.

use serde::{Deserialize, Serialize};

use crate::limits::Limit;

/// What went wrong in a function. The message is for its author: it may quote the function's own code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
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
        #[serde(with = "by_key")]
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

/// A limit as its key in a project file, which is its name to others.
pub mod by_key {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::limits::{Limit, TABLE};

    /// Writes the key.
    ///
    /// # Errors
    /// The serializer's.
    pub fn serialize<S: Serializer>(limit: &Limit, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(limit.row().key)
    }

    /// Finds the limit with the key.
    ///
    /// # Errors
    /// When there is none.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Limit, D::Error> {
        let key = <&str>::deserialize(deserializer)?;
        let row = TABLE.iter().find(|row| row.key == key);
        row.map(|row| row.limit).ok_or_else(|| serde::de::Error::custom("there is no such limit"))
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
