//! The text that a scrape gets.

use std::fmt::{Display, Write as _};

use http::HeaderMap;
use http::header::ACCEPT;

use super::count::{BOUNDS, Totals};
use super::{Kind, Row, TABLE};
use crate::state::State;

/// How the text is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Prometheus' own, <https://prometheus.io/docs/instrumenting/exposition_formats/>.
    Prometheus,
    /// <https://prometheus.io/docs/specs/om/open_metrics_spec/>.
    OpenMetrics,
}

impl Format {
    /// What the client likes best; Prometheus' own when it does not say.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let lines = headers.get_all(ACCEPT).iter().filter_map(|line| line.to_str().ok());
        let mut best = (0.0, Self::Prometheus);
        for range in lines.flat_map(|line| line.split(',')) {
            let mut parts = range.split(';').map(str::trim);
            let format = match parts.next().unwrap_or_default().to_ascii_lowercase().as_str() {
                "application/openmetrics-text" => Self::OpenMetrics,
                "text/plain" | "text/*" | "*/*" => Self::Prometheus,
                _ => continue,
            };
            let weight = parts.find_map(|part| part.strip_prefix("q=")?.parse().ok()).unwrap_or(1.0);
            if weight > best.0 {
                best = (weight, format);
            }
        }
        best.1
    }

    pub(crate) const fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// All metrics as they are now.
pub(crate) fn page(state: &State, format: Format) -> String {
    let mut text = String::with_capacity(16 << 10);
    for row in TABLE {
        head(&mut text, row, format);
        (row.read)(state, &mut Samples::of(&mut text, row));
    }
    if format == Format::OpenMetrics {
        text.push_str("# EOF\n");
    }
    text
}

fn head(text: &mut String, row: &Row, format: Format) {
    // In OpenMetrics the suffix belongs to the sample.
    let name = match format {
        Format::OpenMetrics => row.name.strip_suffix("_total").unwrap_or(row.name),
        Format::Prometheus => row.name,
    };
    let kind = match row.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
    };
    let help = match format {
        Format::OpenMetrics => quoted(row.help),
        Format::Prometheus => escaped(row.help),
    };
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

/// Takes the values of one metric.
pub(crate) struct Samples<'a> {
    text: &'a mut String,
    row: &'a Row,
}

impl<'a> Samples<'a> {
    pub(super) fn of(text: &'a mut String, row: &'a Row) -> Self {
        Self { text, row }
    }

    /// A value, with what the labels are in the order of the row's.
    pub(crate) fn put(&mut self, labels: &[&str], value: impl Display) {
        self.line("", labels, None, value);
    }

    /// The only value, where it is known.
    pub(crate) fn known(&mut self, value: Option<impl Display>) {
        self.known_of(&[], value);
    }

    /// A value with its labels, where it is known.
    pub(crate) fn known_of(&mut self, labels: &[&str], value: Option<impl Display>) {
        if let Some(value) = value {
            self.put(labels, value);
        }
    }

    pub(crate) fn histogram(&mut self, labels: &[&str], totals: &Totals) {
        let mut count = 0;
        for (place, here) in totals.counts.iter().enumerate() {
            count += here;
            // As OpenMetrics wants it: 1.0, not 1.
            let bound = BOUNDS.get(place).map_or_else(|| "+Inf".to_owned(), |bound| format!("{bound:?}"));
            self.line("_bucket", labels, Some(&bound), count);
        }
        self.line("_sum", labels, None, totals.sum.as_secs_f64());
        self.line("_count", labels, None, count);
    }

    fn line(&mut self, suffix: &str, labels: &[&str], bound: Option<&str>, value: impl Display) {
        debug_assert_eq!(labels.len(), self.row.labels.len(), "{}", self.row.name);
        let named = self.row.labels.iter().copied().zip(labels.iter().copied());
        let mut separator = '{';
        let _ = write!(self.text, "{}{suffix}", self.row.name);
        for (name, label) in named.chain(bound.map(|bound| ("le", bound))) {
            let _ = write!(self.text, "{separator}{name}=\"{}\"", quoted(label));
            separator = ',';
        }
        let end = if separator == ',' { "}" } else { "" };
        let _ = writeln!(self.text, "{end} {value}");
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n")
}

/// What stands between quotes, and help in OpenMetrics.
fn quoted(text: &str) -> String {
    escaped(text).replace('"', "\\\"")
}
