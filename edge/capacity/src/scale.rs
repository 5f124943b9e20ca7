//! How much should run: three layers as Kubernetes has them, and what looks ahead of them.
//!
//! - [`horizontal`]: how many, from measurements against targets (HPA v2).
//! - [`concurrency`]: how many, from requests in flight (Knative's KPA), down to none.
//! - [`vertical`]: how much CPU and memory a function needs (VPA).
//! - [`nodes`]: how many machines, with the time that one takes to come.
//! - [`predict`] and [`schedule`]: before the load is there.
//! - [`ready`]: isolates held ready, from how requests arrive.
//! - [`policy`]: one decision out of these, with its reasons.

pub mod concurrency;
pub mod horizontal;
pub mod nodes;
pub mod policy;
pub mod predict;
pub mod ready;
pub mod schedule;
pub mod vertical;
mod window;
