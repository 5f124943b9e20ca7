//! Against what queueing theory knows.

use proptest::prelude::*;

use super::pilot::Scaling;
use super::scenario::{Fault, Functions, NodeKind, Objects, Place, PopPlan};
use super::*;
use crate::load::process::Process;
use crate::scale::ready::erlang_c;

/// One PoP with `workers`, isolates that never have to start, and a queue without a bound that matters.
fn queue(workers: u32, rate: f64, service: Law, requests: f64) -> Scenario {
    let none = Law::Constant(Span(0.0));
    Scenario {
        name: "queue".into(),
        duration: Span(requests / rate),
        warm_up: Span(requests / rate / 50.0),
        load: Process { rate, ..Process::default() },
        recorded: Vec::new(),
        functions: Functions { service, pooled: none.clone(), unpooled: none, ..Functions::default() },
        objects: None,
        pops: vec![PopPlan::default()],
        node: NodeKind { workers, queue: 1_000_000, patience: Span(1e6), ..NodeKind::default() },
        scaling: Scaling::Fixed,
        origin: None,
        region: None,
        fallback: None,
        faults: Vec::new(),
        objective: Default::default(),
        control: None,
        sample: 1.0,
    }
}

fn play(scenario: &Scenario, seed: u64) -> Tally {
    run(scenario, seed, &mut |_| ()).unwrap()
}

fn mean_wait(scenario: &Scenario) -> f64 {
    // Several runs, so that the error of each does not count.
    (1..=3).map(|seed| play(scenario, seed).waits.mean()).sum::<f64>() / 3.0
}

#[test]
fn mean_waits_are_those_of_erlang_and_of_pollaczek_and_khinchine_within_two_percent() {
    let ms = |ms: f64| Span(ms / 1e3);
    let exponential = Law::Exponential(ms(10.0));
    for (workers, use_) in [(1, 0.5), (1, 0.7), (4, 0.8), (8, 0.8)] {
        let rate = f64::from(workers) * use_ / 0.01;
        let seen = mean_wait(&queue(workers, rate, exponential.clone(), 2e6));
        let load = rate * 0.01;
        let told = erlang_c(workers as usize, load) * 0.01 / (f64::from(workers) - load);
        assert!((seen / told - 1.0).abs() < 0.02, "M/M/{workers} at {use_}: {seen} and not {told}");
    }
    for law in [Law::Constant(ms(10.0)), Law::Lognormal { p50: ms(8.0), p99: ms(30.0) }] {
        let (mean, square) = law.moments();
        let rate = 0.7 / mean;
        let seen = mean_wait(&queue(1, rate, law.clone(), 1e6));
        let told = rate * square / (2.0 * (1.0 - rate * mean));
        assert!((seen / told - 1.0).abs() < 0.02, "M/G/1 with {law:?}: {seen} and not {told}");
    }
}

#[test]
fn what_is_in_flight_is_the_rate_times_the_time_that_it_takes() {
    let mut scenario = queue(4, 300.0, Law::Exponential(Span(0.01)), 3e5);
    scenario.warm_up = Span(0.0);
    let tally = play(&scenario, 1);
    let told = tally.answered as f64 / tally.duration * tally.latency.mean();
    let seen = tally.pops[0].in_flight_mean;
    assert!((seen / told - 1.0).abs() < 0.001, "{seen} and not {told}");
}

/// Everything that there is, small.
fn everything() -> Scenario {
    let mut scenario = queue(2, 600.0, Law::Exponential(Span(0.005)), 2e4);
    let pop = |name: &str| PopPlan {
        name: name.into(),
        origin: Span(0.04),
        region: Span(0.06),
        nodes: 2,
        ..PopPlan::default()
    };
    scenario.pops = vec![pop("a"), pop("b"), pop("c")];
    scenario.functions =
        Functions { count: 50, kept: 8, service: Law::Exponential(Span(0.005)), ..Functions::default() };
    scenario.objects = Some(Objects {
        count: 10_000,
        popularity: 0.9,
        fresh_for: Span(10.0),
        front: 100,
        behind: 500,
        keep: cache::Keep::TinyLfu,
    });
    scenario.node = NodeKind { queue: 4, patience: Span(0.05), start: Law::Constant(Span(5.0)), ..NodeKind::default() };
    let place = |workers| {
        Some(Place { workers, queue: 10, service: Some(Law::Exponential(Span(0.02))), cost_of_million: None })
    };
    (scenario.origin, scenario.region) = (place(12), place(2));
    scenario.faults = vec![
        Fault { at: Span(10.0), pop: "a".into(), nodes: None, notice: Span(0.0), back: Some(Span(5.0)) },
        Fault { at: Span(20.0), pop: "b".into(), nodes: Some(1), notice: Span(2.0), back: None },
    ];
    scenario.scaling = Scaling::Knative { concurrency: Default::default() };
    scenario
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_gives_others() {
    let of = |seed| format!("{:?}", play(&everything(), seed));
    assert_eq!(of(1), of(1));
    assert_ne!(of(1), of(2));
}

#[test]
fn the_hit_ratio_of_a_pop_is_within_two_points_of_ches() {
    let mut scenario = queue(8, 1000.0, Law::Constant(Span(0.001)), 2e5);
    scenario.objects = Some(Objects {
        count: 5000,
        popularity: 0.9,
        fresh_for: Span(1e6),
        front: 500,
        behind: 0,
        keep: cache::Keep::Lru,
    });
    let tally = play(&scenario, 1);
    let seen = tally.front.0 as f64 / (tally.front.0 + tally.front.1) as f64;
    let told = cache::che(popular::Popular::zipf(5000, 0.9).parts(), 500);
    assert!((seen - told).abs() < 0.02, "{seen} and not {told}");
}

#[test]
fn who_waits_for_a_timer_holds_neither_a_worker_nor_an_isolate() {
    let mut scenario = queue(1, 100.0, Law::Constant(Span(0.001)), 2e4);
    scenario.functions.wait = Law::Constant(Span(0.05));
    scenario.functions.kept = 1;
    let tally = play(&scenario, 1);
    assert!((tally.latency.quantile(0.5) / 0.051 - 1.0).abs() < 0.03, "{}", tally.latency.quantile(0.5));
    assert_eq!(tally.starts[1..], [0, 0], "five are in flight at once, and one isolate runs them all");
}

#[test]
fn those_that_miss_one_object_at_once_ask_the_origin_once() {
    let mut scenario = queue(1, 1000.0, Law::Constant(Span(0.0001)), 1e4);
    scenario.objects =
        Some(Objects { count: 1, popularity: 0.0, fresh_for: Span(0.2), front: 0, behind: 10, keep: cache::Keep::Lru });
    scenario.origin =
        Some(Place { workers: 100, queue: 1000, service: Some(Law::Constant(Span(0.05))), cost_of_million: None });
    let tally = play(&scenario, 1);
    assert!((35..=45).contains(&tally.asked[0]), "once in 250 ms of 10 s, and not {} times", tally.asked[0]);
    assert_eq!(tally.arrived, tally.answered + tally.in_flight);
}

/// A PoP whose cost wanders around the region's with a noisy load.
fn noisy(band: crate::fallback::Band) -> Scenario {
    let mut scenario = queue(4, 100.0, Law::Exponential(Span(0.005)), 3.6e5);
    scenario.load.bursts =
        Some(crate::load::process::Bursts { factors: vec![0.5, 1.5], stays: vec![Span(20.0), Span(20.0)] });
    // At 100 requests a second, a million of them cost 0.28 on this node.
    scenario.region = Some(Place { workers: 100, queue: 100, service: None, cost_of_million: Some(0.28) });
    scenario.fallback = Some(crate::fallback::Fallback { cost: band, ..Default::default() });
    scenario
}

#[test]
fn a_noisy_load_does_not_make_the_fallback_flap() {
    use crate::fallback::{Band, Fallback};
    let calm = Fallback::default().cost;
    let tally = play(&noisy(calm), 1);
    let most = 2 * (1 + (tally.duration / calm.dwell.as_secs_f64()) as u64);
    assert!(tally.asked[1] > 0, "the region costs less while there is little load");
    assert!((1..=most).contains(&tally.turns), "{} turns, at most {most} are steady", tally.turns);
    let nervous = Band { on: 1.0, off: 0.999, dwell: std::time::Duration::ZERO };
    let flapped = play(&noisy(nervous), 1).turns;
    assert!(flapped > 5 * most, "the load is noisy enough to make a switch without hysteresis flap: {flapped}");
}

#[test]
fn an_overloaded_pop_sends_its_surplus_to_the_region_and_not_all() {
    let mut scenario = queue(2, 500.0, Law::Exponential(Span(0.005)), 6e4);
    scenario.region = Some(Place { workers: 100, queue: 1000, service: None, cost_of_million: None });
    scenario.fallback = Some(Default::default());
    scenario.node.queue = 1000;
    let told = play(&scenario, 1);
    let part = told.asked[1] as f64 / told.arrived as f64;
    assert!((0.15..0.5).contains(&part), "a fifth is too much for it; {part} went");
    assert!(told.latency.quantile(0.99) < 1.0, "{}", told.latency.quantile(0.99));
    assert_eq!(format!("{told:?}"), format!("{:?}", play(&scenario, 1)));
}

#[test]
fn what_ran_on_a_lost_node_runs_again_in_the_region_only_when_that_does_no_harm() {
    let mut scenario = queue(8, 400.0, Law::Constant(Span(0.015)), 2e4);
    scenario.region = Some(Place { workers: 100, queue: 100, service: None, cost_of_million: None });
    scenario.fallback = Some(Default::default());
    scenario.faults = vec![Fault { at: Span(20.0), pop: "pop".into(), nodes: None, notice: Span(0.0), back: None }];
    let lost = |idempotent: f64, scenario: &Scenario| {
        let mut scenario = scenario.clone();
        scenario.functions.idempotent = idempotent;
        play(&scenario, 1).refused[Refusal::NodeLost as usize]
    };
    assert_eq!(lost(1.0, &scenario), 0);
    assert!(lost(0.0, &scenario) > 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn no_request_is_lost(
        seed: u64, rate in 1.0..3000.0_f64, at in 0.0..30.0_f64, notice in 0.0..10.0_f64, nodes in prop::option::of(0..4_u32),
        back in prop::option::of(0.0..10.0_f64), knative: bool, region: bool, fallback: bool,
    ) {
        let mut scenario = everything();
        scenario.load.rate = rate;
        scenario.duration = Span(30.0);
        scenario.faults.push(Fault { at: Span(at), pop: "c".into(), nodes, notice: Span(notice), back: back.map(Span) });
        if !knative {
            scenario.scaling = Scaling::Hpa { target: 80.0, horizontal: Default::default() };
        }
        scenario.fallback = fallback.then(Default::default);
        scenario.functions.wait = Law::Exponential(Span(0.01));
        scenario.functions.idempotent = 0.5;
        if !region {
            scenario.region = None;
        }
        let tally = play(&scenario, seed);
        prop_assert_eq!(tally.arrived, tally.answered + tally.refusals() + tally.in_flight);
        prop_assert_eq!(tally.pops.iter().map(|pop| pop.arrived).sum::<u64>(), tally.arrived);
    }
}

#[test]
fn the_scenarios_beside_the_crate_say_what_they_are_there_to_say() {
    let report = |text: &str| {
        let scenario = Scenario::parse(text).unwrap();
        report::Report::new(&scenario, 1, &play(&scenario, 1))
    };
    let three = report(include_str!("../../scenarios/three-pops.toml"));
    assert!(three.asked[1] > 0.0, "what the lost PoP cannot take goes to the region");
    let sale = report(include_str!("../../scenarios/flash-sale.toml"));
    let (from, until) = sale.violated_between.unwrap();
    assert!(from >= 300.0 && until <= 900.0, "while nodes are on their way: {from} to {until}");
    let planet = report(include_str!("../../scenarios/planet.toml"));
    let control = planet.control.unwrap();
    assert_eq!(control.manifest_bytes, 3e6);
    assert_eq!(control.purge_rate, 3000.0);
    assert!((planet.throughput / 1e6 - 1.0).abs() < 0.01 && planet.pops.len() == 300);
    assert!(planet.assumptions.iter().any(|told| told.contains("0.001")));
}
