//! Purges: the log, and who has done what.

use std::time::Duration;

use tokio::time::Instant;

use super::pops::check_name;
use super::{Admin, ok};
use crate::api::MAX_WAIT_MS;
use crate::purge::{PurgePoll, PurgeRequest, Purges};
use crate::server::problem::Problem;
use crate::server::respond::Answer;

impl Admin {
    /// Answers once the purges are durable, and the PoPs that are present have done them or the wait is over.
    pub(super) async fn purge(&self, request: PurgeRequest) -> Answer {
        let scopes = request.scopes(|name| name).map_err(Problem::bad_request)?;
        let batch = self.purges.append(scopes, request.mode(), self.now_ms()).await?;
        let number = batch.last();
        self.receipts.accept(&batch, Instant::now());
        tracing::info!(number, purges = batch.scopes.len(), mode = ?batch.mode, "purged");
        let mut changed = self.receipts.watch();
        let mut draining = self.draining.clone();
        tokio::select! {
            _ = changed.wait_for(|()| self.receipts.is_complete(number, Instant::now())) => {}
            () = tokio::time::sleep(Duration::from_millis(request.wait_ms.min(MAX_WAIT_MS))) => {}
            _ = draining.wait_for(|draining| *draining) => {}
        }
        ok(&self.receipts.receipt(&batch))
    }

    /// Takes a PoP's word, and answers once there is something that it has not got, or the wait is over.
    pub(super) async fn follow_purges(&self, poll: PurgePoll) -> Answer {
        check_name(&poll.pop)?;
        self.receipts.confirm(&poll, Instant::now(), self.now_ms());
        let mut known = self.purges.watch();
        let mut draining = self.draining.clone();
        tokio::select! {
            changed = known.wait_for(|known| known.last() > poll.number) => {
                changed.map_err(|closed| Problem::internal("origin/stopped", closed))?;
            }
            () = tokio::time::sleep(Duration::from_millis(poll.wait_ms.min(MAX_WAIT_MS))) => {}
            _ = draining.wait_for(|draining| *draining) => {}
        }
        if !self.purges.is_in_touch() {
            let why = "the purge log was not read lately, and may have grown";
            return Err(Problem::unavailable("purge/out-of-touch", why));
        }
        ok(&self.purges.known().after(poll.number))
    }

    pub(super) fn purges(&self) -> Purges {
        let page = self.purges.known().after(u64::MAX);
        Purges {
            last: page.last,
            known_after: page.known_after,
            length: page.length,
            recent: self.receipts.recent(),
            pops: self.receipts.pops(),
        }
    }
}
