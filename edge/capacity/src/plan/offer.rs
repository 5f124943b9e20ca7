//! Who may carry a stream, and who is refused, by how much.

use std::fmt;

use serde::Serialize;

use super::{Demand, Kind, Place, PlaceKind, Question, Stream};
use crate::usage::Usage;
use crate::usage::bill::{LAMBDA_MB_PER_VCPU, LAMBDA_MIN_MB, Metered, Terms, metered};

/// Light in fibre, in km a millisecond.
const FIBRE_KM_PER_MS: f64 = 204.0;
/// Measured paths are longer than the ground between their ends.
const USUAL_DETOUR: f64 = 1.5;
/// Lambda: the longest that a function runs.
pub(super) const LAMBDA_MAX_MS: f64 = 900_000.0;
/// Lambda: the most memory of a function.
const LAMBDA_MAX_MB: f64 = 10_240.0;
/// Lambda: the largest body of a synchronous request, or of its response, in bytes.
const LAMBDA_MAX_BODY: f64 = 6.0 * 1024.0 * 1024.0;
/// Lambda: how long an idle function stays ready, and how long a start takes when it did not.
const LAMBDA_KEPT_SECONDS: f64 = 300.0;
const LAMBDA_START_MS: f64 = 300.0;
/// Fargate: the most memory of a task.
const FARGATE_MAX_MB: f64 = 120.0 * 1024.0;

/// The least time of a round trip over a distance: there and back with the speed of light in fibre.
#[must_use]
pub fn km_in_ms(distance_km: f64) -> f64 {
    2.0 * distance_km / FIBRE_KM_PER_MS
}

impl Place {
    /// The round trip of the slowest hundredth of the clients, in milliseconds.
    #[must_use]
    pub fn rtt_ms(&self) -> f64 {
        self.rtt_ms.unwrap_or(USUAL_DETOUR * km_in_ms(self.distance_km))
    }
}

/// Why somebody cannot carry a stream.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// There is no such place.
    NoPlace,
    /// Not in a jurisdiction that the objective names.
    Residency(String),
    /// The light's way alone takes longer than the p99 allows. Milliseconds.
    Distance {
        /// The place.
        place: String,
        /// The least round trip.
        least: f64,
        /// The objective.
        bound: f64,
    },
    /// Round trip and service take longer than the p99 allows. Milliseconds.
    Latency {
        /// The place.
        place: String,
        /// Round trip.
        rtt: f64,
        /// What the work itself takes (with a cold start, where more than one in a hundred has one).
        service: f64,
        /// The objective.
        bound: f64,
    },
    /// It takes more than it gets there.
    Limit {
        /// What.
        what: &'static str,
        /// How much it takes.
        needs: f64,
        /// How much it gets.
        limit: f64,
        /// Of this.
        unit: &'static str,
    },
    /// It may not be broken off.
    Interrupted,
}

/// Somebody who cannot carry a stream.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Refusal {
    /// The stream's name.
    pub stream: String,
    /// Who.
    pub kind: Kind,
    /// Why.
    pub why: Why,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.kind.as_str())?;
        match &self.why {
            Why::NoPlace => f.write_str("there is no place where they could stand"),
            Why::Residency(allowed) => write!(f, "stands outside of {allowed}, where the objective wants it computed"),
            Why::Distance { place, least, bound } => write!(
                f,
                "{place} is so far away that light in fibre takes {least:.1} ms there and back; the p99 of {bound:.1} ms is {:.1} ms too short",
                least - bound
            ),
            Why::Latency { place, rtt, service, bound } => write!(
                f,
                "at {place} the round trip takes {rtt:.1} ms and the work {service:.1} ms, together {:.1} ms more than the p99 of {bound:.1} ms",
                rtt + service - bound
            ),
            Why::Limit { what, needs, limit, unit } => {
                write!(f, "{what}: needs {needs:.0} {unit}, gets at most {limit:.0} {unit}")
            }
            Why::Interrupted => {
                f.write_str("can be taken away with two minutes of notice, and the work may not be broken off")
            }
        }
    }
}

/// What is left of the p99 for a queue, in milliseconds; `None`: there is no bound.
pub(super) type Slack = Option<f64>;

/// Whether a stream may be carried this way, and how much of its p99 is left for a queue there.
pub(super) fn judge(question: &Question, stream: &Stream, kind: Kind) -> Result<Slack, Why> {
    if kind.interrupted() && !stream.interruptible {
        return Err(Why::Interrupted);
    }
    limits(question, stream, kind)?;
    chosen(question, stream, kind).map(|(_, slack)| slack)
}

/// The place where a stream runs if it is carried this way: the one that leaves most of its p99 for a queue. When there is
/// none: why the first that could have been is not.
pub(super) fn chosen<'a>(question: &'a Question, stream: &Stream, kind: Kind) -> Result<(&'a Place, Slack), Why> {
    let wanted = if kind == Kind::Own { PlaceKind::Edge } else { PlaceKind::Region };
    let mut best: Result<(&Place, Slack), Why> = Err(Why::NoPlace);
    for place in question.places.iter().filter(|place| place.kind == wanted) {
        match (at(place, stream, kind), &best) {
            (Ok(slack), Ok((_, most))) if slack.unwrap_or(f64::MAX) <= most.unwrap_or(f64::MAX) => {}
            (Ok(slack), _) => best = Ok((place, slack)),
            (Err(why), Err(Why::NoPlace)) => best = Err(why),
            (Err(_), _) => {}
        }
    }
    best
}

fn at(place: &Place, stream: &Stream, kind: Kind) -> Result<Slack, Why> {
    let objective = &stream.objective;
    if !objective.residency.is_empty() && !objective.residency.contains(&place.jurisdiction) {
        return Err(Why::Residency(objective.residency.join(", ")));
    }
    let Some(bound) = objective.p99_ms else { return Ok(None) };
    let least = km_in_ms(place.distance_km);
    if least > bound {
        return Err(Why::Distance { place: place.name.clone(), least, bound });
    }
    let rtt = place.rtt_ms();
    let service = match kind {
        Kind::Lambda => lambda_p99_ms(stream),
        _ => stream.work.service_p99_ms(),
    };
    let slack = bound - rtt - service;
    if slack < 0.0 {
        return Err(Why::Latency { place: place.name.clone(), rtt, service, bound });
    }
    Ok(Some(slack))
}

fn limits(question: &Question, stream: &Stream, kind: Kind) -> Result<(), Why> {
    let work = &stream.work;
    let wall = work.service_p99_ms();
    let check =
        |what, needs, limit, unit| if needs > limit { Err(Why::Limit { what, needs, limit, unit }) } else { Ok(()) };
    match kind {
        Kind::Own => {
            let edge = &question.edge_limits;
            check("memory of a request", work.memory_mb, edge.memory_mb, "MB")?;
            check("processor time of a request", work.cpu_ms, edge.cpu_ms, "ms")?;
            check("time of a request", wall, edge.wall_ms, "ms")?;
            check("body of a request", work.request_bytes, edge.request_bytes, "bytes")
        }
        Kind::Lambda => {
            check("time of a function", wall, LAMBDA_MAX_MS, "ms")?;
            check("memory of a function", work.memory_mb, LAMBDA_MAX_MB, "MB")?;
            check("body of a request", work.request_bytes, LAMBDA_MAX_BODY, "bytes")?;
            check("body of a response", work.response_bytes, LAMBDA_MAX_BODY, "bytes")
        }
        Kind::Fargate | Kind::FargateSpot => check("memory of a task", work.memory_mb, FARGATE_MAX_MB, "MB"),
        _ => {
            let most = question.prices.instances.iter().map(|it| it.memory_gb).fold(0.0, f64::max) * 1024.0;
            check("memory of a machine", work.memory_mb, most, "MB")
        }
    }
}

/// Memory with which Lambda runs a stream: what it needs, or as much more as makes its processor fast enough for the p99
/// (with a cold start, where more than one in a hundred has one). Below [`LAMBDA_MB_PER_VCPU`] the processor is slower in proportion, and costs the same where
/// it computes; only waiting costs more with more memory.
pub(super) fn lambda_memory_mb(question: &Question, stream: &Stream) -> f64 {
    let work = &stream.work;
    let least = work.memory_mb.max(LAMBDA_MIN_MB);
    let (Some(bound), Ok((place, _))) = (stream.objective.p99_ms, chosen(question, stream, Kind::Lambda)) else {
        return least;
    };
    let start = lambda_p99_ms(stream) - work.service_p99_ms();
    let stretch = (bound - place.rtt_ms() - start) / work.service_p99_ms();
    let slower = (stretch * (work.cpu_ms + work.wait_ms) - work.wait_ms) / work.cpu_ms;
    least.max((LAMBDA_MB_PER_VCPU / slower.max(1.0)).ceil())
}

fn lambda_p99_ms(stream: &Stream) -> f64 {
    stream.work.service_p99_ms() + if lambda_cold_share(stream) > 0.01 { LAMBDA_START_MS } else { 0.0 }
}

/// Share of requests that find no function ready: those that come after a pause longer than one is kept.
pub(super) fn lambda_cold_share(stream: &Stream) -> f64 {
    let Demand::Requests(week) = &stream.demand else { return 1.0 };
    let total: f64 = week.hours().iter().map(|hour| hour.mean).sum();
    let cold: f64 = week.hours().iter().map(|hour| hour.mean * (-hour.mean * LAMBDA_KEPT_SECONDS).exp()).sum();
    if total > 0.0 { cold / total } else { 0.0 }
}

/// What a thousand requests use.
pub(super) fn usage_of(stream: &Stream, requests: u64) -> Usage {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "saturates"
    )]
    let times = |each: f64| (each * requests as f64).round() as u64;
    let work = &stream.work;
    Usage {
        requests,
        invocations: requests,
        cpu_us: times(work.cpu_ms * 1e3),
        wall_us: times((work.cpu_ms + work.wait_ms) * 1e3),
        memory_mb_ms: times(work.memory_mb * (work.cpu_ms + work.wait_ms)),
        bytes_out: times(work.response_bytes),
        ..Usage::default()
    }
}

/// What a request costs on Lambda, without its bytes and without anything free.
pub(super) fn lambda_request(question: &Question, stream: &Stream) -> f64 {
    const MANY: u64 = 1_000_000;
    let terms = Terms { memory_mb: lambda_memory_mb(question, stream), months: 1.0, allowances: false };
    let usage = Usage { bytes_out: 0, ..usage_of(stream, MANY) };
    metered(Metered::LambdaArm, &usage, &question.prices, &terms).total().as_f64() / 1e6
}

/// Everyone who is refused.
pub(super) fn refusals(question: &Question) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    for stream in &question.streams {
        refusals.extend(question.kinds.iter().filter_map(|kind| {
            let why = judge(question, stream, *kind).err()?;
            Some(Refusal { stream: stream.name.clone(), kind: *kind, why })
        }));
    }
    refusals
}
