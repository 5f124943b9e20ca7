//! Each case names the test of kubernetes/autoscaler, `vertical-pod-autoscaler/pkg/recommender`, whose numbers it replays.

use proptest::prelude::*;

use super::*;
use crate::Moment;

const START: Moment = Moment::from_secs(1_234_567_890);
const HOUR: Duration = Duration::from_secs(3600);
const MB: f64 = (1 << 20) as f64;

const TENS: Buckets = Buckets::Linear { size: 1.0, max: 10.0 };

fn near(left: f64, right: f64, part: f64) -> bool {
    (left - right).abs() <= part * right
}

#[test]
fn percentiles_are_ends_of_buckets() {
    // TestPercentiles, TestNoDecay, TestPercentilesEmptyHistogram, TestPercentileOutOfBounds.
    let mut histogram = Histogram::new(TENS);
    assert_eq!(histogram.percentile(0.5), None);
    for i in 1..=4 {
        histogram.add(f64::from(i), f64::from(i));
    }
    for (part, value) in [
        (-1.0, 2.0),
        (0.0, 2.0),
        (0.1, 2.0),
        (0.2, 3.0),
        (0.3, 3.0),
        (0.4, 4.0),
        (0.6, 4.0),
        (0.7, 5.0),
        (1.0, 5.0),
        (1.5, 5.0),
    ] {
        assert_eq!(histogram.percentile(part), Some(value), "{part}");
    }
    histogram.add(1e9, 100.0);
    assert_eq!(histogram.percentile(1.0), Some(10.0), "the last bucket has no end");
    histogram.add(f64::NAN, 1e9);
    histogram.add(-1.0, 1e9);
    assert_eq!(histogram.percentile(0.0), Some(2.0));
}

#[test]
fn samples_lose_half_their_weight_in_each_half_life() {
    let mut histogram = Decaying::new(TENS, HOUR);
    for i in 1..=4 {
        histogram.add(f64::from(i), f64::from(i), START + HOUR * (i as u32 - 1));
    }
    // TestDecayingHistogramPercentiles.
    for (part, value) in
        [(0.0, 2.0), (0.02, 2.0), (0.03, 3.0), (0.10, 3.0), (0.11, 4.0), (0.34, 4.0), (0.35, 5.0), (1.0, 5.0)]
    {
        assert_eq!(histogram.histogram().percentile(part), Some(value), "{part}");
    }
    // TestSimpleDecay.
    let mut histogram = Decaying::new(TENS, HOUR);
    histogram.add(2.0, 1000.0, START);
    histogram.add(1.0, 1.0, START + HOUR * 20);
    assert_eq!(histogram.histogram().percentile(0.999), Some(2.0));
    assert_eq!(histogram.histogram().percentile(1.0), Some(3.0));
    // TestLongtermDecay.
    let mut histogram = Decaying::new(TENS, HOUR);
    histogram.add(2.0, 1.0, START);
    histogram.add(1.0, 1.0, START + HOUR * 101);
    assert_eq!(histogram.histogram().percentile(1.0), Some(2.0));
}

#[test]
fn buckets_of_use_are_as_wide_as_five_percent() {
    // TestPercentileEstimator.
    let read = |buckets, values: [f64; 3], part| {
        let mut histogram = Histogram::new(buckets);
        values.iter().for_each(|value| histogram.add(*value, 1.0));
        histogram.percentile(part).unwrap()
    };
    assert!(near(read(Buckets::CPU_MS, [1000.0, 2000.0, 3000.0], 0.2), 1000.0, 0.05));
    assert!(near(read(Buckets::MEMORY, [1e9, 2e9, 3e9], 0.5), 2e9, 0.05));
}

#[test]
fn little_history_moves_the_bounds_away() {
    // TestConfidenceMultiplier and ...WithCustomInterval: nine samples, one in two minutes.
    let mut usage = Usage::new(&Vertical::default());
    assert_eq!(usage.confidence(HOUR * 24), 0.0);
    for i in 0..9 {
        usage.cpu_peak(1.0, 1, START + Duration::from_secs(120 * i)).unwrap();
    }
    assert_eq!(usage.confidence(HOUR * 24), 0.00625);
    assert_eq!(usage.confidence(Duration::from_secs(18 * 60)), 0.5);
    assert!(near(multiplier(0.1, 2.0, 0.00625), 907.46 / 314.0 * 100.0, 1e-9));
    assert!(near(multiplier(0.1, 2.0, 0.5), 4.5216 / 314.0 * 100.0, 1e-9));
    // TestConfidenceMultiplierNoHistory.
    assert_eq!(multiplier(1.0, 1.0, 0.0), f64::INFINITY);
    assert_eq!(multiplier(1.0, -1.0, 0.0), 0.0);
    // The table in the comments of `CreatePodResourceRecommender`.
    for (days, times) in [(0.5, 3.0), (1.0, 2.0), (7.0, 1.14)] {
        assert!(near(multiplier(1.0, 1.0, days), times, 0.01));
    }
    for (minutes, times) in [(5.0, 0.6), (30.0, 0.9), (60.0, 0.95)] {
        assert!(near(multiplier(0.001, -2.0, minutes / 1440.0), times, 0.02), "{minutes}");
    }
}

/// Use of a function whose only sample of memory tells the peaks: the percentiles show what the histogram holds.
fn peaks(usage: &Usage) -> (f64, f64) {
    let read = |part| usage.memory().percentile(part).unwrap();
    (read(0.0), read(1.0))
}

#[test]
fn memory_counts_one_peak_for_each_interval() {
    // TestAggregateContainerUsageSamples: the middle sample replaces the first, the third begins an interval.
    let mut usage = Usage::new(&Vertical::default());
    usage.memory_now(5e8, START).unwrap();
    usage.memory_now(10e8, START + HOUR * 12).unwrap();
    let (low, high) = peaks(&usage);
    assert!(near(low, 10e8, 0.05) && near(high, 10e8, 0.05), "{low} {high}");
    usage.memory_now(2e8, START + HOUR * 24).unwrap();
    let (low, high) = peaks(&usage);
    assert!(near(low, 2e8, 0.05) && near(high, 10e8, 0.05), "{low} {high}");
    assert_eq!(usage.memory_now(1.0, START), Err(Rejected::OutOfOrder));
    assert_eq!(usage.memory_now(-1.0, START + HOUR * 48), Err(Rejected::NoNumber));
    usage.cpu_peak(1.0, 1, START).unwrap();
    assert_eq!(usage.cpu_peak(1.0, 1, START), Err(Rejected::OutOfOrder));
    assert_eq!(usage.cpu_peak(f64::NAN, 1, START + HOUR), Err(Rejected::NoNumber));
}

#[test]
fn running_out_of_memory_raises_the_need_and_does_not_run_away() {
    let config = Vertical { out_of_memory_least: 100.0 * MB, ..Vertical::default() };
    let new = || Usage::new(&config);
    let peak = |usage: &Usage| peaks(usage).1;

    let mut usage = new();
    usage.out_of_memory(&config, 1000.0 * MB, START).unwrap();
    assert!(near(peak(&usage), 1200.0 * MB, 0.05), "RecordOOMIncreasedByBumpUp");
    usage.out_of_memory(&config, 999.0 * MB, START).unwrap();
    usage.out_of_memory(&config, 999.0 * MB, START).unwrap();
    assert!(near(peak(&usage), 1200.0 * MB, 0.05), "RecordOOMDontRunAway");
    usage.out_of_memory(&config, 2000.0 * MB, START).unwrap();
    assert!(near(peak(&usage), 2400.0 * MB, 0.05), "a larger one counts");

    let mut usage = new();
    usage.out_of_memory(&config, MB, START).unwrap();
    assert!(near(peak(&usage), 101.0 * MB, 0.05), "RecordOOMIncreasedByMin");

    let mut usage = new();
    usage.memory_now(3000.0 * MB, START).unwrap();
    usage.out_of_memory(&config, 1000.0 * MB, START).unwrap();
    assert!(near(peak(&usage), 3600.0 * MB, 0.05), "RecordOOMMaxedWithKnownSample");
    assert_eq!(
        usage.out_of_memory(&config, 1000.0 * MB, START.before(HOUR * 30)),
        Err(Rejected::TooOld),
        "RecordOOMDiscardsOldSample"
    );
    usage.out_of_memory(&config, 1000.0 * MB, START + HOUR * 48).unwrap();
    assert!(near(peaks(&usage).0, 3600.0 * MB, 0.05), "RecordOOMInNewWindow: from the peak that was known");

    let mut usage = new();
    usage.memory_now(100.0 * MB, START).unwrap();
    usage.memory_now(2000.0 * MB, START + HOUR * 24).unwrap();
    usage.out_of_memory(&config, 1000.0 * MB, (START + HOUR * 24).before(Duration::from_secs(1))).unwrap();
    assert!(near(peak(&usage), 2400.0 * MB, 0.05), "RecordOOMFreshOOMNearWindowBoundaryIsNotDiscarded");
}

#[test]
fn a_need_has_a_margin_a_least_and_bounds() {
    let config = Vertical::default();
    let mut usage = Usage::new(&config);
    assert_eq!(config.need(&usage), None);
    for minute in 0..1440_u64 {
        let at = START + Duration::from_secs(60 * minute);
        usage.cpu_peak(if minute % 10 == 0 { 40.0 } else { 4.0 }, 1, at).unwrap();
        usage.memory_now(MB, at).unwrap();
    }
    let need = config.need(&usage).unwrap();
    assert!(need.cpu_ms.lower < need.cpu_ms.target && need.cpu_ms.target < need.cpu_ms.upper, "{need:?}");
    assert!(near(need.cpu_ms.lower, 4.0 * 1.15, 0.06), "half of the peaks: {need:?}");
    assert!(near(need.cpu_ms.upper, 40.0 * 1.15 * 2.0, 0.06), "a day of history doubles the upper bound: {need:?}");
    assert_eq!(need.memory.target, config.least_memory, "MinResourcesApplied");
}

#[test]
fn busy_whiles_weigh_more() {
    let config = Vertical::default();
    let mut usage = Usage::new(&config);
    for minute in 0..100_u64 {
        let (ms, invocations) = if minute < 80 { (2.0, 1) } else { (50.0, 1000) };
        usage.cpu_peak(ms, invocations, START + Duration::from_secs(60 * minute)).unwrap();
    }
    assert!(near(usage.cpu().percentile(0.1).unwrap(), 50.0, 0.06));
}

#[test]
fn errors_of_configuration_name_the_key() {
    let text = "target_percentile = 2\nmargin = -1\nhalf_life = \"0s\"\nout_of_memory_ratio = 0.5";
    let keys: Vec<_> =
        toml::from_str::<Vertical>(text).unwrap().validate().unwrap_err().0.into_iter().map(|e| e.key).collect();
    assert_eq!(keys, ["target_percentile", "upper_percentile", "margin", "half_life", "out_of_memory_ratio"]);
    Vertical::default().validate().unwrap();
}

proptest! {
    #[test]
    fn percentiles_rise_with_their_part_and_hold_what_was_added(values in prop::collection::vec((0.0..1e7_f64, 0_u64..10_000_000), 1..100), a in 0.0..1.0_f64, b in 0.0..1.0_f64) {
        let mut histogram = Decaying::new(Buckets::CPU_MS, HOUR);
        for (value, at) in &values {
            histogram.add(*value, 1.0, Moment::from_secs(*at));
        }
        let read = |part| histogram.histogram().percentile(part).unwrap();
        prop_assert!(read(a.min(b)) <= read(a.max(b)));
        prop_assert!(read(0.0) > 0.0 && read(1.0) <= 1.06e6);
    }
}
