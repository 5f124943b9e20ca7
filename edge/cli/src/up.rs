//! The parts of `skerry up`: what to run, the hold on its state, its ports, its processes.
pub mod child;
pub mod lock;
pub mod plan;
pub mod ports;
pub mod supervise;
