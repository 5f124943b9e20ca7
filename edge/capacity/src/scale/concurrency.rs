//! How many replicas, from requests in flight: the algorithm of Knative's pod autoscaler (KPA).
//!
//! Follows `pkg/autoscaler/scaling/autoscaler.go` of knative/serving for the count, `pkg/autoscaler/aggregation` for the
//! windows and `pkg/reconciler/autoscaling/kpa/scaler.go` for going to none. Two windows look at the same load: the
//! stable one decides in calm, the short one starts a panic, in which the count only rises.

mod idle;
mod recent;

pub use idle::Idle;
pub use recent::Recent;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::invalid::{Check, Invalids};
use crate::moment::Moment;
use crate::scale::window::Highest;

/// How a function is scaled by its load. The defaults are Knative's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Concurrency {
    /// What one replica can carry: requests in flight (or in a second, where the load is given so).
    pub capacity: f64,
    /// The part of it that it should carry.
    pub utilisation: f64,
    /// The window of calm.
    #[serde(with = "crate::span")]
    pub stable_window: Duration,
    /// The window of panic, in percent of that of calm.
    pub panic_window: f64,
    /// The panic begins when the short window asks for so many times what is there.
    pub panic_threshold: f64,
    /// In one step to so many times what is there at most.
    pub max_up: f64,
    /// In one step to one part in so many of what is there at least.
    pub max_down: f64,
    /// So many as soon as there is any load.
    pub activation: u32,
    /// A lower count is used only after it has been asked for so long.
    #[serde(with = "crate::span")]
    pub down_delay: Duration,
    /// How large a burst should find room at once, in requests; -1: of any size.
    pub burst: f64,
    /// Whether the last one may go.
    pub to_zero: bool,
    /// The last one stays so long at least after the function was found idle, so that what routes to it can turn away.
    #[serde(with = "crate::span")]
    pub grace: Duration,
    /// The last one stays so long in any case.
    #[serde(with = "crate::span")]
    pub retention: Duration,
}

impl Default for Concurrency {
    fn default() -> Self {
        Self {
            capacity: 100.0,
            utilisation: 0.7,
            stable_window: Duration::from_secs(60),
            panic_window: 10.0,
            panic_threshold: 2.0,
            max_up: 1000.0,
            max_down: 2.0,
            activation: 1,
            down_delay: Duration::ZERO,
            burst: 211.0,
            to_zero: true,
            grace: Duration::from_secs(30),
            retention: Duration::ZERO,
        }
    }
}

/// The load of a function on all replicas, as means over the two windows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Load {
    /// Over the window of calm.
    pub stable: f64,
    /// Over the window of panic.
    pub panic: f64,
}

/// What is known when a count is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Seen {
    /// Replicas that answer.
    pub ready: u32,
    /// The load; `None` when nothing was measured, which is not the same as none.
    pub load: Option<Load>,
    /// Whether any route leads to the function. Nothing is delayed when none does.
    pub reachable: bool,
}

/// What a look at the load came to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Wish {
    /// So many replicas should be there.
    pub desired: u32,
    /// Whether in panic.
    pub panicking: bool,
    /// Room for so many requests more than the configured burst; below 0: a burst has to wait for replicas, so that
    /// something before them should queue it.
    pub excess_burst: f64,
}

/// What a count depends on besides what is seen now.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// Since when in panic, or when its cause was seen last.
    panic: Option<Moment>,
    /// The most that was asked for in this panic.
    most: u32,
    /// What was asked for, for the delay.
    asked: Highest,
}

impl Memory {
    /// A controller that starts while more than one replica runs starts in panic: it knows no load yet, so that it must
    /// not lower the count.
    pub fn new(ready: u32, now: Moment) -> Self {
        Self { panic: (ready > 1).then_some(now), most: ready, asked: Highest::default() }
    }

    /// Since when in panic, or when its cause was seen last.
    pub fn panic(&self) -> Option<Moment> {
        self.panic
    }
}

impl Concurrency {
    /// The count for the load, or nothing when there is no measurement or none that makes sense: then the count stays.
    pub fn wish(&self, memory: &mut Memory, seen: Seen, now: Moment) -> Option<Wish> {
        let load = seen.load.filter(|load| [load.stable, load.panic].iter().all(|v| v.is_finite() && *v >= 0.0))?;
        let target = self.capacity * self.utilisation;
        let ready = f64::from(seen.ready.max(1));
        // Rounded away from what is there: a small rate must not keep the count where it is for good.
        let ceiling = (self.max_up * ready).ceil();
        let floor = if seen.reachable { (ready / self.max_down).floor() } else { 0.0 };
        let for_load = |load: f64| {
            let asked = (load / target).ceil();
            // The casts saturate.
            let bounded = asked.max(floor).min(ceiling) as u32;
            if asked > 0.0 && self.activation > 1 { bounded.max(self.activation) } else { bounded }
        };
        let over = (load.panic / target).ceil() / ready >= self.panic_threshold;
        self.enter_or_leave_panic(memory, over, now);
        let mut desired = for_load(load.stable);
        if memory.panic.is_some() {
            memory.most = memory.most.max(desired).max(for_load(load.panic));
            desired = memory.most;
        }
        if seen.reachable {
            desired = self.delayed(memory, desired, now);
        }
        let excess_burst = match self.burst {
            0.0 => 0.0,
            burst if burst > 0.0 => (f64::from(seen.ready) * self.capacity - burst - load.panic).floor(),
            _ => -1.0,
        };
        Some(Wish { desired, panicking: memory.panic.is_some(), excess_burst })
    }

    fn enter_or_leave_panic(&self, memory: &mut Memory, over: bool, now: Moment) {
        if over {
            memory.panic = Some(now);
        } else if memory.panic.is_some_and(|since| since + self.stable_window < now) {
            (memory.panic, memory.most) = (None, 0);
        }
    }

    fn delayed(&self, memory: &mut Memory, desired: u32, now: Moment) -> u32 {
        if self.down_delay.is_zero() {
            return desired;
        }
        memory.asked.with(desired, self.down_delay, now)
    }

    /// # Errors
    /// Every key that cannot be used.
    pub fn validate(&self) -> Result<(), Invalids> {
        let mut check = Check::default();
        self.check(&mut check);
        check.done()
    }

    pub(crate) fn check(&self, check: &mut Check) {
        let seconds = Duration::from_secs;
        check.within("capacity", self.capacity, 0.01..=f64::MAX);
        check.within("utilisation", self.utilisation, 0.01..=1.0);
        check.span("stable_window", self.stable_window, seconds(6)..=seconds(3600));
        check.within("panic_window", self.panic_window, 1.0..=100.0);
        check.within("panic_threshold", self.panic_threshold, 1.1..=10.0);
        check.within("max_up", self.max_up, 1.01..=f64::MAX);
        check.within("max_down", self.max_down, 1.01..=f64::MAX);
        check.that(self.activation > 0, "activation", "must be at least 1, but it is 0");
        check.span("down_delay", self.down_delay, Duration::ZERO..=seconds(3600));
        check.that(
            self.burst >= 0.0 || self.burst == -1.0,
            "burst",
            format!("must be at least 0, or -1 for bursts of any size, but it is {}", self.burst),
        );
        check.span("grace", self.grace, seconds(6)..=seconds(86_400));
        check.span("retention", self.retention, Duration::ZERO..=seconds(86_400));
    }
}

#[cfg(test)]
mod tests;
