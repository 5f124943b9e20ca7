//! `skerry functions`.

use clap::Args;

use super::ago;
use crate::access::AccessArgs;
use crate::output::{self, Failure};
use crate::table::{Align, Table};
use crate::units::show_bytes;

/// List what is live: functions, versions, routes
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Functions {
    #[command(flatten)]
    access: AccessArgs,
    /// Print the manifest as JSON
    #[arg(long)]
    json: bool,
}

impl Functions {
    /// Lists.
    ///
    /// # Errors
    /// When the origin does not answer.
    pub(crate) fn run(self) -> Result<(), Failure> {
        let control = self.access.find(&std::env::current_dir()?)?.control()?;
        let manifest = super::runtime()?.block_on(control.manifest())?;
        if self.json {
            return output::json(&manifest);
        }
        let left = Align::Left;
        let mut table = Table::new(&[
            ("FUNCTION", left),
            ("VERSION", left),
            ("SIZE", Align::Right),
            ("DEPLOYED", Align::Right),
            ("ROUTES", left),
        ]);
        for (name, live) in manifest.functions {
            let routes: Vec<String> = live.routes.iter().map(ToString::to_string).collect();
            table.row([
                name.to_string(),
                live.version.short(),
                show_bytes(live.size),
                ago(live.deployed_at_ms),
                routes.join(" "),
            ]);
        }
        output::print(table)
    }
}
