//! Blobs, bundles and users' objects: the bytes.

use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_MATCH, IF_NONE_MATCH};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::{Body as _, Incoming};

use super::{Admin, content_type, ok, query};
use crate::api::ObjectWritten;
use crate::bundle::{Digest, MAX_BUNDLE_BYTES};
use crate::deployment::blob_key;
use crate::key::Key;
use crate::server::problem::Problem;
use crate::server::respond::{self, Answer};
use crate::server::traffic::header;
use crate::store::{Attributes, MAX_OBJECT_BYTES, PutMode, StoreError, Written};

impl Admin {
    pub(super) async fn has_blob(&self, digest: &Digest) -> Answer {
        let size = match self.store.head(&blob_key(digest)).await {
            Ok((meta, _)) => meta.size,
            // Damaged is as good as absent: the client puts it again, which repairs it.
            Err(StoreError::Corrupt { .. }) => return Err(Problem::not_found()),
            Err(e) => return Err(e.into()),
        };
        let mut response = respond::status(StatusCode::OK);
        response.headers_mut().insert(CONTENT_LENGTH, size.into());
        Ok(response)
    }

    pub(super) async fn put_blob(&self, digest: &Digest, body: Incoming) -> Answer {
        check_length(&body)?;
        let body = respond::received(body).verified(*digest);
        // Overwriting with the same bytes changes nothing, or repairs what the disk has damaged.
        let written = self.store.put(&blob_key(digest), body, PutMode::Overwrite, Attributes::default()).await?;
        Ok(respond::json(StatusCode::CREATED, &answer(written)))
    }

    pub(super) async fn bundle(&self, version: &Digest) -> Answer {
        let bytes = self.deployments.bundle(version).await?;
        let mut response = Response::new(respond::full(bytes.clone()));
        let headers = response.headers_mut();
        headers.insert(CONTENT_LENGTH, bytes.len().into());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, max-age=31536000, immutable"));
        Ok(response)
    }

    pub(super) async fn put_bundle(&self, version: &Digest, request: Request<Incoming>) -> Answer {
        let message = query(&request, "message").filter(|m| !m.is_empty());
        let bytes = respond::collect(request.into_body(), MAX_BUNDLE_BYTES).await?;
        let published = self.deployments.publish(bytes, version, message, self.now_ms()).await?;
        Ok(respond::json(StatusCode::CREATED, &published))
    }

    pub(super) async fn object(&self, key: &Key, method: &Method) -> Answer {
        let (meta, attributes, body) = if method == Method::HEAD {
            let (meta, attributes) = self.store.head(key).await?;
            (meta, attributes, respond::empty())
        } else {
            let object = self.store.get(key, None).await?;
            (object.meta, object.attributes, respond::streamed(object.body))
        };
        let mut response = Response::new(body);
        let headers = response.headers_mut();
        headers.insert(CONTENT_LENGTH, meta.size.into());
        let fields = [
            (CONTENT_TYPE, attributes.content_type),
            (CACHE_CONTROL, attributes.cache_control),
            (ETAG, Some(format!("\"{}\"", meta.etag))),
        ];
        for (name, value) in fields {
            if let Some(value) = value.and_then(|v| HeaderValue::try_from(v).ok()) {
                headers.insert(name, value);
            }
        }
        Ok(response)
    }

    pub(super) async fn put_object(&self, key: &Key, request: Request<Incoming>) -> Answer {
        check_length(request.body())?;
        let mode = mode(&request)?;
        let cache_control = header(request.headers(), CACHE_CONTROL.as_str()).map(str::to_owned);
        let attributes = Attributes { content_type: content_type(&request), cache_control };
        let body = respond::received(request.into_body());
        let written = self.store.put(key, body, mode, attributes).await?;
        ok(&answer(written))
    }

    pub(super) async fn delete_object(&self, key: &Key) -> Answer {
        self.store.delete(key).await?;
        Ok(respond::status(StatusCode::NO_CONTENT))
    }
}

fn answer(written: Written) -> ObjectWritten {
    ObjectWritten { etag: written.etag, size: written.size }
}

/// Refuses at once what says of itself that it is too large.
fn check_length(body: &Incoming) -> Result<(), Problem> {
    if body.size_hint().lower() <= MAX_OBJECT_BYTES {
        return Ok(());
    }
    let message = format!("the body is larger than {MAX_OBJECT_BYTES} bytes");
    Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "request/too-large", message))
}

/// `If-None-Match: *` creates, `If-Match: "etag"` replaces that object only (RFC 9110, section 13.1).
fn mode(request: &Request<Incoming>) -> Result<PutMode, Problem> {
    let headers = request.headers();
    match (header(headers, IF_NONE_MATCH.as_str()), header(headers, IF_MATCH.as_str())) {
        (None, None) => Ok(PutMode::Overwrite),
        (Some("*"), None) => Ok(PutMode::Create),
        (None, Some(etag)) => match etag.strip_prefix('"').and_then(|e| e.strip_suffix('"')) {
            Some(etag) => Ok(PutMode::Update(etag.to_owned())),
            None => Err(Problem::bad_request("If-Match takes one entity tag in quotes here")),
        },
        _ => Err(Problem::bad_request("a put takes either If-None-Match: * or If-Match with one entity tag")),
    }
}
