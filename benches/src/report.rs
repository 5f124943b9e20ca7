//! What a question prints: a table, its conditions, and the same for programs.

use std::fmt;
use std::time::SystemTime;

use serde_json::{Map, Value, json};

use crate::Bench;
use crate::figure::Figure;
use crate::program::{Peer, Program};
use crate::questions::Question;

/// A column of figures.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    /// Its head.
    pub(crate) head: &'static str,
    /// Its name in JSON, with the unit.
    pub(crate) key: &'static str,
    /// Decimal places.
    pub(crate) places: usize,
    /// Whether least and greatest are shown beside the median.
    pub(crate) range: bool,
}

impl Column {
    /// A column of medians.
    pub(crate) const fn new(head: &'static str, key: &'static str, places: usize) -> Self {
        Self { head, key, places, range: false }
    }

    /// The same with the range over the rounds.
    pub(crate) const fn range(head: &'static str, key: &'static str, places: usize) -> Self {
        Self { head, key, places, range: true }
    }
}

/// The answer to a question.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    question: Question,
    about: &'static str,
    machine: String,
    method: String,
    programs: Vec<Program>,
    missing: Vec<Peer>,
    columns: &'static [Column],
    rows: Vec<(String, Vec<Figure>)>,
}

impl Report {
    /// A report without rows. `about` says what the figures are of.
    pub(crate) fn new(bench: &Bench, question: Question, about: &'static str, columns: &'static [Column]) -> Self {
        Self {
            question,
            about,
            machine: bench.machine.to_string(),
            method: String::new(),
            programs: vec![bench.skerry.clone()],
            missing: Vec::new(),
            columns,
            rows: Vec::new(),
        }
    }

    /// A peer when it is here; either way the report tells.
    pub(crate) fn peer(&mut self, peer: Peer) -> Option<Program> {
        let found = peer.find();
        match &found {
            Some(program) => self.programs.push(program.clone()),
            None => self.missing.push(peer),
        }
        found
    }

    /// Says how the figures were taken.
    pub(crate) fn method(&mut self, text: String) {
        self.method = text;
    }

    /// Adds a row: one figure for each column.
    pub(crate) fn row(&mut self, name: impl Into<String>, figures: Vec<Figure>) {
        self.rows.push((name.into(), figures));
    }

    /// The report for programs.
    pub(crate) fn json(&self) -> Value {
        let rows = self.rows.iter().map(|(name, figures)| {
            let figures =
                self.columns.iter().zip(figures).map(|(column, figure)| (column.key.to_owned(), figure.json()));
            let mut row = Map::from_iter([("name".to_owned(), json!(name))]);
            row.extend(figures);
            Value::Object(row)
        });
        let programs = self.programs.iter().map(|program| (program.name.to_owned(), json!(program.version)));
        json!({
            "question": self.question.to_string(),
            "about": self.about,
            "date": today(),
            "machine": self.machine,
            "method": self.method,
            "programs": Map::from_iter(programs),
            "missing": Map::from_iter(self.missing.iter().map(|peer| (peer.name.to_owned(), json!(peer.install)))),
            "rows": rows.collect::<Value>(),
        })
    }
}

fn today() -> String {
    httpdate::fmt_http_date(SystemTime::now())
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}\n", self.question, self.about)?;
        let mut lines = vec![vec![String::new()]];
        lines[0].extend(self.columns.iter().map(|column| column.head.to_owned()));
        lines.extend(self.rows.iter().map(|(name, figures)| {
            let figures = self.columns.iter().zip(figures).map(|(column, figure)| match column.range {
                true => figure.show_range(column.places),
                false => figure.show(column.places),
            });
            std::iter::once(name.clone()).chain(figures).collect()
        }));
        let widths: Vec<usize> = (0..=self.columns.len())
            .map(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0))
            .collect();
        for line in &lines {
            let cells = line[1..].iter().zip(&widths[1..]).map(|(cell, width)| format!("  {cell:>width$}"));
            writeln!(f, "  {:<width$}{}", line[0], cells.collect::<String>(), width = widths[0])?;
        }
        let programs: Vec<String> =
            self.programs.iter().map(|program| format!("{} {}", program.name, program.version)).collect();
        writeln!(f, "\n  Method: {}", self.method)?;
        writeln!(f, "  Machine: {}", self.machine)?;
        writeln!(f, "  Versions: {}; {}", programs.join(", "), today())?;
        for Peer { name, install, .. } in &self.missing {
            writeln!(f, "  Not beside it, because it is not installed: {name}. Get it with `{install}`")?;
        }
        Ok(())
    }
}
