//! Functions: which version is live.

use hyper::body::Incoming;

use super::{Admin, deleted, json, ok};
use crate::api::{Deploy, Rollback, Versions};
use crate::bundle::FunctionName;
use crate::server::respond::Answer;

impl Admin {
    pub(super) async fn deploy(&self, name: &FunctionName, body: Incoming) -> Answer {
        let Deploy { version } = json(body).await?;
        let outcome = self.deployments.deploy(name, &version, self.now_ms()).await?;
        self.take_up().await;
        tracing::info!(%name, %version, generation = outcome.generation, changed = outcome.changed, "deployed");
        ok(&outcome)
    }

    pub(super) async fn rollback(&self, name: &FunctionName, body: Incoming) -> Answer {
        let Rollback { version } = json(body).await?;
        let outcome = self.deployments.rollback(name, version.as_deref(), self.now_ms()).await?;
        self.take_up().await;
        tracing::info!(%name, version = %outcome.version, generation = outcome.generation, "rolled back");
        ok(&outcome)
    }

    pub(super) async fn versions(&self, name: &FunctionName) -> Answer {
        ok(&Versions { versions: self.deployments.versions(name).await? })
    }

    pub(super) async fn delete(&self, name: &FunctionName) -> Answer {
        let generation = self.deployments.delete(name).await?;
        self.take_up().await;
        tracing::info!(%name, generation, "deleted");
        Ok(deleted(generation))
    }
}
