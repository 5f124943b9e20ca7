//! A response that goes to the disk while it arrives, because memory is not for it.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::format::{Layout, Writer};
use super::{Disk, FileReader, Inner, Job, StoredFile, nonce};
use crate::entry::{Head, StoredBody};

/// A body on its way to the disk. Dropped before it is [stored](Disk::store), it leaves nothing behind.
pub(crate) struct Spill {
    writer: Writer,
    room: Room,
    written: u64,
    limit: u64,
}

/// The part of a growing file that can be read: whole blocks.
pub(crate) struct Readable {
    file: Arc<File>,
    layout: Layout,
    bytes: u64,
}

/// A body that is whole, in a file that has no name yet.
pub(crate) struct Spilled {
    body: StoredBody,
    size: u64,
    room: Room,
}

/// Space that was set aside, and the temporary file that takes it.
struct Room {
    inner: Arc<Inner>,
    bytes: u64,
    path: PathBuf,
    /// The file is somebody else's now.
    named: bool,
}

/// Most bodies that spill at a time.
const MAX_SPILLS: usize = 1024;

impl Disk {
    /// The longest body that is stored.
    pub(crate) fn object_limit(&self) -> u64 {
        self.inner.config.object_limit()
    }

    /// The longest body that would be stored now; 0 while it fails.
    pub(crate) fn largest_body(&self) -> u64 {
        if self.inner.lock().accepts() { self.object_limit() } else { 0 }
    }

    /// Begins to write a response whose body arrives from now on.
    pub(crate) async fn spill(&self, head: &Arc<Head>) -> io::Result<Spill> {
        let inner = Arc::clone(&self.inner);
        {
            let mut state = inner.lock();
            if !state.accepts() || state.spills >= MAX_SPILLS {
                return Err(io::Error::other("there is no room for it now"));
            }
            state.spills += 1;
        }
        let mut room = Room { inner: Arc::clone(&inner), bytes: 0, path: PathBuf::new(), named: true };
        let head = Arc::clone(head);
        off_thread(move || {
            let (path, file) = inner.create()?;
            (room.path, room.named) = (path, false);
            let writer = Writer::begin(file, nonce(0), &head)?;
            Ok(Spill { writer, room, written: 0, limit: inner.config.object_limit() })
        })
        .await
        .inspect_err(|error| self.inner.fail("beginning a large response", error))
    }

    /// Gives a whole body its name and makes it the stored one for its head, which has its length.
    pub(crate) fn store(&self, head: &Head, spilled: Spilled) {
        let Spilled { body, size, mut room } = spilled;
        let Some(file) = body.file() else { return };
        let order = self.supersede(head);
        room.named = true;
        let mut state = self.inner.lock();
        state.open.insert(order.id, Arc::downgrade(file));
        state.jobs.push_back(Job::Commit { order, path: std::mem::take(&mut room.path), size });
        self.inner.wake.notify_one();
    }
}

impl Spill {
    /// Writes the next chunks. The body may be read up to [`Spill::readable`] then.
    pub(crate) async fn write(mut self, chunks: Vec<Bytes>) -> io::Result<Self> {
        let length: u64 = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        self.written += length;
        if self.written > self.limit || !self.room.grow(length) {
            return Err(io::Error::from(io::ErrorKind::QuotaExceeded));
        }
        let inner = Arc::clone(&self.room.inner);
        let written = off_thread(move || {
            for chunk in &chunks {
                self.writer.push(chunk)?;
            }
            Ok(self)
        });
        written.await.inspect_err(|error| inner.fail("writing a large response", error))
    }

    /// Bytes of the body that were given to it.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// What can be read so far.
    pub(crate) fn readable(&self) -> Readable {
        Readable { file: self.writer.file(), layout: self.writer.layout(), bytes: self.writer.readable() }
    }

    /// All chunks were written. `head` has the length of the body.
    pub(crate) async fn finish(self, head: Arc<Head>) -> io::Result<Spilled> {
        let inner = Arc::clone(&self.room.inner);
        let Self { writer, room, written, .. } = self;
        let disk = Arc::clone(&inner);
        let finished = off_thread(move || {
            let (file, layout, size) = writer.finish(&head)?;
            let body = StoredBody::on_disk(Arc::new(StoredFile::new(&disk, file, layout, written)));
            Ok(Spilled { body, size, room })
        });
        finished.await.inspect_err(|error| inner.fail("writing a large response", error))
    }
}

impl Readable {
    /// Bytes that can be read.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Reads from here to the last byte that can be read.
    pub(crate) fn from(&self, position: u64) -> FileReader {
        FileReader::new(Some(Arc::clone(&self.file)), self.layout, self.bytes, (position, self.bytes))
    }
}

impl Spilled {
    pub(crate) fn body(&self) -> &StoredBody {
        &self.body
    }
}

impl Room {
    /// Sets more space aside, at the cost of what is stored. Whether there is so much.
    fn grow(&mut self, bytes: u64) -> bool {
        let mut state = self.inner.lock();
        let granted = state.index.reserve(bytes);
        self.bytes += if granted { bytes } else { 0 };
        drop(state);
        self.inner.wake.notify_one();
        granted
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut state = self.inner.lock();
        state.index.release(self.bytes);
        state.spills -= 1;
        if !self.named {
            // The writer removes it: a large file is not gone in an instant.
            state.litter.push(std::mem::take(&mut self.path));
            self.inner.counts.skipped.fetch_add(1, Ordering::Relaxed);
            self.inner.wake.notify_one();
        }
    }
}

/// Runs what may wait for the disk.
async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}
