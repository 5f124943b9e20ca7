//! What is live, kept in memory and followed as it changes, by us or by another origin on the same store.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{Mutex, watch};

use super::{DeployError, Deployments, Manifest};
use crate::bundle::{Asset, Digest, FunctionName};

/// What is live, ready to be served.
#[derive(Debug, Default)]
pub struct Live {
    /// The manifest.
    pub manifest: Manifest,
    /// Its entity tag in the store; `None` while there is none.
    etag: Option<String>,
    /// The static files of the live versions by URL path.
    assets: HashMap<String, LiveAsset>,
    /// Versions whose bundle could not be read: their assets are missing until it can.
    unreadable: Vec<Digest>,
}

/// A static file of a live version.
#[derive(Clone, Debug)]
pub struct LiveAsset {
    /// Whose it is.
    pub function: FunctionName,
    /// What it is.
    pub asset: Asset,
    /// When the version went live.
    pub modified: SystemTime,
}

impl Live {
    /// The static file at a URL path.
    pub fn asset(&self, path: &str) -> Option<&LiveAsset> {
        self.assets.get(path)
    }
}

/// Follows the manifest. Cloned receivers of [`Self::watch`] see each change.
#[derive(Debug)]
pub struct Follower {
    deployments: Arc<Deployments>,
    live: watch::Sender<Arc<Live>>,
    /// One refresh at a time, so that an older answer never replaces a newer one.
    refreshing: Mutex<()>,
}

impl Follower {
    /// Reads what is live now.
    ///
    /// # Errors
    /// When the manifest cannot be read.
    pub async fn start(deployments: Arc<Deployments>) -> Result<Self, DeployError> {
        let (live, _) = watch::channel(Arc::new(Live::default()));
        let follower = Self { deployments, live, refreshing: Mutex::default() };
        follower.refresh().await?;
        Ok(follower)
    }

    /// What is live as of the last refresh.
    pub fn live(&self) -> Arc<Live> {
        self.live.borrow().clone()
    }

    /// Receives each change.
    pub fn watch(&self) -> watch::Receiver<Arc<Live>> {
        self.live.subscribe()
    }

    /// Looks whether the manifest has changed. After an error, what was live before stays.
    ///
    /// # Errors
    /// When the manifest cannot be read.
    pub async fn refresh(&self) -> Result<(), DeployError> {
        let _one = self.refreshing.lock().await;
        let (manifest, etag) = self.deployments.manifest().await?;
        let before = self.live();
        if before.etag == etag && before.unreadable.is_empty() {
            return Ok(());
        }
        let next = self.build(manifest, etag).await;
        // Still unreadable, nothing else new: not worth waking anybody.
        if before.etag != next.etag || before.unreadable != next.unreadable {
            self.live.send_replace(Arc::new(next));
        }
        Ok(())
    }

    /// Refreshes every `interval`, for ever.
    pub async fn follow(&self, interval: Duration) {
        let mut failing = false;
        loop {
            tokio::time::sleep(interval).await;
            match self.refresh().await {
                Ok(()) => failing = false,
                // Once for each outage, not once a second.
                Err(error) if !failing => {
                    failing = true;
                    tracing::error!(%error, "the manifest cannot be read; what was live stays live");
                }
                Err(_) => {}
            }
        }
    }

    async fn build(&self, manifest: Manifest, etag: Option<String>) -> Live {
        let mut live = Live { etag, ..Live::default() };
        for (function, deployment) in &manifest.functions {
            let modified =
                UNIX_EPOCH.checked_add(Duration::from_millis(deployment.deployed_at_ms)).unwrap_or(UNIX_EPOCH);
            match self.deployments.assets(&deployment.version).await {
                Ok(table) => live.assets.extend(table.iter().map(|(path, asset)| {
                    (path.clone(), LiveAsset { function: function.clone(), asset: asset.clone(), modified })
                })),
                Err(error) => {
                    if !self.live.borrow().unreadable.contains(&deployment.version) {
                        tracing::error!(%function, version = %deployment.version, %error, "its assets are not served");
                    }
                    live.unreadable.push(deployment.version);
                }
            }
        }
        Live { manifest, ..live }
    }
}
