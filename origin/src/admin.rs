//! The admin API: its own listener, its own token, JSON.
//!
//! ```text
//! HEAD, PUT          /v1/blobs/{digest}                an asset's bytes, visible once their digest is right
//! GET, PUT           /v1/bundles/{digest}              a version; PUT takes ?message=
//! POST               /v1/functions/{name}/deploy       {"version": digest}
//! POST               /v1/functions/{name}/rollback     {"version": prefix}, or {} for the one before
//! GET                /v1/functions/{name}/versions
//! DELETE             /v1/functions/{name}
//! GET                /v1/manifest                      ?after=generation&wait_ms= waits for another generation
//! POST               /v1/poll                          the same for a PoP, which reports what it has; also another store
//! GET                /v1/pops                          what each PoP has reported
//! GET, POST          /v1/purges                        how far the log is and who has done what; a purge
//! POST               /v1/purges/poll                   a PoP confirms, and waits for what follows
//! GET, POST          /v1/usage                         ?period= what functions have used; a PoP delivers it
//! POST               /v1/usage/alerts                  a PoP notes that a budget has come to a threshold
//! GET, PUT, DELETE   /v1/objects/{key}                 users' objects, public at /{key}
//! GET                /v1/stats
//! ```

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::header::{CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::api::{Deleted, MAX_WAIT_MS, Poll, Stats};
use crate::bundle::{Digest, FunctionName};
use crate::deployment::{Deployments, Follower, Manifest};
use crate::purge::Log;
use crate::purge::receipts::Receipts;
use crate::server::problem::Problem;
use crate::server::public::decode;
use crate::server::respond::{self, Answer, ResponseBody};
use crate::server::traffic::{Traffic, header};
use crate::server::{Config, unix_ms};
use crate::store::{Clock, ObjectStore};
use crate::token::Token;
use crate::usage::Usages;
use pops::Seen;

mod content;
mod functions;
mod pops;
mod purges;
mod usage;

/// Longest JSON body, in bytes: a poll of a PoP with many functions that failed.
const MAX_JSON_BYTES: usize = 4 << 20;

/// The admin side of an origin.
pub(crate) struct Admin {
    name: String,
    token: Token,
    store: Arc<dyn ObjectStore>,
    deployments: Arc<Deployments>,
    follower: Arc<Follower>,
    purges: Arc<Log>,
    receipts: Receipts,
    usages: Usages,
    traffic: Arc<Traffic>,
    draining: watch::Receiver<bool>,
    clock: Clock,
    seen: Seen,
}

impl Admin {
    pub(crate) fn new(
        config: &Config,
        store: Arc<dyn ObjectStore>,
        deployments: Arc<Deployments>,
        follower: Arc<Follower>,
        purges: Arc<Log>,
        traffic: Arc<Traffic>,
        draining: watch::Receiver<bool>,
    ) -> Self {
        let (name, token, clock) = (config.name.clone(), Token::new(&config.token), config.clock.clone());
        let (receipts, seen) = (Receipts::new(), Seen::default());
        let usages = Usages::new(store.clone());
        Self { name, token, store, deployments, follower, purges, receipts, usages, traffic, draining, clock, seen }
    }

    /// Answers one request. Always a response.
    pub(crate) async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<ResponseBody> {
        self.traffic.admin_requests.fetch_add(1, Ordering::Relaxed);
        let request_id = self.traffic.request_id(&request);
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let answer = match self.token.check(request.headers()) {
            Ok(()) => self.route(request).await,
            Err(challenge) => {
                let message = "this API needs the admin token: Authorization: Bearer ...";
                let problem = Problem::new(StatusCode::UNAUTHORIZED, "auth/token", message);
                Err(problem.with(WWW_AUTHENTICATE, HeaderValue::from_static(challenge)))
            }
        };
        let response = answer.unwrap_or_else(|problem| {
            respond::log(&problem, &request_id);
            respond::problem(&problem, &request_id)
        });
        tracing::debug!(%method, path, status = response.status().as_u16(), request_id, "admin request");
        if method == Method::HEAD { response.map(|_| respond::empty()) } else { response }
    }

    async fn route(&self, request: Request<Incoming>) -> Answer {
        let path = request.uri().path().to_owned();
        let Some(path) = path.strip_prefix("/v1/") else { return Err(Problem::not_found()) };
        let segments: Vec<&str> = path.split('/').collect();
        let method = request.method().clone();
        match (&segments[..], method.as_str()) {
            (["blobs", digest], "HEAD") => self.has_blob(&parse(digest)?).await,
            (["blobs", digest], "PUT") => self.put_blob(&parse(digest)?, request.into_body()).await,
            (["blobs", _], _) => Err(Problem::method_not_allowed("HEAD, PUT")),
            (["bundles", digest], "GET" | "HEAD") => self.bundle(&parse(digest)?).await,
            (["bundles", digest], "PUT") => self.put_bundle(&parse(digest)?, request).await,
            (["bundles", _], _) => Err(Problem::method_not_allowed("GET, HEAD, PUT")),
            (["functions", name, "deploy"], "POST") => self.deploy(&function(name)?, request.into_body()).await,
            (["functions", name, "rollback"], "POST") => self.rollback(&function(name)?, request.into_body()).await,
            (["functions", _, "deploy" | "rollback"], _) => Err(Problem::method_not_allowed("POST")),
            (["functions", name, "versions"], "GET") => self.versions(&function(name)?).await,
            (["functions", name], "DELETE") => self.delete(&function(name)?).await,
            (["functions", _], _) => Err(Problem::method_not_allowed("DELETE")),
            (["manifest"], "GET") => self.manifest(&request).await,
            (["poll"], "POST") => self.poll(json(request.into_body()).await?).await,
            (["poll"], _) => Err(Problem::method_not_allowed("POST")),
            (["pops"], "GET") => Ok(respond::json(StatusCode::OK, &self.seen.list())),
            (["purges"], "GET") => Ok(respond::json(StatusCode::OK, &self.purges())),
            (["purges"], "POST") => self.purge(json(request.into_body()).await?).await,
            (["purges"], _) => Err(Problem::method_not_allowed("GET, POST")),
            (["purges", "poll"], "POST") => self.follow_purges(json(request.into_body()).await?).await,
            (["purges", "poll"], _) => Err(Problem::method_not_allowed("POST")),
            (["usage"], "GET") => self.usage(&request).await,
            (["usage"], "POST") => self.deliver(json(request.into_body()).await?).await,
            (["usage"], _) => Err(Problem::method_not_allowed("GET, POST")),
            (["usage", "alerts"], "POST") => self.alert(json(request.into_body()).await?).await,
            (["usage", "alerts"], _) => Err(Problem::method_not_allowed("POST")),
            (["stats"], "GET") => Ok(respond::json(StatusCode::OK, &self.stats())),
            (["functions", _, "versions"] | ["manifest" | "pops" | "stats"], _) => {
                Err(Problem::method_not_allowed("GET"))
            }
            (["objects", first, ..], verb) if !first.is_empty() => {
                let key = public_key(path.strip_prefix("objects/").unwrap_or_default())?;
                match verb {
                    "GET" | "HEAD" => self.object(&key, &method).await,
                    "PUT" => self.put_object(&key, request).await,
                    "DELETE" => self.delete_object(&key).await,
                    _ => Err(Problem::method_not_allowed("GET, HEAD, PUT, DELETE")),
                }
            }
            _ => Err(Problem::not_found()),
        }
    }

    /// The manifest once it is another than the one had, or 304 when the wait is over or the origin drains.
    async fn wait_for_other(&self, is_other: impl Fn(&Manifest) -> bool, wait_ms: u64) -> Answer {
        let mut live = self.follower.watch();
        let mut draining = self.draining.clone();
        let wait = Duration::from_millis(wait_ms.min(MAX_WAIT_MS));
        tokio::select! {
            changed = live.wait_for(|live| is_other(&live.manifest)) => match changed {
                Ok(live) => Ok(respond::json(StatusCode::OK, &live.manifest)),
                Err(closed) => Err(Problem::internal("origin/stopped", closed)),
            },
            () = tokio::time::sleep(wait) => Ok(respond::status(StatusCode::NOT_MODIFIED)),
            _ = draining.wait_for(|draining| *draining) => Ok(respond::status(StatusCode::NOT_MODIFIED)),
        }
    }

    async fn manifest(&self, request: &Request<Incoming>) -> Answer {
        let number = |name| match query(request, name) {
            None => Ok(None),
            Some(text) => match text.parse::<u64>() {
                Ok(number) => Ok(Some(number)),
                Err(_) => Err(Problem::bad_request(format!("{name} must be a number"))),
            },
        };
        let (after, wait_ms) = (number("after")?, number("wait_ms")?.unwrap_or(0));
        self.wait_for_other(|manifest| Some(manifest.generation) != after, wait_ms).await
    }

    async fn poll(&self, poll: Poll) -> Answer {
        let Poll { report, wait_ms } = poll;
        let (generation, store) = (report.generation, report.store.clone());
        self.seen.note(report, self.now_ms())?;
        // The same generation of another store is another manifest: the store was lost, or the origin has moved to one.
        let is_other =
            |manifest: &Manifest| manifest.generation != generation || (!store.is_empty() && manifest.store != store);
        self.wait_for_other(is_other, wait_ms).await
    }

    fn stats(&self) -> Stats {
        let Traffic { started_ms, public_requests, public_bytes, admin_requests, .. } = &*self.traffic;
        Stats {
            name: self.name.clone(),
            started_at_ms: *started_ms,
            generation: self.follower.live().manifest.generation,
            requests: public_requests.load(Ordering::Relaxed),
            bytes: public_bytes.load(Ordering::Relaxed),
            admin_requests: admin_requests.load(Ordering::Relaxed),
        }
    }

    /// Takes up a change of our own at once. A failure here is not the client's: the change is stored, and followed.
    async fn take_up(&self) {
        if let Err(error) = self.follower.refresh().await {
            tracing::error!(%error, "a change is stored but could not be read back yet");
        }
    }

    fn now_ms(&self) -> u64 {
        unix_ms((self.clock)())
    }
}

fn deleted(generation: u64) -> Response<ResponseBody> {
    respond::json(StatusCode::OK, &Deleted { generation })
}

fn ok(value: &impl Serialize) -> Answer {
    Ok(respond::json(StatusCode::OK, value))
}

fn parse(digest: &str) -> Result<Digest, Problem> {
    digest.parse().map_err(|e: crate::bundle::BundleError| Problem::bad_request(e.to_string()))
}

fn function(name: &str) -> Result<FunctionName, Problem> {
    name.parse().map_err(|e: crate::bundle::BundleError| Problem::bad_request(e.to_string()))
}

/// Where a user's object is stored.
fn public_key(path: &str) -> Result<crate::key::Key, Problem> {
    let key = crate::key::Key::parse(&format!("public/{}", decode(path)?));
    key.map_err(|e| Problem::bad_request(e.to_string()))
}

async fn json<T: DeserializeOwned>(body: Incoming) -> Result<T, Problem> {
    let bytes = respond::collect(body, MAX_JSON_BYTES).await?;
    serde_json::from_slice(&bytes)
        .map_err(|e| Problem::bad_request(format!("the body is not what this path takes: {e}")))
}

fn query(request: &Request<Incoming>, name: &str) -> Option<String> {
    let query = request.uri().query().unwrap_or_default();
    url::form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

/// The media type a request names for its body.
fn content_type(request: &Request<Incoming>) -> Option<String> {
    header(request.headers(), CONTENT_TYPE.as_str()).map(str::to_owned)
}
