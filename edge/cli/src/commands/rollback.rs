//! `skerry rollback`.

use clap::Args;
use origin::bundle::FunctionName;

use crate::access::AccessArgs;
use crate::deploy;
use crate::output::{Failure, Progress};

/// Make an earlier version of a function live again
///
/// Without a version it is the one before the live one; doing it again goes back further. Versions never change, so what
/// comes back is what was there. A function that was deleted comes back with its version named.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Rollback {
    /// The function's name
    name: FunctionName,
    /// The version, or at least 4 of its first characters
    #[arg(value_name = "VERSION")]
    to: Option<String>,
    #[command(flatten)]
    access: AccessArgs,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

impl Rollback {
    /// Rolls back.
    ///
    /// # Errors
    /// When there is no such version, or the origin does not answer.
    pub(crate) fn run(self) -> Result<(), Failure> {
        let access = self.access.find(&std::env::current_dir()?)?;
        let control = access.control()?;
        let progress = Progress::start(format!("rolling {} back", self.name));
        let released = super::runtime()?.block_on(async {
            let outcome = control.rollback(&self.name, self.to.as_deref()).await?;
            let (fleet, deadline) = (access.fleet.as_ref(), deploy::arrival_deadline());
            Ok::<_, Failure>(deploy::follow(&control, fleet, &self.name, outcome, deadline).await)
        })?;
        drop(progress);
        released.print(self.json)
    }
}
