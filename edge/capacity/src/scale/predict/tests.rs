use proptest::prelude::*;

use super::*;

/// A day of 48 points, three hours ahead.
fn config() -> Predict {
    let minutes = |n: u64| Duration::from_secs(60 * n);
    Predict { step: minutes(30), horizon: minutes(180), ..Predict::default() }
}

/// Numbers that look random, from 0 to 1 (splitmix64).
fn noise(i: usize) -> f64 {
    let mixed = (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((mixed ^ mixed >> 31) >> 11) as f64 / (1_u64 << 53) as f64
}

fn day(i: usize) -> f64 {
    100.0 + 80.0 * (std::f64::consts::TAU * i as f64 / 48.0).sin()
}

fn series(points: usize, value: impl Fn(usize) -> f64) -> Vec<Option<f64>> {
    (0..points).map(|i| Some(value(i))).collect()
}

#[test]
fn a_line_goes_on_as_a_line() {
    let forecast = config().forecast(&series(60, |i| 10.0 + 2.0 * i as f64)).unwrap();
    assert_eq!(forecast.backtest.model, Model::Drift);
    assert!(forecast.backtest.wape < 1e-9);
    for (step, point) in forecast.points.iter().enumerate() {
        assert!((point.expected - (10.0 + 2.0 * (60 + step) as f64)).abs() < 1e-6);
    }
}

#[test]
fn days_that_are_alike_go_on_alike_and_grow_as_they_grew() {
    let forecast = config().forecast(&series(48 * 7, |i| day(i) + (i / 48) as f64 * 10.0)).unwrap();
    assert_eq!(forecast.backtest.model, Model::SeasonalDrift, "{:?}", forecast.tried);
    assert!((forecast.points[3].expected - (day(3) + 70.0)).abs() < 1e-6);
    assert_eq!(forecast.tried.len(), 3);
}

#[test]
fn noisy_days_are_smoothed_and_their_intervals_hold_what_they_say() {
    let value = |i: usize| (day(i) + 40.0 * (noise(i) - 0.5)).max(0.0);
    let all = series(48 * 21, value);
    let forecast = config().forecast(&all).unwrap();
    assert!(matches!(forecast.backtest.model, Model::HoltWinters { .. }), "{:?}", forecast.tried);
    assert!(forecast.backtest.wape < 0.2, "{:?}", forecast.backtest);
    assert!((0.8..=1.0).contains(&forecast.backtest.coverage), "{:?}", forecast.backtest);
    // What came then.
    let inside = forecast
        .points
        .iter()
        .enumerate()
        .filter(|(step, point)| (point.lower..=point.upper).contains(&value(48 * 21 + step)))
        .count();
    assert!(inside >= 5, "{inside} of 6");
    assert!(forecast.tried[0].wape <= forecast.tried[1].wape && forecast.tried[1].wape <= forecast.tried[2].wape);
}

#[test]
fn a_peak_is_seen_before_it_is_there() {
    // 8 o'clock each day: ten times the load, for two hours.
    let value = |i: usize| if (16..20).contains(&(i % 48)) { 1000.0 } else { 100.0 };
    let forecast = config().forecast(&series(48 * 6 + 14, value)).unwrap();
    assert!(forecast.most_within(1) < 300.0, "{:?}", forecast.points);
    assert!(forecast.most_within(3) >= 1000.0, "{:?}", forecast.points);
}

#[test]
fn what_cannot_be_foreseen_says_why() {
    assert_eq!(config().forecast(&[]), Err(Unforeseeable::TooShort { have: 0, need: 26 }));
    assert_eq!(config().forecast(&series(20, day)), Err(Unforeseeable::TooShort { have: 20, need: 26 }));
    let mut stopped = series(200, day);
    stopped.extend([None; 6]);
    assert_eq!(
        config().forecast(&stopped).unwrap_err().to_string(),
        "the newest 6 points are missing: has the measurement stopped?"
    );
    let gaps: Vec<_> = (0..200).map(|i| (i % 3 != 0).then(|| day(i))).collect();
    assert_eq!(config().forecast(&gaps), Err(Unforeseeable::Gaps { missing: 16, of: 48 }));
    let few: Vec<_> = (0..400).map(|i| if i % 10 == 0 { Some(f64::NAN) } else { Some(day(i)) }).collect();
    assert!(config().forecast(&few).unwrap().backtest.wape < 0.1, "a few gaps are filled");
}

#[test]
fn errors_of_configuration_name_the_key() {
    let keys = |text: &str| -> Vec<String> {
        toml::from_str::<Predict>(text).unwrap().validate().unwrap_err().0.into_iter().map(|e| e.key).collect()
    };
    assert_eq!(keys("step = \"0s\""), ["step"]);
    assert_eq!(
        keys("season = \"5m\"\nhorizon = \"2h\"\nlevel = 1.0\nfolds = 2"),
        ["season", "horizon", "level", "folds"]
    );
    Predict::default().validate().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_series_gives_ordered_numbers_or_a_reason(values in prop::collection::vec(prop::option::weighted(0.95, prop_oneof![8 => 0.0..1e6_f64, 1 => prop::num::f64::ANY]), 0..400)) {
        if let Ok(forecast) = config().forecast(&values) {
            prop_assert_eq!(forecast.points.len(), 6);
            for point in &forecast.points {
                prop_assert!(point.lower.is_finite() && point.upper.is_finite());
                prop_assert!(0.0 <= point.lower && point.lower <= point.expected && point.expected <= point.upper);
            }
            prop_assert!((0.0..=1.0).contains(&forecast.backtest.coverage));
        }
    }
}
