use std::collections::BTreeSet;
use std::time::SystemTime;

use super::*;
use crate::store::Memory;

fn store() -> Arc<dyn ObjectStore> {
    Arc::new(Memory::new(Arc::new(SystemTime::now)))
}

fn tag(text: &str) -> Vec<Scope> {
    vec![Scope::tag(text).unwrap()]
}

fn tags(page: &PurgePage) -> Vec<&str> {
    page.batches.iter().flat_map(|batch| &batch.scopes).map(Scope::text).collect()
}

#[tokio::test]
async fn what_was_acknowledged_is_there_for_the_next_process() {
    let store = store();
    let log = Log::open(store.clone(), 1000).await.unwrap();
    assert_eq!(
        (log.known().last(), log.known().after(0).known_after),
        (1000, 1000),
        "a new log knows of nothing before"
    );
    let first = log.append(tag("a"), Mode::Hard, 1000).await.unwrap();
    let second = log.append([tag("b"), tag("c")].concat(), Mode::Soft, 5000).await.unwrap();
    assert_eq!((first.number, second.number, second.last()), (1001, 5000, 5001));
    let again = Log::open(store, 0).await.unwrap();
    assert_eq!(again.known().last(), 5001);
    assert_eq!(tags(&again.known().after(1000)), ["a", "b", "c"]);
    assert_eq!(tags(&again.known().after(1001)), ["b", "c"]);
    assert!(again.known().after(5001).batches.is_empty());
}

#[tokio::test]
async fn two_origins_on_one_store_never_give_a_number_twice_and_see_each_others_purges() {
    let store = store();
    let logs = [Log::open(store.clone(), 1).await.unwrap(), Log::open(store.clone(), 1).await.unwrap()].map(Arc::new);
    let mut tasks = Vec::new();
    for n in 0..200 {
        let log = Arc::clone(&logs[n % 2]);
        tasks.push(tokio::spawn(async move { log.append(tag(&format!("t{n}")), Mode::Hard, 1).await.unwrap().number }));
    }
    let mut numbers = BTreeSet::new();
    for task in tasks {
        assert!(numbers.insert(task.await.unwrap()), "a number came twice");
    }
    for log in &logs {
        log.refresh(1).await.unwrap();
        assert_eq!(log.known().after(0).batches.len(), 200);
        assert_eq!(log.known().last(), *numbers.last().unwrap());
    }
}

#[tokio::test]
async fn a_long_log_is_read_in_pages_and_its_old_segments_are_removed() {
    let store = store();
    let log = Log::open(store.clone(), 1).await.unwrap();
    let many = || (0..100).map(|n| Scope::tag(&format!("t{n}")).unwrap()).collect::<Vec<_>>();
    for _ in 0..160 {
        log.append(many(), Mode::Hard, 1).await.unwrap();
    }
    let page = log.known().after(0);
    assert!(page.known_after > 1 && page.length >= super::super::MAX_PURGES);
    let folder = store.list(&folder(), None, 1000).await.unwrap();
    assert_eq!(folder.keys.len(), log.known().segments.len(), "what is dropped is removed");
    let again = Log::open(store, 1).await.unwrap();
    let (mut number, mut read) = (page.known_after, 0);
    while number < page.last {
        let page = again.known().after(number);
        assert!(!page.batches.is_empty() && tags(&page).len() <= PAGE_PURGES + 100);
        read += tags(&page).len() as u64;
        number = page.batches.last().unwrap().last();
    }
    assert_eq!(read, page.length);
}

#[tokio::test]
async fn after_a_lost_store_or_a_lost_segment_whoever_needs_it_is_behind_the_log() {
    let lost = store();
    let log = Log::open(lost.clone(), 1).await.unwrap();
    for _ in 0..600 {
        log.append(tag("x"), Mode::Hard, 1).await.unwrap();
    }
    let segment = store_keys(&*lost).await.remove(0);
    lost.delete(&segment).await.unwrap();
    let page = Log::open(lost.clone(), 1).await.unwrap().known().after(1);
    assert_eq!(page.known_after, 257, "as many as a segment holds");
    assert_eq!(page.batches.first().map(|batch| batch.number), Some(258));

    lost.delete(&head_key()).await.unwrap();
    log.refresh(1).await.unwrap();
    assert!(log.known().after(0).known_after > 601, "a new log begins above the lost one");
    let next = log.append(tag("x"), Mode::Hard, 1).await.unwrap();
    assert!(next.number > 602);

    let other = Log::open(store(), 1_800_000_000_000).await.unwrap();
    assert!(
        other.known().after(next.number).known_after > next.number,
        "also for an origin that never saw the lost one"
    );
}

async fn store_keys(store: &dyn ObjectStore) -> Vec<Key> {
    store.list(&folder(), None, 1000).await.unwrap().keys
}
