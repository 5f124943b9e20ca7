//! The request path: from a request head to a response.

use std::future::Future;
use std::sync::Arc;
use std::time::SystemTime;

use futures::channel::oneshot;
use futures::future::BoxFuture;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, RANGE, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::{Method, Response, StatusCode};

use crate::answer::range;
use crate::answer::status::Fwd;
use crate::body::{Body, OriginBody};
use crate::cache::{Cache, Shared};
use crate::entry::{Entry, Head};
use crate::failure::{FailureKind, OriginFailure};
use crate::fill::{Awaiting, Fill, Trouble, Verdict};
use crate::flights::Entered;
use crate::key::Key;
use crate::outcome::{Bypass, Outcome};
use crate::policy::overrides::Mode;
use crate::policy::{Demand, Overrides, Reuse, list, validation};
use crate::store::Found;

mod bypass;
pub mod direct;
mod keep;
mod lead;
mod part;
mod recall;
mod reply;
mod spill;

/// The way to the origin, boxed so that the path below is compiled once.
type OriginCall = Box<dyn FnMut(Parts) -> BoxFuture<'static, Result<Response<OriginBody>, OriginFailure>> + Send>;

/// A mark in the extensions of a request that has a body, for callers that take away the fields which would tell:
/// `Transfer-Encoding` is one of a single hop. What the answer depends on is then not in the key, so the request is passed
/// on as it is, and its answer is not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CarriesBody;

/// A mark in the extensions of a response that is not to be stored, whatever its fields say: it stands in for the one that was
/// asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoStore;

/// How many leaders a request follows in vain before it takes the failure for its own, or asks alone. A second one tells a
/// broken connection from a broken origin; more would let clients queue up behind an origin that is down.
const MAX_LEADERS: u32 = 2;

/// Answers a request from the cache, or from the origin through the cache.
///
/// `origin` is called with the request as it is to be sent: for a response that may be stored that is without `Range` and
/// conditions (the cache answers those), and with its own conditions when it validates a stored response. It is called at
/// most once, but for a 304 to those that names another representation than the stored one: then once more, without them.
/// It runs in a task of its own that goes on when the caller loses interest; the request's extensions are
/// passed on. A request with a body (see [`CarriesBody`]) is passed on as it is: the body is the closure's.
///
/// The key is [`Key::of_request`]. The response carries an [`Outcome`] in its extensions, and a member of
/// `Cache-Status`. Trailers are kept only where the response is not shared.
///
/// # Errors
///
/// [`OriginFailure`] when the origin gave no response, and nothing stored may be sent instead. A response that breaks off
/// later ends its body with an error.
///
/// # Panics
///
/// Outside of a tokio runtime with time enabled.
pub async fn fetch<O, F>(cache: &Cache, request: Parts, mut origin: O) -> Result<Response<Body>, OriginFailure>
where
    O: FnMut(Parts) -> F + Send + 'static,
    F: Future<Output = Result<Response<OriginBody>, OriginFailure>> + Send + 'static,
{
    let shared = &cache.shared;
    let call = move |parts| -> BoxFuture<'static, _> { Box::pin(origin(parts)) };
    let looked = match lookup(shared, &request) {
        missed if missed.is_miss() && shared.store.disk().is_some() => {
            recall::look_further(shared, &request, missed).await
        }
        looked => looked,
    };
    match looked {
        Lookup::Answer(response) => Ok(response),
        Lookup::Bypass(reason, key) => bypass::pass(shared, request, Box::new(call), reason, key).await,
        Lookup::Stale(question, response) => {
            revalidate(shared, question, &request, Box::new(call));
            Ok(response)
        }
        Lookup::Ask(question) => ask(shared, question, request, Box::new(call)).await,
    }
}

/// What a look-up decides.
enum Lookup {
    /// Send this; the origin is not asked.
    Answer(Response<Body>),
    /// Send this, and ask the origin behind the client's back.
    Stale(Question, Response<Body>),
    /// Ask the origin.
    Ask(Question),
    /// None of the cache's business.
    Bypass(Bypass, Option<Key>),
}

impl Lookup {
    /// Whether memory has nothing that answers the request, or could with the origin's help.
    fn is_miss(&self) -> bool {
        match self {
            Self::Answer(response) => response.extensions().get::<Outcome>() == Some(&Outcome::OnlyIfCached),
            Self::Ask(question) => question.stored.is_none(),
            Self::Bypass(reason, _) => *reason == Bypass::Head,
            Self::Stale(..) => false,
        }
    }
}

/// What the origin is to be asked, and why.
#[derive(Clone)]
struct Question {
    key: Key,
    demand: Demand,
    /// The stored response that can't be sent as it is.
    stored: Option<Arc<Entry>>,
    /// A part of a response, where nothing whole is stored.
    part: Option<Arc<Entry>>,
    fwd: Fwd,
}

fn lookup(shared: &Shared, request: &Parts) -> Lookup {
    decide(shared, request, None)
}

/// What a look-up decides; of the response that was just read from the disk, where there is one: memory need not keep it.
fn decide(shared: &Shared, request: &Parts, recalled: Option<Arc<Entry>>) -> Lookup {
    let key = Key::of_request(request);
    if let Some(reason) = not_ours(request) {
        return Lookup::Bypass(reason, key);
    }
    let Some(key) = key else { return Lookup::Bypass(Bypass::NoHost, None) };
    let mut demand = Demand::of_request(&request.headers, shared.config.rules.client_control);
    if let Some(overrides) = request.extensions.get::<Overrides>() {
        demand = overrides.demand(demand);
        if let Some(unseen) = unseen(request, overrides.mode, &key, &demand) {
            return unseen;
        }
    }
    let now = shared.now();
    let mut part = None;
    let recalled = recalled.filter(|entry| entry.survives(&shared.purges)).map(Found::Entry);
    let (stored, fwd) = match recalled.unwrap_or_else(|| shared.stored(&key, &request.headers)) {
        Found::Entry(entry) => {
            let fwd = match entry.reuse(&demand, now) {
                Reuse::Fresh | Reuse::StaleAccepted | Reuse::StaleWhileRevalidate if shared.purges.is_fenced(now) => {
                    Fwd::Stale
                }
                Reuse::Fresh => return Lookup::Answer(reply::hit(shared, request, &entry, now)),
                Reuse::StaleAccepted => return Lookup::Answer(reply::stale(shared, request, &entry, now, "max-stale")),
                Reuse::StaleWhileRevalidate => {
                    let response = reply::stale(shared, request, &entry, now, "stale-while-revalidate");
                    return Lookup::Stale(
                        Question { key, demand, stored: Some(entry), part, fwd: Fwd::Stale },
                        response,
                    );
                }
                Reuse::Stale => Fwd::Stale,
                Reuse::Unvalidated if demand.no_cache || demand.max_age.is_some() || demand.min_fresh.is_some() => {
                    Fwd::Request
                }
                Reuse::Unvalidated => Fwd::Stale,
            };
            (Some(entry), fwd)
        }
        Found::Part(entry) => {
            let fresh = entry.reuse(&demand, now) == Reuse::Fresh && !shared.purges.is_fenced(now);
            if fresh && let Some(response) = reply::part(shared, request, &entry, now) {
                return Lookup::Answer(response);
            }
            part = Some(entry);
            (None, Fwd::Partial)
        }
        Found::OtherVariants => (None, Fwd::VaryMiss),
        Found::Nothing => (None, Fwd::UriMiss),
    };
    if demand.only_if_cached {
        return Lookup::Answer(reply::only_if_cached(shared));
    }
    if request.method == Method::HEAD {
        return Lookup::Bypass(Bypass::Head, Some(key));
    }
    Lookup::Ask(Question { key, demand, stored, part, fwd })
}

/// What happens to a request that does not want what is stored.
fn unseen(request: &Parts, mode: Mode, key: &Key, demand: &Demand) -> Option<Lookup> {
    match mode {
        Mode::NoStore => Some(Lookup::Bypass(Bypass::Demanded, Some(key.clone()))),
        Mode::Reload if request.method == Method::HEAD => Some(Lookup::Bypass(Bypass::Head, Some(key.clone()))),
        Mode::Reload => {
            let (key, demand) = (key.clone(), demand.clone());
            Some(Lookup::Ask(Question { key, demand, stored: None, part: None, fwd: Fwd::Request }))
        }
        Mode::Default | Mode::NoCache | Mode::ForceCache | Mode::OnlyIfCached => None,
    }
}

/// Why a request is not looked up at all.
fn not_ours(request: &Parts) -> Option<Bypass> {
    if request.method != Method::GET && request.method != Method::HEAD {
        return Some(Bypass::Method);
    }
    let headers = &request.headers;
    let empty = headers.get(CONTENT_LENGTH).is_none_or(|length| length.as_bytes() == b"0");
    let marked = request.extensions.get::<CarriesBody>().is_some();
    if marked || !empty || headers.contains_key(TRANSFER_ENCODING) {
        return Some(Bypass::RequestBody);
    }
    // Only for WebSocket is the upgrade the point of the request; others may be ignored (RFC 9110 section 7.8).
    let websocket = |protocol: &[u8]| protocol.eq_ignore_ascii_case(b"websocket");
    (headers.contains_key(UPGRADE) && list::members(headers, &UPGRADE).any(websocket)).then_some(Bypass::Upgrade)
}

/// Asks the origin, or shares the answer to somebody else's question.
async fn ask(
    shared: &Arc<Shared>,
    mut question: Question,
    request: Parts,
    call: OriginCall,
) -> Result<Response<Body>, OriginFailure> {
    for attempt in 1..=MAX_LEADERS {
        if let Some(reason) = passes_on(shared, &question, &request) {
            return bypass::pass(shared, request, call, reason, Some(question.key)).await;
        }
        if goes_alone(shared, &question, &request) {
            break;
        }
        let vary = shared.vary(&question.key);
        let fill = match shared.flights.enter(&question.key, &request.headers, &vary) {
            Entered::Full => return bypass::pass(shared, request, call, Bypass::Overload, Some(question.key)).await,
            Entered::Lead(fill) => return take_off(shared, fill, question, request, call).await,
            Entered::Follow(fill) => fill,
        };
        let verdict = wait(shared, &fill).await;
        let now = shared.now();
        let trouble = match verdict {
            Verdict::Arriving(head) if question.is_answered_by(&head, &request, now) => {
                return Ok(reply::follow(shared, fill, head, request, call, question.fwd, now));
            }
            Verdict::Confirmed(entry) if question.is_answered_by(&entry.head, &request, now) => {
                return Ok(reply::confirmed_for_others(shared, &request, &entry, question.fwd, now));
            }
            Verdict::Failed(trouble) => {
                let (stored, status) = (question.stored.as_ref(), trouble.status());
                if let Some(response) = stale_on_error(shared, &request, stored, status, now) {
                    return Ok(response);
                }
                Some(trouble)
            }
            // Another variant: now the cache knows what the answers vary by, and who waits for the same one.
            Verdict::Arriving(head) if !head.answers(&question.key, &request.headers) => None,
            Verdict::Arriving(_) | Verdict::Confirmed(_) | Verdict::Unshared => break,
        };
        // The store may have changed while this request waited: a leader may even have ended because it had.
        match lookup(shared, &request) {
            Lookup::Answer(response) | Lookup::Stale(_, response) => return Ok(response),
            Lookup::Ask(anew) => question = anew,
            Lookup::Bypass(reason, key) => return bypass::pass(shared, request, call, reason, key).await,
        }
        match trouble {
            Some(Trouble::NoResponse(failure)) if attempt == MAX_LEADERS => return Err(failure),
            Some(Trouble::Status(status)) if attempt == MAX_LEADERS => {
                return Ok(reply::erred_for_others(shared, status, question.fwd));
            }
            _ => {}
        }
    }
    lead::alone(shared, question, request, call).await
}

/// What the origin answers the leader of this fill; not for ever.
async fn wait(shared: &Shared, fill: &Arc<Fill>) -> Verdict {
    let patience = shared.config.follower_wait;
    let verdict = tokio::time::timeout(patience, Awaiting::new(Arc::clone(fill))).await;
    verdict.unwrap_or_else(|_elapsed| {
        fill.give_up();
        let cause = format!("whoever asked first has had no response head for {patience:?}");
        Verdict::Failed(Trouble::NoResponse(OriginFailure::new(FailureKind::TimedOut, cause)))
    })
}

/// Why the origin is to answer the request as it is, although the cache handles such requests: it wants only a part or
/// has a condition, and fetching the whole for it would be in vain or cost too much.
fn passes_on(shared: &Shared, question: &Question, request: &Parts) -> Option<Bypass> {
    if question.stored.is_some() || !validation::is_conditional(&request.headers) {
        return None;
    }
    if shared.passes(&question.key) {
        return Some(Bypass::HitForPass);
    }
    let far = |field: &http::HeaderValue| range::begins_beyond(field.as_bytes(), shared.config.object_limit());
    request.headers.get(RANGE).is_some_and(far).then_some(Bypass::Range)
}

impl Question {
    /// Whether the answer to somebody else's question answers this one too.
    fn is_answered_by(&self, head: &Head, request: &Parts, now: SystemTime) -> bool {
        head.answers(&self.key, &request.headers) && head.sendable(&self.demand, now)
    }
}

/// Whether nobody else may wait for the answer, or nobody would have anything of it.
fn goes_alone(shared: &Shared, question: &Question, request: &Parts) -> bool {
    request.headers.contains_key(AUTHORIZATION)
        || question.demand.no_store
        || shared.passes(&question.key)
        // Others may have asked before what is to be had anew has changed.
        || request.extensions.get::<Overrides>().is_some_and(|overrides| overrides.mode == Mode::Reload)
}

/// Leads a fill, unless the answer came into the store between the look-up and now.
async fn take_off(
    shared: &Arc<Shared>,
    fill: Arc<Fill>,
    question: Question,
    request: Parts,
    call: OriginCall,
) -> Result<Response<Body>, OriginFailure> {
    let guard = lead::Guard::new(shared, fill);
    let question = match lookup(shared, &request) {
        Lookup::Answer(response) | Lookup::Stale(_, response) => return Ok(response),
        Lookup::Ask(anew) => anew,
        Lookup::Bypass(..) => question,
    };
    let (answer, answered) = oneshot::channel();
    tokio::spawn(lead::run(guard, question.clone(), request.clone(), call, Some(answer)));
    let Ok(settlement) = answered.await else {
        return Err(OriginFailure::new(FailureKind::Abandoned, "the task that asked the origin was dropped"));
    };
    lead::respond(shared, &question, &request, settlement)
}

/// Asks the origin without anybody waiting, unless somebody already does (RFC 5861 section 3).
fn revalidate(shared: &Arc<Shared>, question: Question, request: &Parts, call: OriginCall) {
    let vary = shared.vary(&question.key);
    if let Entered::Lead(fill) = shared.flights.enter(&question.key, &request.headers, &vary) {
        let guard = lead::Guard::new(shared, fill);
        let mut request = request.clone();
        request.method = Method::GET;
        tokio::spawn(lead::run(guard, question, request, call, None));
    }
}

/// The stored response in place of an error, where it may be sent (RFC 5861 section 4).
fn stale_on_error(
    shared: &Shared,
    request: &Parts,
    stored: Option<&Arc<Entry>>,
    status: Option<StatusCode>,
    now: SystemTime,
) -> Option<Response<Body>> {
    let entry = stored?;
    let allowed = entry.sendable_on_error(now, &shared.config.rules);
    allowed.then(|| reply::stale_if_error(shared, request, entry, status, now))
}

/// Puts the outcome where the caller finds it.
fn tagged(mut response: Response<Body>, outcome: Outcome) -> Response<Body> {
    response.extensions_mut().insert(outcome);
    response
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Request};
    use http_body_util::{BodyExt, Full};

    use super::*;
    use crate::Config;

    const URI: &str = "http://example.com/a";

    fn request() -> Parts {
        Request::get(URI).body(()).unwrap().into_parts().0
    }

    fn lead(cache: &Cache) -> lead::Guard {
        let key = Key::of_request(&request()).unwrap();
        let Entered::Lead(fill) = cache.shared.flights.enter(&key, &HeaderMap::new(), &[]) else { panic!("no leader") };
        lead::Guard::new(&cache.shared, fill)
    }

    async fn quiet() {
        for _ in 0..64 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn who_waits_for_a_thread_that_is_lost_asks_the_origin_itself() {
        let cache = Cache::new(Config::default());
        // It is not dropped before the end, as on a thread that never runs again.
        let leader = lead(&cache);
        let ask = |text: &'static str| {
            let cache = cache.clone();
            async move {
                let body = move || Full::from(text).map_err(|never| match never {}).boxed_unsync();
                fetch(&cache, request(), move |_| async move { Ok(Response::new(body())) }).await
            }
        };
        let other = std::thread::spawn(|| std::thread::current().id()).join().unwrap();
        let follower = tokio::spawn(ask("its own"));
        quiet().await;
        cache.abandon(other);
        quiet().await;
        assert!(!follower.is_finished(), "another thread is lost, this one is waited for");
        cache.abandon(std::thread::current().id());
        let answer = follower.await.unwrap().unwrap();
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "its own");
        let next = ask("the next").await.unwrap();
        assert_eq!(next.into_body().collect().await.unwrap().to_bytes(), "the next");
        drop(leader);
    }

    #[tokio::test]
    async fn a_leader_that_finds_the_answer_stored_does_not_fail_its_followers() {
        let cache = Cache::new(Config::default());
        let first = lead(&cache);
        let follower = tokio::spawn({
            let cache = cache.clone();
            async move { fetch(&cache, request(), async |_| panic!("the origin must not be asked")).await }
        });
        quiet().await;
        // The last leader that the follower waits for.
        cache.shared.flights.leave(first.fill());
        let second = lead(&cache);
        drop(first);
        quiet().await;
        let mut authorized = request();
        authorized.headers.insert(AUTHORIZATION, "x".parse().unwrap());
        let stored = fetch(&cache, authorized, async |_| {
            let body = Full::from("stored").map_err(|never| match never {}).boxed_unsync();
            Ok(Response::builder().header("cache-control", "public, max-age=60").body(body).unwrap())
        });
        stored.await.unwrap().into_body().collect().await.unwrap();
        drop(second);
        let answer = follower.await.unwrap().unwrap();
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "stored");
    }
}
