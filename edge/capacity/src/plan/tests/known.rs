//! The questions that people ask, with the calculation written out.

use super::*;
use crate::load::Flash;
use crate::plan::Why;

/// A fluid model of a fleet that an HPA on processor use scales: load and capacity in pods' worth.
struct Fleet {
    /// How often the HPA looks, in seconds.
    poll: f64,
    /// How long a new node takes, where the present ones are full.
    node: f64,
    /// How long a pod takes to start on a node.
    start: f64,
    /// Use of a pod that the HPA aims at.
    target: f64,
    /// Pods at the beginning.
    pods: f64,
    /// Load that can go elsewhere from the second at which pods are full: to a region that answers at once.
    elsewhere: f64,
}

impl Fleet {
    /// As the question has it, in the middle of its ranges.
    const ASKED: Self = Self { poll: 15.0, node: 75.0, start: 45.0, target: 0.6, pods: 10.0, elsewhere: 0.0 };

    /// What it refuses, in pod-seconds, and until when, when load rises from `0.6 x 10` pods' worth to ten times as much in
    /// 30 s and stays there for 20 minutes.
    fn sale(&self) -> (f64, f64) {
        let (step, mut refused, mut last) = (0.25, 0.0, 0.0);
        // (ready at, how many)
        let mut coming: Vec<(f64, f64)> = Vec::new();
        let (mut ready, mut looked) = (self.pods, f64::NEG_INFINITY);
        for tick in 0..4800 {
            let now = f64::from(tick) * step;
            let load = 6.0 * (1.0 + 9.0 * (now / 30.0).min(1.0));
            coming.retain(|(at, pods)| {
                if *at <= now {
                    ready += pods;
                }
                *at > now
            });
            let short = (load - ready - self.elsewhere).max(0.0);
            refused += short * step;
            if short > 0.0 {
                last = now;
            }
            if now - looked >= self.poll {
                looked = now;
                // HPA v2: a pod cannot use more than all of itself, and pods that are not ready count as idle ones.
                let pods = ready + coming.iter().map(|(_, pods)| pods).sum::<f64>();
                let ratio = load.min(ready) / pods / self.target;
                let wanted = if (ratio - 1.0).abs() <= 0.1 { pods } else { (pods * ratio).ceil() };
                if wanted > pods {
                    coming.push((now + self.node + self.start, wanted.min(2.0 * pods) - pods));
                }
            }
        }
        (refused, last)
    }
}

/// A flash sale of 10x in 30 s: HPA polls each 15 s, nodes take 60 to 90 s, pods 30 to 60 s to start.
///
/// Ten pods at 60 % carry 10 pods' worth; the sale wants 60. The pods are full after 2.2 s. What follows is not one delay
/// of 15 + 75 + 45 s but several in a row: the HPA sees at most 100 % of what is ready, so that it asks for 1 / 0.6 = 1.67
/// times as many, and while these start they count as idle, so that it asks for no more: 10, 17, 28, 47, 79. Each round
/// takes node and start. So the node is the largest part, the start the second, and the poll hardly one.
#[test]
fn a_flash_sale_fails_by_rounds_of_node_and_start_and_a_place_that_answers_at_once_removes_it() {
    let (refused, until) = Fleet::ASKED.sale();
    assert!((14_000.0..20_000.0).contains(&refused), "{refused}");
    assert!((480.0..600.0).contains(&until), "{until}: four rounds of 120 s and the polls between");

    let saved = |fleet: Fleet| 1.0 - fleet.sale().0 / refused;
    let poll = saved(Fleet { poll: 1.0, ..Fleet::ASKED });
    let node = saved(Fleet { node: 0.0, ..Fleet::ASKED });
    let start = saved(Fleet { start: 0.0, ..Fleet::ASKED });
    assert!(node > start && start > poll, "node {node:.2}, start {start:.2}, poll {poll:.2}");
    assert!(node > 0.45 && poll < 0.15, "node {node:.2}, start {start:.2}, poll {poll:.2}");

    // Ready isolates start in milliseconds, and nodes were there: what remains is the poll.
    let isolates = saved(Fleet { node: 0.0, start: 0.01, ..Fleet::ASKED });
    assert!(isolates > 0.85, "{isolates}");
    // Scheduled before the sale: 60 / 0.6 = 100 pods. Nothing is refused.
    assert_eq!(Fleet { pods: 100.0, ..Fleet::ASKED }.sale().0, 0.0);
    // A region that takes what the pods cannot: nothing is refused either, and nobody had to know about the sale.
    assert_eq!(Fleet { elsewhere: 54.0, ..Fleet::ASKED }.sale().0, 0.0);
    // A lower target alone does not help: at 30 % the fleet has twice the room, and still too little.
    assert!(Fleet { target: 0.3, pods: 20.0, ..Fleet::ASKED }.sale().0 > 0.2 * refused);
}

/// The same sale for the planner: one hour of the week at ten times the load is carried by what is paid by the request;
/// machines for it would stand idle for 167 hours.
#[test]
fn the_hour_of_a_sale_is_not_reserved() {
    let flash = Some(Flash { day: 4, hour: 18, factor: 10.0, minutes: 30.0 });
    let week = Described { base: 600.0, burst: Some(1.2), flash, ..Described::default() }.week().unwrap();
    let mut asked = question(vec![stream(week, work(10.0, 0.0, 64.0))]);
    asked.streams[0].objective.p99_ms = Some(250.0);
    let mix = asked.solve().unwrap();
    assert!(mix.share(Kind::Reserved3y) > 0.9, "{}", describe(&mix));
    let sale = &mix.hours[4 * 24 + 18];
    assert!(sale.carried[Kind::Reserved3y as usize] < 0.2 * sale.needed, "{sale:?}");
}

/// 5,000 requests a second from 8 to 18 o'clock on working days, 20 otherwise, and 64 cores for 45 minutes at 2 a.m.
fn office_and_night() -> Question {
    let mut daily = vec![20.0 / 5000.0; 24];
    daily[8..18].fill(1.0);
    let week = Described { base: 5000.0, daily, weekend: Some(0.004), burst: Some(1.2), ..Described::default() }.week().unwrap();
    let mut api = stream(week, work(4.0, 10.0, 64.0));
    api.objective = Objective { p99_ms: Some(200.0), error_budget: Some(0.001), residency: Vec::new() };
    let batch = Stream {
        name: "nightly".to_owned(),
        demand: Demand::Batch { cores: 64, minutes: 45.0, hour: 2 },
        work: Work { p99_ms: Some(2_700_000.0), ..work(2_700_000.0, 0.0, 1500.0) },
        objective: Objective::default(),
        interruptible: true,
    };
    question(vec![api, batch])
}

#[test]
fn an_office_load_and_a_nightly_batch() {
    let asked = office_and_night();
    let mix = asked.solve().unwrap();
    eprintln!("office: {} total {}", describe(&mix), mix.total());
    let plan = asked.plan().unwrap();
    eprintln!("{:#?} {:#?} {:#?} {:#?}", plan.binding, plan.crossovers, plan.sensitivity, plan.comparisons);
    // The batch never runs on Lambda: 45 minutes are more than its 15.
    let refused = |it: &Refusal| it.stream == "nightly" && it.kind == Kind::Lambda && matches!(it.why, Why::Limit { what: "time of a function", .. });
    assert!(plan.refusals.iter().any(refused), "{:?}", plan.refusals);
}

#[test]
fn a_spiky_api_at_three_percent() {
    let mut daily = vec![0.2; 24];
    daily[12] = 20.0;
    let week = Described { base: 3.0, daily, burst: Some(4.0), ..Described::default() }.week().unwrap();
    let asked = question(vec![stream(week, work(10.0, 20.0, 128.0))]);
    let plan = asked.plan().unwrap();
    eprintln!("spiky: {} {:#?}", describe(&plan.mix), plan.crossovers);
    eprintln!("{:#?}", plan.comparisons);
}
