//! What a function may cost.

use serde::{Deserialize, Serialize};

/// Most thresholds of a budget.
pub const MAX_ALERTS: usize = 10;

/// Largest threshold, in percent of the budget.
pub const MAX_PERCENT: u32 = 1000;

/// What a function may cost in a period, on all PoPs together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Millionths of the price book's currency; at least 1.
    pub amount_micros: u64,
    /// For how long it is.
    pub per: Period,
    /// Percents of the amount at which people are told, ascending; each 1 to [`MAX_PERCENT`].
    pub alerts: Vec<u32>,
    /// What is done when it comes to an end; `None`: people are told, and nothing else happens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub brake: Option<Brake>,
}

/// The period of a budget, by the calendar (UTC).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Period {
    /// From midnight to midnight.
    Day,
    /// From the first of a month to the next.
    Month,
}

impl Period {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Month => "month",
        }
    }
}

/// What a budget does beyond telling people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Brake {
    /// Requests are limited to what the last tenth of the budget pays for, and are refused when it is used up.
    Limit,
}
