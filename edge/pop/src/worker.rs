//! One thread that answers requests: its listener, its connections, its isolates.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use isolate::{Platform, Watchdog};
use tokio::sync::{Semaphore, watch};

use crate::request::serve;
use crate::state::State;
use crate::upstream::Upstream;

/// Connections of one worker at a time; more wait in the kernel's queue.
const CONNECTIONS: usize = 10_000;
/// Bytes of a request head, and its fields.
const HEAD_BYTES: usize = 64 << 10;
const HEAD_FIELDS: usize = 100;
/// Time for a request head to arrive, and for an idle connection to stay.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
const HTTP2_STREAMS: u32 = 256;
/// Time for requests in flight to end once the PoP is being stopped.
const DRAIN_DEADLINE: Duration = Duration::from_secs(5);
/// How often isolates of versions that are not live any more are given up.
const RETIRE_EVERY: Duration = Duration::from_secs(1);

/// What a thread has of its own.
#[derive(Clone)]
pub(crate) struct Worker {
    pub(crate) state: Arc<State>,
    pub(crate) isolates: isolate::Worker,
    pub(crate) upstream: Upstream,
}

/// Serves until `stopping` says so, then drains. Runs inside a current-thread runtime.
pub(crate) async fn work(
    state: Arc<State>,
    platform: Platform,
    watchdog: Watchdog,
    listener: std::net::TcpListener,
    mut stopping: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let isolates = isolate::Worker::new(platform, &watchdog, isolate::Config::default());
    let worker = Worker { upstream: Upstream::new(Arc::clone(&state)), state, isolates };
    isolate::spawn_local(retire(worker.clone()));
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopping.wait_for(|stopping| *stopping) => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let Ok(permit) = Arc::clone(&connections).acquire_owned().await else { break };
                connect(&worker, &graceful, stream, peer, permit);
            }
            // Out of file descriptors, most likely: a pause lets connections end.
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
    drop(listener);
    let _ = tokio::time::timeout(DRAIN_DEADLINE, graceful.shutdown()).await;
    Ok(())
}

fn connect(
    worker: &Worker,
    graceful: &GracefulShutdown,
    stream: tokio::net::TcpStream,
    peer: SocketAddr,
    permit: tokio::sync::OwnedSemaphorePermit,
) {
    let _ = stream.set_nodelay(true);
    let served = worker.clone();
    let service = service_fn(move |request| {
        let worker = served.clone();
        async move { Ok::<_, Infallible>(serve(&worker, peer.ip(), request).await) }
    });
    let mut builder = auto::Builder::new(Local);
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEAD_FIELDS);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(HTTP2_STREAMS)
        .max_header_list_size(HEAD_BYTES as u32)
        .keep_alive_interval(HEAD_TIMEOUT)
        .keep_alive_timeout(Duration::from_secs(10));
    let connection = graceful.watch(builder.serve_connection(TokioIo::new(stream), service).into_owned());
    isolate::spawn_local(async move {
        // The peer went away, or spoke no HTTP: hyper has answered what can be answered.
        if let Err(error) = connection.await {
            tracing::debug!(%peer, error = %error, "connection ended");
        }
        drop(permit);
    });
}

async fn retire(worker: Worker) {
    let mut generation = 0;
    loop {
        tokio::time::sleep(RETIRE_EVERY).await;
        let routes = worker.state.routes.load_full();
        if routes.generation != generation {
            generation = routes.generation;
            worker.isolates.retain(|version| routes.has_version(version));
        }
    }
}

/// Runs hyper's tasks on this thread.
#[derive(Clone, Copy)]
struct Local;

impl<F> hyper::rt::Executor<F> for Local
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, future: F) {
        isolate::spawn_local(future);
    }
}
