//! The questions, one file each.

use std::fmt;

use clap::ValueEnum;

use crate::report::Report;
use crate::{Bench, Failure, sources};

mod big_bundle;
mod cached_object;
mod churn;
mod cold_start;
mod density;
mod failover;
mod fidelity;
mod first_request;
mod hello;
mod hits;
mod jwt;
mod noisy_neighbour;
mod passthrough;
mod phases;
mod process_isolation;
mod resident;
mod streaming;
mod zipf;

/// What can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Question {
    /// How many requests a second the smallest functions answer, and how fast
    Hello,
    /// What it costs to pass on what an origin answers
    Passthrough,
    /// How many tokens a second are verified
    Jwt,
    /// How fast a cached object of 10 KiB is served
    CachedObject,
    /// How fast cached objects of 1 KiB to 100 MiB are served, by one worker and by two
    Hits,
    /// How much memory a million small objects take besides their bytes
    Resident,
    /// How often the origin is asked when few objects are popular and some change
    Zipf,
    /// How long the first visitor of a function waits
    ColdStart,
    /// The same for a function that is a MiB of npm packages
    BigBundle,
    /// How soon a process with many functions answers its first request
    FirstRequest,
    /// How much memory functions take that are idle, and those that were given up
    Density,
    /// Whether a process grows by starting functions and giving them up
    Churn,
    /// What a function notices of another one that does its worst
    NoisyNeighbour,
    /// What a process of its own costs a function
    ProcessIsolation,
    /// Whether a slow reader fills the memory
    Streaming,
    /// Whether the simulator says what the fleet does
    Fidelity,
    /// What clients notice when a PoP or the origin is lost under load
    Failover,
}

impl Question {
    /// These, or all when there are none.
    pub(crate) fn chosen(questions: &[Self]) -> &[Self] {
        if questions.is_empty() { Self::value_variants() } else { questions }
    }

    /// Measures.
    ///
    /// # Errors
    /// What kept it from being answered. Nothing is left running.
    pub(crate) async fn ask(self, bench: &Bench) -> Result<Report, Failure> {
        match self {
            Self::Hello => hello::ask(bench).await,
            Self::Passthrough => passthrough::ask(bench).await,
            Self::Jwt => jwt::ask(bench).await,
            Self::CachedObject => cached_object::ask(bench).await,
            Self::Hits => hits::ask(bench).await,
            Self::Resident => resident::ask(bench).await,
            Self::Zipf => zipf::ask(bench).await,
            Self::ColdStart => cold_start::ask(bench).await,
            Self::BigBundle => big_bundle::ask(bench).await,
            Self::FirstRequest => first_request::ask(bench).await,
            Self::Density => density::ask(bench).await,
            Self::Churn => churn::ask(bench).await,
            Self::NoisyNeighbour => noisy_neighbour::ask(bench).await,
            Self::ProcessIsolation => process_isolation::ask(bench).await,
            Self::Streaming => streaming::ask(bench).await,
            Self::Fidelity => fidelity::ask(bench).await,
            Self::Failover => failover::ask(bench).await,
        }
    }
}

/// Where one of many functions answers.
fn path(number: u32) -> String {
    format!("/{}", sources::name(number))
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.write_str(value.as_ref().map_or("", |value| value.get_name()))
    }
}
