//! The phases that a server tells of, as rows of a table.

use crate::figure::Figure;
use crate::report::{Column, Table};
use crate::timing::Phases;

/// What is told of each phase.
pub(super) const COLUMNS: [Column; 4] = [
    Column::new("times", "times", 0),
    Column::range("p50 µs", "p50_micros", 0),
    Column::range("p99 µs", "p99_micros", 0),
    Column::new("max µs", "max_micros", 0),
];

/// Figures by phase, in the order in which they were told of first.
#[derive(Clone, Debug, Default)]
pub(super) struct Rows(Vec<(String, Vec<Figure>)>);

impl Rows {
    /// Adds a round.
    pub(super) fn add(&mut self, phases: &Phases) {
        for (name, took) in phases.each() {
            let known = self.0.iter().position(|(known, _)| known == name);
            let index = known.unwrap_or_else(|| {
                self.0.push((name.to_owned(), vec![Figure::default(); COLUMNS.len()]));
                self.0.len() - 1
            });
            let values = [Some(took.count() as f64), took.micros(0.5), took.micros(0.99), took.micros(1.0)];
            self.0[index].1.iter_mut().zip(values).for_each(|(figure, value)| figure.add(value));
        }
    }

    /// Puts them into a table, each phase with the name of whose it is.
    pub(super) fn put(self, name: &str, table: &mut Table) {
        for (phase, figures) in self.0 {
            table.row(format!("{name}: {phase}"), figures);
        }
    }
}
