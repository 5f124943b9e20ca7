//! What is wrong with a configuration: everything at once, each with the key to correct.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

/// One key whose value cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{key}` {problem}")]
pub struct Invalid {
    /// The key, with the tables around it: `up.policies[0].period`.
    pub key: String,
    /// What it must be, and what it is.
    pub problem: String,
}

/// All that is wrong, in the order of the keys; never empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Invalids(pub Vec<Invalid>);

impl fmt::Display for Invalids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, invalid) in self.0.iter().enumerate() {
            let separator = if i == 0 { "" } else { "\n" };
            write!(f, "{separator}{invalid}")?;
        }
        Ok(())
    }
}

/// Collects what is wrong.
#[derive(Debug, Default)]
pub(crate) struct Check {
    inside: String,
    found: Vec<Invalid>,
}

impl Check {
    pub(crate) fn that(&mut self, holds: bool, key: &str, problem: impl fmt::Display) {
        if !holds {
            let key = format!("{}{key}", self.inside);
            self.found.push(Invalid { key, problem: problem.to_string() });
        }
    }

    /// A number must be within bounds; NaN is not.
    pub(crate) fn within(&mut self, key: &str, value: f64, bounds: RangeInclusive<f64>) {
        let (low, high) = (*bounds.start(), *bounds.end());
        let problem = if high == f64::MAX {
            format!("must be a number of at least {low}, but it is {value}")
        } else {
            format!("must be a number from {low} to {high}, but it is {value}")
        };
        self.that(bounds.contains(&value), key, problem);
    }

    /// A span must be within bounds.
    pub(crate) fn span(&mut self, key: &str, value: Duration, bounds: RangeInclusive<Duration>) {
        let problem = format!("must be from {:?} to {:?}, but it is {value:?}", bounds.start(), bounds.end());
        self.that(bounds.contains(&value), key, problem);
    }

    /// Checks what is inside a table.
    pub(crate) fn under(&mut self, table: &str, body: impl FnOnce(&mut Self)) {
        let outside = self.inside.len();
        self.inside.push_str(table);
        self.inside.push('.');
        body(self);
        self.inside.truncate(outside);
    }

    pub(crate) fn done(self) -> Result<(), Invalids> {
        if self.found.is_empty() { Ok(()) } else { Err(Invalids(self.found)) }
    }
}
