//! Aligned columns for people. Programs use `--json`.

use std::fmt;

/// How a column is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// Rows under a head, each column as wide as its widest cell.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    head: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table with these columns.
    pub(crate) fn new(head: &[(&'static str, Align)]) -> Self {
        Self { head: head.to_vec(), rows: Vec::new() }
    }

    /// Adds a row. Missing cells are empty, cells beyond the head are dropped.
    pub(crate) fn row<I, C>(&mut self, cells: I)
    where
        I: IntoIterator<Item = C>,
        C: Into<String>,
    {
        let mut row: Vec<String> = cells.into_iter().map(Into::into).collect();
        row.resize(self.head.len(), String::new());
        self.rows.push(row);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |s: &str| s.chars().count();
        let widths: Vec<usize> = (0..self.head.len())
            .map(|i| self.rows.iter().map(|row| width(&row[i])).fold(width(self.head[i].0), usize::max))
            .collect();
        let mut line = |cells: &mut dyn Iterator<Item = &str>| {
            let mut text = String::new();
            for ((cell, (_, align)), width) in cells.zip(&self.head).zip(&widths) {
                if !text.is_empty() {
                    text.push_str("  ");
                }
                match align {
                    Align::Left => text.push_str(&format!("{cell:<width$}")),
                    Align::Right => text.push_str(&format!("{cell:>width$}")),
                }
            }
            writeln!(f, "{}", text.trim_end())
        };
        line(&mut self.head.iter().map(|(name, _)| *name))?;
        self.rows.iter().try_for_each(|row| line(&mut row.iter().map(String::as_str)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&[("POP", Align::Left), ("P50", Align::Right), ("NOTE", Align::Left)]);
        table.row(["lhr", "1.25", "near"]);
        table.row(["Zürich", "12.50"]);
        assert_eq!(table.to_string(), "POP       P50  NOTE\nlhr      1.25  near\nZürich  12.50\n");
    }
}
