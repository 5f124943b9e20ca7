//! The way from a PoP to a region node, which runs a function in its place.
//!
//! As with shields, a request names what it is about in fields of its own beside a pass, which only who knows the fleet's
//! token can make. The head is the client's otherwise, and the body streams both ways. A region node never sends anything
//! on to another, so there is no way round in circles.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use cache::OriginBody;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Request, Response, Uri, header};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;
use isolate::BoxError;
use isolate::limits::Limit;
use origin::bundle::Digest;
use serde::{Deserialize, Serialize};

use super::origins::{Origin, Side};
use super::patience::Arriving;
use super::tier::OWN;
use super::{Upstream, at, chain, retry};
use crate::config::{Protection, RegionNode};
use crate::fault::{Fault, origin_code};
use crate::head;

const PASS: HeaderName = HeaderName::from_static("x-skerry-region");
const VISIT: HeaderName = HeaderName::from_static("x-skerry-region-visit");
/// Processor time that the function had used by the head of its response, in microseconds.
pub(crate) const USED: HeaderName = HeaderName::from_static("x-skerry-region-used");

/// Beyond the longest wall time of a function there, which the node itself ends.
const GRACE: Duration = Duration::from_secs(30);

/// How often a node that has a request is asked whether it is well, and how long that may take.
const LOOK: Duration = Duration::from_secs(4);
/// So many silences in a row, and it is gone.
const LOOKS: u32 = 2;

/// How long a region node may take for the head of a response.
pub(crate) const PATIENCE: Duration = Duration::from_millis(Limit::Wall.row().region).saturating_add(GRACE);

/// One region node.
#[derive(Debug)]
pub(crate) struct Region {
    pub(crate) name: String,
    url: Uri,
    pub(crate) origin: Arc<Origin>,
}

/// The region nodes that a PoP may send to, the one to be asked first in front, and what they know PoPs by.
#[derive(Debug)]
pub(crate) struct Regions {
    pub(crate) nodes: Vec<Arc<Region>>,
    pass: HeaderValue,
    /// Digests are compared: how long that takes says nothing about the pass.
    expected: Digest,
}

/// What a function is to see of a request that a PoP sends on, beside its head and body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Errand {
    pub(crate) function: String,
    pub(crate) client: IpAddr,
    pub(crate) secure: bool,
    pub(crate) authority: String,
    pub(crate) request_id: String,
    /// The HTTP version that the client speaks.
    pub(crate) http: String,
    /// The PoP, as the request came in there.
    pub(crate) pop: String,
    /// Whether the trace in the head is believed.
    pub(crate) traced: bool,
    /// Whether it is for what the function needs that it is sent: then it computes for long, as a rule.
    pub(crate) heavy: bool,
}

impl Regions {
    pub(crate) fn new(nodes: &[RegionNode], token: &str, protection: &Protection) -> Self {
        // Another one than that of shields: each opens one door.
        let pass = Digest::of(format!("skerry region\n{token}").as_bytes()).to_string();
        let region = |node: &RegionNode| {
            let origin = Arc::new(Origin::shield(protection));
            Arc::new(Region { name: node.name.clone(), url: node.url.clone(), origin })
        };
        Self {
            nodes: nodes.iter().map(region).collect(),
            expected: Digest::of(pass.as_bytes()),
            pass: HeaderValue::from_str(&pass).unwrap_or(HeaderValue::from_static("")),
        }
    }

    /// What a PoP asks for; `None` where it is no PoP that asks. Takes the fields out.
    pub(crate) fn open(&self, head: &mut Parts) -> Result<Option<Errand>, Fault> {
        let Some(pass) = head.headers.remove(PASS) else { return Ok(None) };
        let visit = head.headers.remove(VISIT);
        if Digest::of(pass.as_bytes()) != self.expected {
            return Err(Fault::NoPeer);
        }
        let errand = visit.and_then(|visit| serde_json::from_slice(visit.as_bytes()).ok());
        errand.map(Some).ok_or(Fault::Target("a PoP sends it to the region without telling for what"))
    }

    fn seal(&self, head: &mut Parts, errand: &Errand) -> Result<(), BoxError> {
        head.headers.insert(PASS, self.pass.clone());
        head.headers.insert(VISIT, HeaderValue::from_bytes(&serde_json::to_vec(errand)?)?);
        Ok(())
    }

    /// All of them, as origins.
    pub(crate) fn origins(&self) -> Vec<Arc<Origin>> {
        self.nodes.iter().map(|node| Arc::clone(&node.origin)).collect()
    }
}

/// Why a region gave no answer.
pub(crate) struct Failed {
    /// For the log.
    pub(crate) why: String,
    /// Whether a function may have seen the request.
    pub(crate) begun: bool,
}

impl Upstream {
    /// Has `region` run a function.
    pub(crate) async fn to_region(
        &self,
        region: &Region,
        errand: &Errand,
        mut head: Parts,
        body: isolate::Body,
    ) -> Result<Response<OriginBody>, Failed> {
        let state = &self.state;
        let not_begun = |why: BoxError| Failed { why: chain(&*why), begun: false };
        head::remove_hop_by_hop(&mut head.headers);
        state.regions.seal(&mut head, errand).map_err(not_begun)?;
        let host = HeaderValue::from_str(&errand.authority).map_err(|error| not_begun(error.into()))?;
        head.headers.insert(header::HOST, host);
        head.uri = at(&region.url, &head.uri).map_err(|error| not_begun(error.into()))?;
        head.version = http::Version::HTTP_11;
        let now = || state.millis();
        let (place, pass) =
            state.origins.enter(&region.origin, now).await.map_err(|withheld| not_begun(withheld.into()))?;
        let counts = state.origins.counts(Side::Region);
        let began = std::time::Instant::now();
        let exchanged = tokio::select! {
            exchanged = self.exchange(Side::Region, head, body) => exchanged,
            () = self.is_gone(region) => Err(retry::Failed::late(LOOK * LOOKS)),
        };
        let error = match exchanged {
            Ok(response) => {
                counts.answered.observe(began.elapsed());
                region.origin.breaker.succeeded(now());
                return declined(response.map(|body| Arriving::patient(body, place, PATIENCE).boxed_unsync()));
            }
            Err(error) => error,
        };
        counts.failures.add(origin_code(error.failure.kind), 1);
        if error.absent && region.origin.breaker.failed(pass, now(), rand::random()) {
            counts.opened.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let (pop, region) = (&state.name, &region.name);
            tracing::warn!(%pop, %region, error = %error.failure, "a region fails and is left alone for a while");
        }
        Err(Failed { why: error.failure.to_string(), begun: error.retry != Some(retry::CONNECT) })
    }
}

impl Upstream {
    /// Resolves when a node that has a request says nothing any more. A function may take its time there, but a node that
    /// does not say that it is well has stopped, or the network to it has.
    async fn is_gone(&self, region: &Region) {
        let mut silent = 0;
        while silent < LOOKS {
            tokio::time::sleep(LOOK).await;
            silent = if self.round_trip(region).await.is_some() { 0 } else { silent + 1 };
        }
    }

    /// How long a node takes to say anything, its health being asked for; `None` when that is too long.
    pub(crate) async fn round_trip(&self, region: &Region) -> Option<Duration> {
        let mut request = Request::new(crate::request::empty().boxed_unsync());
        *request.uri_mut() = at(&region.url, &Uri::from_static(crate::HEALTH_PATH)).ok()?;
        let began = std::time::Instant::now();
        // One that drains is there.
        tokio::time::timeout(LOOK, self.regions.request(request)).await.ok()?.ok()?;
        Some(began.elapsed())
    }
}

/// Whether a response is the node's own word that it did not run the function.
fn declined(response: Response<OriginBody>) -> Result<Response<OriginBody>, Failed> {
    let code = response.headers().get("x-skerry-error").map(HeaderValue::as_bytes).unwrap_or_default();
    let own = response.headers().contains_key(OWN);
    // A worker that was lost had begun; the other words of overload come before anything runs.
    let unable = code.starts_with(b"overload/") && code != b"overload/worker-lost";
    let refused = unable || matches!(code, b"client/no-peer" | b"client/bad-request" | b"client/head-too-large");
    if own && (refused || code == b"region/unable" || code == b"origin/corrupt") {
        return Err(Failed { why: String::from_utf8_lossy(code).into_owned(), begun: false });
    }
    Ok(response)
}

/// A request's body that can be had back as long as nothing of it was taken.
#[derive(Clone)]
pub(crate) struct Lent(Arc<Mutex<Option<isolate::Body>>>);

/// The same, in the hands of whoever reads it.
struct Borrowed {
    lent: Lent,
    /// Once something was asked of it, it is nobody else's.
    body: Option<isolate::Body>,
    hint: SizeHint,
    ended: bool,
}

impl Lent {
    /// A body to be sent, and what is left of it if nothing was.
    pub(crate) fn new(body: isolate::Body) -> (Self, isolate::Body) {
        let (hint, ended) = (body.size_hint(), body.is_end_stream());
        let lent = Self(Arc::new(Mutex::new(Some(body))));
        (lent.clone(), Box::pin(Borrowed { lent, body: None, hint, ended }))
    }

    /// The body, whole; `None` when it has begun.
    pub(crate) fn back(&self) -> Option<isolate::Body> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl http_body::Body for Borrowed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        // One that has none is as whole afterwards.
        if self.ended {
            return Poll::Ready(None);
        }
        if self.body.is_none() {
            self.body = self.lent.back();
        }
        match &mut self.body {
            Some(body) => body.as_mut().poll_frame(cx),
            None => Poll::Ready(Some(Err("the body was taken back".into()))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().map_or(self.ended, |body| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or(self.hint, |body| body.size_hint())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn regions(token: &str) -> Regions {
        Regions::new(&[], token, &Protection::default())
    }

    fn errand() -> Errand {
        Errand {
            function: "hello".to_owned(),
            client: "203.0.113.7".parse().unwrap(),
            secure: true,
            authority: "a.example".to_owned(),
            request_id: "0123456789".to_owned(),
            http: "HTTP/2".to_owned(),
            pop: "lhr".to_owned(),
            traced: false,
            heavy: true,
        }
    }

    #[test]
    fn only_who_knows_the_token_is_let_in_and_nothing_of_it_is_left() {
        let (mut head, ()) = http::Request::get("/x?y").header("a", "b").body(()).unwrap().into_parts();
        assert!(matches!(regions("token").open(&mut head), Ok(None)));
        regions("token").seal(&mut head, &errand()).unwrap();
        let mut stolen = head.clone();
        assert_eq!(regions("token").open(&mut head).unwrap(), Some(errand()));
        assert_eq!(head.headers.len(), 1);
        assert!(matches!(regions("another").open(&mut stolen), Err(Fault::NoPeer)));
        let mut empty = head.clone();
        empty.headers.insert(PASS, regions("token").pass);
        assert!(matches!(regions("token").open(&mut empty), Err(Fault::Target(_))));
    }

    #[tokio::test]
    async fn a_body_comes_back_until_something_was_taken() {
        let whole = || -> isolate::Body {
            Box::pin(http_body_util::Full::new(Bytes::from_static(b"abc")).map_err(|never| match never {}))
        };
        let (lent, borrowed) = Lent::new(whole());
        assert_eq!(borrowed.size_hint().exact(), Some(3));
        drop(borrowed);
        assert_eq!(lent.back().unwrap().collect().await.unwrap().to_bytes(), "abc");
        let (lent, mut borrowed) = Lent::new(whole());
        assert!(borrowed.frame().await.unwrap().is_ok());
        assert!(lent.back().is_none());
        let (lent, mut borrowed) = Lent::new(crate::request::empty());
        assert!(borrowed.frame().await.is_none() && borrowed.is_end_stream());
        assert!(lent.back().is_some(), "one that is empty is as good afterwards");
    }

    #[test]
    fn a_node_that_did_not_run_the_function_says_so_itself() {
        let answer = |own: bool, code: &'static str| {
            let mut response = Response::new(crate::request::empty().boxed_unsync());
            response.headers_mut().insert("x-skerry-error", HeaderValue::from_static(code));
            if own {
                response.headers_mut().insert(OWN, HeaderValue::from_static("eu"));
            }
            declined(response).is_err()
        };
        for code in ["overload/draining", "overload/region-full", "client/no-peer", "region/unable"] {
            assert!(answer(true, code) && !answer(false, code), "{code}");
        }
        for code in ["limit/cpu", "function/threw", "overload/worker-lost", ""] {
            assert!(!answer(true, code), "{code}");
        }
    }
}
