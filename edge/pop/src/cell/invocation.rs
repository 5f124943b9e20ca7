//! One request in a cell, and the checks that its answer has to pass.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::{Body as _, Frame, SizeHint};
use isolate::limits::Limit;
use isolate::{Body, BoxError, CodeCache, Failure, Source as _};

use super::link::Arriving;
use super::message::{Compiled, Failed, Head, Invoke, Order, Outcome, cached, decode, encode, fields, header_map};
use super::outside::{Landing, Outside};
use super::wire::Ended;
use crate::capabilities;
use crate::fault::Fault;
use crate::function::Function;
use crate::outcome::{ClientBody, Invoked, Unanswered};

impl Outside {
    /// Answers `request` in this cell.
    ///
    /// # Errors
    /// [`Fault`]: it was not let in. That the cell ended over it is an outcome, [`Fault::WorkerLost`].
    pub(super) async fn invoke(
        self: &Rc<Self>,
        capabilities: Rc<capabilities::Request>,
        request: Request<Body>,
    ) -> Result<Invoked, Fault> {
        let function = &capabilities.function;
        self.entrust(function);
        let (head, body) = request.into_parts();
        let landing = self.admit(&capabilities)?;
        let message = encode(&Order::Invoke(Invoke {
            version: function.version(),
            visit: capabilities.visit.parts(),
            method: head.method.as_str(),
            target: head.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str),
            fields: fields(&head.headers),
        }));
        let lost = |fault, head| {
            let unanswered = Unanswered { fault, pass_through: false, head: Some(head) };
            Ok(Invoked { result: Err(unanswered), timing: None })
        };
        let Ok(answer) = self.link.ask(landing.number, &message, Some(body)).await else {
            return lost(Fault::WorkerLost, head);
        };
        if let Some(flight) = self.flights.borrow().get(&landing.number) {
            flight.answered.set(true);
        }
        let outcome: Outcome<'_> = match decode(&answer.message) {
            Ok(outcome) => outcome,
            Err(ended) => return lost(self.condemn(ended), head),
        };
        let result = match outcome.result {
            Err(Failed { fault, pass_through, taken }) => {
                Err(Unanswered { fault: fault.into(), pass_through, head: taken.then_some(head) })
            }
            Ok(sent) => response(function, &sent, answer.body, landing).map_err(|fault| Failure::from(fault).into()),
        };
        Ok(Invoked { result, timing: Some(outcome.timing) })
    }

    /// Starts a function before anybody asks for it.
    ///
    /// # Errors
    /// Why it does not start.
    pub(super) async fn warm(self: &Rc<Self>, function: &Arc<Function>) -> Result<(), Fault> {
        self.entrust(function);
        let message = encode(&Order::Warm { version: function.version() });
        let answered = self.link.ask(self.link.number(), &message, None::<Body>).await;
        let answer = answered.map_err(|_| Fault::WorkerLost)?;
        let warmed: Result<(), isolate::Fault> = decode(&answer.message).map_err(|ended| self.condemn(ended))?;
        warmed.map_err(Fault::Function)
    }

    /// Tries a function, and compiles it on the way.
    ///
    /// # Errors
    /// Why it does not start.
    pub(super) async fn compile(
        self: &Rc<Self>,
        function: &Arc<Function>,
        paths: &[&str],
    ) -> Result<Option<CodeCache>, Fault> {
        self.entrust(function);
        let message = encode(&Order::Compile { version: function.version(), paths: paths.to_vec() });
        let answered = self.link.ask(self.link.number(), &message, None::<Body>).await;
        let answer = answered.map_err(|_| Fault::WorkerLost)?;
        let compiled: Result<Option<Compiled<'_>>, isolate::Fault> =
            decode(&answer.message).map_err(|ended| self.condemn(ended))?;
        Ok(compiled?.map(cached))
    }

    /// Lets the cell have a function's program.
    fn entrust(&self, function: &Arc<Function>) {
        let mut functions = self.functions.borrow_mut();
        if !functions.contains_key(function.version()) {
            functions.insert(function.version().to_owned(), Arc::clone(function));
        }
    }

    /// Ends a cell that said what none says.
    fn condemn(&self, ended: Ended) -> Fault {
        self.dismiss(super::loss::Loss::of(ended));
        Fault::WorkerLost
    }
}

/// The response that a cell gives, if it is one: under the limits that its isolate keeps, too.
fn response(
    function: &Function,
    sent: &Head<'_>,
    body: Option<Arriving>,
    landing: Landing,
) -> Result<Response<ClientBody>, isolate::Fault> {
    let over = |limit| isolate::Fault::Limit { limit, value: function.limits.get(limit) };
    let status = StatusCode::from_u16(sent.status).ok().filter(|status| !status.is_informational());
    let invalid = |why: String| isolate::Fault::InvalidResponse(why);
    let status = status.ok_or_else(|| invalid(format!("{} is no status of a final response", sent.status)))?;
    let bytes: usize = sent.fields.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes as u64 > function.limits.get(Limit::Headers) {
        return Err(over(Limit::Headers));
    }
    let headers = header_map(&sent.fields).map_err(|error| invalid(error.to_string()))?;
    let limit = function.limits.get(Limit::ResponseBody);
    if body.as_ref().is_some_and(|body| body.size_hint().lower() > limit) {
        return Err(over(Limit::ResponseBody));
    }
    let mut response = Response::new(ClientBody::Cell(CellBody { body, left: limit, limit, _landing: landing }));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Ok(response)
}

/// The body of a response on its way out of a cell, counted against its limit here as well.
pub(crate) struct CellBody {
    body: Option<Arriving>,
    left: u64,
    limit: u64,
    _landing: Landing,
}

impl http_body::Body for CellBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = std::task::ready!(Pin::new(body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            match self.left.checked_sub(data.len() as u64) {
                Some(left) => self.left = left,
                None => {
                    let why = format!("the response body is over its limit of {} bytes", self.limit);
                    return Poll::Ready(Some(Err(why.into())));
                }
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), http_body::Body::size_hint)
    }
}
