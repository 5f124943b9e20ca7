//! A place with a given number of workers and one queue.

use std::collections::VecDeque;

/// Workers and who waits for them, by number.
#[derive(Debug)]
pub(super) struct Desk {
    workers: u32,
    busy: u32,
    waiting: VecDeque<u32>,
    bound: usize,
}

/// What becomes of who arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrived {
    Starts,
    Waits,
    Full,
}

impl Desk {
    pub(super) fn new(workers: u32, bound: usize) -> Self {
        Self { workers, busy: 0, waiting: VecDeque::new(), bound }
    }

    pub(super) fn arrives(&mut self, id: u32) -> Arrived {
        if self.busy < self.workers {
            self.busy += 1;
            Arrived::Starts
        } else if self.waiting.len() < self.bound {
            self.waiting.push_back(id);
            Arrived::Waits
        } else {
            Arrived::Full
        }
    }

    /// One leaves its worker; who takes its place.
    pub(super) fn leaves(&mut self) -> Option<u32> {
        let next = self.waiting.pop_front();
        if next.is_none() {
            self.busy -= 1;
        }
        next
    }
}
