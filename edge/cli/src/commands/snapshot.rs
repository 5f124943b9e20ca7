//! `skerry snapshot`, which PoPs call.

use std::path::PathBuf;

use clap::Args;

use crate::output::{self, Failure};

/// Make a startup snapshot with a hash seed of its own
///
/// A PoP does this when it first starts.
#[derive(Debug, Args)]
pub(crate) struct Snapshot {
    /// File to write, or to read
    file: PathBuf,
    /// Start a function from the snapshot in the file instead
    #[arg(long)]
    prove: bool,
}

impl Snapshot {
    /// Makes one, or tries one.
    ///
    /// # Errors
    /// When it cannot be made, written or read, or when no function starts from it.
    pub(crate) fn run(self) -> Result<(), Failure> {
        let wrong = |why: String| Failure::Failed(format!("{}: {why}", self.file.display()));
        if self.prove {
            let made = std::fs::read(&self.file).map_err(|error| wrong(error.to_string()))?;
            let hash = pop::prove(pop::Snapshot::new(made)).map_err(|fault| wrong(fault.to_string()))?;
            return output::print(format!("a function starts; \"a name\" has the hash {hash:08x}\n"));
        }
        let made =
            pop::reseed(rand::random()).ok_or_else(|| wrong("deno_core writes snapshots otherwise".to_owned()))?;
        std::fs::write(&self.file, made).map_err(|error| wrong(error.to_string()))
    }
}
