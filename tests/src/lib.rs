//! Starts the real thing in one line: `Fleet::start()` is `skerry up` on free ports, in a folder of its own.
//!
//! Everything here panics when it fails: it is for tests and benches, which have nobody to report to but the reader.

pub mod client;
pub mod exposition;
pub mod fleet;
pub mod http_cache_tests;
pub mod lone;
pub mod stub;
pub mod wire;

pub use client::{Reply, get, send};
pub use exposition::Scrape;
pub use fleet::{Fleet, Options, eventually, skerry};
pub use lone::Lone;
pub use stub::Stub;
pub use wire::Wire;
