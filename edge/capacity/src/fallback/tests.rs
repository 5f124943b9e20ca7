use proptest::prelude::*;

use super::*;
use crate::scale::vertical::{Estimate, Need};

const NOW: Moment = Moment::from_secs(1_000_000);

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn function(placement: Placement) -> Standing {
    Standing::new(&Fallback::default(), placement, None, Some(seconds(1)))
}

const CALM: Waiting = Waiting { in_flight: 0, waited: Duration::ZERO, last: true, needs_origin: true };

fn choose(function: &Standing, pop: &mut Pop, request: Waiting) -> (Place, Why) {
    let choice = Fallback::default().choose(function, pop, request, NOW);
    (choice.place, choice.why)
}

fn pop() -> Pop {
    Pop::new(&Fallback::default(), true)
}

fn need(cpu_ms: f64, confidence: f64) -> Need {
    let all = |v| Estimate { lower: v, target: v, upper: v };
    Need { cpu_ms: all(cpu_ms), memory: all(1e6), confidence }
}

fn make_ill(health: &mut Health) {
    (0..10).for_each(|_| health.outcome(&Vitals::default(), false, NOW));
    assert!(!health.is_well());
}

#[test]
fn the_edge_is_home_and_a_placement_is_kept() {
    assert_eq!(choose(&function(Placement::Auto), &mut pop(), CALM), (Place::Edge, Why::Home));
    assert_eq!(choose(&function(Placement::Edge), &mut pop(), CALM), (Place::Edge, Why::Placement));
    assert_eq!(choose(&function(Placement::Region), &mut pop(), CALM), (Place::Region, Why::Placement));
    let mut alone = Pop::new(&Fallback::default(), false);
    assert_eq!(choose(&function(Placement::Region), &mut alone, CALM), (Place::Refused, Why::NoRegion));
}

#[test]
fn what_needs_more_than_the_edge_allows_goes_to_the_region() {
    let config = Fallback::default();
    let declared = Some(Limits { cpu_ms: 500.0, memory: 1e6 });
    let large = Standing::new(&config, Placement::Auto, declared, None);
    assert_eq!(choose(&large, &mut pop(), CALM), (Place::Region, Why::DeclaredNeed));
    assert_eq!(choose(&large, &mut Pop::new(&config, false), CALM), (Place::Refused, Why::NoRegion));

    let mut learnt = function(Placement::Auto);
    learnt.learn(&config, Some(&need(80.0, 0.001)), NOW);
    learnt.learn(&config, None, NOW);
    assert_eq!(learnt.too_large(), None, "with little history, nothing is concluded");
    learnt.learn(&config, Some(&need(80.0, 1.0)), NOW);
    assert_eq!(choose(&learnt, &mut pop(), CALM), (Place::Region, Why::LearntNeed));
    learnt.learn(&config, Some(&need(45.0, 1.0)), NOW + seconds(700));
    assert!(learnt.too_large().is_some(), "within the band it stays");
    learnt.learn(&config, Some(&need(30.0, 1.0)), NOW + seconds(701));
    assert_eq!(learnt.too_large(), None);
}

#[test]
fn an_overloaded_pop_sends_its_surplus() {
    let full = Waiting { in_flight: 20, ..CALM };
    assert_eq!(choose(&function(Placement::Auto), &mut pop(), full), (Place::Region, Why::Concurrency));
    assert_eq!(choose(&function(Placement::Edge), &mut pop(), full), (Place::Refused, Why::Concurrency));
    assert_eq!(
        choose(&function(Placement::Auto), &mut Pop::new(&Fallback::default(), false), full),
        (Place::Refused, Why::NoRegion)
    );
    let (config, mut pop) = (Fallback::default(), pop());
    let queued = Waiting { waited: Duration::from_millis(30), last: false, ..CALM };
    let reasons: Vec<_> = (0..150)
        .map(|ms| config.choose(&function(Placement::Auto), &mut pop, queued, NOW + Duration::from_millis(ms)).why)
        .collect();
    assert_eq!(reasons.iter().filter(|why| **why == Why::QueueDelay).count(), 1);
    assert_eq!(reasons[100], Why::QueueDelay, "after an interval above the target");
}

#[test]
fn an_ill_place_is_avoided_but_tried_now_and_then() {
    let mut pop = pop();
    make_ill(&mut pop.origin);
    let reasons: Vec<_> = (0..40).map(|_| choose(&function(Placement::Auto), &mut pop, CALM).1).collect();
    assert_eq!(reasons.iter().filter(|why| **why == Why::Home).count(), 2, "one in twenty");
    assert_eq!(
        choose(&function(Placement::Auto), &mut pop, Waiting { needs_origin: false, ..CALM }),
        (Place::Edge, Why::Home)
    );
    make_ill(&mut pop.health);
    assert_eq!(
        choose(&function(Placement::Auto), &mut pop, Waiting { needs_origin: false, ..CALM }),
        (Place::Region, Why::PopHealth)
    );
    make_ill(pop.region.as_mut().unwrap());
    assert_eq!(
        choose(&function(Placement::Auto), &mut pop, Waiting { needs_origin: false, ..CALM }),
        (Place::Edge, Why::PopHealth),
        "both ill: at home"
    );
    assert_eq!(choose(&function(Placement::Edge), &mut pop, CALM), (Place::Edge, Why::Placement));
}

#[test]
fn a_place_gets_well_when_trials_succeed() {
    let (config, mut health) = (Vitals::default(), Health::default());
    health.outcome(&config, false, NOW);
    assert!(health.is_well(), "one outcome tells nothing");
    make_ill(&mut health);
    for second in 1..30 {
        health.outcome(&config, true, NOW + seconds(second));
        assert!(second >= 10 || !health.is_well(), "not before the dwell");
    }
    assert!(health.is_well());
}

#[test]
fn cost_moves_a_function_only_within_its_objective() {
    let config = Fallback::default();
    let costs = |edge, region, ms| Some(Costs { edge, region, region_p99: Duration::from_millis(ms) });
    let mut standing = function(Placement::Auto);
    for unknown in [None, costs(f64::NAN, 1.0, 10), costs(-1.0, 1.0, 10), costs(0.0, 0.0, 10)] {
        standing.compare(&config, unknown, NOW);
        assert!(!standing.costs_less_in_region());
    }
    standing.compare(&config, costs(2.0, 1.0, 2000), NOW);
    assert!(!standing.costs_less_in_region(), "too far");
    standing.compare(&config, costs(2.0, 1.0, 100), NOW);
    assert_eq!(choose(&standing, &mut pop(), CALM), (Place::Region, Why::Cost));
    assert_eq!(choose(&standing, &mut Pop::new(&config, false), CALM), (Place::Edge, Why::Home));
    standing.compare(&config, costs(1.1, 1.0, 100), NOW + seconds(700));
    assert!(standing.costs_less_in_region(), "within the band it stays");
    standing.compare(&config, costs(2.0, 1.0, 2000), NOW + seconds(701));
    assert!(!standing.costs_less_in_region(), "too far now");
    let mut no_objective = Standing::new(&config, Placement::Auto, None, None);
    no_objective.compare(&config, costs(9.0, 1.0, 1), NOW);
    assert!(!no_objective.costs_less_in_region());
}

#[test]
fn what_has_started_is_run_twice_only_if_it_may() {
    let config = Fallback::default();
    let retry = |pop: &mut Pop, progress| {
        let choice = config.retry(&function(Placement::Auto), pop, progress, NOW);
        (choice.place, choice.why)
    };
    let idempotent = Progress::Started { idempotent: true };
    assert_eq!(retry(&mut pop(), Progress::NotStarted), (Place::Region, Why::Retry));
    assert_eq!(retry(&mut pop(), idempotent), (Place::Region, Why::Retry));
    assert_eq!(retry(&mut pop(), Progress::Started { idempotent: false }), (Place::Refused, Why::NotIdempotent));
    assert_eq!(retry(&mut pop(), Progress::ResponseBegun), (Place::Refused, Why::ResponseBegun));
    assert_eq!(retry(&mut Pop::new(&config, false), idempotent), (Place::Refused, Why::NoRegion));
    let pinned = config.retry(&function(Placement::Edge), &mut pop(), idempotent, NOW);
    assert_eq!((pinned.place, pinned.why), (Place::Refused, Why::Placement));
    let mut pop = pop();
    let tried = (0..1000).filter(|_| retry(&mut pop, idempotent).0 == Place::Region).count();
    assert_eq!(tried, 100, "without requests, the reserve");
    assert_eq!(retry(&mut pop, idempotent), (Place::Refused, Why::RetryBudget));
}

#[test]
fn errors_of_configuration_name_the_key() {
    let text = "confidence = -1\n[limits]\ncpu_ms = 0\n[cost]\non = 1.0\noff = 1.5\ndwell = \"1m\"\n[concurrency]\nmin = 50\n[queue]\ntarget = \"0ms\"\n[retries]\nwindow = \"2m\"\n[health]\ntrial = 1";
    let keys: Vec<_> =
        toml::from_str::<Fallback>(text).unwrap().validate().unwrap_err().0.into_iter().map(|e| e.key).collect();
    assert_eq!(
        keys,
        [
            "limits.cpu_ms",
            "confidence",
            "cost.off",
            "concurrency.initial",
            "queue.target",
            "retries.window",
            "health.trial"
        ]
    );
    Fallback::default().validate().unwrap();
}

/// A PoP of 16 processors that invocations of 10 ms share, under a noisy load (in parts of what it can carry), for 40 s:
/// the part of the requests of the second half that went to the region, and the mean latency of the others in ms.
fn loaded(load: f64) -> (f64, f64) {
    let (config, function, mut pop) = (Fallback::default(), function(Placement::Auto), pop());
    let mut running: Vec<(u64, f64)> = Vec::new();
    let (mut asked, mut away, mut took, mut served, mut random) = (0, 0, 0, 0, 1_u64);
    let mut due = 0.0;
    for ms in 0..40_000_u64 {
        let now = NOW + Duration::from_millis(ms);
        // 1.6 in a millisecond, give or take all of it.
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        due += load * 1.6 * 2.0 * (random >> 11) as f64 / (1_u64 << 53) as f64;
        while due >= 1.0 {
            due -= 1.0;
            let in_flight = running.len() as u32;
            let choice = config.choose(&function, &mut pop, Waiting { in_flight, ..CALM }, now);
            (asked, away) = (asked + 1, away + u32::from(choice.place != Place::Edge));
            if choice.place == Place::Edge {
                running.push((ms, 10.0));
            }
        }
        let (count, share) = (running.len() as u32, (16.0 / running.len() as f64).min(1.0));
        running.retain_mut(|(since, left)| {
            *left -= share;
            if *left <= 0.0 {
                pop.limit.sample(&config.concurrency, (ms + 1 - *since) as f64 / 1000.0, count);
                (took, served) = (took + ms + 1 - *since, served + 1);
            }
            *left > 0.0
        });
        if ms == 20_000 {
            (asked, away, took, served) = (0, 0, 0, 0);
        }
    }
    (f64::from(away) / f64::from(asked), took as f64 / served as f64)
}

#[test]
fn under_a_noisy_load_no_more_than_the_surplus_leaves_and_latency_stays() {
    let (calm, latency) = loaded(0.7);
    assert!(calm < 0.01 && latency < 15.0, "{calm} {latency}");
    let (slightly, latency) = loaded(1.1);
    assert!((0.05..0.2).contains(&slightly) && latency < 60.0, "a tenth too much: {slightly} {latency}");
    let (double, latency) = loaded(2.0);
    assert!((0.45..0.6).contains(&double) && latency < 60.0, "half too much: {double} {latency}");
}

#[test]
fn a_function_that_breaks_a_limit_goes_at_once_and_comes_back_when_the_memory_has_faded() {
    let config = Fallback::default();
    let mut standing = function(Placement::Auto);
    standing.saw(&config, 0.9, NOW);
    assert_eq!(standing.too_large(), None);
    standing.saw(&config, BROKE, NOW);
    assert_eq!(standing.too_large(), Some(Why::LearntNeed));
    standing.recall(&config, NOW + seconds(700));
    assert!(standing.too_large().is_some(), "past the dwell, and not yet forgotten");
    standing.saw(&config, 1.0, NOW + seconds(780));
    standing.recall(&config, NOW + seconds(800));
    assert!(standing.too_large().is_some(), "the region says that it is still large");
    standing.recall(&config, NOW + seconds(1400));
    assert_eq!(standing.too_large(), None);
    standing.saw(&config, BROKE, NOW + seconds(1401));
    assert!(standing.too_large().is_some(), "and goes at once again");
    for nonsense in [f64::NAN, f64::INFINITY, -1.0] {
        let mut fresh = function(Placement::Auto);
        fresh.saw(&config, nonsense, NOW);
        assert_eq!(fresh.too_large(), None, "{nonsense}");
    }
}

/// One PoP for two hours of a noisy load, in which a part of the requests of one function is too large for the edge, as the
/// acting half drives it: the turns of the function, and how many requests broke a limit at the edge.
fn learning(large: f64, seed: u64) -> (usize, u32) {
    let (config, mut pop, mut standing) = (Fallback::default(), pop(), function(Placement::Auto));
    let (mut turns, mut was, mut broke, mut random) = (0, false, 0, seed);
    for second in 0..7200 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (now, chance) = (NOW + seconds(second), (random >> 11) as f64 / (1_u64 << 53) as f64);
        standing.recall(&config, now);
        let is_large = chance < large;
        match config.choose(&standing, &mut pop, CALM, now).place {
            Place::Edge if is_large => {
                broke += 1;
                standing.saw(&config, BROKE, now);
            }
            Place::Edge => standing.saw(&config, chance, now),
            _ => standing.saw(&config, if is_large { 3.0 } else { 0.5 * chance }, now),
        }
        turns += usize::from(standing.too_large().is_some() != was);
        was = standing.too_large().is_some();
    }
    (turns, broke)
}

#[test]
fn under_a_noisy_load_a_learnt_need_does_not_flap() {
    for seed in 1..20 {
        let (turns, broke) = learning(0.2, seed);
        assert!(turns == 1 && broke == 1, "often too large: it goes and stays: {turns} {broke}");
        // One in a thousand: between two of them it may come back, once in a while.
        let (turns, broke) = learning(0.001, seed);
        assert!(turns <= 2 * (7200 / 600 + 1) && broke <= 7200 / 600 + 1, "{turns} {broke}");
        assert_eq!(learning(0.0, seed), (0, 0));
    }
}

proptest! {
    #[test]
    fn what_rises_at_once_turns_no_more_often_than_twice_for_each_dwell(signals in prop::collection::vec((prop::num::f64::ANY, 0_u64..120), 1..500)) {
        let band = Band { on: 1.0, off: 0.8, dwell: seconds(600) };
        let (mut switch, mut now, mut turns, mut was) = (Switch::default(), NOW, 0, false);
        for (signal, wait) in signals {
            now = now + seconds(wait);
            let on = switch.rise(&band, signal, now);
            turns += u64::from(on != was);
            was = on;
        }
        prop_assert!(turns <= 2 * (now.since(NOW).as_secs() / 600) + 2);
    }

    #[test]
    fn noise_within_the_band_turns_nothing(start in any::<bool>(), signals in prop::collection::vec(1.0001..1.2499_f64, 1..300)) {
        let band = Fallback::default().cost;
        let mut switch = Switch::default();
        if start { switch.look(&band, 2.0, NOW); }
        for (i, signal) in signals.iter().enumerate() {
            prop_assert_eq!(switch.look(&band, *signal, NOW + seconds(1000 * i as u64)), start);
        }
    }

    #[test]
    fn noise_of_any_size_turns_it_no_more_often_than_the_dwell_allows(signals in prop::collection::vec((prop::num::f64::ANY, 0_u64..120), 1..500)) {
        let band = Band { on: 1.0, off: 0.8, dwell: seconds(600) };
        let (mut switch, mut now, mut turns, mut was) = (Switch::default(), NOW, 0, false);
        for (signal, wait) in signals {
            now = now + seconds(wait);
            let on = switch.look(&band, signal, now);
            turns += u64::from(on != was);
            was = on;
        }
        prop_assert!(turns <= now.since(NOW).as_secs() / 600 + 1);
    }

    #[test]
    fn a_noisy_load_does_not_make_a_function_flap(noise in prop::collection::vec((0.7..1.3_f64, 0.7..1.3_f64, any::<bool>()), 720)) {
        // Two hours of looks each 10 s, with the need at the limit, the cost at the crossover and one outcome in two bad.
        let config = Fallback::default();
        let (mut standing, mut pop) = (function(Placement::Auto), pop());
        let (mut states, mut well) = (Vec::new(), Vec::new());
        for (i, (a, b, ok)) in noise.into_iter().enumerate() {
            let now = NOW + seconds(10 * i as u64);
            standing.learn(&config, Some(&need(50.0 * a, 1.0)), now);
            standing.compare(&config, Some(Costs { edge: 1.2 * b, region: 1.0, region_p99: Duration::ZERO }), now);
            pop.health.outcome(&config.health, ok, now);
            states.push((standing.too_large().is_some(), standing.costs_less_in_region()));
            well.push(pop.health.is_well());
        }
        let turns = states.windows(2).filter(|pair| pair[0] != pair[1]).count();
        prop_assert!(turns <= 2 * (7200 / 600 + 1), "{turns}");
        // An outcome in 10 s weighs less than what is needed to conclude anything.
        prop_assert!(well.iter().all(|well| *well));
    }

    #[test]
    fn started_requests_that_are_not_idempotent_never_run_twice(well in any::<[bool; 3]>(), placement in 0..3) {
        let placement = [Placement::Edge, Placement::Region, Placement::Auto][placement as usize];
        let mut pop = pop();
        for (health, well) in [&mut pop.health, &mut pop.origin].into_iter().zip(well) {
            if !well { make_ill(health); }
        }
        for progress in [Progress::Started { idempotent: false }, Progress::ResponseBegun] {
            let choice = Fallback::default().retry(&function(placement), &mut pop, progress, NOW);
            prop_assert_eq!(choice.place, Place::Refused);
        }
    }
}
