//! What a bench says: a table, a histogram, the gain in words; or all of it as JSON.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use serde::Serialize;

use super::record::{Bucket, Record, Summary};
use crate::table::{Align, Table};
use crate::units::show_ms;

/// Width of the longest bar, in characters.
const BAR: usize = 24;

/// A whole bench.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// Path and query asked.
    pub path: String,
    /// Where the client stands.
    pub client: String,
    /// Requests a second.
    pub rate: f64,
    /// Length of each run in seconds.
    pub duration_seconds: f64,
    /// `fixed` or `poisson`.
    pub arrivals: String,
    /// Connections to each target.
    pub connections: usize,
    /// Whether round trips were simulated.
    pub distance: bool,
    /// The PoP first, then the origin.
    pub targets: Vec<Measured>,
    /// What the figures say.
    pub gain: Vec<String>,
}

/// What was measured at one target.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Measured {
    /// `lhr` or `origin`.
    pub name: String,
    /// City where it stands.
    pub place: String,
    /// Address asked.
    pub address: String,
    /// Simulated round trip from the client, in milliseconds.
    pub rtt_ms: f64,
    /// Requests that were due.
    pub scheduled: u64,
    /// All answers together.
    pub all: Summary,
    /// Answers by class.
    pub classes: BTreeMap<&'static str, Summary>,
    /// The order of the classes for people.
    #[serde(skip)]
    order: Vec<&'static str>,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Requests without an answer, by cause.
    pub failures: BTreeMap<&'static str, u64>,
    /// All answers together, as a histogram.
    pub buckets: Vec<Bucket>,
    /// Most requests under way at once.
    pub peak_in_flight: usize,
    /// How far the generator itself was behind at worst, in milliseconds.
    pub generator_lag_ms: f64,
}

impl Measured {
    /// The figures of `record`.
    pub(crate) fn new(name: String, place: String, address: String, rtt_ms: f64, record: &Record) -> Self {
        let all = record.all();
        Self {
            name,
            place,
            address,
            rtt_ms,
            scheduled: record.scheduled,
            all: all.summary(),
            classes: record.classes.iter().map(|(class, latencies)| (class.as_str(), latencies.summary())).collect(),
            order: record.classes.keys().map(|class| class.as_str()).collect(),
            statuses: record.statuses.clone(),
            failures: record.failures.iter().map(|(failure, count)| (failure.as_str(), *count)).collect(),
            buckets: all.buckets(),
            peak_in_flight: record.peak_in_flight,
            generator_lag_ms: record.generator_lag.as_secs_f64() * 1000.0,
        }
    }

    /// Whether every answer was a success or a redirect.
    fn succeeded(&self) -> bool {
        self.statuses.keys().all(|status| (200..400).contains(status))
    }

    fn statuses(&self) -> String {
        let list = self.statuses.iter().map(|(status, count)| format!("{status} x {count}"));
        list.collect::<Vec<_>>().join(", ")
    }
}

/// Says what an edge gained over the origin, and what stands against taking the figures at their word.
pub(crate) fn gain(edge: &Measured, origin: &Measured) -> Vec<String> {
    let mut words = Vec::new();
    if edge.all.count > 0 && origin.all.count > 0 {
        for (name, edge_ms, origin_ms) in
            [("Half", edge.all.p50_ms, origin.all.p50_ms), ("99 %", edge.all.p99_ms, origin.all.p99_ms)]
        {
            let saved = origin_ms - edge_ms;
            let comparison = if saved >= 0.0 {
                format!("{:.1} times as fast, {} saved", origin_ms / edge_ms.max(0.001), show_ms(saved))
            } else {
                format!("{} lost by the detour", show_ms(-saved))
            };
            words.push(format!(
                "{name} of the requests took at most {} through {} and {} straight to the origin: {comparison}.",
                show_ms(edge_ms),
                edge.name,
                show_ms(origin_ms)
            ));
        }
    }
    for target in [edge, origin] {
        if target.all.count == 0 {
            words.push(format!("{} answered nothing.", target.name));
        } else if !target.succeeded() {
            words.push(format!(
                "{} answered {}: its figures are not those of the work you meant.",
                target.name,
                target.statuses()
            ));
        }
        for (failure, count) in &target.failures {
            words.push(format!("{count} of {} requests to {} failed: {failure}.", target.scheduled, target.name));
        }
        if target.generator_lag_ms > 20.0 {
            words.push(format!(
                "The generator was up to {} late for {}: this machine was busy, part of the latency is its own.",
                show_ms(target.generator_lag_ms),
                target.name
            ));
        }
    }
    words
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "GET {} from {}, open loop, {} arrivals at {} a second for {} s, {} open connections",
            self.path, self.client, self.arrivals, self.rate, self.duration_seconds, self.connections
        )?;
        for target in &self.targets {
            let round_trip = if self.distance { show_ms(target.rtt_ms) } else { "loopback".to_owned() };
            writeln!(f, "  {:8} {}, {}, round trip {round_trip}", target.name, target.place, target.address)?;
        }
        writeln!(f, "\n{}", self.table())?;
        writeln!(f, "{}", self.histogram())?;
        self.gain.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

impl Report {
    fn table(&self) -> Table {
        let right = Align::Right;
        let mut table = Table::new(&[
            ("TARGET", Align::Left),
            ("CLASS", Align::Left),
            ("COUNT", right),
            ("P50", right),
            ("P90", right),
            ("P99", right),
            ("P99.9", right),
            ("MAX", right),
        ]);
        for target in &self.targets {
            let mut rows: Vec<(&str, &Summary)> =
                target.order.iter().filter_map(|class| Some((*class, target.classes.get(class)?))).collect();
            if rows.len() != 1 {
                rows.push(("all", &target.all));
            }
            for (class, s) in rows {
                let figures = [s.p50_ms, s.p90_ms, s.p99_ms, s.p999_ms, s.max_ms].map(show_ms);
                table.row([target.name.clone(), class.to_owned(), s.count.to_string()].into_iter().chain(figures));
            }
        }
        table
    }

    /// One line a bucket, one column of bars a target, all to the same scale.
    fn histogram(&self) -> String {
        let all = || self.targets.iter().flat_map(|target| &target.buckets);
        let most = all().map(|bucket| bucket.count).max().unwrap_or(0);
        let bounds: BTreeMap<u32, f64> = all().map(|bucket| (bucket.index, bucket.up_to_ms)).collect();
        let mut text = String::new();
        let _ = write!(text, "{:>12} ", "up to");
        for target in &self.targets {
            let _ = write!(text, " {:<width$}", target.name, width = BAR + 8);
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
        for (index, up_to_ms) in bounds {
            let mut line = format!("{:>12} ", show_ms(up_to_ms));
            for target in &self.targets {
                let count = target.buckets.iter().find(|bucket| bucket.index == index).map_or(0, |bucket| bucket.count);
                let cell = if count == 0 { String::new() } else { format!("{} {count}", bar(count, most)) };
                let _ = write!(line, " {cell:<width$}", width = BAR + 8);
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// A bar of up to [`BAR`] characters in eighths; whatever is counted shows.
fn bar(count: u64, most: u64) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = ((count as f64 / most.max(1) as f64 * (BAR * 8) as f64).round() as usize).clamp(1, BAR * 8);
    format!("{}{}", "█".repeat(eighths / 8), EIGHTHS[eighths % 8])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::record::{Class, Failure};
    use std::time::Duration;

    fn measured(name: &str, class: Class, ms: u64, status: u16) -> Measured {
        let mut record = Record { scheduled: 1000, ..Record::default() };
        (0..1000).for_each(|i| record.answer(class, status, Duration::from_micros(ms * 1000 + i)));
        Measured::new(name.to_owned(), "X".to_owned(), "127.0.0.1:1".to_owned(), 1.0, &record)
    }

    fn report(targets: Vec<Measured>) -> Report {
        let gain = gain(&targets[0], &targets[1]);
        Report {
            path: "/x".to_owned(),
            client: "London".to_owned(),
            rate: 200.0,
            duration_seconds: 5.0,
            arrivals: "fixed".to_owned(),
            connections: 8,
            distance: true,
            targets,
            gain,
        }
    }

    #[test]
    fn the_gain_is_said_in_words() {
        let report = report(vec![measured("lhr", Class::Hit, 5, 200), measured("origin", Class::Origin, 50, 200)]);
        assert!(
            report.gain[0].contains("9.2 times as fast") || report.gain[0].contains("9.1 times"),
            "{}",
            report.gain[0]
        );
        assert_eq!(report.gain.len(), 2, "{:?}", report.gain);
        let text = report.to_string();
        assert!(text.contains("lhr     hit      1000") && text.contains("origin  origin   1000"), "{text}");
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["targets"][0]["classes"]["hit"]["count"], 1000);
    }

    #[test]
    fn what_spoils_the_figures_is_said_too() {
        let mut origin = measured("origin", Class::Origin, 50, 404);
        origin.failures.insert(Failure::TimedOut.as_str(), 3);
        let edge = measured("lhr", Class::Warm, 80, 200);
        let words = gain(&edge, &origin).join("\n");
        assert!(
            words.contains("lost by the detour") && words.contains("404 x 1000") && words.contains("timed out"),
            "{words}"
        );
    }

    #[test]
    fn a_count_of_one_shows_and_the_most_fills_the_bar() {
        assert_eq!(bar(1, 1_000_000), "▏");
        assert_eq!(bar(5, 5).chars().count(), BAR);
    }
}
