//! What should run where, and what it costs: pure decisions, without I/O and without a clock of their own.
//!
//! Time comes in as a [`Moment`], so that the same code decides in a PoP, in the simulator and in a plan. What is not known
//! changes nothing: a measurement that is missing, old, negative or no number holds a count where it is, and never takes
//! the last one away.
//!
//! - [`scale`]: how much should run.
//! - [`fallback`]: where a request runs, here or in the region.
//! - [`price`]: the book of prices; [`usage`]: what was used, and what it costs.
//! - [`load`]: what has to be carried; [`plan`]: the cheapest mix that carries it.
//! - [`simulate`]: a fleet on paper, with the same policies, and what they cost against one that knows the future.

pub mod fallback;
pub mod invalid;
pub mod load;
pub mod moment;
pub mod plan;
pub mod price;
pub mod scale;
pub mod simulate;
mod span;
pub mod usage;

pub use invalid::{Invalid, Invalids};
pub use moment::Moment;
