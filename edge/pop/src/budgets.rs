//! Budgets of functions, held against what they have used on all PoPs: alerts, and the brake.
//!
//! What a function has spent is what the origin knows of all PoPs, plus what this one has not delivered yet: the brake also
//! acts while the origin is away. A PoP's part of the rate that is left is its part of the function's requests.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use capacity::price::{Date, Money, PriceBook};
use capacity::usage::Usage;
use capacity::usage::bill::own_share;
use capacity::usage::budget::{self, Action};
use origin::api::{Alert, Sums};
use origin::bundle::{Brake, Budget, Period};

use crate::function::Function;
use crate::meter::Ledger;
use crate::state::State;

/// Share of a budget from which requests are limited to what the rest pays for.
const LIMIT_AT: f64 = 0.9;
const DAY_SECONDS: u64 = 86_400;

/// How far the budgets of functions are used up.
pub(crate) struct Budgets {
    prices: PriceBook,
    standing: BTreeMap<String, Standing>,
}

/// How far one is.
struct Standing {
    period: String,
    budget: Budget,
    /// The highest threshold that was noted at the origin.
    told: u32,
    spent: Money,
    /// Thresholds that were passed and are not noted.
    passed: Vec<u32>,
}

/// What the metrics tell of a budget.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Shown {
    /// Share of it that is spent.
    pub(crate) spent: f64,
    /// Requests a second that its brake lets through here; `None` when it is released.
    pub(crate) limit: Option<f64>,
    /// Alerts that this PoP was the first to note.
    pub(crate) alerts: u64,
}

impl Budgets {
    pub(crate) fn new(prices: PriceBook) -> Self {
        Self { prices, standing: BTreeMap::new() }
    }

    /// The functions whose usage on all PoPs is needed.
    pub(crate) fn watched(&self, state: &State) -> Vec<String> {
        budgeted(state).map(|(function, _)| function.name.to_string()).collect()
    }

    /// Weighs all budgets, and sets the brakes.
    pub(crate) fn weigh(&mut self, state: &State, ledger: &Ledger, now: u64) {
        let functions: Vec<_> = budgeted(state).collect();
        self.standing.retain(|name, _| functions.iter().any(|(function, _)| function.name.as_str() == name));
        let mut shown = state.budgets.lock().unwrap_or_else(PoisonError::into_inner);
        shown.retain(|name, _| self.standing.contains_key(name));
        for (function, budget) in functions {
            let span = Span::of(budget.per, now);
            let (all, part) = used(&function, &span, ledger);
            let spent = self.prices.own.first().map_or(Money::ZERO, |node| own_share(node, &all, &self.prices).total());
            let name = function.name.as_str();
            let new =
                || Standing { period: span.name.clone(), budget: budget.clone(), told: 0, spent, passed: Vec::new() };
            let standing = self.standing.entry(name.to_owned()).or_insert_with(new);
            if standing.period != span.name || standing.budget != budget {
                *standing = new();
            }
            standing.spent = spent;
            let verdict = of(&budget).weigh(
                spent,
                all.requests.saturating_sub(all.refused),
                span.elapsed as f64 / span.seconds as f64,
                span.seconds as f64,
                f64::from(standing.told) / 100.0,
            );
            standing.passed = verdict.alerts.iter().map(|share| (share * 100.0).round() as u32).collect();
            let limit = match verdict.action {
                Action::Limit(rate) => Some(rate * part),
                Action::Carry | Action::Cheaper => None,
            };
            function.brake.set(limit, Duration::from_secs(span.seconds - span.elapsed));
            let shown = shown.entry(name.to_owned()).or_default();
            (shown.spent, shown.limit) = (verdict.spent, limit);
        }
    }

    /// What is to be noted at the origin, so that people are told once, whichever PoP sees it first.
    pub(crate) fn alerts(&self, pop: &str) -> Vec<Alert> {
        let alert = |name: &String, standing: &Standing, percent: u32| Alert {
            function: name.clone(),
            period: standing.period.clone(),
            percent,
            amount_micros: standing.budget.amount_micros,
            spent_micros: standing.spent.micros(),
            currency: self.prices.currency.clone(),
            pop: pop.to_owned(),
            at_ms: 0,
        };
        let standing = self.standing.iter();
        standing.flat_map(|(name, it)| it.passed.iter().map(move |percent| alert(name, it, *percent))).collect()
    }

    /// An alert was noted. The first to note it tells people.
    pub(crate) fn noted(&mut self, state: &State, alert: &Alert, first: bool) {
        if let Some(standing) = self.standing.get_mut(&alert.function)
            && standing.period == alert.period
        {
            standing.told = standing.told.max(alert.percent);
            standing.passed.retain(|percent| *percent > standing.told);
        }
        if !first {
            return;
        }
        let (amount, spent) = (Money::from_micros(alert.amount_micros), Money::from_micros(alert.spent_micros));
        let Alert { function, period, percent, currency, pop, .. } = alert;
        tracing::warn!(target: "budget", %pop, %function, %period, percent, "{function} has spent {spent} {currency}, {percent} % of its budget of {amount} {currency} for {period}");
        let mut shown = state.budgets.lock().unwrap_or_else(PoisonError::into_inner);
        shown.entry(function.clone()).or_default().alerts += 1;
    }
}

/// The functions that are live here and have a budget.
fn budgeted(state: &State) -> impl Iterator<Item = (Arc<Function>, Budget)> {
    let routes = state.routes.load_full();
    let functions: Vec<_> = routes.live.values().filter_map(|(_, live)| live.function().cloned()).collect();
    functions.into_iter().filter_map(|function| function.budget.clone().map(|budget| (function, budget)))
}

/// What a function has used in a period on all PoPs, and which part of its requests this one has.
fn used(function: &Function, span: &Span, ledger: &Ledger) -> (Usage, f64) {
    let name = function.name.as_str();
    let pending = ledger.pending(name, &span.name);
    let (day, totals) = ledger.known();
    let known = totals.get(name).filter(|_| day.starts_with(&span.name));
    let none = Sums::default();
    let sums = known.map_or(&none, |totals| match span.per {
        Period::Day => &totals.day,
        Period::Month => &totals.month,
    });
    let [mut all, mut own] = [&sums.all, &sums.own].map(Usage::of_numbers);
    all += pending;
    own += pending;
    let part = own.requests as f64 / all.requests.max(1) as f64;
    // One that had none so far may get its first.
    (all, part.max(1.0 / f64::from(sums.pops.max(1))))
}

/// A budget as the rules of money have it.
fn of(budget: &Budget) -> budget::Budget {
    budget::Budget {
        amount: Money::from_micros(budget.amount_micros),
        alerts: budget.alerts.iter().map(|percent| f64::from(*percent) / 100.0).collect(),
        brake: budget.brake.map(|Brake::Limit| budget::Brake { cheaper_at: LIMIT_AT, limit_at: LIMIT_AT }),
    }
}

/// A day or a month.
struct Span {
    per: Period,
    /// `YYYY-MM-DD` or `YYYY-MM`: how its days begin.
    name: String,
    seconds: u64,
    elapsed: u64,
}

impl Span {
    /// The one that an instant is in.
    fn of(per: Period, now: u64) -> Self {
        let date = Date::from_unix_seconds(now);
        let of_day = now % DAY_SECONDS;
        match per {
            Period::Day => Self { per, name: date.to_string(), seconds: DAY_SECONDS, elapsed: of_day },
            Period::Month => {
                let days = u64::try_from(date.days_since(date.month_start())).unwrap_or(0);
                let (seconds, elapsed) = (u64::from(date.month_days()) * DAY_SECONDS, days * DAY_SECONDS + of_day);
                let mut name = date.to_string();
                name.truncate("YYYY-MM".len());
                Self { per, name, seconds, elapsed }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_begins_at_midnight_or_on_the_first() {
        // 2026-11-27 12:00:00.
        let noon = 1_795_737_600 + 43_200;
        let day = Span::of(Period::Day, noon);
        assert_eq!((day.name.as_str(), day.seconds, day.elapsed), ("2026-11-27", 86_400, 43_200));
        let month = Span::of(Period::Month, noon);
        assert_eq!((month.name.as_str(), month.seconds, month.elapsed), ("2026-11", 30 * 86_400, 26 * 86_400 + 43_200));
    }
}
