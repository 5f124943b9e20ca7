//! A small real HTTP server that answers as told and remembers what it was asked.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

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
    /// The most requests that were under way at once.
    pub most: Arc<AtomicUsize>,
}

impl Stub {
    /// Starts one whose answers `answer` gives.
    pub async fn start(answer: impl Fn(&Request<Incoming>) -> Response<String> + Send + Sync + 'static) -> Self {
        Self::after(Duration::ZERO, answer).await
    }

    /// Starts one that takes so long for each answer.
    pub async fn after(
        delay: Duration,
        answer: impl Fn(&Request<Incoming>) -> Response<String> + Send + Sync + 'static,
    ) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let stub = Self { address, seen: Arc::default(), most: Arc::default() };
        let (seen, answer) = (Arc::clone(&stub.seen), Arc::new(answer));
        let (under_way, most) = (Arc::new(AtomicUsize::new(0)), Arc::clone(&stub.most));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
                let (under_way, most) = (Arc::clone(&under_way), Arc::clone(&most));
                let service = service_fn(move |request: Request<Incoming>| {
                    seen.lock().expect("no panic holds this").push(format!("{} {}", request.method(), request.uri()));
                    let response = answer(&request).map(|text| Full::new(Bytes::from(text)));
                    most.fetch_max(under_way.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                    let under_way = Arc::clone(&under_way);
                    async move {
                        tokio::time::sleep(delay).await;
                        under_way.fetch_sub(1, Ordering::Relaxed);
                        Ok::<_, std::convert::Infallible>(response)
                    }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        stub
    }
}
