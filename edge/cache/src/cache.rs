//! One cache, shared by all threads of a process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::ThreadId;
use std::time::{Duration, SystemTime};

use http::HeaderMap;
use http::header::HeaderName;

use crate::answer::status::Identity;
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::disk::{Disk, DiskStatus};
use crate::failure::{FailureKind, OriginFailure};
use crate::flights::{Flights, Ledger};
use crate::key::Key;
use crate::policy::vary;
use crate::purge::{Purge, Purges};
use crate::store::{Found, Store};

/// A shared HTTP cache. Clones are the same cache. Give every worker thread one; see [`fetch`](crate::fetch).
#[derive(Clone)]
pub struct Cache {
    pub(crate) shared: Arc<Shared>,
}

/// A cache under one of its names.
pub(crate) struct Shared {
    pub(crate) identity: Identity,
    core: Arc<Core>,
}

impl std::ops::Deref for Shared {
    type Target = Core;

    fn deref(&self) -> &Core {
        &self.core
    }
}

pub(crate) struct Core {
    pub(crate) config: Config,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) store: Store,
    pub(crate) flights: Flights,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) purges: Arc<Purges>,
    /// The purges that were swept out already.
    swept: AtomicU64,
    hints: moka::sync::Cache<Key, Arc<Hint>>,
}

/// Most bytes of what the cache remembers about keys besides stored responses: some 65,000 ordinary URIs.
const HINT_BYTES: u64 = 16 << 20;

/// What the last response for a key tells about the next one.
#[derive(Debug, Clone, Default)]
struct Hint {
    /// The fields in its `Vary`: requests that differ in them are not collapsed.
    vary: Arc<[HeaderName]>,
    /// It could not be shared: until then requests are not collapsed.
    pass_until: Option<SystemTime>,
}

impl Cache {
    /// A cache on the machine's clock.
    pub fn new(config: Config) -> Self {
        Self::with_clock(config, Arc::new(SystemClock))
    }

    /// A cache on a clock of the caller's.
    pub fn with_clock(config: Config, clock: Arc<dyn Clock>) -> Self {
        let store = Store::new(&config);
        let hints = moka::sync::Cache::builder()
            .max_capacity(HINT_BYTES)
            .weigher(|key: &Key, hint: &Arc<Hint>| {
                let bytes = key.uri().len() + key.parts().map_or(0, str::len) + 64 * hint.vary.len() + 192;
                u32::try_from(bytes).unwrap_or(u32::MAX)
            })
            .build();
        let identity = Identity::new(&config.identity);
        let ledger = Arc::new(Ledger::default());
        let purges = Arc::new(Purges::default());
        let flights = Flights::new(config.max_fills, Arc::clone(&ledger), Arc::clone(&purges));
        let swept = AtomicU64::new(0);
        let core = Arc::new(Core { config, clock, store, flights, ledger, purges, swept, hints });
        Self { shared: Arc::new(Shared { identity, core }) }
    }

    /// The same cache under another name in `Cache-Status`: a layer of its own for whoever reads that.
    #[must_use]
    pub fn named(&self, name: &str) -> Self {
        let core = Arc::clone(&self.shared.core);
        Self { shared: Arc::new(Shared { identity: Identity::new(name), core }) }
    }

    /// Removes everything stored under the key's URI, whatever its parts and variants; what is arriving for it is not
    /// stored (RFC 9111 section 4.4). Whether something was stored.
    pub fn invalidate(&self, key: &Key) -> bool {
        self.shared.invalidate(key)
    }

    /// Puts a purge in force, at once: no request that begins after this is answered with what it covers, not even with
    /// a response that is arriving. One whose number is not above [`Cache::purged`] has no effect.
    pub fn purge(&self, purge: &Purge) {
        self.shared.purges.add(purge);
    }

    /// The number of the last purge in force; 0 for none.
    pub fn purged(&self) -> u64 {
        self.shared.purges.latest()
    }

    /// Purges that are told apart, at most 65,536. Past that, or past 16 MiB of their text, the older half becomes one
    /// that covers everything.
    pub fn purge_rules(&self) -> usize {
        self.shared.purges.rules()
    }

    /// While it is fenced, nothing counts as fresh: every stored response is validated before it is sent, because
    /// somebody may have purged it without this cache being told.
    pub fn fence(&self, fenced: bool) {
        self.shared.purges.fence(fenced)
    }

    /// Fences it from this time on, unless told otherwise before: also when whoever should do so then is asleep.
    pub fn fence_from(&self, time: SystemTime) {
        self.shared.purges.trust_until(time);
    }

    /// URIs with stored responses in memory, about; exact after [`Cache::run_pending`].
    pub fn entries(&self) -> u64 {
        self.shared.store.entries()
    }

    /// Bytes of stored responses in memory, about; exact after [`Cache::run_pending`].
    pub fn bytes(&self) -> u64 {
        self.shared.store.bytes()
    }

    /// How the disk is doing; `None` without one.
    pub fn disk(&self) -> Option<DiskStatus> {
        self.shared.store.disk().map(Disk::status)
    }

    /// Bytes of bodies that are arriving, or that broke off or grew too large and still have slow readers.
    pub fn fill_bytes(&self) -> u64 {
        self.shared.ledger.bytes.load(Ordering::Relaxed)
    }

    /// Responses that are asked for or arriving, at most [`Config::max_fills`].
    pub fn fills(&self) -> usize {
        self.shared.ledger.fills.load(Ordering::Relaxed)
    }

    /// What tasks on this thread are fetching will not arrive: the thread is lost, and they with it. Whoever waits for it
    /// is told, and asks the origin anew if nothing was sent yet; nobody joins it any more.
    pub fn abandon(&self, thread: ThreadId) {
        for fill in self.shared.flights.orphans(thread) {
            fill.abort(OriginFailure::new(FailureKind::Abandoned, "the thread that asked the origin is lost"));
        }
    }

    /// Does what the store put off: evictions, counts, and the removal of what was purged. It also happens in passing on look-ups; an idle process calls
    /// this now and then to give memory back.
    pub fn run_pending(&self) {
        self.shared.sweep();
        self.shared.store.run_pending();
        self.shared.hints.run_pending_tasks();
    }
}

impl Core {
    pub(crate) fn now(&self) -> SystemTime {
        self.clock.now()
    }

    /// RFC 9111 section 4.4. In this order: a fill that ends in between finds itself revoked.
    pub(crate) fn invalidate(&self, key: &Key) -> bool {
        self.flights.revoke(key.uri());
        self.store.remove_uri(key.shared_uri())
    }

    /// What is stored for a request and was not purged.
    pub(crate) fn stored(&self, key: &Key, request: &HeaderMap) -> Found {
        loop {
            match self.store.lookup(key, request) {
                Found::Entry(entry) | Found::Part(entry) if !entry.survives(&self.purges) => self.store.remove(&entry),
                found => return found,
            }
        }
    }

    /// Removes what was purged, so that it takes no room until somebody asks for it.
    fn sweep(&self) {
        let latest = self.purges.latest();
        if self.swept.swap(latest, Ordering::Relaxed) < latest {
            self.store.retain(|entry| entry.survives(&self.purges));
        }
    }

    /// Whether the last answer for the key could not be shared, so that waiting for the next one is in vain.
    pub(crate) fn passes(&self, key: &Key) -> bool {
        let hint = self.hints.get(key);
        hint.and_then(|hint| hint.pass_until).is_some_and(|until| self.now() < until)
    }

    /// The fields that answers for the key varied by.
    pub(crate) fn vary(&self, key: &Key) -> Arc<[HeaderName]> {
        self.hints.get(key).map(|hint| Arc::clone(&hint.vary)).unwrap_or_default()
    }

    /// Remembers that an answer for the key could not be shared.
    pub(crate) fn note_unshared(&self, key: &Key, headers: &HeaderMap) {
        self.note_pass(key, headers, self.config.pass_for);
    }

    /// Remembers that an answer for the key was too large to store.
    pub(crate) fn note_too_large(&self, key: &Key, headers: &HeaderMap) {
        self.note_pass(key, headers, self.config.pass_large_for);
    }

    fn note_pass(&self, key: &Key, headers: &HeaderMap, time: Duration) {
        let now = self.now();
        let vary: Arc<[HeaderName]> = vary::names(headers).unwrap_or_default().into();
        // Every answer that is passed says so again; a note is renewed when half of its time is over.
        let lasts = |hint: &Hint| hint.vary == vary && hint.pass_until > now.checked_add(time / 2);
        if !self.hints.get(key).is_some_and(|hint| lasts(&hint)) {
            self.hints.insert(key.clone(), Arc::new(Hint { vary, pass_until: now.checked_add(time) }));
        }
    }

    /// Remembers what a shared answer for the key varies by.
    pub(crate) fn note_shared(&self, key: &Key, names: impl Iterator<Item = HeaderName>) {
        let vary: Arc<[HeaderName]> = names.collect();
        match self.hints.get(key) {
            None if vary.is_empty() => {}
            Some(hint) if hint.vary == vary && hint.pass_until.is_none() => {}
            _ => self.hints.insert(key.clone(), Arc::new(Hint { vary, pass_until: None })),
        }
    }
}
