//! What there is to say about a disk.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{Disk, Health};

/// How a cache's disk is doing. Counts are since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskStatus {
    /// Bytes of the files that hold responses.
    pub bytes: u64,
    /// Most of them.
    pub capacity_bytes: u64,
    /// Files that hold responses.
    pub files: u64,
    /// Bytes that wait to be written.
    pub queued_bytes: u64,
    /// Orders that wait, and files that wait to be removed.
    pub queued: u64,
    /// The folder is still being read: what is in it is found only by luck.
    pub scanning: bool,
    /// It failed and is left alone for now: responses are stored in memory only.
    pub failing: bool,
    /// Responses that were written.
    pub written: u64,
    /// Responses that were found on it.
    pub hits: u64,
    /// Responses that were not written, because too much waited, or it failed.
    pub skipped: u64,
    /// Files that could not be written, read or removed.
    pub errors: u64,
    /// Files that were damaged or of another format, and are gone.
    pub damaged: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) written: AtomicU64,
    pub(super) hits: AtomicU64,
    pub(super) skipped: AtomicU64,
    pub(super) errors: AtomicU64,
    pub(super) damaged: AtomicU64,
    /// Files that are being removed this moment.
    pub(super) removing: AtomicU64,
    /// Orders that are being done this moment.
    pub(super) busy: AtomicU64,
}

impl Disk {
    pub(crate) fn status(&self) -> DiskStatus {
        let counts = &self.inner.counts;
        let state = self.inner.lock();
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        DiskStatus {
            bytes: state.index.bytes(),
            capacity_bytes: self.inner.config.capacity_bytes,
            files: state.index.files() as u64,
            queued_bytes: state.queued_bytes,
            queued: (state.jobs.len() + state.index.doomed()) as u64 + count(&counts.busy) + count(&counts.removing),
            scanning: state.index.is_scanning(),
            failing: matches!(state.health, Health::Failing(_)),
            written: count(&counts.written),
            hits: count(&counts.hits),
            skipped: count(&counts.skipped),
            errors: count(&counts.errors),
            damaged: count(&counts.damaged),
        }
    }
}
