//! Why the admin API did not do what it was asked.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, StatusCode, Uri};

use crate::api::ProblemDetails;
use crate::store::BoxError;

/// Why a call failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ControlError {
    /// The origin refused, and says why.
    #[error("{message} ({code}, request {request_id})")]
    Refused {
        /// Status of the answer.
        status: StatusCode,
        /// For programs: `area/case`, or `http` when the answer had none.
        code: String,
        /// For people.
        message: String,
        /// Identifies the request in the origin's log; empty when the answer had none.
        request_id: String,
    },
    /// No answer came.
    #[error("the origin's admin API at {address} cannot be reached: {source}; is the origin running?")]
    Unreachable {
        /// Where it should be.
        address: String,
        /// What the connection said.
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// The answer took too long.
    #[error("the origin's admin API did not answer in time")]
    TimedOut,
    /// The answer broke off, or is not one of this API.
    #[error("the origin's admin API gave an answer that cannot be used: {0}")]
    Answer(Arc<dyn std::error::Error + Send + Sync>),
    /// The address is not one.
    #[error("{address:?} is not the address of an admin API: write http://host:port")]
    Address {
        /// As given.
        address: String,
    },
    /// The token is not one.
    #[error("the admin token must be printable ASCII")]
    Token,
    /// An attribute no header could carry.
    #[error("the value for {name} must be printable ASCII")]
    Header {
        /// Which header.
        name: HeaderName,
    },
}

impl ControlError {
    /// The origin's code for programs, when it refused.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused { code, .. } => Some(code),
            _ => None,
        }
    }

    /// Whether the same call may succeed later: the origin is away, starting, or overloaded.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::TimedOut => true,
            Self::Refused { status, .. } => *status == StatusCode::SERVICE_UNAVAILABLE,
            _ => false,
        }
    }

    pub(super) fn answer(source: impl Into<BoxError>) -> Self {
        Self::Answer(source.into().into())
    }

    pub(super) fn unreachable(base: &Uri, source: hyper_util::client::legacy::Error) -> Self {
        // The outer error says only that something failed; the innermost one says what.
        let mut innermost: &dyn std::error::Error = &source;
        while let Some(inner) = innermost.source() {
            innermost = inner;
        }
        let source: BoxError = innermost.to_string().into();
        Self::Unreachable { address: base.to_string(), source: source.into() }
    }

    pub(super) fn refused(status: StatusCode, body: Option<Bytes>) -> Self {
        let details = body.and_then(|b| serde_json::from_slice::<ProblemDetails>(&b).ok()).unwrap_or_default();
        let ProblemDetails { code, message, request_id, .. } = details;
        let or = |text: String, other: &str| if text.is_empty() { other.to_owned() } else { text };
        let message = or(message, &format!("the origin answered {status}"));
        Self::Refused { status, code: or(code, "http"), message, request_id }
    }
}
