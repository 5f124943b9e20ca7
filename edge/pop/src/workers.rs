//! The worker threads of a PoP: started, and replaced when one is lost.

use std::collections::{HashMap, HashSet};
use std::net::TcpListener;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::ThreadId;
use std::time::Duration;

use isolate::{Loss, Platform, Watchdog};
use tokio::sync::{mpsc, watch};

use crate::cell::{self, Cells};
use crate::config::StartError;
use crate::connection::Connections;
use crate::fault::Fault;
use crate::listen::thread;
use crate::state::State;
use crate::strikes;
use crate::worker::{Engines, Order, work};

/// Lost threads that a process bears at a time. Each holds its isolates, and what the function had made by then, until it
/// comes back, if it does; with more, the process drains and ends, so that its supervisor starts a fresh one.
const MOST_LOST: usize = 8;
/// For how long a client of a lost worker may read its answer.
const TIME_TO_READ: Duration = Duration::from_secs(2);

/// What happens to threads that run functions.
pub(crate) enum Event {
    /// The thread with this number is lost.
    Lost(u64, Loss),
    /// It has ended; a lost one may do so late.
    Ended(u64),
}

/// All workers of a PoP, and who is told of what happens to them.
pub(crate) struct Workers {
    state: Arc<State>,
    platform: Platform,
    watchdog: Watchdog,
    isolates: isolate::Config,
    cells: Option<cell::Maker>,
    sender: mpsc::UnboundedSender<Event>,
    events: mpsc::UnboundedReceiver<Event>,
    next: u64,
    posts: HashMap<u64, Post>,
    /// Threads that are lost and have not ended.
    lost: HashSet<u64>,
}

/// One worker, and what another needs to take its place.
struct Post {
    index: usize,
    thread: ThreadId,
    /// Connections that wait in it go over to the next worker. `None` once the PoP drains.
    listener: Option<TcpListener>,
    open: Arc<Connections>,
    orders: watch::Sender<Order>,
    /// The processes of its cells, which end with it.
    cells: cell::Pids,
}

impl Workers {
    pub(crate) fn new(
        state: Arc<State>,
        platform: Platform,
        watchdog: Watchdog,
        isolates: isolate::Config,
        cells: Option<cell::Maker>,
    ) -> Self {
        let (sender, events) = mpsc::unbounded_channel();
        Self {
            state,
            platform,
            watchdog,
            isolates,
            cells,
            sender,
            events,
            next: 0,
            posts: HashMap::new(),
            lost: HashSet::new(),
        }
    }

    /// Starts the thread of a worker.
    ///
    /// # Errors
    /// [`StartError::Thread`].
    pub(crate) fn start(&mut self, index: usize, listener: TcpListener) -> Result<(), StartError> {
        let number = self.next;
        self.state.load.begin(index, self.state.micros());
        self.next += 1;
        let (orders, order) = watch::channel(Order::Serve);
        let open = Arc::<Connections>::default();
        let (state, platform, connections) = (Arc::clone(&self.state), self.platform, Arc::clone(&open));
        let (config, maker, cells) = (self.isolates, self.cells.clone(), cell::Pids::default());
        let pids = cells.clone();
        let shared = listener.try_clone().map_err(StartError::Thread)?;
        let (lost, ended) = (self.sender.clone(), self.sender.clone());
        // Nobody receives once the PoP has ended.
        let watchdog = self.watchdog.telling(move |loss| drop(lost.send(Event::Lost(number, loss))));
        let thread = thread(&format!("worker-{index}"), move |runtime| {
            let engines = |state: &_| Engines {
                isolates: isolate::Worker::new(platform, &watchdog, config),
                cells: Cells::new(state, index, maker, pids),
            };
            if let Err(error) = runtime.block_on(work(state, index, engines, shared, connections, order)) {
                tracing::error!(%error, "a worker has ended");
            }
            drop(runtime);
            let _ = ended.send(Event::Ended(number));
        })?;
        self.posts.insert(number, Post { index, thread, listener: Some(listener), open, orders, cells });
        Ok(())
    }

    /// Replaces lost workers until `shutdown` resolves, then drains all.
    ///
    /// # Errors
    /// [`StartError::WornOut`] when the process should be replaced instead. It has drained then.
    pub(crate) async fn supervise(mut self, shutdown: impl Future<Output = ()>) -> Result<(), StartError> {
        let mut shutdown = pin!(shutdown);
        let worn_out = loop {
            let event = tokio::select! {
                () = &mut shutdown => break None,
                event = self.events.recv() => event,
            };
            if let Some(event) = event
                && let Some(why) = self.take(event)
            {
                break Some(why);
            }
        };
        if let Some(why) = &worn_out {
            tracing::error!(pop = %self.state.name, "this process drains and ends, to be started afresh: {why}");
        }
        self.state.draining.store(true, Ordering::Relaxed);
        for post in self.posts.values_mut() {
            post.listener = None;
            post.orders.send_replace(Order::Drain);
        }
        while !self.posts.is_empty() {
            let Some(event) = self.events.recv().await else { break };
            self.take(event);
        }
        worn_out.map_or(Ok(()), |why| Err(StartError::WornOut(why)))
    }

    /// Does what an event asks for. Why the process should end, if it should.
    fn take(&mut self, event: Event) -> Option<String> {
        match event {
            Event::Ended(number) => {
                self.lost.remove(&number);
                self.posts.remove(&number);
                None
            }
            Event::Lost(number, loss) => {
                self.lost.insert(number);
                self.state.metrics.lost.add(loss.cause.as_str(), 1);
                self.replace(number, &loss);
                if loss.cause.taints_process() {
                    return Some(loss.cause.to_string());
                }
                let count = self.lost.len();
                (count > MOST_LOST).then(|| format!("{count} of its threads are lost in functions"))
            }
        }
    }

    /// Puts a new worker in the place of a lost one, and answers its clients.
    fn replace(&mut self, number: u64, loss: &Loss) {
        let mut requests = Vec::new();
        if let Some(mut post) = self.posts.remove(&number) {
            if let Some(listener) = post.listener.take()
                && let Err(error) = self.start(post.index, listener)
            {
                tracing::error!(%error, worker = post.index, "a lost worker could not be replaced");
            }
            post.orders.send_replace(Order::Leave);
            post.cells.kill();
            let abandoned = post.open.abandon(&self.state, &Fault::WorkerLost);
            requests.extend(abandoned.iter().filter_map(|connection| connection.request.clone()));
            tokio::spawn(async move {
                tokio::time::sleep(TIME_TO_READ).await;
                drop(abandoned);
            });
            // Others wait for what this worker was fetching.
            self.state.cache.abandon(post.thread);
        }
        self.blame(loss, &requests.join(","));
    }

    /// Notes on whose account a worker was lost.
    fn blame(&self, loss: &Loss, requests: &str) {
        let (pop, cause) = (&self.state.name, &loss.cause);
        let Some(version) = loss.program.as_ref().map(|program| &program.version) else {
            tracing::error!(target: "function", %pop, requests, "a worker was lost between functions: {cause}");
            return;
        };
        strikes::blame(&self.state, "worker", version, &cause.to_string(), requests);
    }
}
