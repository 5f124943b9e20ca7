//! What the admin API and its client say to each other, in JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::bundle::{Digest, FunctionName};
use crate::deployment::Version;

/// Longest wait of a poll, in milliseconds; longer ones are cut.
pub const MAX_WAIT_MS: u64 = 30_000;

/// Longest name of a PoP, in bytes.
pub const MAX_POP_NAME: usize = 63;

/// Longest message about a function that failed, in characters; longer ones are cut.
pub const MAX_FAILURE_CHARS: usize = 2000;

/// What a PoP tells the origin with each poll.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PopReport {
    /// The PoP's name: 1 to [`MAX_POP_NAME`] of letters, digits, `-`, `_` and `.`.
    pub pop: String,
    /// Generation of the manifest that the PoP has taken up, also when functions in it failed; 0 for none yet.
    pub generation: u64,
    /// [`Manifest::store`](crate::deployment::Manifest::store) of that manifest. Empty says nothing: then only generations
    /// are compared.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub store: String,
    /// When it had taken it up, in milliseconds since the Unix epoch.
    #[serde(default)]
    pub applied_at_ms: u64,
    /// Functions of this generation that could not be started, and why; their last good version serves on.
    #[serde(default)]
    pub failed: BTreeMap<FunctionName, String>,
}

/// The body of `POST /v1/poll`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Poll {
    /// What the PoP has.
    #[serde(flatten)]
    pub report: PopReport,
    /// How long to wait for another generation or store, in milliseconds, at most [`MAX_WAIT_MS`].
    #[serde(default)]
    pub wait_ms: u64,
}

/// A PoP as the origin knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pop {
    /// Its name.
    pub name: String,
    /// Generation of the manifest that it has taken up.
    pub generation: u64,
    /// When it had taken it up, by its own clock, in milliseconds since the Unix epoch.
    pub applied_at_ms: u64,
    /// When it was heard of last, by the origin's clock, in milliseconds since the Unix epoch.
    pub last_seen_ms: u64,
    /// Functions that it could not start, and why.
    pub failed: BTreeMap<FunctionName, String>,
}

/// Answer of `GET /v1/pops`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pops {
    /// By name.
    pub pops: Vec<Pop>,
}

/// Answer of `GET /v1/functions/{name}/versions`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// Newest first.
    pub versions: Vec<Version>,
}

/// Body of `POST /v1/functions/{name}/deploy`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deploy {
    /// The version to make live.
    pub version: Digest,
}

/// Body of `POST /v1/functions/{name}/rollback`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rollback {
    /// The version to make live, or the beginning of it; `None` for the one before the live one.
    #[serde(default)]
    pub version: Option<String>,
}

/// Answer of `DELETE /v1/functions/{name}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deleted {
    /// Generation of the manifest without the function.
    pub generation: u64,
}

/// Answer of `PUT /v1/objects/{key}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectWritten {
    /// Entity tag, without quotes.
    pub etag: String,
    /// Length in bytes.
    pub size: u64,
}

/// Answer of `GET /v1/stats`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// The origin's name.
    pub name: String,
    /// When it started, in milliseconds since the Unix epoch.
    pub started_at_ms: u64,
    /// Generation of the manifest.
    pub generation: u64,
    /// Requests that came to the public listener.
    pub requests: u64,
    /// Bytes of response bodies that the public listener has sent.
    pub bytes: u64,
    /// Requests that came to the admin listener, this one included.
    pub admin_requests: u64,
}

/// What somebody has used: numbers by their name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UsageRow {
    /// The day on which it was used, `YYYY-MM-DD`; empty where that is said elsewhere.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub day: String,
    /// The function's name.
    #[serde(default)]
    pub function: String,
    /// The version, as the access log has it; empty for none, or for all.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// The cohort; empty for none, or for all.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cohort: String,
    /// The numbers.
    pub used: BTreeMap<String, u64>,
}

/// Rows that are to be added up once, however often they come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UsageBatch {
    /// Who numbers: letters and digits, another for each folder of a PoP.
    pub ledger: String,
    /// Above that of the batch before.
    pub number: u64,
    /// At most [`MAX_ROWS`](crate::usage::MAX_ROWS).
    pub rows: Vec<UsageRow>,
}

/// Body of `POST /v1/usage`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delivery {
    /// The PoP's name.
    pub pop: String,
    /// What is delivered; `None`: the PoP only asks.
    #[serde(default)]
    pub batch: Option<UsageBatch>,
    /// Functions whose totals are wanted.
    #[serde(default)]
    pub watch: Vec<String>,
}

/// Answer of `POST /v1/usage`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The number of the batch, which is durable: it was added now or before.
    #[serde(default)]
    pub acknowledged: Option<u64>,
    /// The day by the origin's clock.
    pub day: String,
    /// What the functions asked for have used, as far as this origin knows.
    #[serde(default)]
    pub totals: BTreeMap<String, Totals>,
}

/// What a function has used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Today.
    pub day: Sums,
    /// This month.
    pub month: Sums,
}

/// Of one period.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sums {
    /// On all PoPs.
    pub all: BTreeMap<String, u64>,
    /// On the one that asks.
    pub own: BTreeMap<String, u64>,
    /// PoPs that have used anything.
    pub pops: u32,
}

/// A budget has come to a threshold. Body of `POST /v1/usage/alerts`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alert {
    /// Whose budget.
    pub function: String,
    /// The day or the month that the budget is for.
    pub period: String,
    /// The threshold, in percent of the budget.
    pub percent: u32,
    /// The budget, in millionths.
    pub amount_micros: u64,
    /// What was spent when it was noted, in millionths.
    pub spent_micros: u64,
    /// Of this currency.
    pub currency: String,
    /// The PoP that noted it.
    pub pop: String,
    /// When, in milliseconds since the Unix epoch, by the origin's clock.
    #[serde(default)]
    pub at_ms: u64,
}

impl Alert {
    /// Whether both are about the same threshold in the same period.
    pub fn is_same(&self, other: &Self) -> bool {
        let what = |alert: &Self| (alert.percent, alert.amount_micros);
        what(self) == what(other) && self.function == other.function && self.period == other.period
    }
}

/// Answer of `POST /v1/usage/alerts`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertNoted {
    /// Nobody had noted it before: people are to be told.
    pub first: bool,
}

/// Answer of `GET /v1/usage?period=`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageReport {
    /// The day or month.
    pub period: String,
    /// By PoP.
    pub pops: BTreeMap<String, Vec<UsageRow>>,
    /// What budgets came to.
    pub alerts: Vec<Alert>,
}

/// An error, `application/problem+json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProblemDetails {
    /// The status, again.
    #[serde(default)]
    pub status: u16,
    /// What was wrong, for programs: `area/case`.
    #[serde(default)]
    pub code: String,
    /// What was wrong, for people.
    #[serde(default)]
    pub message: String,
    /// Identifies the request in the origin's log.
    #[serde(default)]
    pub request_id: String,
}
