//! What a PoP knows of the origins it asks: how they fare, and what it still asks of them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::breaker::{Breaker, Pass, Phase};
use super::budget::Budget;
use super::gate::{Busy, Gate};
use crate::config::Protection;
use crate::metrics::{Histogram, Tally};

/// Most hosts outside that are known each by itself; past it, those with nothing under way are forgotten.
const MOST_OUTSIDE: usize = 1024;

/// Whose origin it is: the label of what is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The origin that this PoP stands in front of.
    Own,
    /// Hosts that functions name.
    Outside,
    /// The PoPs that are asked in the place of the own one.
    Shield,
    /// The nodes that run functions in this PoP's place.
    Region,
}

impl Side {
    pub(crate) const ALL: [Self; 4] = [Self::Own, Self::Outside, Self::Shield, Self::Region];

    /// The label in metrics.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Outside => "outside",
            Self::Shield => "shield",
            Self::Region => "region",
        }
    }
}

/// One origin.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) breaker: Breaker,
    pub(crate) budget: Budget,
    gate: Gate,
}

impl Origin {
    fn new(protection: &Protection, now: u64) -> Self {
        Self { breaker: Breaker::default(), budget: Budget::new(now), gate: Gate::new(protection.origin_requests) }
    }

    /// A shield. There is another way than over it, so that one failure is enough to try that first for a while.
    pub(super) fn shield(protection: &Protection) -> Self {
        Self { breaker: Breaker::new(1), ..Self::new(protection, 0) }
    }

    fn is_quiet(&self, now: u64) -> bool {
        self.gate.in_use() == 0 && self.gate.waiting() == 0 && self.breaker.phase(now) == Phase::Closed
    }
}

/// What is counted for the origins of one side.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Connections that are open, in use or idle.
    pub(crate) connections: AtomicU64,
    /// Requests without a response, by the code of the fault.
    pub(crate) failures: Tally<&'static str>,
    /// Requests sent again, by why; and those that were not, because the budget was spent.
    pub(crate) retries: Tally<&'static str>,
    /// Requests that went to the origin because no shield answered, by why.
    pub(crate) detours: Tally<&'static str>,
    /// Times that a breaker opened.
    pub(crate) opened: AtomicU64,
    /// Time to the head of a response.
    pub(crate) answered: Histogram,
}

/// A place among the requests that may be under way.
pub(crate) struct Place {
    _at_origin: OwnedSemaphorePermit,
    _overall: OwnedSemaphorePermit,
}

/// Why an origin is not asked now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Withheld {
    #[error("it failed too often lately and is left alone for {0:?}")]
    Open(Duration),
    #[error("too many requests to origins are under way here, and none ended in time")]
    Busy,
}

impl From<Busy> for Withheld {
    fn from(_: Busy) -> Self {
        Self::Busy
    }
}

/// All origins of a PoP.
#[derive(Debug)]
pub(crate) struct Origins {
    own: Arc<Origin>,
    /// By authority. Reading takes no lock.
    outside: ArcSwap<HashMap<String, Arc<Origin>>>,
    overall: Gate,
    counts: [Counts; 4],
    protection: Protection,
}

impl Origins {
    pub(crate) fn new(protection: &Protection) -> Self {
        Self {
            own: Arc::new(Origin::new(protection, 0)),
            outside: ArcSwap::default(),
            overall: Gate::new(protection.requests),
            counts: Default::default(),
            protection: protection.clone(),
        }
    }

    pub(crate) fn own(&self) -> Arc<Origin> {
        Arc::clone(&self.own)
    }

    /// The origin with this authority, from now on known.
    pub(crate) fn outside(&self, authority: &str, now: u64) -> Arc<Origin> {
        if let Some(known) = self.outside.load().get(authority) {
            return Arc::clone(known);
        }
        let new = Arc::new(Origin::new(&self.protection, now));
        self.outside.rcu(|known| {
            let mut known = HashMap::clone(known);
            if known.len() >= MOST_OUTSIDE {
                known.retain(|_, origin| !origin.is_quiet(now));
            }
            // Where all are in trouble, one more goes without a memory rather than without a bound.
            if known.len() < MOST_OUTSIDE {
                known.entry(authority.to_owned()).or_insert_with(|| Arc::clone(&new));
            }
            known
        });
        self.outside.load().get(authority).map_or(new, Arc::clone)
    }

    pub(crate) fn counts(&self, side: Side) -> &Counts {
        &self.counts[side as usize]
    }

    /// Waits for leave to ask `origin`.
    pub(crate) async fn enter(&self, origin: &Origin, now: impl Fn() -> u64) -> Result<(Place, Pass), Withheld> {
        if let Some(pause) = origin.breaker.holds(now()) {
            return Err(Withheld::Open(pause));
        }
        let deadline = Instant::now() + self.protection.wait;
        let at_origin = origin.gate.enter(deadline).await?;
        let overall = self.overall.enter(deadline).await?;
        let pass = origin.breaker.admit(now()).map_err(Withheld::Open)?;
        Ok((Place { _at_origin: at_origin, _overall: overall }, pass))
    }

    /// Whether as many connections are open as may be, so that one more is not kept for later.
    pub(crate) fn is_crowded(&self) -> bool {
        let open = |side: &Counts| side.connections.load(std::sync::atomic::Ordering::Relaxed);
        self.counts.iter().map(open).sum::<u64>() >= self.overall.size() as u64
    }

    /// The origins of one side: one, or those outside that are known now. Shields are the tier's, region nodes those of `Regions`.
    pub(crate) fn of(&self, side: Side) -> Vec<Arc<Origin>> {
        match side {
            Side::Own => vec![self.own()],
            Side::Outside => self.outside.load().values().cloned().collect(),
            Side::Shield | Side::Region => Vec::new(),
        }
    }

    pub(crate) fn overall(&self) -> &Gate {
        &self.overall
    }
}

impl Origin {
    pub(crate) fn gate(&self) -> &Gate {
        &self.gate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_table_of_origins_is_bounded_and_remembers_those_in_trouble() {
        let origins = Origins::new(&Protection::default());
        let broken = origins.outside("broken", 1);
        let opened = (0..5).filter(|_| broken.breaker.failed(Pass::Closed, 1, 0.5)).count();
        assert_eq!(opened, 1);
        (0..3 * MOST_OUTSIDE).for_each(|number| drop(origins.outside(&format!("host{number}"), 2)));
        assert!(origins.of(Side::Outside).len() <= MOST_OUTSIDE);
        let again = origins.outside("broken", 2);
        assert!(matches!(origins.enter(&again, || 2).await, Err(Withheld::Open(_))));
        assert!(origins.enter(&origins.own(), || 2).await.is_ok(), "one origin's trouble is not another's");
    }
}
