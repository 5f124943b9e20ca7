//! The questions, one file each.

use std::fmt;

use clap::ValueEnum;

use crate::report::Report;
use crate::{Bench, Failure, sources};

mod cached_object;
mod cold_start;
mod hello;
mod memory;

/// What can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Question {
    /// How many requests a second the smallest function answers, and how fast
    Hello,
    /// How long the first visitor of a function waits
    ColdStart,
    /// How fast a cached object of 10 KiB is served
    CachedObject,
    /// How much memory an idle function takes
    Memory,
}

impl Question {
    /// These, or all when there are none.
    pub(crate) fn chosen(questions: &[Self]) -> &[Self] {
        if questions.is_empty() { Self::value_variants() } else { questions }
    }

    /// Measures.
    ///
    /// # Errors
    /// What kept it from being answered. Nothing is left running.
    pub(crate) async fn ask(self, bench: &Bench) -> Result<Report, Failure> {
        match self {
            Self::Hello => hello::ask(bench).await,
            Self::ColdStart => cold_start::ask(bench).await,
            Self::CachedObject => cached_object::ask(bench).await,
            Self::Memory => memory::ask(bench).await,
        }
    }
}

/// Where one of many functions answers.
fn path(number: u32) -> String {
    format!("/{}", sources::name(number))
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hello => "hello",
            Self::ColdStart => "cold_start",
            Self::CachedObject => "cached_object",
            Self::Memory => "memory",
        })
    }
}
