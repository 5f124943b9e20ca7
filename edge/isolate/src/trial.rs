//! Trying programs on a thread of its own: one that costs the thread costs nobody else anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{mpsc, oneshot};

use crate::code_cache::CodeCache;
use crate::fault::Fault;
use crate::loss::Loss;
use crate::platform::{Platform, STACK_BYTES};
use crate::program::Program;
use crate::watchdog::Watchdog;
use crate::worker::{Config, Worker};

/// Where programs are tried, one after the other.
pub struct Trial {
    platform: Platform,
    watchdog: Watchdog,
    thread: Option<Thread>,
}

/// A thread with a worker. It ends with its jobs.
#[derive(Debug)]
struct Thread {
    jobs: mpsc::UnboundedSender<Job>,
    losses: mpsc::UnboundedReceiver<Loss>,
}

#[derive(Debug)]
struct Job {
    program: Arc<Program>,
    paths: Vec<String>,
    /// Set once the program has started.
    started: Arc<AtomicBool>,
    done: oneshot::Sender<Result<CodeCache, Fault>>,
}

impl Trial {
    /// Nothing runs yet: the thread comes with the first program.
    pub fn new(platform: Platform, watchdog: Watchdog) -> Self {
        Self { platform, watchdog, thread: None }
    }

    /// Starts `program`, calls it with a GET of each path as no client does, and gives V8's code cache of all that was
    /// compiled on the way; none when a call was more than its thread could stand, which says nothing of other calls.
    /// Dropping the future gives the thread up.
    ///
    /// # Errors
    /// [`Fault::Boot`] or the limit that the start broke.
    pub async fn compile(&mut self, program: &Arc<Program>, paths: &[&str]) -> Result<Option<CodeCache>, Fault> {
        // Kept only when it comes back: a future that is dropped leaves a thread that is still busy.
        let mut thread = match self.thread.take() {
            Some(thread) => thread,
            None => self.thread()?,
        };
        let started = Arc::new(AtomicBool::new(false));
        let (done, answer) = oneshot::channel();
        let paths = paths.iter().map(|&path| path.to_owned()).collect();
        let job = Job { program: Arc::clone(program), paths, started: Arc::clone(&started), done };
        let gone = || Fault::Boot("the thread that was to try it has ended".to_owned());
        thread.jobs.send(job).map_err(|_| gone())?;
        tokio::select! {
            compiled = answer => {
                self.thread = Some(thread);
                compiled.map_err(|_| gone())?.map(Some)
            }
            Some(loss) = thread.losses.recv() => match started.load(Ordering::Acquire) {
                true => Ok(None),
                false => Err(Fault::Boot(loss.cause.to_string())),
            },
        }
    }

    fn thread(&self) -> Result<Thread, Fault> {
        let (jobs, mut received) = mpsc::unbounded_channel::<Job>();
        let (lost, losses) = mpsc::unbounded_channel();
        let watchdog = self.watchdog.telling(move |loss| drop(lost.send(loss)));
        let platform = self.platform;
        let failed = |error: std::io::Error| Fault::Boot(format!("no isolate could be made to try it: {error}"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let body = move || {
            runtime.block_on(async {
                let config = Config { ready: 1, ..Config::default() };
                let worker = Worker::new(platform, &watchdog, config);
                while let Some(Job { program, paths, started, done }) = received.recv().await {
                    let _ = done.send(worker.compile(&program, &paths, &started).await);
                }
            });
        };
        let thread = std::thread::Builder::new().name("trial".to_owned()).stack_size(STACK_BYTES);
        thread.spawn(body).map_err(failed)?;
        Ok(Thread { jobs, losses })
    }
}

/// Starts `program` once, as a deploy does before it uploads.
///
/// # Errors
/// [`Fault::Boot`] or the limit that the start broke.
pub fn check(platform: Platform, program: Program) -> Result<(), Fault> {
    let failed = |error: std::io::Error| Fault::Boot(format!("no isolate could be made to try it: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let mut trial = Trial::new(platform, Watchdog::start().map_err(failed)?);
    runtime.block_on(trial.compile(&Arc::new(program), &[])).map(drop)
}
