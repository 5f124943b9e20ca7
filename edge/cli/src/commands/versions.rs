//! `skerry versions`.

use clap::Args;
use origin::bundle::FunctionName;

use super::ago;
use crate::access::AccessArgs;
use crate::output::{self, Failure};
use crate::table::{Align, Table};
use crate::units::show_bytes;

/// List the versions of a function, newest first
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Versions {
    /// The function's name
    name: FunctionName,
    #[command(flatten)]
    access: AccessArgs,
    /// Print them as JSON
    #[arg(long)]
    json: bool,
}

impl Versions {
    /// Lists.
    ///
    /// # Errors
    /// When the origin does not answer or knows no such function.
    pub(crate) fn run(self) -> Result<(), Failure> {
        let control = self.access.find(&std::env::current_dir()?)?.control()?;
        let versions = super::runtime()?.block_on(control.versions(&self.name))?;
        if versions.is_empty() {
            return Err(Failure::Failed(format!(
                "{} has no versions; `skerry functions` lists what there is",
                self.name
            )));
        }
        if self.json {
            return output::json(&versions);
        }
        let left = Align::Left;
        let mut table = Table::new(&[
            ("VERSION", left),
            ("LIVE", left),
            ("SIZE", Align::Right),
            ("CREATED", Align::Right),
            ("MESSAGE", left),
        ]);
        for version in versions {
            table.row([
                version.version.short(),
                if version.live { "live".to_owned() } else { String::new() },
                show_bytes(version.size),
                ago(version.created_at_ms),
                version.message.unwrap_or_default().lines().next().unwrap_or_default().to_owned(),
            ]);
        }
        output::print(table)
    }
}
