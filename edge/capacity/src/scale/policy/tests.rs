use proptest::prelude::*;

use super::*;
use crate::scale::horizontal::Measured;

const NOW: Moment = Moment::from_secs(1_795_737_600);

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// One replica carries ten.
fn config() -> Policy {
    let concurrency = Concurrency { capacity: 10.0, utilisation: 1.0, ..Concurrency::default() };
    Policy { concurrency: Some(concurrency), ..Policy::default() }
}

fn seen(current: u32, load: Option<f64>) -> Observation<'static> {
    Observation {
        current,
        ready: current,
        replicas: &[],
        metrics: &[],
        load: load.map(|load| Load { stable: load, panic: load }),
        measured: None,
        reachable: true,
        foreseen: None,
        room: None,
    }
}

/// Without a past.
fn decide(config: &Policy, seen: &Observation) -> Decision {
    config.decide(&mut config.start(), "isolates of api", seen, NOW)
}

fn outcome(decision: &Decision) -> (u32, Rule) {
    (decision.desired, decision.decided_by)
}

#[test]
fn the_most_that_is_asked_for_counts() {
    assert_eq!(outcome(&decide(&config(), &seen(2, Some(35.0)))), (4, Rule::Concurrency));
    let metric = [Metric { name: "cpu".into(), target: 10.0, measured: Measured::Share(Some(60.0)) }];
    let both = Observation { metrics: &metric, ..seen(3, Some(35.0)) };
    assert_eq!(outcome(&decide(&config(), &both)), (6, Rule::Horizontal));
}

#[test]
fn a_forecast_raises_when_such_forecasts_were_right_and_never_lowers() {
    let with = |load, error| {
        let foreseen = Some(Foreseen { load, error });
        outcome(&decide(&config(), &Observation { foreseen, ..seen(1, Some(5.0)) }))
    };
    assert_eq!(with(200.0, 0.1), (20, Rule::Forecast));
    assert_eq!(with(200.0, 0.9), (1, Rule::Concurrency));
    assert_eq!(with(f64::NAN, 0.1), (1, Rule::Concurrency));
    assert_eq!(with(-5.0, 0.1), (1, Rule::Concurrency));
    assert_eq!(with(200.0, f64::NAN), (1, Rule::Concurrency));
    assert_eq!(with(0.0, 0.0), (1, Rule::Concurrency));
}

#[test]
fn a_schedule_is_a_least_number_and_room_and_the_maximum_bound_all() {
    let entry = "[[schedule]]\nname = 'flash sale'\nfrom = '2026-11-27T00:00'\nuntil = '2026-11-27T01:00'\nleast = 40";
    let sale = Policy { schedule: toml::from_str::<Policy>(entry).unwrap().schedule, ..config() };
    assert_eq!(outcome(&decide(&sale, &seen(1, Some(5.0)))), (40, Rule::Schedule));
    assert_eq!(outcome(&decide(&sale, &seen(1, None))), (40, Rule::Schedule), "even when nothing is measured");
    assert_eq!(outcome(&decide(&sale, &Observation { room: Some(8), ..seen(1, Some(5.0)) })), (8, Rule::Room));
    let bounds = |min, max| Policy { horizontal: Horizontal { min, max, ..Horizontal::default() }, ..config() };
    assert_eq!(outcome(&decide(&bounds(3, 10), &seen(1, Some(0.0)))), (3, Rule::Min));
    assert_eq!(outcome(&decide(&bounds(1, 10), &seen(3, Some(900.0)))), (10, Rule::Max));
}

#[test]
fn without_measurements_the_count_is_held() {
    let held = |seen: &Observation| {
        let decision = decide(&config(), seen);
        (decision.desired, decision.decided_by, decision.held)
    };
    assert_eq!(held(&seen(7, None)), (7, Rule::Hold, Some(Hold::NoMetrics)));
    assert_eq!(held(&seen(7, Some(f64::NAN))), (7, Rule::Hold, Some(Hold::NoMetrics)));
    assert_eq!(held(&seen(7, Some(-1.0))), (7, Rule::Hold, Some(Hold::NoMetrics)));
    let old = Observation { measured: Some(NOW.before(seconds(61))), ..seen(7, Some(0.0)) };
    assert_eq!(held(&old), (7, Rule::Hold, Some(Hold::Stale)));
    let ahead = Observation { measured: Some(NOW + seconds(61)), ..seen(7, Some(900.0)) };
    assert_eq!(held(&ahead), (7, Rule::Hold, Some(Hold::Stale)));
    let metric = [Metric { name: "cpu".into(), target: 10.0, measured: Measured::Share(None) }];
    let half = Observation { ready: 1, metrics: &metric, ..seen(7, Some(50.0)) };
    assert_eq!(held(&half), (7, Rule::Hold, Some(Hold::SomeMissing)), "one asks for less, the other cannot tell");
    let half = Observation { metrics: &metric, ..seen(7, Some(90.0)) };
    assert_eq!(held(&half), (9, Rule::Concurrency, None), "but it may rise");
}

#[test]
fn a_clock_that_jumps_holds_once_and_fools_no_window() {
    let (config, mut state) = (config(), config().start());
    let mut at = |now, load| {
        let decision = config.decide(&mut state, "x", &seen(7, Some(load)), now);
        (decision.desired, decision.held)
    };
    assert_eq!(at(NOW, 70.0), (7, None));
    assert_eq!(at(NOW + seconds(86_400), 10.0), (7, Some(Hold::ClockAhead)));
    assert_eq!(at(NOW + seconds(86_402), 10.0), (7, None), "a day by the clock, two seconds by the window");
    assert_eq!(at(NOW, 10.0), (7, Some(Hold::ClockBack)));
    assert_eq!(at(NOW + seconds(2), 10.0), (7, None));
    for n in 2..70 {
        at(NOW + seconds(2 * n), 10.0);
    }
    assert!(at(NOW + seconds(140), 10.0).0 < 7, "after the first panic and the settling it falls");
}

#[test]
fn to_none_only_on_a_measured_load_of_none_and_only_where_that_is_allowed() {
    let run = |config: &Policy, load: Option<f64>| {
        let (mut state, mut current) = (config.start(), 1);
        for n in 0..300 {
            current = config.decide(&mut state, "x", &seen(current, load), NOW + seconds(2 * n)).desired;
        }
        current
    };
    let zero = Policy { horizontal: Horizontal { min: 0, ..Horizontal::default() }, ..config() };
    assert_eq!(run(&zero, Some(0.0)), 0);
    assert_eq!(run(&zero, None), 1);
    assert_eq!(run(&zero, Some(f64::NAN)), 1);
    assert_eq!(run(&zero, Some(1.0)), 1);
    assert_eq!(run(&config(), Some(0.0)), 1);
    let mut state = zero.start();
    assert_eq!(zero.decide(&mut state, "x", &seen(0, Some(25.0)), NOW).desired, 3, "and back");
}

#[test]
fn a_decision_explains_itself() {
    let foreseen = Some(Foreseen { load: 12.0, error: 0.1 });
    let text = decide(&config(), &Observation { foreseen, ..seen(2, Some(35.0)) }).explain();
    let expected = "isolates of api rises from 2 to 4 by concurrency.
concurrency asks for 4: ceil(load / (capacity × utilisation)), in panic of the shorter window and never falling, with load = 35, load_panic = 35, capacity = 10, utilisation = 1 (panic).
forecast foresees 2: ceil(upper end of the forecast / (capacity × utilisation)), with load_foreseen = 12, error = 0.1, error_allowed = 0.5 (used).
min wants at least 1: the configured minimum.
max allows at most 100: the configured maximum.";
    assert_eq!(text, expected);
    let held = decide(&config(), &seen(7, None)).explain();
    assert!(
        held.starts_with(
            "isolates of api stays at 7: it is held, because nothing was measured.\nconcurrency cannot tell:"
        ),
        "{held}"
    );
}

#[test]
fn errors_of_configuration_name_the_key() {
    let text = "settle = \"2h\"\nforecast_error = -1\n[horizontal]\nmax = 0\n[concurrency]\ncapacity = -1\n[[schedule]]\nname = 'x'\ncron = '0 8 * * *'\nlasts = '1h'\nleast = 5";
    let keys: Vec<_> =
        toml::from_str::<Policy>(text).unwrap().validate().unwrap_err().0.into_iter().map(|e| e.key).collect();
    assert_eq!(
        keys,
        ["horizontal.max", "horizontal.min", "concurrency.capacity", "schedule[0].least", "forecast_error", "settle"]
    );
    Policy::default().validate().unwrap();
}

proptest! {
    #[test]
    fn whatever_comes_the_count_keeps_its_bounds_and_is_never_none_without_a_measurement(
        steps in prop::collection::vec((prop::option::weighted(0.7, prop_oneof![4 => 0.0..2000.0_f64, 1 => Just(0.0), 1 => prop::num::f64::ANY]), 0_u64..2_000_000), 1..80),
    ) {
        let config = Policy { horizontal: Horizontal { min: 0, max: 50, ..Horizontal::default() }, ..config() };
        let (mut state, mut current) = (config.start(), 1);
        for (load, clock) in steps {
            let decision = config.decide(&mut state, "x", &seen(current, load), Moment::from_secs(clock));
            prop_assert!(decision.desired <= 50);
            let measured = load.is_some_and(|load| load.is_finite() && load >= 0.0);
            if !measured { prop_assert_eq!(decision.desired, current); }
            if decision.desired == 0 && current > 0 { prop_assert_eq!(load, Some(0.0)); }
            prop_assert!(decision.explain().contains(decision.decided_by.as_str()) || decision.held.is_some());
            current = decision.desired;
        }
    }

    #[test]
    fn more_load_or_more_foreseen_never_gives_less(current in 1_u32..60, load in 0.0..900.0_f64, more in 0.0..900.0_f64, foreseen in 0.0..900.0_f64) {
        let with = |load, foreseen| {
            let foreseen = Some(Foreseen { load: foreseen, error: 0.0 });
            decide(&config(), &Observation { foreseen, ..seen(current, Some(load)) }).desired
        };
        prop_assert!(with(load, foreseen) <= with(load + more, foreseen));
        prop_assert!(with(load, foreseen) <= with(load, foreseen + more));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn a_noisy_load_does_not_make_it_flap(noise in prop::collection::vec(0.9..1.1_f64, 1800)) {
        // An hour of looks each 2 s, at the border between five and six.
        let run = |config: &Policy| {
            let (mut state, mut current, mut falls) = (config.start(), 6, 0);
            for (n, noise) in noise.iter().enumerate() {
                let desired = config.decide(&mut state, "x", &seen(current, Some(50.0 * noise)), NOW + seconds(2 * n as u64)).desired;
                falls += u32::from(desired < current);
                current = desired;
            }
            falls
        };
        prop_assert!(run(&config()) <= 2, "{}", run(&config()));
        let hasty = run(&Policy { settle: Duration::ZERO, ..config() });
        prop_assert!(hasty > 100, "without settling it does: {hasty}");
    }
}
