//! Ids that JavaScript may hold: an index and a generation in one number, so that a stale or invented id finds nothing.

const INDEX_BITS: u32 = 16;
const GENERATIONS: u32 = 1 << 14;

/// Values under ids between 1 and 2³⁰, small enough for V8 to pass as a plain integer. At most 65,535 values at a time.
pub(crate) struct Table<T> {
    slots: Vec<(u32, Option<T>)>,
    free: Vec<u32>,
}

impl<T> Table<T> {
    pub(crate) const fn new() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }

    /// The id of a new entry; `None` when the table is full.
    pub(crate) fn insert(&mut self, value: T) -> Option<u32> {
        let index = match self.free.pop() {
            Some(index) => index,
            None if self.slots.len() < (1 << INDEX_BITS) - 1 => {
                self.slots.push((1, None));
                self.slots.len() as u32 - 1
            }
            None => return None,
        };
        let slot = &mut self.slots[index as usize];
        slot.1 = Some(value);
        Some(slot.0 << INDEX_BITS | index)
    }

    fn index(&self, id: u32) -> Option<usize> {
        let index = (id & ((1 << INDEX_BITS) - 1)) as usize;
        (self.slots.get(index)?.0 == id >> INDEX_BITS).then_some(index)
    }

    pub(crate) fn get_mut(&mut self, id: u32) -> Option<&mut T> {
        let index = self.index(id)?;
        self.slots[index].1.as_mut()
    }

    /// The ids of all values.
    pub(crate) fn ids(&self) -> Vec<u32> {
        let used = self.slots.iter().enumerate().filter(|(_, (_, value))| value.is_some());
        used.map(|(index, (generation, _))| generation << INDEX_BITS | index as u32).collect()
    }

    pub(crate) fn remove(&mut self, id: u32) -> Option<T> {
        let index = self.index(id)?;
        let value = self.slots[index].1.take()?;
        let slot = &mut self.slots[index];
        slot.0 = if slot.0 + 1 == GENERATIONS { 1 } else { slot.0 + 1 };
        self.free.push(index as u32);
        Some(value)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.slots.iter_mut().filter_map(|(_, value)| value.as_mut())
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}
