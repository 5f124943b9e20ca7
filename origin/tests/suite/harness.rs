//! An origin in this process, and what it takes to talk to it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use origin::bundle::{Asset, Bundle, Digest, FORMAT, FunctionConfig, FunctionName, Module};
use origin::client::Control;
use origin::server::{Bound, Config, StartError, StoreConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub(crate) const TOKEN: &str = "test-token";

/// Sun, 06 Nov 1994 08:49:37 GMT, in milliseconds: when every origin of a test starts.
pub(crate) const START_MS: u64 = 784_111_777_000;

/// An origin on free ports, with a clock that stands still until it is moved.
pub(crate) struct Origin {
    pub(crate) bound: Bound,
    pub(crate) control: Control,
    now_ms: Arc<AtomicU64>,
    http: Client<HttpConnector, Full<Bytes>>,
    stop: oneshot::Sender<()>,
    running: JoinHandle<Result<(), StartError>>,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Reply {
    /// A header as text; empty when it is not there.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().expect("text"))
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }
}

impl Origin {
    pub(crate) async fn start() -> Self {
        Self::start_on(StoreConfig::Memory).await
    }

    pub(crate) async fn start_on(store: StoreConfig) -> Self {
        let any = || "127.0.0.1:0".parse().expect("an address");
        let now_ms = Arc::new(AtomicU64::new(START_MS));
        let clock = now_ms.clone();
        let config = Config {
            clock: Arc::new(move || UNIX_EPOCH + Duration::from_millis(clock.load(Ordering::SeqCst))),
            ..Config::new(any(), any(), TOKEN.to_owned(), store)
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let (ready, bound) = oneshot::channel();
        let running = tokio::spawn(origin::server::run(
            config,
            move |bound| ready.send(bound).expect("the test waits"),
            async move { _ = stopped.await },
        ));
        let Ok(bound) = bound.await else { panic!("not started: {:?}", running.await) };
        let base = format!("http://{}", bound.admin).parse().expect("an address");
        let http = Client::builder(TokioExecutor::new()).build_http();
        Self { bound, control: Control::new(base, TOKEN), now_ms, http, stop, running }
    }

    /// Drains and ends the origin.
    pub(crate) async fn stop(self) {
        self.stop.send(()).expect("it runs");
        self.running.await.expect("no panic").expect("no error");
    }

    pub(crate) fn ask_to_stop(self) -> JoinHandle<Result<(), StartError>> {
        self.stop.send(()).expect("it runs");
        self.running
    }

    pub(crate) fn advance(&self, time: Duration) {
        self.now_ms.fetch_add(time.as_millis() as u64, Ordering::SeqCst);
    }

    pub(crate) async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Reply {
        self.public(Method::GET, path, headers).await
    }

    pub(crate) async fn public(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> Reply {
        self.request(&format!("http://{}{path}", self.bound.listen), method, headers, "").await
    }

    /// A request to the admin API with the token.
    pub(crate) async fn admin(&self, method: Method, path: &str, body: &str) -> Reply {
        let token = format!("Bearer {TOKEN}");
        self.request(&format!("http://{}{path}", self.bound.admin), method, &[("authorization", &token)], body).await
    }

    pub(crate) async fn request(&self, url: &str, method: Method, headers: &[(&str, &str)], body: &str) -> Reply {
        let mut request = Request::builder().uri(url).method(method);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::from(body.to_owned())).expect("a request");
        let (parts, body) = self.http.request(request).await.expect("an answer").into_parts();
        let body = body.collect().await.expect("a whole body").to_bytes();
        Reply { status: parts.status, headers: parts.headers, body }
    }

    /// Publishes and deploys a function with assets.
    pub(crate) async fn deploy(&self, function: &str, assets: &[(&str, &[u8])]) -> Digest {
        let mut table = BTreeMap::new();
        for (path, content) in assets {
            let digest = Digest::of(content);
            self.control.put_blob(&digest, content.to_vec()).await.expect("a blob");
            table.insert((*path).to_owned(), asset(content));
        }
        let (bytes, version) = Bundle { assets: table, ..bundle(function, "export default {}") }.encode();
        self.control.put_bundle(&version, bytes, None).await.expect("a bundle");
        self.control.deploy(&name(function), &version).await.expect("a deploy");
        version
    }
}

/// Sends bytes as they are and nothing after them, and reads until the other side closes.
pub(crate) async fn raw(address: std::net::SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    let mut answer = Vec::new();
    // The other side may reset a connection whose rest it does not want to read.
    let _ = stream.write_all(request).await;
    let _ = stream.shutdown().await;
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

pub(crate) fn name(function: &str) -> FunctionName {
    function.parse().expect("a name")
}

pub(crate) fn asset(content: &[u8]) -> Asset {
    Asset {
        digest: Digest::of(content),
        size: content.len() as u64,
        content_type: "text/plain".to_owned(),
        cache_control: "public, max-age=300".to_owned(),
    }
}

pub(crate) fn bundle(function: &str, source: &str) -> Bundle {
    let module = Module { source: source.to_owned(), source_map: None };
    Bundle {
        format: FORMAT,
        name: name(function),
        main: Some("index.js".to_owned()),
        modules: BTreeMap::from([("index.js".to_owned(), module)]),
        config: FunctionConfig::default(),
        assets: BTreeMap::new(),
    }
}

/// Now, for what has to be real.
pub(crate) fn clock() -> origin::store::Clock {
    Arc::new(SystemTime::now)
}
