//! The loads under which policies are compared, and our policy with the parameters that were found for them.

use std::time::Duration;

use super::super::pilot::{Combined, Scaling};
use super::super::scenario::{Functions, NodeKind, Objective, PopPlan, Scenario};
use super::super::{Law, Span};
use crate::load::process::{Arrivals, Bursts, Crowd, Day, Process};
use crate::scale::concurrency::Concurrency;
use crate::scale::horizontal::Horizontal;
use crate::scale::policy::Policy;
use crate::scale::predict::Predict;

/// Their names: always the same; a day; a day with noise of 5 %; bursts of half and of twice the load; six times the load
/// in thirty seconds.
pub const LOADS: [&str; 5] = ["flat", "daily", "noisy", "bursty", "flash"];

/// A day is so long here, in seconds: steeper than a real one.
const DAY: f64 = 4.0 * 3600.0;
/// Workers of a node.
const WORKERS: u32 = 8;
/// Seconds of a step of the forecast.
const STEP: u64 = 60;

/// One PoP under a load: requests of about a second, on nodes of eight workers that take a minute to start.
pub fn trial(load: &str) -> Scenario {
    let rate = 100.0;
    let mut process = Process { rate, ..Process::default() };
    if matches!(load, "daily" | "noisy") {
        process.day = Some(Day { period: Span(DAY), peak: Span(DAY / 2.0), swing: 0.6 });
    }
    process.bursts = match load {
        "noisy" => Some(Bursts { factors: vec![0.95, 1.05], stays: vec![Span(120.0); 2] }),
        "bursty" => Some(Bursts { factors: vec![0.5, 1.0, 2.0], stays: vec![Span(300.0), Span(600.0), Span(120.0)] }),
        _ => None,
    };
    if load == "flash" {
        process.rate = 50.0;
        process.crowds =
            vec![Crowd { at: Span(3600.0), factor: 6.0, rise: Span(30.0), stay: Span(900.0), fall: Span(300.0) }];
    }
    let none = Law::Constant(Span(0.0));
    let service = Law::Lognormal { p50: Span(0.9), p99: Span(1.5) };
    Scenario {
        name: load.into(),
        duration: Span(if load == "flash" { DAY / 2.0 } else { DAY }),
        warm_up: Span(0.0),
        load: process,
        recorded: Vec::new(),
        functions: Functions { service, pooled: none.clone(), unpooled: none, ..Functions::default() },
        objects: None,
        pops: vec![PopPlan::default()],
        node: NodeKind {
            workers: WORKERS,
            queue: 64,
            patience: Span(2.0),
            start: Law::Constant(Span(60.0)),
            ..NodeKind::default()
        },
        scaling: Scaling::Fixed,
        origin: None,
        region: None,
        fallback: None,
        faults: Vec::new(),
        objective: Objective { latency: Span(3.0), violations: 0.001 },
        control: None,
        sample: 1.0,
    }
}

/// Requests in flight in each step of the days before, from the same process with another seed.
pub fn past(scenario: &Scenario, days: f64, seed: u64) -> Vec<f64> {
    let process = Process { crowds: Vec::new(), ..scenario.load.clone() };
    let mut arrivals = Arrivals::new(process, seed, 7);
    let mut steps = vec![0.0; (days * DAY / STEP as f64) as usize];
    while let Some(step) = arrivals.next().map(|at| (at / (STEP * 1_000_000_000)) as usize) {
        let Some(count) = steps.get_mut(step) else { break };
        *count += scenario.functions.service.moments().0 / STEP as f64;
    }
    steps
}

/// Our policy for a trial.
pub fn ours(scenario: &Scenario, seed: u64) -> Scaling {
    let seconds = Duration::from_secs;
    let concurrency = Concurrency {
        capacity: f64::from(WORKERS),
        utilisation: 0.97,
        stable_window: seconds(60),
        panic_window: 20.0,
        panic_threshold: 1.5,
        to_zero: false,
        ..Concurrency::default()
    };
    let policy = Policy {
        horizontal: Horizontal { max: 1000, ..Horizontal::default() },
        concurrency: Some(concurrency),
        settle: Duration::ZERO,
        ..Policy::default()
    };
    let predict = Predict {
        step: seconds(STEP),
        season: Duration::from_secs_f64(DAY),
        horizon: seconds(5 * STEP),
        level: 0.6,
        folds: 12,
    };
    Scaling::Combined(Box::new(Combined {
        policy,
        predict: Some(predict),
        past: past(scenario, 3.0, seed + 1000),
        lead: Span(60.0),
    }))
}

/// The defaults of the HPA and of the KPA with wide bounds, and ours.
pub fn policies(scenario: &Scenario, seed: u64) -> Vec<Scaling> {
    vec![
        Scaling::Hpa { target: 80.0, horizontal: Horizontal { max: 1000, ..Horizontal::default() } },
        Scaling::Knative { concurrency: Concurrency::default() },
        ours(scenario, seed),
    ]
}
