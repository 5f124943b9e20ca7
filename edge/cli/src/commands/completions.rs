//! `skerry completions`.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use crate::output::{self, Failure};

/// Print the completion script of a shell
///
/// For bash, for instance: skerry completions bash > ~/.local/share/bash-completion/completions/skerry
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    /// Prints the script.
    ///
    /// # Errors
    /// When standard output takes no more.
    pub(crate) fn run(self) -> Result<(), Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut super::Cli::command(), "skerry", &mut script);
        output::print(String::from_utf8_lossy(&script))
    }
}
