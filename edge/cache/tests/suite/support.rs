//! A cache, a clock and origins that say what the test tells them to.

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use cache::{Body, BoxError, Cache, Clock, Config, FailureKind, OriginBody, OriginFailure, Outcome, fetch};
use futures::channel::mpsc;
use futures::future::{Either, ready};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};

pub(crate) struct HandClock(Mutex<SystemTime>);

impl Clock for HandClock {
    fn now(&self) -> SystemTime {
        *self.0.lock().unwrap()
    }
}

#[derive(Clone)]
pub(crate) struct World {
    pub(crate) cache: Cache,
    clock: Arc<HandClock>,
    asked: Arc<Mutex<Vec<Parts>>>,
}

pub(crate) type FromOrigin = Result<Response<OriginBody>, OriginFailure>;

/// What a client got, body included.
#[derive(Debug)]
pub(crate) struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub outcome: Outcome,
    pub body: Result<String, String>,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        self.body.as_deref().unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn cache_status(&self) -> String {
        let lines = self.headers.get_all("cache-status").iter();
        lines.map(|line| line.to_str().unwrap()).collect::<Vec<_>>().join(", ")
    }
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(Config::default())
    }

    pub(crate) fn with(config: Config) -> Self {
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let clock = Arc::new(HandClock(Mutex::new(start)));
        let cache = Cache::with_clock(Config { identity: "lhr".into(), ..config }, clock.clone());
        Self { cache, clock, asked: Arc::default() }
    }

    pub(crate) fn pass(&self, seconds: u64) {
        *self.clock.0.lock().unwrap() += Duration::from_secs(seconds);
    }

    pub(crate) fn now(&self) -> SystemTime {
        self.clock.now()
    }

    pub(crate) fn date(&self, offset: i64) -> String {
        let now = self.clock.now();
        let shift = Duration::from_secs(offset.unsigned_abs());
        httpdate::fmt_http_date(if offset < 0 { now - shift } else { now + shift })
    }

    /// How often the origin was asked.
    pub(crate) fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    /// A field of the latest request that the origin saw.
    pub(crate) fn asked_with(&self, name: &str) -> Option<String> {
        let asked = self.asked.lock().unwrap();
        asked.last().and_then(|parts| parts.headers.get(name)).map(|value| value.to_str().unwrap().to_owned())
    }

    /// Runs a request; the origin answers with what the closure gives, once.
    pub(crate) async fn run<F>(
        &self,
        request: Request<()>,
        origin: impl FnOnce(Parts) -> F + Send + 'static,
    ) -> Result<Response<Body>, OriginFailure>
    where
        F: Future<Output = FromOrigin> + Send + 'static,
    {
        let asked = self.asked.clone();
        let mut origin = Some(origin);
        let recorded = move |parts: Parts| {
            asked.lock().unwrap().push(parts.clone());
            match origin.take() {
                Some(origin) => Either::Left(origin(parts)),
                None => Either::Right(ready(Err(OriginFailure::new(FailureKind::Unreachable, "it has said all")))),
            }
        };
        fetch(&self.cache, request.into_parts().0, recorded).await
    }

    /// Runs a request to the end of its body.
    pub(crate) async fn ask(&self, request: Request<()>, reply: Reply) -> Answer {
        let response = self.run(request, move |_| async move { reply.send() }).await.expect("the origin answers");
        read(response).await
    }

    /// A plain GET.
    pub(crate) async fn get(&self, uri: &str, reply: Reply) -> Answer {
        self.ask(get(uri), reply).await
    }

    /// Until everything that was asked for has arrived.
    pub(crate) async fn settled(&self) {
        while self.cache.fills() > 0 {
            tokio::task::yield_now().await;
        }
    }
}

pub(crate) fn get(uri: &str) -> Request<()> {
    Request::get(uri).body(()).unwrap()
}

pub(crate) fn request(method: Method, uri: &str, headers: &[(&str, &str)]) -> Request<()> {
    let mut builder = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(()).unwrap()
}

pub(crate) fn get_with(uri: &str, headers: &[(&str, &str)]) -> Request<()> {
    request(Method::GET, uri, headers)
}

pub(crate) async fn read(response: Response<Body>) -> Answer {
    let (parts, body) = response.into_parts();
    let outcome = *parts.extensions.get::<Outcome>().expect("every response has an outcome");
    let body = body.collect().await;
    let body = body.map(|body| String::from_utf8(body.to_bytes().to_vec()).unwrap()).map_err(|error| error.to_string());
    Answer { status: parts.status.as_u16(), headers: parts.headers, outcome, body }
}

/// What an origin answers.
#[derive(Clone)]
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Bytes,
}

impl Reply {
    pub(crate) fn new(status: u16, body: impl Into<Bytes>) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }
    }

    /// 200, fresh for a minute.
    pub(crate) fn fresh(body: impl Into<Bytes>) -> Self {
        Self::new(200, body).with("cache-control", "max-age=60")
    }

    /// For requests that must not reach the origin.
    pub(crate) fn never() -> Self {
        Self::new(599, "the origin must not be asked")
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    fn head(&self) -> http::response::Builder {
        let mut builder = Response::builder().status(self.status);
        for (name, value) in &self.headers {
            builder = builder.header(name, value);
        }
        builder
    }

    pub(crate) fn send(self) -> FromOrigin {
        let body = Full::new(self.body.clone()).map_err(|never| match never {}).boxed_unsync();
        Ok(self.head().body(body).unwrap())
    }

    /// The same head, with a body that the test sends.
    pub(crate) fn stream(self) -> (Sender, Response<OriginBody>) {
        let (sender, chunks) = mpsc::unbounded();
        let body = StreamBody::new(chunks).boxed_unsync();
        (Sender(sender), self.head().body(body).unwrap())
    }
}

/// The origin's end of a body. Dropping it ends the body.
pub(crate) struct Sender(mpsc::UnboundedSender<Result<Frame<Bytes>, BoxError>>);

impl Sender {
    pub(crate) fn send(&self, text: impl Into<Bytes>) {
        self.0.unbounded_send(Ok(Frame::data(text.into()))).unwrap();
    }

    pub(crate) fn fail(self) {
        self.0.unbounded_send(Err("connection reset".into())).unwrap();
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.0.is_closed()
    }
}

pub(crate) fn unreachable() -> OriginFailure {
    OriginFailure::new(FailureKind::Unreachable, "connection refused")
}

/// Lets every other task run until it waits for something.
pub(crate) async fn quiet() {
    for _ in 0..64 {
        tokio::task::yield_now().await;
    }
}
