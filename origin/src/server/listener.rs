//! Accepting connections and speaking HTTP/1.1 and HTTP/2 on them, within bounds.

use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::patient::Patient;
use super::respond::ResponseBody;

/// Connections at once; more wait in the system's queue.
const MAX_CONNECTIONS: usize = 8192;

/// Longest request head, in bytes; beyond it the answer is 431.
const MAX_HEAD_BYTES: usize = 64 << 10;

/// Requests at once on one HTTP/2 connection.
const MAX_STREAMS: u32 = 256;

/// Time for a request's head, and for the next request on a kept connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Time without a byte in either direction. Longer than the longest long poll.
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);

/// Pause after an accept that failed, as it does when the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until `draining` turns true, then lets open requests finish. Dropping the future ends every connection.
pub(super) async fn serve<F, A>(listener: TcpListener, mut draining: watch::Receiver<bool>, answer: F)
where
    F: Fn(Request<Incoming>) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Response<ResponseBody>> + Send + 'static,
{
    let protocol = protocol();
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = until(&mut draining) => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    let connection = connection(stream, &protocol, &graceful, answer.clone());
                    connections.spawn(connection);
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    graceful.shutdown().await;
}

/// Waits until `draining` turns true, or nobody can turn it any more.
async fn until(draining: &mut watch::Receiver<bool>) {
    let _ = draining.wait_for(|draining| *draining).await;
}

fn connection<F, A>(
    stream: TcpStream,
    protocol: &Builder<TokioExecutor>,
    graceful: &GracefulShutdown,
    answer: F,
) -> impl Future<Output = ()> + Send + 'static
where
    F: Fn(Request<Incoming>) -> A + Send + Sync + 'static,
    A: Future<Output = Response<ResponseBody>> + Send + 'static,
{
    // Small responses must not wait for the acknowledgement of earlier ones; without it they are only slower.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let answering = answer(request);
        async move { Ok::<_, Infallible>(answering.await) }
    });
    let io = TokioIo::new(Patient::new(stream, IDLE_TIMEOUT));
    let watched = graceful.watch(protocol.serve_connection(io, service).into_owned());
    async move {
        if let Err(error) = watched.await {
            tracing::debug!(%error, "a connection ended with an error");
        }
    }
}

fn protocol() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(MAX_HEAD_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEAD_BYTES as u32)
        .keep_alive_interval(HEAD_TIMEOUT)
        .keep_alive_timeout(HEAD_TIMEOUT);
    builder
}
