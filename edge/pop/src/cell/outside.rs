//! A cell as its PoP has it: the process, what it may ask for, and what becomes of its requests when it ends.
//!
//! Nothing that a cell says is believed before it was parsed and found to be about an invocation that this very cell has.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as Pair;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use isolate::limits::Limit;
use isolate::{Capabilities as _, Counts, Source as _};
use rustix::process::Pid;
use serde_bytes::Bytes;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::sync::{Notify, watch};

use super::calls;
use super::link::{Link, Side};
use super::loss::{Loss, Pids};
use super::message::{Boot, Note, Parcel, Query, decode, encode};
use super::walls::Walls;
use super::wire::Ended;
use crate::capabilities;
use crate::fault::Fault;
use crate::function::Function;
use crate::state::State;

/// Time for a new cell to become ready: it takes a few hundredths of a second on a quiet machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// Time for a process to be gone after it has closed its sockets.
const TIME_TO_END: Duration = Duration::from_secs(1);
/// Bytes of what V8 says of its end that are kept for the log.
const WORDS: u64 = 16 << 10;
/// A function's own limits end what takes too long, in the cell. Only a cell that is not what it was still has a request
/// so much later.
const GRACE: Duration = Duration::from_secs(30);

/// Niceness of a cell that is to let others go first.
const BEHIND: i32 = 10;

/// Invocations of one cell: more than the limits of a few functions let begin.
const MOST_FLIGHTS: usize = 16_384;

/// How cells are made.
#[derive(Clone, Debug)]
pub(crate) struct Maker {
    /// The program that is a cell as `skerry cell` is.
    pub(crate) program: PathBuf,
    pub(crate) isolates: isolate::Config,
    /// What its isolates start from; `None` for the build's own.
    pub(crate) snapshot: Option<&'static [u8]>,
}

/// How far a cell has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Starting,
    Ready,
    Ended,
}

/// A process that runs the functions of one tenant for one worker.
pub(crate) struct Outside {
    pub(super) state: Arc<State>,
    pub(super) link: Rc<Link>,
    pub(super) pid: u32,
    life: watch::Sender<Life>,
    /// What it may be asked to run, by version: it gets the program of nothing else.
    pub(super) functions: RefCell<HashMap<String, Arc<Function>>>,
    /// What it may ask for: each for an invocation that it has.
    pub(super) flights: RefCell<HashMap<u64, Flight>>,
    pub(super) counts: Cell<Counts>,
    pub(super) last_used: Cell<Instant>,
    /// Those who use it, or are about to.
    pub(super) holders: Cell<usize>,
    is_behind: Cell<bool>,
    /// It is to end, for this reason; `None` for none but that it is not needed.
    dismissed: RefCell<Option<Option<Loss>>>,
    dismissing: Notify,
}

/// An invocation that a cell has.
pub(super) struct Flight {
    pub(super) request: Rc<capabilities::Request>,
    /// `fetch()` calls left. The cell counts them too, and is the one to say so.
    pub(super) fetches: Cell<u64>,
    /// Bytes of log left.
    pub(super) log_bytes: Cell<u64>,
    /// Time that the PoP has spent in calls of its bindings: processor time that nobody counts in the cell.
    calls: Cell<Duration>,
    began: Instant,
    pub(super) answered: Cell<bool>,
    /// Since when nobody waits for it any more: only `waitUntil` keeps it.
    released: Cell<Option<Instant>>,
}

impl Flight {
    /// Whether the cell should have said that it is over.
    fn is_forgotten(&self) -> bool {
        let limits = &self.request.function.limits;
        self.released.get().is_some_and(|since| since.elapsed() > limits.time(Limit::WaitUntil) + GRACE)
    }

    /// Whether the cell should have answered, a slow start before it included.
    fn is_late(&self) -> bool {
        let limits = &self.request.function.limits;
        let most = limits.time(Limit::Wall) * 2 + limits.time(Limit::Startup) * 20 + GRACE;
        !self.answered.get() && self.released.get().is_none() && self.began.elapsed() > most
    }
}

impl Outside {
    /// Starts a process. It becomes ready, or ends, on this thread's event loop.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn start(state: &Arc<State>, maker: &Maker, pids: &Pids) -> io::Result<Rc<Self>> {
        isolate::keep_descriptors()?;
        let [socket, calls, words] = [Pair::pair()?, Pair::pair()?, Pair::pair()?];
        let theirs = |pair: Pair| Stdio::from(OwnedFd::from(pair));
        let child = Command::new(&maker.program)
            .arg("cell")
            .env_clear()
            .stdin(theirs(socket.1))
            .stdout(theirs(calls.1))
            .stderr(theirs(words.1))
            .kill_on_drop(true)
            .spawn()?;
        let [socket, calls, words] = [socket.0, calls.0, words.0].map(|own| {
            own.set_nonblocking(true)?;
            UnixStream::from_std(own)
        });
        let cell = Rc::new(Self {
            state: Arc::clone(state),
            link: Link::new(Side::Pop),
            pid: child.id().unwrap_or_default(),
            life: watch::Sender::new(Life::Starting),
            functions: RefCell::default(),
            flights: RefCell::default(),
            counts: Cell::default(),
            last_used: Cell::new(Instant::now()),
            holders: Cell::new(0),
            is_behind: Cell::new(false),
            dismissed: RefCell::default(),
            dismissing: Notify::new(),
        });
        let (living, maker, pids) = (Rc::clone(&cell), maker.clone(), pids.clone());
        pids.insert(cell.pid);
        let (socket, calls, words) = (socket?, calls?, words?);
        isolate::spawn_local(async move {
            isolate::spawn_local(tell_words(Rc::clone(&living), words));
            living.live(child, socket, calls, &maker).await;
            pids.remove(living.pid);
        });
        Ok(cell)
    }

    /// Waits until it can be asked.
    ///
    /// # Errors
    /// It has ended, or does not come to it.
    pub(super) async fn ready(&self) -> Result<(), String> {
        let mut life = self.life.subscribe();
        let ready = tokio::time::timeout(PATIENCE, life.wait_for(|life| *life != Life::Starting)).await;
        match ready {
            Ok(Ok(life)) if *life == Life::Ready => Ok(()),
            Ok(_) => Err("the process of a cell has ended as soon as it began; the log has its words".to_owned()),
            Err(_) => Err(format!("the process of a cell was not ready within {} s", PATIENCE.as_secs())),
        }
    }

    pub(super) fn is_ready(&self) -> bool {
        *self.life.borrow() == Life::Ready
    }

    pub(super) fn has_ended(&self) -> bool {
        *self.life.borrow() == Life::Ended || self.dismissed.borrow().is_some()
    }

    /// Lets workers, and the other cells, go first. There is no way back.
    pub(super) fn step_back(&self) {
        if !self.is_behind.replace(true) {
            // It leads a group of its own: this is for all its threads.
            let group = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
            let _ = group.map(|group| rustix::process::setpriority_pgrp(Some(group), BEHIND));
        }
    }

    /// Whether nothing is under way in it, or about to be.
    pub(super) fn is_idle(&self) -> bool {
        self.holders.get() == 0 && self.flights.borrow().is_empty()
    }

    /// Ends it: for a loss, or because nobody needs it.
    pub(super) fn dismiss(&self, loss: Option<Loss>) {
        self.dismissed.borrow_mut().get_or_insert(loss);
        self.dismissing.notify_one();
    }

    /// An invocation begins.
    ///
    /// # Errors
    /// When the cell has more of them than any has that works.
    pub(super) fn admit(self: &Rc<Self>, request: &Rc<capabilities::Request>) -> Result<Landing, Fault> {
        if self.flights.borrow().len() >= MOST_FLIGHTS {
            return Err(Fault::NoCell(format!("{MOST_FLIGHTS} requests of its tenant are under way")));
        }
        let number = self.link.number();
        let limits = &request.function.limits;
        let flight = Flight {
            request: Rc::clone(request),
            fetches: Cell::new(limits.get(Limit::Subrequests)),
            // What the limit allows, and what it says when it is reached.
            log_bytes: Cell::new(limits.get(Limit::Log) + (64 << 10)),
            calls: Cell::default(),
            began: Instant::now(),
            answered: Cell::new(false),
            released: Cell::new(None),
        };
        self.flights.borrow_mut().insert(number, flight);
        Ok(Landing { cell: Rc::clone(self), number })
    }

    /// Housekeeping, about once a second: what the cell should have said to be over, is.
    pub(super) fn tidy(&self) {
        let gone: Vec<_> = self.flights.borrow_mut().extract_if(|_, flight| flight.is_forgotten()).collect();
        drop(gone);
        if self.link.is_stuck() || self.flights.borrow().values().any(Flight::is_late) {
            self.dismiss(Some(Loss::Misconduct("nothing: a request is long over its limits".to_owned())));
        }
    }

    /// Serves the process until it ends, and says what that was about.
    async fn live(self: &Rc<Self>, mut child: Child, socket: UnixStream, mut calls: UnixStream, maker: &Maker) {
        let ended = tokio::select! {
            biased;
            loss = self.converse(&mut calls, maker) => loss,
            ended = self.link.run(socket, self) => Loss::of(ended),
            () = self.dismissing.notified() => None,
        };
        if self.dismissed.borrow().is_some() || matches!(ended, Some(Loss::Misconduct(_))) {
            let _ = child.start_kill();
        }
        // A process that goes by itself may take a moment to be gone, and its status says why.
        let status = match tokio::time::timeout(TIME_TO_END, child.wait()).await {
            Ok(status) => status.ok(),
            Err(_) => {
                let _ = child.kill().await;
                None
            }
        };
        let was_ready = self.life.send_replace(Life::Ended) == Life::Ready;
        match self.dismissed.borrow_mut().take() {
            Some(None) => {}
            Some(Some(loss)) => self.blame(&loss),
            None if was_ready => self.blame(&ended.unwrap_or_else(|| Loss::Ended(describe(status)))),
            None => {
                let pop = &self.state.name;
                tracing::error!(%pop, pid = self.pid, "the process of a cell ended before it was ready: {}", describe(status));
            }
        }
        // The answers last: whoever asks again finds the function's strike counted.
        self.link.end();
        self.flights.take();
    }

    /// Tells the cell what it is, and answers its calls. Ends with the loss that the cell reports.
    async fn converse(&self, calls: &mut UnixStream, maker: &Maker) -> Option<Loss> {
        let boot = Boot { isolates: maker.isolates, snapshot: maker.snapshot.map(Bytes::new) };
        let conversation = async {
            calls::say(calls, &boot).await?;
            loop {
                let said = calls::hear(calls).await?;
                match decode::<Query<'_>>(&said)? {
                    Query::Ready(walls) if *self.life.borrow() == Life::Starting => {
                        self.tell_walls(walls)?;
                        self.life.send_replace(Life::Ready);
                    }
                    Query::Ready(_) => return Err(Ended::Misconduct("that it is ready, once more")),
                    Query::Lost { version, cause } => {
                        let version = version.filter(|version| self.functions.borrow().contains_key(*version));
                        return Ok(Loss::Function { version: version.map(str::to_owned), cause });
                    }
                    Query::Load { version } => {
                        let function = self.functions.borrow().get(version).map(Arc::clone);
                        let function =
                            function.ok_or(Ended::Misconduct("the version of a function that it has not"))?;
                        let loaded = function.load();
                        let parcel = loaded.as_ref().map(|(program, found)| Parcel::new(program, found));
                        calls::say(calls, &parcel).await?;
                    }
                    Query::Cf { invocation } => {
                        let cf = self.call(invocation, |request| Ok(request.cf()));
                        calls::say_bytes(calls, cf.as_deref().unwrap_or("{}").as_bytes()).await?;
                    }
                    Query::Call { invocation, binding, method, argument } => {
                        let answer = self.call(invocation, |request| request.call(binding, method, argument));
                        calls::say(calls, &answer).await?;
                    }
                }
            }
        };
        match conversation.await {
            Ok(loss) => Some(loss),
            Err(ended) => Loss::of(ended),
        }
    }

    /// Does something for an invocation that this cell has, as long as it all takes no more than the invocation's processor
    /// time: the worker's other requests wait for it.
    fn call(
        &self,
        invocation: u64,
        body: impl FnOnce(&capabilities::Request) -> Result<String, String>,
    ) -> Result<String, String> {
        let flights = self.flights.borrow();
        let flight = flights.get(&invocation).ok_or("the request of this call is over")?;
        if flight.calls.get() > flight.request.function.limits.time(Limit::Cpu) {
            return Err("the calls of this request have used up its processor time (cpu_ms)".to_owned());
        }
        let began = Instant::now();
        let answer = body(&flight.request);
        flight.calls.set(flight.calls.get() + began.elapsed());
        answer
    }

    /// The request of an invocation that this cell has.
    pub(super) fn request(&self, invocation: u64) -> Option<Rc<capabilities::Request>> {
        self.flights.borrow().get(&invocation).map(|flight| Rc::clone(&flight.request))
    }

    /// Tells the cell of versions that are not live any more.
    pub(super) fn retire(&self, is_live: impl Fn(&str) -> bool) {
        let gone: Vec<_> = self.functions.borrow_mut().extract_if(|version, _| !is_live(version)).collect();
        if !gone.is_empty() {
            let versions = gone.iter().map(|(version, _)| version.as_str()).collect();
            self.link.tell(&encode(&Note::Retire(versions)));
        }
    }

    /// Says once for all cells of a PoP what holds them.
    fn tell_walls(&self, walls: Walls) -> Result<(), Ended> {
        if !walls.seccomp {
            return Err(Ended::Misconduct("that it has no wall"));
        }
        if self.state.walls.set(()).is_ok() {
            let (pop, landlock) = (&self.state.name, walls.landlock.as_str());
            tracing::info!(%pop, seccomp = walls.seccomp, landlock, no_new_privileges = true, "functions run in cells");
        }
        Ok(())
    }
}

/// An invocation, for as long as somebody waits for its answer or reads it.
pub(crate) struct Landing {
    pub(super) cell: Rc<Outside>,
    pub(super) number: u64,
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.cell.last_used.set(Instant::now());
        if let Some(flight) = self.cell.flights.borrow().get(&self.number) {
            flight.released.set(Some(Instant::now()));
        }
    }
}

/// How a process ended, for people.
fn describe(status: Option<ExitStatus>) -> String {
    const SIGSYS: i32 = 31;
    const SIGKILL: i32 = 9;
    match status.map(|status| (status.signal(), status.code())) {
        Some((Some(SIGSYS), _)) => {
            "the kernel ended it: it made a system call that no function has a use for".to_owned()
        }
        Some((Some(SIGKILL), _)) => "it was killed, by the kernel for its memory or by hand".to_owned(),
        Some((Some(signal), _)) => format!("it ended with signal {signal}"),
        Some((None, Some(code))) => format!("it ended with exit code {code}"),
        Some((None, None)) | None => "it closed its sockets".to_owned(),
    }
}

/// Passes on what the process says beside the protocol: V8's words at its end.
async fn tell_words(cell: Rc<Outside>, words: UnixStream) {
    let mut lines = BufReader::new(words.take(WORDS)).split(b'\n');
    while let Ok(Some(line)) = lines.next_segment().await {
        let line = String::from_utf8_lossy(&line);
        tracing::warn!(target: "cell", pop = %cell.state.name, pid = cell.pid, "{}", line.escape_debug());
    }
}
