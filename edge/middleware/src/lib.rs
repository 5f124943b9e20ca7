//! What runs at the edge without V8: JWT, geo, rate limits, cohorts. Pure Rust, no HTTP server.
//!
//! Each part is a pure function of its inputs: time, sequence numbers and random bits come in as parameters, so that
//! every rule here is tested without a sleep, and any number of PoPs can run in one process.
//!
//! - [`jwt`] verifies bearer tokens with configured keys and fetched key sets, and signs tokens for the command line.
//! - [`geo`] finds where an address is, where cities and countries are, and how far apart two points are.
//! - [`client_addr`] finds the client's address behind trusted proxies.
//! - [`rate_limit`] counts requests per key in a bounded amount of memory.
//! - [`cohort`] puts clients into the cohorts of an experiment, without asking anybody.
//!
//! **Deliberately absent:** sockets, HTTP messages, files other than a geolocation database, clocks.

pub mod client_addr;
pub mod cohort;
pub mod geo;
pub mod jwt;
pub mod rate_limit;
