//! A shared HTTP cache: RFC 9111 policy as pure functions, storage, request collapsing.
//!
//! # Bird's-eye view
//!
//! [`fetch`] is the one entry point. A request comes in as its head, the way to the origin as a closure; a response
//! comes out, together with an [`Outcome`] in its extensions and a `Cache-Status` member (RFC 9211) in its header.
//!
//! ```text
//! fetch ── lookup ── store          fresh: answer, done. Nothing below runs on a hit.
//!   │                   └── disk    what memory has not: read in a thread for that, then looked up again
//!   ├── bypass                      unsafe methods, requests with a body: to the origin, and RFC 9111 section 4.4
//!   └── flights ── fill             one origin request for each key; followers stream along
//!         └── policy                may it be stored, for how long, for whom?
//! answer                            stored response + request -> 200, 206, 304, 416, with Age and Cache-Status
//! ```
//!
//! # Code map, in reading order
//!
//! * [`policy`]: what the RFCs say, as functions of heads and times. No I/O, no clock, no storage.
//! * `answer`: what a client gets from a stored response: conditionals, ranges, `Age`, `Cache-Status`.
//! * `store`: variants under a key, bounded in bytes.
//! * `disk`: the same in files: for a restart, and for what memory is too small for.
//! * `span`: which bytes of a response there are, where not all are.
//! * `purge`: what operators declare wrong before its time.
//! * `fill`, `flights`: the body that is still arriving, and who waits for it.
//! * `fetch`: the request path that ties these together.
//! * [`direct`]: the same store without an origin: put, get, delete.
//!
//! **Architecture invariant:** time comes only from the [`Clock`] that was passed in. The one exception is waiting:
//! how long a follower waits for a head, and a fill for the next bytes, are timers of the tokio runtime; how long a failed
//! disk is left alone is one of the machine's.
//!
//! **Architecture invariant:** a body that did not arrive whole is never stored and never ends cleanly. (A part that the
//! origin calls one, a 206, is whole when all of the part is there.)
//!
//! **Architecture invariant:** nothing here belongs to a runtime. A fill is a task on its leader's runtime; followers may
//! live on any other, also on another thread's.
//!
//! **Architecture invariant:** no worker waits for the disk. Files are named and removed by one thread of the cache's, and
//! read by tokio's threads for blocking work, one read at a time for each body.
//!
//! **Architecture invariant:** no byte from the disk goes out before its block's checksum was seen to be right.
//!
//! Deliberately absent: connections, hop-to-hop protocol, 1xx responses (they belong to whoever owns the connection to
//! the origin), more than one part of a response at a time, trailers of stored responses (they are dropped, which RFC
//! 9110 section 6.5.1 allows).

mod answer;
mod body;
mod cache;
mod clock;
mod config;
mod disk;
mod entry;
mod failure;
mod fetch;
mod fill;
mod flights;
mod key;
mod outcome;
pub mod policy;
mod purge;
mod span;
mod store;

pub use body::{Body, BoxError, OriginBody};
pub use cache::Cache;
pub use clock::{Clock, SystemClock};
pub use config::{Config, DiskConfig};
pub use disk::DiskStatus;
pub use failure::{FailureKind, OriginFailure};
pub use fetch::{CarriesBody, NoStore, direct, fetch};
pub use key::Key;
pub use outcome::{Bypass, Outcome};
pub use purge::{Mode, Part, Purge, Scope};
