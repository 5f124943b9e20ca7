//! Stored responses on a disk: a file each, and an index of them in memory.
//!
//! ```text
//! put     worker: supersede (index) ── queue ──> writer thread: temporary file, checksums, rename, index
//! remove  worker: out of the index  ───────────> writer thread: unlink
//! look    worker: index ── blocking thread: open, verify ──> worker: into memory, if the index still says so
//! ```
//!
//! * **Nothing waits for the disk** but who wants what is on it, and the answer to a request that invalidates: it is sent
//!   when the files are gone, so that they do not come back with a restart.
//! * **The index decides.** What a worker removes or replaces is out of the index at once; files follow. One thread does
//!   all that gives files their names and takes them away, in the order in which it was told. Each order has a stamp,
//!   and whoever was busy meanwhile (a write, a read) asks whether its stamp still counts.
//! * **A file is whole or it is none.** It is written under a temporary name and renamed; checksums find what power
//!   failures and disks do to it (see [`format`]). Nothing is fsynced: a cache may forget.
//! * **A failing disk is done without.** The first error turns it off for [`DiskConfig::retry`]: responses stay in memory
//!   only, which is counted and logged. The next write after that shows whether it is back.
//!
//! After a power failure, unlike after a crash of the process, a file may be back that was removed in the last seconds
//! before; nginx and others have that too. What was purged stays purged: a head says which purges it has seen.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use futures::channel::oneshot;

use crate::config::DiskConfig;
use crate::entry::{Entry, Head};

mod file;
mod format;
mod index;
mod recall;
mod record;
mod scan;
mod spill;
mod status;
mod writer;

pub(crate) use file::{FileReader, StoredFile};
pub(crate) use recall::Look;
pub(crate) use spill::{Readable, Spill, Spilled};
pub use status::DiskStatus;

use index::{FileId, Index, Stamp};
use recall::Recalls;

/// The disk of one cache. Dropping it ends its threads, after what was ordered was done.
pub(crate) struct Disk {
    inner: Arc<Inner>,
}

struct Inner {
    config: DiskConfig,
    /// Longer bodies stay on the disk when they are read.
    memory_limit: u64,
    state: Mutex<State>,
    /// There is something to do for the writer.
    wake: Condvar,
    counts: status::Counts,
    /// Numbers of temporary files.
    temporary: AtomicU64,
    closing: AtomicBool,
}

struct State {
    index: Index,
    jobs: std::collections::VecDeque<Job>,
    queued_bytes: u64,
    /// Who waits until files are gone.
    waiting: Vec<oneshot::Sender<()>>,
    health: Health,
    recalls: Recalls,
    /// Large files that are open, to close them when they are evicted.
    open: HashMap<FileId, Weak<StoredFile>>,
    /// Bodies that are on their way to the disk while they arrive.
    spills: usize,
    /// Temporary files that are to be removed.
    litter: Vec<PathBuf>,
}

enum Health {
    /// The folder is not there yet.
    Starting,
    Working,
    /// It failed, and is left alone until then.
    Failing(Instant),
}

/// What the writer is to do.
enum Job {
    Write { order: Order, entry: Arc<Entry>, bytes: u64 },
    Update { order: Order, head: Arc<Head>, file: Arc<StoredFile> },
    Commit { order: Order, path: PathBuf, size: u64 },
}

/// A write that was announced.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Order {
    id: FileId,
    stamp: Stamp,
}

/// Most orders that wait, whatever their bytes.
const MAX_JOBS: usize = 4096;

impl Disk {
    /// Starts the threads; the folder is made ready by them.
    pub(crate) fn start(config: DiskConfig, memory_limit: u64, max_variants: usize) -> Self {
        let state = State {
            index: Index::new(config.capacity_bytes, config.max_files, max_variants),
            jobs: std::collections::VecDeque::new(),
            queued_bytes: 0,
            waiting: Vec::new(),
            health: Health::Starting,
            recalls: Recalls::default(),
            open: HashMap::new(),
            spills: 0,
            litter: Vec::new(),
        };
        let inner = Arc::new(Inner {
            config,
            memory_limit,
            state: Mutex::new(state),
            wake: Condvar::new(),
            counts: status::Counts::default(),
            temporary: AtomicU64::new(0),
            closing: AtomicBool::new(false),
        });
        inner.lock().index.begin_scan();
        let writer = Arc::clone(&inner);
        let started = std::thread::Builder::new().name("cache-disk".into()).spawn(move || writer::run(&writer));
        if let Err(error) = started {
            inner.fail("starting its thread", &error);
        }
        Self { inner }
    }

    /// A newer response than what is stored for the same requests is there: the stored one does not count any more.
    /// To be called before anybody can see the newer one; then [`Disk::write`], or the order is [given up](Disk::give_up).
    pub(crate) fn supersede(&self, head: &Head) -> Order {
        let id = FileId::of(head);
        let mut state = self.inner.lock();
        let stamp = state.index.supersede(id);
        self.inner.wake.notify_one();
        Order { id, stamp }
    }

    pub(crate) fn give_up(&self, order: Order) {
        self.inner.lock().index.give_up(order.id, order.stamp);
    }

    /// Has a response written, later. It stays in memory only when too much waits already, or the disk fails.
    pub(crate) fn write(&self, order: Order, entry: Arc<Entry>) {
        let bytes = entry.weight();
        let mut state = self.inner.lock();
        let refused = !state.accepts() || state.queued_bytes + bytes > self.inner.config.queue_bytes;
        if refused || entry.body.length > self.inner.config.object_limit() {
            state.index.give_up(order.id, order.stamp);
            drop(state);
            self.inner.counts.skipped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        state.queued_bytes += bytes;
        state.jobs.push_back(Job::Write { order, entry, bytes });
        self.inner.wake.notify_one();
    }

    /// Has the head of a file brought up to date, when the file is the one for this head. Whether it is.
    pub(crate) fn update(&self, head: &Arc<Head>, file: &Arc<StoredFile>) -> bool {
        let id = FileId::of(head);
        let mut state = self.inner.lock();
        let same = state.open.get(&id).is_some_and(|open| std::ptr::eq(open.as_ptr(), Arc::as_ptr(file)));
        if !same || !state.accepts() {
            return false;
        }
        let Some(stamp) = state.index.restamp(id) else { return false };
        state.jobs.push_back(Job::Update {
            order: Order { id, stamp },
            head: Arc::clone(head),
            file: Arc::clone(file),
        });
        self.inner.wake.notify_one();
        true
    }

    /// Removes the response with this head.
    pub(crate) fn remove(&self, head: &Head) {
        let id = FileId::of(head);
        self.inner.lock().index.remove(id);
        self.inner.wake.notify_one();
    }

    /// Removes all responses for a URI. Whether there was one.
    pub(crate) fn remove_uri(&self, uri: &str) -> bool {
        let uri = index::hash_of(uri);
        let removed = self.inner.lock().index.remove_uri(uri);
        self.inner.wake.notify_one();
        removed
    }

    /// Ends when the files of all that was removed so far are gone from the disk, or the disk fails.
    pub(crate) fn settled(&self) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        self.inner.lock().waiting.push(sender);
        self.inner.wake.notify_one();
        receiver
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.inner.closing.store(true, Ordering::SeqCst);
        // Under the lock, so that the writer does not fall asleep between its look and this.
        let _state = self.inner.lock();
        self.inner.wake.notify_all();
    }
}

impl State {
    /// Whether an order makes sense now.
    fn accepts(&self) -> bool {
        let works = match self.health {
            Health::Starting | Health::Working => true,
            Health::Failing(until) => Instant::now() >= until,
        };
        works && self.jobs.len() < MAX_JOBS
    }

    /// The large files that nobody is to begin to read any more: to be closed outside of the lock.
    fn close_evicted(&mut self) -> Vec<Arc<StoredFile>> {
        let evicted = self.index.take_evicted();
        evicted.into_iter().filter_map(|id| self.open.remove(&id)).filter_map(|file| file.upgrade()).collect()
    }
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Disk").field("folder", &self.config.folder).finish_non_exhaustive()
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    fn path(&self, id: FileId) -> PathBuf {
        self.config.folder.join(id.path())
    }

    fn temporary_folder(&self) -> PathBuf {
        self.config.folder.join("tmp")
    }

    /// A new file without a name among the stored ones.
    fn create(&self) -> std::io::Result<(PathBuf, fs::File)> {
        let number = self.temporary.fetch_add(1, Ordering::Relaxed);
        let path = self.temporary_folder().join(number.to_string());
        let file = fs::File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
        Ok((path, file))
    }

    /// The disk failed: it is left alone for a while. One log line for each time that it begins to fail.
    fn fail(&self, doing: &str, error: &std::io::Error) {
        let mut state = self.lock();
        let news = !matches!(state.health, Health::Failing(_));
        state.health = Health::Failing(Instant::now() + self.config.retry);
        drop(state);
        self.counts.errors.fetch_add(1, Ordering::Relaxed);
        if news {
            let (folder, retry) = (self.config.folder.display(), self.config.retry);
            tracing::error!(%folder, %error, "the cache's disk fails ({doing}): responses stay in memory only; it is tried again every {retry:?}");
        }
    }

    fn recover(&self) {
        let mut state = self.lock();
        let news = matches!(state.health, Health::Failing(_));
        state.health = Health::Working;
        drop(state);
        if news {
            tracing::info!(folder = %self.config.folder.display(), "the cache's disk works again");
        }
    }
}

/// A number that no other file has, as far as chance goes.
fn nonce(number: u64) -> u64 {
    use std::hash::BuildHasher;
    std::hash::RandomState::new().hash_one(number)
}
