//! What a question prints: tables, their conditions, and the same for programs.

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
    notes: Vec<String>,
    tables: Vec<Table>,
}

/// Figures: a row for each thing measured.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    title: String,
    columns: &'static [Column],
    rows: Vec<(String, Vec<Figure>)>,
}

impl Table {
    /// Adds a row: one figure for each column.
    pub(crate) fn row(&mut self, name: impl Into<String>, figures: Vec<Figure>) {
        debug_assert_eq!(figures.len(), self.columns.len(), "{}", self.title);
        self.rows.push((name.into(), figures));
    }

    fn json(&self) -> Value {
        let rows = self.rows.iter().map(|(name, figures)| {
            let figures =
                self.columns.iter().zip(figures).map(|(column, figure)| (column.key.to_owned(), figure.json()));
            let mut row = Map::from_iter([("name".to_owned(), json!(name))]);
            row.extend(figures);
            Value::Object(row)
        });
        json!({ "title": self.title, "rows": rows.collect::<Value>() })
    }
}

impl Report {
    /// A report without tables. `about` says what the figures are of.
    pub(crate) fn new(bench: &Bench, question: Question, about: &'static str) -> Self {
        Self {
            question,
            about,
            machine: bench.machine.to_string(),
            method: String::new(),
            programs: vec![bench.skerry.clone()],
            missing: Vec::new(),
            notes: Vec::new(),
            tables: Vec::new(),
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
    pub(crate) fn method(&mut self, text: impl Into<String>) {
        self.method = text.into();
    }

    /// Says what a reader must know to read the figures rightly, for instance what a peer cannot do.
    pub(crate) fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// Begins a table; its title is empty when there is only one.
    pub(crate) fn table(&mut self, title: impl Into<String>, columns: &'static [Column]) -> &mut Table {
        self.tables.push(Table { title: title.into(), columns, rows: Vec::new() });
        self.tables.last_mut().expect("it was put there one line above")
    }

    /// The report for programs.
    pub(crate) fn json(&self) -> Value {
        let programs = self.programs.iter().map(|program| (program.name.to_owned(), json!(program.version)));
        json!({
            "question": self.question.to_string(),
            "about": self.about,
            "date": today(),
            "machine": self.machine,
            "method": self.method,
            "notes": self.notes,
            "programs": Map::from_iter(programs),
            "missing": Map::from_iter(self.missing.iter().map(|peer| (peer.name.to_owned(), json!(peer.install)))),
            "tables": self.tables.iter().map(Table::json).collect::<Value>(),
        })
    }
}

fn today() -> String {
    httpdate::fmt_http_date(SystemTime::now())
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.question, self.about)?;
        for table in &self.tables {
            writeln!(f, "\n{table}")?;
        }
        let programs: Vec<String> =
            self.programs.iter().map(|program| format!("{} {}", program.name, program.version)).collect();
        writeln!(f, "  Method: {}", self.method)?;
        for note in &self.notes {
            writeln!(f, "  Note: {note}")?;
        }
        writeln!(f, "  Machine: {}", self.machine)?;
        writeln!(f, "  Versions: {}; {}", programs.join(", "), today())?;
        for Peer { name, install, .. } in &self.missing {
            writeln!(f, "  Not beside it, because it is not installed: {name}. Get it with `{install}`")?;
        }
        Ok(())
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = vec![vec![self.title.clone()]];
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
        Ok(())
    }
}
