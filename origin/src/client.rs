//! The client of the admin API, for PoPs and the command line.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt as _;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, StreamBody};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::{Alert, AlertNoted, Delivery, Receipt as UsageReceipt, UsageReport};
use crate::api::{Deleted, Deploy, ObjectWritten, Poll, Pop, PopReport, Pops, Rollback, Stats, Versions};
use crate::bundle::{Digest, FunctionName, MAX_BUNDLE_BYTES};
use crate::deployment::{Manifest, Outcome, Version};
use crate::purge::{PurgePage, PurgePoll, PurgeRequest, Purges, Receipt};
use crate::store::{Attributes, Body, BoxError};

pub use error::ControlError;

mod error;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Time for an answer without a large body, on top of what a poll waits.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Slowest upload that is waited for, in bytes a second.
const MIN_UPLOAD_RATE: u64 = 128 << 10;

/// Largest JSON answer, in bytes.
const MAX_JSON_BYTES: usize = 64 << 20;

/// A control connection: cheap to clone, its connections are pooled. Works on any Tokio runtime with time and I/O,
/// and must not move from one runtime to another.
#[derive(Clone)]
pub struct Control {
    base: Uri,
    token: Result<HeaderValue, ControlError>,
    http: Client<HttpConnector, UnsyncBoxBody<Bytes, BoxError>>,
}

/// Bytes to send.
#[derive(Debug)]
pub struct Upload {
    /// Length in bytes, when it is known before.
    pub size: Option<u64>,
    /// The bytes.
    pub body: Body,
}

impl<B: Into<Bytes>> From<B> for Upload {
    fn from(bytes: B) -> Self {
        let bytes: Bytes = bytes.into();
        Self { size: Some(bytes.len() as u64), body: bytes.into() }
    }
}

impl Control {
    /// A client of the admin API at `base` (`http://127.0.0.1:8091`). Neither fails nor connects: a wrong address or
    /// token is the error of the first call.
    pub fn new(base: Uri, token: &str) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.set_nodelay(true);
        let http = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(20))
            .pool_max_idle_per_host(8)
            .build(connector);
        let token = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| ControlError::Token);
        Self { base, token, http }
    }

    /// The address of the admin API.
    pub fn base(&self) -> &Uri {
        &self.base
    }

    /// Reports what a PoP has, and waits up to `wait` (at most [`crate::api::MAX_WAIT_MS`]) for a manifest of another
    /// generation or store; `None` when there is none yet.
    ///
    /// # Errors
    /// [`ControlError`].
    pub async fn poll(&self, report: &PopReport, wait: Duration) -> Result<Option<Manifest>, ControlError> {
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).min(crate::api::MAX_WAIT_MS);
        let call = self.post("poll", &Poll { report: report.clone(), wait_ms })?;
        let response = call.within(ANSWER_TIMEOUT + Duration::from_millis(wait_ms)).send(self).await?;
        match response.status() {
            StatusCode::NOT_MODIFIED => Ok(None),
            _ => json(response).await.map(Some),
        }
    }

    /// What is live.
    ///
    /// # Errors
    /// [`ControlError`].
    pub async fn manifest(&self) -> Result<Manifest, ControlError> {
        json(Call::new(Method::GET, "manifest").send(self).await?).await
    }

    /// The bytes of a version, verified.
    ///
    /// # Errors
    /// [`ControlError`]; [`ControlError::Answer`] when the bytes are not the version asked for.
    pub async fn bundle(&self, version: &Digest) -> Result<Bytes, ControlError> {
        let response = Call::new(Method::GET, format!("bundles/{version}")).send(self).await?;
        let read = body(response).verified(*version).collect(MAX_BUNDLE_BYTES);
        let read = tokio::time::timeout(ANSWER_TIMEOUT, read).await.map_err(|_| ControlError::TimedOut)?;
        read.map_err(ControlError::answer)
    }

    /// Whether the origin has an asset's bytes.
    ///
    /// # Errors
    /// [`ControlError`].
    pub async fn has_blob(&self, digest: &Digest) -> Result<bool, ControlError> {
        match Call::new(Method::HEAD, format!("blobs/{digest}")).send(self).await {
            Ok(_) => Ok(true),
            Err(ControlError::Refused { status: StatusCode::NOT_FOUND, .. }) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Stores an asset's bytes, which must have the digest.
    ///
    /// # Errors
    /// [`ControlError`].
    pub async fn put_blob(&self, digest: &Digest, bytes: impl Into<Upload>) -> Result<(), ControlError> {
        Call::new(Method::PUT, format!("blobs/{digest}")).with_body(bytes.into()).send(self).await?;
        Ok(())
    }

    /// Stores a bundle, which must be the version; its assets must be there before it. `message` is kept with it.
    ///
    /// # Errors
    /// [`ControlError`].
    pub async fn put_bundle(
        &self,
        version: &Digest,
        bytes: impl Into<Bytes>,
        message: Option<&str>,
    ) -> Result<Version, ControlError> {
        let query: String = url::form_urlencoded::byte_serialize(message.unwrap_or_default().as_bytes()).collect();
        let call = Call::new(Method::PUT, format!("bundles/{version}?message={query}"));
        json(call.with_body(bytes.into().into()).send(self).await?).await
    }

    /// Makes a version live.
    ///
    /// # Errors
    /// [`ControlError`]; a conflict with another function is refused with the code `deploy/conflict`.
    pub async fn deploy(&self, name: &FunctionName, version: &Digest) -> Result<Outcome, ControlError> {
        let call = self.post(format!("functions/{name}/deploy"), &Deploy { version: *version })?;
        json(call.send(self).await?).await
    }

    /// Makes an earlier version live: the one that `version` begins, or the one before the live one.
    ///
    /// # Errors
    /// [`ControlError`].
    pub async fn rollback(&self, name: &FunctionName, version: Option<&str>) -> Result<Outcome, ControlError> {
        let version = version.map(str::to_owned);
        let call = self.post(format!("functions/{name}/rollback"), &Rollback { version })?;
        json(call.send(self).await?).await
    }

    /// The versions of a function, newest first.
    ///
    /// # Errors
    /// [`ControlError`].
    pub async fn versions(&self, name: &FunctionName) -> Result<Vec<Version>, ControlError> {
        let response = Call::new(Method::GET, format!("functions/{name}/versions")).send(self).await?;
        Ok(json::<Versions>(response).await?.versions)
    }

    /// Takes a function out of the manifest; returns its new generation.
    ///
    /// # Errors
    /// [`ControlError`].
    pub async fn delete(&self, name: &FunctionName) -> Result<u64, ControlError> {
        let response = Call::new(Method::DELETE, format!("functions/{name}")).send(self).await?;
        Ok(json::<Deleted>(response).await?.generation)
    }

    /// The PoPs that the origin has heard of since it started, by name.
    ///
    /// # Errors
    /// [`ControlError`].
    pub async fn pops(&self) -> Result<Vec<Pop>, ControlError> {
        Ok(json::<Pops>(Call::new(Method::GET, "pops").send(self).await?).await?.pops)
    }

    /// Purges, and waits up to [`PurgeRequest::wait_ms`] for the PoPs. The purges are durable when there is a receipt; it
    /// says which PoPs have done them.
    ///
    /// # Errors
    /// [`ControlError`]: nothing is purged when the origin refused. After any other error purging again is harmless.
    pub async fn purge(&self, request: &PurgeRequest) -> Result<Receipt, ControlError> {
        let call = self.post("purges", request)?;
        let wait = Duration::from_millis(request.wait_ms.min(crate::api::MAX_WAIT_MS));
        json(call.within(ANSWER_TIMEOUT + wait).send(self).await?).await
    }

    /// How far the purge log is, and who has done what.
    ///
    /// # Errors
    /// [`ControlError`].
    pub async fn purges(&self) -> Result<Purges, ControlError> {
        json(Call::new(Method::GET, "purges").send(self).await?).await
    }

    /// Says how far a PoP is, and waits for what follows, no longer than `within` in all: an answer later than that is no
    /// sign of being in touch.
    ///
    /// # Errors
    /// [`ControlError`].
    pub async fn follow_purges(&self, poll: &PurgePoll, within: Duration) -> Result<PurgePage, ControlError> {
        let answered = async { json(self.post("purges/poll", poll)?.within(within).send(self).await?).await };
        tokio::time::timeout(within, answered).await.unwrap_or(Err(ControlError::TimedOut))
    }

    /// Delivers what functions have used, no longer than `within` in all. A batch is durable when there is a receipt.
    ///
    /// # Errors
    /// [`ControlError`]: it may be durable; delivering the same again is harmless.
    pub async fn deliver(&self, delivery: &Delivery, within: Duration) -> Result<UsageReceipt, ControlError> {
        let answered = async { json(self.post("usage", delivery)?.send(self).await?).await };
        tokio::time::timeout(within, answered).await.unwrap_or(Err(ControlError::TimedOut))
    }

    /// Notes that a budget has come to a threshold; whether nobody had noted it before.
    ///
    /// # Errors
    /// [`ControlError`].
    pub async fn alert(&self, alert: &Alert) -> Result<bool, ControlError> {
        Ok(json::<AlertNoted>(self.post("usage/alerts", alert)?.send(self).await?).await?.first)
    }

    /// What functions have used in a day (`YYYY-MM-DD`) or a month (`YYYY-MM`).
    ///
    /// # Errors
    /// [`ControlError`].
    pub async fn usage(&self, period: &str) -> Result<UsageReport, ControlError> {
        let period: String = url::form_urlencoded::byte_serialize(period.as_bytes()).collect();
        json(Call::new(Method::GET, format!("usage?period={period}")).send(self).await?).await
    }

    /// What the origin has been asked so far.
    ///
    /// # Errors
    /// [`ControlError`].
    pub async fn stats(&self) -> Result<Stats, ControlError> {
        json(Call::new(Method::GET, "stats").send(self).await?).await
    }

    /// Stores a user's object, public at `/{path}`.
    ///
    /// # Errors
    /// [`ControlError`].
    pub async fn put_object(
        &self,
        path: &str,
        bytes: impl Into<Upload>,
        attributes: &Attributes,
    ) -> Result<ObjectWritten, ControlError> {
        let call = Call::new(Method::PUT, format!("objects/{}", encode(path))).with_body(bytes.into());
        let call = call.with(CONTENT_TYPE, attributes.content_type.as_deref())?;
        json(call.with(CACHE_CONTROL, attributes.cache_control.as_deref())?.send(self).await?).await
    }

    /// A user's object.
    ///
    /// # Errors
    /// [`ControlError`].
    pub async fn object(&self, path: &str) -> Result<Body, ControlError> {
        Ok(body(Call::new(Method::GET, format!("objects/{}", encode(path))).send(self).await?))
    }

    /// Removes a user's object; removing what is not there succeeds.
    ///
    /// # Errors
    /// [`ControlError`].
    pub async fn delete_object(&self, path: &str) -> Result<(), ControlError> {
        Call::new(Method::DELETE, format!("objects/{}", encode(path))).send(self).await?;
        Ok(())
    }

    fn post(&self, path: impl Into<String>, value: &impl Serialize) -> Result<Call, ControlError> {
        let bytes = serde_json::to_vec(value).map_err(ControlError::answer)?;
        let call = Call::new(Method::POST, path).with_body(bytes.into());
        call.with(CONTENT_TYPE, Some("application/json"))
    }

    fn address(&self, path: &str) -> Result<Uri, ControlError> {
        let wrong = || ControlError::Address { address: self.base.to_string() };
        if self.base.scheme_str() != Some("http") {
            return Err(wrong());
        }
        let authority = self.base.authority().ok_or_else(wrong)?;
        let folder = self.base.path().trim_end_matches('/');
        format!("http://{authority}{folder}/v1/{path}").parse().map_err(|_| wrong())
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Control({})", self.base)
    }
}

/// One request in the making.
struct Call {
    method: Method,
    path: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Option<Body>,
    timeout: Duration,
}

impl Call {
    fn new(method: Method, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), headers: Vec::new(), body: None, timeout: ANSWER_TIMEOUT }
    }

    fn with(mut self, name: HeaderName, value: Option<&str>) -> Result<Self, ControlError> {
        if let Some(value) = value {
            let value = HeaderValue::from_str(value).map_err(|_| ControlError::Header { name: name.clone() })?;
            self.headers.push((name, value));
        }
        Ok(self)
    }

    fn with_body(mut self, upload: Upload) -> Self {
        if let Some(size) = upload.size {
            self.headers.push((CONTENT_LENGTH, size.into()));
        }
        self.timeout += Duration::from_secs(upload.size.unwrap_or(1 << 40) / MIN_UPLOAD_RATE);
        Self { body: Some(upload.body), ..self }
    }

    fn within(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Sends the request. Anything but success and "not modified" is an error.
    async fn send(self, control: &Control) -> Result<Response<Incoming>, ControlError> {
        let body = match self.body {
            Some(body) => StreamBody::new(body.map_ok(Frame::data)).boxed_unsync(),
            None => Empty::new().map_err(|never| match never {}).boxed_unsync(),
        };
        let mut request = Request::new(body);
        *request.method_mut() = self.method;
        *request.uri_mut() = control.address(&self.path)?;
        request.headers_mut().extend(self.headers);
        request.headers_mut().insert(AUTHORIZATION, control.token.clone()?);
        let answer = tokio::time::timeout(self.timeout, control.http.request(request)).await;
        let response = match answer {
            Ok(Ok(response)) => response,
            Ok(Err(source)) => return Err(ControlError::unreachable(&control.base, source)),
            Err(_) => return Err(ControlError::TimedOut),
        };
        match response.status() {
            status if status.is_success() || status == StatusCode::NOT_MODIFIED => Ok(response),
            status => Err(ControlError::refused(status, read(response, 64 << 10).await.ok())),
        }
    }
}

fn body(response: Response<Incoming>) -> Body {
    Body::new(response.into_body().into_data_stream().map_err(Into::into))
}

async fn read(response: Response<Incoming>, limit: usize) -> Result<Bytes, ControlError> {
    let read = tokio::time::timeout(ANSWER_TIMEOUT, body(response).collect(limit)).await;
    read.map_err(|_| ControlError::TimedOut)?.map_err(ControlError::answer)
}

async fn json<T: DeserializeOwned>(response: Response<Incoming>) -> Result<T, ControlError> {
    serde_json::from_slice(&read(response, MAX_JSON_BYTES).await?).map_err(ControlError::answer)
}

/// A path with everything encoded that is not plain in a URL.
fn encode(path: &str) -> String {
    let mut encoded = String::with_capacity(path.len());
    for byte in path.trim_start_matches('/').bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => encoded.push(byte.into()),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}
