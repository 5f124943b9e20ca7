//! What commands say: results on standard output, everything else on standard error.

use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

/// Why a command ends without success.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command line makes no sense: exit code 2.
    Usage(String),
    /// Something went wrong: exit code 1.
    Failed(String),
    /// It is done, but not everybody has said so in time: exit code 3.
    Unconfirmed(String),
    /// Whoever read our output has closed it (`| head`): nothing to say, exit code 0.
    Closed,
}

impl<E: std::error::Error> From<E> for Failure {
    /// The error and its causes, each said once.
    fn from(error: E) -> Self {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let said = error.to_string();
            if !text.contains(&said) {
                text = format!("{text}: {said}");
            }
            cause = error.source();
        }
        Self::Failed(text)
    }
}

impl Failure {
    /// Says in front what was being done.
    pub(crate) fn context(self, doing: impl Display) -> Self {
        match self {
            Self::Failed(text) => Self::Failed(format!("{doing}: {text}")),
            other => other,
        }
    }
}

/// Prints a result.
///
/// # Errors
/// When standard output takes no more.
pub(crate) fn print(text: impl Display) -> Result<(), Failure> {
    let mut output = io::stdout().lock();
    match write!(output, "{text}").and_then(|()| output.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::Closed),
        Err(error) => Err(Failure::Failed(format!("cannot write to standard output: {error}"))),
    }
}

/// Prints a result for programs: one JSON document.
///
/// # Errors
/// As [`print`].
pub(crate) fn json(value: &impl Serialize) -> Result<(), Failure> {
    print(format_args!("{}\n", serde_json::to_string_pretty(value)?))
}

/// Tells people something that is no result. Never fails: a closed standard error must not end a fleet.
pub(crate) fn note(text: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Says why a command failed.
pub(crate) fn error(text: &str) {
    let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    note(format_args!("{} {text}", if colour { "\x1b[1;31merror:\x1b[0m" } else { "error:" }));
}

/// A spinner for work over a second, on a terminal only. Gone when dropped.
#[derive(Debug)]
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// Says what goes on.
    pub(crate) fn start(doing: impl Into<String>) -> Self {
        if !io::stderr().is_terminal() {
            return Self(ProgressBar::hidden());
        }
        let bar = ProgressBar::new_spinner().with_message(doing.into());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(120));
        Self(bar)
    }

    /// Tells people something that is no result, above the spinner.
    pub(crate) fn note(&self, text: impl Display) {
        self.0.suspend(|| note(text));
    }

    /// Says what goes on now.
    pub(crate) fn say(&self, doing: impl Into<String>) {
        self.0.set_message(doing.into());
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read it")]
    struct Outer(#[source] io::Error);

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read it: {0}")]
    struct Said(#[source] io::Error);

    #[test]
    fn causes_are_said_once() {
        let text = |failure| match failure {
            Failure::Failed(text) => text,
            other => panic!("{other:?}"),
        };
        assert_eq!(text(Outer(io::Error::other("no disk")).into()), "cannot read it: no disk");
        assert_eq!(text(Said(io::Error::other("no disk")).into()), "cannot read it: no disk");
        assert_eq!(text(Failure::from(Outer(io::Error::other("no disk"))).context("x")), "x: cannot read it: no disk");
    }
}
