//! The one binary, `skerry`: the command line, the fleet on a laptop with its distances, deploys and benches.
//!
//! [`commands`] has one file for each verb, which reads flags and prints results. What they stand on: [`project`] and
//! [`bundling`] make a bundle of a folder, [`deploy`] brings it to the PoPs, [`up`] runs a fleet, [`front`] and [`wan`]
//! give it a front door and distances, [`bench`] measures it.

mod access;
mod alarm;
mod bench;
mod bundling;
mod commands;
mod deploy;
mod fleet;
mod front;
mod log;
mod output;
mod project;
mod signals;
mod table;
mod units;
mod up;
mod wan;

use std::process::ExitCode;

use clap::Parser as _;

use output::Failure;

fn main() -> ExitCode {
    raise_descriptor_limit();
    match commands::Cli::parse().run() {
        Ok(()) | Err(Failure::Closed) => ExitCode::SUCCESS,
        Err(Failure::Failed(text)) => {
            output::error(&text);
            ExitCode::from(1)
        }
        Err(Failure::Unconfirmed(text)) => {
            output::error(&text);
            ExitCode::from(3)
        }
        Err(Failure::Usage(text)) => {
            output::error(&text);
            ExitCode::from(2)
        }
    }
}

/// Lets this process and its children hold as many descriptors as the system allows at all. The usual soft limit of 1024
/// is for programs that still call `select`; a connection here takes two or three.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Where the system refuses, it stays as it was.
    let _ = setrlimit(Resource::Nofile, rustix::process::Rlimit { current: limit.maximum, ..limit });
}
