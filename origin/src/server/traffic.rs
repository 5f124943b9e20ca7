//! What the listeners have been asked so far.

use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderMap, HeaderValue, Request};

/// Longest request id taken over from a client.
const MAX_REQUEST_ID_BYTES: usize = 128;

/// Counts since the start. Counting is relaxed: each number is exact, two of them may be of slightly different moments.
#[derive(Debug)]
pub(crate) struct Traffic {
    pub(crate) started_ms: u64,
    pub(crate) public_requests: AtomicU64,
    pub(crate) public_bytes: AtomicU64,
    pub(crate) admin_requests: AtomicU64,
    next_id: AtomicU64,
}

impl Traffic {
    pub(crate) fn new(started_ms: u64) -> Self {
        let zero = || AtomicU64::new(0);
        Self { started_ms, public_requests: zero(), public_bytes: zero(), admin_requests: zero(), next_id: zero() }
    }

    /// The request's own id when it has a sound one, otherwise a new one.
    pub(crate) fn request_id<B>(&self, request: &Request<B>) -> String {
        match header(request.headers(), "x-request-id") {
            Some(id) if (1..=MAX_REQUEST_ID_BYTES).contains(&id.len()) => id.to_owned(),
            _ => format!("{:x}-{:x}", self.started_ms, self.next_id.fetch_add(1, Ordering::Relaxed)),
        }
    }
}

/// A header's value as text; `None` when it is absent or not visible ASCII.
pub(crate) fn header<'a>(headers: &'a HeaderMap<HeaderValue>, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
