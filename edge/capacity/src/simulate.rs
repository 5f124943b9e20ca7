//! A fleet on paper: a discrete-event simulation, which gives the same bytes for the same scenario and seed.
//!
//! - [`scenario`]: what is simulated, as data.
//! - [`agenda`], [`chance`]: time and chance.
//! - [`cache`], [`popular`]: what is asked for, and what is kept of it.
//! - [`pilot`]: what scales the nodes: the same policies that do it live.

pub mod agenda;
pub mod cache;
pub mod chance;
mod fleet;
pub mod histogram;
mod isolates;
mod law;
pub mod pilot;
pub mod popular;
pub mod regret;
pub mod report;
pub mod scenario;

pub use fleet::{PopTally, Refusal, Tally};
pub use law::{Law, Span};
pub use scenario::Scenario;

use crate::invalid::Invalids;

/// Nanoseconds since the simulation began.
pub type Nanos = u64;

/// Plays a scenario; `progress` hears now and then which part of it is over, from 0 to 1.
///
/// # Errors
/// Every key of the scenario that cannot be used.
pub fn run(scenario: &Scenario, seed: u64, progress: &mut dyn FnMut(f64)) -> Result<Tally, Invalids> {
    scenario.validate()?;
    Ok(fleet::play(scenario, seed, progress))
}

#[cfg(test)]
mod tests;
