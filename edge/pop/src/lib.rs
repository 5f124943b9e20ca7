//! One PoP: listeners, the request path, routing, host capabilities.
//!
//! [`run`] starts V8, one thread that follows the manifest, one that follows the purge log, one that keeps and
//! delivers what functions use, and one thread for each core that answers requests. A request never changes thread: `request.rs` is its whole way, top to bottom.

mod admin;
mod bindings;
mod brake;
mod budgets;
mod caching;
mod capabilities;
mod cell;
mod config;
mod connection;
mod counted;
mod engine;
mod fault;
mod follow;
mod front;
mod function;
mod head;
mod head_timer;
mod heavy;
mod listen;
mod load;
mod meter;
mod metrics;
mod notes;
mod outcome;
mod place;
mod purge;
mod region;
mod request;
mod routes;
mod sent;
mod shelf;
mod state;
mod strikes;
mod trace;
mod upstream;
mod worker;
mod workers;

pub use cell::{Attempt, Chosen, run_cell};
pub use config::{Admin, CacheDisk, Config, Price, Prices, Protection, RegionLimits, RegionNode, Shield, StartError};
pub use function::check_bundle;
pub use isolate::{Platform, Snapshot, limits, prove, reseed};
pub use listen::run;
pub use origin::bundle::{Isolation, Placement};
pub use origin::purge::push::Address as NatsAddress;

/// Path that answers 200 when this PoP can serve, 503 when it cannot; never routed to a function.
pub const HEALTH_PATH: &str = "/.skerry/health";
