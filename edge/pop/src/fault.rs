//! What can go wrong with a request, and the one place where it becomes a response.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use isolate::limits::Limit;

use crate::strikes::{STRIKES, WINDOW};
use crate::upstream::Withheld;

/// Why a request got no answer of a function or the origin. The cases of the design's table of faults.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("the request has no host: send a Host header")]
    NoHost,
    #[error("the request target is not a path this server can route: {0}")]
    Target(&'static str),
    #[error("the request's header fields and target are larger than {0} bytes")]
    HeadTooLarge(usize),
    #[error("no function is deployed for host {0:?}: check the routes of your project files")]
    UnknownHost(String),
    #[error("no function is deployed for {0:?} on this host: check the routes of your project files")]
    UnknownRoute(String),
    #[error("the request body is larger than {0} bytes")]
    RequestBody(u64),
    #[error("the request has been through this PoP before (CDN-Loop): a function or the origin sends it back here")]
    Loop,
    #[error(
        "the request says that a PoP sends it, and it does not have this fleet's pass: all PoPs need the same token"
    )]
    NoPeer,
    #[error("this is a region node: it serves the PoPs of its fleet alone, with their pass")]
    NotAPop,
    #[error(
        "the function runs in a region, and this PoP has none: start it with --region, or change its \"placement\""
    )]
    NoRegion,
    #[error("the function runs in the region, which does not run it now: {0}")]
    RegionUnreachable(String),
    #[error("the region had the request and gave no answer; nobody knows how far the function came: {0}")]
    RegionLost(String),
    #[error("this region node has no function {0:?} that it can run now")]
    RegionUnable(String),
    #[error("this region node runs as many requests as it may")]
    RegionFull,
    #[error("this PoP has no manifest yet: the control API did not answer so far")]
    NotReady,
    #[error("this PoP is being stopped")]
    Draining,
    #[error("the client has left before it had an answer")]
    ClientGone,
    #[error("the budget of this function is used up, or what is left of it allows fewer requests")]
    OverBudget { retry_after: Duration },
    #[error("the worker that had this request was lost to a function; another has taken its place: ask again")]
    WorkerLost,
    #[error("no process can be had for this function on this PoP: {0}")]
    NoCell(String),
    #[error(
        "{0} is in quarantine on this PoP: it cost a worker thread {times} times within {minutes} minutes. Deploy a version \
         that does not; the PoP's log says what it did",
        times = STRIKES,
        minutes = WINDOW.as_secs() / 60
    )]
    Quarantined(String),
    #[error("the version's bundle on this PoP is damaged and the control API did not give another: {0}")]
    Bundle(String),
    #[error(transparent)]
    Function(#[from] isolate::Fault),
    #[error(transparent)]
    Origin(#[from] cache::OriginFailure),
}

impl Fault {
    /// Stable name: error code, log field and metric label at once.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::NoHost | Self::Target(_) => "client/bad-request",
            Self::HeadTooLarge(_) => "client/head-too-large",
            Self::UnknownHost(_) => "client/unknown-host",
            Self::UnknownRoute(_) => "client/unknown-route",
            Self::RequestBody(_) => Limit::RequestBody.row().code,
            Self::Loop => "client/loop",
            Self::NoPeer | Self::NotAPop => "client/no-peer",
            Self::NoRegion => "region/none",
            Self::RegionUnreachable(_) => "region/unreachable",
            Self::RegionLost(_) => "region/lost",
            Self::RegionUnable(_) => "region/unable",
            Self::RegionFull => "overload/region-full",
            Self::NotReady => "overload/not-ready",
            Self::Draining => "overload/draining",
            Self::ClientGone => "client/gone",
            Self::OverBudget { .. } => "budget/limit",
            Self::WorkerLost => "overload/worker-lost",
            Self::NoCell(_) => "overload/no-cell",
            Self::Quarantined(_) => "function/quarantined",
            Self::Bundle(_) => "origin/corrupt",
            Self::Function(fault) => fault.code(),
            Self::Origin(failure) => origin_code(failure.kind),
        }
    }

    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::NoHost | Self::Target(_) => StatusCode::BAD_REQUEST,
            Self::HeadTooLarge(_) => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::UnknownHost(_) | Self::UnknownRoute(_) => StatusCode::NOT_FOUND,
            Self::RequestBody(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Loop => StatusCode::LOOP_DETECTED,
            Self::NoPeer | Self::NotAPop => StatusCode::FORBIDDEN,
            // Another PoP may have a region, or reach it; one that lost the answer must not be asked to do it twice.
            Self::NoRegion | Self::RegionLost(_) => StatusCode::BAD_GATEWAY,
            Self::RegionUnreachable(_) | Self::RegionUnable(_) | Self::RegionFull => StatusCode::SERVICE_UNAVAILABLE,
            Self::NotReady | Self::Draining | Self::WorkerLost | Self::NoCell(_) => StatusCode::SERVICE_UNAVAILABLE,
            // What nginx writes down for it; nobody is there to get it.
            Self::ClientGone => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
            Self::OverBudget { .. } => StatusCode::TOO_MANY_REQUESTS,
            // Not 503: another PoP that still runs it would only lose its workers to it, too.
            Self::Quarantined(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Bundle(_) => StatusCode::BAD_GATEWAY,
            Self::Function(fault) => StatusCode::from_u16(fault.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            Self::Origin(failure) => match failure.kind {
                cache::FailureKind::TimedOut => StatusCode::GATEWAY_TIMEOUT,
                // Another PoP may have room. It would find the same origin in the same trouble.
                cache::FailureKind::Busy => StatusCode::SERVICE_UNAVAILABLE,
                _ => StatusCode::BAD_GATEWAY,
            },
        }
    }

    /// What the client may know. A function's own messages and addresses behind the PoP stay in the log.
    fn safe_message(&self) -> String {
        match self {
            Self::Function(isolate::Fault::Limit { .. }) => "the function went over one of its limits".to_owned(),
            Self::Function(_) => "the function failed".to_owned(),
            Self::Origin(failure) => match failure.kind {
                cache::FailureKind::Withheld => {
                    "the origin failed too often lately and is left alone for a while".to_owned()
                }
                cache::FailureKind::Busy => "too many requests to origins are under way on this PoP".to_owned(),
                _ => "the origin gave no response".to_owned(),
            },
            Self::RegionUnreachable(_) => "the region in which the function runs does not run it now".to_owned(),
            Self::RegionLost(_) => "the region gave no answer; nobody knows how far the function came".to_owned(),
            Self::NoCell(_) => "no process can be had for the function now".to_owned(),
            Self::Bundle(_) => "the function's version is damaged on this PoP".to_owned(),
            other => other.to_string(),
        }
    }

    /// 503 says "this PoP, try again": when. So do an origin that is left alone for a while, and a brake.
    fn retry_after(&self) -> Option<Duration> {
        if let Self::OverBudget { retry_after } = self {
            return Some(*retry_after);
        }
        if let Self::Origin(failure) = self
            && let Some(Withheld::Open(pause)) = failure.cause().downcast_ref()
        {
            return Some((*pause).max(Duration::from_secs(1)));
        }
        (self.status() == StatusCode::SERVICE_UNAVAILABLE).then_some(Duration::from_secs(1))
    }

    /// The response for the client.
    pub(crate) fn response(&self, request_id: Option<&str>) -> Response<Bytes> {
        let mut response = problem(self.status(), self.code(), &self.safe_message(), request_id);
        if let Some(after) = self.retry_after() {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(after.as_millis().div_ceil(1000) as u64));
        }
        response
    }
}

/// The code of an origin that gave no response.
pub(crate) const fn origin_code(kind: cache::FailureKind) -> &'static str {
    match kind {
        cache::FailureKind::TimedOut => "origin/timed-out",
        cache::FailureKind::Corrupt => "origin/corrupt",
        cache::FailureKind::Unreachable | cache::FailureKind::Abandoned => "origin/unreachable",
        cache::FailureKind::Withheld => "origin/circuit-open",
        cache::FailureKind::Busy => "overload/origin-busy",
    }
}

/// What went wrong, as a response (RFC 9457).
pub(crate) fn problem(
    status: StatusCode,
    code: &'static str,
    message: &str,
    request_id: Option<&str>,
) -> Response<Bytes> {
    let mut problem = serde_json::json!({ "status": status.as_u16(), "code": code, "message": message });
    if let Some(id) = request_id {
        problem["request_id"] = id.into();
    }
    let mut response = Response::new(Bytes::from(format!("{problem}\n")));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-skerry-error", HeaderValue::from_static(code));
    response
}
