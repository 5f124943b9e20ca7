//! What a PoP is told, and why it may refuse to start.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use capacity::price::PriceBook;
use http::Uri;
use ipnet::IpNet;
use origin::bundle::Isolation;
use origin::purge::push::Address as NatsAddress;

/// Everything a PoP needs to know. The command line makes it; nothing below reads the environment.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name in headers, logs and reports, for instance `lhr`.
    pub name: String,
    /// City code, for its place on the map; unknown codes have none.
    pub city: Option<String>,
    /// Where clients come in. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// The origin, `http://host:port`.
    pub origin: Uri,
    /// The control API, `http://host:port`.
    pub control: Uri,
    /// Its token.
    pub token: String,
    /// How long this PoP serves from its cache without word from the purge log; then it validates what it has before it
    /// sends it. At least a second.
    pub purge_fence: Duration,
    /// The NATS server on which origins publish purges, too.
    pub nats: Option<NatsAddress>,
    /// Folder for the last manifest and its bundles, so that a restart needs no origin.
    pub data: PathBuf,
    /// MaxMind-format database; without one the built-in country database serves.
    pub geo: Option<PathBuf>,
    /// Peers whose `X-Forwarded-For` and `X-Request-Id` are believed.
    pub trust: Vec<IpNet>,
    /// Addresses that `fetch()` may reach although they are not public.
    pub allow_fetch: Vec<IpNet>,
    /// Threads that answer requests; at least 1.
    pub workers: usize,
    /// Memory for cached responses, in bytes.
    pub cache_bytes: u64,
    /// Where cached responses are kept besides memory; `None` for nowhere.
    pub cache_disk: Option<CacheDisk>,
    /// Memory for isolates that hold a function, in bytes: those idle longest are given up first.
    pub isolate_bytes: u64,
    /// Isolates that each worker holds ready at least for functions that have none yet; 0 for none.
    pub ready: usize,
    /// The program that makes a startup snapshot as `skerry snapshot` does; without it, the build's serves.
    pub snapshot_maker: Option<PathBuf>,
    /// What stands between functions, at least: project files may ask for more.
    pub isolation: Isolation,
    /// The program that runs functions as `skerry cell` does; without it, none can run in a process of its own.
    pub cell_program: Option<PathBuf>,
    /// The admin listener, with health and metrics; without it there is none.
    pub admin: Option<Admin>,
    /// Functions with a metric label of their own; the others share one.
    pub metrics_functions: usize,
    /// How often what functions used is written to disk and delivered: what a crash loses at most, and half of the time
    /// that a budget's brake may take to act.
    pub meter_every: Duration,
    /// What that costs, for budgets.
    pub prices: PriceBook,
    /// How origins are spared.
    pub protection: Protection,
    /// PoPs of the same fleet, this one perhaps among them, that are asked instead of the origin; none by default.
    pub shields: Vec<Shield>,
    /// Region nodes that may run functions in this PoP's place, the one to be asked first in front; none by default.
    pub regions: Vec<RegionNode>,
    /// What a request costs here and in the region; without both, cost decides nothing.
    pub place_prices: Option<Prices>,
    /// Set for a region node: what functions have there. It serves PoPs of its fleet alone, and has no region itself.
    pub region: Option<RegionLimits>,
}

/// What the same request costs in either place, in one currency.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prices {
    /// On this PoP.
    pub edge: Price,
    /// On the region node.
    pub region: Price,
}

/// What requests cost in one place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Price {
    /// A million requests, whatever they do.
    pub per_million_requests: f64,
    /// An hour of processor time.
    pub per_cpu_hour: f64,
}

impl std::str::FromStr for Price {
    type Err = String;

    /// Reads `requests+hours`, for instance `0.30+72`.
    fn from_str(text: &str) -> Result<Self, String> {
        let price = |text: &str| text.parse().ok().filter(|price: &f64| price.is_finite() && *price >= 0.0);
        let both = text.split_once('+').and_then(|(requests, hours)| Some((price(requests)?, price(hours)?)));
        let (per_million_requests, per_cpu_hour) = both.ok_or_else(|| {
            format!(
                "{text:?} is no price: write that of a million requests and of an hour of processor time, like 0.30+72"
            )
        })?;
        Ok(Self { per_million_requests, per_cpu_hour })
    }
}

/// What a region node gives a function: that, and no more, unless its project file declares less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionLimits {
    /// Heap, and as much again in buffers, in bytes.
    pub memory: u64,
    /// Processor time of a request.
    pub cpu: Duration,
    /// Time until the head of a response.
    pub wall: Duration,
    /// Requests that run at a time; more are sent back to their PoPs.
    pub at_a_time: usize,
}

impl Default for RegionLimits {
    fn default() -> Self {
        Self { memory: 1 << 30, cpu: Duration::from_secs(30), wall: Duration::from_secs(900), at_a_time: 256 }
    }
}

/// A region node, as PoPs know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegionNode {
    /// Its name, in logs.
    pub name: String,
    /// Where it serves, `http://host:port`.
    pub url: Uri,
}

impl std::str::FromStr for RegionNode {
    type Err = String;

    /// Reads `name=http://host:port`.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |_| {
            format!("{text:?} is no region: write its name and where it serves, like eu-west-1=http://10.0.0.9:8081")
        };
        let Shield { name, url } = text.parse().map_err(wrong)?;
        Ok(Self { name, url })
    }
}

/// A PoP that others ask instead of the origin, so that the origin is asked once for what all of them want.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shield {
    /// Its name, as it has it itself: one that finds itself chosen asks the origin.
    pub name: String,
    /// Where it serves, `http://host:port`.
    pub url: Uri,
}

impl std::str::FromStr for Shield {
    type Err = String;

    /// Reads `name=http://host:port`.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("{text:?} is not a shield: write its name and where it serves, like lhr=http://10.0.0.1:8081");
        let (name, url) = text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or_else(wrong)?;
        let url: Uri = url.parse().map_err(|_| wrong())?;
        let plain = url.scheme_str() == Some("http") && url.authority().is_some() && matches!(url.path(), "" | "/");
        if plain && url.query().is_none() { Ok(Self { name: name.to_owned(), url }) } else { Err(wrong()) }
    }
}

/// How a PoP spares its origin, and the hosts outside that functions ask.
///
/// Two more bounds are no choice: a circuit breaker leaves an origin alone that fails (five times in a row, or half of at
/// least twenty requests within ten seconds) for 1 s to 30 s, and retries are at most a fifth of what is sent and five a
/// second besides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protection {
    /// Requests under way at a time with one origin, from sending to the last byte of the response. Over HTTP/1 each has
    /// a connection. At least 1; default 1,024.
    pub origin_requests: usize,
    /// The same with all origins together; also the number of open connections past which none is kept for later.
    /// Default 4,096.
    pub requests: usize,
    /// How long a request waits for its turn; for each that may be under way, four may wait. Default 3 s.
    pub wait: Duration,
    /// How long an origin may take for the head of a response, counted from the last byte of the request. Default 30 s.
    pub head_timeout: Duration,
    /// How often a request is sent again at most, when no connection came about or a kept one turns out to be closed. It
    /// must be idempotent and have no body (RFC 9110 section 9.2.2). Default 2.
    pub retries: u32,
    /// How long 404, 405, 410, 414 and 501 count as fresh where the response says nothing. Default 0: what is not there
    /// yet may be there the next moment, and only the origin knows.
    pub negative_ttl: Duration,
    /// How long past its lifetime a response is sent when the origin fails, where the response says nothing (RFC 5861
    /// section 4). Default 1 h: an old page is more use than an error, and an hour is time to mend an origin.
    pub stale_if_error: Duration,
}

impl Default for Protection {
    fn default() -> Self {
        Self {
            origin_requests: 1024,
            requests: 4096,
            wait: Duration::from_secs(3),
            head_timeout: Duration::from_secs(30),
            retries: 2,
            negative_ttl: Duration::ZERO,
            stale_if_error: Duration::from_secs(3600),
        }
    }
}

/// The part of a disk that cached responses may take.
#[derive(Clone, Debug)]
pub struct CacheDisk {
    /// The folder, of this PoP alone.
    pub folder: PathBuf,
    /// Most bytes of the files in it.
    pub bytes: u64,
}

/// Where a PoP's admin listener is, and what it asks for.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Its address; never make it public. Port 0 takes a free one.
    pub address: SocketAddr,
    /// Its token.
    pub token: String,
}

/// Why a PoP does not start. Nothing runs then.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be listened on.
    #[error("--listen {address}: {source}. Is another process using the port? Choose another one with --listen")]
    Listen {
        /// As configured.
        address: SocketAddr,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The address of the admin listener cannot be listened on.
    #[error("--admin {address}: {source}. Is another process using the port? Choose another one with --admin")]
    Admin {
        /// As configured.
        address: SocketAddr,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The name cannot stand in a header.
    #[error("--name {0:?} has a character that no header may have: use letters, digits, '-', '_' and '.'")]
    Name(String),
    /// The data folder cannot be used.
    #[error("--data {}: {source}", .path.display())]
    Data {
        /// The folder or file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The geolocation database cannot be read.
    #[error("--geo: {0}")]
    Geo(#[from] middleware::geo::GeoError),
    /// Too much was lost to functions for the process to go on.
    #[error(
        "this process has ended to be started afresh, which `skerry up` or any other supervisor does: {0}. The log names \
         the functions"
    )]
    WornOut(String),
    /// The system gives no thread or no event queue.
    #[error("a thread cannot be started: {0}")]
    Thread(std::io::Error),
}
