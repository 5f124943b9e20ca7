use super::*;
use crate::load::{Described, Peak, Week};
use crate::price::PriceBook;
use proptest::prelude::*;

mod known;

/// A question with an edge near the clients and a region 900 km away.
pub(super) fn question(streams: Vec<Stream>) -> Question {
    let place = |name: &str, kind, distance_km, rtt_ms| Place {
        name: name.to_owned(),
        kind,
        jurisdiction: "EU".to_owned(),
        distance_km,
        rtt_ms: Some(rtt_ms),
    };
    Question {
        streams,
        places: vec![place("fra", PlaceKind::Edge, 300.0, 15.0), place("eu-west", PlaceKind::Region, 900.0, 40.0)],
        kinds: Kind::ALL.to_vec(),
        own_machines: 0,
        edge_limits: EdgeLimits::default(),
        prices: PriceBook::embedded(),
    }
}

pub(super) fn work(cpu_ms: f64, wait_ms: f64, memory_mb: f64) -> Work {
    Work { cpu_ms, wait_ms, p99_ms: None, memory_mb, request_bytes: 0.0, response_bytes: 0.0 }
}

pub(super) fn stream(week: Week, work: Work) -> Stream {
    Stream {
        name: "api".to_owned(),
        demand: Demand::Requests(week),
        work,
        objective: Objective::default(),
        interruptible: false,
    }
}

fn describe(mix: &Mix) -> String {
    let part = |part: &Part| {
        format!("{} {} x{:.2} {} {:.0}%", part.kind.as_str(), part.name, part.count, part.monthly, 100.0 * part.share)
    };
    mix.parts.iter().map(part).collect::<Vec<_>>().join("; ")
}

#[test]
fn who_is_too_far_away_is_refused_by_how_much() {
    let mut asked = question(vec![stream(Week::flat(10.0, 20.0), work(5.0, 0.0, 64.0))]);
    asked.streams[0].objective.p99_ms = Some(8.0);
    let error = asked.solve().unwrap_err().to_string();
    // 900 km: 2 x 900 / 204 = 8.82 ms.
    assert!(error.contains("eu-west is so far away that light in fibre takes 8.8 ms there and back; the p99 of 8.0 ms is 0.8 ms too short"), "{error}");
    assert!(
        error.contains(
            "at fra the round trip takes 15.0 ms and the work 15.0 ms, together 22.0 ms more than the p99 of 8.0 ms"
        ),
        "{error}"
    );
    asked.streams[0].objective = Objective { residency: vec!["CH".to_owned()], ..Objective::default() };
    assert!(asked.solve().unwrap_err().to_string().contains("stands outside of CH"));
}

#[test]
fn a_load_that_no_mix_can_carry_is_told_with_what_is_missing() {
    let mut asked = question(vec![stream(Week::flat(10_000.0, 20_000.0), work(5.0, 0.0, 16.0))]);
    asked.kinds = vec![Kind::Own];
    asked.own_machines = 4;
    // 20,000 x 5 ms = 100 processors, at most 80 % used: 125; 16 a machine: 8.
    assert_eq!(asked.solve(), Err(PlanError::TooFewOwn { stream: "api".to_owned(), needed: 8, available: 4 }));
    asked.own_machines = 8;
    assert_eq!(asked.solve().unwrap().kinds(), [Kind::Own]);
    asked.kinds = vec![Kind::Spot];
    assert!(asked.solve().unwrap_err().to_string().contains("may not be broken off"));
    asked.streams[0] = stream(Week::flat(1e9, 1e9), work(1000.0, 0.0, 16.0));
    asked.kinds = vec![Kind::Lambda];
    assert_eq!(asked.solve(), Err(PlanError::TooLarge { stream: "api".to_owned() }));
}

#[test]
fn everything_that_is_wrong_with_a_question_is_told_at_once() {
    let mut asked = question(vec![stream(Week::flat(1.0, 1.0), work(f64::NAN, -1.0, 0.0)); 2]);
    asked.places[1].rtt_ms = Some(3.0);
    asked.kinds.clear();
    let error = asked.solve().unwrap_err().to_string();
    for part in [
        "nothing may be bought",
        "two streams with the name",
        "cpu_ms",
        "wait_ms",
        "memory_mb",
        "a round trip of 3 ms over 900 km cannot be",
    ] {
        assert!(error.contains(part), "{part}\n{error}");
    }
}

#[test]
fn a_spare_machine_stands_by_where_the_error_budget_is_small() {
    let mut asked = question(vec![stream(Week::flat(100.0, 100.0), work(5.0, 0.0, 16.0))]);
    asked.kinds = vec![Kind::Reserved3y];
    let single = asked.solve().unwrap();
    asked.streams[0].objective.error_budget = Some(0.001);
    let spared = asked.solve().unwrap();
    assert_eq!((single.parts[0].count, spared.parts[0].count), (1.0, 2.0), "{}", describe(&spared));
    let plan = asked.plan().unwrap();
    assert!(plan.binding.iter().any(|it| it.constraint.starts_with("error budget")), "{:?}", plan.binding);
}

#[test]
fn a_lost_part_has_a_plan_b() {
    let mut asked = question(vec![stream(Week::flat(2000.0, 2500.0), work(10.0, 0.0, 16.0))]);
    asked.streams[0].interruptible = true;
    asked.kinds = vec![Kind::Spot, Kind::OnDemand];
    let plan = asked.plan().unwrap();
    assert_eq!(plan.mix.kinds(), [Kind::Spot]);
    let spot = plan.fallbacks.iter().find(|it| it.lost == "spot capacity").unwrap();
    assert_eq!((spot.at_once, spot.then.as_ref().unwrap().0.clone()), (1.0, vec![Kind::OnDemand]));
    let region = plan.fallbacks.iter().find(|it| it.lost == "region eu-west").unwrap();
    assert!(region.then.is_err());
    asked.kinds.push(Kind::Own);
    asked.own_machines = 10;
    asked.places.push(Place { name: "eu-north".to_owned(), ..asked.places[1].clone() });
    let plan = asked.plan().unwrap();
    assert!(plan.fallbacks.iter().all(|it| it.then.is_ok()), "{:?}", plan.fallbacks);
}

/// What so many processors cost for an hour when every number of every machine is tried.
fn tried(machines: &[(u32, f64)], lambda: f64, vcpus: u32) -> f64 {
    if vcpus == 0 {
        return 0.0;
    }
    let Some(((size, price), rest)) = machines.split_first() else { return lambda * f64::from(vcpus) };
    let count = |count: u32| f64::from(count) * price + tried(rest, lambda, vcpus.saturating_sub(count * size));
    (0..=vcpus.div_ceil(*size)).map(count).fold(f64::INFINITY, f64::min)
}

/// The mix is the cheapest of all that there are: against trying them all, for a day of few requests.
#[test]
fn nothing_is_cheaper_when_everything_is_tried() {
    for (base, cpu_ms, wait_ms) in
        [(3.0, 100.0, 0.0), (40.0, 30.0, 5.0), (0.2, 50.0, 0.0), (20.0, 200.0, 0.0), (9.0, 90.0, 300.0)]
    {
        let daily: Vec<f64> = (0..24_u8).map(|hour| if (8..20).contains(&hour) { 1.0 } else { 0.15 }).collect();
        let week = Described { base, daily, ..Described::default() }.week().unwrap();
        let mut asked = question(vec![stream(week.clone(), work(cpu_ms, wait_ms, 1.0))]);
        asked.kinds = vec![Kind::Reserved3y, Kind::OnDemand, Kind::Lambda];
        let book = &asked.prices;
        let machines = |price: fn(&crate::price::Instance) -> f64| -> Vec<_> {
            book.instances.iter().filter(|it| it.name.starts_with('c')).map(|it| (it.vcpus, price(it))).collect()
        };
        let (hourly, monthly) = (machines(|it| it.on_demand.amount), machines(|it| it.reserved_3y.amount * 730.0));
        let each = offer::lambda_request(&asked, &asked.streams[0]);
        let needs = need::week(&asked.streams[0], None, 0);
        let most = needs.iter().map(|need| need.vcpus).max().unwrap();
        let month = |reserved: u32| {
            let hours = [&needs[12], &needs[0]].map(|need| {
                let lambda = each * need.requests / f64::from(need.vcpus);
                365.0 * tried(&hourly, lambda, need.vcpus.saturating_sub(reserved))
            });
            tried(&monthly, f64::INFINITY, reserved) + hours.iter().sum::<f64>()
        };
        let best = (1..=most).map(month).fold(
            365.0
                * [12, 0]
                    .map(|at: usize| {
                        let need: &need::HourNeed = &needs[at];
                        tried(&hourly, each * need.requests / f64::from(need.vcpus), need.vcpus)
                    })
                    .iter()
                    .sum::<f64>(),
            f64::min,
        );
        let found = asked.solve().unwrap();
        assert!((found.total().as_f64() - best).abs() < 1e-4, "{} {best}: {}", found.total(), describe(&found));
    }
}

fn weeks() -> impl Strategy<Value = Described> {
    (0.01..400.0f64, prop::collection::vec(0.0..1.0f64, 24), 0.0..1.0f64, 1.0..3.0f64, 0.0..300.0f64).prop_map(
        |(base, daily, weekend, burst, requests)| Described {
            base,
            daily,
            weekend: Some(weekend),
            burst: Some(burst),
            peaks: vec![Peak { days: vec![1, 3], from: 9, to: 12, requests }],
            ..Described::default()
        },
    )
}

fn questions() -> impl Strategy<Value = Question> {
    (weeks(), 0.5..80.0f64, 0.0..200.0f64, 8.0..120.0f64, any::<[bool; 3]>(), 0..4u32, prop::bool::ANY).prop_map(
        |(week, cpu, wait, memory, [interruptible, bound, spare], own_machines, batch)| {
            let mut one = stream(week.week().unwrap(), work(cpu, wait, memory));
            one.interruptible = interruptible;
            one.objective.p99_ms = bound.then_some(5000.0);
            one.objective.error_budget = spare.then_some(0.001);
            let mut streams = vec![one];
            if batch {
                streams.push(Stream {
                    name: "night".to_owned(),
                    demand: Demand::Batch { cores: 20, minutes: 30.0, hour: 2 },
                    work: work(1_800_000.0, 0.0, 1000.0),
                    objective: Objective::default(),
                    interruptible: true,
                });
            }
            Question { own_machines, ..question(streams) }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn more_load_never_costs_less(asked in questions(), factor in 1.0..2.0f64) {
        let mut more = asked.clone();
        if let Demand::Requests(week) = &mut more.streams[0].demand {
            *week = week.scaled(factor);
        }
        let (less, more) = (asked.solve().unwrap(), more.solve().unwrap());
        prop_assert!(more.total().micros() + 100 >= less.total().micros(), "{}\n{}", describe(&less), describe(&more));
    }

    #[test]
    fn an_option_less_never_makes_it_cheaper(asked in questions(), index in 0..Kind::ALL.len()) {
        let all = asked.solve().unwrap();
        let mut fewer = asked.clone();
        fewer.kinds.remove(index);
        if let Ok(mix) = fewer.solve() {
            prop_assert!(mix.total().micros() + 100 >= all.total().micros(), "{}\n{}", describe(&mix), describe(&all));
        }
    }

    #[test]
    fn a_mix_carries_every_hour_and_its_parts_add_up(asked in questions()) {
        let mix = asked.solve().unwrap();
        let shares: f64 = mix.parts.iter().map(|part| part.share).sum();
        prop_assert!((shares - 1.0).abs() < 1e-9, "{}", describe(&mix));
        let sum: u64 = mix.parts.iter().map(|part| part.monthly.micros()).sum();
        prop_assert_eq!(mix.total().micros(), sum + mix.egress[0].micros() + mix.egress[1].micros());
        for (index, hour) in mix.hours.iter().enumerate() {
            let busy = asked.streams.iter().any(|it| match &it.demand {
                Demand::Requests(week) => week.hours()[index].peak > 0.0,
                Demand::Batch { hour, .. } => index % 24 == usize::from(*hour),
            });
            prop_assert_eq!(hour.needed > 0.0, busy);
        }
    }
}
