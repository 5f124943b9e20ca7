//! A function in V8: snapshot, pool, limits, ops. The only crate that names `deno_core`.
//!
//! A [`Worker`] belongs to one thread and holds that thread's isolates. [`Worker::invoke`] takes a [`Program`] and a
//! request, finds or starts the isolate of that program, runs the handler under its [`limits`], and gives back a
//! response or a [`Fault`]. What the handler may do to the world is what the caller's [`Capabilities`] let it.

mod allowed;
mod blank;
mod buffers;
mod clock;
mod code_cache;
mod descriptors;
mod entered;
mod extension;
mod fault;
mod invocation;
pub mod limits;
mod loss;
mod maker;
mod nowhere;
mod ops_body;
mod ops_cache;
mod ops_coding;
mod ops_web;
mod platform;
mod pool;
mod program;
mod resident;
mod slot;
mod snapshot;
mod stack;
mod table;
mod thread_clock;
mod trial;
mod turns;
mod watchdog;
mod worker;

#[cfg(test)]
mod tests;

pub use code_cache::{CodeCache, SealKey, Unsealed};
pub use deno_core::unsync::spawn as spawn_local;
pub use descriptors::keep_descriptors;
pub use fault::{Fault, by_key};
pub use invocation::{Body, BoxError, CacheCall, Capabilities};
pub use loss::{Cause, Loss};
pub use platform::{Platform, STACK_BYTES};
pub use program::{CacheUse, Code, Found, Program, Source};
pub use resident::{Failure, ResponseBody};
pub use snapshot::{Snapshot, prove, reseed};
pub use trial::{Trial, check};
pub use turns::ask_for_short_turns;
pub use watchdog::Watchdog;
pub use worker::{Config, Counts, Invoked, Start, Timing, Worker, most_residents};
