//! What functions have used.

use http::{Request, StatusCode};
use hyper::body::Incoming;

use super::pops::check_name;
use super::{Admin, ok, query};
use crate::api::{Alert, AlertNoted, Delivery};
use crate::server::problem::Problem;
use crate::server::respond::Answer;
use crate::usage::{DAY, UsageError};

/// Functions whose totals one PoP may ask for at a time.
const MAX_WATCHED: usize = 10_000;

impl Admin {
    /// Answers once the batch is durable.
    pub(super) async fn deliver(&self, delivery: Delivery) -> Answer {
        let Delivery { pop, batch, watch } = delivery;
        check_name(&pop)?;
        if watch.len() > MAX_WATCHED {
            return Err(Problem::bad_request(format!("at most {MAX_WATCHED} functions are watched")));
        }
        ok(&self.usages.deliver(&pop, batch, &watch, self.now_ms()).await?)
    }

    pub(super) async fn alert(&self, alert: Alert) -> Answer {
        check_name(&alert.pop)?;
        let alert = Alert { at_ms: self.now_ms(), ..alert };
        ok(&AlertNoted { first: self.usages.alert(alert).await? })
    }

    pub(super) async fn usage(&self, request: &Request<Incoming>) -> Answer {
        let Some(period) = query(request, "period") else {
            return Err(Problem::bad_request("period is missing: a day, YYYY-MM-DD, or a month, YYYY-MM"));
        };
        ok(&self.usages.report(&period).await?)
    }
}

impl From<UsageError> for Problem {
    fn from(error: UsageError) -> Self {
        match error {
            UsageError::Wrong(why) => Self::bad_request(why),
            UsageError::Day { .. } => Self::new(StatusCode::UNPROCESSABLE_ENTITY, DAY, error.to_string()),
            UsageError::Contended(_) => Self::unavailable("usage/contended", error),
            UsageError::Unreadable { .. } => Self::internal("usage/unreadable", error),
            UsageError::Store(error) => error.into(),
        }
    }
}
