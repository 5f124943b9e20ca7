//! What all threads of one PoP share.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use arc_swap::ArcSwap;
use cache::Cache;
use http::{HeaderValue, Uri};
use ipnet::IpNet;
use middleware::geo::{Database, Location};

use crate::bindings::Limiters;
use crate::config::{Config, StartError};
use crate::head::cdn_id;
use crate::metrics::Metrics;
use crate::routes::Routes;

/// One PoP. Nothing in it belongs to a thread.
pub(crate) struct State {
    pub(crate) name: String,
    /// The same, as a response says it.
    pub(crate) name_value: HeaderValue,
    pub(crate) cdn_id: String,
    pub(crate) origin: Uri,
    pub(crate) trust: Vec<IpNet>,
    pub(crate) allow_fetch: Vec<IpNet>,
    pub(crate) routes: ArcSwap<Routes>,
    pub(crate) cache: Cache,
    /// The most that the cache may hold.
    pub(crate) cache_bytes: u64,
    pub(crate) geo: Database,
    pub(crate) limiters: Limiters,
    pub(crate) metrics: Metrics,
    pub(crate) draining: AtomicBool,
    started: Instant,
    /// The same in seconds since 1970.
    pub(crate) started_at: u64,
}

impl State {
    pub(crate) fn new(config: &Config) -> Result<Arc<Self>, StartError> {
        let geo = match &config.geo {
            Some(path) => Database::open(path)?,
            None => Database::builtin()?,
        };
        let cache = Cache::new(cache::Config {
            identity: config.name.clone(),
            capacity_bytes: config.cache_bytes,
            ..cache::Config::default()
        });
        Ok(Arc::new(Self {
            cdn_id: cdn_id(&config.name),
            name_value: HeaderValue::from_str(&config.name).map_err(|_| StartError::Name(config.name.clone()))?,
            name: config.name.clone(),
            origin: config.origin.clone(),
            trust: config.trust.clone(),
            allow_fetch: config.allow_fetch.clone(),
            routes: ArcSwap::default(),
            cache,
            cache_bytes: config.cache_bytes,
            geo,
            limiters: Limiters::default(),
            metrics: Metrics::new(config.workers.max(1), config.metrics_functions),
            draining: AtomicBool::new(false),
            started: Instant::now(),
            started_at: unix_seconds(),
        }))
    }

    /// Milliseconds since this PoP started: the clock of its rate limiters.
    pub(crate) fn millis(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Where an address is; nowhere when the database does not know or cannot say.
    pub(crate) fn locate(&self, address: IpAddr) -> Location {
        self.geo.lookup(address).unwrap_or_else(|error| {
            tracing::warn!(%address, %error, "geo lookup failed");
            Location::default()
        })
    }

    pub(crate) fn trusts(&self, peer: IpAddr) -> bool {
        self.trust.iter().any(|net| net.contains(&peer))
    }
}

/// Seconds since 1970.
pub(crate) fn unix_seconds() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
