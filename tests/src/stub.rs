//! A small real HTTP server that answers as told and remembers what it was asked.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

/// A server on a free port of the loopback. It ends with the runtime.
#[derive(Clone, Debug)]
pub struct Stub {
    /// Where it listens.
    pub address: SocketAddr,
    /// Method and path of every request so far.
    pub seen: Arc<Mutex<Vec<String>>>,
}

impl Stub {
    /// Starts one whose answers `answer` gives.
    pub async fn start(answer: impl Fn(&Request<Incoming>) -> Response<String> + Send + Sync + 'static) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let stub = Self { address: listener.local_addr().expect("an address"), seen: Arc::default() };
        let (seen, answer) = (Arc::clone(&stub.seen), Arc::new(answer));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
                let service = service_fn(move |request: Request<Incoming>| {
                    seen.lock().expect("no panic holds this").push(format!("{} {}", request.method(), request.uri()));
                    let response = answer(&request).map(|text| Full::new(Bytes::from(text)));
                    async move { Ok::<_, std::convert::Infallible>(response) }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        stub
    }
}
