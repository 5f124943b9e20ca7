//! Deployments: which version of each function is live, and the operations that change it.
//!
//! ```text
//! bundles/<version>                       the bundle's bytes
//! blobs/<digest>                          an asset's bytes
//! functions/<name>/versions/<version>     a Version: what was published, and when
//! manifest                                what is live, changed only by compare-and-swap
//! public/<path>                           objects that users put, served by path
//! ```
//!
//! Bundles, blobs and version records never change once written. What is live, and the line of versions that a
//! rollback walks back, are in the one object `manifest`, so that they change together or not at all.
//!
//! Old versions are removed, blobs never: an upload that finds its blob there skips it, and a store has no way to say
//! "keep this one" that would not race with its removal. A store grows by the distinct bytes of all assets ever put.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};

use crate::bundle::{Asset, Bundle, Digest, FunctionName, MAX_BUNDLE_BYTES};
use crate::key::Key;
use crate::store::{Attributes, Body, BodyTooLarge, DigestMismatch, ObjectStore, PutMode, StoreError};
use manifest::Stored;

pub use error::{Conflict, DeployError};
pub use follow::{Follower, Live, LiveAsset};
pub use manifest::{Deployment, MAX_FUNCTIONS, Manifest};
pub use version::Version;

mod check;
mod error;
mod follow;
mod manifest;
mod version;

/// Longest message of a version, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 1000;

/// Shortest prefix that names a version, in hexadecimal characters.
pub const MIN_PREFIX: usize = 4;

/// Largest manifest, in bytes, written and read: [`MAX_FUNCTIONS`] functions with their lines take two thirds, routes the
/// rest.
const MAX_MANIFEST_BYTES: usize = 12 << 20;

/// How often a change is tried again after somebody else's came first.
const MAX_ATTEMPTS: u32 = 64;

/// Requests to the store at once on behalf of one operation.
const REQUESTS_AT_ONCE: usize = 16;

/// Asset tables remembered; more than the functions that can be live.
const MAX_TABLES: usize = 2 * MAX_FUNCTIONS;

/// The static files of a version by URL path.
pub type AssetTable = BTreeMap<String, Asset>;

/// The deployments in a store.
#[derive(Debug)]
pub struct Deployments {
    store: Arc<dyn ObjectStore>,
    /// Changes of this process queue here instead of defeating each other in the store.
    turn: tokio::sync::Mutex<()>,
    /// Bundles never change, so neither do their asset tables.
    tables: Mutex<HashMap<Digest, Arc<AssetTable>>>,
}

/// What a deploy or rollback has done.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Outcome {
    /// Generation of the manifest that has the version live.
    pub generation: u64,
    /// The version that is live now.
    pub version: Digest,
    /// The version that was live before, if any.
    pub previous: Option<Digest>,
    /// Whether this call changed anything; `false` when the version was live already.
    pub changed: bool,
}

/// Where a change leads.
#[derive(Clone, Copy)]
enum Aim {
    Deploy(Digest),
    Back,
    BackTo(Digest),
}

impl Deployments {
    /// The deployments in `store`.
    pub fn new(store: Arc<dyn ObjectStore>) -> Self {
        Self { store, turn: tokio::sync::Mutex::default(), tables: Mutex::default() }
    }

    /// Stores a bundle as a version that can be deployed. The bytes must be the version `expected`; publishing a
    /// version again succeeds and keeps its first record.
    ///
    /// # Errors
    /// [`DeployError::Bundle`], [`DeployError::TooLarge`] or [`DeployError::Invalid`] when it is not a sound bundle,
    /// [`DeployError::MissingBlobs`] when assets have not been uploaded. Nothing is stored then.
    pub async fn publish(
        &self,
        bytes: Bytes,
        expected: &Digest,
        message: Option<String>,
        now_ms: u64,
    ) -> Result<Version, DeployError> {
        if bytes.len() > MAX_BUNDLE_BYTES {
            return Err(DeployError::TooLarge { size: bytes.len() });
        }
        let bundle = Bundle::decode(&bytes, expected)?;
        check::bundle(&bundle, message.as_deref()).map_err(DeployError::Invalid)?;
        self.check_blobs(&bundle).await?;
        let version =
            Version { version: *expected, size: bytes.len() as u64, created_at_ms: now_ms, message, live: false };
        // Overwriting with the same bytes repairs a bundle that the disk has damaged.
        let json = Attributes { content_type: Some("application/json".to_owned()), cache_control: None };
        self.store.put(&bundle_key(expected), bytes.into(), PutMode::Overwrite, json).await?;
        self.record(&bundle.name, version).await
    }

    /// Makes a published version live.
    ///
    /// # Errors
    /// [`DeployError::UnknownVersion`], [`DeployError::OtherFunction`]; [`DeployError::Conflict`] when another
    /// function has one of its routes or asset paths; [`DeployError::Contended`]; [`DeployError::Store`].
    pub async fn deploy(&self, name: &FunctionName, version: &Digest, now_ms: u64) -> Result<Outcome, DeployError> {
        self.go_live(name, Aim::Deploy(*version), now_ms).await
    }

    /// Makes an earlier version live: the one before the live one, again and again towards the first, or the one
    /// whose digest begins with `prefix`.
    ///
    /// # Errors
    /// As [`Self::deploy`]; [`DeployError::NothingBefore`], [`DeployError::NotDeployed`];
    /// [`DeployError::Prefix`] when the prefix names no version or several.
    pub async fn rollback(
        &self,
        name: &FunctionName,
        prefix: Option<&str>,
        now_ms: u64,
    ) -> Result<Outcome, DeployError> {
        let aim = match prefix {
            Some(prefix) => Aim::BackTo(self.resolve(name, prefix).await?),
            None => Aim::Back,
        };
        self.go_live(name, aim, now_ms).await
    }

    /// Takes a function out of the manifest; its versions stay. Returns the new generation.
    ///
    /// # Errors
    /// [`DeployError::NotDeployed`], [`DeployError::Contended`], [`DeployError::Store`].
    pub async fn delete(&self, name: &FunctionName) -> Result<u64, DeployError> {
        let _turn = self.turn.lock().await;
        for attempt in 0..MAX_ATTEMPTS {
            let (mut stored, etag) = self.read().await?;
            if !stored.remove(name) {
                return Err(DeployError::NotDeployed { name: name.clone() });
            }
            if self.swap(&mut stored, etag).await? {
                return Ok(stored.manifest.generation);
            }
            pause(name, attempt).await;
        }
        Err(DeployError::Contended)
    }

    /// What is live, as the store has it now, and the entity tag of that answer.
    ///
    /// # Errors
    /// [`DeployError::Store`] or [`DeployError::Manifest`].
    pub async fn manifest(&self) -> Result<(Manifest, Option<String>), DeployError> {
        let (stored, etag) = self.read().await?;
        Ok((stored.manifest, etag))
    }

    /// The bytes of a published version, verified.
    ///
    /// # Errors
    /// [`DeployError::Store`]: not found, corrupt or unavailable.
    pub async fn bundle(&self, version: &Digest) -> Result<Bytes, DeployError> {
        let key = bundle_key(version);
        let object = self.store.get(&key, None).await?;
        let bytes = object.body.verified(*version).collect(MAX_BUNDLE_BYTES).await;
        bytes.map_err(|e| read_failed(&key, e).into())
    }

    /// The static files of a published version.
    ///
    /// # Errors
    /// As [`Self::bundle`], and [`DeployError::Bundle`].
    pub async fn assets(&self, version: &Digest) -> Result<Arc<AssetTable>, DeployError> {
        let known = self.tables.lock().unwrap_or_else(PoisonError::into_inner).get(version).cloned();
        match known {
            Some(table) => Ok(table),
            None => Ok(self.remember(version, self.load(version).await?.assets)),
        }
    }

    fn remember(&self, version: &Digest, table: AssetTable) -> Arc<AssetTable> {
        let table = Arc::new(table);
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        if tables.len() >= MAX_TABLES {
            tables.clear();
        }
        tables.insert(*version, table.clone());
        table
    }

    async fn load(&self, version: &Digest) -> Result<Bundle, DeployError> {
        Ok(Bundle::decode(&self.bundle(version).await?, version)?)
    }

    async fn go_live(&self, name: &FunctionName, mut aim: Aim, now_ms: u64) -> Result<Outcome, DeployError> {
        let _turn = self.turn.lock().await;
        let mut first = None;
        for attempt in 0..MAX_ATTEMPTS {
            let (mut stored, etag) = self.read().await?;
            let live = stored.manifest.functions.get(name).map(|d| d.version);
            let previous = *first.get_or_insert(live);
            let version = match aim {
                Aim::Deploy(version) | Aim::BackTo(version) => version,
                Aim::Back => stored.before(name)?,
            };
            if matches!(aim, Aim::Back) {
                // A put that was applied may still be answered with a conflict (its own retry's): from the next look on
                // "the one before" would be one too far.
                aim = Aim::BackTo(version);
            }
            let outcome = |generation| Outcome { generation, version, previous, changed: previous != Some(version) };
            if live == Some(version) {
                return Ok(outcome(stored.manifest.generation));
            }
            let deployment = self.release(&stored, name, &version, now_ms).await?;
            match aim {
                Aim::Deploy(_) => stored.deploy(name, deployment)?,
                Aim::Back | Aim::BackTo(_) => stored.roll_back(name, deployment)?,
            }
            if self.swap(&mut stored, etag).await? {
                return Ok(outcome(stored.manifest.generation));
            }
            pause(name, attempt).await;
        }
        Err(DeployError::Contended)
    }

    /// The entry for the manifest, when nothing stands in its way.
    async fn release(
        &self,
        stored: &Stored,
        name: &FunctionName,
        version: &Digest,
        now_ms: u64,
    ) -> Result<Deployment, DeployError> {
        let bytes = self.bundle(version).await.map_err(|e| match e {
            DeployError::Store(e) if e.is_not_found() => {
                DeployError::UnknownVersion { name: name.clone(), version: *version }
            }
            e => e,
        })?;
        let bundle = Bundle::decode(&bytes, version)?;
        if bundle.name != *name {
            return Err(DeployError::OtherFunction { name: name.clone(), version: *version, owner: bundle.name });
        }
        for (owner, other) in stored.manifest.functions.iter().filter(|(owner, _)| *owner != name) {
            if let Some(route) = bundle.config.routes.iter().find(|r| other.routes.contains(r)) {
                return Err(Conflict::Route { route: route.clone(), owner: owner.clone() }.into());
            }
            if !bundle.assets.is_empty() {
                let theirs = match self.assets(&other.version).await {
                    Ok(theirs) => theirs,
                    // Its assets are not served either: see `Follower`.
                    Err(error) if error.is_damage() => {
                        tracing::error!(function = %owner, version = %other.version, %error, "asset paths not compared");
                        continue;
                    }
                    Err(error) => return Err(error),
                };
                if let Some(path) = bundle.assets.keys().find(|path| theirs.contains_key(*path)) {
                    return Err(Conflict::Asset { path: path.clone(), owner: owner.clone() }.into());
                }
            }
        }
        self.remember(version, bundle.assets);
        let routes = bundle.config.routes;
        // Also when the clock was set back: `Last-Modified` of an asset must not.
        let after_previous = stored.manifest.functions.get(name).map_or(0, |d| d.deployed_at_ms.saturating_add(1));
        let deployed_at_ms = now_ms.max(after_previous);
        Ok(Deployment { version: *version, size: bytes.len() as u64, routes, deployed_at_ms })
    }

    async fn check_blobs(&self, bundle: &Bundle) -> Result<(), DeployError> {
        // Files with the same bytes are one blob.
        let wanted: BTreeMap<Digest, u64> = bundle.assets.values().map(|a| (a.digest, a.size)).collect();
        let heads = stream::iter(wanted).map(async |(digest, size)| match self.store.head(&blob_key(&digest)).await {
            Ok((meta, _)) if meta.size == size => Ok(None),
            Ok(_) | Err(StoreError::NotFound { .. } | StoreError::Corrupt { .. }) => Ok(Some(digest)),
            Err(e) => Err(e),
        });
        let found: Vec<Option<Digest>> = heads.buffer_unordered(REQUESTS_AT_ONCE).try_collect().await?;
        let mut missing: Vec<Digest> = found.into_iter().flatten().collect();
        missing.sort();
        if missing.is_empty() { Ok(()) } else { Err(DeployError::MissingBlobs(missing)) }
    }

    async fn read(&self) -> Result<(Stored, Option<String>), DeployError> {
        let key = manifest_key();
        let object = match self.store.get(&key, None).await {
            Ok(object) => object,
            Err(e) if e.is_not_found() => return Ok((Stored::default(), None)),
            Err(e) => return Err(e.into()),
        };
        let bytes = object.body.collect(MAX_MANIFEST_BYTES).await.map_err(|e| read_failed(&key, e))?;
        Ok((Stored::decode(&bytes)?, Some(object.meta.etag)))
    }

    /// Writes the manifest when it still is the one with `etag`; `false` when it is not.
    async fn swap(&self, stored: &mut Stored, etag: Option<String>) -> Result<bool, DeployError> {
        stored.identify(|| format!("{:032x}", rand::random::<u128>()));
        let bytes = stored.encode();
        if bytes.len() > MAX_MANIFEST_BYTES {
            return Err(DeployError::ManifestTooLarge { size: bytes.len(), limit: MAX_MANIFEST_BYTES });
        }
        let mode = etag.map_or(PutMode::Create, PutMode::Update);
        let json = Attributes { content_type: Some("application/json".to_owned()), cache_control: None };
        match self.store.put(&manifest_key(), Body::from(bytes), mode, json).await {
            Ok(_) => Ok(true),
            Err(e) if e.is_conflict() => Ok(false),
            Err(e) => Err(e.into()),
        }
    }
}

/// Where a bundle is stored.
pub fn bundle_key(version: &Digest) -> Key {
    fixed(&format!("bundles/{version}"))
}

/// Where an asset's bytes are stored.
pub fn blob_key(digest: &Digest) -> Key {
    fixed(&format!("blobs/{digest}"))
}

fn manifest_key() -> Key {
    fixed("manifest")
}

/// A key made of our own words, digests and function names, which hold every invariant of a key.
fn fixed(text: &str) -> Key {
    Key::parse(text).expect("digests and function names are key segments")
}

/// An error while the body of a stored object was read.
fn read_failed(key: &Key, source: crate::store::BoxError) -> StoreError {
    match source.downcast::<StoreError>() {
        Ok(error) => *error,
        Err(e) if e.is::<DigestMismatch>() || e.is::<BodyTooLarge>() => StoreError::corrupt(key, e.to_string()),
        Err(e) => StoreError::unavailable(key, e),
    }
}

/// Waits after a lost race: longer each time, and differently for each function, so that the racers part.
async fn pause(name: &FunctionName, attempt: u32) {
    let spread = u64::from(crc32c::crc32c(name.as_str().as_bytes()) % 16);
    tokio::time::sleep(Duration::from_millis(u64::from(attempt.min(20)) * (2 + spread))).await;
}

#[cfg(test)]
mod tests;
