//! What memory does not have may be on the disk.

use std::time::Duration;

use http::HeaderMap;
use http::request::Parts;

use super::{Lookup, decide, lookup};
use crate::cache::Shared;
use crate::disk::{Disk, Look};
use crate::key::Key;

/// How often a request waits for what others read for its URI, before it goes on without the disk.
const MAX_WAITS: u32 = 3;

/// How long a request waits for the disk in all. One that takes longer is broken, and the origin is not.
const PATIENCE: Duration = Duration::from_secs(2);

/// Looks at the disk for what memory missed.
pub(super) async fn look_further(shared: &Shared, request: &Parts, missed: Lookup) -> Lookup {
    let (Some(disk), Some(key)) = (shared.store.disk(), Key::of_request(request)) else { return missed };
    let found = tokio::time::timeout(PATIENCE, recall(shared, disk, &key, request)).await;
    found.ok().flatten().unwrap_or(missed)
}

async fn recall(shared: &Shared, disk: &Disk, key: &Key, request: &Parts) -> Option<Lookup> {
    for _ in 0..MAX_WAITS {
        match disk.look(key) {
            Look::Nothing => return None,
            Look::Wait(others) => drop(others.await),
            Look::Read(looking) => {
                let (order, entry) = looking.read(key, &request.headers).await?;
                let entry = entry.into();
                let current = shared.store.recall(order, &entry);
                drop(looking);
                return Some(decide(shared, request, current.then_some(entry)));
            }
        }
        let looked = lookup(shared, request);
        if !looked.is_miss() {
            return Some(looked);
        }
    }
    None
}

/// Takes what the disk has for a key into memory; or waits, once, for who does.
pub(super) async fn from_disk(shared: &Shared, key: &Key, request: &HeaderMap) {
    let Some(disk) = shared.store.disk() else { return };
    match disk.look(key) {
        Look::Nothing => {}
        Look::Wait(others) => drop(others.await),
        Look::Read(looking) => {
            if let Some((order, entry)) = looking.read(key, request).await {
                shared.store.recall(order, &entry.into());
            }
            drop(looking);
        }
    }
}
