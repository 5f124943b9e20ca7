//! The origin through real sockets: one binary, each test with an origin of its own on free ports.

mod admin;
mod conditional;
mod harness;
mod kill;
mod lifecycle;
mod log;
mod poll;
mod purges;
mod ranges;
