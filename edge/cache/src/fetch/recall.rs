//! What memory does not have may be on the disk.

use http::request::Parts;

use super::{Lookup, lookup};
use crate::cache::Shared;
use crate::disk::Look;
use crate::key::Key;

/// How often a request waits for what others read for its URI, before it goes on without the disk.
const MAX_WAITS: u32 = 3;

/// Looks at the disk for what memory missed.
pub(super) async fn look_further(shared: &Shared, request: &Parts, missed: Lookup) -> Lookup {
    let (Some(disk), Some(key)) = (shared.store.disk(), Key::of_request(request)) else { return missed };
    for _ in 0..MAX_WAITS {
        match disk.look(&key) {
            Look::Nothing => return missed,
            Look::Wait(others) => drop(others.await),
            Look::Read(looking) => {
                let Some((order, entry)) = looking.read(&key, &request.headers).await else { return missed };
                let entry = entry.into();
                shared.store.recall(order, &entry);
                drop(looking);
                return lookup(shared, request);
            }
        }
        let looked = lookup(shared, request);
        if !looked.is_miss() {
            return looked;
        }
    }
    missed
}
