//! Object storage, deployments and their manifest, the origin HTTP server and the control API.

pub mod bundle;
pub mod deployment;
pub mod key;
pub mod store;
