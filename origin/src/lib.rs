//! Object storage, deployments and their manifest, the origin HTTP server and the control API.
//!
//! In reading order: [`bundle`] is what a deploy uploads; [`store`] keeps objects by [`key`]; [`deployment`] says
//! which bundles are live, [`purge`] what caches must forget, and [`usage`] what functions have used; [`server`] answers on each [`listener`], whose
//! connections are [`patient`] only so long, and asks for the [`token`] on the admin one; [`client`] speaks to that, in the
//! words of [`api`].

mod admin;
pub mod api;
pub mod bundle;
pub mod client;
pub mod deployment;
pub mod key;
pub mod listener;
pub mod patient;
pub mod purge;
pub mod server;
pub mod store;
pub mod token;
pub mod usage;

pub use server::STORE_READS;
