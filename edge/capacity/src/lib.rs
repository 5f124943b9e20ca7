//! What should run where, and what it costs: pure decisions, without I/O and without a clock of their own.
//!
//! Time comes in as a [`Moment`], so that the same code decides in a PoP, in the simulator and in a plan.

pub mod fallback;
pub mod invalid;
pub mod moment;
pub mod scale;
mod span;

pub use invalid::{Invalid, Invalids};
pub use moment::Moment;
