use super::bill::{LAMBDA_MIN_MB, Metered, Store, Terms, lambda_gb_seconds, metered, own, own_share, stored};
use super::budget::{Action, Brake, Budget};
use super::*;
use crate::price::{Money, PriceBook};
use proptest::prelude::*;

fn key(function: &str, pop: &str) -> UsageKey {
    UsageKey { function: function.to_owned(), version: "v1".to_owned(), pop: pop.to_owned(), cohort: String::new() }
}

#[test]
fn a_full_meter_loses_nothing() {
    let mut meter = Meter::new(2);
    let one = Usage { requests: 1, cpu_us: 7, ..Usage::default() };
    for function in ["a", "b", "c", "d", "a"] {
        meter.add(&key(function, "fra"), one);
    }
    assert_eq!(meter.total(), Usage { requests: 5, cpu_us: 35, ..Usage::default() });
    assert_eq!(meter.by(|key| key.function.clone())[Meter::OTHER].requests, 2);
    let mut fleet = Meter::default();
    fleet.merge(&meter);
    fleet.merge(&meter);
    assert_eq!(fleet.total().requests, 10);
}

/// Cloudflare's first example: 15 million requests of 7 ms are 5.00 + 1.50 + 1.50.
#[test]
fn the_bill_for_workers_is_that_of_the_sellers_own_example() {
    let usage = Usage { requests: 15_000_000, cpu_us: 15_000_000 * 7000, ..Usage::default() };
    let bill = metered(Metered::Workers, &usage, &PriceBook::embedded(), &Terms::default());
    assert_eq!(bill.total().to_string(), "8.00");
    assert_eq!(bill.lines.iter().map(|line| line.amount.to_string()).collect::<Vec<_>>(), ["1.50", "1.50", "5.00"]);
}

/// AWS's first example: 3 million requests of 1 s at 512 MB are 1.1 million GB-s and 2 million requests to pay for: 18.73.
/// A function that only waits, so that a processor's speed does not matter; half a millisecond each is for rounding up.
#[test]
fn the_bill_for_lambda_is_that_of_the_sellers_own_example() {
    let usage = Usage { requests: 3_000_000, invocations: 3_000_000, wall_us: 3_000_000 * 999_500, ..Usage::default() };
    let terms = Terms { memory_mb: 512.0, ..Terms::default() };
    let bill = metered(Metered::LambdaX86, &usage, &PriceBook::embedded(), &terms);
    assert_eq!(bill.total().to_string(), "18.73");
}

#[test]
fn little_memory_makes_lambda_slow_but_not_cheaper_where_it_computes() {
    let computes =
        Usage { requests: 1000, invocations: 1000, cpu_us: 50_000_000, wall_us: 50_000_000, ..Usage::default() };
    let (little, much) = (lambda_gb_seconds(&computes, LAMBDA_MIN_MB), lambda_gb_seconds(&computes, 1769.0));
    assert!((little / much - 1.0).abs() < 0.02, "{little} {much}");
    let waits = Usage { cpu_us: 0, ..computes };
    assert!(lambda_gb_seconds(&waits, 1769.0) > 13.0 * lambda_gb_seconds(&waits, LAMBDA_MIN_MB));
}

#[test]
fn own_machines_and_stores_have_bills_too() {
    let book = PriceBook::embedded();
    let usage = Usage { bytes_out: 1_000_000_000_000, object_reads: 2_000_000, ..Usage::default() };
    // 2 x 3200 / 60 = 106.67; 2 x 0.12 kW x 730 h x 0.22 = 38.54; 2 x 60 = 120; 1000 GB x 0.002 = 2.
    assert_eq!(own(&book.own[0], 2.0, &usage, &book, &Terms::default()).total().to_string(), "267.21");
    assert_eq!(stored(Store::S3, &usage, 10_000_000_000, &book).total().to_string(), "1.70");
    assert_eq!(stored(Store::R2, &usage, 10_000_000_000, &book).total().to_string(), "0.72");
}

#[test]
fn a_share_of_a_machine_costs_what_it_takes_of_it() {
    let book = PriceBook::embedded();
    let node = &book.own[0];
    // All 16 processors for all of a month.
    let whole = Usage { cpu_us: 16 * 730 * 3_600_000_000, ..Usage::default() };
    let machine = own(node, 1.0, &Usage::default(), &book, &Terms::default());
    assert_eq!(own_share(node, &whole, &book).total(), machine.total());
    assert!(own_share(node, &whole, &book).is_unverified(), "the book's own machine is a guess");
    assert_eq!(own_share(node, &Usage::default(), &book).total(), Money::ZERO);
}

#[test]
fn a_budget_tells_once_then_places_cheaper_then_limits() {
    let brake = Some(Brake { cheaper_at: 0.8, limit_at: 0.95 });
    let budget = Budget { amount: Money::from_f64(100.0), alerts: vec![0.5, 0.8, 1.0], brake };
    let weigh = |spent: f64, told| budget.weigh(Money::from_f64(spent), 1_000_000, 0.5, 2_000_000.0, told);
    assert_eq!((weigh(40.0, 0.0).alerts.len(), weigh(40.0, 0.0).action), (0, Action::Carry));
    assert_eq!(weigh(40.0, 0.0).projected.to_string(), "80.00");
    assert_eq!(weigh(85.0, 0.0).alerts, [0.5, 0.8]);
    assert_eq!((weigh(85.0, 0.8).alerts.len(), weigh(85.0, 0.8).action), (0, Action::Cheaper));
    // 4 are left; a request costs 96 / 1,000,000; a million seconds remain: 41,666 requests, one each 24 s.
    let Action::Limit(rate) = weigh(96.0, 0.8).action else { panic!("no limit") };
    assert!((rate - 4.0 / 96e-6 / 1e6).abs() < 1e-9, "{rate}");
    assert_eq!(weigh(120.0, 1.0).action, Action::Limit(0.0));
    assert_eq!(
        Budget { brake: None, ..budget.clone() }.weigh(Money::from_f64(500.0), 1, 0.1, 1.0, 1.0).action,
        Action::Carry
    );
    assert_eq!(budget.weigh(Money::from_f64(96.0), 0, f64::NAN, 1.0, 1.0).action, Action::Cheaper);
}

fn usages() -> impl Strategy<Value = Usage> {
    (0..1u64 << 40, 0..1u64 << 50, 0..1u64 << 50, 0..1u64 << 50, 0..1u64 << 50).prop_map(
        |(requests, cpu_us, waits, memory_mb_ms, bytes_out)| Usage {
            requests,
            invocations: requests,
            cpu_us,
            wall_us: cpu_us + waits,
            memory_mb_ms,
            bytes_out,
            ..Usage::default()
        },
    )
}

proptest! {
    #[test]
    fn sums_do_not_depend_on_order_or_place(usages in prop::collection::vec((usages(), 0..3u8, 0..3u8), 0..40)) {
        let (mut whole, mut pops) = (Meter::default(), [Meter::default(), Meter::default(), Meter::default()]);
        let mut plain = Usage::default();
        for (usage, function, pop) in &usages {
            let key = key(&function.to_string(), &pop.to_string());
            whole.add(&key, *usage);
            pops[usize::from(*pop)].add(&key, *usage);
            plain += *usage;
        }
        let mut merged = Meter::default();
        pops.iter().rev().for_each(|pop| merged.merge(pop));
        prop_assert_eq!(whole.total(), plain);
        prop_assert!(whole.iter().eq(merged.iter()));
    }

    #[test]
    fn bills_add_up_and_never_fall_when_more_is_used(usage in usages(), more in usages(), months in 0.01..1.0f64, allowances: bool) {
        let book = PriceBook::embedded();
        let terms = Terms { months, allowances, ..Terms::default() };
        let mut sum = usage;
        sum += more;
        for model in Metered::ALL {
            let bill = metered(model, &usage, &book, &terms);
            prop_assert_eq!(bill.total().micros(), bill.lines.iter().map(|line| line.amount.micros()).sum::<u64>());
            prop_assert!(metered(model, &sum, &book, &terms).total() >= bill.total());
        }
    }
}
