//! What Skerry is measured beside, each set up to do the same work.

pub(crate) mod deno;
pub(crate) mod nginx;
pub(crate) mod varnish;
pub(crate) mod workerd;

/// How a cache is set up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caching {
    /// Worker processes or threads: one is on the server's core, more are anywhere.
    pub(crate) workers: u32,
    /// MiB of what it may keep.
    pub(crate) mib: u64,
}

impl Default for Caching {
    fn default() -> Self {
        Self { workers: 1, mib: 256 }
    }
}
