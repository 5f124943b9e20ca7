//! What was measured: latencies by class, and what went wrong.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use http::HeaderMap;
use serde::Serialize;

/// Longest latency told apart; longer ones count as this.
pub(crate) const MAX_LATENCY: Duration = Duration::from_secs(120);

/// What made an answer fast or slow. Declared in the order in which rows are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Class {
    /// The function had no warm isolate: one was started for this request.
    Cold,
    /// A function answered in a warm isolate.
    Warm,
    /// The PoP's cache asked the origin.
    Miss,
    /// The PoP's cache had it.
    Hit,
    /// The origin itself answered.
    Origin,
}

impl Class {
    /// The name in tables and JSON.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::Warm => "warm",
            Self::Miss => "miss",
            Self::Hit => "hit",
            Self::Origin => "origin",
        }
    }

    /// Reads the class of a PoP's answer from its headers: an `isolate` phase in `Server-Timing` is a start, else the
    /// last member of `Cache-Status` (RFC 9211: the cache nearest to the client) says hit or miss, else a warm isolate
    /// answered.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let timing = headers.get_all("server-timing");
        if timing.iter().any(|line| members(line).any(|member| name(member) == "isolate")) {
            return Self::Cold;
        }
        let last = headers.get_all("cache-status").iter().next_back();
        match last.and_then(|line| members(line).last().map(parameters)) {
            Some(parameters) if parameters.iter().any(|p| p == "hit") => Self::Hit,
            Some(parameters) if parameters.iter().any(|p| is_fetch(p)) => Self::Miss,
            _ => Self::Warm,
        }
    }
}

/// Whether a `Cache-Status` parameter says that the request went on to the origin. `fwd=bypass` and `fwd=method` say
/// that the cache had no part in it.
fn is_fetch(parameter: &str) -> bool {
    parameter.strip_prefix("fwd=").is_some_and(|reason| !matches!(reason, "bypass" | "method"))
}

/// The members of a structured list, split at commas outside quotes.
fn members(value: &http::HeaderValue) -> impl Iterator<Item = &str> {
    split(value.to_str().unwrap_or_default(), ',')
}

fn name(member: &str) -> &str {
    split(member, ';').next().unwrap_or_default()
}

fn parameters(member: &str) -> Vec<String> {
    split(member, ';').skip(1).map(str::to_ascii_lowercase).collect()
}

fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    let mut escaped = false;
    text.split(move |c| {
        let cut = c == separator && !quoted;
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => {}
        }
        cut
    })
    .map(str::trim)
    .filter(|part| !part.is_empty())
}

/// Why a request has no latency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Failure {
    /// No connection.
    Connect,
    /// The connection broke before the answer was whole.
    Broken,
    /// No whole answer within the time limit.
    TimedOut,
    /// Not sent: the bound on requests under way was reached.
    Dropped,
}

impl Failure {
    /// The name in tables and JSON.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "no connection",
            Self::Broken => "connection broken",
            Self::TimedOut => "timed out",
            Self::Dropped => "not sent, too many under way",
        }
    }
}

/// The percentiles of one class, in milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Summary {
    /// Requests.
    pub count: u64,
    /// Median.
    pub p50_ms: f64,
    /// 90 %.
    pub p90_ms: f64,
    /// 99 %.
    pub p99_ms: f64,
    /// 99.9 %.
    pub p999_ms: f64,
    /// Slowest.
    pub max_ms: f64,
}

/// Latencies in microseconds with three significant digits, and their summary.
#[derive(Clone, Debug)]
pub(crate) struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        let most = MAX_LATENCY.as_micros() as u64;
        Self(Histogram::new_with_bounds(1, most, 3).expect("the bounds and the precision are constants in range"))
    }
}

impl Latencies {
    /// Counts one request.
    pub(crate) fn record(&mut self, latency: Duration) {
        self.0.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).max(1));
    }

    /// Requests counted.
    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    /// Counts all of `other` too.
    pub(crate) fn add(&mut self, other: &Self) {
        // Both have the same bounds, so no value can be out of range.
        let _ = self.0.add(&other.0);
    }

    /// The latency that the share `quantile` (0 to 1) of requests does not exceed, in milliseconds.
    pub(crate) fn quantile_ms(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile) as f64 / 1000.0
    }

    /// Count and percentiles.
    pub(crate) fn summary(&self) -> Summary {
        Summary {
            count: self.count(),
            p50_ms: self.quantile_ms(0.5),
            p90_ms: self.quantile_ms(0.9),
            p99_ms: self.quantile_ms(0.99),
            p999_ms: self.quantile_ms(0.999),
            max_ms: self.0.max() as f64 / 1000.0,
        }
    }

    /// Counts in [`Bucket`]s, from the first with a request to the last, empty ones between them included.
    pub(crate) fn buckets(&self) -> Vec<Bucket> {
        let mut counts: BTreeMap<u32, u64> = BTreeMap::new();
        for value in self.0.iter_recorded() {
            let index = (value.value_iterated_to() as f64).log2() * BUCKETS_PER_DOUBLING;
            *counts.entry(index.ceil().max(0.0) as u32).or_default() += value.count_since_last_iteration();
        }
        let (first, last) = (counts.keys().next().copied(), counts.keys().next_back().copied());
        let all = first.zip(last).map(|(first, last)| first..=last);
        let bucket = |index| Bucket {
            index,
            up_to_ms: (f64::from(index) / BUCKETS_PER_DOUBLING).exp2() / 1000.0,
            count: counts.get(&index).copied().unwrap_or_default(),
        };
        all.into_iter().flatten().map(bucket).collect()
    }
}

/// Buckets until their bound has doubled.
const BUCKETS_PER_DOUBLING: f64 = 2.0;

/// One bar of a histogram whose buckets widen by the square root of two.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Bucket {
    /// Which: the same number is the same bucket in every histogram.
    #[serde(skip)]
    pub index: u32,
    /// Upper bound in milliseconds.
    pub up_to_ms: f64,
    /// Requests in it.
    pub count: u64,
}

/// Everything measured at one target.
#[derive(Clone, Debug, Default)]
pub(crate) struct Record {
    /// Requests that were due.
    pub scheduled: u64,
    /// Latency from the instant a request was due to the last byte of its answer.
    pub classes: BTreeMap<Class, Latencies>,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Requests without an answer.
    pub failures: BTreeMap<Failure, u64>,
    /// Most requests under way at once.
    pub peak_in_flight: usize,
    /// Latest start of a request after its due time: how far the generator itself was behind.
    pub generator_lag: Duration,
}

impl Record {
    /// Counts an answer.
    pub(crate) fn answer(&mut self, class: Class, status: u16, latency: Duration) {
        self.classes.entry(class).or_default().record(latency);
        *self.statuses.entry(status).or_default() += 1;
    }

    /// Counts a request without one.
    pub(crate) fn failure(&mut self, failure: Failure) {
        *self.failures.entry(failure).or_default() += 1;
    }

    /// All classes together.
    pub(crate) fn all(&self) -> Latencies {
        self.classes.values().fold(Latencies::default(), |mut all, class| {
            all.add(class);
            all
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(headers: &[(&'static str, &'static str)]) -> Class {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, http::HeaderValue::from_static(value));
        }
        Class::of(&map)
    }

    #[test]
    fn the_class_of_an_answer_is_read_from_its_headers() {
        assert_eq!(class(&[]), Class::Warm);
        assert_eq!(class(&[("server-timing", "route;dur=0.1, function;dur=1.2")]), Class::Warm);
        assert_eq!(class(&[("server-timing", "route;dur=0.1"), ("server-timing", "isolate;dur=3")]), Class::Cold);
        assert_eq!(class(&[("server-timing", "route;desc=\"a, isolate;dur=2\"")]), Class::Warm);
        assert_eq!(class(&[("cache-status", "lhr; hit; ttl=30")]), Class::Hit);
        assert_eq!(class(&[("cache-status", "lhr; fwd=uri-miss; stored")]), Class::Miss);
        assert_eq!(class(&[("cache-status", "lhr; fwd=bypass")]), Class::Warm);
        assert_eq!(class(&[("cache-status", "origin; hit, \"lhr; hit\"; fwd=stale; detail=\"hit\"")]), Class::Miss);
        assert_eq!(class(&[("cache-status", "shield; fwd=miss"), ("cache-status", "lhr; hit")]), Class::Hit);
    }

    #[test]
    fn percentiles_have_three_digits_and_long_stalls_are_kept() {
        let mut latencies = Latencies::default();
        (1..=1000).for_each(|ms| latencies.record(Duration::from_millis(ms)));
        latencies.record(Duration::from_secs(3600));
        let summary = latencies.summary();
        assert_eq!(summary.count, 1001);
        assert!((summary.p50_ms - 501.0).abs() < 1.0 && (summary.p99_ms - 991.0).abs() < 2.0, "{summary:?}");
        assert!((summary.max_ms - 120_000.0).abs() < 200.0, "{summary:?}");
    }

    #[test]
    fn buckets_widen_evenly_and_leave_no_gap_and_lose_no_request() {
        let mut latencies = Latencies::default();
        for us in [900, 1000, 1024, 1030, 4000] {
            latencies.record(Duration::from_micros(us));
        }
        let buckets: Vec<_> =
            latencies.buckets().iter().map(|b| (b.index, (b.up_to_ms * 1000.0) as u64, b.count)).collect();
        assert_eq!(buckets, [(20, 1024, 3), (21, 1448, 1), (22, 2048, 0), (23, 2896, 0), (24, 4096, 1)]);
        assert!(Latencies::default().buckets().is_empty());
    }

    #[test]
    fn all_classes_together_count_every_answer() {
        let mut record = Record::default();
        record.answer(Class::Hit, 200, Duration::from_millis(1));
        record.answer(Class::Miss, 200, Duration::from_millis(9));
        record.failure(Failure::Dropped);
        assert_eq!((record.all().count(), record.statuses[&200], record.failures[&Failure::Dropped]), (2, 2, 1));
    }
}
