//! How much memory an isolate takes, and giving back what an idle one does not need.

use std::time::Duration;

use super::Resident;
use crate::buffers::external_memory;

/// What an isolate takes beside V8's heap and buffers: V8's own structures, deno_core's, ours. Measured.
const BESIDE: u64 = 800 << 10;

impl Resident {
    /// Bytes it took when last measured.
    pub(crate) fn footprint(&self) -> u64 {
        self.footprint.get().0
    }

    /// Measures, unless nothing can have changed since; the bytes it takes.
    pub(crate) fn measure(&self) -> u64 {
        let used = self.last_used.get();
        let (bytes, at) = self.footprint.get();
        if at == Some(used) && self.in_flight() == 0 {
            return bytes;
        }
        let Ok(mut blank) = self.blank.try_borrow_mut() else { return bytes };
        let bytes = blank.isolate.with(|runtime| {
            let isolate = runtime.v8_isolate();
            let heap = isolate.get_heap_statistics();
            (heap.total_physical_size() + heap.malloced_memory() + external_memory(isolate)) as u64
        });
        self.footprint.set((BESIDE + bytes, Some(used)));
        BESIDE + bytes
    }

    /// Whether it has been idle for so long, and not trimmed since.
    pub(crate) fn needs_trim(&self, after: Duration) -> bool {
        let used = self.last_used.get();
        self.trimmed.get() != Some(used) && used.elapsed() >= after && self.in_flight() == 0 && !self.is_condemned()
    }

    /// Collects its garbage: what its heap does not need goes back.
    pub(crate) fn trim(&self) {
        self.trimmed.set(Some(self.last_used.get()));
        if let Ok(mut blank) = self.blank.try_borrow_mut() {
            blank.isolate.with(|runtime| runtime.v8_isolate().low_memory_notification());
        }
        self.footprint.set((self.footprint(), None));
        self.measure();
    }
}
