//! The planner: what should run where, for the least money that keeps the objective.
//!
//! A typical week is cut into its hours. For every hour and stream [`need`] says how many processors keep the p99, and
//! [`offer`] who may sell them: who is too far away, too small, or in the wrong country is refused with the number by
//! which. [`solve`] then finds the cheapest mix exactly, in whole machines: every number of own machines, times every
//! capacity of reserved ones (the cheapest set of them is a table), with the rest of each hour bought in the cheapest
//! way of that hour (another table). There is no solver's tolerance in it, so that what must hold does: more load never
//! costs less, and an option less never makes it cheaper. [`weigh`] asks the same question with other prices, without
//! a constraint, or without a part, and finds crossovers, sensitivities and plan B that way.

mod explain;
mod file;
mod need;
mod offer;
mod report;
mod solve;
mod weigh;

use serde::{Deserialize, Serialize};

use crate::load::Week;
use crate::price::{Doubt, Money, PriceBook};

pub use file::{FileError, objective};
pub use offer::{Refusal, Why, km_in_ms};
pub use report::html;
pub use solve::{HourMix, Mix, Part};
pub use weigh::{Binding, Comparison, Crossover, Fallback, Sensitivity};

/// A way to get capacity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Machines of one's own, at the edge.
    Own,
    /// Instances reserved for three years.
    Reserved3y,
    /// Instances reserved for one year.
    Reserved1y,
    /// Instances by the hour.
    OnDemand,
    /// Instances that may be taken away.
    Spot,
    /// Containers by the second.
    Fargate,
    /// Containers that may be taken away.
    FargateSpot,
    /// Functions by the request.
    Lambda,
}

impl Kind {
    /// All of them, those that are paid whether used or not first.
    pub const ALL: [Self; 8] = [
        Self::Own,
        Self::Reserved3y,
        Self::Reserved1y,
        Self::OnDemand,
        Self::Spot,
        Self::Fargate,
        Self::FargateSpot,
        Self::Lambda,
    ];

    /// Its name, for people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Own => "own machines",
            Self::Reserved3y => "reserved for 3 years",
            Self::Reserved1y => "reserved for 1 year",
            Self::OnDemand => "on demand",
            Self::Spot => "spot",
            Self::Fargate => "Fargate",
            Self::FargateSpot => "Fargate Spot",
            Self::Lambda => "Lambda",
        }
    }

    /// Whether it can be taken away with two minutes of notice.
    #[must_use]
    pub fn interrupted(self) -> bool {
        matches!(self, Self::Spot | Self::FargateSpot)
    }
}

/// What one request takes, on average.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Work {
    /// Processor time.
    pub cpu_ms: f64,
    /// Time that it waits for others, without a processor.
    #[serde(default)]
    pub wait_ms: f64,
    /// Time from start to end that 99 of 100 stay below, without queues; none: three times the average.
    pub p99_ms: Option<f64>,
    /// Memory that it holds, in MB (2^20 bytes).
    pub memory_mb: f64,
    /// Largest request body, in bytes.
    #[serde(default)]
    pub request_bytes: f64,
    /// Response body, in bytes.
    #[serde(default)]
    pub response_bytes: f64,
}

impl Work {
    /// From start to end, on average, in seconds.
    #[must_use]
    pub fn wall_seconds(&self) -> f64 {
        (self.cpu_ms + self.wait_ms) / 1e3
    }

    /// From start to end, the p99, in milliseconds.
    #[must_use]
    pub fn service_p99_ms(&self) -> f64 {
        self.p99_ms.unwrap_or(3.0 * (self.cpu_ms + self.wait_ms))
    }
}

/// What a stream must keep.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Objective {
    /// 99 of 100 requests are answered within this, seen from the client; none: no bound.
    pub p99_ms: Option<f64>,
    /// Share of requests that may fail. Below 1 in 200 the loss of a machine must not matter, and a spare stands by.
    pub error_budget: Option<f64>,
    /// Jurisdictions in which it must be computed; none: anywhere.
    pub residency: Vec<String>,
}

/// When a stream comes.
#[derive(Clone, Debug, PartialEq)]
pub enum Demand {
    /// Requests, one by one.
    Requests(Week),
    /// So many processors for so long, every day at the same hour.
    Batch {
        /// Processors at once.
        cores: u32,
        /// How long, 1 to 60.
        minutes: f64,
        /// Hour of the day, 0 to 23 UTC.
        hour: u8,
    },
}

/// A part of the load that is alike.
#[derive(Clone, Debug, PartialEq)]
pub struct Stream {
    /// Its name: of a function, say.
    pub name: String,
    /// When it comes.
    pub demand: Demand,
    /// What each takes.
    pub work: Work,
    /// What it must keep.
    pub objective: Objective,
    /// Whether it may be broken off and done again.
    pub interruptible: bool,
}

/// Where something can run.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// Its name.
    pub name: String,
    /// Whose machines stand there.
    pub kind: PlaceKind,
    /// Whose law holds there: "EU", "US".
    #[serde(default)]
    pub jurisdiction: String,
    /// Distance of the farthest hundredth of the clients, in km along the ground.
    pub distance_km: f64,
    /// Round trip of the slowest hundredth of the clients, measured; none: what light in fibre takes, times 1.5.
    pub rtt_ms: Option<f64>,
}

/// Whose machines stand at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PlaceKind {
    /// Our own PoPs.
    Edge,
    /// A cloud's region.
    Region,
}

/// What the edge gives one request; more must go to a region.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EdgeLimits {
    /// Memory of an isolate, in MB.
    pub memory_mb: f64,
    /// Processor time of a request.
    pub cpu_ms: f64,
    /// From start to end.
    pub wall_ms: f64,
    /// Largest request body.
    pub request_bytes: f64,
}

impl Default for EdgeLimits {
    fn default() -> Self {
        Self { memory_mb: 128.0, cpu_ms: 30_000.0, wall_ms: 60_000.0, request_bytes: 1e8 }
    }
}

/// A question for the planner.
#[derive(Clone, Debug)]
pub struct Question {
    /// What has to be carried; 1 to [`MAX_STREAMS`].
    pub streams: Vec<Stream>,
    /// Where it can be carried.
    pub places: Vec<Place>,
    /// What may be bought.
    pub kinds: Vec<Kind>,
    /// Most machines of one's own.
    pub own_machines: u32,
    /// What the edge gives one request.
    pub edge_limits: EdgeLimits,
    /// What it costs.
    pub prices: PriceBook,
}

/// Most streams of one question.
pub const MAX_STREAMS: usize = 16;
/// Most processors that a plan deals with.
pub const MAX_VCPUS: u32 = 1_000_000;

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PlanError {
    /// The question itself is wrong.
    #[error("{0}")]
    Question(String),
    /// Nobody may carry a stream.
    #[error("nothing can carry \"{stream}\":{}", refusals.iter().map(|refusal| format!("\n  {refusal}")).collect::<String>())]
    NoWay {
        /// The stream's name.
        stream: String,
        /// Everyone who was asked, and why not.
        refusals: Vec<Refusal>,
    },
    /// Only own machines may carry a stream, and there are too few.
    #[error(
        "\"{stream}\" can only be carried by own machines and needs {needed} of them at its peak; there are {available}"
    )]
    TooFewOwn {
        /// The stream's name.
        stream: String,
        /// How many would do.
        needed: u32,
        /// How many there are.
        available: u32,
    },
    /// More than anything here was made for.
    #[error("\"{stream}\" needs more than {MAX_VCPUS} processors at its peak: split it")]
    TooLarge {
        /// The stream's name.
        stream: String,
    },
}

/// What every plan takes for granted.
pub const ASSUMPTIONS: &[&str] = &[
    "The week repeats itself; a month has 730 hours.",
    "Requests of a busy minute arrive at random (Poisson) and are served by one pool of processors for each kind of place.",
    "Machines are used to at most 80 % at the busiest minute; a processor of any machine is worth one of any other.",
    "What is hired by the hour is there when its hour begins: for what comes faster than machines start, see the simulator.",
    "All regions have the prices of the book, and bytes from a region leave it without a CDN in front.",
    "What sellers give free is taken off in comparisons with them, and not in the mix.",
    "A spare machine counts as capacity where Lambda takes a share of an hour.",
];

/// An answer.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// The book's currency.
    pub currency: String,
    /// The cheapest mix.
    pub mix: Mix,
    /// What binds, and what it costs that it does.
    pub binding: Vec<Binding>,
    /// Who was refused for which stream.
    pub refusals: Vec<Refusal>,
    /// At which utilisation one way gets cheaper than another.
    pub crossovers: Vec<Crossover>,
    /// Which change of a price changes the mix.
    pub sensitivity: Vec<Sensitivity>,
    /// What happens when a part is lost.
    pub fallbacks: Vec<Fallback>,
    /// What the same load would cost with one way alone, or with other sellers.
    pub comparisons: Vec<Comparison>,
    /// Prices to look at before they are believed.
    #[serde(skip)]
    pub doubts: Vec<Doubt>,
}

impl Plan {
    /// What the mix costs a month.
    #[must_use]
    pub fn total(&self) -> Money {
        self.mix.total()
    }

    /// The answer in plain sentences.
    #[must_use]
    pub fn explain(&self) -> String {
        explain::explain(self)
    }
}

impl Question {
    /// The cheapest mix, alone.
    ///
    /// # Errors
    /// [`PlanError`].
    pub fn solve(&self) -> Result<Mix, PlanError> {
        solve::solve(self)
    }

    /// The cheapest mix, and everything around it.
    ///
    /// # Errors
    /// [`PlanError`].
    pub fn plan(&self) -> Result<Plan, PlanError> {
        let mix = self.solve()?;
        Ok(Plan {
            currency: self.prices.currency.clone(),
            binding: weigh::binding(self, &mix),
            refusals: offer::refusals(self),
            crossovers: weigh::crossovers(self),
            sensitivity: weigh::sensitivity(self, &mix),
            fallbacks: weigh::fallbacks(self, &mix),
            comparisons: weigh::comparisons(self),
            doubts: Vec::new(),
            mix,
        })
    }
}

#[cfg(test)]
mod tests;
