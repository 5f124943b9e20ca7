//! The parts of `skerry up`: what to run, the hold on its state, its ports, its processes.

pub mod banner;
pub mod child;
pub mod launch;
pub mod lock;
pub mod plan;
pub mod ports;
pub mod supervise;
