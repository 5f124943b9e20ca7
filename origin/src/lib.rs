//! Object storage, deployments and their manifest, the origin HTTP server and the control API.
//!
//! In reading order: [`bundle`] is what a deploy uploads; [`store`] keeps objects by [`key`]; [`deployment`] says
//! which bundles are live; [`server`] runs the listeners, on connections that are [`patient`] only so long; [`client`] speaks to the admin one,
//! in the words of [`api`].

mod admin;
pub mod api;
pub mod bundle;
pub mod client;
pub mod deployment;
pub mod key;
pub mod patient;
pub mod server;
pub mod store;
