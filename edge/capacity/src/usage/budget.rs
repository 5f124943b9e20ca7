//! A budget for a period: alerts at shares of it, and a brake where its owner wants one.

use serde::Serialize;

use crate::price::Money;

/// What a function, or all of them, may cost in a period.
#[derive(Clone, Debug)]
pub struct Budget {
    /// For the whole period.
    pub amount: Money,
    /// Shares of the amount, ascending, at which people are told.
    pub alerts: Vec<f64>,
    /// What is done when it is used up; `None`: people are told, and nothing else happens.
    pub brake: Option<Brake>,
}

/// What a budget does beyond telling people. Ordered: the cheaper placement is tried first, refusals come last.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Brake {
    /// Share of the budget from which requests go where they are cheaper.
    pub cheaper_at: f64,
    /// Share from which requests are rate-limited to what the rest of the budget pays for.
    pub limit_at: f64,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "do", content = "requests_per_second")]
pub enum Action {
    /// Nothing.
    Carry,
    /// Send requests where they are cheaper, as far as the objective allows.
    Cheaper,
    /// Also limit the rate to this many requests a second, so that the rest of the budget lasts. 0: nothing is left.
    Limit(f64),
}

/// A budget, weighed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// Shares of the budget that were crossed since `told`: whom to tell now, once each.
    pub alerts: Vec<f64>,
    /// What to do now.
    pub action: Action,
    /// Share of the budget that is spent.
    pub spent: f64,
    /// What the period will have cost at its end if it goes on as until now.
    pub projected: Money,
}

impl Budget {
    /// Weighs what was spent in the part `elapsed` (0 to 1) of the period, which is `period_seconds` long and had
    /// `requests`. `told` is the highest share that people were told about before; 0 at the start of a period.
    ///
    /// What cannot be measured is not braked: without requests there is no cost of one, and the action is at most
    /// [`Action::Cheaper`].
    #[must_use]
    pub fn weigh(&self, spent: Money, requests: u64, elapsed: f64, period_seconds: f64, told: f64) -> Verdict {
        let elapsed = if elapsed.is_finite() { elapsed.clamp(0.0, 1.0) } else { 0.0 };
        let share = match (spent.micros(), self.amount.micros()) {
            (0, 0) => 0.0,
            (_, 0) => f64::INFINITY,
            _ => spent.as_f64() / self.amount.as_f64(),
        };
        let alerts = self.alerts.iter().copied().filter(|at| *at > told && share >= *at).collect();
        let projected = if elapsed > 0.0 { Money::from_f64(spent.as_f64() / elapsed) } else { spent };
        let action = match self.brake {
            Some(brake) if share >= brake.limit_at && requests > 0 && spent > Money::ZERO => {
                #[expect(clippy::cast_precision_loss, reason = "a rate need not be exact")]
                let each = spent.as_f64() / requests as f64;
                let left = (self.amount.as_f64() - spent.as_f64()).max(0.0);
                let seconds = (1.0 - elapsed) * period_seconds;
                Action::Limit(if seconds > 0.0 { left / each / seconds } else { 0.0 })
            }
            Some(brake) if share >= brake.cheaper_at.min(brake.limit_at) => Action::Cheaper,
            _ => Action::Carry,
        };
        Verdict { alerts, action, spent: share, projected }
    }
}
