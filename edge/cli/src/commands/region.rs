//! `skerry region`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use ipnet::IpNet;

use super::meter::MeterArgs;
use super::pop::{default_workers, serve, workers};
use super::protection::ProtectionArgs;
use crate::access::TokenArgs;
use crate::output::Failure;
use crate::signals::Input;
use crate::units;
use crate::up::plan;

/// Run a region node: the same functions with bigger limits, for the PoPs of the fleet alone
///
/// It follows the control API as PoPs do, and runs a function when a PoP sends a request for it (`skerry pop --region`): one
/// whose "placement" is "region", and of those with "auto", the default, what needs more than the edge gives, what an
/// overloaded PoP cannot take, and what a PoP that is ill should not. Whoever has no pass of the fleet gets 403.
///
/// A function has here what the flags say, less where its project file declares less under "region": { "limits": {} }.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Region {
    /// Name, unique in the fleet
    #[arg(long)]
    name: String,
    /// City where it stands, by its code
    #[arg(long, value_parser = known_city)]
    city: Option<String>,
    /// Address to serve PoPs on, never a public one; a port alone is one of 127.0.0.1
    #[arg(long, default_value = "127.0.0.1:8085", value_parser = plan::address)]
    listen: SocketAddr,
    /// URL of the origin
    #[arg(long, env = "SKERRY_ORIGIN_URL", default_value = "http://127.0.0.1:8090")]
    origin: http::Uri,
    /// URL of the control API
    #[arg(long, env = "SKERRY_ADMIN_URL", default_value = "http://127.0.0.1:8091")]
    control: http::Uri,
    #[command(flatten)]
    token: TokenArgs,
    /// A NATS server on which origins publish purges: nats://host:4222
    #[arg(long, env = "SKERRY_NATS", hide_env_values = true, value_name = "URL")]
    nats: Option<pop::NatsAddress>,
    /// Folder for what it has seen, made when there is none
    #[arg(long)]
    data: PathBuf,
    /// Geolocation database in MaxMind's format, the one that the PoPs have [default: the built-in country database]
    #[arg(long)]
    geo: Option<PathBuf>,
    /// Networks that functions may fetch from although they are not public, for instance 127.0.0.1/32
    #[arg(long, value_name = "NETWORK", value_delimiter = ',')]
    allow_fetch: Vec<IpNet>,
    /// Worker threads [default: one for each processor]
    #[arg(long, value_parser = workers)]
    workers: Option<usize>,
    #[command(flatten)]
    limits: LimitArgs,
    /// Memory for the isolates of all functions; those idle longest go first
    #[arg(long, default_value = "4GiB", value_parser = units::bytes)]
    isolates: u64,
    /// Isolates that each worker holds ready for functions that have none yet; 0 for none
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(0..=1000))]
    ready: u16,
    /// Memory for answers of the origin
    #[arg(long, default_value = "64MiB", value_parser = units::bytes)]
    cache: u64,
    /// What stands between functions, as for `skerry pop`
    #[arg(long, value_name = "WALL", default_value_t = pop::Isolation::Isolate)]
    isolation: pop::Isolation,
    #[command(flatten)]
    meter: MeterArgs,
    #[command(flatten)]
    protection: ProtectionArgs,
    /// Address for health checks and metrics (GET /health and /metrics, the latter with the token) [default: none]
    #[arg(long, value_name = "ADDRESS", value_parser = plan::address)]
    admin: Option<SocketAddr>,
    /// End when standard input ends, as a child of a supervisor does
    #[arg(long, hide = true)]
    exit_with_parent: bool,
}

/// What one function has in a region. The defaults are those of [`pop::RegionLimits`].
#[derive(Clone, Copy, Debug, Args)]
#[command(next_help_heading = "What a function has")]
struct LimitArgs {
    /// Heap, and as much again in buffers, up to 4GiB
    #[arg(long, value_name = "SIZE", default_value = "1GiB", value_parser = memory)]
    memory: u64,
    /// Processor time of a request, up to 15m
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = time)]
    cpu: Duration,
    /// Time until the head of its response, up to 15m
    #[arg(long, value_name = "TIME", default_value = "15m", value_parser = time)]
    wall: Duration,
    /// Requests of all functions that run at a time; more are sent back, and run at the edge or are refused with 503
    #[arg(long, value_name = "COUNT", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    functions_at_a_time: u32,
}

fn known_city(code: &str) -> Result<String, String> {
    plan::city(code).map(|city| city.code.to_owned())
}

fn memory(text: &str) -> Result<u64, String> {
    let (bytes, row) = (units::bytes(text)?, pop::limits::Limit::Heap.row());
    let sound = (row.min..=row.region).contains(&bytes);
    if sound { Ok(bytes) } else { Err("the memory of a function in a region is 8MiB to 4GiB".to_owned()) }
}

fn time(text: &str) -> Result<Duration, String> {
    let (time, row) = (units::duration(text)?, pop::limits::Limit::Wall.row());
    let sound = (Duration::from_millis(row.min)..=Duration::from_millis(row.region)).contains(&time);
    if sound { Ok(time) } else { Err("the time of a function in a region is 1ms to 15m".to_owned()) }
}

impl Region {
    /// Serves until it is asked to end.
    ///
    /// # Errors
    /// When it cannot start.
    pub(crate) fn run(self) -> Result<(), Failure> {
        let _log = crate::log::start();
        let input = if self.exit_with_parent { Input::Parent } else { Input::Ignored };
        let token = self.token.read()?;
        let LimitArgs { memory, cpu, wall, functions_at_a_time } = self.limits;
        let config = pop::Config {
            name: self.name,
            city: self.city,
            listen: self.listen,
            origin: self.origin,
            control: self.control,
            admin: self.admin.map(|address| pop::Admin { address, token: token.clone() }),
            token,
            purge_fence: Duration::from_secs(10),
            nats: self.nats,
            data: self.data,
            geo: self.geo,
            trust: Vec::new(),
            allow_fetch: self.allow_fetch,
            workers: self.workers.unwrap_or_else(default_workers),
            cache_bytes: self.cache,
            cache_disk: None,
            metrics_functions: 100,
            meter_every: self.meter.every(),
            prices: self.meter.prices()?,
            isolate_bytes: self.isolates,
            ready: usize::from(self.ready),
            snapshot_maker: std::env::current_exe().ok(),
            isolation: self.isolation,
            protection: self.protection.protection(),
            shields: Vec::new(),
            regions: Vec::new(),
            place_prices: None,
            region: Some(pop::RegionLimits { memory, cpu, wall, at_a_time: functions_at_a_time as usize }),
            cell_program: Some("/proc/self/exe".into()),
        };
        serve(config, input)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        limits: LimitArgs,
    }

    #[test]
    fn the_defaults_are_those_of_a_region() {
        let LimitArgs { memory, cpu, wall, functions_at_a_time } = Line::parse_from(["x"]).limits;
        let at_a_time = functions_at_a_time as usize;
        assert_eq!(pop::RegionLimits { memory, cpu, wall, at_a_time }, pop::RegionLimits::default());
        assert!(Line::try_parse_from(["x", "--memory", "5GiB"]).is_err());
        assert!(Line::try_parse_from(["x", "--wall", "16m"]).is_err());
    }
}
