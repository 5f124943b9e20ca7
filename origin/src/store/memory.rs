//! Objects in memory: for tests and for trying things out. Nothing outlives the process.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Bound, Range};
use std::sync::{PoisonError, RwLock};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream;

use super::{
    Attributes, Body, BodyTooLarge, Clock, MAX_PAGE, Meta, Object, ObjectStore, Page, PutMode, StoreError, Written,
    limit_of, resolve,
};
use crate::bundle::Digest;
use crate::key::Key;

/// Bytes in one chunk of a body: a view, not a copy.
const CHUNK_BYTES: usize = 256 << 10;

/// A store in memory.
pub struct Memory {
    clock: Clock,
    objects: RwLock<BTreeMap<Key, Entry>>,
}

#[derive(Clone)]
struct Entry {
    meta: Meta,
    attributes: Attributes,
    bytes: Bytes,
}

impl Memory {
    /// An empty store that stamps its objects with `clock`.
    pub fn new(clock: Clock) -> Self {
        Self { clock, objects: RwLock::default() }
    }

    fn entry(&self, key: &Key) -> Result<Entry, StoreError> {
        let objects = self.objects.read().unwrap_or_else(PoisonError::into_inner);
        objects.get(key).cloned().ok_or_else(|| StoreError::NotFound { key: key.clone() })
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Memory")
    }
}

#[async_trait]
impl ObjectStore for Memory {
    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<Object, StoreError> {
        let Entry { meta, attributes, bytes } = self.entry(key)?;
        let range = resolve(key, range, meta.size)?;
        let mut left = bytes.slice(range.start as usize..range.end as usize);
        let chunks =
            std::iter::from_fn(move || (!left.is_empty()).then(|| Ok(left.split_to(left.len().min(CHUNK_BYTES)))));
        let body = Body::new(stream::iter(chunks));
        Ok(Object { meta, attributes, range, body })
    }

    async fn head(&self, key: &Key) -> Result<(Meta, Attributes), StoreError> {
        let Entry { meta, attributes, .. } = self.entry(key)?;
        Ok((meta, attributes))
    }

    async fn put(&self, key: &Key, body: Body, mode: PutMode, attributes: Attributes) -> Result<Written, StoreError> {
        attributes.check(key)?;
        let limit = limit_of(&mode);
        let bytes = body.collect(usize::try_from(limit).unwrap_or(usize::MAX)).await.map_err(|source| {
            match source.is::<BodyTooLarge>() {
                true => StoreError::TooLarge { key: key.clone(), limit },
                false => StoreError::Body { key: key.clone(), source },
            }
        })?;
        let written = Written { etag: Digest::of(&bytes).to_string(), size: bytes.len() as u64 };
        let meta = Meta { key: key.clone(), size: written.size, etag: written.etag.clone(), modified: (self.clock)() };
        let mut objects = self.objects.write().unwrap_or_else(PoisonError::into_inner);
        match (&mode, objects.get(key)) {
            (PutMode::Create, Some(_)) => return Err(StoreError::AlreadyExists { key: key.clone() }),
            (PutMode::Update(etag), found) if found.is_none_or(|e| e.meta.etag != *etag) => {
                return Err(StoreError::Precondition { key: key.clone() });
            }
            _ => {}
        }
        objects.insert(key.clone(), Entry { meta, attributes, bytes });
        Ok(written)
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        self.objects.write().unwrap_or_else(PoisonError::into_inner).remove(key);
        Ok(())
    }

    async fn list(&self, folder: &Key, after: Option<&Key>, limit: usize) -> Result<Page, StoreError> {
        let limit = limit.min(MAX_PAGE);
        let objects = self.objects.read().unwrap_or_else(PoisonError::into_inner);
        let from = Bound::Excluded(after.max(Some(folder)).unwrap_or(folder));
        // Keys such as `a-b` stand between `a` and `a/b`: skip them, and stop behind the folder.
        let below = |key: &&Key| key.is_below(folder);
        let end = format!("{folder}0");
        let mut keys = objects
            .range::<Key, _>((from, Bound::Unbounded))
            .map(|(key, _)| key)
            .take_while(|key| key.as_str() < end.as_str())
            .filter(below);
        let page: Vec<Key> = keys.by_ref().take(limit).cloned().collect();
        Ok(Page { more: keys.next().is_some(), keys: page })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::SystemTime;

    use super::*;
    use crate::store::contract;

    #[tokio::test]
    async fn memory_keeps_the_contract() {
        contract::all(Arc::new(Memory::new(Arc::new(SystemTime::now)))).await;
    }
}
