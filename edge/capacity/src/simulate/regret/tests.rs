use proptest::prelude::*;

use super::clairvoyant::cheapest;
use super::*;

#[test]
fn ours_is_near_the_clairvoyant_and_never_worse_than_hpa_on_both_at_once() {
    let mut rows = Vec::new();
    for load in LOADS {
        let scenario = trial(load);
        rows.extend(compare(load, &scenario, &policies(&scenario, 1), 1));
    }
    let table = text(&rows);
    println!("{table}");
    for four in rows.chunks(4) {
        let [best, hpa, _, ours] = four else { panic!("{table}") };
        assert!(best.violated <= 0.001, "{table}");
        assert!(!(ours.node_hours > hpa.node_hours && ours.violated > hpa.violated), "{table}");
        if matches!(ours.load, "daily" | "noisy") {
            assert!(ours.regret <= 1.1 && ours.violated <= 0.001, "{table}");
        }
    }
}

/// All plans, by trying.
fn by_trying(slots: &Slots, price: f64) -> f64 {
    let most = 4_u32;
    let count = slots.violations.len();
    let mut best = f64::INFINITY;
    for code in 0..(most + 1).pow(count as u32) {
        let plan: Vec<u32> = (0..count).map(|slot| code / (most + 1).pow(slot as u32) % (most + 1)).collect();
        best = best.min(cost(slots, &plan, price));
    }
    best
}

fn cost(slots: &Slots, plan: &[u32], price: f64) -> f64 {
    let mut sum = 0.0;
    for (slot, nodes) in plan.iter().enumerate() {
        let (least, counts) = &slots.violations[slot];
        let Some(more) = nodes.checked_sub(*least) else { return f64::INFINITY };
        sum += f64::from(*nodes) + price * counts.get(more as usize).copied().unwrap_or(0) as f64;
        if slot > 0 && plan[slot - 1] < *nodes {
            if slot <= slots.start {
                return f64::INFINITY;
            }
            sum += slots.start as f64 * f64::from(nodes - plan[slot - 1]);
        }
    }
    sum
}

proptest! {
    #[test]
    fn no_plan_is_cheaper_than_the_clairvoyant(
        needs in prop::collection::vec((0..4_u32, prop::collection::vec(1..5_u64, 0..2)), 1..6), start in 0..3_usize, price in 0.1..5.0_f64,
    ) {
        let violations = needs.into_iter().map(|(least, mut counts)| {
            counts.sort_unstable_by(|a, b| b.cmp(a));
            counts.truncate(4 - least as usize);
            counts.push(0);
            (least, counts)
        });
        let mut slots = Slots { violations: violations.collect(), start };
        slots.violations.iter_mut().for_each(|(least, counts)| counts.drain(..counts.len().saturating_sub(5 - *least as usize)).for_each(drop));
        let plan = cheapest(&slots, price);
        prop_assert!((cost(&slots, &plan, price) - by_trying(&slots, price)).abs() < 1e-9);
    }
}
