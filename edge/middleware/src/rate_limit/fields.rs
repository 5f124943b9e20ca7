//! The header fields that tell a client about its limit (draft-ietf-httpapi-ratelimit-headers, and RFC 9110, 10.2.3).

use std::time::Duration;

use super::Decision;

/// The name of the policy in the fields.
pub const POLICY: &str = "default";

/// Header names, in lower case, and values that describe `decision`:
///
/// - `ratelimit-policy: "default";q=100;w=60`: 100 requests in each 60 seconds;
/// - `ratelimit: "default";r=50;t=4`: 50 are left, and there will be more of them in 4 seconds; without `t` when nothing
///   is used, so that there cannot be more;
/// - `retry-after: 3`, only when the request was refused: whole seconds, at least 1.
///
/// `retry-after` is never before `t`. All are structured fields (RFC 9651) or integers, so no value ever needs quoting. Times are rounded up: a client that
/// comes back then is never early.
pub fn headers(decision: &Decision) -> impl Iterator<Item = (&'static str, String)> + use<> {
    let policy = format!("\"{POLICY}\";q={};w={}", decision.limit, seconds_up(decision.period));
    let more_in = decision.more_in.map(|time| format!(";t={}", seconds_up(time))).unwrap_or_default();
    let limit = format!("\"{POLICY}\";r={}{more_in}", decision.remaining);
    let retry = (!decision.allowed).then(|| ("retry-after", seconds_up(decision.retry_after).max(1).to_string()));
    [("ratelimit-policy", policy), ("ratelimit", limit)].into_iter().chain(retry)
}

fn seconds_up(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}
