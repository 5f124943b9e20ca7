//! What all threads of one PoP share.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use cache::Cache;
use capacity::Moment;
use capacity::fallback::Fallback;
use http::{HeaderValue, Uri};
use ipnet::IpNet;
use middleware::geo::{Database, Location};
use origin::bundle::Isolation;
use tokio::sync::mpsc;

use crate::bindings::Limiters;
use crate::budgets::Shown;
use crate::config::{Config, Prices, Protection, RegionLimits, StartError};
use crate::function::Function;
use crate::head::cdn_id;
use crate::load::Load;
use crate::meter::Meter;
use crate::metrics::Metrics;
use crate::purge::Standing;
use crate::routes::Routes;
use crate::shelf::Shelf;
use crate::strikes::Strikes;
use crate::upstream::{Origins, REGION_PATIENCE, Regions, Tier};
use crate::worker::Provision;

/// Time without a byte in either direction, longer than the longest wall time of a function on a PoP: a client that never
/// reads, or sends half a body, is given up.
const IDLE_TIMEOUT: Duration = Duration::from_secs(330);

/// One PoP. Nothing in it belongs to a thread.
pub(crate) struct State {
    pub(crate) name: String,
    /// The same, as a response says it.
    pub(crate) name_value: HeaderValue,
    pub(crate) cdn_id: String,
    pub(crate) origin: Uri,
    pub(crate) origins: Origins,
    pub(crate) tier: Tier,
    pub(crate) regions: Regions,
    /// How it is decided what goes there.
    pub(crate) fallback: Fallback,
    /// What a request costs here and there.
    pub(crate) prices: Option<Prices>,
    /// What functions have here, when this is a region node.
    pub(crate) region: Option<RegionLimits>,
    pub(crate) protection: Protection,
    pub(crate) trust: Vec<IpNet>,
    pub(crate) allow_fetch: Vec<IpNet>,
    pub(crate) routes: ArcSwap<Routes>,
    pub(crate) shelf: Arc<Shelf>,
    /// Where each worker is told what to start ahead of its deploy.
    workers: Mutex<HashMap<usize, mpsc::UnboundedSender<Provision>>>,
    pub(crate) cache: Cache,
    /// The same in front of functions.
    pub(crate) front: Cache,
    pub(crate) purges: Standing,
    /// The most that isolates may hold.
    pub(crate) isolate_bytes: u64,
    /// The most that the cache may hold.
    pub(crate) cache_bytes: u64,
    pub(crate) geo: Database,
    pub(crate) limiters: Limiters,
    pub(crate) metrics: Metrics,
    pub(crate) meter: Meter,
    pub(crate) load: Load,
    /// How far the budgets of functions are used up, for the metrics.
    pub(crate) budgets: Mutex<BTreeMap<String, Shown>>,
    pub(crate) strikes: Strikes,
    /// Where all functions run that do not ask for more.
    pub(crate) isolation: Isolation,
    /// Set once the walls of cells were told of.
    pub(crate) walls: OnceLock<()>,
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
        let ways = if config.shields.is_empty() { 1 } else { 2 };
        let cache = Cache::new(cache::Config {
            identity: config.name.clone(),
            capacity_bytes: config.cache_bytes,
            // Whoever waits for another's request waits as long as that may.
            follower_wait: (config.protection.wait + config.protection.head_timeout) * ways + Duration::from_secs(5),
            rules: cache::policy::Rules {
                negative_ttl: config.protection.negative_ttl,
                stale_if_error: Some(config.protection.stale_if_error),
                ..cache::policy::Rules::default()
            },
            disk: config.cache_disk.as_ref().map(|disk| cache::DiskConfig::new(disk.folder.clone(), disk.bytes)),
            ..cache::Config::default()
        });
        Ok(Arc::new(Self {
            cdn_id: cdn_id(&config.name),
            name_value: HeaderValue::from_str(&config.name).map_err(|_| StartError::Name(config.name.clone()))?,
            name: config.name.clone(),
            origin: config.origin.clone(),
            origins: Origins::new(&config.protection),
            tier: Tier::new(&config.shields, &config.token, &config.protection),
            regions: Regions::new(&config.regions, &config.token, &config.protection),
            fallback: Fallback::default(),
            prices: config.place_prices,
            region: config.region,
            protection: config.protection.clone(),
            trust: config.trust.clone(),
            allow_fetch: config.allow_fetch.clone(),
            routes: ArcSwap::default(),
            shelf: Arc::new(Shelf::open(&config.data)?),
            workers: Mutex::default(),
            purges: Standing::new(&cache, config.purge_fence),
            front: cache.named(&format!("{}/front", config.name)),
            cache,
            isolate_bytes: config.isolate_bytes,
            cache_bytes: config.cache_bytes,
            geo,
            limiters: Limiters::default(),
            metrics: Metrics::new(config.workers.max(1), config.metrics_functions),
            meter: Meter::new(config.workers.max(1)),
            load: Load::new(config.workers.max(1)),
            budgets: Mutex::default(),
            strikes: Strikes::open(&config.data),
            isolation: config.isolation,
            walls: OnceLock::new(),
            draining: AtomicBool::new(false),
            started: Instant::now(),
            started_at: unix_seconds(),
        }))
    }

    /// A worker begins: what it will be told to start.
    /// A worker with the same number was lost: it is told nothing more.
    pub(crate) fn enlist(&self, index: usize) -> mpsc::UnboundedReceiver<Provision> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).insert(index, sender);
        receiver
    }

    /// Has every worker start what it is to have ready of `functions`. Ends when all have, those that failed included.
    pub(crate) async fn provision(&self, functions: Vec<Arc<Function>>) {
        let (done, mut all_done) = mpsc::channel(1);
        let provision = Provision { functions, done };
        let tell = |_: &usize, worker: &mut mpsc::UnboundedSender<_>| worker.send(provision.clone()).is_ok();
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).retain(tell);
        drop(provision);
        let _ = all_done.recv().await;
    }

    /// Milliseconds since this PoP started: the clock of its rate limiters.
    pub(crate) fn millis(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The same in microseconds.
    pub(crate) fn micros(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// The same clock, for what decides where requests run.
    pub(crate) fn moment(&self) -> Moment {
        Moment::after_epoch(self.started.elapsed())
    }

    /// How long a connection may be without a byte in either direction: longer than the longest wall time of a function.
    pub(crate) fn idle_timeout(&self) -> Duration {
        let regional = self.region.is_some() || !self.regions.nodes.is_empty();
        if regional { REGION_PATIENCE } else { IDLE_TIMEOUT }
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
