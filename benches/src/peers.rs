//! What Skerry is measured beside, each set up to do the same work.

pub(crate) mod deno;
pub(crate) mod nginx;
pub(crate) mod varnish;
pub(crate) mod workerd;
