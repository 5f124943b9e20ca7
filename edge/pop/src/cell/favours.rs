//! What a cell asks of its PoP, and tells it, for the invocations that it has.

use std::rc::Rc;
use std::time::Duration;

use http::{HeaderMap, Method, Uri};
use isolate::limits::Limit;
use isolate::{Body, CacheCall, Capabilities as _, Counts};

use super::link::{Arriving, Link, Peer, Question};
use super::message::{CacheVerb, Favour, Head, Note, decode, encode, fields, header_map};
use super::outside::Outside;
use super::wire::Ended;

/// What is said of an invocation that is over: the question has crossed the news.
const OVER: &str = "the request that this belongs to is over";
/// More than any process has of anything. A count beyond it is made up.
const MOST_COUNTED: u64 = 1 << 40;

impl Peer for Rc<Outside> {
    fn asked(&self, link: &Rc<Link>, question: Question) -> Result<(), Ended> {
        let Question { exchange, message, body } = question;
        let answering = Rc::clone(link);
        match decode(&message)? {
            Favour::Fetch { invocation, method, uri, fields: sent, cf } => {
                let (head, cf) = (fetch_head(method, uri, &sent)?, cf.to_owned());
                let fetching = self.may_fetch(invocation, head.headers_ref()).map(|request| {
                    let body = body.map_or_else(super::inside::empty, |body| Box::pin(body) as Body);
                    (request, head.body(body))
                });
                link.serve(exchange, async move {
                    let fetched = match fetching {
                        Ok((request, Ok(fetch))) => request.fetch(fetch, cf).await,
                        Ok((_, Err(error))) => Err(error.to_string()),
                        Err(why) => Err(why),
                    };
                    answer_fetch(&answering, exchange, fetched);
                });
            }
            Favour::Cache { invocation, cache, uri, fields: sent, call } => {
                let key = fetch_head("GET", uri, &sent)?;
                let call = cache_call(&call, body)?;
                let asking = self.may_fetch(invocation, key.headers_ref());
                let name = cache.to_owned();
                link.serve(exchange, async move {
                    let found = match (asking, key.body(())) {
                        (Ok(request), Ok(key)) => request.cache(name, key, call).await,
                        (Err(why), _) => Err(why),
                        (_, Err(error)) => Err(error.to_string()),
                    };
                    answer_cache(&answering, exchange, found);
                });
            }
            Favour::Call { invocation, binding, method, argument } => {
                let request = match (binding, method) {
                    // It counts as one.
                    ("", "purge") => self.may_fetch(invocation, None),
                    _ => self.request(invocation).ok_or_else(|| OVER.to_owned()),
                };
                let calling =
                    request.map(|it| it.call_async(binding.to_owned(), method.to_owned(), argument.to_owned()));
                link.serve(exchange, async move {
                    let answer = match calling {
                        Ok(calling) => calling.await,
                        Err(why) => Err(why),
                    };
                    answering.answer(exchange, &encode(&answer), None::<Body>);
                });
            }
        }
        Ok(())
    }

    fn told(&self, note: &[u8]) -> Result<(), Ended> {
        match decode(note)? {
            Note::Log { invocation, level, text, own } => {
                let flights = self.flights.borrow();
                let Some(flight) = flights.get(&invocation) else { return Ok(()) };
                let left = flight.log_bytes.get().checked_sub(text.len() as u64);
                flight.log_bytes.set(left.ok_or(Ended::Misconduct("more for the log than its limit allows"))?);
                if own { flight.request.own_log(level, text) } else { flight.request.log(level, text) }
            }
            Note::Used { invocation, nanos } => {
                let request = self.request(invocation);
                request.inspect(|request| request.used(Duration::from_nanos(nanos.min(MOST_COUNTED))));
            }
            Note::Broke { invocation, limit } => {
                self.request(invocation).inspect(|request| request.broke(limit));
            }
            Note::Over { invocation } => {
                let over = self.flights.borrow_mut().remove(&invocation);
                drop(over);
            }
            Note::Counts(counts) => {
                let sound = |count: usize| count.min(MOST_COUNTED as usize);
                self.counts.set(Counts {
                    residents: sound(counts.residents),
                    ready: sound(counts.ready),
                    memory: counts.memory.min(MOST_COUNTED),
                    // Never less than it said before.
                    evicted: counts.evicted.clamp(self.counts.get().evicted, MOST_COUNTED),
                });
            }
            Note::Retire(_) => return Err(Ended::Misconduct("what only its PoP says")),
        }
        Ok(())
    }
}

impl Outside {
    /// The request of an invocation that may `fetch()` once more. The cell has its own count, which comes first as long as
    /// the cell is what it was.
    fn may_fetch(
        &self,
        invocation: u64,
        headers: Option<&HeaderMap>,
    ) -> Result<Rc<crate::capabilities::Request>, String> {
        let flights = self.flights.borrow();
        let flight = flights.get(&invocation).ok_or(OVER)?;
        let limits = &flight.request.function.limits;
        let left = flight.fetches.get().checked_sub(1).ok_or("fetch(): no subrequest is left (subrequests)")?;
        let bytes: usize = headers.into_iter().flatten().map(|(name, value)| name.as_str().len() + value.len()).sum();
        if bytes as u64 > limits.get(Limit::Headers) {
            return Err("fetch(): its header fields are too large (header_bytes)".to_owned());
        }
        flight.fetches.set(left);
        Ok(Rc::clone(&flight.request))
    }
}

/// What a cell does with a cache.
fn cache_call(call: &CacheVerb<'_>, body: Option<Arriving>) -> Result<CacheCall, Ended> {
    Ok(match call {
        CacheVerb::Match => CacheCall::Match,
        CacheVerb::Delete => CacheCall::Delete,
        CacheVerb::Put(head) => {
            const NONE: Ended = Ended::Misconduct("a response that is none");
            let body = body.map_or_else(super::inside::empty, |body| Box::pin(body) as Body);
            let mut response = http::Response::new(body);
            *response.status_mut() = http::StatusCode::from_u16(head.status).map_err(|_| NONE)?;
            *response.headers_mut() = header_map(&head.fields).map_err(|_| NONE)?;
            CacheCall::Put(response)
        }
    })
}

/// The head of a `fetch()`: to an absolute URL, as the cell's own ops leave no other.
fn fetch_head(method: &str, uri: &str, sent: &super::message::Fields<'_>) -> Result<http::request::Builder, Ended> {
    const NONE: Ended = Ended::Misconduct("a fetch() that is none");
    let method: Method = method.parse().map_err(|_| NONE)?;
    let uri: Uri = uri.parse().map_err(|_| NONE)?;
    let is_address =
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty());
    if !is_address || ["CONNECT", "TRACE", "TRACK"].contains(&method.as_str()) {
        return Err(NONE);
    }
    let mut builder = http::Request::builder().method(method).uri(uri);
    let headers = builder.headers_mut().ok_or(NONE)?;
    *headers = header_map(sent).map_err(|_| NONE)?;
    Ok(builder)
}

fn head_of(head: &http::response::Parts) -> Head<'_> {
    Head { status: head.status.as_u16(), fields: fields(&head.headers) }
}

fn answer_fetch(link: &Rc<Link>, exchange: u64, fetched: Result<http::Response<Body>, String>) {
    match fetched {
        Ok(response) => {
            let (head, body) = response.into_parts();
            let head: Result<_, String> = Ok(head_of(&head));
            link.answer(exchange, &encode(&head), Some(body));
        }
        Err(why) => {
            let head: Result<Head<'_>, String> = Err(why);
            link.answer(exchange, &encode(&head), None::<Body>);
        }
    }
}

fn answer_cache(link: &Rc<Link>, exchange: u64, found: Result<Option<http::Response<Body>>, String>) {
    let (head, body) = match found {
        Ok(Some(response)) => {
            let (head, body) = response.into_parts();
            (Ok(Some(head)), Some(body))
        }
        Ok(None) => (Ok(None), None),
        Err(why) => (Err(why), None),
    };
    link.answer(exchange, &encode(&head.as_ref().map(|head| head.as_ref().map(head_of))), body);
}
