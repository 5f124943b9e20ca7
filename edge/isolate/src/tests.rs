//! The engine through its public face: real isolates, real programs.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, LazyLock, mpsc};

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::LocalBoxFuture;
use http_body_util::{BodyExt as _, Full};

use crate::*;

mod api;
mod bodies;
mod breakers;
mod caches;
mod clock;
mod code_cache;
mod console;
mod crypto;
mod density;
mod escapes;
mod guards;
mod lifecycle;
mod limits;
mod loss;
mod seed;
mod walls;

type Job = Box<dyn FnOnce(Platform) + Send>;

/// Threads that run V8 must descend from the one that started it, which libtest's do not: this one makes them.
static ROOT: LazyLock<mpsc::Sender<Job>> = LazyLock::new(|| {
    let (sender, receiver) = mpsc::channel::<Job>();
    std::thread::spawn(move || {
        let platform = Platform::start();
        for job in receiver {
            std::thread::Builder::new().stack_size(8 << 20).spawn(move || job(platform)).unwrap();
        }
    });
    sender
});

/// Runs `test` with a worker, on a thread of its own, inside a current-thread runtime.
fn with_worker<F, Fut>(test: F)
where
    F: FnOnce(Worker) -> Fut + Send + 'static,
    Fut: Future<Output = ()>,
{
    with_worker_of(Config { ready: 1, residents: 10, ..Config::default() }, test);
}

fn with_worker_of<F, Fut>(config: Config, test: F)
where
    F: FnOnce(Worker) -> Fut + Send + 'static,
    Fut: Future<Output = ()>,
{
    let (done, finished) = mpsc::channel();
    let job = move |platform| {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let watchdog = Watchdog::start().unwrap();
            runtime.block_on(async move {
                let worker = Worker::new(platform, &watchdog, config);
                // The first isolate of a worker is made by itself; tests are about those that it gets from its maker.
                worker.renew_pool().await;
                test(worker).await;
            });
        }));
        done.send(outcome).unwrap();
    };
    ROOT.send(Box::new(job)).unwrap();
    if let Err(panic) = finished.recv().expect("the test's thread lives") {
        std::panic::resume_unwind(panic);
    }
}

/// A platform that answers `fetch()` with what it was asked, and remembers the log.
#[derive(Default)]
struct Echo {
    log: RefCell<Vec<String>>,
    /// Calls of `fetch()` under way, and the most there were at once.
    fetching: Cell<(usize, usize)>,
    /// What was put into caches, by their name and the URL.
    cached: RefCell<BTreeMap<(String, String), http::Response<Bytes>>>,
}

impl Capabilities for Echo {
    fn url(&self, head: &http::request::Parts) -> String {
        format!("http://example.com{}", head.uri)
    }

    fn complete(&self, _headers: &mut http::HeaderMap) {}

    fn cf(&self) -> String {
        r#"{"country":"JP"}"#.to_owned()
    }

    fn fetch(
        self: Rc<Self>,
        request: http::Request<Body>,
        cf: String,
    ) -> LocalBoxFuture<'static, Result<http::Response<Body>, String>> {
        async move {
            let (head, body) = request.into_parts();
            let (now, most) = self.fetching.get();
            self.fetching.set((now + 1, most.max(now + 1)));
            if head.uri.path() == "/brief" {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
            let (now, most) = self.fetching.get();
            self.fetching.set((now - 1, most));
            if head.uri.path() == "/fail" {
                return Err("the origin is unreachable".to_owned());
            }
            if head.uri.path() == "/slow" {
                tokio::time::sleep(std::time::Duration::from_secs(60)).await;
            }
            let body = body.collect().await.map_err(|e| e.to_string())?.to_bytes();
            let text = format!("{} {} {}", head.method, head.uri, String::from_utf8_lossy(&body));
            let mut response = http::Response::builder();
            if let Some(location) = head.uri.path().strip_prefix("/redirect-to") {
                response = response.status(302).header("location", location);
            }
            for (name, value) in &head.headers {
                response = response.header(format!("echo-{name}"), value);
            }
            if !cf.is_empty() {
                response = response.header("caching", cf);
            }
            Ok(response.body(full(text)).unwrap())
        }
        .boxed_local()
    }

    fn cache(
        self: Rc<Self>,
        name: String,
        request: http::Request<()>,
        call: CacheCall,
    ) -> LocalBoxFuture<'static, Result<Option<http::Response<Body>>, String>> {
        let key = (name, request.uri().to_string());
        async move {
            let whole = |response: &http::Response<Bytes>| {
                let mut answer = http::Response::new(full(response.body().clone()));
                *answer.headers_mut() = response.headers().clone();
                *answer.status_mut() = response.status();
                answer
            };
            Ok(match call {
                CacheCall::Match => self.cached.borrow().get(&key).map(whole),
                CacheCall::Delete => self.cached.borrow_mut().remove(&key).map(|_| http::Response::new(full(""))),
                CacheCall::Put(response) => {
                    let (head, body) = response.into_parts();
                    let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
                    self.cached.borrow_mut().insert(key, http::Response::from_parts(head, body));
                    None
                }
            })
        }
        .boxed_local()
    }

    fn call(&self, binding: &str, method: &str, argument: &str) -> Result<String, String> {
        if binding == "REFUSED" {
            return Err("refused".to_owned());
        }
        Ok(format!(r#"{{"success":true,"ok":true,"called":"{binding}.{method}({argument})"}}"#))
    }

    fn call_async(&self, _: String, _: String, _: String) -> LocalBoxFuture<'static, Result<String, String>> {
        async { Ok("{}".to_owned()) }.boxed_local()
    }

    fn log(&self, level: u8, text: &str) {
        self.log.borrow_mut().push(format!("{level} {text}"));
    }

    fn own_log(&self, level: u8, text: &str) {
        self.log.borrow_mut().push(format!("own {level} {text}"));
    }
}

fn full(text: impl Into<Bytes>) -> Body {
    Box::pin(Full::new(text.into()).map_err(|never| match never {}))
}

fn program_of(modules: &[(&str, &str)], changes: &[(&'static str, u64)]) -> Arc<Program> {
    let modules: BTreeMap<_, _> = modules
        .iter()
        .map(|(path, source)| ((*path).to_owned(), Code { source: Arc::from(*source), source_map: None }))
        .collect();
    let main = modules.keys().next().unwrap().clone();
    Arc::new(Program {
        version: format!("{modules:?}{changes:?}"),
        main,
        modules,
        bindings: r#"[{"name":"LIMITER","kind":"ratelimit"},{"name":"GREETING","kind":"var","value":"hi"}]"#.to_owned(),
        limits: crate::limits::Limits::with(changes.iter().copied()).unwrap(),
        provisioned: false,
    })
}

/// A function whose handler has this body.
fn handler(body: &str) -> Arc<Program> {
    handler_with(body, &[])
}

fn handler_with(body: &str, changes: &[(&'static str, u64)]) -> Arc<Program> {
    program_of(&[("index.js", &format!("export default {{ async fetch(request, env, ctx) {{ {body} }} }};"))], changes)
}

fn request(method: &str, path: &str, body: &str) -> http::Request<Body> {
    http::Request::builder()
        .method(method)
        .uri(path)
        .header("x-test", "yes")
        .header("host", "example.com")
        .body(full(body.to_owned()))
        .unwrap()
}

#[derive(Debug)]
struct Answer {
    status: u16,
    headers: http::HeaderMap,
    body: Result<String, String>,
    log: Vec<String>,
}

async fn ask(worker: &Worker, program: &Arc<Program>, request: http::Request<Body>) -> Result<Answer, Failure> {
    let echo = Rc::new(Echo::default());
    let invoked = worker.invoke(program, request, Rc::clone(&echo) as Rc<dyn Capabilities>).await;
    let (head, body) = invoked.result?.into_parts();
    let body =
        body.collect().await.map(|b| String::from_utf8_lossy(&b.to_bytes()).into_owned()).map_err(|e| e.to_string());
    let log = echo.log.borrow().clone();
    Ok(Answer { status: head.status.as_u16(), headers: head.headers, body, log })
}

/// The text that a GET of a handler with this body gives.
async fn text(worker: &Worker, body: &str) -> String {
    let answer = ask(worker, &handler(body), request("GET", "/path?q=1", "")).await;
    answer.unwrap_or_else(|failure| panic!("{body}: {failure:?}")).body.unwrap()
}

/// How a handler with this body fails.
async fn fault(worker: &Worker, program: &Arc<Program>) -> Fault {
    match ask(worker, program, request("GET", "/", "")).await {
        Ok(answer) => panic!("answered {} {:?}", answer.status, answer.body),
        Err(failure) => failure.fault,
    }
}
