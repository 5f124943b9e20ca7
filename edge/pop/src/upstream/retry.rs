//! Which requests are sent again.
//!
//! Only those that no origin can have acted on, or that may be acted on twice: idempotent ones (RFC 9110 section 9.2.2)
//! without a body, when no connection came about, or when a kept connection was closed before a byte came back. Never after
//! a byte of a response, and never after a time limit: whoever asked has waited long enough.

use std::error::Error;
use std::time::Duration;

use cache::{FailureKind, OriginFailure};
use http::request::Parts;
use http_body::Body as _;
use http_body_util::{BodyExt as _, Empty};

use super::wire::Heard;
use super::{Refused, chain, failure};

/// No connection came about.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct NoConnection(String);

/// Whether nothing of the request that failed so was sent.
pub(super) fn unsent(failure: &OriginFailure) -> bool {
    matches!(failure.kind, FailureKind::Withheld | FailureKind::Busy) || failure.cause().is::<NoConnection>()
}

/// Why a request may be sent again of which not a byte has reached anybody.
pub(super) const CONNECT: &str = "connect";

/// Why a request on the wire got no response.
pub(super) struct Failed {
    pub(super) failure: OriginFailure,
    /// Why it may be sent again, if it may.
    pub(super) retry: Option<&'static str>,
    /// The origin is not there, or not in time. One that answers nonsense or hangs up is there: else whoever knows a URL that
    /// makes it do so could have it left alone.
    pub(super) absent: bool,
}

impl Failed {
    /// Nothing came within this time.
    pub(super) fn late(patience: Duration) -> Self {
        let cause = format!("no response head within {patience:?} of the request's last byte");
        Self { failure: failure(FailureKind::TimedOut, cause), retry: None, absent: true }
    }

    /// A response came that is none.
    pub(super) fn corrupt(cause: &'static str) -> Self {
        Self { failure: failure(FailureKind::Corrupt, cause), retry: None, absent: false }
    }

    pub(super) fn of(error: &hyper_util::client::legacy::Error) -> Self {
        let kind = kind(error);
        let heard = heard(error);
        let retry = match kind {
            FailureKind::Unreachable if causes(error).any(|cause| cause.is::<Refused>()) => None,
            FailureKind::Unreachable if error.is_connect() => Some(CONNECT),
            FailureKind::Unreachable if heard.nothing_anew() => Some("closed"),
            _ => None,
        };
        // A client that broke off its upload, and an address that no function may reach, are not the origin's doing.
        let of_request = |cause: &(dyn Error + 'static)| {
            cause.is::<Refused>() || cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_user)
        };
        let absent = (error.is_connect() || kind == FailureKind::TimedOut) && !causes(error).any(of_request);
        let story = chain(error);
        let failure = if error.is_connect() { failure(kind, NoConnection(story)) } else { failure(kind, story) };
        Self { failure, retry, absent }
    }
}

/// Head and body of a request to be sent once more, if it is one that may be.
pub(super) fn copy(head: &Parts, body: &isolate::Body) -> Option<(Parts, isolate::Body)> {
    (head.method.is_idempotent() && body.is_end_stream()).then(|| (head.clone(), no_body()))
}

/// The body of a request that has none.
pub(super) fn no_body() -> isolate::Body {
    Box::pin(Empty::new().map_err(|never| match never {}))
}

/// How long to wait before the next try: up to 25 ms, then up to 50 ms, and so on. `random` is at least 0 and below 1.
pub(super) fn pause(tries: u32, random: f64) -> Duration {
    (Duration::from_millis(25) * (1 << tries.min(6))).mul_f64(random)
}

/// What was heard on the connection, nothing where there was none.
fn heard(error: &hyper_util::client::legacy::Error) -> Heard {
    let mut extras = http::Extensions::new();
    error.connect_info().inspect(|connection| connection.get_extras(&mut extras));
    extras.remove().unwrap_or_default()
}

fn kind(error: &hyper_util::client::legacy::Error) -> FailureKind {
    for error in causes(error) {
        if error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse) {
            return FailureKind::Corrupt;
        }
        if error.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::TimedOut) {
            return FailureKind::TimedOut;
        }
    }
    FailureKind::Unreachable
}

/// An error and what caused it, and so on. An I/O error does not count the error it was made of among its causes.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| {
        let error: &'a (dyn Error + 'static) = *error;
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        inner.map(|inner| inner as &(dyn Error + 'static)).or_else(|| error.source())
    })
}
