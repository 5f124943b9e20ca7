//! `skerry cell`, which PoPs call.

use clap::Args;

use crate::output::{self, Failure};

/// Run the functions of one tenant for a PoP, behind walls
///
/// A PoP starts these for functions with "isolation": "process", and for all with --isolation process.
#[derive(Debug, Args)]
pub(crate) struct Cell {
    /// Try what no cell may do instead, and say what came of it: read, write, listen, exec, fork or signal
    #[arg(long, value_name = "WHAT")]
    attempt: Option<pop::Attempt>,
    /// The walls to try it behind: all, seccomp, landlock or none
    #[arg(long, value_name = "WALLS", default_value = "all", requires = "attempt")]
    walls: pop::Chosen,
}

impl Cell {
    /// Runs one, or tries.
    ///
    /// # Errors
    /// When the walls cannot be put up, and when what was tried was refused.
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self.attempt {
            None => pop::run_cell().map_err(|error| Failure::Failed(format!("no cell: {error}"))),
            Some(attempt) => match attempt.make(self.walls) {
                Ok(Ok(())) => output::print("done\n".to_owned()),
                Ok(Err(error)) => Err(Failure::Failed(format!("refused: {error}"))),
                Err(error) => Err(Failure::Failed(format!("no walls: {error}"))),
            },
        }
    }
}
