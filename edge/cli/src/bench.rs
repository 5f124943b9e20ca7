//! The load generator of `skerry bench`.

pub(crate) mod load;
pub(crate) mod record;
pub(crate) mod report;
pub(crate) mod schedule;
