//! The isolates of a PoP: which functions have one that is idle, and how many blank ones are ready.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::Nanos;

/// What a request finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// An isolate that holds its function.
    Warm,
    /// A blank one.
    Blank,
    /// None.
    Nothing,
}

/// Idle isolates, the last used first.
#[derive(Debug, Default)]
pub(super) struct Isolates {
    /// By function, the numbers of its idle isolates' last uses.
    idle: HashMap<u32, VecDeque<u64>>,
    /// By the number of the last use.
    used: BTreeMap<u64, u32>,
    uses: u64,
    /// When each blank isolate is ready again.
    blank: VecDeque<Nanos>,
}

impl Isolates {
    /// Takes one for a request. For a blank one another is made, which takes so long and begins when the one before is done.
    pub(super) fn take(&mut self, function: u32, ready: usize, now: Nanos, refill: Nanos) -> Found {
        if let Some(uses) = self.idle.get_mut(&function)
            && let Some(use_) = uses.pop_back()
        {
            self.used.remove(&use_);
            return Found::Warm;
        }
        if self.blank.front().is_some_and(|at| *at <= now) {
            self.blank.pop_front();
        } else if self.blank.len() >= ready {
            return Found::Nothing;
        }
        let begins = self.blank.back().map_or(now, |last| now.max(*last));
        self.blank.push_back(begins.saturating_add(refill));
        Found::Blank
    }

    /// Gives one back; of more than `kept`, the one that was idle longest goes.
    pub(super) fn give_back(&mut self, function: u32, kept: usize) {
        self.uses += 1;
        self.idle.entry(function).or_default().push_back(self.uses);
        self.used.insert(self.uses, function);
        while self.used.len() > kept {
            let Some((_, function)) = self.used.pop_first() else { return };
            if let Some(uses) = self.idle.get_mut(&function) {
                uses.pop_front();
                if uses.is_empty() {
                    self.idle.remove(&function);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_idle_goes_and_blank_ones_come_back() {
        let mut isolates = Isolates::default();
        assert_eq!(isolates.take(1, 1, 0, 10), Found::Blank);
        assert_eq!(isolates.take(2, 1, 5, 10), Found::Nothing);
        isolates.give_back(1, 2);
        isolates.give_back(2, 2);
        isolates.give_back(3, 2);
        assert_eq!(isolates.take(1, 1, 10, 10), Found::Blank, "its own went");
        assert_eq!(isolates.take(3, 1, 10, 10), Found::Warm);
        assert_eq!(isolates.take(3, 1, 10, 10), Found::Nothing);
    }
}
