//! What a bench says: a table, a histogram, the gain in words; or all of it as JSON.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use serde::Serialize;

use super::record::{Bucket, Class, Failure, Record, Summary};
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
    /// Connections to each target before the first request.
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
    /// All answers together, and the requests that timed out.
    pub all: Summary,
    /// A PoP's answers by class, every class; the origin has none.
    pub classes: BTreeMap<Class, Summary>,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Requests without an answer, by cause.
    pub failures: BTreeMap<Failure, u64>,
    /// What `all` counts, as a histogram.
    pub buckets: Vec<Bucket>,
    /// Most requests under way at once.
    pub peak_in_flight: usize,
    /// Connections opened during the run, because none was idle.
    pub opened: u64,
    /// Requests that waited for a connection, because no more could be opened.
    pub waited: u64,
    /// How far the generator itself was behind at worst, in milliseconds.
    pub generator_lag_ms: f64,
}

impl Measured {
    /// The figures of `record`, of a PoP or of the origin.
    pub(crate) fn new(
        name: String,
        place: String,
        address: String,
        rtt_ms: f64,
        record: &Record,
        is_pop: bool,
    ) -> Self {
        let classes: &[Class] = if is_pop { &Class::ALL } else { &[] };
        let summary = |class: &Class| record.classes.get(class).cloned().unwrap_or_default().summary();
        Self {
            name,
            place,
            address,
            rtt_ms,
            scheduled: record.scheduled,
            all: record.all.summary(),
            classes: classes.iter().map(|class| (*class, summary(class))).collect(),
            statuses: record.statuses.clone(),
            failures: record.failures.clone(),
            buckets: record.all.buckets(),
            peak_in_flight: record.peak_in_flight,
            opened: record.opened,
            waited: record.waited,
            generator_lag_ms: record.generator_lag.as_secs_f64() * 1000.0,
        }
    }

    /// Answers that were a success or a redirect.
    pub(crate) fn successes(&self) -> u64 {
        self.statuses.iter().filter(|(status, _)| (200..400).contains(*status)).map(|(_, count)| count).sum()
    }

    fn answers(&self) -> u64 {
        self.statuses.values().sum()
    }

    fn statuses(&self) -> String {
        let list = self.statuses.iter().map(|(status, count)| format!("{status} x {count}"));
        list.collect::<Vec<_>>().join(", ")
    }
}

/// Says what an edge gained over the origin, and what stands against taking the figures at their word.
pub(crate) fn gain(edge: &Measured, origin: &Measured) -> Vec<String> {
    let mut words = Vec::new();
    if edge.answers() > 0 && origin.answers() > 0 {
        for (name, edge_ms, origin_ms) in
            [("Half", edge.all.p50_ms, origin.all.p50_ms), ("99 %", edge.all.p99_ms, origin.all.p99_ms)]
        {
            let (Some(edge_ms), Some(origin_ms)) = (edge_ms, origin_ms) else { continue };
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
        if target.answers() == 0 {
            words.push(format!("{} answered nothing.", target.name));
        } else if target.successes() < target.answers() {
            words.push(format!(
                "{} answered {}: its figures are not those of the work you meant.",
                target.name,
                target.statuses()
            ));
        }
        for (failure, count) in &target.failures {
            let why = failure.as_words();
            words.push(format!("{count} of {} requests to {} failed: {why}.", target.scheduled, target.name));
        }
        if target.opened > 0 {
            words.push(format!(
                "{} connections to {} were opened during the run, because none was idle: their requests took a handshake \
                 more.",
                target.opened, target.name
            ));
        }
        if target.waited > 0 {
            words.push(format!(
                "{} requests to {} waited for a connection: the latencies are those of too few connections, not of the \
                 server. Give more with --connections, or less with --rate.",
                target.waited, target.name
            ));
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
            let rows = target.classes.iter().map(|(class, summary)| (class.as_str(), summary));
            for (class, s) in rows.chain([("all", &target.all)]) {
                let figures = [s.p50_ms, s.p90_ms, s.p99_ms, s.p999_ms, s.max_ms];
                let figures = figures.map(|figure| figure.map_or_else(|| "–".to_owned(), show_ms));
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
    use std::time::Duration;

    fn measured(name: &str, class: Option<Class>, ms: u64, status: u16) -> Measured {
        let mut record = Record { scheduled: 1000, ..Record::default() };
        let classes: Vec<Class> = class.into_iter().collect();
        (0..1000).for_each(|i| record.answer(&classes, status, Duration::from_micros(ms * 1000 + i)));
        Measured::new(name.to_owned(), "X".to_owned(), "127.0.0.1:1".to_owned(), 1.0, &record, class.is_some())
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
        let report = report(vec![measured("lhr", Some(Class::Hit), 5, 200), measured("origin", None, 50, 200)]);
        assert!(
            report.gain[0].contains("9.2 times as fast") || report.gain[0].contains("9.1 times"),
            "{}",
            report.gain[0]
        );
        assert_eq!(report.gain.len(), 2, "{:?}", report.gain);
        let text = report.to_string();
        assert!(text.contains("lhr     hit     1000") && text.contains("origin  all     1000"), "{text}");
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["targets"][0]["classes"]["hit"]["count"], 1000);
        assert!(text.contains("lhr     cold       0        –"), "a class without requests has its row: {text}");
        assert_eq!(json["targets"][0]["classes"]["miss"]["p50_ms"], serde_json::Value::Null);
    }

    #[test]
    fn what_spoils_the_figures_is_said_too() {
        let mut origin = measured("origin", None, 50, 404);
        origin.failures.insert(Failure::TimedOut, 3);
        origin.waited = 7;
        let edge = measured("lhr", Some(Class::Warm), 80, 200);
        let words = gain(&edge, &origin).join("\n");
        assert!(
            words.contains("lost by the detour") && words.contains("404 x 1000") && words.contains("timed out"),
            "{words}"
        );
        assert!(words.contains("7 requests to origin waited for a connection"), "{words}");
        assert_eq!((origin.successes(), edge.successes()), (0, 1000));
        assert_eq!(serde_json::to_value(&origin).unwrap()["failures"]["timed_out"], 3);
    }

    #[test]
    fn a_count_of_one_shows_and_the_most_fills_the_bar() {
        assert_eq!(bar(1, 1_000_000), "▏");
        assert_eq!(bar(5, 5).chars().count(), BAR);
    }
}
