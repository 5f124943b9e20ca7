//! A stored body that stays on the disk, and reading it.

use std::fs::File;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::task::JoinHandle;

use super::Inner;
use super::format::{BLOCK, Layout, Unreadable};
use crate::body::BoxError;

/// A file whose body is too large for memory. It is open, so that what was evicted or replaced while it is sent is sent
/// to its end.
#[derive(Debug)]
pub(crate) struct StoredFile {
    /// Who is told when it turns out to be damaged.
    disk: Weak<Inner>,
    layout: Layout,
    length: u64,
    /// `None` once it was evicted: only who reads it already goes on, and its space is given back after that.
    file: Mutex<Option<Arc<File>>>,
}

impl StoredFile {
    pub(super) fn new(inner: &Arc<Inner>, file: Arc<File>, layout: Layout, length: u64) -> Self {
        Self { disk: Arc::downgrade(inner), layout, length, file: Mutex::new(Some(file)) }
    }

    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn layout(&self) -> Layout {
        self.layout
    }

    /// Whether it can still be read from.
    pub(crate) fn is_there(&self) -> bool {
        self.handle().is_some()
    }

    pub(super) fn handle(&self) -> Option<Arc<File>> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Nobody begins to read it any more.
    pub(super) fn close(&self) {
        let file = self.file.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Outside of the lock: it may be the last one.
        drop(file);
    }

    /// The bytes from `start` up to, not including, `end`.
    pub(crate) fn read(self: &Arc<Self>, start: u64, end: u64) -> FileReader {
        let stored = Some(Arc::clone(self));
        FileReader { stored, ..FileReader::new(self.handle(), self.layout, self.length, (start, end)) }
    }

    /// It is damaged: nobody begins to read it any more, and it goes.
    fn condemn(self: &Arc<Self>, error: &Unreadable) {
        self.close();
        if let Some(disk) = self.disk.upgrade() {
            disk.condemn(self, error);
        }
    }
}

/// Reads a part of a body block by block, each only when it is asked for: who sends slowly holds one block.
pub(crate) struct FileReader {
    /// What it is the file of; `None` while it is being written.
    stored: Option<Arc<StoredFile>>,
    file: Option<Arc<File>>,
    layout: Layout,
    /// Of the body.
    length: u64,
    at: u64,
    end: u64,
    reading: Option<JoinHandle<Result<Bytes, Unreadable>>>,
}

/// Bytes that are read at a time, where so many are wanted.
const READ: u64 = 4 * BLOCK;

#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("the stored response can't be read from the disk; ask again")]
    Unreadable(#[source] Unreadable),
    #[error("the stored response was evicted before it was sent; ask again")]
    Evicted,
}

impl FileReader {
    /// For a body of this length: its bytes from `at` up to, not including, `end`.
    pub(super) fn new(file: Option<Arc<File>>, layout: Layout, length: u64, (at, end): (u64, u64)) -> Self {
        Self { stored: None, file, layout, length, at, end, reading: None }
    }

    /// Bytes that are still to come.
    pub(crate) fn left(&self) -> u64 {
        self.end - self.at
    }

    /// The next bytes; never none.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BoxError>>> {
        if self.at >= self.end {
            return Poll::Ready(None);
        }
        let Some(file) = &self.file else { return self.broken(Broken::Evicted) };
        let reading = self.reading.get_or_insert_with(|| {
            let (file, layout, length, at, end) = (Arc::clone(file), self.layout, self.length, self.at, self.end);
            tokio::task::spawn_blocking(move || read_blocks(&file, layout, length, at, end))
        });
        let read = ready!(Pin::new(reading).poll(cx));
        self.reading = None;
        match read {
            Ok(Ok(bytes)) => {
                self.at += bytes.len() as u64;
                Poll::Ready(Some(Ok(bytes)))
            }
            Ok(Err(error)) => {
                self.stored.iter().for_each(|stored| stored.condemn(&error));
                self.broken(Broken::Unreadable(error))
            }
            Err(_) => self.broken(Broken::Evicted),
        }
    }

    fn broken(&mut self, broken: Broken) -> Poll<Option<Result<Bytes, BoxError>>> {
        self.at = self.end;
        Poll::Ready(Some(Err(broken.into())))
    }
}

/// Verified bytes from `at`, up to `end` or a convenient place before it.
fn read_blocks(file: &File, layout: Layout, length: u64, at: u64, end: u64) -> Result<Bytes, Unreadable> {
    let (first, stop) = (at / BLOCK, end.min(at.saturating_add(READ)).div_ceil(BLOCK));
    let mut bytes = Vec::with_capacity(((stop - first) * BLOCK) as usize);
    for number in first..stop {
        bytes.extend_from_slice(&layout.read_block(file, number, length)?);
    }
    let mut bytes = Bytes::from(bytes);
    bytes.advance(usize::try_from(at - first * BLOCK).unwrap_or(usize::MAX).min(bytes.len()));
    bytes.truncate(usize::try_from(end - at).unwrap_or(usize::MAX));
    Ok(bytes)
}
