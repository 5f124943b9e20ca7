//! Where time comes from.

use std::time::SystemTime;

/// Tells the time. Freshness is wall-clock arithmetic (RFC 9111 section 4.2.3), hence [`SystemTime`].
pub trait Clock: Send + Sync {
    /// The time now.
    fn now(&self) -> SystemTime;
}

/// The clock of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}
