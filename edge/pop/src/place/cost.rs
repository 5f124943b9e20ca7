//! What a function costs here and in the region, and how near its users the region is.
//!
//! Only where the operator has told both prices, and only functions whose project file names an objective: nothing is moved
//! for money that nobody has counted, or away from users who were promised nothing.

use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use capacity::fallback::Costs;

use super::change;
use crate::config::{Price, Prices};
use crate::function::Function;
use crate::metrics::Histogram;
use crate::worker::Worker;

/// How often prices are held against what was used.
const EVERY: Duration = Duration::from_secs(5);
/// With fewer requests, nothing is concluded.
const LEAST: u64 = 20;

/// What a function's requests have taken, since its version is here.
#[derive(Debug, Default)]
pub(crate) struct Spent {
    /// Time to the head of a response that was made here.
    here: Histogram,
    /// Requests, wherever they ran.
    requests: AtomicU64,
    /// Their processor time by the head of the response, in microseconds.
    cpu_micros: AtomicU64,
}

impl Spent {
    pub(super) fn ran(&self, cpu_micros: u64) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.cpu_micros.fetch_add(cpu_micros, Ordering::Relaxed);
    }

    pub(super) fn took(&self, here: Duration) {
        self.here.observe(here);
    }

    /// What a million requests cost. The region's latency is that of here with the round trip on top; `None` before enough
    /// is known.
    fn costs(&self, prices: &Prices, round_trip: Duration) -> Option<Costs> {
        let requests = self.requests.load(Ordering::Relaxed);
        let here = self.here.totals();
        if requests < LEAST || here.count() < LEAST {
            return None;
        }
        let cpu_hours = self.cpu_micros.load(Ordering::Relaxed) as f64 / requests as f64 / 3600.0;
        let of = |price: &Price| price.per_million_requests + cpu_hours * price.per_cpu_hour;
        let region_p99 = here.quantile(0.99).saturating_add(round_trip);
        Some(Costs { edge: of(&prices.edge), region: of(&prices.region), region_p99 })
    }
}

/// Holds prices against what was used, again and again.
pub(crate) async fn watch(worker: Rc<Worker>) {
    let state = &worker.state;
    let (Some(prices), Some(region)) = (&state.prices, state.regions.nodes.first()) else { return };
    loop {
        tokio::time::sleep(EVERY).await;
        // The first one may have to connect.
        let _ = worker.upstream.round_trip(region).await;
        let round_trip = worker.upstream.round_trip(region).await;
        for (_, live) in state.routes.load().live.values() {
            let Some(function) = live.function() else { continue };
            let costs = round_trip.and_then(|round_trip| function.spent.costs(prices, round_trip));
            compare(&worker, function, costs);
        }
    }
}

fn compare(worker: &Worker, function: &Function, costs: Option<Costs>) {
    let state = &worker.state;
    let (before, now) = (function.standing.load().costs_less_in_region(), state.moment());
    change(function, |standing| standing.compare(&state.fallback, costs, now));
    let after = function.standing.load().costs_less_in_region();
    if before != after {
        let (pop, label, region) = (&state.name, &function.label, after);
        let (edge_cost, region_cost) = costs.map_or((f64::NAN, f64::NAN), |costs| (costs.edge, costs.region));
        tracing::info!(%pop, function = %label, edge_cost, region_cost, region, "a function moves for its cost");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_requests_cost_their_price_and_their_processor_time() {
        let prices = Prices {
            edge: Price { per_million_requests: 0.3, per_cpu_hour: 72.0 },
            region: Price { per_million_requests: 0.2, per_cpu_hour: 0.05 },
        };
        let spent = Spent::default();
        let costs = || spent.costs(&prices, Duration::from_millis(40));
        for _ in 0..LEAST - 1 {
            spent.ran(10_000);
            spent.took(Duration::from_millis(15));
        }
        assert_eq!(costs(), None, "too few");
        spent.ran(10_000);
        spent.took(Duration::from_millis(15));
        let costs = costs().unwrap();
        // 10 ms of a million requests are 2.78 hours.
        assert!((costs.edge - 200.3).abs() < 1e-9 && (costs.region - (0.2 + 0.05 / 0.36)).abs() < 1e-9, "{costs:?}");
        assert_eq!(costs.region_p99, Duration::from_millis(60), "the bound of its bucket, and the way");
    }
}
