//! The versions of a function that have been published.

use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};

use super::{DeployError, Deployments, MIN_PREFIX, REQUESTS_AT_ONCE, bundle_key, fixed, read_failed};
use crate::bundle::{Digest, FunctionName};
use crate::key::Key;
use crate::store::{Attributes, MAX_PAGE, PutMode, StoreError};

/// Versions kept of each function; beyond [`MAX_VERSIONS`] plus [`SLACK`] the oldest are removed, except those that a
/// rollback can walk back to.
pub(super) const MAX_VERSIONS: usize = 500;

/// Versions removed at once, so that not every publish beyond the limit looks at all of them.
const SLACK: usize = 50;

/// Largest record, in bytes: a message with each character escaped, and numbers.
const MAX_RECORD_BYTES: usize = 8 << 10;

/// A published version of a function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Its bundle.
    pub version: Digest,
    /// Length of the bundle in bytes.
    pub size: u64,
    /// When it was published first, in milliseconds since the Unix epoch.
    pub created_at_ms: u64,
    /// What its author said about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Whether it is live now.
    #[serde(default)]
    pub live: bool,
}

impl Deployments {
    /// The published versions of a function, newest first. Empty when there is none.
    ///
    /// # Errors
    /// [`DeployError::Store`] or [`DeployError::Manifest`].
    pub async fn versions(&self, name: &FunctionName) -> Result<Vec<Version>, DeployError> {
        let (manifest, _) = self.manifest().await?;
        let live = manifest.functions.get(name).map(|d| d.version);
        let mut versions = self.records(name).await?;
        versions.iter_mut().for_each(|v| v.live = live == Some(v.version));
        Ok(versions)
    }

    /// Keeps the first record of a version.
    pub(super) async fn record(&self, name: &FunctionName, version: Version) -> Result<Version, DeployError> {
        let key = record_key(name, &version.version);
        let json = serde_json::to_vec(&version).map_err(|e| DeployError::Manifest(e.to_string()))?;
        match self.store.put(&key, json.into(), PutMode::Create, Attributes::default()).await {
            Ok(_) => {
                // The version is published; that an old one is still there is no reason to say it was not.
                if let Err(error) = self.prune(name).await {
                    tracing::warn!(function = %name, %error, "old versions are not removed yet");
                }
                Ok(version)
            }
            Err(StoreError::AlreadyExists { .. }) => match self.read_record(&key).await {
                Err(DeployError::Store(StoreError::Corrupt { .. })) => {
                    let json = serde_json::to_vec(&version).map_err(|e| DeployError::Manifest(e.to_string()))?;
                    self.store.put(&key, json.into(), PutMode::Overwrite, Attributes::default()).await?;
                    Ok(version)
                }
                first => first,
            },
            Err(e) => Err(e.into()),
        }
    }

    /// The version of a function whose digest begins with `prefix`.
    pub(super) async fn resolve(&self, name: &FunctionName, prefix: &str) -> Result<Digest, DeployError> {
        let unclear = |why: String| Err(DeployError::Prefix { name: name.clone(), prefix: prefix.to_owned(), why });
        let digits = prefix.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if !digits || !(MIN_PREFIX..=64).contains(&prefix.len()) {
            return unclear(format!("give {MIN_PREFIX} to 64 of 0-9 and a-f"));
        }
        let found: Vec<Key> =
            self.record_keys(name).await?.into_iter().filter(|k| k.name().starts_with(prefix)).collect();
        match &found[..] {
            [] => unclear("no version begins so".to_owned()),
            [only] => Ok(only.name().parse()?),
            several => unclear(format!("{} versions begin so, give more characters", several.len())),
        }
    }

    async fn records(&self, name: &FunctionName) -> Result<Vec<Version>, DeployError> {
        let keys = self.record_keys(name).await?;
        let reads = stream::iter(keys).map(async |key| match self.read_record(&key).await {
            // One damaged record must not hide the others; publishing the version again repairs it.
            Err(error) if error.is_damage() => {
                tracing::error!(function = %name, %error, "the record of a version is skipped");
                Ok(None)
            }
            read => read.map(Some),
        });
        let read: Vec<Option<Version>> = reads.buffer_unordered(REQUESTS_AT_ONCE).try_collect().await?;
        let mut versions: Vec<Version> = read.into_iter().flatten().collect();
        versions.sort_by_key(|v| (std::cmp::Reverse(v.created_at_ms), v.version));
        Ok(versions)
    }

    async fn record_keys(&self, name: &FunctionName) -> Result<Vec<Key>, DeployError> {
        let folder = fixed(&format!("functions/{name}/versions"));
        let mut keys: Vec<Key> = Vec::new();
        loop {
            let page = self.store.list(&folder, keys.last(), MAX_PAGE).await?;
            keys.extend(page.keys);
            // Pruning keeps the number near its limit; the bound is for a bucket that somebody else fills.
            if !page.more || keys.len() > 4 * MAX_VERSIONS {
                keys.retain(|k| k.name().parse::<Digest>().is_ok());
                return Ok(keys);
            }
        }
    }

    async fn read_record(&self, key: &Key) -> Result<Version, DeployError> {
        let object = self.store.get(key, None).await?;
        let bytes = object.body.collect(MAX_RECORD_BYTES).await.map_err(|e| read_failed(key, e))?;
        serde_json::from_slice(&bytes).map_err(|e| StoreError::corrupt(key, e.to_string()).into())
    }

    async fn prune(&self, name: &FunctionName) -> Result<(), DeployError> {
        if self.record_keys(name).await?.len() <= MAX_VERSIONS + SLACK {
            return Ok(());
        }
        let (stored, _) = self.read().await?;
        let line = stored.line(name);
        let records = self.records(name).await?;
        for old in records.iter().skip(MAX_VERSIONS).filter(|v| !line.contains(&v.version)) {
            self.store.delete(&record_key(name, &old.version)).await?;
            self.store.delete(&bundle_key(&old.version)).await?;
        }
        Ok(())
    }
}

fn record_key(name: &FunctionName, version: &Digest) -> Key {
    fixed(&format!("functions/{name}/versions/{version}"))
}
