//! Bringing a response from the disk into memory.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::Shared;
use http::HeaderMap;

use super::format::{self, BLOCK, Layout, Unreadable};
use super::index::{self, FileId, Stamp};
use super::{Disk, Inner, Order, StoredFile};
use crate::entry::{self, Entry, StoredBody};
use crate::key::Key;

/// Which URIs somebody is looking for on the disk; others wait instead of reading the same.
pub(super) type Recalls = HashMap<u64, Shared<oneshot::Receiver<()>>>;

/// What a look at the index says.
pub(crate) enum Look {
    /// Nothing for the URI.
    Nothing,
    /// Somebody reads what is there for the URI. When that ends, it may be in memory.
    Wait(Shared<oneshot::Receiver<()>>),
    /// There is something: [`Looking::read`] it.
    Read(Looking),
}

/// A look at the disk that others wait for, until this is dropped.
pub(crate) struct Looking {
    inner: Arc<Inner>,
    uri: u64,
    _done: oneshot::Sender<()>,
}

impl Disk {
    /// Whether there may be something for this key. Cheap: the disk is not asked.
    pub(crate) fn look(&self, key: &Key) -> Look {
        let uri = index::hash_of(key.uri());
        let mut state = self.inner.lock();
        if !state.index.has(uri) && !state.index.may_be_there(FileId::new(key, &[])) {
            return Look::Nothing;
        }
        if let Some(waiting) = state.recalls.get(&uri) {
            return Look::Wait(waiting.clone());
        }
        let (done, waiting) = oneshot::channel();
        state.recalls.insert(uri, waiting.shared());
        Look::Read(Looking { inner: Arc::clone(&self.inner), uri, _done: done })
    }

    /// Whether what was read under this order is still what is stored.
    pub(crate) fn is_current(&self, order: Order) -> bool {
        self.inner.lock().index.is_current(order.id, order.stamp)
    }
}

impl Drop for Looking {
    fn drop(&mut self) {
        self.inner.lock().recalls.remove(&self.uri);
    }
}

impl Looking {
    /// The response that answers this request, if one is there and whole. It may be put into memory as long as its order
    /// is [current](Disk::is_current).
    pub(crate) async fn read(&self, key: &Key, request: &HeaderMap) -> Option<(Order, Entry)> {
        let (inner, key, request, uri) = (Arc::clone(&self.inner), key.clone(), request.clone(), self.uri);
        let read = move || {
            inner.find_unscanned(&key);
            let candidates = inner.lock().index.find(uri);
            candidates.into_iter().find_map(|(id, stamp)| inner.load(id, stamp, &key, &request))
        };
        tokio::task::spawn_blocking(read).await.ok().flatten()
    }
}

impl Inner {
    /// While the folder is being read: the file that has the name of an answer without `Vary`.
    fn find_unscanned(&self, key: &Key) {
        let id = FileId::new(key, &[]);
        if !self.lock().index.may_be_there(id) {
            return;
        }
        if let Ok(metadata) = fs::metadata(self.path(id)) {
            // It may have been removed or replaced since the look: then it counts no more, or already does.
            let mut state = self.lock();
            if state.index.may_be_there(id) {
                state.index.found(id, metadata.len());
            }
        }
    }

    fn load(self: &Arc<Self>, id: FileId, stamp: Stamp, key: &Key, request: &HeaderMap) -> Option<(Order, Entry)> {
        match self.read(id, key, request) {
            Ok(Some(entry)) => {
                self.counts.hits.fetch_add(1, Ordering::Relaxed);
                self.lock().index.touch(id);
                Some((Order { id, stamp }, entry))
            }
            Ok(None) => None,
            Err(error @ Unreadable::Unopened(_)) => {
                self.counts.errors.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(file = %self.path(id).display(), %error, "a stored response is not found");
                None
            }
            Err(error) => {
                let mut state = self.lock();
                // Where it was replaced or removed meanwhile, there is nothing wrong.
                if state.index.is_current(id, stamp) {
                    state.index.remove(id);
                    drop(state);
                    self.note_unreadable(id, &error);
                }
                None
            }
        }
    }

    /// A large file was found to be damaged while it was sent.
    pub(super) fn condemn(&self, file: &Arc<StoredFile>, error: &Unreadable) {
        let mut state = self.lock();
        let same = |open: &Weak<StoredFile>| std::ptr::eq(open.as_ptr(), Arc::as_ptr(file));
        let Some(id) = state.open.iter().find(|(_, open)| same(open)).map(|(id, _)| *id) else { return };
        state.open.remove(&id);
        state.index.remove(id);
        drop(state);
        self.note_unreadable(id, error);
    }

    fn note_unreadable(&self, id: FileId, error: &Unreadable) {
        self.wake.notify_one();
        let count = match error {
            Unreadable::Damaged(_) => &self.counts.damaged,
            Unreadable::Io(_) | Unreadable::Unopened(_) => &self.counts.errors,
        };
        count.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(file = %self.path(id).display(), %error, "a stored response can't be used and is removed");
    }

    /// The response in a file, when it answers the request.
    fn read(self: &Arc<Self>, id: FileId, key: &Key, request: &HeaderMap) -> Result<Option<Entry>, Unreadable> {
        let file = match File::open(self.path(id)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Unreadable::Damaged("the folder")),
            file => file.map_err(Unreadable::Unopened)?,
        };
        let opened = format::open(&file)?;
        if opened.head.key != *key || !opened.head.answers(key, request) {
            return Ok(None);
        }
        let body = if opened.length <= self.memory_limit {
            read_whole(&file, opened.layout, opened.length)?
        } else {
            StoredBody::on_disk(self.keep_open(id, StoredFile::new(self, Arc::new(file), opened.layout, opened.length)))
        };
        Ok(Some(Entry::recalled(Arc::new(opened.head), body)))
    }

    /// Remembers a large file that is open.
    pub(super) fn keep_open(&self, id: FileId, file: StoredFile) -> Arc<StoredFile> {
        let file = Arc::new(file);
        let mut state = self.lock();
        state.open.insert(id, Arc::downgrade(&file));
        // Each costs a few bytes; those that nobody has any more go now and then.
        if state.open.len().is_power_of_two() {
            state.open.retain(|_, file| file.strong_count() > 0);
        }
        drop(state);
        file
    }
}

fn read_whole(file: &File, layout: Layout, length: u64) -> Result<StoredBody, Unreadable> {
    const PER_BLOCK: u64 = entry::BLOCK as u64 / BLOCK;
    let count = length.div_ceil(BLOCK);
    let mut blocks = Vec::new();
    for first in (0..count).step_by(PER_BLOCK as usize) {
        let read = layout.read_blocks(file, (first, count.min(first + PER_BLOCK)), length)?;
        blocks.push(Bytes::from(Vec::from(read).concat()));
    }
    Ok(StoredBody::in_memory(blocks))
}
