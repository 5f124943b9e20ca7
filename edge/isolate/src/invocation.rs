//! One request in one isolate: what JavaScript may ask about it, and the answer it gives.

use std::any::Any;
use std::collections::HashMap;
use std::pin::Pin;

use bytes::Bytes;
use futures::future::LocalBoxFuture;
use tokio::sync::{mpsc, oneshot};

use crate::table::Table;

/// Any error of a body or a host call.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A body on its way into an isolate, or out of it to the platform.
pub type Body = Pin<Box<dyn http_body::Body<Data = Bytes, Error = BoxError> + Send>>;

/// A response's body on its way to the client. It keeps its invocation alive, so it stays on the worker's thread.
pub type ResponseBody = Pin<Box<dyn http_body::Body<Data = Bytes, Error = BoxError>>>;

/// What the platform lets one invocation do. Made per request, so that it knows which request it serves.
pub trait Capabilities {
    /// What the function sees as `request.cf`, as JSON.
    fn cf(&self) -> String;

    /// `fetch()`: `cf` is the JSON of the call's `cf` option, or empty. The error is the message of the `TypeError`.
    fn fetch(
        &self,
        request: http::Request<Body>,
        cf: String,
    ) -> LocalBoxFuture<'static, Result<http::Response<Body>, String>>;

    /// A call of a binding on `env` (`binding` is its name; empty for `skerry:edge`). Arguments and result are text,
    /// by convention JSON; an empty result asks for [`Capabilities::call_async`] instead.
    ///
    /// # Errors
    /// The message of the `TypeError` that the function gets.
    fn call(&self, binding: &str, method: &str, argument: &str) -> Result<String, String>;

    /// As [`Capabilities::call`], for what has to wait.
    fn call_async(
        &self,
        binding: String,
        method: String,
        argument: String,
    ) -> LocalBoxFuture<'static, Result<String, String>>;

    /// One line of the function's log. `level`: 1 debug, 2 info, 3 warn, 4 error.
    fn log(&self, level: u8, text: &str);

    /// For downcasting by the platform itself.
    fn as_any(&self) -> &dyn Any;
}

/// What came out of a handler.
pub(crate) enum Outcome {
    Response { status: u16, headers: String, body: Option<Body> },
    Threw(String),
    Invalid(String),
}

/// One request that JavaScript knows by a number.
pub(crate) struct Invocation {
    pub(crate) head: http::request::Parts,
    pub(crate) url: String,
    pub(crate) body: u32,
    pub(crate) capabilities: std::rc::Rc<dyn Capabilities>,
    pub(crate) answer: Option<oneshot::Sender<Outcome>>,
    /// Promises given to `waitUntil` that have not settled.
    pub(crate) waits: u32,
    /// The response is finished, or nobody wants it: only `waits` keep this.
    pub(crate) released: bool,
    /// Processor time charged so far.
    pub(crate) cpu: std::time::Duration,
    /// Calls of `fetch()` left.
    pub(crate) subrequests: u64,
    /// Bytes of log left.
    pub(crate) log_bytes: u64,
    pub(crate) pass_through: bool,
    /// The first limit that an op found broken.
    pub(crate) broke: Option<crate::limits::Limit>,
}

/// A body as JavaScript holds it: by number.
pub(crate) enum HeldBody {
    Ready(Body),
    /// Taken by a read that is under way.
    Busy,
}

/// What an isolate holds for JavaScript. Lives in `OpState`.
pub(crate) struct Held {
    pub(crate) invocations: Table<Invocation>,
    pub(crate) bodies: Table<HeldBody>,
    /// Writing ends of the bodies that JavaScript streams, by the body's id.
    pub(crate) writers: HashMap<u32, mpsc::Sender<Result<Bytes, BoxError>>>,
    pub(crate) fetches: HashMap<u32, oneshot::Sender<()>>,
    /// Bound on bytes that `op_body_read_all` may gather.
    pub(crate) read_all_bytes: u64,
    /// Log lines of the top level, before any request.
    pub(crate) start_log: Vec<String>,
}

impl Held {
    pub(crate) fn new() -> Self {
        Self {
            invocations: Table::new(),
            bodies: Table::new(),
            writers: HashMap::new(),
            fetches: HashMap::new(),
            read_all_bytes: 0,
            start_log: Vec::new(),
        }
    }
}
