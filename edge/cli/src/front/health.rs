//! Which PoPs answer: marked down at once when a request finds one gone, up again by a health check.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::error::Elapsed;

use super::Front;

/// Path that a PoP answers with 200 while it takes requests.
pub(crate) const PATH: &str = pop::HEALTH_PATH;

/// Between two checks of a PoP that answers.
pub(crate) const UP_INTERVAL: Duration = Duration::from_secs(1);

/// Between two checks of a PoP that does not.
pub(crate) const DOWN_INTERVAL: Duration = Duration::from_millis(250);

/// Longest wait for a health check's answer.
pub(crate) const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// Whether each PoP answers.
#[derive(Debug)]
pub(crate) struct Health(Vec<State>);

#[derive(Debug)]
struct State {
    up: AtomicBool,
    /// It is about to end: nothing new goes there.
    leaving: AtomicBool,
    /// Requests that wait for the head of its answer.
    waiting: AtomicUsize,
    /// Whether the last check found it silent: it takes connections and answers nothing, as a stopped process does.
    silent: watch::Sender<bool>,
    /// Ends the pause before the next check.
    check: Notify,
}

impl Health {
    /// PoPs that are up or not.
    pub(super) fn new(up: impl Iterator<Item = bool>) -> Self {
        let state = |up| State {
            up: AtomicBool::new(up),
            leaving: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
            silent: watch::Sender::new(false),
            check: Notify::new(),
        };
        Self(up.map(state).collect())
    }

    /// Whether the PoP `index` answers and goes on doing so.
    pub(crate) fn is_up(&self, index: usize) -> bool {
        let open = |state: &State| state.up.load(Ordering::Relaxed) && !state.leaving.load(Ordering::Relaxed);
        self.0.get(index).is_some_and(open)
    }

    /// Requests that wait for the head of its answer.
    pub(super) fn waiting(&self, index: usize) -> usize {
        self.0.get(index).map_or(0, |state| state.waiting.load(Ordering::Relaxed))
    }

    /// One more of them, until what is returned is dropped.
    pub(super) fn wait(&self, index: usize) -> Option<Waiting<'_>> {
        let state = self.0.get(index)?;
        state.waiting.fetch_add(1, Ordering::Relaxed);
        Some(Waiting(state))
    }

    /// The PoP ends soon, or does not any more.
    pub(super) fn leave(&self, index: usize, leaving: bool) {
        if let Some(state) = self.0.get(index) {
            state.leaving.store(leaving, Ordering::Relaxed);
            state.check.notify_one();
        }
    }

    /// Resolves when a check finds the PoP silent that was not before. One that has been silent all along is asked only
    /// when no other PoP answers, and then there is nowhere else to go.
    pub(super) async fn hangs(&self, index: usize) {
        let Some(state) = self.0.get(index) else { return std::future::pending().await };
        let mut silent = state.silent.subscribe();
        while silent.changed().await.is_ok() {
            if *silent.borrow() {
                return;
            }
        }
    }

    /// The PoP cannot be reached: out until a check finds it again.
    pub(super) fn down(&self, index: usize) {
        if let Some(state) = self.0.get(index) {
            state.up.store(false, Ordering::Relaxed);
            state.check.notify_one();
        }
    }

    /// The PoP broke a request off: it may be going, so it is checked now instead of later.
    pub(super) fn suspect(&self, index: usize) {
        if let Some(state) = self.0.get(index) {
            state.check.notify_one();
        }
    }
}

/// A request that waits.
pub(super) struct Waiting<'a>(&'a State);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Checks every PoP until the returned set is dropped.
pub(super) fn watch_all(front: Arc<Front>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for index in 0..front.config.backends.len() {
        let front = Arc::clone(&front);
        tasks.spawn(async move {
            let address = front.config.backends[index].address;
            let state = &front.health.0[index];
            loop {
                let answer = ask(address).await;
                let up = matches!(answer, Ok(Some(status)) if status.is_success());
                state.up.store(up, Ordering::Relaxed);
                state.silent.send_if_modified(|silent| std::mem::replace(silent, answer.is_err()) != answer.is_err());
                let interval = if up { UP_INTERVAL } else { DOWN_INTERVAL };
                let hurried = tokio::time::timeout(interval, state.check.notified()).await.is_ok();
                if hurried && !up {
                    // Requests that find it still gone must not turn the pause into a spin.
                    tokio::time::sleep(DOWN_INTERVAL).await;
                }
            }
        });
    }
    tasks
}

/// What a PoP answers to a health check; `None` when it does not.
pub(crate) async fn probe(address: SocketAddr) -> Option<StatusCode> {
    ask(address).await.ok().flatten()
}

/// What a PoP answers to a health check; `None` when there is no connection or it breaks. Asked on a connection of its
/// own: a pooled one could outlive its listener.
///
/// # Errors
/// When the PoP is silent for [`CHECK_TIMEOUT`].
async fn ask(address: SocketAddr) -> Result<Option<StatusCode>, Elapsed> {
    let exchange = async {
        let stream = TcpStream::connect(address).await.ok()?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
        let request = Request::get(PATH)
            .header(header::HOST, address.to_string())
            .header(header::CONNECTION, "close")
            .body(Empty::<Bytes>::new())
            .ok()?;
        // The sender goes with the answer, and the connection with the sender.
        let answer = async move { sender.send_request(request).await.ok().map(|answer| answer.status()) };
        let (status, _) = tokio::join!(answer, connection);
        status
    };
    tokio::time::timeout(CHECK_TIMEOUT, exchange).await
}
