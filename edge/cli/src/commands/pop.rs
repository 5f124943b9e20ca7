//! `skerry pop`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use ipnet::IpNet;

use super::meter::MeterArgs;
use super::protection::ProtectionArgs;
use crate::access::{AccessError, TokenArgs, read_token};
use crate::output::Failure;
use crate::signals::{self, Input};
use crate::units;
use crate::up::plan;

/// Run one PoP
///
/// It follows the control API, keeps what it has seen in its folder, and serves on its address until SIGTERM or SIGINT;
/// requests under way are finished first. `skerry up` starts PoPs like this; the same command brings one back by hand.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Pop {
    /// Name, unique in the fleet
    #[arg(long, env = "SKERRY_POP")]
    name: String,
    /// City where it stands, by its code [default: the name, when that is one]
    #[arg(long, value_parser = known_city)]
    city: Option<String>,
    /// Address to serve on; a port alone is one of 127.0.0.1
    #[arg(long, default_value = "127.0.0.1:8081", value_parser = plan::address)]
    listen: SocketAddr,
    /// URL of the origin
    #[arg(long, env = "SKERRY_ORIGIN_URL", default_value = "http://127.0.0.1:8090")]
    origin: http::Uri,
    /// URL of the control API
    #[arg(long, env = "SKERRY_ADMIN_URL", default_value = "http://127.0.0.1:8091")]
    control: http::Uri,
    #[command(flatten)]
    token: TokenArgs,
    /// How long it serves from its cache without word from the purge log, 1s to 1h; then it validates what it has stored
    /// before it sends it, until it has caught up
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = fence)]
    purge_fence: Duration,
    /// A NATS server on which origins publish purges: nats://host:4222. Without it they are heard of by polls alone
    #[arg(long, env = "SKERRY_NATS", hide_env_values = true, value_name = "URL")]
    nats: Option<pop::NatsAddress>,
    /// Folder for what it has seen, made when there is none
    #[arg(long)]
    data: PathBuf,
    /// Geolocation database in MaxMind's format [default: the built-in country database]
    #[arg(long)]
    geo: Option<PathBuf>,
    /// Networks whose X-Forwarded-For is believed, for instance 127.0.0.0/8
    #[arg(long, value_name = "NETWORK", value_delimiter = ',')]
    trust: Vec<IpNet>,
    /// Networks that functions may fetch from although they are not public, for instance 127.0.0.1/32
    #[arg(long, value_name = "NETWORK", value_delimiter = ',')]
    allow_fetch: Vec<IpNet>,
    /// Worker threads [default: one for each processor]
    #[arg(long, value_parser = workers)]
    workers: Option<usize>,
    /// Memory for cached answers
    #[arg(long, default_value = "256MiB", value_parser = units::bytes)]
    cache: u64,
    /// Disk for cached answers, which outlive a restart there and may be larger than memory; 0 for none
    #[arg(long, default_value = "1GiB", value_name = "SIZE", value_parser = units::bytes)]
    cache_disk: u64,
    /// Folder for them, of this PoP alone [default: cache, in the folder for what it has seen]
    #[arg(long, value_name = "FOLDER")]
    cache_folder: Option<PathBuf>,
    /// Address for health checks and metrics (GET /health and /metrics, the latter with the token) [default: none]
    #[arg(long, value_name = "ADDRESS", value_parser = plan::address)]
    admin: Option<SocketAddr>,
    /// File with the token of that address, for whoever scrapes metrics and shall not deploy [default: the token of the
    /// admin API]
    #[arg(long, value_name = "FILE", requires = "admin")]
    admin_token_file: Option<PathBuf>,
    /// Functions that have metrics of their own: those that are asked for first; the others share the label "other"
    #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = labels)]
    metrics_functions: usize,
    /// Memory for the isolates of functions; those idle longest go first
    #[arg(long, default_value = "1GiB", value_parser = units::bytes)]
    isolates: u64,
    /// Isolates that each worker holds ready for functions that have none yet; 0 for none
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(0..=1000))]
    ready: u16,
    /// What stands between functions: isolate, a V8 isolate; or process, around it a process for each tenant that can do
    /// nothing by itself. With isolate, functions whose project file says "isolation": "process" have one
    #[arg(long, value_name = "WALL", default_value_t = pop::Isolation::Isolate)]
    isolation: pop::Isolation,
    #[command(flatten)]
    meter: MeterArgs,
    #[command(flatten)]
    protection: ProtectionArgs,
    /// PoPs of this fleet to ask instead of the origin, for instance lhr=http://10.0.0.1:8081; this one may be among them
    #[arg(long, value_name = "NAME=URL", value_delimiter = ',')]
    shield: Vec<pop::Shield>,
    /// Region nodes that run functions which are better off there, for instance eu-west-1=http://10.0.0.9:8081, the one to be
    /// asked first in front; they need the same token
    #[arg(long, value_name = "NAME=URL", value_delimiter = ',')]
    region: Vec<pop::RegionNode>,
    /// What a million requests and an hour of processor time cost here, in the currency of --region-price: 0.30+72. With both, a
    /// function whose project file has a "region": { "objective_ms" } is moved where it costs a quarter less
    #[arg(long, value_name = "REQUESTS+HOUR", requires = "region_price", requires = "region")]
    edge_price: Option<pop::Price>,
    /// The same in the region
    #[arg(long, value_name = "REQUESTS+HOUR", requires = "edge_price")]
    region_price: Option<pop::Price>,
    /// End when standard input ends, as a child of a supervisor does
    #[arg(long, hide = true)]
    exit_with_parent: bool,
}

fn known_city(code: &str) -> Result<String, String> {
    plan::city(code).map(|city| city.code.to_owned())
}

/// Reads a number of worker threads.
///
/// # Errors
/// When it is not 1 to 512.
pub(crate) fn workers(text: &str) -> Result<usize, String> {
    let workers = text.parse().ok().filter(|workers| (1..=512).contains(workers));
    workers.ok_or_else(|| "the number of workers is 1 to 512".to_owned())
}

/// Reads how long a PoP does without the purge log.
fn fence(text: &str) -> Result<Duration, String> {
    let fence = units::duration(text)?;
    let sound = (Duration::from_secs(1)..=Duration::from_secs(3600)).contains(&fence);
    if sound { Ok(fence) } else { Err("the time without the purge log is 1s to 1h".to_owned()) }
}

/// Reads a number of functions with metrics of their own.
fn labels(text: &str) -> Result<usize, String> {
    let labels = text.parse().ok().filter(|labels| *labels <= 10_000);
    labels.ok_or_else(|| "the number of functions with metrics of their own is 0 to 10000".to_owned())
}

/// One worker for each processor this process may use.
pub(crate) fn default_workers() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

impl Pop {
    /// Serves until it is asked to end.
    ///
    /// # Errors
    /// When it cannot start.
    pub(crate) fn run(self) -> Result<(), Failure> {
        let _log = crate::log::start();
        let input = if self.exit_with_parent { Input::Parent } else { Input::Ignored };
        let token = self.token.read()?;
        let admin = self.admin.map(|address| -> Result<_, AccessError> {
            let own = self.admin_token_file.as_deref().map(read_token).transpose()?;
            Ok(pop::Admin { address, token: own.unwrap_or_else(|| token.clone()) })
        });
        let prices = self.meter.prices()?;
        let cache_folder = self.cache_folder.unwrap_or_else(|| self.data.join("cache"));
        let config = pop::Config {
            name: self.name,
            city: self.city,
            listen: self.listen,
            origin: self.origin,
            control: self.control,
            token,
            purge_fence: self.purge_fence,
            nats: self.nats,
            data: self.data,
            geo: self.geo,
            trust: self.trust,
            allow_fetch: self.allow_fetch,
            workers: self.workers.unwrap_or_else(default_workers),
            cache_bytes: self.cache,
            cache_disk: (self.cache_disk > 0)
                .then_some(pop::CacheDisk { folder: cache_folder, bytes: self.cache_disk }),
            admin: admin.transpose()?,
            metrics_functions: self.metrics_functions,
            meter_every: self.meter.every(),
            prices,
            isolate_bytes: self.isolates,
            ready: usize::from(self.ready),
            snapshot_maker: std::env::current_exe().ok(),
            isolation: self.isolation,
            protection: self.protection.protection(),
            shields: self.shield,
            regions: self.region,
            place_prices: self.edge_price.zip(self.region_price).map(|(edge, region)| pop::Prices { edge, region }),
            region: None,
            // The very program that runs, even when another has taken its name since: both must be of one build.
            cell_program: Some("/proc/self/exe".into()),
        };
        serve(config, input)
    }
}

/// Serves until it is asked to end.
///
/// # Errors
/// When it cannot start.
pub(crate) fn serve(config: pop::Config, input: Input) -> Result<(), Failure> {
    let runtime = super::runtime()?;
    let shutdown = {
        let _entered = runtime.enter();
        signals::shutdown(input)
    };
    Ok(pop::run(config, &runtime, shutdown, |_| {})?)
}
