//! Accepting connections and speaking HTTP/1.1 and HTTP/2 on them, within bounds.

use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::patient::Patient;
use crate::store::BoxError;

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

/// Serves until `draining` turns true or its sender is gone, then lets open requests finish. Dropping the future ends every
/// connection. Runs inside a Tokio runtime with time and I/O enabled.
pub async fn serve<F, A, B>(listener: TcpListener, mut draining: watch::Receiver<bool>, answer: F)
where
    F: Fn(Request<Incoming>) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Response<B>> + Send + 'static,
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
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

fn connection<F, A, B>(
    stream: TcpStream,
    protocol: &Builder<TokioExecutor>,
    graceful: &GracefulShutdown,
    answer: F,
) -> impl Future<Output = ()> + Send + 'static
where
    F: Fn(Request<Incoming>) -> A + Send + Sync + 'static,
    A: Future<Output = Response<B>> + Send + 'static,
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
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
    // No pings: their answers are bytes, and would keep a connection that nobody uses.
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEAD_BYTES as u32);
    builder
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::server::respond;

    /// A frame's length, type, flags and stream (RFC 9113, section 4.1), without a payload.
    fn frame(kind: u8, flags: u8) -> [u8; 9] {
        [0, 0, 0, kind, flags, 0, 0, 0, 0]
    }

    #[tokio::test(start_paused = true)]
    async fn an_http2_connection_without_a_request_is_not_kept_alive_by_our_own_pings() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (_drain, draining) = watch::channel(false);
        tokio::spawn(serve(listener, draining, async |_| respond::status(http::StatusCode::OK)));
        const SETTINGS: u8 = 4;
        const PING: u8 = 6;
        client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        client.write_all(&[frame(SETTINGS, 0), frame(SETTINGS, 1)].concat()).await.unwrap();
        let mut kinds = Vec::new();
        let mut head = [0; 9];
        while client.read_exact(&mut head).await.is_ok() {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            client.read_exact(&mut payload).await.unwrap();
            kinds.push(head[3]);
        }
        assert!(kinds.contains(&SETTINGS) && !kinds.contains(&PING), "{kinds:?}");
    }
}
