//! Stored responses: variants under a URI, bounded in bytes.

use std::sync::Arc;

use http::HeaderMap;
use moka::ops::compute::Op;

use crate::config::Config;
use crate::disk::{Disk, Order, Spilled};
use crate::entry::Entry;
use crate::key::Key;

/// All stored responses. Variants (by `Vary` and by parts of the key) of one URI live and die together, so that
/// invalidating a URI is one removal.
pub(crate) struct Store {
    resources: moka::sync::Cache<Arc<str>, Arc<Resource>>,
    max_variants: usize,
    /// Most bytes of all variants of one URI; the cache's weights are 32 bits wide.
    resource_bytes: u64,
    object_limit: u64,
    /// Where they are kept as well.
    disk: Option<Disk>,
}

/// The stored responses for one URI, the latest first.
struct Resource {
    variants: Vec<Arc<Entry>>,
}

impl Resource {
    fn weight(&self) -> u64 {
        self.variants.iter().map(|entry| entry.weight()).sum()
    }
}

/// What a look-up found.
pub(crate) enum Found {
    /// A response that answers the request: the latest, when there are several (RFC 9111 section 4.1).
    Entry(Arc<Entry>),
    /// Only a part of one.
    Part(Arc<Entry>),
    /// Responses for the URI, but none for this request.
    OtherVariants,
    /// Nothing for the URI.
    Nothing,
}

impl Store {
    pub(crate) fn new(config: &Config) -> Self {
        let resources = moka::sync::Cache::builder()
            .max_capacity(config.capacity_bytes)
            .weigher(|uri: &Arc<str>, resource: &Arc<Resource>| {
                u32::try_from(resource.weight() + uri.len() as u64).unwrap_or(u32::MAX)
            })
            .build();
        let resource_bytes = (config.capacity_bytes / 4).min(u64::from(u32::MAX) / 2);
        let max_variants = config.max_variants.max(1);
        let disk = config.disk.clone().map(|disk| Disk::start(disk, config.object_limit(), max_variants));
        Self { resources, max_variants, resource_bytes, object_limit: config.object_limit(), disk }
    }

    pub(crate) fn lookup(&self, key: &Key, request: &HeaderMap) -> Found {
        let Some(resource) = self.resources.get(key.uri()) else { return Found::Nothing };
        match resource.variants.iter().find(|entry| entry.head.answers(key, request) && entry.is_there()) {
            Some(entry) if entry.span.is_some() => Found::Part(Arc::clone(entry)),
            Some(entry) => Found::Entry(Arc::clone(entry)),
            None => Found::OtherVariants,
        }
    }

    /// Stores a response in place of the one for the same variant. The oldest variants make room for it.
    pub(crate) fn put(&self, entry: Arc<Entry>) {
        let Some(disk) = &self.disk else { return self.keep(&entry) };
        if let Some(file) = entry.body.file() {
            // Its body is there already.
            if !disk.update(&entry.head, file) {
                disk.remove(&entry.head);
            }
            return self.keep(&entry);
        }
        let order = disk.supersede(&entry.head);
        self.keep(&entry);
        match entry.span {
            None => disk.write(order, entry),
            Some(_) => disk.give_up(order),
        }
    }

    /// Stores a response whose body is on the disk already, without a name.
    pub(crate) fn put_spilled(&self, entry: &Arc<Entry>, spilled: Spilled) {
        if let Some(disk) = &self.disk {
            disk.store(&entry.head, spilled);
            self.keep(entry);
        }
    }

    /// Puts what was read from the disk into memory, unless it was replaced or removed meanwhile. Whether it was not.
    pub(crate) fn recall(&self, order: Order, entry: &Arc<Entry>) -> bool {
        let mut counts = false;
        self.change(entry.head.key.shared_uri(), |old| {
            // Asked in here: whoever removes it takes it from the disk first, and then waits for this.
            let current = self.disk.as_ref().is_some_and(|disk| disk.is_current(order));
            if !current || old.iter().any(|other| same_requests(entry, other)) {
                return old.to_vec();
            }
            counts = true;
            self.with(entry, old)
        });
        counts
    }

    fn keep(&self, entry: &Arc<Entry>) {
        self.change(entry.head.key.shared_uri(), |old| self.with(entry, old));
    }

    fn with(&self, entry: &Arc<Entry>, old: &[Arc<Entry>]) -> Vec<Arc<Entry>> {
        let mut room = self.resource_bytes.saturating_sub(entry.weight());
        let others = old.iter().filter(|other| !same_requests(entry, other));
        let kept = others.take(self.max_variants - 1).take_while(|other| {
            let fits = other.weight() <= room;
            room = room.saturating_sub(other.weight());
            fits
        });
        std::iter::once(entry).chain(kept).cloned().collect()
    }

    /// The longest body that is stored when all is well.
    pub(crate) fn object_limit(&self) -> u64 {
        self.object_limit.max(self.disk.as_ref().map_or(0, Disk::object_limit))
    }

    /// The longest body that would be stored now.
    pub(crate) fn largest_body(&self) -> u64 {
        self.object_limit.max(self.disk.as_ref().map_or(0, Disk::largest_body))
    }

    /// The disk, where there is one.
    pub(crate) fn disk(&self) -> Option<&Disk> {
        self.disk.as_ref()
    }

    /// Removes this one response, if it is still there.
    pub(crate) fn remove(&self, entry: &Arc<Entry>) {
        if let Some(disk) = &self.disk {
            disk.remove(&entry.head);
        }
        self.change(entry.head.key.shared_uri(), |old| {
            old.iter().filter(|other| !Arc::ptr_eq(other, entry)).cloned().collect()
        });
    }

    /// Removes what is not to be kept.
    pub(crate) fn retain(&self, keep: impl Fn(&Entry) -> bool) {
        for (_, resource) in &self.resources {
            resource.variants.iter().filter(|entry| !keep(entry)).for_each(|entry| self.remove(entry));
        }
    }

    /// Removes everything under a URI; whether there was something.
    pub(crate) fn remove_uri(&self, uri: &Arc<str>) -> bool {
        let on_disk = self.disk.as_ref().is_some_and(|disk| disk.remove_uri(uri));
        let mut in_memory = false;
        self.change(uri, |old| {
            in_memory = !old.is_empty();
            Vec::new()
        });
        on_disk || in_memory
    }

    fn change(&self, uri: &Arc<str>, change: impl FnOnce(&[Arc<Entry>]) -> Vec<Arc<Entry>>) {
        self.resources.entry_by_ref(uri).and_compute_with(|old| {
            let old = old.map(moka::Entry::into_value);
            let variants = change(old.as_ref().map_or(&[], |resource| &resource.variants));
            match (variants.is_empty(), old) {
                (false, _) => Op::Put(Arc::new(Resource { variants })),
                (true, Some(_)) => Op::Remove,
                (true, None) => Op::Nop,
            }
        });
    }

    /// How many URIs in memory, about: exact after [`Store::run_pending`].
    pub(crate) fn entries(&self) -> u64 {
        self.resources.entry_count()
    }

    /// How many bytes, likewise.
    pub(crate) fn bytes(&self) -> u64 {
        self.resources.weighted_size()
    }

    pub(crate) fn run_pending(&self) {
        self.resources.run_pending_tasks();
    }
}

/// Whether two stored responses answer the same requests.
fn same_requests(a: &Entry, b: &Entry) -> bool {
    a.head.selectors == b.head.selectors && a.head.key.parts() == b.head.key.parts()
}
