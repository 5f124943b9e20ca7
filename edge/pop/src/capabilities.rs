//! What the platform lets one invocation do.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use cache::policy::Overrides;
use cache::policy::overrides::Mode;
use futures::FutureExt as _;
use futures::future::LocalBoxFuture;
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Uri};
use http_body_util::BodyExt as _;
use isolate::limits::Limit;
use isolate::{Body, CacheCall};
use middleware::cohort::Transport;
use middleware::geo::Location;
use middleware::jwt::{Attempt, Document, MAX_JWKS_BYTES, Verifier, bearer};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::bindings::{Binding, limited, verified};
use crate::caching::{self, Caching};
use crate::cell::VisitParts;
use crate::fault::origin_code;
use crate::function::Function;
use crate::head;
use crate::notes::Notes;
use crate::request::id;
use crate::state::{State, unix_seconds};
use crate::trace::Trace;
use crate::upstream::{Target, Upstream};
use crate::worker::Worker;

/// The code of an error in what `ctx.cache.purge()` resolves to. They are told apart by their messages.
const NOT_PURGED: u32 = 1;

/// What a function sees of a request that is not in its head as it came.
pub(crate) struct Visit {
    pub(crate) client: IpAddr,
    /// `https` when the client's own connection is over TLS, as a trusted proxy says.
    pub(crate) scheme: &'static str,
    /// Host and port that the client asked for: a `fetch()` of the same goes to the origin.
    pub(crate) authority: String,
    pub(crate) request_id: HeaderValue,
}

impl Visit {
    pub(crate) fn url(&self, head: &http::request::Parts) -> String {
        let path = head.uri.path_and_query().map_or("/", PathAndQuery::as_str);
        format!("{}://{}{path}", self.scheme, self.authority)
    }

    /// The same URL, parsed; `None` where the host is none.
    pub(crate) fn uri(&self, head: &http::request::Parts) -> Option<Uri> {
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(if self.is_secure() { Scheme::HTTPS } else { Scheme::HTTP });
        parts.authority = self.authority.parse().ok();
        parts.path_and_query = Some(head.uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/")));
        Uri::from_parts(parts).ok()
    }

    /// The fields of one host and of this PoP's own knowledge: the client's address from nobody but this PoP.
    pub(crate) fn complete(&self, headers: &mut HeaderMap) {
        head::join_cookies(headers);
        headers.reserve(5);
        headers.insert(head::FORWARDED_PROTO, HeaderValue::from_static(self.scheme));
        if let Ok(client) = HeaderValue::from_str(&self.client.to_string()) {
            headers.insert(head::CLIENT, client.clone());
            headers.insert(head::FORWARDED_FOR, client);
        }
        if let Ok(host) = HeaderValue::from_str(&self.authority) {
            headers.insert(http::header::HOST, host);
        }
        headers.insert(head::REQUEST_ID, self.request_id.clone());
    }

    pub(crate) fn completed(&self, name: &str) -> Option<HeaderValue> {
        match name {
            "host" => HeaderValue::from_str(&self.authority).ok(),
            "x-forwarded-proto" => Some(HeaderValue::from_static(self.scheme)),
            "cf-connecting-ip" | "x-forwarded-for" => HeaderValue::from_str(&self.client.to_string()).ok(),
            "x-request-id" => Some(self.request_id.clone()),
            _ => None,
        }
    }

    pub(crate) fn is_secure(&self) -> bool {
        self.scheme == "https"
    }

    /// The request id as text.
    pub(crate) fn request_id(&self) -> &str {
        id(&self.request_id)
    }

    /// What a cell has to be told of it.
    pub(crate) fn parts(&self) -> VisitParts<'_> {
        VisitParts {
            client: self.client,
            secure: self.is_secure(),
            authority: &self.authority,
            request_id: self.request_id(),
        }
    }
}

/// The request that an invocation serves, and the parts of the PoP it may use.
pub(crate) struct Request {
    pub(crate) worker: Rc<Worker>,
    pub(crate) function: Arc<Function>,
    pub(crate) visit: Visit,
    /// The CDNs that the request has been through (RFC 8586): every subrequest says so too, or a loop over two of them
    /// would not be seen.
    pub(crate) passed: Vec<HeaderValue>,
    pub(crate) trace: Option<Trace>,
    pub(crate) notes: Rc<Notes>,
    pub(crate) http: &'static str,
    /// The PoP where the request came in, when that is another one than this.
    pub(crate) entered: Option<String>,
}

impl Drop for Request {
    /// The last that could do anything for the invocation is gone.
    fn drop(&mut self) {
        self.notes.rest();
    }
}

impl Request {
    /// Sends a request with an absolute target through the cache, and notes what came of it.
    pub(crate) async fn ask(
        &self,
        target: Target<'_>,
        head: http::request::Parts,
        body: Body,
    ) -> Result<http::Response<cache::Body>, cache::OriginFailure> {
        let answered = self.worker.upstream.fetch(target, head, body, self.notes.asked()).await;
        if let (Target::Origin(_), Some(placing)) = (target, &self.worker.placing) {
            placing.asked_origin(&self.worker.state, &self.function, answered.as_ref().err());
        }
        let response =
            answered.inspect_err(|failure| self.worker.counts().unanswered.add(origin_code(failure.kind), 1))?;
        if let Some(outcome) = response.extensions().get::<cache::Outcome>() {
            self.worker.counts().cached.add(outcome.as_str(), 1);
            self.notes.cached.set(Some(*outcome));
        }
        Ok(response)
    }

    /// One line of the function's log.
    fn write(&self, level: u8, request_id: &str, text: &str) {
        let (function, pop) = (&self.function.label, &self.state().name);
        match level {
            1 => tracing::debug!(target: "function", %pop, %function, %request_id, "{text}"),
            2 => tracing::info!(target: "function", %pop, %function, %request_id, "{text}"),
            3 => tracing::warn!(target: "function", %pop, %function, %request_id, "{text}"),
            _ => tracing::error!(target: "function", %pop, %function, %request_id, "{text}"),
        }
    }

    fn state(&self) -> &State {
        &self.worker.state
    }

    /// Notes in which cohort the client is.
    pub(crate) fn assign(&self, binding: &str, cohort: &str) {
        self.notes.assign(self.function.cohort(binding, cohort));
    }

    /// The same, of what the function is told.
    fn assigned(&self, binding: &str, found: Value) -> Value {
        if let Some(cohort) = found["cohort"].as_str() {
            self.assign(binding, cohort);
        }
        found
    }

    fn place(&self) -> Value {
        let place = self.state().locate(self.visit.client);
        let mut cf = described(&place);
        cf["colo"] = self.entered.as_ref().unwrap_or(&self.state().name).to_uppercase().into();
        cf["httpProtocol"] = self.http.into();
        cf
    }

    fn jwt(&self, binding: &str) -> Option<(&Arc<Verifier>, &str)> {
        match self.function.bindings.get(binding) {
            Some(Binding::Jwt { verifier, realm }) => Some((verifier, realm)),
            _ => None,
        }
    }
}

/// A place as Workers' `request.cf` names its parts. What is not known is not there.
fn described(place: &Location) -> Value {
    let mut cf = serde_json::Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            cf.insert(name.to_owned(), value);
        }
    };
    put("country", place.country.clone().map(Into::into));
    put("continent", place.continent.clone().map(Into::into));
    put("region", place.region.clone().map(Into::into));
    put("city", place.city.clone().map(Into::into));
    put("postalCode", place.postal.clone().map(Into::into));
    put("timezone", place.timezone.clone().map(Into::into));
    put("latitude", place.latitude.map(|degrees| degrees.to_string().into()));
    put("longitude", place.longitude.map(|degrees| degrees.to_string().into()));
    put("asn", place.asn.map(Into::into));
    put("asOrganization", place.as_organization.clone().map(Into::into));
    put("isEUCountry", place.is_eu.then(|| "1".into()));
    cf.into()
}

/// Arguments of `nearestRegion()`.
#[derive(Deserialize)]
struct Nearest {
    country: Option<String>,
    latitude: Option<f64>,
    longitude: Option<f64>,
    regions: BTreeMap<String, (f64, f64)>,
}

fn nearest(argument: &str) -> Result<Value, String> {
    let asked: Nearest = serde_json::from_str(argument)
        .map_err(|e| format!("nearestRegion() needs regions as {{ name: [latitude, longitude] }}: {e}"))?;
    let place = Location {
        country: asked.country,
        latitude: asked.latitude,
        longitude: asked.longitude,
        ..Location::default()
    };
    let regions: Vec<_> = asked.regions.into_iter().collect();
    let found = middleware::geo::region_for(&place, &regions);
    // Where a client is not known to be anywhere, the first region serves it.
    Ok(found.or_else(|| regions.first().map(|(name, _)| name.as_str())).into())
}

impl isolate::Capabilities for Request {
    fn url(&self, head: &http::request::Parts) -> String {
        self.visit.url(head)
    }

    fn complete(&self, headers: &mut HeaderMap) {
        self.visit.complete(headers);
    }

    fn completed(&self, name: &str) -> Option<HeaderValue> {
        self.visit.completed(name)
    }

    fn cf(&self) -> String {
        self.place().to_string()
    }

    fn fetch(
        self: Rc<Self>,
        request: http::Request<Body>,
        cf: String,
    ) -> LocalBoxFuture<'static, Result<http::Response<Body>, String>> {
        let (mut head, body) = request.into_parts();
        if !cf.is_empty() {
            match Caching::parse(&cf, self.function.name.as_str()) {
                // "This option applies to GET and HEAD request methods only": Cloudflare, of each of them.
                Ok(caching) if matches!(head.method, http::Method::GET | http::Method::HEAD) => {
                    head.extensions.insert(caching.overrides.clone());
                    head.extensions.insert(caching);
                }
                Ok(_) => {}
                Err(why) => return std::future::ready(Err(why)).boxed_local(),
            }
        }
        head.headers.remove(head::CDN_LOOP);
        for cdn in &self.passed {
            head.headers.append(head::CDN_LOOP, cdn.clone());
        }
        head.headers.insert(head::REQUEST_ID, self.visit.request_id.clone());
        if let Some(trace) = &self.trace {
            trace.pass_on(&mut head.headers);
        }
        if !http_body::Body::is_end_stream(&body) {
            head.extensions.insert(cache::CarriesBody);
        }
        async move {
            let uri = head.uri.clone();
            let only_if_cached = head.extensions.get().is_some_and(|it: &Overrides| it.mode == Mode::OnlyIfCached);
            let own = uri.authority().is_some_and(|a| a.as_str().eq_ignore_ascii_case(&self.visit.authority));
            let target = if own { Target::Origin(&self.function.assets) } else { Target::Outside };
            let response =
                self.ask(target, head, body).await.map_err(|failure| format!("fetch(): {uri}: {failure}"))?;
            if only_if_cached && response.extensions().get() == Some(&cache::Outcome::OnlyIfCached) {
                return Err(format!("fetch(): {uri} is not in the cache, and cache is \"only-if-cached\""));
            }
            Ok(response.map(|body| Box::pin(body) as Body))
        }
        .boxed_local()
    }

    fn cache(
        self: Rc<Self>,
        name: String,
        request: http::Request<()>,
        call: CacheCall,
    ) -> LocalBoxFuture<'static, Result<Option<http::Response<Body>>, String>> {
        let (request, ()) = request.into_parts();
        // By the function's name: a new version finds what the old one stored. No other function, and not what fetch()
        // stores of the real URL, meets this key: whoever puts here says himself what a URL answers. Cloudflare shares
        // `caches.default` with fetch() within a zone, whose functions trust one another.
        let space = ["cache", self.function.name.as_str(), &name];
        let Some(key) = cache::Key::of_uri(&request.uri).map(|key| key.in_space(&space)) else {
            return std::future::ready(Err(format!("caches: {}: a URL without a host", request.uri))).boxed_local();
        };
        async move {
            let cache = &self.state().cache;
            let empty = || http::Response::new(Box::pin(cache::Body::empty()) as Body);
            match call {
                CacheCall::Match => {
                    let found = cache::direct::get(cache, &key, &request).await;
                    Ok(found.map(|response| response.map(|body| Box::pin(body) as Body)))
                }
                CacheCall::Delete => Ok(cache::direct::delete(cache, &key, &request).await.then(empty)),
                CacheCall::Put(response) => {
                    let uri = request.uri.clone();
                    let response = response.map(|body| body.boxed_unsync());
                    let stored = cache::direct::put(cache, &key, request, response).await;
                    let stored = stored.map_err(|failure| format!("cache.put(): {uri}: {failure}"))?;
                    if let Err(reason) = stored {
                        tracing::debug!(pop = %self.state().name, function = %self.function.label, %uri, reason = reason.as_str(), "not put into a cache");
                    }
                    Ok(None)
                }
            }
        }
        .boxed_local()
    }

    fn call(&self, binding: &str, method: &str, argument: &str) -> Result<String, String> {
        let value = match (self.function.bindings.get(binding), method) {
            (None, "locate") => {
                let address = argument.parse().map_err(|_| format!("locate(): {argument:?} is not an IP address"))?;
                described(&self.state().locate(address))
            }
            (None, "nearest") => nearest(argument)?,
            (Some(Binding::RateLimit(limiter)), "limit") => {
                // Whoever has one IPv6 address has 2⁶⁴ of them: an address counts as its network.
                let network = argument.parse().map(middleware::rate_limit::client_key);
                limited(&limiter.check(network.as_deref().unwrap_or(argument), self.state().millis()))
            }
            (Some(Binding::Cohort(cohorts)), "cookie") => {
                let secure = self.visit.is_secure();
                let found = cohorts.by_cookie(argument, if secure { Transport::Https } else { Transport::Http });
                self.assigned(binding, found)
            }
            (Some(Binding::Cohort(cohorts)), "key") => self.assigned(binding, cohorts.by_key(argument)),
            (Some(Binding::Jwt { verifier, realm }), "verify") => match bearer(argument) {
                None => return Ok(verified(realm, Err(None))),
                Some(token) => match verifier.attempt(token, unix_seconds()) {
                    Attempt::Done(result) => return Ok(verified(realm, result.map_err(Some))),
                    Attempt::NeedsRefresh(_) => return Ok(String::new()),
                },
            },
            _ => return Err(format!("there is no {binding}.{method}()")),
        };
        Ok(value.to_string())
    }

    fn call_async(
        &self,
        binding: String,
        method: String,
        argument: String,
    ) -> LocalBoxFuture<'static, Result<String, String>> {
        if (binding.as_str(), method.as_str()) == ("", "purge") {
            let ordered = caching::purge(&argument, &self.function.name);
            let state = Arc::clone(&self.worker.state);
            return async move {
                let done = state.purges.order(ordered?, state.millis()).await;
                // As Cloudflare says it: what could not be done is no exception.
                let errors: Vec<_> =
                    done.err().iter().map(|why| json!({ "code": NOT_PURGED, "message": why })).collect();
                Ok(json!({ "success": errors.is_empty(), "errors": errors }).to_string())
            }
            .boxed_local();
        }
        let Some((verifier, realm)) = self.jwt(&binding).filter(|_| method == "verify") else {
            return async move { Err(format!("there is no {binding}.{method}()")) }.boxed_local();
        };
        let (verifier, realm, upstream) = (Arc::clone(verifier), realm.to_owned(), Arc::clone(&self.worker.upstream));
        async move {
            let Some(token) = bearer(&argument) else { return Ok(verified(&realm, Err(None))) };
            if let Attempt::NeedsRefresh(refresh) = verifier.attempt(token, unix_seconds()) {
                let fetching = Arc::clone(&verifier);
                // A task of its own: a client that goes away must not cancel what others wait for.
                let task = isolate::spawn_local(async move {
                    fetching.refresh(refresh, unix_seconds(), |url| key_set(upstream, url)).await
                });
                if let Ok(Err(error)) = task.await {
                    tracing::warn!(%error, "key set not refreshed");
                }
            }
            let result = verifier.verify(token, unix_seconds());
            Ok(verified(&realm, result.map_err(Some)))
        }
        .boxed_local()
    }

    fn used(&self, cpu: Duration) {
        self.worker.share(Some(&self.function)).used(cpu);
        self.notes.charge(cpu);
        if self.function.heavy.ran(cpu, || self.state().millis()) {
            let (pop, function, millis) = (&self.state().name, &self.function.label, cpu.as_secs_f64() * 1e3);
            tracing::info!(%pop, %function, millis, "a function held up its worker; for a while it runs in a process apart");
        }
    }

    fn broke(&self, limit: Limit) {
        self.worker.share(Some(&self.function)).broke(limit);
    }

    fn log(&self, level: u8, text: &str) {
        self.write(level, self.visit.request_id(), text);
    }

    fn own_log(&self, level: u8, text: &str) {
        self.write(level, "-", text);
    }
}

/// Fetches a JWK set, past the cache: the verifier keeps it, by its own rules.
async fn key_set(upstream: Arc<Upstream>, url: String) -> Result<Document<Vec<u8>>, String> {
    let request = http::Request::get(&url).header("accept", "application/json").body(()).map_err(|e| e.to_string())?;
    let response = upstream.direct(request.into_parts().0).await.map_err(|e| e.to_string())?;
    if response.status() != http::StatusCode::OK {
        return Err(format!("it answered {}", response.status()));
    }
    let directives = response.headers().get(http::header::CACHE_CONTROL).and_then(|v| v.to_str().ok()).unwrap_or("");
    let max_age = directives.split(',').filter_map(|d| d.trim().strip_prefix("max-age=")?.parse().ok()).next();
    let limited = http_body_util::Limited::new(response.into_body(), MAX_JWKS_BYTES + 1);
    let body = limited.collect().await.map_err(|e| e.to_string())?.to_bytes().to_vec();
    Ok(Document { body, max_age: max_age.map(Duration::from_secs) })
}
