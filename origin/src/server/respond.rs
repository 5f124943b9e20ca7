//! Bodies and small responses.

use bytes::Bytes;
use futures::TryStreamExt as _;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Incoming;
use serde::Serialize;

use super::problem::{Problem, body_failed};
use crate::store::{Body, BoxError};

/// The body of every response.
pub(crate) type ResponseBody = UnsyncBoxBody<Bytes, BoxError>;

/// A response or the reason why there is none.
pub(crate) type Answer = Result<Response<ResponseBody>, Problem>;

pub(crate) fn full(bytes: impl Into<Bytes>) -> ResponseBody {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

pub(crate) fn empty() -> ResponseBody {
    full(Bytes::new())
}

/// Streams an object. An error ends the connection, so that nobody takes the part for the whole.
pub(crate) fn streamed(body: Body) -> ResponseBody {
    StreamBody::new(body.map_ok(Frame::data)).boxed_unsync()
}

/// A request's body as one for a store.
pub(crate) fn received(body: Incoming) -> Body {
    Body::new(body.into_data_stream().map_err(Into::into))
}

/// A request's body as a whole.
pub(crate) async fn collect(body: Incoming, limit: usize) -> Result<Bytes, Problem> {
    received(body).collect(limit).await.map_err(|e| body_failed(&e))
}

pub(crate) fn status(status: StatusCode) -> Response<ResponseBody> {
    let mut response = Response::new(empty());
    *response.status_mut() = status;
    response
}

/// A JSON response that nobody may keep.
pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Response<ResponseBody> {
    // The types given here have only string keys, so they are always JSON.
    let bytes = serde_json::to_vec(value).unwrap_or_default();
    typed(status, "application/json", bytes)
}

/// RFC 9457: `status` is its own member, the others are ours.
pub(crate) fn problem(problem: &Problem, request_id: &str) -> Response<ResponseBody> {
    let Problem { status, code, message, header, .. } = problem;
    let fields = serde_json::json!({
        "status": status.as_u16(), "code": code, "message": message, "request_id": request_id
    });
    let mut response = typed(*status, "application/problem+json", fields.to_string().into_bytes());
    if let Some((name, value)) = header.as_deref() {
        response.headers_mut().insert(name, value.clone());
    }
    response
}

fn typed(status: StatusCode, content_type: &'static str, bytes: Vec<u8>) -> Response<ResponseBody> {
    let length = bytes.len();
    let mut response = Response::new(full(bytes));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_LENGTH, length.into());
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Tells the log what the client is not told.
pub(crate) fn log(problem: &Problem, request_id: &str) {
    if let Some(source) = &problem.source {
        tracing::error!(code = problem.code, request_id, error = %source, "a request failed");
    }
}
