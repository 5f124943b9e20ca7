//! What was measured: latencies by class, and what went wrong.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use http::HeaderMap;
use serde::Serialize;

/// Longest latency told apart; longer ones count as this.
pub(crate) const MAX_LATENCY: Duration = Duration::from_secs(120);

/// What made a PoP's answer fast or slow. An answer counts in one row of cold and warm when a function ran, and in one of
/// hit and miss when the cache was asked: a cold start whose `fetch()` missed is in both. Declared in the order of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Class {
    /// The function had no warm isolate: one was started for this request.
    Cold,
    /// A function answered in a warm isolate.
    Warm,
    /// The PoP's cache had it.
    Hit,
    /// The PoP's cache asked the origin.
    Miss,
}

impl Class {
    /// All of them. A report has a row for each, with requests in it or without.
    pub(crate) const ALL: [Self; 4] = [Self::Cold, Self::Warm, Self::Hit, Self::Miss];

    /// The name in tables.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::Warm => "warm",
            Self::Hit => "hit",
            Self::Miss => "miss",
        }
    }

    /// Reads the classes of a PoP's answer from its headers. A `function` phase in `Server-Timing` says that a function
    /// ran, an `isolate` phase that its isolate was started for this request; the last member of `Cache-Status` (RFC
    /// 9211: the cache nearest to the client) says hit or miss.
    pub(crate) fn of(headers: &HeaderMap) -> Vec<Self> {
        let has_phase = |phase: &str| {
            let lines = headers.get_all("server-timing");
            lines.iter().any(|line| members(line).any(|member| name(member) == phase))
        };
        let isolate = match (has_phase("isolate"), has_phase("function")) {
            (true, _) => Some(Self::Cold),
            (false, true) => Some(Self::Warm),
            (false, false) => None,
        };
        let last = headers.get_all("cache-status").iter().next_back();
        let cache = last.and_then(|line| members(line).last().map(parameters)).and_then(|parameters| {
            if parameters.iter().any(|p| p == "hit") {
                Some(Self::Hit)
            } else {
                parameters.iter().any(|p| is_fetch(p)).then_some(Self::Miss)
            }
        });
        isolate.into_iter().chain(cache).collect()
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

/// Why a request has no answer.
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
    /// What people read. Programs read the snake_case of its name.
    pub(crate) fn as_words(self) -> &'static str {
        match self {
            Self::Connect => "no connection",
            Self::Broken => "connection broken",
            Self::TimedOut => "timed out",
            Self::Dropped => "not sent, too many under way",
        }
    }
}

/// The percentiles of one class, in milliseconds; `None` when no request was in it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Summary {
    /// Requests.
    pub count: u64,
    /// Median.
    pub p50_ms: Option<f64>,
    /// 90 %.
    pub p90_ms: Option<f64>,
    /// 99 %.
    pub p99_ms: Option<f64>,
    /// 99.9 %.
    pub p999_ms: Option<f64>,
    /// Slowest.
    pub max_ms: Option<f64>,
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

    /// The latency that the share `quantile` (0 to 1) of requests does not exceed, in milliseconds.
    pub(crate) fn quantile_ms(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile) as f64 / 1000.0
    }

    /// Count and percentiles.
    pub(crate) fn summary(&self) -> Summary {
        let at = |quantile| (self.count() > 0).then(|| self.quantile_ms(quantile));
        Summary {
            count: self.count(),
            p50_ms: at(0.5),
            p90_ms: at(0.9),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            max_ms: (self.count() > 0).then(|| self.0.max() as f64 / 1000.0),
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
    /// Latency from the instant a request was due to the last byte of its answer. A request that timed out is in it with
    /// the time it waited, the least that its latency can have been: left out, it would hide the stall.
    pub all: Latencies,
    /// The answers' latencies by class.
    pub classes: BTreeMap<Class, Latencies>,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Requests without an answer.
    pub failures: BTreeMap<Failure, u64>,
    /// Most requests under way at once.
    pub peak_in_flight: usize,
    /// Connections opened during the run, because none was idle.
    pub opened: u64,
    /// Requests that found no connection idle and none left to open, and waited for one.
    pub waited: u64,
    /// Latest start of a request after its due time: how far the generator itself was behind.
    pub generator_lag: Duration,
}

impl Record {
    /// Counts an answer.
    pub(crate) fn answer(&mut self, classes: &[Class], status: u16, latency: Duration) {
        self.all.record(latency);
        for class in classes {
            self.classes.entry(*class).or_default().record(latency);
        }
        *self.statuses.entry(status).or_default() += 1;
    }

    /// Counts a request without one, `waited` after it was due.
    pub(crate) fn failure(&mut self, failure: Failure, waited: Duration) {
        if failure == Failure::TimedOut {
            self.all.record(waited);
        }
        *self.failures.entry(failure).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes(headers: &[(&'static str, &'static str)]) -> Vec<&'static str> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, http::HeaderValue::from_static(value));
        }
        Class::of(&map).into_iter().map(Class::as_str).collect()
    }

    #[test]
    fn the_classes_of_an_answer_are_read_from_its_headers() {
        assert!(classes(&[]).is_empty());
        assert_eq!(classes(&[("server-timing", "route;dur=0.1, function;dur=1.2")]), ["warm"]);
        assert_eq!(classes(&[("server-timing", "route;dur=0.1"), ("server-timing", "isolate;dur=3")]), ["cold"]);
        assert!(classes(&[("server-timing", "route;desc=\"a, isolate;dur=2\"")]).is_empty());
        assert_eq!(classes(&[("cache-status", "lhr; hit; ttl=30")]), ["hit"]);
        assert_eq!(classes(&[("cache-status", "lhr; fwd=uri-miss; stored")]), ["miss"]);
        assert!(classes(&[("cache-status", "lhr; fwd=bypass")]).is_empty());
        assert_eq!(classes(&[("cache-status", "origin; hit, \"lhr; hit\"; fwd=stale; detail=\"hit\"")]), ["miss"]);
        assert_eq!(classes(&[("cache-status", "shield; fwd=miss"), ("cache-status", "lhr; hit")]), ["hit"]);
        let first = [("server-timing", "isolate;dur=3, function;dur=9"), ("cache-status", "lhr; fwd=uri-miss")];
        assert_eq!(classes(&first), ["cold", "miss"], "the start of an isolate does not hide the miss");
    }

    #[test]
    fn percentiles_have_three_digits_and_long_stalls_are_kept() {
        let mut latencies = Latencies::default();
        (1..=1000).for_each(|ms| latencies.record(Duration::from_millis(ms)));
        latencies.record(Duration::from_secs(3600));
        let summary = latencies.summary();
        assert_eq!(summary.count, 1001);
        assert!(
            (summary.p50_ms.unwrap() - 501.0).abs() < 1.0 && (summary.p99_ms.unwrap() - 991.0).abs() < 2.0,
            "{summary:?}"
        );
        assert!((summary.max_ms.unwrap() - 120_000.0).abs() < 200.0, "{summary:?}");
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
    fn every_answer_and_every_timeout_is_in_the_whole() {
        let mut record = Record::default();
        record.answer(&[Class::Cold, Class::Miss], 200, Duration::from_millis(9));
        record.answer(&[Class::Warm, Class::Hit], 200, Duration::from_millis(1));
        record.failure(Failure::TimedOut, Duration::from_secs(30));
        record.failure(Failure::Dropped, Duration::ZERO);
        assert_eq!((record.all.count(), record.statuses[&200], record.failures[&Failure::Dropped]), (3, 2, 1));
        assert!(record.all.quantile_ms(1.0) >= 29_900.0);
        assert_eq!(Latencies::default().summary().p50_ms, None, "no figure is made up for an empty class");
    }
}
