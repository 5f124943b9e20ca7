//! A stored body that stays on the disk, and reading it.

use std::collections::VecDeque;
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

    /// Bytes of memory that it counts for while it is open: some 500 of them fill a store of the default size.
    pub(crate) fn weight(&self) -> u64 {
        self.disk.upgrade().map_or(0, |disk| disk.memory_limit / 32)
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
        let (stored, end) = (Some(Arc::clone(self)), end.min(self.length));
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
    /// Blocks that were read and not given yet.
    blocks: VecDeque<Bytes>,
    reading: Option<JoinHandle<Result<VecDeque<Bytes>, Unreadable>>>,
}

/// Bytes that are read at a time, where so many are wanted. As many clients as there are may hold them.
const READ: u64 = 2 * BLOCK;

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
        Self { stored: None, file, layout, length, at, end, blocks: VecDeque::new(), reading: None }
    }

    /// Bytes that are still to come.
    pub(crate) fn left(&self) -> u64 {
        self.end - self.at
    }

    /// The next bytes; never none.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BoxError>>> {
        loop {
            if self.at >= self.end {
                return Poll::Ready(None);
            }
            if let Some(block) = self.blocks.pop_front() {
                return Poll::Ready(Some(Ok(self.cut(block))));
            }
            let Some(file) = &self.file else { return self.broken(Broken::Evicted) };
            let reading = self.reading.get_or_insert_with(|| {
                let (file, layout, length) = (Arc::clone(file), self.layout, self.length);
                let blocks = (self.at / BLOCK, self.end.min(self.at.saturating_add(READ)).div_ceil(BLOCK));
                tokio::task::spawn_blocking(move || layout.read_blocks(&file, blocks, length))
            });
            let read = ready!(Pin::new(reading).poll(cx));
            self.reading = None;
            match read {
                Ok(Ok(blocks)) => self.blocks = blocks,
                Ok(Err(error)) => {
                    self.stored.iter().for_each(|stored| stored.condemn(&error));
                    return self.broken(Broken::Unreadable(error));
                }
                Err(_) => return self.broken(Broken::Evicted),
            }
        }
    }

    /// What is wanted of the block that the next byte is in.
    fn cut(&mut self, mut block: Bytes) -> Bytes {
        // Both are less than a block.
        block.advance((self.at % BLOCK) as usize);
        block.truncate(usize::try_from(self.end - self.at).unwrap_or(usize::MAX));
        self.at += block.len() as u64;
        block
    }

    fn broken(&mut self, broken: Broken) -> Poll<Option<Result<Bytes, BoxError>>> {
        self.at = self.end;
        Poll::Ready(Some(Err(broken.into())))
    }
}
