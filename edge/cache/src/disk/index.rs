//! Which files there are, and which goes when room is needed. Pure: it knows neither files nor threads.

use std::collections::{BTreeMap, HashSet, VecDeque};

use sha2::{Digest, Sha256};

use crate::entry::Head;
use crate::key::Key;
use crate::policy::vary::Selector;

/// The name of a stored response: what tells its URI, and what tells it from other responses for the same URI. Two
/// responses that meet in one name replace each other; a file has the whole key, so neither is taken for the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct FileId {
    pub(super) uri: u64,
    pub(super) variant: u64,
}

impl FileId {
    pub(crate) fn of(head: &Head) -> Self {
        Self::new(&head.key, &head.selectors)
    }

    pub(super) fn new(key: &Key, selectors: &[Selector]) -> Self {
        let mut hash = Sha256::new();
        let selecting = selectors.iter().flat_map(|s| [Some(s.name.as_str().as_bytes()), s.value.as_deref()]);
        for text in std::iter::once(key.parts().map(str::as_bytes)).chain(selecting) {
            // Length and presence in front: no two lists make the same bytes.
            hash.update(text.map_or(u64::MAX, |text| text.len() as u64).to_le_bytes());
            hash.update(text.unwrap_or_default());
        }
        Self { uri: hash_of(key.uri()), variant: first_u64(&hash.finalize()) }
    }

    /// The subfolder with the files for a URI, and how their names begin.
    pub(super) fn place(uri: u64) -> (String, String) {
        let uri = format!("{uri:016x}");
        (uri[..2].to_owned(), uri[2..].to_owned())
    }

    /// `ab/cdef…`, below the folder.
    pub(super) fn path(&self) -> String {
        let (folder, name) = Self::place(self.uri);
        format!("{folder}/{name}-{:016x}", self.variant)
    }

    /// The id whose [`FileId::path`] this is.
    pub(super) fn parse(folder: &str, name: &str) -> Option<Self> {
        let (uri, variant) = name.split_once('-')?;
        let hex = |text: &str| u64::from_str_radix(text, 16).ok();
        let id = Self { uri: hex(&format!("{folder}{uri}"))?, variant: hex(variant)? };
        (id.path() == format!("{folder}/{name}")).then_some(id)
    }
}

/// The part of a [`FileId`] that all responses for a URI share.
pub(crate) fn hash_of(uri: &str) -> u64 {
    first_u64(&Sha256::digest(uri))
}

fn first_u64(digest: &[u8]) -> u64 {
    digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// One state of one file name: whoever acts on what it saw earlier asks whether the stamp is still the same.
pub(crate) type Stamp = u64;

#[derive(Debug, Clone, Copy)]
enum Slot {
    /// A write was ordered; when it is done, it looks whether it still has a place here.
    Writing(Stamp),
    Stored {
        stamp: Stamp,
        size: u64,
        uses: u8,
        queue: Queue,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Queue {
    /// Asked for once so far, as far as is known: goes first.
    Trial,
    /// Asked for again.
    Main,
}

/// What is stored, at most `capacity` bytes in `max_files` files. A file costs about 100 bytes here.
///
/// Eviction is S3-FIFO without its ghosts: what comes in goes through a short queue, a tenth of the bytes, and gets into
/// the long one only when it was asked for meanwhile. So a scan over many objects pushes out only itself. Reads count
/// when they reach the disk: what memory answers is in memory.
pub(super) struct Index {
    files: BTreeMap<FileId, Slot>,
    trial: VecDeque<(FileId, Stamp)>,
    main: VecDeque<(FileId, Stamp)>,
    bytes: u64,
    /// Of files that are still growing.
    reserved: u64,
    trial_bytes: u64,
    count: usize,
    stamp: Stamp,
    capacity: u64,
    max_files: usize,
    max_variants: usize,
    /// Files that are no more: to be removed from the disk.
    doomed: HashSet<FileId>,
    /// Those of them that were evicted: memory may still have their heads.
    evicted: Vec<FileId>,
    /// While the folder is read: of what nothing that was there before counts.
    revoked: Option<Revoked>,
    /// Those of them whose files are to be searched for and removed at once.
    searches: Vec<u64>,
}

const MAX_USES: u8 = 3;

/// What was removed before it was known whether it is there.
#[derive(Default)]
struct Revoked {
    uris: HashSet<u64>,
    /// There were too many to tell them apart: nothing that was there before counts.
    all: bool,
}

/// Most URIs that are told apart.
const MAX_REVOKED: usize = 1 << 16;

impl Revoked {
    /// Whether it is told apart from others.
    fn add(&mut self, uri: u64) -> bool {
        self.uris.insert(uri);
        if self.uris.len() > MAX_REVOKED {
            (self.all, self.uris) = (true, HashSet::new());
        }
        !self.all
    }

    fn covers(&self, uri: u64) -> bool {
        self.all || self.uris.contains(&uri)
    }
}

impl Index {
    pub(super) fn new(capacity: u64, max_files: usize, max_variants: usize) -> Self {
        Self {
            files: BTreeMap::new(),
            trial: VecDeque::new(),
            main: VecDeque::new(),
            bytes: 0,
            reserved: 0,
            trial_bytes: 0,
            count: 0,
            stamp: 0,
            capacity,
            max_files,
            max_variants,
            doomed: HashSet::new(),
            evicted: Vec::new(),
            revoked: None,
            searches: Vec::new(),
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn files(&self) -> usize {
        self.count
    }

    /// The files for a URI, the latest first.
    pub(super) fn find(&self, uri: u64) -> Vec<(FileId, Stamp)> {
        let mut found: Vec<_> = self.stored(uri).collect();
        found.sort_by_key(|(_, stamp)| std::cmp::Reverse(*stamp));
        found
    }

    pub(super) fn has(&self, uri: u64) -> bool {
        self.stored(uri).next().is_some()
    }

    fn stored(&self, uri: u64) -> impl Iterator<Item = (FileId, Stamp)> {
        self.under(uri).filter_map(|(id, slot)| match slot {
            Slot::Stored { stamp, .. } => Some((*id, *stamp)),
            Slot::Writing(_) => None,
        })
    }

    fn under(&self, uri: u64) -> impl Iterator<Item = (&FileId, &Slot)> {
        self.files.range(FileId { uri, variant: 0 }..=FileId { uri, variant: u64::MAX })
    }

    /// Whether nothing has happened to this file since the stamp was seen.
    pub(super) fn is_current(&self, id: FileId, stamp: Stamp) -> bool {
        matches!(self.files.get(&id), Some(Slot::Stored { stamp: now, .. } | Slot::Writing(now)) if *now == stamp)
    }

    /// It was read.
    pub(super) fn touch(&mut self, id: FileId) {
        if let Some(Slot::Stored { uses, .. }) = self.files.get_mut(&id) {
            *uses = (*uses + 1).min(MAX_USES);
        }
    }

    /// A newer response is coming: what is stored for it does not count any more.
    pub(super) fn supersede(&mut self, id: FileId) -> Stamp {
        self.remove(id);
        let stamp = self.next_stamp();
        self.files.insert(id, Slot::Writing(stamp));
        stamp
    }

    /// The head of a file was brought up to date.
    pub(super) fn restamp(&mut self, id: FileId) -> Option<Stamp> {
        let next = self.next_stamp();
        let Some(Slot::Stored { stamp, queue, .. }) = self.files.get_mut(&id) else { return None };
        let queue = if *queue == Queue::Trial { &mut self.trial } else { &mut self.main };
        *stamp = next;
        queue.push_back((id, next));
        Some(next)
    }

    /// The file that was ordered with this stamp is about to take its name. Whether it still may.
    pub(super) fn begin_commit(&mut self, id: FileId, stamp: Stamp) -> bool {
        let current = self.is_current(id, stamp);
        if current {
            // It replaces what was to be removed.
            self.doomed.remove(&id);
        }
        current
    }

    /// The file has its name. When it lost its place meanwhile, it is doomed.
    pub(super) fn commit(&mut self, id: FileId, stamp: Stamp, size: u64) {
        if !self.is_current(id, stamp) {
            self.doomed.insert(id);
            return;
        }
        self.insert(id, stamp, size, Queue::Trial);
        self.trim_variants(id.uri);
        self.evict();
    }

    /// Makes room for a file that grows. Whether there is so much for such files: half of all.
    pub(super) fn reserve(&mut self, bytes: u64) -> bool {
        if self.reserved + bytes > self.capacity / 2 {
            return false;
        }
        self.reserved += bytes;
        self.evict();
        true
    }

    /// The file has stopped growing: it is [committed](Self::commit), or gone.
    pub(super) fn release(&mut self, bytes: u64) {
        self.reserved -= bytes;
    }

    /// What was ordered will not be written.
    pub(super) fn give_up(&mut self, id: FileId, stamp: Stamp) {
        if self.is_current(id, stamp) {
            self.files.remove(&id);
        }
    }

    /// Removes one file.
    pub(super) fn remove(&mut self, id: FileId) {
        self.take(id);
        // There may be one that was not found yet.
        if self.revoked.as_mut().is_some_and(|revoked| revoked.add(id.uri)) {
            self.doomed.insert(id);
        }
    }

    /// The same for all of a URI. Whether there was one.
    pub(super) fn remove_uri(&mut self, uri: u64) -> bool {
        let ids: Vec<_> = self.under(uri).map(|(id, _)| *id).collect();
        ids.iter().for_each(|id| self.take(*id));
        if self.revoked.as_mut().is_some_and(|revoked| revoked.add(uri)) {
            self.searches.push(uri);
        }
        !ids.is_empty()
    }

    /// Files to remove from the disk.
    pub(super) fn take_doomed(&mut self) -> HashSet<FileId> {
        std::mem::take(&mut self.doomed)
    }

    /// URIs whose files are to be removed although it is not known which there are.
    pub(super) fn take_searches(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.searches)
    }

    /// Files that were evicted: nobody is to begin to read them.
    pub(super) fn take_evicted(&mut self) -> Vec<FileId> {
        std::mem::take(&mut self.evicted)
    }

    /// How many there are of both.
    pub(super) fn doomed(&self) -> usize {
        self.doomed.len() + self.searches.len()
    }

    /// A file that does not count is to be removed from the disk, unless its name was taken by one that does.
    pub(super) fn doom(&mut self, id: FileId) {
        if !self.files.contains_key(&id) {
            self.doomed.insert(id);
        }
    }

    // === reading the folder ===

    pub(super) fn begin_scan(&mut self) {
        self.revoked = Some(Revoked::default());
    }

    /// A file was found. Whether it counts; otherwise it is to be removed.
    pub(super) fn found(&mut self, id: FileId, size: u64) -> bool {
        if self.files.contains_key(&id) {
            return true;
        }
        if self.revoked.as_ref().is_some_and(|revoked| revoked.covers(id.uri)) {
            return false;
        }
        // Already used in an earlier life, for all that is known.
        let stamp = self.next_stamp();
        self.insert(id, stamp, size, Queue::Main);
        self.evict();
        true
    }

    /// Whether it is there, or being written.
    pub(super) fn knows(&self, id: FileId) -> bool {
        self.files.contains_key(&id)
    }

    pub(super) fn is_scanning(&self) -> bool {
        self.revoked.is_some()
    }

    /// Whether what was in the folder before may be looked up by its name.
    pub(super) fn may_be_there(&self, id: FileId) -> bool {
        let unknown = !self.files.contains_key(&id) && !self.doomed.contains(&id);
        unknown && self.revoked.as_ref().is_some_and(|revoked| !revoked.covers(id.uri))
    }

    pub(super) fn end_scan(&mut self) {
        self.revoked = None;
    }

    // === bookkeeping ===

    fn next_stamp(&mut self) -> Stamp {
        self.stamp += 1;
        self.stamp
    }

    fn insert(&mut self, id: FileId, stamp: Stamp, size: u64, queue: Queue) {
        self.files.insert(id, Slot::Stored { stamp, size, uses: 0, queue });
        self.count += 1;
        self.bytes += size;
        match queue {
            Queue::Trial => {
                self.trial_bytes += size;
                self.trial.push_back((id, stamp));
            }
            Queue::Main => self.main.push_back((id, stamp)),
        }
        self.compact();
    }

    /// Takes a file out; it is doomed when it has a name.
    fn take(&mut self, id: FileId) {
        if let Some(Slot::Stored { size, queue, .. }) = self.files.remove(&id) {
            self.count -= 1;
            self.bytes -= size;
            if queue == Queue::Trial {
                self.trial_bytes -= size;
            }
            self.doomed.insert(id);
        }
    }

    fn trim_variants(&mut self, uri: u64) {
        let surplus: Vec<_> = self.find(uri).into_iter().skip(self.max_variants).collect();
        for (id, _) in surplus {
            self.take(id);
            self.evicted.push(id);
        }
    }

    fn evict(&mut self) {
        while self.bytes + self.reserved > self.capacity || self.count > self.max_files {
            let from_trial = self.trial_bytes > self.capacity / 10 || self.main.is_empty();
            let queue = if from_trial { &mut self.trial } else { &mut self.main };
            let Some((id, stamp)) = queue.pop_front() else { return };
            let Some(Slot::Stored { stamp: now, size, uses, queue }) = self.files.get_mut(&id) else { continue };
            if *now != stamp {
                continue;
            }
            match queue {
                Queue::Trial if *uses > 0 => {
                    (*queue, *uses) = (Queue::Main, 0);
                    self.trial_bytes -= *size;
                    self.main.push_back((id, stamp));
                }
                Queue::Main if *uses > 0 => {
                    *uses -= 1;
                    self.main.push_back((id, stamp));
                }
                _ => {
                    self.take(id);
                    self.evicted.push(id);
                }
            }
        }
    }

    /// Queues keep places of files that are gone; when those are the greater part, they go.
    fn compact(&mut self) {
        if self.trial.len() + self.main.len() > 2 * self.count + 1024 {
            let files = &self.files;
            let lives = |(id, stamp): &(FileId, Stamp)| matches!(files.get(id), Some(Slot::Stored { stamp: now, .. }) if now == stamp);
            self.trial.retain(lives);
            self.main.retain(lives);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(uri: u64) -> FileId {
        FileId { uri, variant: 0 }
    }

    fn put(index: &mut Index, id: FileId, size: u64) {
        let stamp = index.supersede(id);
        assert!(index.begin_commit(id, stamp));
        index.commit(id, stamp, size);
    }

    #[test]
    fn a_name_is_read_back_and_no_other_is_taken_for_one() {
        let name = FileId { uri: 0x00ab_0000_0000_0001, variant: 7 };
        assert_eq!(name.path(), "00/ab000000000001-0000000000000007");
        assert_eq!(FileId::parse("00", "ab000000000001-0000000000000007"), Some(name));
        for (folder, file) in [
            ("00", "AB000000000001-0000000000000007"),
            ("00", "ab000000000001-7"),
            ("0", "0ab000000000001-0000000000000007"),
            ("00", "+b000000000001-0000000000000007"),
            ("tm", "p"),
        ] {
            assert_eq!(FileId::parse(folder, file), None, "{folder}/{file}");
        }
    }

    #[test]
    fn a_scan_over_many_pushes_out_only_itself() {
        let mut index = Index::new(1000, 1000, 8);
        for uri in 0..80 {
            put(&mut index, id(uri), 10);
            index.touch(id(uri));
        }
        for uri in 1000..5000 {
            put(&mut index, id(uri), 10);
        }
        let kept = (0..80).filter(|uri| index.has(*uri)).count();
        assert!(kept >= 75, "{kept}");
        assert!(index.bytes() <= 1000);
    }

    #[test]
    fn a_write_that_was_overtaken_leaves_its_file_to_be_removed() {
        let mut index = Index::new(1000, 1000, 8);
        let first = index.supersede(id(1));
        assert!(index.begin_commit(id(1), first));
        index.remove_uri(1);
        index.commit(id(1), first, 10);
        assert!(!index.has(1) && index.take_doomed().contains(&id(1)));
        let (old, new) = (index.supersede(id(1)), index.supersede(id(1)));
        assert!(!index.begin_commit(id(1), old) && index.begin_commit(id(1), new));
    }

    #[test]
    fn what_was_removed_before_the_folder_was_read_does_not_count() {
        let mut index = Index::new(1000, 1000, 8);
        index.begin_scan();
        assert!(index.may_be_there(id(1)));
        index.remove_uri(1);
        assert!(!index.may_be_there(id(1)) && !index.found(id(1), 10) && index.found(id(2), 10));
        let order = index.supersede(id(3));
        assert!(index.found(id(3), 10) && !index.has(3), "a newer one is being written");
        index.give_up(id(3), order);
        assert!(!index.found(id(3), 10));
        index.end_scan();
        assert!(index.has(2) && !index.may_be_there(id(4)));
    }

    proptest! {
        #[test]
        fn the_sums_are_right_and_the_bounds_hold(
            steps in proptest::collection::vec((0u8..5, 0u64..12, 0u64..3, 1u64..60), 0..200),
        ) {
            let mut index = Index::new(300, 20, 2);
            let mut reserved = 0;
            for (step, uri, variant, size) in steps {
                let id = FileId { uri, variant };
                match step {
                    0 | 1 => put(&mut index, id, size),
                    2 => index.touch(id),
                    3 => { index.remove_uri(uri); }
                    _ if reserved == 0 => reserved = if index.reserve(size) { size } else { 0 },
                    _ => { index.release(reserved); reserved = 0; }
                }
                let stored: Vec<_> = index.files.values().filter_map(|slot| match slot {
                    Slot::Stored { size, queue, .. } => Some((*size, *queue)),
                    Slot::Writing(_) => None,
                }).collect();
                prop_assert_eq!(index.bytes, stored.iter().map(|(size, _)| size).sum::<u64>());
                let trial = stored.iter().filter(|(_, queue)| *queue == Queue::Trial).map(|(size, _)| size).sum::<u64>();
                prop_assert_eq!(index.trial_bytes, trial);
                prop_assert_eq!(index.count, stored.len());
                prop_assert!(index.bytes + index.reserved <= 300 && index.count <= 20);
                prop_assert!((0..12).all(|uri| index.find(uri).len() <= 2));
                prop_assert!(index.trial.len() + index.main.len() <= 2 * index.count + 1025);
                prop_assert!(index.doomed.iter().all(|id| !index.files.contains_key(id)));
            }
        }
    }
}
