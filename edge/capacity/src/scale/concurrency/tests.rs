//! Each case names the test of knative/serving whose numbers it replays.

use proptest::prelude::*;

use super::*;

const NOW: Moment = Moment::from_secs(1_000_000);

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// The defaults of `autoscaler_test.go`: a replica carries 4/3 of its target.
fn config(target: f64, burst: f64) -> Concurrency {
    let utilisation = 0.75;
    let capacity = target / utilisation;
    Concurrency { capacity, utilisation, max_up: 10.0, max_down: 10.0, burst, ..Concurrency::default() }
}

fn seen(ready: u32, stable: f64, panic: f64) -> Seen {
    Seen { ready, load: Some(Load { stable, panic }), reachable: true }
}

fn burst(target: f64, burst: f64, load: f64, ready: f64) -> f64 {
    (target / 0.75 * ready - burst - load).floor()
}

/// Without a past.
fn wish(config: &Concurrency, seen: Seen) -> (u32, f64) {
    let wish = config.wish(&mut Memory::default(), seen, NOW).unwrap();
    (wish.desired, wish.excess_burst)
}

#[test]
fn calm_follows_the_stable_window() {
    assert_eq!(
        wish(&config(10.0, 101.0), seen(1, 50.0, 10.0)),
        (5, burst(10.0, 101.0, 10.0, 1.0)),
        "StableModeIncreaseWithConcurrencyDefault"
    );
    assert_eq!(wish(&config(10.0, 101.0), seen(1, 100.0, 10.0)).0, 10, "StableModeIncreaseWithConcurrencyDefault");
    assert_eq!(
        wish(&config(10.0, 98.0), seen(8, 100.0, 100.0)),
        (10, burst(10.0, 98.0, 100.0, 8.0)),
        "StableModeDecrease"
    );
    assert_eq!(wish(&config(10.0, 98.0), seen(8, 50.0, 50.0)).0, 5, "StableModeDecrease");
    assert_eq!(wish(&config(10.0, 100.0), seen(5, 50.0, 50.0)).0, 5, "StableModeNoChangeAlreadyScaled");
    assert_eq!(wish(&config(181.0, -1.0), seen(1, 21.0, 26.0)), (1, -1.0), "StableModeUnlimitedTBC");
    assert_eq!(wish(&config(10.0, 0.0), seen(1, 50.0, 49.0)), (5, 0.0), "0TBC");
    assert_eq!(wish(&config(10.0, 75.0), seen(1, 1.0, 0.0)).0, 1, "StableModeNoTrafficScaleToZero");
    assert_eq!(wish(&config(10.0, 75.0), seen(1, 0.0, 0.0)).0, 0, "StableModeNoTrafficScaleToZero");
}

#[test]
fn rates_bound_a_step_but_never_stop_it() {
    let slow = Concurrency { max_up: 1.1, ..config(1.0, 1982.0) };
    assert_eq!(
        wish(&slow, seen(2, 3.0, 3.1)),
        (3, burst(1.0, 1982.0, 3.1, 2.0)),
        "StableModeIncreaseWithSmallScaleUpRate"
    );
    let slow = Concurrency { max_down: 1.1, ..config(10.0, 1982.0) };
    assert_eq!(wish(&slow, seen(100, 1.0, 1.0)).0, 90, "StableModeDecreaseWithSmallScaleDownRate");
    let unreachable = Seen { reachable: false, ..seen(100, 1.0, 1.0) };
    assert_eq!(wish(&slow, unreachable).0, 1, "StableModeDecreaseNonReachable");
    assert_eq!(wish(&config(10.0, 61.0), seen(1, 1000.0, 1001.0)).0, 10, "RateLimitScaleUp");
    assert_eq!(wish(&config(10.0, 61.0), seen(10, 1000.0, 1001.0)).0, 100, "RateLimitScaleUp");
    assert_eq!(wish(&config(10.0, 61.0), seen(100, 1.0, 1.0)).0, 10, "RateLimitScaleDown");
    assert_eq!(wish(&config(10.0, 61.0), seen(10, 1.0, 1.0)).0, 1, "RateLimitScaleDown");
    assert_eq!(
        wish(&config(10.0, 81.0), seen(0, 1000.0, 888.0)),
        (10, burst(10.0, 81.0, 888.0, 0.0)),
        "UseOnePodAsMinimumIfEndpointsNotFound"
    );
}

#[test]
fn activation_is_the_least_while_there_is_load() {
    let config = Concurrency { activation: 2, ..config(10.0, 75.0) };
    assert_eq!(wish(&config, seen(1, 0.0, 0.0)).0, 0, "ActivationScale");
    assert_eq!(wish(&config, seen(1, 1.0, 0.0)).0, 2, "ActivationScale");
}

#[test]
fn panic_takes_the_larger_of_both_windows_and_never_falls() {
    let panicking = |stable, panic| {
        let mut memory = Memory { panic: Some(NOW.before(seconds(5))), most: 5, asked: Highest::default() };
        config(1.0, 100.0).wish(&mut memory, seen(5, stable, panic), NOW).unwrap().desired
    };
    assert_eq!(panicking(50.0, 30.0), 50, "PanicStableLargerThanPanic");
    assert_eq!(panicking(20.0, 30.0), 30, "PanicStableLessThanPanic");
    assert_eq!(panicking(1.0, 1.0), 5);
    assert_eq!(wish(&config(10.0, 84.0), seen(1, 50.0, 100.0)).0, 10, "PanicModeDoublePodCount");
}

#[test]
fn a_panic_ends_a_window_after_its_cause() {
    let (config, mut memory) = (config(10.0, 93.0), Memory::new(1, NOW));
    let mut at = |n, seen| config.wish(&mut memory, seen, NOW + seconds(n)).unwrap().desired;
    assert_eq!(at(0, seen(1, 100.0, 100.0)), 10, "PanicThenUnPanicScaleDown");
    assert_eq!(at(0, seen(10, 100.0, 1000.0)), 100);
    assert_eq!(at(30, seen(10, 1.0, 1.0)), 100);
    assert_eq!(at(61, seen(10, 1.0, 1.0)), 1);
}

#[test]
fn a_panic_follows_a_load_that_grows_and_outlasts_it() {
    let (slow, mut memory) = (config(1.0, 98.0), Memory::new(1, NOW));
    assert_eq!(slow.wish(&mut memory, seen(10, 11.0, 25.0), NOW).unwrap().desired, 25, "UnpanicAfterSlowIncrease");
    assert_eq!(slow.wish(&mut memory, seen(40, 30.0, 41.0), NOW + seconds(30)).unwrap().desired, 41);
    assert_eq!(memory.panic(), Some(NOW), "not extended");
    assert_eq!(slow.wish(&mut memory, seen(55, 50.0, 56.0), NOW + seconds(62)).unwrap().desired, 50);
    assert_eq!(memory.panic(), None);

    let mut memory = Memory::new(1, NOW);
    slow.wish(&mut memory, seen(10, 11.0, 25.0), NOW).unwrap();
    assert_eq!(
        slow.wish(&mut memory, seen(40, 30.0, 80.0), NOW + seconds(30)).unwrap().desired,
        80,
        "ExtendPanicWindow"
    );
    assert_eq!(memory.panic(), Some(NOW + seconds(30)));

    let mut memory = Memory::new(1, NOW);
    for (second, (ready, load)) in
        [(1, 6.0), (6, 36.0), (36, 216.0), (216, 1296.0), (1296, 1296.0)].into_iter().enumerate()
    {
        let wish = config(1.0, 101.0).wish(&mut memory, seen(ready, load, load), NOW + seconds(second as u64)).unwrap();
        assert_eq!(f64::from(wish.desired), load, "PanicModeExponentialTrackAndStabilize");
    }
}

#[test]
fn a_controller_that_starts_on_more_than_one_starts_in_panic() {
    assert_eq!(Memory::new(0, NOW).panic(), None, "StartInPanicMode");
    assert_eq!(Memory::new(1, NOW).panic(), None);
    let mut memory = Memory::new(2, NOW);
    assert_eq!(memory.panic(), Some(NOW));
    assert_eq!(config(10.0, 0.0).wish(&mut memory, seen(2, 1.0, 1.0), NOW + seconds(2)).unwrap().desired, 2);
}

#[test]
fn a_lower_count_waits_for_the_delay() {
    let config = Concurrency {
        capacity: 10.0,
        utilisation: 1.0,
        panic_threshold: 100.0,
        down_delay: seconds(300),
        ..config(10.0, 0.0)
    };
    let mut memory = Memory::default();
    let mut at = |n: u64, load| config.wish(&mut memory, seen(0, load, load), Moment::from_secs(n)).unwrap().desired;
    // TestAutoscalerScaleDownDelay, simple and then gradual.
    assert_eq!([at(2, 40.0), at(300, 0.0), at(302, 0.0)], [4, 4, 0]);
    assert_eq!([at(540, 40.0), at(600, 30.0), at(660, 0.0), at(840, 0.0), at(900, 0.0)], [4, 4, 4, 3, 0]);
    let unreachable = Seen { reachable: false, ..seen(0, 0.0, 0.0) };
    let mut memory = Memory::default();
    assert_eq!(config.wish(&mut memory, seen(0, 40.0, 40.0), NOW).unwrap().desired, 4);
    assert_eq!(
        config.wish(&mut memory, unreachable, NOW + seconds(60)).unwrap().desired,
        0,
        "ScaleDownDelayNotReachable"
    );
}

#[test]
fn without_a_measurement_there_is_no_wish() {
    for load in [None, Some(Load { stable: f64::NAN, panic: 0.0 }), Some(Load { stable: 0.0, panic: -1.0 })] {
        assert_eq!(
            config(10.0, 100.0).wish(&mut Memory::default(), Seen { ready: 3, load, reachable: true }, NOW),
            None,
            "NoDataNoAutoscale"
        );
    }
}

#[test]
fn the_mean_of_a_window_knows_what_it_has_seen() {
    // TestTimedFloat64BucketsWindowAverage.
    let at = |ms: u64| Moment::after_epoch(Duration::from_millis(1_000_000_000 + ms));
    let mut recent = Recent::new(seconds(5));
    assert_eq!(recent.mean(at(0)), None, "nothing seen is not the same as 0");
    recent.record(at(0), 1.0);
    assert_eq!(recent.mean(at(0)), Some(1.0));
    for i in 1..5 {
        recent.record(at(i * 1000), (i + 1) as f64);
    }
    assert_eq!(recent.mean(at(4000)), Some(3.0));
    assert_eq!(recent.mean(at(3600)), Some(3.0), "now lags behind");
    assert_eq!(recent.mean(at(6000)), Some((15.0 - 1.0 - 2.0) / 3.0), "short hole");
    assert_eq!(recent.mean(at(10_000)), None, "long hole: the original says 0, which would take the last one away");
    recent.record(at(6000), 91.0);
    assert_eq!(recent.mean(at(6000)), Some((15.0 - 1.0 - 2.0 + 91.0) / 5.0), "write with holes");
    let at = |second: u64| Moment::from_secs(1_000_060 + second);
    recent.record(at(0), 1984.0);
    assert_eq!(recent.mean(at(0)), Some(1984.0));
    recent.record(at(0).before(seconds(3)), 4.0);
    assert_eq!(recent.mean(at(0)), Some((4.0 + 1984.0) / 4.0), "an earlier time");
    recent.record(at(1), 5.0);
    assert_eq!(recent.mean(at(1)), Some((4.0 + 1984.0 + 5.0) / 5.0));
    recent.record(at(1).before(seconds(6)), 10.0);
    recent.record(at(1).before(seconds(5)), 10.0);
    recent.record(at(1), f64::NAN);
    assert_eq!(recent.mean(at(1)), Some((4.0 + 1984.0 + 5.0) / 5.0), "too early, and no number");
    recent.record(at(6), 10.0);
    assert_eq!(recent.mean(at(6)), Some(10.0), "a whole window without data");
}

#[test]
fn the_last_one_goes_after_the_window_and_the_grace() {
    let config = Concurrency::default();
    let mut idle = Idle::Active { since: NOW };
    let mut at = |n, desired, current| idle.step(&config, desired, current, NOW + seconds(n));
    assert_eq!(at(10, 0, 3), 1, "active for less than the window: one for the rest of it");
    assert_eq!(at(60, 0, 1), 1, "inactive from here on");
    assert_eq!(at(89, 0, 1), 1, "grace");
    assert_eq!(at(90, 0, 1), 0);
    assert_eq!(at(91, 2, 0), 2);
    assert_eq!(at(100, 0, 2), 1, "active since a moment only");
    let never = Concurrency { to_zero: false, ..Concurrency::default() };
    assert_eq!(Idle::Inactive { since: Moment::EPOCH }.step(&never, 0, 1, NOW), 1);
    let long = Concurrency { retention: seconds(600), ..Concurrency::default() };
    assert_eq!(Idle::Inactive { since: NOW }.step(&long, 0, 1, NOW + seconds(599)), 1);
    assert_eq!(Idle::Inactive { since: NOW }.step(&long, 0, 1, NOW + seconds(600)), 0);
}

#[test]
fn errors_of_configuration_name_the_key() {
    let text = "capacity = 0\nutilisation = nan\nstable_window = \"5s\"\npanic_threshold = 1\nburst = -2\nmax_up = 1";
    let error = toml::from_str::<Concurrency>(text).unwrap().validate().unwrap_err();
    let keys: Vec<_> = error.0.iter().map(|e| e.key.as_str()).collect();
    assert_eq!(keys, ["capacity", "utilisation", "stable_window", "panic_threshold", "max_up", "burst"]);
    assert!(error.to_string().contains("`burst` must be at least 0, or -1"), "{error}");
    Concurrency::default().validate().unwrap();
}

proptest! {
    #[test]
    fn more_load_never_asks_for_less(ready in 0_u32..500, stable in 0.0..1e5_f64, panic in 0.0..1e5_f64, more in 0.0..1e5_f64) {
        let config = Concurrency::default();
        let ask = |stable, panic| wish(&config, seen(ready, stable, panic)).0;
        prop_assert!(ask(stable, panic) <= ask(stable + more, panic));
        prop_assert!(ask(stable, panic) <= ask(stable, panic + more));
    }

    #[test]
    fn in_panic_the_count_never_falls_and_steps_keep_their_rates(loads in prop::collection::vec((0.0..5000.0_f64, 0.0..5000.0_f64), 1..100)) {
        let config = Concurrency { max_up: 3.0, ..Concurrency::default() };
        let (mut memory, mut current, mut now) = (Memory::new(1, NOW), 1, NOW);
        for (stable, panic) in loads {
            now = now + seconds(2);
            let was = memory.panic().is_some();
            let wish = config.wish(&mut memory, seen(current, stable, panic), now).unwrap();
            if was && wish.panicking { prop_assert!(wish.desired >= current); }
            prop_assert!(wish.desired <= (3 * current.max(1)).max(current));
            prop_assert!(wish.desired >= current / 2);
            current = wish.desired;
        }
    }
}
