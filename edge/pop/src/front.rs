//! The cache in front of functions: what one has answered answers the next request, and no isolate is leased for it.
//!
//! The engine is the one behind functions, [`cache::fetch`], with a function in the place of the origin. A function runs on
//! the thread of its request, while the cache's way to the origin may be taken by any task: so the cache sends the request
//! back here, over a channel, when the function is to run. On a hit that never happens.

use std::collections::HashMap;
use std::pin::pin;
use std::rc::Rc;

use bytes::Bytes;
use cache::{FailureKind, OriginBody, OriginFailure};
use futures::stream;
use http::header::{CONTENT_LENGTH, COOKIE, HeaderName};
use http::request::Parts;
use http::{HeaderMap, Method, Response};
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt as _, StreamBody};
use isolate::{Body, BoxError, Timing};
use middleware::cohort::CookieName;
use origin::bundle::{FrontCache, FunctionConfig, KeyPart, RoutePattern};
use tokio::sync::{mpsc, oneshot};

use crate::bindings::Binding;
use crate::capabilities::Request;
use crate::fault::Fault;
use crate::head;
use crate::outcome::{ClientBody, Record};
use crate::request::{Ran, empty, run};
use crate::worker::Worker;

/// Frames between a function and the cache: the function waits for the cache, not the cache for memory.
const FRAMES: usize = 2;

/// The caches in front of one version, by route.
#[derive(Debug, Default)]
pub(crate) struct Fronts {
    all: Option<Front>,
    routes: HashMap<RoutePattern, Option<Front>>,
}

/// What one of them keeps apart.
#[derive(Debug)]
pub(crate) struct Front {
    /// The version, unless answers outlive it.
    version: String,
    parts: Vec<Part>,
}

#[derive(Debug)]
enum Part {
    Country,
    Continent,
    Scheme,
    Cohort(String),
    Cookie(CookieName),
    Header(HeaderName),
}

impl Fronts {
    /// As the project file has them.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn new(config: &FunctionConfig, version: &str) -> Result<Self, String> {
        let front = |cache: &Option<FrontCache>| cache.as_ref().map(|cache| Front::new(cache, version)).transpose();
        let routes = config.route_caches.iter().map(|route| Ok((route.pattern.clone(), front(&route.cache)?)));
        Ok(Self { all: front(&config.cache)?, routes: routes.collect::<Result<_, String>>()? })
    }

    /// The one that a route has.
    pub(crate) fn of(&self, route: &RoutePattern) -> Option<&Front> {
        if self.routes.is_empty() {
            return self.all.as_ref();
        }
        self.routes.get(route).unwrap_or(&self.all).as_ref()
    }
}

impl Front {
    fn new(cache: &FrontCache, version: &str) -> Result<Self, String> {
        let part = |part: &KeyPart| {
            Ok(match part {
                KeyPart::Country => Part::Country,
                KeyPart::Continent => Part::Continent,
                KeyPart::Scheme => Part::Scheme,
                KeyPart::Cohort(binding) => Part::Cohort(binding.clone()),
                KeyPart::Cookie(name) => Part::Cookie(CookieName::parse(name).map_err(|e| e.to_string())?),
                KeyPart::Header(name) => {
                    Part::Header(name.parse().map_err(|_| format!("{name:?} is no header field"))?)
                }
            })
        };
        let version = if cache.cross_version { String::new() } else { version.to_owned() };
        Ok(Self { version, parts: cache.key.iter().map(part).collect::<Result<_, String>>()? })
    }

    /// What the answer to a request is stored under: its URL, whose answer it is, what is declared, and what the request
    /// pretends to be. `None` when it has no URL.
    fn key(&self, capabilities: &Request, head: &Parts) -> Option<cache::Key> {
        let url = capabilities.visit.uri(head)?;
        let mut parts = vec![self.version.clone()];
        parts.extend(self.parts.iter().map(|part| part.value(capabilities, &head.headers).unwrap_or_default()));
        parts.extend(head::pretences(&head.headers));
        let key = cache::Key::of_uri(&url)?;
        Some(key.owned(capabilities.function.name.as_str(), parts.iter().map(String::as_str)))
    }
}

impl Part {
    fn value(&self, capabilities: &Request, headers: &HeaderMap) -> Option<String> {
        // One line by now.
        let cookies = headers.get(COOKIE).map(head::text).unwrap_or_default();
        let place = || capabilities.worker.state.locate(capabilities.visit.client);
        match self {
            Self::Country => place().country,
            Self::Continent => place().continent,
            Self::Scheme => Some(capabilities.visit.scheme.to_owned()),
            Self::Cohort(binding) => match capabilities.function.bindings.get(binding) {
                Some(Binding::Cohort(cohorts)) => cohorts.known(&cookies).map(|cohort| {
                    capabilities.assign(binding, cohort);
                    present(cohort)
                }),
                _ => None,
            },
            Self::Cookie(name) => middleware::cohort::cookie([&*cookies], name).map(present),
            Self::Header(name) => {
                let lines: Vec<_> =
                    headers.get_all(name).iter().map(|line| line.as_bytes().escape_ascii().to_string()).collect();
                (!lines.is_empty()).then(|| present(lines.join(",")))
            }
        }
    }
}

/// Something that is there differs from something that is not, even when it is empty.
fn present(value: impl Into<String>) -> String {
    format!("={}", value.into())
}

/// Asks the cache, and the function when the cache wants to.
pub(crate) async fn serve(
    worker: &Rc<Worker>,
    front: &Front,
    capabilities: Rc<Request>,
    mut head: Parts,
    body: Body,
    record: &mut Record,
) -> Result<Response<ClientBody>, Fault> {
    // Now, and not when the function reads them: an answer may vary by them.
    capabilities.visit.complete(&mut head.headers);
    let key = front.key(&capabilities, &head).ok_or(Fault::Target("it does not make a URL"))?;
    if !body.is_end_stream() {
        head.extensions.insert(cache::CarriesBody);
    }
    head.extensions.insert(key);
    let (ask, mut asked) = oneshot::channel::<Call>();
    let mut ask = Some(ask);
    let mut fetching = pin!(cache::fetch(&worker.state.front, head, move |head| {
        let ((answer, answered), (again, next)) = (oneshot::channel(), oneshot::channel());
        let sent = ask.replace(again).ok_or(()).and_then(|ask| ask.send(Call { head, answer, next }).map_err(drop));
        async move {
            sent.map_err(|()| abandoned())?;
            answered.await.unwrap_or_else(|_| Err(abandoned()))
        }
    }));
    let invoke = |call| errand(Rc::clone(worker), Rc::clone(&capabilities), body, call);
    let fetched = tokio::select! {
        biased;
        fetched = &mut fetching => {
            match asked.try_recv() {
                Ok(call) => drop(isolate::spawn_local(invoke(call))),
                // It may still be wanted: to bring a stale response up to date behind the client's back.
                Err(oneshot::error::TryRecvError::Empty) => {
                    let (worker, capabilities) = (Rc::clone(worker), Rc::clone(&capabilities));
                    let later = async move {
                        if let Ok(call) = asked.await {
                            errand(worker, capabilities, empty(), call).await;
                        }
                    };
                    drop(isolate::spawn_local(later));
                }
                Err(oneshot::error::TryRecvError::Closed) => {}
            }
            fetched
        }
        Ok(call) = &mut asked => {
            drop(isolate::spawn_local(invoke(call)));
            fetching.await
        }
    };
    match fetched {
        Ok(mut response) => {
            record.timing = response.extensions_mut().remove::<Timing>();
            let outcome = response.extensions().get::<cache::Outcome>().copied();
            record.front = outcome;
            if let Some(outcome) = outcome {
                worker.counts().fronted.add(outcome.as_str(), 1);
            }
            Ok(response.map(ClientBody::Cache))
        }
        Err(failure) => match failure.cause().downcast_ref::<Failed>() {
            Some(failed) => {
                record.timing = failed.timing;
                Err(failed.fault.clone())
            }
            None => Err(Fault::WorkerLost),
        },
    }
}

/// A request that the cache wants the function to answer.
struct Call {
    head: Parts,
    answer: oneshot::Sender<Result<Response<OriginBody>, OriginFailure>>,
    /// Another, when the answer is of no use to the cache.
    next: oneshot::Receiver<Call>,
}

/// Why the function did not, on its way through the cache.
#[derive(Debug, thiserror::Error)]
#[error("{fault}")]
struct Failed {
    fault: Fault,
    timing: Option<Timing>,
}

fn abandoned() -> OriginFailure {
    OriginFailure::new(FailureKind::Abandoned, "nobody is left to run the function for this request")
}

/// Runs the function for the cache. In a task of its own: others may wait for the answer when this client has left.
async fn errand(worker: Rc<Worker>, capabilities: Rc<Request>, body: Body, call: Call) {
    let Call { head, answer, next } = call;
    drop(answer.send(answered(&worker, &capabilities, head, body).await));
    if let Ok(call) = next.await {
        Box::pin(errand(worker, capabilities, empty(), call)).await;
    }
}

/// What the function answers, as the cache has it from an origin.
async fn answered(
    worker: &Worker,
    capabilities: &Rc<Request>,
    mut head: Parts,
    body: Body,
) -> Result<Response<OriginBody>, OriginFailure> {
    // They are about the answer in front; what the function fetches is stored under its own.
    head.extensions.remove::<cache::Key>();
    head.extensions.remove::<cache::CarriesBody>();
    let is_head = head.method == Method::HEAD;
    let Ran { result, timing } = run(worker, capabilities, head, body).await;
    match result {
        Ok(mut response) => {
            if let Some(timing) = timing {
                response.extensions_mut().insert(timing);
            }
            // The length is the body's to say, as for every answer of a function.
            if !is_head {
                response.headers_mut().remove(CONTENT_LENGTH);
                if let Some(length) = response.body().size_hint().exact() {
                    response.headers_mut().insert(CONTENT_LENGTH, length.into());
                }
            }
            Ok(response.map(sendable))
        }
        Err(fault) => Err(OriginFailure::new(FailureKind::Unreachable, Failed { fault, timing })),
    }
}

/// A function's body for the cache, whose tasks may be anywhere.
fn sendable(body: ClientBody) -> OriginBody {
    let (sender, mut receiver) = mpsc::channel::<Option<Result<Frame<Bytes>, BoxError>>>(FRAMES);
    drop(isolate::spawn_local(async move {
        let mut body = pin!(body);
        while let Some(frame) = body.frame().await {
            let broken = frame.is_err();
            if sender.send(Some(frame)).await.is_err() || broken {
                return;
            }
        }
        drop(sender.send(None).await);
    }));
    let mut over = false;
    let frames = stream::poll_fn(move |cx| {
        if over {
            return std::task::Poll::Ready(None);
        }
        receiver.poll_recv(cx).map(|message| {
            over = !matches!(message, Some(Some(Ok(_))));
            // Without its last word the body broke off: the worker was lost.
            message.unwrap_or_else(|| Some(Err("the function's answer broke off".into())))
        })
    });
    StreamBody::new(frames).boxed_unsync()
}
