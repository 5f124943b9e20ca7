//! Bodies that memory is not for: they go to the disk while they arrive.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use crate::cache::Shared;
use crate::disk::{Spill, Spilled};
use crate::entry::Head;
use crate::fill::Fill;

/// Bytes that are gathered before they are written, and kept after that for those who read along.
const GATHERED: u64 = 1 << 20;

/// How a body is received.
pub(super) enum Spilling {
    /// Into memory.
    No,
    /// Onto the disk.
    Yes(Spill),
    /// Onto the disk, which did not work: it can't be stored any more.
    Failed,
}

impl Spilling {
    /// Takes over what has arrived, and is to be called with every further chunk from then on. Whether the body can still
    /// be stored. While it writes, nothing is read from the origin.
    pub(super) async fn keep_up(&mut self, shared: &Shared, fill: &Fill, head: &Arc<Head>) -> bool {
        if matches!(self, Self::No) {
            let Some(disk) = shared.store.disk() else { return false };
            *self = disk.spill(head).await.map_or(Self::Failed, Self::Yes);
        }
        let Self::Yes(spill) = std::mem::replace(self, Self::Failed) else { return false };
        let crowded = shared.ledger.bytes.load(Ordering::Relaxed) > shared.config.fill_capacity_bytes / 2;
        let window = if crowded { 0 } else { GATHERED };
        if fill.received() < spill.written() + window {
            *self = Self::Yes(spill);
            return true;
        }
        let chunks = fill.chunks_since(spill.written());
        let Ok(spill) = spill.write(chunks).await else { return false };
        fill.spilled(spill.readable(), window);
        *self = Self::Yes(spill);
        true
    }

    /// The body is whole with this last chunk, and has its head. `None` when it can't be stored.
    pub(super) async fn finish(self, fill: &Fill, last: Option<&Bytes>, head: &Arc<Head>) -> Option<Spilled> {
        let Self::Yes(spill) = self else { return None };
        let mut chunks = fill.chunks_since(spill.written());
        chunks.extend(last.cloned());
        let spill = spill.write(chunks).await.ok()?;
        spill.finish(Arc::clone(head)).await.ok()
    }

    pub(super) fn has_begun(&self) -> bool {
        !matches!(self, Self::No)
    }
}
