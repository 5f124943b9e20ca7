use std::time::Duration;

use http::{HeaderMap, StatusCode};
use isolate::limits;

use super::count::{BOUNDS, Histogram};
use super::*;
use crate::config::Config;
use crate::fault::Fault;

fn state(most: usize) -> std::sync::Arc<State> {
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let folder = tempfile::tempdir().unwrap();
    State::new(&Config {
        name: "lhr".to_owned(),
        city: None,
        listen: address,
        origin: "http://127.0.0.1:1".parse().unwrap(),
        control: "http://127.0.0.1:1".parse().unwrap(),
        token: "t".to_owned(),
        purge_fence: Duration::from_secs(10),
        nats: None,
        data: folder.path().to_owned(),
        geo: None,
        trust: Vec::new(),
        allow_fetch: Vec::new(),
        workers: 2,
        cache_bytes: 1 << 20,
        cache_disk: None,
        isolate_bytes: 1 << 20,
        ready: 0,
        admin: None,
        metrics_functions: most,
        meter_every: Duration::from_secs(10),
        prices: capacity::price::PriceBook::embedded(),
        snapshot_maker: None,
        isolation: origin::bundle::Isolation::Isolate,
        cell_program: None,
        protection: crate::config::Protection::default(),
        shields: Vec::new(),
        regions: Vec::new(),
        place_prices: None,
        region: None,
    })
    .unwrap()
}

fn has(page: &str, line: &str) -> bool {
    page.lines().any(|it| it == line)
}

#[test]
fn what_the_workers_count_is_added_up_by_function_and_outcome() {
    let state = state(100);
    let hello = state.metrics.functions.series(&"hello".parse().unwrap());
    let again = state.metrics.functions.series(&"hello".parse().unwrap());
    hello.share(0).request(StatusCode::OK, None, Duration::from_micros(150));
    again.share(1).request(StatusCode::OK, None, Duration::from_secs(3));
    again.share(1).request(StatusCode::IM_A_TEAPOT, None, Duration::from_secs(60));
    hello.share(1).request(StatusCode::SERVICE_UNAVAILABLE, Some(&Fault::Draining), Duration::ZERO);
    hello.share(0).used(Duration::from_millis(1250));
    hello.share(1).used(Duration::from_millis(250));
    let page = page(&state, Format::Prometheus);
    for line in [
        "skerry_requests_total{function=\"hello\",outcome=\"ok\",status=\"2xx\"} 2",
        "skerry_requests_total{function=\"hello\",outcome=\"ok\",status=\"4xx\"} 1",
        "skerry_requests_total{function=\"hello\",outcome=\"overload/draining\",status=\"5xx\"} 1",
        "skerry_request_duration_seconds_bucket{function=\"hello\",le=\"0.0001\"} 1",
        "skerry_request_duration_seconds_bucket{function=\"hello\",le=\"0.0002\"} 2",
        "skerry_request_duration_seconds_bucket{function=\"hello\",le=\"5.0\"} 3",
        "skerry_request_duration_seconds_bucket{function=\"hello\",le=\"30.0\"} 3",
        "skerry_request_duration_seconds_bucket{function=\"hello\",le=\"+Inf\"} 4",
        "skerry_request_duration_seconds_sum{function=\"hello\"} 63.00015",
        "skerry_request_duration_seconds_count{function=\"hello\"} 4",
        "skerry_function_cpu_seconds_total{function=\"hello\"} 1.5",
        "skerry_function_labels 1",
        "skerry_function_labels_max 100",
    ] {
        assert!(has(&page, line), "{line} is not in\n{page}");
    }
}

#[test]
fn every_limit_is_counted_under_its_code() {
    let state = state(100);
    let share = state.metrics.functions.series(&"f".parse().unwrap());
    for row in &limits::TABLE {
        let fault = isolate::Fault::Limit { limit: row.limit, value: row.default };
        share.share(0).failed(&fault);
        share.share(1).request(StatusCode::from_u16(row.status()).unwrap(), Some(&fault.into()), Duration::ZERO);
    }
    let page = page(&state, Format::Prometheus);
    for row in &limits::TABLE {
        let (code, class) = (row.code, row.status() / 100);
        for line in [
            format!("skerry_limit_broken_total{{function=\"f\",limit=\"{code}\"}} 1"),
            format!("skerry_function_failures_total{{function=\"f\",code=\"{code}\"}} 1"),
            format!("skerry_requests_total{{function=\"f\",outcome=\"{code}\",status=\"{class}xx\"}} 1"),
        ] {
            assert!(has(&page, &line), "{line} is not in\n{page}");
        }
    }
}

#[test]
fn functions_beyond_the_bound_share_a_label_and_a_deleted_one_gives_its_own_back() {
    let state = state(2);
    let functions = &state.metrics.functions;
    let series = |name: &str| functions.series(&name.parse().unwrap());
    let count = |name: &str| series(name).share(0).request(StatusCode::OK, None, Duration::ZERO);
    for name in ["a", "other", "b", "c", "d", "a"] {
        count(name);
    }
    let requests = |page: &str, label: &str| {
        let start = format!("skerry_requests_total{{function=\"{label}\",outcome=\"ok\",status=\"2xx\"}} ");
        page.lines().find_map(|line| line.strip_prefix(&start).map(|count| count.parse::<u64>().unwrap()))
    };
    let before = page(&state, Format::Prometheus);
    let counts = ["a", "b", "c", "d", "other"].map(|label| requests(&before, label));
    assert_eq!(counts, [Some(2), Some(1), None, None, Some(3)]);
    let gone = series("a");
    functions.retain(|name| name.as_str() != "a");
    gone.share(0).request(StatusCode::OK, None, Duration::ZERO);
    count("c");
    let after = page(&state, Format::Prometheus);
    assert_eq!(["a", "b", "c", "other"].map(|label| requests(&after, label)), [None, Some(1), Some(1), Some(3)]);
    assert!(after.lines().filter(|line| line.contains("function=\"other\"")).count() > 1);
}

#[test]
fn a_duration_is_in_the_first_bucket_whose_bound_it_does_not_pass() {
    let histogram = Histogram::default();
    for bound in BOUNDS {
        histogram.observe(Duration::from_secs_f64(bound));
        histogram.observe(Duration::from_secs_f64(bound) + Duration::from_nanos(1));
    }
    let counts = histogram.totals().counts;
    assert_eq!((counts[0], counts[BOUNDS.len()]), (1, 1));
    assert!(counts[1..BOUNDS.len()].iter().all(|count| *count == 2), "{counts:?}");
}

#[test]
fn names_follow_the_conventions_and_every_row_is_shown_once() {
    let page = page(&state(1), Format::OpenMetrics);
    for (place, row) in TABLE.iter().enumerate() {
        let Row { name, kind, labels, help, .. } = row;
        assert!(name.starts_with("skerry_") || name.starts_with("process_"), "{name}");
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'), "{name}");
        assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
        assert!(*kind != Kind::Histogram || name.ends_with("_seconds"), "{name}");
        assert!(!labels.contains(&"le") && help.ends_with('.'), "{name}");
        assert!(TABLE[..place].iter().all(|other| other.name != *name), "{name} is there twice");
        let family = name.strip_suffix("_total").unwrap_or(name);
        assert_eq!(page.matches(&format!("# TYPE {family} ")).count(), 1, "{name}");
    }
    assert!(page.ends_with("\n# EOF\n"));
}

#[test]
fn what_labels_say_cannot_end_them() {
    let mut text = String::new();
    let mut samples = Samples::of(&mut text, &TABLE[2]);
    samples.put(&["a\"b\\c\nd"], 1);
    assert_eq!(text, "skerry_function_cpu_seconds_total{function=\"a\\\"b\\\\c\\nd\"} 1\n");
}

#[test]
fn the_format_is_the_one_that_is_liked_best() {
    for (accept, format) in [
        (None, Format::Prometheus),
        (Some("*/*"), Format::Prometheus),
        (Some("text/html, image/webp"), Format::Prometheus),
        (Some("application/openmetrics-text"), Format::OpenMetrics),
        (Some("Application/OpenMetrics-Text; version=1.0.0"), Format::OpenMetrics),
        // What Prometheus 2.42 sends, and an older one.
        (
            Some(
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            ),
            Format::OpenMetrics,
        ),
        (Some("text/plain;version=0.0.4;q=1,*/*;q=0.1"), Format::Prometheus),
        (Some("text/plain;q=0.9, application/openmetrics-text;q=0.3"), Format::Prometheus),
        (Some("application/openmetrics-text;q=0, */*;q=0.1"), Format::Prometheus),
        (Some("application/openmetrics-text;q=nan"), Format::Prometheus),
    ] {
        let mut headers = HeaderMap::new();
        accept.map(|accept: &str| headers.insert(http::header::ACCEPT, accept.parse().unwrap()));
        assert_eq!(Format::of(&headers), format, "{accept:?}");
    }
}
