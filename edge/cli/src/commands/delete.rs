//! `skerry delete`.

use clap::Args;
use origin::bundle::FunctionName;
use serde::Serialize;

use crate::access::AccessArgs;
use crate::deploy::{self, State};
use crate::output::{self, Failure, Progress, note};
use crate::table::{Align, Table};

/// Take a function off all PoPs
///
/// Its routes and static files answer no more once every PoP knows, which is waited for. Its versions are kept: a deploy
/// of the same folder, or a rollback with a version named, brings it back.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Delete {
    /// The function's name
    name: FunctionName,
    #[command(flatten)]
    access: AccessArgs,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// What was deleted, and which PoPs know.
#[derive(Debug, Serialize)]
struct Deleted {
    function: FunctionName,
    /// Generation of the manifest without it.
    generation: u64,
    pops: Vec<Pop>,
    /// Why the PoPs could not be asked, when they could not: the function is deleted all the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pops_unknown: Option<String>,
}

#[derive(Debug, Serialize)]
struct Pop {
    pop: String,
    /// `gone` when it does not serve the function any more, else `late` or `down`.
    state: &'static str,
}

impl Delete {
    /// Deletes.
    ///
    /// # Errors
    /// When no such function is live, or the origin does not answer.
    pub(crate) fn run(self) -> Result<(), Failure> {
        let access = self.access.find(&std::env::current_dir()?)?;
        let control = access.control()?;
        let progress = Progress::start(format!("deleting {}", self.name));
        let (generation, arrivals) = super::runtime()?.block_on(async {
            let generation = control.delete(&self.name).await?;
            let (fleet, deadline) = (access.fleet.as_ref(), deploy::arrival_deadline());
            let arrivals = deploy::arrivals(&control, fleet, Some(&self.name), generation, None, deadline).await;
            Ok::<_, Failure>((generation, arrivals))
        })?;
        drop(progress);
        let (arrivals, pops_unknown) = match arrivals {
            Ok(arrivals) => (arrivals, None),
            Err(error) => (Vec::new(), Some(error.to_string())),
        };
        let state = |state: State| if state == State::Live { "gone" } else { state.as_str() };
        let pops = arrivals.into_iter().map(|arrival| Pop { state: state(arrival.state), pop: arrival.pop });
        let deleted = Deleted { function: self.name, generation, pops: pops.collect(), pops_unknown };
        if let Some(why) = &deleted.pops_unknown {
            note(format_args!("warning: {} is deleted; the PoPs could not be asked: {why}", deleted.function));
        }
        if self.json {
            return output::json(&deleted);
        }
        let mut table = Table::new(&[("POP", Align::Left), ("STATE", Align::Left)]);
        deleted.pops.iter().for_each(|pop| table.row([&*pop.pop, pop.state]));
        output::print(format_args!("{} is deleted, generation {generation}\n{table}", deleted.function))
    }
}
