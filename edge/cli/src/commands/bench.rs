//! `skerry bench`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use http::{HeaderMap, HeaderName, HeaderValue};
use middleware::geo::{self, round_trip};
use tokio::net::TcpStream;

use crate::alarm::Alarm;
use crate::bench::load::{self, Load, Target};
use crate::bench::record::MAX_LATENCY;
use crate::bench::report::{Measured, Report, gain};
use crate::bench::schedule::{Arrivals, Schedule};
use crate::fleet::{Fleet, PopNode};
use crate::output::{self, Failure, Progress};
use crate::units;
use crate::wan::{self, Link};

/// Connections opened to a target beforehand, at least and at most, when no number is asked for.
const CONNECTIONS: (usize, usize) = (8, 512);

/// Measure one request through a PoP and straight to the origin
///
/// Requests start on a schedule fixed beforehand (open loop), and a latency counts from the instant a request was due:
/// when the server stalls, the requests due meanwhile show it. The client stands in a city, and both ways have the round
/// trip of their distance. Connections are opened before the first request; when none is idle another is opened, whose
/// handshake costs its request one round trip more.
///
/// Rows: cold is a request for which an isolate was started (the first after a deploy, or when more run at once than are
/// warm), warm one that a running isolate answered; hit and miss are what the PoP's cache had or asked the origin for
/// (the first request for an object, or all with --miss). A request for which a function ran and asked the cache is in
/// one row of each pair; `all` also has the requests that timed out, with the time they waited. Nothing is warmed up in
/// secret: the first requests are in the rows.
///
/// Exit code 1 when the PoP gave no successful answer.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Bench {
    /// Path and query to ask for, for instance /site/logo.png
    #[arg(value_parser = path)]
    path: String,
    /// PoP to measure, by its name; `nearest` is the one nearest to the client
    #[arg(long, default_value = "nearest")]
    pop: String,
    /// Where the client stands: a city (lhr) or a country (JP). Without it in the city of --pop, or of the first PoP
    #[arg(long, value_name = "PLACE", value_parser = place)]
    from: Option<Client>,
    /// Requests a second
    #[arg(long, default_value_t = 200.0, value_parser = rate)]
    rate: f64,
    /// Length of each of the two runs
    #[arg(long, default_value = "5s", value_parser = units::duration)]
    duration: Duration,
    /// How requests are spread over time
    #[arg(long, value_enum, default_value = "fixed")]
    arrivals: Arrivals,
    /// Seed of Poisson arrivals: the same seed gives the same schedule
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Connections to each target, never more. Without it as many as are needed, up to --in-flight
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    connections: Option<u16>,
    /// Most requests under way at once; more are not sent but counted
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    in_flight: u32,
    /// Longest wait for an answer
    #[arg(long, default_value = "30s", value_parser = units::duration)]
    timeout: Duration,
    /// Request header, `Name: value`; may be given several times
    #[arg(long, short = 'H', value_name = "HEADER", value_parser = header)]
    header: Vec<(HeaderName, HeaderValue)>,
    /// Add a query that makes every request unlike any other, so that no cache has its answer
    #[arg(long)]
    miss: bool,
    /// Leave the round trips out
    #[arg(long)]
    no_distance: bool,
    /// State folder of the fleet [default: the nearest .skerry at or above the working folder]
    #[arg(long)]
    state: Option<PathBuf>,
    /// Print all figures as JSON
    #[arg(long)]
    json: bool,
}

/// Where the client stands.
#[derive(Clone, Debug)]
struct Client {
    name: String,
    at: (f64, f64),
}

fn path(text: &str) -> Result<String, String> {
    let uri: Result<http::Uri, _> = text.parse();
    match uri {
        Ok(uri) if text.starts_with('/') && uri.authority().is_none() => Ok(text.to_owned()),
        _ => Err("a path begins with '/', has no host and only characters of a URL".to_owned()),
    }
}

fn place(text: &str) -> Result<Client, String> {
    if let Some(city) = geo::city(&text.to_ascii_lowercase()) {
        return Ok(Client { name: format!("{}, {}", city.name, city.country), at: city.point() });
    }
    let country = text.to_ascii_uppercase();
    geo::country_center(&country)
        .map(|at| Client { name: country, at })
        .ok_or_else(|| format!("{text:?} is neither the code of a known city (lhr) nor of a country (JP)"))
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: Option<f64> = text.parse().ok().filter(|rate| (0.01..=100_000.0).contains(rate));
    rate.ok_or_else(|| "a rate is a number of requests a second, 0.01 to 100000".to_owned())
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let parsed = text.split_once(':').and_then(|(name, value)| {
        Some((HeaderName::try_from(name.trim()).ok()?, HeaderValue::try_from(value.trim()).ok()?))
    });
    parsed.ok_or_else(|| format!("{text:?} is not a header: write Name: value"))
}

impl Bench {
    /// Measures and prints.
    ///
    /// # Errors
    /// When there is no fleet, no such PoP, a target takes no connection, or the PoP gave no successful answer.
    pub(crate) fn run(self) -> Result<(), Failure> {
        if self.timeout.is_zero() || self.timeout > MAX_LATENCY {
            return Err(Failure::Usage(format!("--timeout must be above 0 and at most {} s", MAX_LATENCY.as_secs())));
        }
        let fleet = Fleet::find(self.state.as_deref(), &std::env::current_dir()?)?;
        let (pop, client) = self.ends(&fleet)?;
        let report = super::runtime()?.block_on(self.measure(&fleet, pop, &client))?;
        if self.json {
            output::json(&report)?
        } else {
            output::print(&report)?
        }
        match &report.targets[0] {
            pop if pop.successes() == 0 => Err(Failure::Failed(format!("{} gave no successful answer", pop.name))),
            _ => Ok(()),
        }
    }

    /// The PoP to measure and where the client stands.
    fn ends<'a>(&self, fleet: &'a Fleet) -> Result<(&'a PopNode, Client), Failure> {
        let here = |pop: &PopNode| Client {
            name: format!("{}, {}", pop.place.city, pop.place.country),
            at: pop.place.coordinates(),
        };
        let distance = |pop: &PopNode, at| geo::distance_km(pop.place.coordinates(), at);
        if self.pop != "nearest" {
            let pop = fleet.pop(&self.pop.to_ascii_lowercase()).ok_or_else(|| {
                let names: Vec<&str> = fleet.pops.iter().map(|pop| pop.name.as_str()).collect();
                Failure::Usage(format!("the fleet has no PoP {:?}; it has {}", self.pop, names.join(", ")))
            })?;
            return Ok((pop, self.from.clone().unwrap_or_else(|| here(pop))));
        }
        let first = fleet.pops.first().ok_or_else(|| Failure::Failed("the fleet has no PoPs".to_owned()))?;
        let client = self.from.clone().unwrap_or_else(|| here(first));
        let nearest = fleet.pops.iter().min_by(|a, b| distance(a, client.at).total_cmp(&distance(b, client.at)));
        Ok((nearest.unwrap_or(first), client))
    }

    async fn measure(&self, fleet: &Fleet, pop: &PopNode, client: &Client) -> Result<Report, Failure> {
        let distance = fleet.distance && !self.no_distance;
        let hop = Duration::from_secs_f64(fleet.hop_ms.max(0.0) / 1000.0);
        let trip = |to| if distance { round_trip(client.at, to, hop) } else { Duration::ZERO };
        let pop_trip = trip(pop.place.coordinates());
        let origin_trip = trip(fleet.origin.place.coordinates());
        let connections = self.connections.map_or_else(
            || {
                let busy = self.rate * (pop_trip.max(origin_trip).as_secs_f64() + 0.05);
                ((busy * 2.0).ceil() as usize).clamp(CONNECTIONS.0, CONNECTIONS.1)
            },
            usize::from,
        );
        let ends = [
            (pop.name.as_str(), &pop.place, pop.address, pop_trip, true),
            ("origin", &fleet.origin.place, fleet.origin.address, origin_trip, false),
        ];
        let dead = |name: &str, address, error: std::io::Error| {
            Failure::Failed(format!("{name} at {address} takes no connection: {error}; is the fleet up?"))
        };
        for (name, _, address, ..) in ends {
            // A link takes every connection, whatever is behind it: who is there is asked before.
            TcpStream::connect(address).await.map_err(|error| dead(name, address, error))?;
        }
        let alarm = Alarm::start()?;
        let mut targets = Vec::new();
        for (name, place, address, trip, is_pop) in ends {
            let link = if distance { Some(Link::open(&alarm, address, trip).await?) } else { None };
            let target = Target {
                address: link.as_ref().map_or(address, Link::address),
                host: address.to_string(),
                path: self.path.clone(),
                headers: self.header.iter().cloned().collect::<HeaderMap>(),
                is_pop,
            };
            let _progress = Progress::start(format!("asking {name} for {} s", self.duration.as_secs_f64()));
            let load = self.load(connections, distance, trip);
            let record = load::run(&target, &load).await.map_err(|error| dead(name, address, error))?;
            let city = format!("{}, {}", place.city, place.country);
            let rtt_ms = trip.as_secs_f64() * 1000.0;
            targets.push(Measured::new(name.to_owned(), city, address.to_string(), rtt_ms, &record, is_pop));
        }
        Ok(self.report(client, connections, distance, targets))
    }

    fn load(&self, connections: usize, distance: bool, trip: Duration) -> Load {
        let in_flight = self.in_flight as usize;
        let most = if distance { in_flight.min(wan::MAX_CONNECTIONS) } else { in_flight };
        Load {
            schedule: Schedule::new(self.arrivals, self.rate, self.duration, self.seed),
            connections: connections.min(most),
            most_connections: self.connections.map_or(most, usize::from),
            in_flight,
            timeout: self.timeout,
            // The handshake takes one trip; the rest is for the far side's accept.
            settle: trip * 2,
            unique: self.miss.then(|| format!("{:016x}", rand::random::<u64>())),
        }
    }

    fn report(&self, client: &Client, connections: usize, distance: bool, targets: Vec<Measured>) -> Report {
        Report {
            path: self.path.clone(),
            client: client.name.clone(),
            rate: self.rate,
            duration_seconds: self.duration.as_secs_f64(),
            arrivals: match self.arrivals {
                Arrivals::Fixed => "fixed".to_owned(),
                Arrivals::Poisson => "poisson".to_owned(),
            },
            connections,
            distance,
            gain: gain(&targets[0], &targets[1]),
            targets,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_stands_in_a_city_or_a_country() {
        assert!(place("LHR").unwrap().name.contains("GB"));
        assert_eq!(place("jp").unwrap().name, "JP");
        assert!(place("atlantis").is_err());
    }

    #[test]
    fn paths_rates_and_headers_are_checked() {
        assert!(path("/a?b=1").is_ok());
        assert!(["", "a", "http://x/a", "//x y", "/a b"].iter().all(|bad| path(bad).is_err()));
        assert!(rate("0.5").is_ok() && ["0", "-1", "nan", "inf", "1e9", "x"].iter().all(|bad| rate(bad).is_err()));
        assert_eq!(header("A: b:c").unwrap().1, "b:c");
        assert!(header("A b: c").is_err() && header("nothing").is_err());
    }
}
