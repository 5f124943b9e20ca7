//! Errors as responses: a code for programs, a message for people, the request id for the log.

use http::header::{ALLOW, CONTENT_RANGE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, StatusCode};

use crate::bundle::BundleError;
use crate::deployment::DeployError;
use crate::purge::PurgeError;
use crate::store::{BodyTooLarge, BoxError, DigestMismatch, StoreError};

/// Why a request was not answered as asked.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    /// For programs: `area/case`.
    pub(crate) code: &'static str,
    /// For people; safe to show to a client.
    pub(crate) message: String,
    /// A header the status asks for.
    pub(crate) header: Option<Box<(HeaderName, HeaderValue)>>,
    /// What the log gets besides.
    pub(crate) source: Option<BoxError>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), header: None, source: None }
    }

    pub(crate) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "request/not-found", "there is nothing at this path")
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "request/bad", message)
    }

    pub(crate) fn precondition_failed() -> Self {
        let message = "the object is not in the state the request asks for";
        Self::new(StatusCode::PRECONDITION_FAILED, "request/precondition", message)
    }

    pub(crate) fn method_not_allowed(allow: &'static str) -> Self {
        let message = format!("this path answers {allow}");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "request/method", message)
            .with(ALLOW, HeaderValue::from_static(allow))
    }

    /// RFC 9110, section 15.5.17.
    pub(crate) fn range(size: u64) -> Self {
        let message = format!("the object has {size} bytes, none of them in the range");
        let problem = Self::new(StatusCode::RANGE_NOT_SATISFIABLE, "request/range", message);
        match HeaderValue::try_from(format!("bytes */{size}")) {
            Ok(value) => problem.with(CONTENT_RANGE, value),
            Err(_) => problem,
        }
    }

    /// Our fault; the client hears no more than that.
    pub(crate) fn internal(code: &'static str, source: impl Into<BoxError>) -> Self {
        let message = "the origin failed; its log says why";
        Self { source: Some(source.into()), ..Self::new(StatusCode::INTERNAL_SERVER_ERROR, code, message) }
    }

    pub(crate) fn unavailable(code: &'static str, source: impl Into<BoxError>) -> Self {
        let message = "the object store does not answer; try again";
        let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message);
        Self { source: Some(source.into()), ..problem.with(RETRY_AFTER, HeaderValue::from_static("1")) }
    }

    pub(crate) fn with(self, name: HeaderName, value: HeaderValue) -> Self {
        Self { header: Some(Box::new((name, value))), ..self }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound { .. } => Self::not_found(),
            StoreError::AlreadyExists { .. } | StoreError::Precondition { .. } => Self::precondition_failed(),
            StoreError::Range { size, .. } => Self::range(size),
            StoreError::TooLarge { .. } => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, "request/too-large", error.to_string())
            }
            StoreError::Attributes { .. } => Self::bad_request(error.to_string()),
            StoreError::Body { source, .. } => body_failed(&source),
            StoreError::Corrupt { .. } => Self::internal("store/corrupt", error),
            StoreError::Denied { .. } => Self::internal("store/denied", error),
            StoreError::Unavailable { .. } => Self::unavailable("store/unavailable", error),
        }
    }
}

impl From<DeployError> for Problem {
    fn from(error: DeployError) -> Self {
        let (status, code) = match &error {
            DeployError::Bundle(BundleError::Corrupt { .. }) => (StatusCode::UNPROCESSABLE_ENTITY, "bundle/digest"),
            DeployError::Bundle(_) | DeployError::Invalid(_) => (StatusCode::UNPROCESSABLE_ENTITY, "bundle/invalid"),
            DeployError::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "bundle/too-large"),
            DeployError::MissingBlobs(_) => (StatusCode::UNPROCESSABLE_ENTITY, "bundle/missing-blobs"),
            DeployError::UnknownVersion { .. } | DeployError::Prefix { .. } => {
                (StatusCode::NOT_FOUND, "deploy/unknown-version")
            }
            DeployError::OtherFunction { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "deploy/other-function"),
            DeployError::Conflict(_) => (StatusCode::CONFLICT, "deploy/conflict"),
            DeployError::NotDeployed { .. } => (StatusCode::NOT_FOUND, "deploy/not-deployed"),
            DeployError::NothingBefore { .. } => (StatusCode::CONFLICT, "deploy/nothing-before"),
            DeployError::TooManyFunctions { .. } => (StatusCode::CONFLICT, "deploy/too-many-functions"),
            DeployError::ManifestTooLarge { .. } => (StatusCode::CONFLICT, "deploy/manifest-too-large"),
            DeployError::Contended => return Self::unavailable("deploy/contended", error),
            DeployError::Manifest(_) => return Self::internal("store/manifest", error),
            DeployError::Store(_) => {
                let DeployError::Store(error) = error else { return Self::internal("store/failed", error) };
                return error.into();
            }
        };
        Self::new(status, code, error.to_string())
    }
}

impl From<PurgeError> for Problem {
    fn from(error: PurgeError) -> Self {
        match error {
            PurgeError::Contended => Self::unavailable("purge/contended", error),
            PurgeError::Log(_) => Self::internal("store/purges", error),
            PurgeError::Store(error) => error.into(),
        }
    }
}

/// The client's body could not be taken.
pub(crate) fn body_failed(source: &BoxError) -> Problem {
    if source.is::<DigestMismatch>() {
        return Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "request/digest", source.to_string());
    }
    if source.is::<BodyTooLarge>() {
        return Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "request/too-large", source.to_string());
    }
    Problem::bad_request("the body ended early")
}
