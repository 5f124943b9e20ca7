//! One thread that answers requests: its listener, its connections, its isolates.

use std::cell::Cell;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use http::Request;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use isolate::Body;
use origin::bundle::Isolation;
use origin::patient::Patient;
use tokio::io::ReadBuf;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use crate::capabilities;
use crate::cell::{Cells, Lease};
use crate::connection::{Connection, Connections, PREFACE, Socket};
use crate::counted::Counted;
use crate::fault::Fault;
use crate::function::Function;
use crate::head_timer::HeadTimer;
use crate::metrics::{PerWorker, Share};
use crate::outcome::{ClientBody, Invoked};
use crate::place::{self, Placing};
use crate::request::serve;
use crate::state::State;
use crate::upstream::Upstream;

/// Connections of one worker at a time; more wait in the kernel's queue.
const CONNECTIONS: usize = 10_000;
/// Bytes of a request head, and its fields.
pub(crate) const HEAD_BYTES: usize = 64 << 10;
const HEAD_FIELDS: usize = 100;
/// Time for a request head to arrive, and for an idle connection to stay.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
const HTTP2_STREAMS: u32 = 256;
/// Time for requests in flight to end once the PoP is being stopped.
const DRAIN_DEADLINE: Duration = Duration::from_secs(5);
/// How often isolates of versions that are not live any more are given up, and the others looked after.
const TIDY_EVERY: Duration = Duration::from_secs(1);

/// Functions to be started before they are live. Who asked waits until the last worker has dropped `done`.
#[derive(Clone)]
pub(crate) struct Provision {
    pub(crate) functions: Vec<Arc<Function>>,
    pub(crate) done: mpsc::Sender<()>,
}

/// What a thread has of its own.
pub(crate) struct Worker {
    pub(crate) state: Arc<State>,
    /// Its number among the workers.
    pub(crate) index: usize,
    engines: Engines,
    /// Those of its isolates that were evicted and counted.
    evicted: Cell<u64>,
    pub(crate) upstream: Arc<Upstream>,
    /// Decides what goes to the region, where there is one.
    pub(crate) placing: Option<Placing>,
}

/// Where a worker runs functions.
pub(crate) struct Engines {
    /// In its own thread.
    pub(crate) isolates: isolate::Worker,
    /// In processes of their own.
    pub(crate) cells: Rc<Cells>,
}

impl Worker {
    /// Where it counts.
    pub(crate) fn counts(&self) -> &PerWorker {
        &self.state.metrics.workers[self.index]
    }

    /// Where it counts for a function, or for requests that no function answers.
    pub(crate) fn share<'a>(&'a self, function: Option<&'a Function>) -> &'a Share {
        let functions = &self.state.metrics.functions;
        let series = function
            .map_or(&functions.none, |function| function.series.get_or_init(|| functions.series(&function.name)));
        series.share(self.index)
    }

    /// Counts the isolates that there are now.
    pub(crate) fn count_isolates(&self) {
        let (own, cells) = (self.engines.isolates.counts(), self.engines.cells.counts());
        self.counts().residents.store((own.residents + cells.residents) as u64, Ordering::Relaxed);
        self.counts().ready.store((own.ready + cells.ready) as u64, Ordering::Relaxed);
        self.counts().isolate_bytes.store(own.memory + cells.memory, Ordering::Relaxed);
        // What the worker that had this place before has evicted stays counted.
        let evicted = own.evicted + cells.evicted;
        let before = self.evicted.replace(evicted);
        self.counts().evicted.fetch_add(evicted - before, Ordering::Relaxed);
        self.engines.cells.count(self.counts());
    }

    /// Answers `request` with its function, where that runs.
    ///
    /// # Errors
    /// When it could not be run at all.
    pub(crate) async fn invoke(
        &self,
        capabilities: &Rc<capabilities::Request>,
        request: Request<Body>,
    ) -> Result<Invoked, Fault> {
        let function = &capabilities.function;
        // Boxed: requests that need no cell would carry the room for it.
        if let Some(lease) = self.cell_for(function).await? {
            return Box::pin(lease.invoke(Rc::clone(capabilities), request)).await;
        }
        let invoked = self.engines.isolates.invoke(&**function, request, Rc::clone(capabilities) as _).await;
        let result = invoked.result.map(|response| response.map(ClientBody::Function)).map_err(Into::into);
        Ok(Invoked { result, timing: Some(invoked.timing) })
    }

    /// Starts a function before anybody asks for it.
    async fn warm(&self, function: &Arc<Function>) -> Result<(), Fault> {
        match self.cell_for(function).await? {
            Some(lease) => lease.warm(function).await,
            None => self.engines.isolates.warm(&**function).await.map_err(Fault::Function),
        }
    }

    /// The cell that a function is to run in; `None` for no cell.
    ///
    /// # Errors
    /// [`Fault::NoCell`]: it must not run anywhere else.
    async fn cell_for(&self, function: &Function) -> Result<Option<Lease>, Fault> {
        match function.isolation {
            Isolation::Process => Box::pin(self.engines.cells.lease(function)).await.map(Some),
            Isolation::Isolate if function.heavy.is_now(|| self.state.millis()) => {
                Ok(Box::pin(self.engines.cells.lease_apart(function)).await)
            }
            Isolation::Isolate => Ok(None),
        }
    }

    /// Requests that are under way, or whose `waitUntil` promises are.
    pub(crate) fn in_flight(&self) -> usize {
        self.engines.isolates.in_flight() + self.engines.cells.in_flight()
    }
}

/// What a worker is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Serve,
    /// Accept nothing more, finish what is under way, end.
    Drain,
    /// End at once: another worker has its place, and its clients have had their answers.
    Leave,
}

/// Serves until it is told to end. Runs inside a current-thread runtime.
pub(crate) async fn work(
    state: Arc<State>,
    index: usize,
    engines: impl FnOnce(&Arc<State>) -> Engines,
    listener: std::net::TcpListener,
    open: Arc<Connections>,
    mut orders: watch::Receiver<Order>,
) -> std::io::Result<()> {
    isolate::ask_for_short_turns();
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let engines = engines(&state);
    let provisions = state.enlist(index);
    let (upstream, placing) = (Arc::new(Upstream::new(Arc::clone(&state))), Placing::of(&state));
    let worker = Rc::new(Worker { upstream, placing, state, index, engines, evicted: Cell::new(0) });
    if worker.placing.is_some() {
        isolate::spawn_local(place::watch_lag(Rc::clone(&worker)));
        if index == 0 {
            isolate::spawn_local(place::watch_costs(Rc::clone(&worker)));
        }
    }
    // Before the first client.
    worker.provision(&worker.state.routes.load().provisioned).await;
    worker.count_isolates();
    isolate::spawn_local(tidy(Rc::clone(&worker), provisions));
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    let graceful = GracefulShutdown::new();
    let accept = async || {
        let permit = Arc::clone(&connections).acquire_owned().await.map_err(std::io::Error::other)?;
        // A worker that was given up takes no connection from the one in its place: they share the listener.
        let accepted = std::future::poll_fn(|cx| match worker.engines.isolates.is_lost() {
            true => Poll::Pending,
            false => listener.poll_accept(cx),
        });
        accepted.await.map(|accepted| (accepted, permit))
    };
    loop {
        let accepted = tokio::select! {
            accepted = accept() => accepted,
            _ = orders.wait_for(|order| *order != Order::Serve) => break,
        };
        match accepted {
            Ok(((stream, peer), permit)) => {
                connect(&worker, graceful.watcher(), orders.clone(), open.open(stream), peer, permit);
            }
            // Out of file descriptors, most likely: a pause lets connections end.
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
    drop(listener);
    let drained = async {
        graceful.shutdown().await;
        // Work that `waitUntil` was given goes on when nobody is connected any more.
        while worker.in_flight() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        _ = orders.wait_for(|order| *order == Order::Leave) => {}
        _ = tokio::time::timeout(DRAIN_DEADLINE, drained) => {}
    }
    Ok(())
}

/// Serves one connection. It may be silent for [`HEAD_TIMEOUT`] and no longer, from its first byte on.
fn connect(
    worker: &Rc<Worker>,
    graceful: Watcher,
    mut orders: watch::Receiver<Order>,
    socket: Socket,
    peer: SocketAddr,
    permit: OwnedSemaphorePermit,
) {
    let worker = Rc::clone(worker);
    let connection = Arc::clone(&socket.connection);
    isolate::spawn_local(async move {
        let protocol = tokio::select! {
            protocol = tokio::time::timeout(HEAD_TIMEOUT, protocol(&connection)) => protocol,
            _ = orders.wait_for(|order| *order != Order::Serve) => return,
        };
        let service = service_fn(|request| {
            let (worker, connection) = (Rc::clone(&worker), Arc::clone(&connection));
            async move { Ok::<_, Infallible>(serve(&worker, &connection, peer.ip(), request).await) }
        });
        let io = TokioIo::new(Patient::new(Counted::new(socket, Rc::clone(&worker)), worker.state.idle_timeout()));
        let ended = match protocol {
            Ok(Ok(Protocol::Http1)) => graceful.watch(http1(&worker.state).serve_connection(io, service)).await,
            Ok(Ok(Protocol::Http2)) => graceful.watch(http2().serve_connection(io, service)).await,
            Ok(Err(_)) | Err(_) => return,
        };
        // The peer went away, or spoke no HTTP: hyper has answered what can be answered.
        if let Err(error) = ended {
            tracing::debug!(%peer, %error, "connection ended");
        }
        drop(permit);
    });
}

enum Protocol {
    Http1,
    Http2,
}

/// What the client speaks.
async fn protocol(connection: &Connection) -> std::io::Result<Protocol> {
    let mut first = [0; PREFACE.len()];
    loop {
        let seen = std::future::poll_fn(|cx| connection.poll_peek(cx, &mut ReadBuf::new(&mut first))).await?;
        if !PREFACE.starts_with(&first[..seen]) || seen == 0 {
            return Ok(Protocol::Http1);
        }
        if seen == PREFACE.len() {
            connection.speaks_http2();
            return Ok(Protocol::Http2);
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn http1(state: &State) -> hyper::server::conn::http1::Builder {
    // PoPs add a few fields to what their clients send.
    let (bytes, fields) =
        if state.region.is_some() { (2 * HEAD_BYTES, 2 * HEAD_FIELDS) } else { (HEAD_BYTES, HEAD_FIELDS) };
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(HeadTimer).header_read_timeout(HEAD_TIMEOUT).max_buf_size(bytes).max_headers(fields);
    builder
}

fn http2() -> hyper::server::conn::http2::Builder<Local> {
    let mut builder = hyper::server::conn::http2::Builder::new(Local);
    builder.timer(TokioTimer::new()).max_concurrent_streams(HTTP2_STREAMS).max_header_list_size(HEAD_BYTES as u32);
    builder
}

impl Worker {
    /// Starts the functions that this worker has to have started, and has not.
    async fn provision(&self, functions: &[Arc<Function>]) {
        let wanted = |function: &&Arc<Function>| function.is_kept_by(self.index);
        // One that costs workers would cost them without being asked for.
        let bearable = |function: &&Arc<Function>| !function.quarantined.load(Ordering::Relaxed);
        for function in functions.iter().filter(wanted).filter(bearable) {
            if let Err(fault) = self.warm(function).await {
                tracing::warn!(pop = %self.state.name, function = %function.label, code = fault.code(), "not kept ready: {fault}");
            }
        }
    }
}

async fn tidy(worker: Rc<Worker>, mut provisions: mpsc::UnboundedReceiver<Provision>) {
    loop {
        if let Ok(Some(Provision { functions, done })) = tokio::time::timeout(TIDY_EVERY, provisions.recv()).await {
            worker.provision(&functions).await;
            drop(done);
            continue;
        }
        // Each time anew: a request that was routed before a change may start the old version after it.
        let routes = worker.state.routes.load_full();
        worker.engines.isolates.retain(|version| routes.has(version));
        // One that broke a limit is gone, and started again.
        worker.provision(&routes.provisioned).await;
        worker.engines.isolates.tidy().await;
        worker.engines.cells.tidy(routes.has_cells, |version| routes.has(version));
        worker.count_isolates();
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
