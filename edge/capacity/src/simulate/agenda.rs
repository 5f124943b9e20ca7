//! What happens when: events in the order of their times, and of their making where these are equal.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use super::Nanos;

/// What is to come. Its clock is that of the last event taken, and never goes back.
#[derive(Debug)]
pub struct Agenda<E> {
    heap: BinaryHeap<Reverse<Entry<E>>>,
    made: u64,
    now: Nanos,
}

#[derive(Debug)]
struct Entry<E> {
    at: Nanos,
    number: u64,
    event: E,
}

impl<E> Default for Agenda<E> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), made: 0, now: 0 }
    }
}

impl<E> Agenda<E> {
    /// The time of the last event taken.
    pub fn now(&self) -> Nanos {
        self.now
    }

    /// Adds an event; one that would lie in the past happens now.
    pub fn add(&mut self, at: Nanos, event: E) {
        self.heap.push(Reverse(Entry { at: at.max(self.now), number: self.made, event }));
        self.made += 1;
    }

    /// Takes the next event, unless it lies after `end`.
    pub fn next(&mut self, end: Nanos) -> Option<E> {
        if self.heap.peek()?.0.at > end {
            return None;
        }
        let Reverse(entry) = self.heap.pop()?;
        self.now = entry.at;
        Some(entry.event)
    }

    /// How many events have been added so far.
    pub fn made(&self) -> u64 {
        self.made
    }
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl<E> Eq for Entry<E> {}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn events_come_in_order_and_time_never_goes_back(times in prop::collection::vec(0..1000_u64, 1..200)) {
            let mut agenda = Agenda::default();
            for (number, at) in times.iter().enumerate() {
                agenda.add(*at, number);
            }
            let mut last = (0, 0);
            let mut taken = 0;
            while let Some(number) = agenda.next(Nanos::MAX) {
                prop_assert_eq!(agenda.now(), times[number]);
                prop_assert!(taken == 0 || (agenda.now(), number) > last);
                last = (agenda.now(), number);
                taken += 1;
                // What is added too late happens at once.
                if taken == 3 {
                    agenda.add(0, number);
                    prop_assert_eq!(agenda.next(Nanos::MAX).is_some(), true);
                    prop_assert_eq!(agenda.now(), last.0);
                    break;
                }
            }
        }
    }
}
