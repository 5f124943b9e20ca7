//! How many exchanges may be under way at once, and how long others wait for their turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// So many wait for each exchange that may be under way; more are turned away at once.
const WAITING_FOR_EACH: usize = 4;

/// A number of places, and a queue before them.
#[derive(Debug)]
pub(crate) struct Gate {
    places: Arc<Semaphore>,
    size: usize,
    waiting: AtomicUsize,
}

/// There was no place in time, or the queue was full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Busy;

impl Gate {
    pub(crate) fn new(size: usize) -> Self {
        let size = size.clamp(1, Semaphore::MAX_PERMITS);
        Self { places: Arc::new(Semaphore::new(size)), size, waiting: AtomicUsize::new(0) }
    }

    /// A place, which is free again when the permit is dropped. Who came first is let in first.
    pub(crate) async fn enter(&self, deadline: Instant) -> Result<OwnedSemaphorePermit, Busy> {
        if let Ok(permit) = Arc::clone(&self.places).try_acquire_owned() {
            return Ok(permit);
        }
        let _queued = Queued::join(&self.waiting, self.size.saturating_mul(WAITING_FOR_EACH))?;
        let turn = Arc::clone(&self.places).acquire_owned();
        tokio::time::timeout_at(deadline, turn).await.map_err(|_elapsed| Busy)?.map_err(|_closed| Busy)
    }

    pub(crate) fn in_use(&self) -> usize {
        self.size.saturating_sub(self.places.available_permits())
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    pub(crate) fn size(&self) -> usize {
        self.size
    }
}

/// A place in the queue.
struct Queued<'a>(&'a AtomicUsize);

impl<'a> Queued<'a> {
    fn join(waiting: &'a AtomicUsize, most: usize) -> Result<Self, Busy> {
        let queued = Self(waiting);
        if waiting.fetch_add(1, Ordering::Relaxed) < most { Ok(queued) } else { Err(Busy) }
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn who_finds_no_place_waits_for_one_but_not_for_ever_and_not_in_an_endless_queue() {
        let gate = Arc::new(Gate::new(1));
        let later = Instant::now() + Duration::from_secs(600);
        let first = gate.enter(later).await.unwrap();
        assert_eq!((gate.in_use(), gate.waiting()), (1, 0));
        assert_eq!(gate.enter(Instant::now()).await.unwrap_err(), Busy, "no place in time");
        let queue: Vec<_> = (0..WAITING_FOR_EACH)
            .map(|_| {
                let gate = Arc::clone(&gate);
                tokio::spawn(async move { gate.enter(later).await.map(drop) })
            })
            .collect();
        while gate.waiting() < WAITING_FOR_EACH {
            tokio::task::yield_now().await;
        }
        assert_eq!(gate.enter(later).await.unwrap_err(), Busy, "the queue is full");
        drop(first);
        for waiting in queue {
            assert_eq!(waiting.await.unwrap(), Ok(()));
        }
        assert_eq!((gate.in_use(), gate.waiting()), (0, 0));
    }
}
