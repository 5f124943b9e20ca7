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
    let week = Described { base: 5000.0, daily, weekend: Some(0.004), burst: Some(1.2), ..Described::default() }
        .week()
        .unwrap();
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

/// Fifty of 168 hours are busy: 30 %. An hour reserved for 3 years costs 0.0639 / 0.1450 = 44 % of one on demand, one
/// reserved for a year 66 %: who needs a machine for 30 % of the time hires it by the hour. The batch may be broken off:
/// 64 tasks of Fargate Spot for 45 minutes are 64 x (0.009714 + 2 x 0.001068) x 0.75 h x 365 / 12 days = 17.30. Reserving
/// for the day so that the night is free is what people expect here; it costs more.
#[test]
fn an_office_load_is_hired_by_the_hour_and_its_batch_runs_on_what_may_be_taken_away() {
    let asked = office_and_night();
    let plan = asked.plan().unwrap();
    let mix = &plan.mix;
    assert!(
        mix.share(Kind::OnDemand) > 0.5 && mix.share(Kind::Reserved3y) + mix.share(Kind::Reserved1y) < 0.01,
        "{}",
        describe(mix)
    );
    let night = mix.parts.iter().find(|part| part.kind == Kind::FargateSpot).unwrap();
    assert_eq!(night.monthly.to_string(), "17.30");
    let reserved = Question { kinds: vec![Kind::Reserved3y, Kind::Reserved1y], ..asked }.solve().unwrap();
    assert!(reserved.total().as_f64() > 1.5 * mix.total().as_f64(), "{} {}", reserved.total(), mix.total());
    // The batch never runs on Lambda: 45 minutes are more than its 15.
    let refused = |it: &Refusal| {
        it.stream == "nightly"
            && it.kind == Kind::Lambda
            && matches!(it.why, Why::Limit { what: "time of a function", .. })
    };
    assert!(plan.refusals.iter().any(refused), "{:?}", plan.refusals);
    assert!(plan.fallbacks.iter().any(|it| it.lost == "spot capacity" && it.then.is_ok()));
}

/// A document of so many bytes: 2 s for 10 KB, 25 minutes for 500 MB, in between in proportion (3 ms a KB); it is held in
/// memory three times. `by_value`: it comes in the request, and not as the name of an object.
fn document(bytes: f64, by_value: bool) -> Stream {
    let ms = 2000.0 + (1_500_000.0 - 2000.0) * (bytes - 1e4) / (5e8 - 1e4);
    let mut one = stream(
        Week::flat(0.05, 0.1),
        Work { p99_ms: Some(ms), ..work(ms * 0.9, ms * 0.1, 32.0 + 3.0 * bytes / 1_048_576.0) },
    );
    one.work.request_bytes = if by_value { bytes } else { 0.0 };
    one
}

/// The largest document that one kind takes, and what refuses the next.
fn line(kind: Kind, by_value: bool) -> (f64, Option<&'static str>) {
    let refusal = |bytes: f64| {
        let asked = Question { own_machines: 8, ..question(vec![document(bytes, by_value)]) };
        match crate::plan::offer::judge(&asked, &asked.streams[0], kind) {
            Err(Why::Limit { what, .. }) => Some(what),
            _ => None,
        }
    };
    let (mut low, mut high) = (1e4, 5e8);
    if refusal(high).is_none() {
        return (high, None);
    }
    while high - low > 1.0 {
        let middle = f64::midpoint(low, high);
        if refusal(middle).is_some() { high = middle } else { low = middle }
    }
    (low, refusal(high))
}

/// Where the line to the region runs. The edge gives 60 s, 30 s of processor time and 128 MB. Processor time comes first:
/// 0.9 x t = 30 s at t = 33.3 s, which is (33.3 - 2) / 1498 of 500 MB: 10.5 MB. Lambda would take 15 minutes: (900 - 2) /
/// 1498 of 500 MB = 300 MB; but in a request it takes 6 MB, so that documents come to it by name. Above 300 MB only
/// containers and machines remain.
#[test]
fn documents_leave_the_edge_at_ten_megabytes_and_lambda_at_three_hundred() {
    let near = |found: f64, expected: f64| assert!((found / expected - 1.0).abs() < 0.01, "{found} {expected}");
    let (edge, why) = line(Kind::Own, true);
    near(edge, 1e4 + (30_000.0 / 0.9 - 2000.0) / 1_498_000.0 * 5e8);
    assert_eq!(why, Some("processor time of a request"));
    let (lambda, why) = line(Kind::Lambda, false);
    near(lambda, 1e4 + 898_000.0 / 1_498_000.0 * 5e8);
    assert_eq!(why, Some("time of a function"));
    let (lambda, why) = line(Kind::Lambda, true);
    near(lambda, 6.0 * 1024.0 * 1024.0);
    assert_eq!(why, Some("body of a request"));
    assert_eq!(line(Kind::Fargate, true), (5e8, None));
    let large = question(vec![document(4e8, false)]).solve().unwrap();
    assert!(!large.kinds().contains(&Kind::Lambda), "{}", describe(&large));
}

/// 3.075 requests a second of 10 ms keep a processor busy for 3.1 % of the month; at noon there are 80 a second. On Lambda
/// that is 8.081 million requests x 0.20 = 1.616, and 8.081 million x (20.5 ms x 0.125 GB + 10 ms x 1769 / 1024 GB)
/// = 160,310 GB-s x 0.0000133334 = 2.137. The cheapest machine that is always there costs 11.66, three times as much,
/// and would be too small at noon: machines are cheaper from 10 % on.
#[test]
fn a_spiky_api_at_three_percent_is_paid_by_the_request() {
    let mut daily = vec![0.2; 24];
    daily[12] = 20.0;
    let week = Described { base: 1.0, daily, burst: Some(4.0), ..Described::default() }.week().unwrap().scaled(3.0);
    let plan = question(vec![stream(week, work(10.0, 20.0, 128.0))]).plan().unwrap();
    assert_eq!(plan.mix.kinds(), [Kind::Lambda]);
    assert_eq!(plan.total().to_string(), "3.75");
    let reserved =
        plan.crossovers.iter().find(|it| it.below == "Lambda" && it.above == "reserved for 3 years").unwrap();
    let used = reserved.utilisation.unwrap();
    assert!((used - reserved.monthly[1] / reserved.monthly[0]).abs() < 1e-9 && used > 0.031, "{used}");
}

/// The field's 70 % is where an hour reserved for a year is as dear as one on demand: 0.0959 / 0.1450 = 66 %. Against
/// Lambda it is far less, because a processor of Lambda that is always busy costs 60 a month by its GB-s alone: for
/// requests of a second 17.50 / 60.7 = 29 %; for requests of 10 ms, where each also costs its 0.20 a million, half of that.
#[test]
fn seventy_percent_is_the_line_between_reserved_and_on_demand_and_not_that_to_lambda() {
    let crossover = |cpu_ms: f64, below: &str| {
        let plan = question(vec![stream(Week::flat(1.0, 1.0), work(cpu_ms, 0.0, 128.0))]).plan().unwrap();
        let found = plan.crossovers.into_iter().find(|it| it.below == below && it.above == "reserved for 1 year");
        found.unwrap().utilisation.unwrap()
    };
    let near = |found: f64, expected: f64| assert!((found - expected).abs() < 0.005, "{found} {expected}");
    near(crossover(1000.0, "on demand"), 0.0959 / 0.1450);
    let gb_seconds = 730.0 * 3600.0 * (1769.0 / 1024.0) * 0.0000133334;
    let requests = 730.0 * 3600.0 * 0.20 / 1e6;
    near(crossover(1000.0, "Lambda"), (0.0959 * 730.0 / 4.0) / (gb_seconds + requests));
    near(crossover(1000.0, "Lambda"), 0.29);
    near(crossover(10.0, "Lambda"), 0.15);
}
