//! The log in the store, kept in memory and followed as it grows, by us or by another origin on the same store.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex, watch};
use tokio::time::Instant;

use super::head::{self, Head, Next, Segment};
use super::{Batch, Mode, PurgePage, Scope};
use crate::key::Key;
use crate::server::unix_ms;
use crate::store::{Attributes, BodyTooLarge, Clock, DigestMismatch, ObjectStore, PutMode, StoreError};

/// Largest head and largest segment, in bytes.
const MAX_OBJECT: usize = 4 << 20;

/// How often a purge is tried again after somebody else's came first.
const MAX_ATTEMPTS: u32 = 64;

/// An origin that could not read the log for so long does not know how far it is: another one may have added to it.
const IN_TOUCH: Duration = Duration::from_secs(5);

/// Purges in one page, roughly: a page ends with the batch that reaches it.
const PAGE_PURGES: usize = 1000;

/// The same in bytes of JSON.
const PAGE_BYTES: u64 = 2 << 20;

/// Segments looked up for removal after one purge: what is left is met by the next.
const TIDIED_AT_ONCE: usize = 100;

/// Why a purge is not in the log. It may be, after [`PurgeError::Store`]; asking again is harmless.
#[derive(Debug, thiserror::Error)]
pub enum PurgeError {
    /// Others changed the log again and again.
    #[error("the purge log keeps changing; try again")]
    Contended,
    /// The stored log cannot be read by this release.
    #[error(
        "the stored purge log is not readable: {0}; restore the object purges/log, or delete it: a new one begins then, and \
         every PoP forgets what it has"
    )]
    Log(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The purge log of a store.
#[derive(Debug)]
pub struct Log {
    store: Arc<dyn ObjectStore>,
    /// Purges and looks of this process queue here instead of defeating each other in the store.
    turn: Mutex<()>,
    known: watch::Sender<Arc<Known>>,
    /// When the store last told how far the log is.
    looked: std::sync::Mutex<Instant>,
}

/// The log as of the last look.
#[derive(Clone, Debug)]
pub struct Known {
    etag: String,
    head: Head,
    /// The batches of each segment of the head, oldest first.
    segments: Vec<Arc<[Batch]>>,
}

impl Known {
    /// Number of the newest purge.
    pub fn last(&self) -> u64 {
        self.head.last
    }

    /// What follows a purge, as far as one page goes.
    pub fn after(&self, number: u64) -> PurgePage {
        let mut page = PurgePage {
            last: self.head.last,
            known_after: self.head.known_after,
            length: self.head.length(),
            batches: Vec::new(),
        };
        // From the newest segment backwards, those that end at or before the number are not looked into.
        let first = self.segments.iter().rposition(|batches| batches.last().is_some_and(|b| b.last() <= number));
        let segments = self.segments[first.map_or(0, |at| at + 1)..].iter().flat_map(|batches| batches.iter());
        let (mut purges, mut bytes) = (0, 0);
        for batch in segments.chain(&self.head.recent).filter(|batch| batch.last() > number) {
            if purges >= PAGE_PURGES || bytes >= PAGE_BYTES {
                break;
            }
            (purges, bytes) = (purges + batch.scopes.len(), bytes + batch.bytes());
            page.batches.push(batch.clone());
        }
        page
    }

    /// The batch that an append has made, wherever it is by now.
    fn find(&self, id: &str) -> Option<&Batch> {
        let segments = self.segments.iter().rev().flat_map(|batches| batches.iter().rev());
        self.head.recent.iter().rev().chain(segments).find(|batch| batch.id == id)
    }
}

impl Log {
    /// Reads the log of `store`; begins it when there is none.
    ///
    /// # Errors
    /// [`PurgeError`].
    pub async fn open(store: Arc<dyn ObjectStore>, now_ms: u64) -> Result<Self, PurgeError> {
        let nothing = Known { etag: String::new(), head: Head::new(0), segments: Vec::new() };
        let known = read(&*store, &nothing, now_ms).await?;
        let looked = std::sync::Mutex::new(Instant::now());
        Ok(Self { store, turn: Mutex::default(), known: watch::channel(Arc::new(known)).0, looked })
    }

    /// The log as of the last look.
    pub fn known(&self) -> Arc<Known> {
        self.known.borrow().clone()
    }

    /// Whether the store has told lately how far the log is.
    pub fn is_in_touch(&self) -> bool {
        self.looked.lock().unwrap_or_else(PoisonError::into_inner).elapsed() < IN_TOUCH
    }

    fn touch(&self, at: Instant) {
        *self.looked.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }

    /// Receives each change.
    pub fn watch(&self) -> watch::Receiver<Arc<Known>> {
        self.known.subscribe()
    }

    /// Adds purges, all or none, and returns when they are durable.
    ///
    /// # Errors
    /// [`PurgeError`].
    pub async fn append(&self, scopes: Vec<Scope>, mode: Mode, now_ms: u64) -> Result<Batch, PurgeError> {
        let _turn = self.turn.lock().await;
        let id = format!("{:032x}", rand::random::<u128>());
        let mut known = Known::clone(&self.known());
        for attempt in 0..MAX_ATTEMPTS {
            let (next, batch) = known.head.append(scopes.clone(), mode, id.clone(), now_ms);
            let begun = Instant::now();
            if let Some(next) = self.swap(&known, next).await? {
                self.touch(begun);
                self.known.send_replace(Arc::new(next));
                return Ok(batch);
            }
            // A put that was applied may still be answered with a conflict (its own retry's): then the batch is there.
            known = read(&*self.store, &known, now_ms).await?;
            if let Some(batch) = known.find(&id).cloned() {
                self.known.send_replace(Arc::new(known));
                return Ok(batch);
            }
            tokio::time::sleep(Duration::from_millis(u64::from(attempt.min(20)) * rand::random_range(1..8))).await;
        }
        Err(PurgeError::Contended)
    }

    /// Looks whether the log has grown. After an error, what was known stays.
    ///
    /// # Errors
    /// [`PurgeError`].
    pub async fn refresh(&self, now_ms: u64) -> Result<(), PurgeError> {
        let _turn = self.turn.lock().await;
        let (before, begun) = (self.known(), Instant::now());
        let known = read(&*self.store, &before, now_ms).await?;
        self.touch(begun);
        if known.etag != before.etag {
            self.known.send_replace(Arc::new(known));
        }
        Ok(())
    }

    /// Refreshes every `interval`, for ever.
    pub async fn follow(&self, interval: Duration, clock: &Clock) {
        let mut failing = false;
        loop {
            tokio::time::sleep(interval).await;
            match self.refresh(unix_ms(clock())).await {
                Ok(()) => failing = false,
                // Once for each outage, not once a second.
                Err(error) if !failing => {
                    failing = true;
                    tracing::error!(%error, "the purge log cannot be read; purges of other origins come later");
                }
                Err(_) => {}
            }
        }
    }

    /// Writes the head when it still is the one that is `known`; `None` when it is not.
    async fn swap(&self, known: &Known, next: Next) -> Result<Option<Known>, PurgeError> {
        let Next { head, segment, dropped } = next;
        let mut segments = known.segments.clone();
        if let (Some((bytes, batches)), Some(segment)) = (segment, head.segments.last()) {
            // Named by its content: who writes it again writes the same.
            self.store.put(&segment_key(segment), bytes.into(), PutMode::Overwrite, json()).await?;
            segments.push(batches);
        }
        let mode = PutMode::Update(known.etag.clone());
        match self.store.put(&head_key(), head.encode().into(), mode, json()).await {
            Ok(written) => {
                segments.drain(..dropped);
                if dropped > 0 {
                    self.tidy(head.known_after).await;
                }
                Ok(Some(Known { etag: written.etag, head, segments }))
            }
            Err(e) if e.is_conflict() => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// Removes segments that the log has not in it any more, also those of attempts that failed. What cannot be removed now
    /// is met again.
    async fn tidy(&self, known_after: u64) {
        let page = match self.store.list(&folder(), None, TIDIED_AT_ONCE).await {
            Ok(page) => page,
            Err(error) => return tracing::warn!(%error, "old segments of the purge log are not removed yet"),
        };
        for key in page.keys {
            let last = key.as_str().rsplit('/').next().and_then(|name| name.split_once('-'));
            if last.and_then(|(last, _)| last.parse::<u64>().ok()).is_some_and(|last| last <= known_after)
                && let Err(error) = self.store.delete(&key).await
            {
                tracing::warn!(%key, %error, "an old segment of the purge log is not removed yet");
            }
        }
    }
}

/// Reads what is not known yet, or begins a log.
async fn read(store: &dyn ObjectStore, known: &Known, now_ms: u64) -> Result<Known, PurgeError> {
    loop {
        let key = head_key();
        let object = match store.get(&key, None).await {
            Ok(object) => object,
            Err(e) if e.is_not_found() => match begin(store, now_ms.max(known.head.last + 1)).await? {
                Some(known) => return Ok(known),
                None => continue,
            },
            Err(e) => return Err(e.into()),
        };
        if object.meta.etag == known.etag {
            return Ok(known.clone());
        }
        let etag = object.meta.etag;
        let bytes = object.body.collect(MAX_OBJECT).await.map_err(|e| read_failed(&key, e))?;
        let mut head = Head::decode(&bytes)?;
        let mut segments = Vec::with_capacity(head.segments.len());
        let mut known_after = head.known_after;
        for segment in &head.segments {
            let had = known.head.segments.iter().position(|had| had == segment);
            let batches = match had.and_then(|at| known.segments.get(at)) {
                Some(batches) => Ok(batches.clone()),
                None => read_segment(store, segment).await,
            };
            segments.push(match batches {
                Ok(batches) => batches,
                Err(PurgeError::Store(error @ (StoreError::NotFound { .. } | StoreError::Corrupt { .. }))) => {
                    tracing::error!(%error, "a part of the purge log is lost: PoPs that need it forget what they have");
                    known_after = segment.last;
                    Arc::new([])
                }
                Err(e) => return Err(e),
            });
        }
        head.known_after = known_after;
        return Ok(Known { etag, head, segments });
    }
}

/// Begins a log. Its numbers are above those of one that was lost. `None` when somebody else has begun one.
async fn begin(store: &dyn ObjectStore, number: u64) -> Result<Option<Known>, PurgeError> {
    let head = Head::new(number);
    match store.put(&head_key(), head.encode().into(), PutMode::Create, json()).await {
        Ok(written) => Ok(Some(Known { etag: written.etag, head, segments: Vec::new() })),
        Err(e) if e.is_conflict() => Ok(None),
        Err(e) => Err(e.into()),
    }
}

async fn read_segment(store: &dyn ObjectStore, segment: &Segment) -> Result<Arc<[Batch]>, PurgeError> {
    let key = segment_key(segment);
    let object = store.get(&key, None).await?;
    let bytes = object.body.verified(segment.digest).collect(MAX_OBJECT).await.map_err(|e| read_failed(&key, e))?;
    head::decode_segment(&bytes).map_err(|why| StoreError::corrupt(&key, why).into())
}

/// An error while the body of a stored object was read.
fn read_failed(key: &Key, source: crate::store::BoxError) -> StoreError {
    match source.downcast::<StoreError>() {
        Ok(error) => *error,
        Err(e) if e.is::<DigestMismatch>() || e.is::<BodyTooLarge>() => StoreError::corrupt(key, e.to_string()),
        Err(e) => StoreError::unavailable(key, e),
    }
}

fn head_key() -> Key {
    fixed("purges/log")
}

fn folder() -> Key {
    fixed("purges/segments")
}

fn segment_key(segment: &Segment) -> Key {
    // In the order of bytes, the oldest come first.
    fixed(&format!("purges/segments/{:020}-{}", segment.last, segment.digest))
}

fn fixed(text: &str) -> Key {
    Key::parse(text).expect("numbers and digests are key segments")
}

fn json() -> Attributes {
    Attributes { content_type: Some("application/json".to_owned()), cache_control: None }
}

#[cfg(test)]
mod tests;
