//! What the PoP lets an invocation do, as the cell sees it: what is known is said here, the rest is asked for.

use std::rc::Rc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::LocalBoxFuture;
use http::{HeaderMap, HeaderValue};
use isolate::limits::Limit;
use isolate::{Body, CacheCall};

use super::inside::{Inside, empty};
use super::link::{Arriving, Link};
use super::message::{CacheVerb, Favour, Head, Note, Query, decode, encode, fields, header_map};
use super::wire::MOST_BYTES;
use crate::capabilities::Visit;

/// What a function gets to hear when the PoP does not answer: the cell ends then.
const GONE: &str = "the PoP has ended";

/// The capabilities of one invocation in a cell.
pub(super) struct Remote {
    inside: Rc<Inside>,
    link: Rc<Link>,
    invocation: u64,
    visit: Visit,
}

impl Remote {
    pub(super) fn new(inside: Rc<Inside>, link: Rc<Link>, invocation: u64, visit: Visit) -> Self {
        Self { inside, link, invocation, visit }
    }

    fn tell(&self, note: &Note<'_>) {
        self.link.tell(&encode(note));
    }

    fn write(&self, level: u8, text: &str, own: bool) {
        self.tell(&Note::Log { invocation: self.invocation, level, text, own });
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.tell(&Note::Over { invocation: self.invocation });
    }
}

/// Refuses what does not fit into a frame.
fn check(argument: &str) -> Result<(), String> {
    let fits = argument.len() <= MOST_BYTES / 2;
    fits.then_some(()).ok_or_else(|| format!("an argument is longer than {} bytes", MOST_BYTES / 2))
}

/// A response that the PoP sent.
fn response(head: &Head<'_>, body: Option<Arriving>) -> Result<http::Response<Body>, String> {
    let mut response = http::Response::new(body.map_or_else(empty, |body| Box::pin(body) as Body));
    *response.status_mut() = http::StatusCode::from_u16(head.status).map_err(|error| error.to_string())?;
    *response.headers_mut() = header_map(&head.fields).map_err(|error| error.to_string())?;
    Ok(response)
}

impl isolate::Capabilities for Remote {
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
        let answer = self.inside.calls.ask(&Query::Cf { invocation: self.invocation });
        answer.ok().and_then(|text| String::from_utf8(text).ok()).unwrap_or_else(|| "{}".to_owned())
    }

    fn fetch(
        self: Rc<Self>,
        request: http::Request<Body>,
        cf: String,
    ) -> LocalBoxFuture<'static, Result<http::Response<Body>, String>> {
        async move {
            let (head, body) = request.into_parts();
            check(&cf)?;
            let uri = head.uri.to_string();
            let message = encode(&Favour::Fetch {
                invocation: self.invocation,
                method: head.method.as_str(),
                uri: &uri,
                fields: fields(&head.headers),
                cf: &cf,
            });
            let answer = self.link.ask(self.link.number(), &message, Some(body)).await.map_err(|_| GONE.to_owned())?;
            let head: Result<Head<'_>, String> = decode(&answer.message).map_err(|_| GONE.to_owned())?;
            response(&head?, answer.body)
        }
        .boxed_local()
    }

    fn cache(
        self: Rc<Self>,
        name: String,
        request: http::Request<()>,
        call: CacheCall,
    ) -> LocalBoxFuture<'static, Result<Option<http::Response<Body>>, String>> {
        async move {
            check(&name)?;
            let uri = request.uri().to_string();
            let (head, body);
            let call = match call {
                CacheCall::Match => (CacheVerb::Match, None),
                CacheCall::Delete => (CacheVerb::Delete, None),
                CacheCall::Put(response) => {
                    (head, body) = response.into_parts();
                    (CacheVerb::Put(Head { status: head.status.as_u16(), fields: fields(&head.headers) }), Some(body))
                }
            };
            let (call, body) = call;
            let message = encode(&Favour::Cache {
                invocation: self.invocation,
                cache: &name,
                uri: &uri,
                fields: fields(request.headers()),
                call,
            });
            let answer = self.link.ask(self.link.number(), &message, body).await.map_err(|_| GONE.to_owned())?;
            let head: Result<Option<Head<'_>>, String> = decode(&answer.message).map_err(|_| GONE.to_owned())?;
            head?.map(|head| response(&head, answer.body)).transpose()
        }
        .boxed_local()
    }

    fn call(&self, binding: &str, method: &str, argument: &str) -> Result<String, String> {
        check(argument)?;
        let call = Query::Call { invocation: self.invocation, binding, method, argument };
        let answer = self.inside.calls.ask(&call).map_err(|_| GONE.to_owned())?;
        decode(&answer).unwrap_or_else(|_| Err(GONE.to_owned()))
    }

    fn call_async(
        &self,
        binding: String,
        method: String,
        argument: String,
    ) -> LocalBoxFuture<'static, Result<String, String>> {
        let (link, invocation) = (Rc::clone(&self.link), self.invocation);
        async move {
            check(&argument)?;
            let call = Favour::Call { invocation, binding: &binding, method: &method, argument: &argument };
            let answer = link.ask(link.number(), &encode(&call), None::<Body>).await.map_err(|_| GONE.to_owned())?;
            decode(&answer.message).unwrap_or_else(|_| Err(GONE.to_owned()))
        }
        .boxed_local()
    }

    fn used(&self, cpu: Duration) {
        let nanos = u64::try_from(cpu.as_nanos()).unwrap_or(u64::MAX);
        self.tell(&Note::Used { invocation: self.invocation, nanos });
    }

    fn broke(&self, limit: Limit) {
        self.tell(&Note::Broke { invocation: self.invocation, limit });
    }

    fn log(&self, level: u8, text: &str) {
        self.write(level, text, false);
    }

    fn own_log(&self, level: u8, text: &str) {
        self.write(level, text, true);
    }
}
