//! Ids that JavaScript may hold: an index and a generation in one number, so that a stale or invented id finds nothing.

use std::collections::VecDeque;

const INDEX_BITS: u32 = 16;
const INDEXES: u32 = 1 << INDEX_BITS;
const GENERATIONS: u32 = 1 << 14;

/// Values under ids between 1 and 2³⁰, small enough for V8 to pass as a plain integer. At most 65,535 values at a time.
/// An index that has had all its generations is not used again before all others have, so that an id comes back only
/// after a billion others.
pub(crate) struct Table<T> {
    /// Generation and value; generation 0 is of an index that has had all.
    slots: VecDeque<(u32, Option<T>)>,
    /// Index of the first of `slots`.
    base: u32,
    free: Vec<u32>,
    used: usize,
}

impl<T> Table<T> {
    pub(crate) const fn new() -> Self {
        Self { slots: VecDeque::new(), base: 0, free: Vec::new(), used: 0 }
    }

    /// The id of a new entry; `None` when the table is full.
    pub(crate) fn insert(&mut self, value: T) -> Option<u32> {
        let index = match self.free.pop() {
            Some(index) => index,
            None if self.slots.len() < INDEXES as usize - 1 => {
                self.slots.push_back((1, None));
                (self.base + self.slots.len() as u32 - 1) % INDEXES
            }
            None => return None,
        };
        let at = self.place(index);
        let slot = self.slots.get_mut(at)?;
        slot.1 = Some(value);
        self.used += 1;
        Some(slot.0 << INDEX_BITS | index)
    }

    /// Where the slot of an index is among `slots`.
    fn place(&self, index: u32) -> usize {
        (index.wrapping_sub(self.base) % INDEXES) as usize
    }

    fn slot(&mut self, id: u32) -> Option<&mut (u32, Option<T>)> {
        let place = self.place(id % INDEXES);
        self.slots.get_mut(place).filter(|slot| slot.0 == id >> INDEX_BITS)
    }

    pub(crate) fn get_mut(&mut self, id: u32) -> Option<&mut T> {
        self.slot(id)?.1.as_mut()
    }

    /// The ids of all values.
    pub(crate) fn ids(&self) -> Vec<u32> {
        let used = self.slots.iter().enumerate().filter(|(_, (_, value))| value.is_some());
        used.map(|(at, (generation, _))| (generation << INDEX_BITS) | ((self.base + at as u32) % INDEXES)).collect()
    }

    pub(crate) fn remove(&mut self, id: u32) -> Option<T> {
        let slot = self.slot(id)?;
        let value = slot.1.take()?;
        slot.0 = (slot.0 + 1) % GENERATIONS;
        let over = slot.0 == 0;
        self.used -= 1;
        if over {
            while self.slots.front().is_some_and(|slot| slot.0 == 0) {
                self.slots.pop_front();
                self.base = (self.base + 1) % INDEXES;
            }
        } else {
            self.free.push(id % INDEXES);
        }
        Some(value)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.slots.iter_mut().filter_map(|(_, value)| value.as_mut())
    }

    pub(crate) const fn len(&self) -> usize {
        self.used
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_id_that_is_over_finds_nothing_however_many_come_after_it() {
        let mut table = Table::new();
        let long_lived = table.insert(0).unwrap();
        let first = table.insert(1).unwrap();
        assert_eq!(table.remove(first), Some(1));
        for value in 2..200_000 {
            let id = table.insert(value).unwrap();
            assert!(id != first && id > 0 && id < 1 << 30);
            assert!(table.get_mut(first).is_none() && table.remove(first).is_none());
            assert_eq!(table.remove(id), Some(value));
        }
        assert_eq!((table.get_mut(long_lived).copied(), table.len()), (Some(0), 1));
        assert_eq!(table.remove(long_lived), Some(0));
        let mut alone = Table::new();
        for value in 0..200_000 {
            let id = alone.insert(value).unwrap();
            assert_eq!(alone.remove(id), Some(value));
        }
        assert!(alone.slots.len() <= 1, "what is used up takes no room: {}", alone.slots.len());
    }

    proptest! {
        /// As a map does, whatever is asked of it: an id finds what was put under it, and invented ones find nothing.
        #[test]
        fn a_table_behaves_as_a_map(steps in prop::collection::vec((0..4_u8, any::<u32>()), 0..300)) {
            let (mut table, mut map) = (Table::new(), HashMap::new());
            let mut known = Vec::new();
            for (step, number) in steps {
                match step {
                    0 | 1 => {
                        let id = table.insert(number).unwrap();
                        prop_assert!(map.insert(id, number).is_none() && !known.contains(&id));
                        known.push(id);
                    }
                    2 if !known.is_empty() => {
                        let id = known[number as usize % known.len()];
                        prop_assert_eq!(table.remove(id), map.remove(&id));
                    }
                    _ => prop_assert_eq!(table.get_mut(number).copied(), map.get(&number).copied()),
                }
                prop_assert_eq!(table.len(), map.len());
                let mut ids = table.ids();
                ids.sort_unstable();
                let mut expected: Vec<_> = map.keys().copied().collect();
                expected.sort_unstable();
                prop_assert_eq!(ids, expected);
            }
        }
    }
}
