//! The verbs of the command line, one file each.

pub(crate) mod bench;
pub(crate) mod cell;
pub(crate) mod completions;
pub(crate) mod cost;
pub(crate) mod delete;
pub(crate) mod deploy;
pub(crate) mod functions;
pub(crate) mod jwt;
pub(crate) mod limits;
pub(crate) mod meter;
pub(crate) mod origin;
pub(crate) mod plan;
pub(crate) mod pop;
pub(crate) mod pops;
pub(crate) mod protection;
pub(crate) mod purge;
pub(crate) mod region;
pub(crate) mod rollback;
pub(crate) mod simulate;
pub(crate) mod snapshot;
pub(crate) mod up;
pub(crate) mod versions;

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Parser, Subcommand};

use crate::output::Failure;

/// Self-hosted edge functions: an origin, PoPs near the clients, and JavaScript that runs in both.
#[derive(Debug, Parser)]
#[command(name = "skerry", version, propagate_version = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Up(Box<up::Up>),
    Deploy(deploy::Deploy),
    Versions(versions::Versions),
    Rollback(rollback::Rollback),
    Delete(delete::Delete),
    Functions(functions::Functions),
    Purge(purge::Purge),
    Pops(pops::Pops),
    Cost(cost::Cost),
    Plan(plan::Plan),
    Simulate(simulate::Simulate),
    Bench(bench::Bench),
    Jwt(jwt::Jwt),
    Limits(limits::Limits),
    Origin(origin::Origin),
    Pop(Box<pop::Pop>),
    Region(Box<region::Region>),
    #[command(hide = true)]
    Cell(cell::Cell),
    #[command(hide = true)]
    Snapshot(snapshot::Snapshot),
    Completions(completions::Completions),
}

impl Cli {
    /// Does what the command line says.
    ///
    /// # Errors
    /// [`Failure`], which is also the exit code.
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self.command {
            Command::Up(up) => up.run(),
            Command::Deploy(deploy) => deploy.run(),
            Command::Versions(versions) => versions.run(),
            Command::Rollback(rollback) => rollback.run(),
            Command::Delete(delete) => delete.run(),
            Command::Functions(functions) => functions.run(),
            Command::Purge(purge) => purge.run(),
            Command::Pops(pops) => pops.run(),
            Command::Cost(cost) => cost.run(),
            Command::Plan(plan) => plan.run(),
            Command::Simulate(simulate) => simulate.run(),
            Command::Bench(bench) => bench.run(),
            Command::Jwt(jwt) => jwt.run(),
            Command::Limits(limits) => limits.run(),
            Command::Origin(origin) => origin.run(),
            Command::Pop(pop) => pop.run(),
            Command::Region(region) => region.run(),
            Command::Cell(cell) => cell.run(),
            Command::Snapshot(snapshot) => snapshot.run(),
            Command::Completions(completions) => completions.run(),
        }
    }
}

/// The runtime of a command that only waits for others.
///
/// # Errors
/// When the system gives no descriptors.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

/// The text of a file; what is wrong, for people, when there is none.
///
/// # Errors
/// When it cannot be read, is no text, or larger than `most` bytes.
pub(crate) fn read_text(path: &Path, most: u64) -> Result<String, String> {
    let said = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
    let mut text = String::new();
    File::open(path).map_err(said)?.take(most + 1).read_to_string(&mut text).map_err(said)?;
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > most {
        return Err(format!("{} is larger than {most} bytes", path.display()));
    }
    Ok(text)
}

/// How long ago an instant (milliseconds since the Unix epoch) was, for people.
pub(crate) fn ago(at_ms: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let seconds = u64::try_from(now).unwrap_or(u64::MAX).saturating_sub(at_ms) / 1000;
    match seconds {
        0..120 => format!("{seconds} s ago"),
        120..7200 => format!("{} min ago", seconds / 60),
        7200..172_800 => format!("{} h ago", seconds / 3600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent_and_every_verb_is_explained() {
        let mut command = Cli::command();
        command.build();
        command.clone().debug_assert();
        for verb in command.get_subcommands().filter(|verb| verb.get_name() != "help") {
            assert!(verb.get_about().is_some(), "{} has no help", verb.get_name());
            for argument in verb.get_arguments() {
                assert!(argument.get_help().is_some(), "{} {} has no help", verb.get_name(), argument.get_id());
            }
        }
    }

    #[test]
    fn commands_that_print_data_have_a_form_for_programs() {
        let command = Cli::command();
        for verb in
            ["up", "deploy", "versions", "rollback", "delete", "functions", "purge", "pops", "bench", "limits", "cost"]
        {
            let verb = command.find_subcommand(verb).unwrap();
            assert!(
                verb.get_arguments().any(|argument| argument.get_id() == "json"),
                "{} has no --json",
                verb.get_name()
            );
        }
    }
}
