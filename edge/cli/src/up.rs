//! The parts of `skerry up`: what to run, the hold on its state, its ports, its processes.

pub(crate) mod banner;
pub(crate) mod child;
pub(crate) mod decisions;
pub(crate) mod launch;
pub(crate) mod lock;
pub(crate) mod plan;
pub(crate) mod ports;
pub(crate) mod scale;
pub(crate) mod supervise;
