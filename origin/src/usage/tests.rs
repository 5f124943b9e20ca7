use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use super::*;
use crate::store::Memory;

/// 2026-11-27, noon.
const NOON: u64 = 1_795_737_600_000 + 43_200_000;
const DAY_MS: u64 = 86_400_000;

fn usages() -> Usages {
    Usages::new(Arc::new(Memory::new(Arc::new(|| SystemTime::UNIX_EPOCH))))
}

fn row(day: &str, function: &str, requests: u64) -> UsageRow {
    let used = BTreeMap::from([("requests".to_owned(), requests)]);
    UsageRow { day: day.to_owned(), function: function.to_owned(), used, ..UsageRow::default() }
}

fn batch(number: u64, rows: &[UsageRow]) -> Option<UsageBatch> {
    Some(UsageBatch { ledger: "a1".to_owned(), number, rows: rows.to_vec() })
}

async fn requests(usages: &Usages, period: &str) -> BTreeMap<String, u64> {
    let report = usages.report(period).await.unwrap();
    let rows = report.pops.into_iter().flat_map(|(pop, rows)| {
        rows.into_iter().map(move |row| (format!("{pop} {}", row.function), row.used["requests"]))
    });
    rows.collect()
}

fn sums<const N: usize>(sums: [(&str, u64); N]) -> BTreeMap<String, u64> {
    sums.map(|(name, sum)| (name.to_owned(), sum)).into()
}

#[tokio::test]
async fn a_batch_that_comes_again_is_acknowledged_and_not_added_again() {
    let usages = usages();
    let rows = [row("2026-11-26", "f", 2), row("2026-11-27", "f", 3), row("2026-11-27", "g", 4)];
    for _ in 0..3 {
        let receipt = usages.deliver("fra", batch(1, &rows), &[], NOON).await.unwrap();
        assert_eq!((receipt.acknowledged, receipt.day.as_str()), (Some(1), "2026-11-27"));
    }
    usages.deliver("fra", batch(2, &rows[1..]), &[], NOON).await.unwrap();
    // An old one that was on the way for long.
    usages.deliver("fra", batch(1, &rows), &[], NOON).await.unwrap();
    // Another PoP, and another folder of the same PoP, number for themselves.
    usages.deliver("lhr", batch(1, &rows[..1]), &[], NOON).await.unwrap();
    let other = batch(1, &rows[1..2]).map(|batch| UsageBatch { ledger: "b2".to_owned(), ..batch });
    usages.deliver("fra", other, &[], NOON).await.unwrap();
    assert_eq!(requests(&usages, "2026-11-26").await, sums([("fra f", 2), ("lhr f", 2)]));
    assert_eq!(requests(&usages, "2026-11-27").await, sums([("fra f", 9), ("fra g", 8)]));
    assert_eq!(requests(&usages, "2026-11").await, sums([("fra f", 11), ("fra g", 8), ("lhr f", 2)]));
    assert_eq!(requests(&usages, "2026-11-25").await, sums([]));
}

#[tokio::test]
async fn a_batch_that_was_added_in_part_is_completed() {
    let usages = usages();
    let rows = [row("2026-10-31", "f", 2), row("2026-11-01", "f", 3)];
    // As if the origin had died after the first object.
    usages
        .change(&day_key("2026-10-31".parse().unwrap(), "fra"), |sheet: &mut Sheet| sheet.add("a1", 1, &rows[..1]))
        .await
        .unwrap();
    usages.deliver("fra", batch(1, &rows), &[], NOON).await.unwrap();
    assert_eq!(requests(&usages, "2026-10-31").await, sums([("fra f", 2)]));
    assert_eq!(requests(&usages, "2026-10").await, sums([("fra f", 2)]));
    assert_eq!(requests(&usages, "2026-11").await, sums([("fra f", 3)]));
}

#[tokio::test]
async fn two_origins_on_one_store_add_to_the_same_sums() {
    let store: Arc<dyn ObjectStore> = Arc::new(Memory::new(Arc::new(|| SystemTime::UNIX_EPOCH)));
    let origins = [Usages::new(Arc::clone(&store)), Usages::new(store)];
    let pops = ["fra", "lhr", "iad", "fra"];
    let deliveries = (0..40_u64).map(|n| {
        let pop = pops[n as usize % pops.len()];
        let rows = [row("2026-11-27", "f", 1)];
        let ledger = format!("l{n}");
        let batch = UsageBatch { ledger, number: 1, rows: rows.to_vec() };
        let origin = &origins[n as usize % 2];
        async move { origin.deliver(pop, Some(batch), &[], NOON).await.unwrap() }
    });
    futures::future::join_all(deliveries).await;
    assert_eq!(requests(&origins[0], "2026-11-27").await.values().sum::<u64>(), 40);
    assert_eq!(requests(&origins[1], "2026-11").await.values().sum::<u64>(), 40);
}

#[tokio::test]
async fn totals_are_of_all_pops_for_today_and_this_month() {
    let usages = usages();
    usages.deliver("fra", batch(1, &[row("2026-11-26", "f", 2), row("2026-11-27", "f", 3)]), &[], NOON).await.unwrap();
    usages.deliver("lhr", batch(1, &[row("2026-11-26", "f", 10)]), &[], NOON).await.unwrap();
    let watch = ["f".to_owned(), "unknown".to_owned()];
    let totals = usages.deliver("fra", None, &watch, NOON).await.unwrap().totals;
    let of = |sums: &Sums| (sums.all.get("requests").copied(), sums.own.get("requests").copied(), sums.pops);
    assert_eq!(of(&totals["f"].day), (Some(3), Some(3), 1));
    assert_eq!(of(&totals["f"].month), (Some(15), Some(5), 2));
    assert_eq!(of(&totals["unknown"].month), (None, None, 0));
    let tomorrow = usages.deliver("fra", None, &watch, NOON + DAY_MS).await.unwrap().totals;
    assert_eq!((of(&tomorrow["f"].day).0, of(&tomorrow["f"].month).0), (None, Some(15)));
}

#[tokio::test]
async fn a_clock_that_is_wrong_is_told_so_and_nothing_is_added() {
    let usages = usages();
    for day in ["1970-01-01", "2026-11-28", "2099-01-01", "2025-10-01"] {
        let rows = [row("2026-11-27", "f", 1), row(day, "f", 1)];
        let refused = usages.deliver("fra", batch(1, &rows), &[], NOON).await;
        assert!(matches!(refused, Err(UsageError::Day { .. })), "{day}");
    }
    assert_eq!(requests(&usages, "2026-11").await, sums([]));
    // Minutes before midnight, a PoP may be a little ahead.
    let late = NOON + DAY_MS / 2 - 60_000;
    usages.deliver("fra", batch(1, &[row("2026-11-28", "f", 1)]), &[], late).await.unwrap();
}

#[tokio::test]
async fn what_is_stored_is_bounded() {
    let usages = usages();
    let rows = |at: u64| -> Vec<UsageRow> {
        (0..MAX_ROWS as u64).map(|n| row("2026-11-27", &format!("f{}", at + n), 1)).collect()
    };
    for number in 0..4 {
        usages.deliver("fra", batch(number + 1, &rows(number * 4000)), &[], NOON).await.unwrap();
    }
    let sums = requests(&usages, "2026-11-27").await;
    assert_eq!((sums.len(), sums.values().sum::<u64>()), (sheet::MAX_ROWS + 1, 16_000));
    assert_eq!(requests(&usages, "2026-11").await, sums);
    let long = row("2026-11-27", &"x".repeat(MAX_NAME_BYTES + 1), 1);
    assert!(matches!(usages.deliver("fra", batch(9, &[long]), &[], NOON).await, Err(UsageError::Wrong(_))));
    assert!(matches!(
        usages.deliver("fra", batch(9, &[rows(0), rows(0)].concat()), &[], NOON).await,
        Err(UsageError::Wrong(_))
    ));
    assert!(matches!(usages.report("2026").await, Err(UsageError::Wrong(_))));
    // The day 400 days before goes when the first of a new day comes.
    usages.deliver("fra", batch(10, &[row("2027-12-31", "f", 1)]), &[], NOON + 399 * DAY_MS).await.unwrap();
    assert_eq!(requests(&usages, "2026-11-27").await.len(), sums.len());
    usages.deliver("fra", batch(11, &[row("2028-01-01", "f", 1)]), &[], NOON + 400 * DAY_MS).await.unwrap();
    assert_eq!(requests(&usages, "2026-11-27").await.len(), 0);
}

#[tokio::test]
async fn a_threshold_is_noted_once_whoever_sees_it() {
    let usages = usages();
    let alert = |pop: &str, period: &str, percent| Alert {
        function: "f".to_owned(),
        period: period.to_owned(),
        percent,
        amount_micros: 5,
        spent_micros: 4,
        currency: "USD".to_owned(),
        pop: pop.to_owned(),
        at_ms: 1,
    };
    assert!(usages.alert(alert("fra", "2026-11-27", 80)).await.unwrap());
    assert!(!usages.alert(alert("lhr", "2026-11-27", 80)).await.unwrap());
    assert!(usages.alert(alert("lhr", "2026-11-27", 100)).await.unwrap());
    assert!(usages.alert(alert("lhr", "2026-11", 80)).await.unwrap());
    assert!(matches!(usages.alert(alert("lhr", "2026-11-27x", 80)).await, Err(UsageError::Wrong(_))));
    assert_eq!(usages.report("2026-11-27").await.unwrap().alerts.len(), 3);
    assert_eq!(usages.report("2026-11-26").await.unwrap().alerts.len(), 1);
    assert_eq!(usages.report("2026-11").await.unwrap().alerts.len(), 3);
}
