//! `skerry deploy`.

use std::path::PathBuf;

use clap::Args;
use isolate::Platform;

use crate::access::AccessArgs;
use crate::deploy::{self, Assets};
use crate::output::{Failure, Progress};

/// Make a function live on all PoPs
///
/// Builds the folder, runs the top level of its modules in an isolate here, uploads what the origin does not have, makes
/// the new version live and waits until every PoP has it. The version is the digest of what was built: deploying the same
/// again changes nothing. A build that fails, or a PoP that cannot start the version, leaves the last good one serving.
///
/// Exit code 0 when the version is live, also when a PoP is down or late, or cannot be asked: it catches up by itself.
/// Exit code 1 when it could not be made live, or a PoP could not start it.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Deploy {
    /// Folder of the function, with its wrangler.jsonc, wrangler.json or wrangler.toml
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// What the version is about, kept with it
    #[arg(long, short)]
    message: Option<String>,
    #[command(flatten)]
    access: AccessArgs,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

impl Deploy {
    /// Deploys.
    ///
    /// # Errors
    /// What is wrong with the function, or why the origin or a PoP did not take it.
    pub(crate) fn run(self) -> Result<(), Failure> {
        let access = self.access.find(&std::env::current_dir()?)?;
        let control = access.control()?;
        let platform = Platform::start();
        let progress = Progress::start(format!("building {}", self.folder.display()));
        let built = deploy::build(platform, &self.folder, &progress)?;
        progress.say(format!("deploying {}", built.bundle.name));
        let released = super::runtime()?.block_on(async {
            let (outcome, uploaded) = deploy::release(&control, &built, self.message.as_deref()).await?;
            let (fleet, deadline) = (access.fleet.as_ref(), deploy::arrival_deadline());
            let mut released = deploy::follow(&control, fleet, &built.bundle.name, outcome, deadline).await;
            released.assets = Some(Assets { total: built.assets.len(), uploaded });
            Ok::<_, Failure>(released)
        })?;
        drop(progress);
        released.print(self.json)
    }
}
