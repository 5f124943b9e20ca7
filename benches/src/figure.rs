//! What was measured, over several rounds.

use serde_json::{Value, json};

/// The same measure, taken once in each round.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figure(Vec<f64>);

impl Figure {
    /// Adds a round's, if there is one.
    pub(crate) fn add(&mut self, value: impl Into<Option<f64>>) {
        if let Some(value) = value.into() {
            let place = self.0.partition_point(|other| *other < value);
            self.0.insert(place, value);
        }
    }

    /// The one in the middle; of an even number, the mean of the two there. `None` before the first.
    pub(crate) fn median(&self) -> Option<f64> {
        let middle = self.0.len() / 2;
        match self.0.len() {
            0 => None,
            odd if odd % 2 == 1 => Some(self.0[middle]),
            _ => Some(f64::midpoint(self.0[middle - 1], self.0[middle])),
        }
    }

    /// The median, with so many decimal places; empty when there is nothing.
    pub(crate) fn show(&self, places: usize) -> String {
        self.median().map_or_else(String::new, |median| number(median, places))
    }

    /// The median and, of several rounds, the least and the greatest.
    pub(crate) fn show_range(&self, places: usize) -> String {
        match &self.0[..] {
            [least, .., greatest] => {
                format!("{} ({}..{})", self.show(places), number(*least, places), number(*greatest, places))
            }
            _ => self.show(places),
        }
    }

    /// The same for programs.
    pub(crate) fn json(&self) -> Value {
        json!({ "median": self.median(), "min": self.0.first(), "max": self.0.last(), "rounds": self.0.len() })
    }
}

impl FromIterator<f64> for Figure {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        let mut figure = Self::default();
        values.into_iter().for_each(|value| figure.add(value));
        figure
    }
}

/// A number with separated thousands.
fn number(value: f64, places: usize) -> String {
    let text = format!("{value:.places$}");
    let whole = text.find('.').unwrap_or(text.len());
    let first = usize::from(text.starts_with('-'));
    let mut separated = String::with_capacity(text.len() + whole / 3);
    for (index, digit) in text.char_indices() {
        if index > first && index < whole && (whole - index).is_multiple_of(3) {
            separated.push(',');
        }
        separated.push(digit);
    }
    separated
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_and_the_range_are_shown() {
        let figure: Figure = [3.0, 1000.0, 2.0].into_iter().collect();
        assert_eq!((figure.show(1), figure.show_range(0)), ("3.0".to_owned(), "3 (2..1,000)".to_owned()));
        let two: Figure = [1.0, 2.0].into_iter().collect();
        assert_eq!(two.median(), Some(1.5));
        assert_eq!(Figure::default().show_range(1), "");
    }

    #[test]
    fn thousands_are_separated() {
        let shown = [0.5, 999.0, 1234.0, -123_456.0, 1_234_567.0].map(|value| number(value, 1));
        assert_eq!(shown, ["0.5", "999.0", "1,234.0", "-123,456.0", "1,234,567.0"]);
    }
}
