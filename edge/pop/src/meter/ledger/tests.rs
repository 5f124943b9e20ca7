use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn place(day: u8, function: u8) -> Place {
    Place { day: format!("2026-11-{day:02}"), function: format!("f{function}"), ..Place::default() }
}

fn used(requests: u64) -> Usage {
    Usage { requests, cpu_us: requests * 7, ..Usage::default() }
}

fn receipt(number: u64) -> Receipt {
    Receipt { acknowledged: Some(number), ..Receipt::default() }
}

#[test]
fn a_batch_stays_as_it_was_sealed_until_it_has_arrived() {
    let mut ledger = Ledger::new("l".to_owned());
    assert!(!ledger.seal() && ledger.sealed().is_none());
    ledger.add(place(1, 1), used(3));
    assert!(ledger.seal());
    let first = ledger.sealed().unwrap();
    ledger.add(place(1, 1), used(4));
    assert!(!ledger.seal(), "one at a time");
    assert_eq!(ledger.sealed(), Some(first));
    assert_eq!(ledger.pending("f1", "2026-11-01").requests, 7);
    assert_eq!(ledger.pending("f1", "2026-11").requests, 7);
    assert_eq!(ledger.pending("f1", "2026-12").requests, 0);
    ledger.acknowledge(receipt(7));
    assert!(ledger.sealed().is_some(), "another's receipt");
    ledger.acknowledge(receipt(1));
    assert!(ledger.seal());
    assert_eq!((ledger.sealed().unwrap().number, ledger.sealed().unwrap().rows[0].used["requests"]), (2, 4));
}

#[test]
fn an_origin_that_is_away_for_long_costs_no_more_than_so_many_rows() {
    let mut ledger = Ledger::new("l".to_owned());
    for n in 0..3 * MOST_ROWS as u64 {
        ledger.add(Place { version: n.to_string(), ..place(1, 1) }, used(1));
    }
    assert_eq!(ledger.len(), MOST_ROWS + 1);
    assert!(ledger.seal() && ledger.sealed().unwrap().rows.len() == MAX_ROWS);
    let rows = ledger.sealed().unwrap().rows;
    let sealed: u64 = rows.iter().map(|row| row.used["requests"]).sum();
    assert_eq!(
        sealed + ledger.pending("f1", "").requests + ledger.pending(OTHER, "").requests
            - rows
                .iter()
                .filter(|row| row.function == "f1" || row.function == OTHER)
                .map(|row| row.used["requests"])
                .sum::<u64>(),
        3 * MOST_ROWS as u64
    );
}

#[test]
fn a_batch_of_a_wrong_day_gets_the_right_one_and_loses_nothing() {
    let mut ledger = Ledger::new("l".to_owned());
    ledger.add(place(1, 1), used(3));
    ledger.add(place(2, 1), used(4));
    ledger.seal();
    ledger.date("2026-11-30");
    let rows = ledger.sealed().unwrap().rows;
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].day.as_str(), rows[0].used["requests"]), ("2026-11-30", 7));
}

#[derive(Clone, Debug)]
enum Step {
    Add(u8, u8, u64),
    /// Seals, and writes to disk if that works.
    Keep {
        works: bool,
    },
    /// Sends what is on disk; the origin may not get it, and its receipt may be lost.
    Send {
        arrives: bool,
        answered: bool,
    },
    /// The process is killed, and the next one reads the disk.
    Crash,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1..4_u8, 0..3_u8, 1..100_u64).prop_map(|(day, function, n)| Step::Add(day, function, n)),
        3 => prop::bool::weighted(0.8).prop_map(|works| Step::Keep { works }),
        3 => any::<(bool, bool)>().prop_map(|(arrives, answered)| Step::Send { arrives, answered }),
        1 => Just(Step::Crash),
    ];
    prop::collection::vec(step, 0..80)
}

proptest! {
    /// Whatever is lost on the way: what was on disk arrives once, and nothing else.
    #[test]
    fn what_was_kept_arrives_exactly_once(steps in steps()) {
        let mut ledger = Ledger::new("l".to_owned());
        let mut disk = serde_json::to_string(&ledger).unwrap();
        let mut is_kept = true;
        let (mut origin, mut last) = (BTreeMap::<String, u64>::new(), 0);
        let (mut counted, mut kept) = (BTreeMap::<String, u64>::new(), BTreeMap::<String, u64>::new());
        let name = |day: &str, function: &str| format!("{day} {function}");
        let sum = |sums: &mut BTreeMap<String, u64>, name, n| *sums.entry(name).or_default() += n;
        for step in steps.into_iter().chain([Step::Keep { works: true }, Step::Send { arrives: true, answered: true }, Step::Keep { works: true }, Step::Send { arrives: true, answered: true }]) {
            match step {
                Step::Add(day, function, n) => {
                    let place = place(day, function);
                    sum(&mut counted, name(&place.day, &place.function), n);
                    ledger.add(place, used(n));
                    is_kept = false;
                }
                Step::Keep { works } => {
                    let sealed = ledger.seal();
                    is_kept &= !sealed;
                    if works {
                        disk = serde_json::to_string(&ledger).unwrap();
                        kept = counted.clone();
                        is_kept = true;
                    }
                }
                Step::Send { arrives, answered } => {
                    let Some(batch) = ledger.sealed().filter(|_| is_kept && arrives) else { continue };
                    if batch.number > last {
                        last = batch.number;
                        batch.rows.iter().for_each(|row| sum(&mut origin, name(&row.day, &row.function), row.used["requests"]));
                    }
                    if answered {
                        ledger.acknowledge(receipt(batch.number));
                        is_kept = false;
                    }
                }
                Step::Crash => {
                    ledger = serde_json::from_str(&disk).unwrap();
                    counted = kept.clone();
                    is_kept = true;
                }
            }
        }
        prop_assert_eq!(origin, counted);
    }
}
