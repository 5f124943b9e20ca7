//! Cells: a second wall around functions, for those who do not want to trust V8 alone.
//!
//! A cell is a process that runs the functions of one tenant for one worker. It has no file, no socket but those to its
//! PoP, no new privilege, and a kernel that refuses it nearly every system call (`walls.rs`). In it is an ordinary worker
//! of isolates (`inside.rs`), whose functions reach the world through the PoP (`remote.rs` asks, `favours.rs` grants).
//! The PoP does everything else as it does for functions in its own process: routes, limits on what comes in and goes out,
//! bindings, cache, log, metrics.
//!
//! Whoever has broken out of V8 has what is in the cell: the programs, variables and requests of one tenant. What he
//! says to the PoP is parsed, bounded, and granted for requests that his cell has (`outside.rs`); for anything else his
//! cell ends.
//!
//! Two sockets lead into a cell. Over one go exchanges with bodies that stream (`link.rs`); over the other calls that the
//! cell's thread waits for (`calls.rs`), as JavaScript does that calls a synchronous function. A third takes the place of
//! standard error, for V8's last words.

mod calls;
mod cells;
mod favours;
mod inside;
mod invocation;
mod link;
mod loss;
mod message;
mod outside;
mod remote;
mod trial;
mod walls;
mod wire;

pub(crate) use cells::{Cells, Lease};
pub use inside::run as run_cell;
pub(crate) use invocation::CellBody;
pub(crate) use loss::Pids;
pub(crate) use message::VisitParts;
pub(crate) use outside::Maker;
pub(crate) use trial::compile;
pub use walls::{Attempt, Chosen};
