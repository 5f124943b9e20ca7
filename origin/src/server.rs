//! The origin process: the public listener that PoPs fetch from, and the admin listener that controls deployments.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::admin::Admin;
use crate::deployment::{DeployError, Deployments, Follower};
use crate::listener;
use crate::purge::push::{self, Address};
use crate::purge::{Log, PurgeError};
use crate::store::{BoxError, Clock, Embedded, Memory, ObjectStore, S3, S3Config};
use public::Public;
pub use public::STORE_READS;
use traffic::Traffic;

mod access;
mod conditional;
pub(crate) mod problem;
pub(crate) mod public;
mod range;
pub(crate) mod respond;
pub(crate) mod traffic;

/// How long open requests may take after the shutdown was asked for.
pub const DRAIN_DEADLINE: Duration = Duration::from_secs(5);

/// Longest admin token, in bytes.
pub const MAX_TOKEN_BYTES: usize = 4096;

/// How often the manifest and the purge log are read again, for changes made by other origins on the same store.
const FOLLOW_INTERVAL: Duration = Duration::from_secs(1);

/// What an origin needs to know.
#[derive(Clone)]
pub struct Config {
    /// Its name in logs and statistics.
    pub name: String,
    /// Address of the public listener; port 0 for any.
    pub listen: SocketAddr,
    /// Address of the admin listener; port 0 for any. Never make it public.
    pub admin: SocketAddr,
    /// Token that the admin API asks for: 1 to [`MAX_TOKEN_BYTES`] visible ASCII characters.
    pub token: String,
    /// Where the objects are.
    pub store: StoreConfig,
    /// The NATS server on which purges are published, too.
    pub nats: Option<Address>,
    /// Where the time comes from.
    pub clock: Clock,
}

impl Config {
    /// A configuration named `origin` with the system's clock.
    pub fn new(listen: SocketAddr, admin: SocketAddr, token: String, store: StoreConfig) -> Self {
        Self { name: "origin".to_owned(), listen, admin, token, store, nats: None, clock: Arc::new(SystemTime::now) }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, listen, admin, store, .. } = self;
        f.debug_struct("Config")
            .field("name", name)
            .field("listen", listen)
            .field("admin", admin)
            .field("store", store)
            .finish_non_exhaustive()
    }
}

/// Where the objects are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreConfig {
    /// In this folder, created when missing.
    Embedded(PathBuf),
    /// In memory: gone with the process.
    Memory,
    /// In a bucket.
    S3(S3Config),
}

/// The addresses an origin listens on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// The public listener's.
    pub listen: SocketAddr,
    /// The admin listener's.
    pub admin: SocketAddr,
}

/// Why an origin did not start. Nothing is left running.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The token is empty or no header could carry it.
    #[error("the admin token must be 1 to {MAX_TOKEN_BYTES} visible ASCII characters; give one with {flag}")]
    Token {
        /// The flag that names its file.
        flag: &'static str,
    },
    /// An address cannot be listened on.
    #[error("cannot listen on {address} ({flag}): {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The flag that sets it.
        flag: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// The store cannot be opened.
    #[error("cannot open the object store {store}: {source}")]
    Store {
        /// Which store.
        store: String,
        /// Its reason.
        source: BoxError,
    },
    /// What is deployed cannot be read.
    #[error("cannot read what is deployed: {0}")]
    Manifest(#[from] DeployError),
    /// What was purged cannot be read.
    #[error("cannot read what was purged: {0}")]
    Purges(#[from] PurgeError),
}

/// Runs an origin until `shutdown` resolves, then lets open requests finish for up to [`DRAIN_DEADLINE`].
///
/// Calls `ready` once, when both listeners are bound and what is deployed has been read. Prints nothing; runs on any
/// Tokio runtime with time and I/O enabled.
///
/// # Errors
/// [`StartError`], before `ready` is called.
pub async fn run(
    config: Config,
    ready: impl FnOnce(Bound),
    shutdown: impl Future<Output = ()>,
) -> Result<(), StartError> {
    let fits = (1..=MAX_TOKEN_BYTES).contains(&config.token.len());
    if !fits || !config.token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(StartError::Token { flag: "--token-file" });
    }
    let (public, listen) = bind(config.listen, "--listen").await?;
    let (private, admin) = bind(config.admin, "--admin").await?;
    let store = open(&config.store, config.clock.clone()).await?;
    let deployments = Arc::new(Deployments::new(store.clone()));
    let follower = Arc::new(Follower::start(deployments.clone()).await?);
    let started_ms = unix_ms((config.clock)());
    let purges = Arc::new(Log::open(store.clone(), started_ms).await?);
    let traffic = Arc::new(Traffic::new(started_ms));
    let (drain, draining) = watch::channel(false);

    let clock = config.clock.clone();
    let public_side =
        Arc::new(Public { store: store.clone(), follower: follower.clone(), traffic: traffic.clone(), clock });
    let admin_side =
        Admin::new(&config, store, deployments, follower.clone(), purges.clone(), traffic, draining.clone());
    let admin_side = Arc::new(admin_side);
    ready(Bound { listen, admin });
    tracing::info!(name = %config.name, %listen, %admin, generation = follower.live().manifest.generation, "origin is up");

    let serving = async {
        tokio::join!(
            listener::serve(public, draining.clone(), move |request| public_side.clone().answer(request)),
            listener::serve(private, draining.clone(), move |request| admin_side.clone().answer(request)),
        )
    };
    let following = async {
        let publishing = async {
            if let Some(nats) = &config.nats {
                push::publish(&purges, nats, &config.token, &config.name).await;
            }
        };
        tokio::join!(follower.follow(FOLLOW_INTERVAL), purges.follow(FOLLOW_INTERVAL, &config.clock), publishing);
    };
    let stopping = async {
        shutdown.await;
        // Both listeners hold a receiver as long as they serve.
        drain.send_replace(true);
        tokio::time::sleep(DRAIN_DEADLINE).await;
    };
    tokio::select! {
        _ = serving => {}
        () = stopping => tracing::warn!("requests were still open at the end of the drain deadline"),
        () = following => {}
    }
    Ok(())
}

async fn bind(address: SocketAddr, flag: &'static str) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |source| StartError::Bind { address, flag, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// Opens a store as configured. Blocking work runs where it may block.
///
/// # Errors
/// [`StartError::Store`].
pub async fn open(config: &StoreConfig, clock: Clock) -> Result<Arc<dyn ObjectStore>, StartError> {
    let failed = |store: String, source: BoxError| StartError::Store { store, source };
    match config.clone() {
        StoreConfig::Memory => Ok(Arc::new(Memory::new(clock))),
        StoreConfig::S3(config) => {
            let name = config.bucket.clone();
            Ok(Arc::new(S3::new(config).map_err(|e| failed(name, e))?))
        }
        StoreConfig::Embedded(path) => {
            let name = path.display().to_string();
            let opened = tokio::task::spawn_blocking(move || Embedded::open(path, clock)).await;
            match opened {
                Ok(Ok(store)) => Ok(Arc::new(store)),
                Ok(Err(e)) => Err(failed(name, e.into())),
                Err(e) => Err(failed(name, e.into())),
            }
        }
    }
}

/// Milliseconds since the Unix epoch; 0 before it.
pub(crate) fn unix_ms(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}
