//! The load generator of `skerry bench`.

pub mod load;
pub mod record;
pub mod report;
pub mod schedule;
