//! The purge log through the control API.

use std::collections::BTreeSet;
use std::time::Duration;

use http::{Method, StatusCode};
use origin::client::{Control, ControlError};
use origin::purge::{PurgePoll, PurgeRequest, Scope};
use origin::server::StoreConfig;

use crate::harness::{Origin, START_MS};

const LONG: Duration = Duration::from_secs(30);

fn tag(tag: &str) -> PurgeRequest {
    PurgeRequest { tags: vec![tag.to_owned()], ..PurgeRequest::default() }
}

fn poll(pop: &str, number: u64, wait_ms: u64) -> PurgePoll {
    PurgePoll { pop: pop.to_owned(), number, fenced: false, wait_ms }
}

#[tokio::test]
async fn a_receipt_comes_when_every_pop_has_confirmed() {
    let origin = Origin::start().await;
    let begun = origin.control.follow_purges(&poll("lhr", 0, 0), LONG).await.unwrap();
    assert_eq!((begun.last, begun.known_after, begun.length), (START_MS, START_MS, 0), "a new log begins at its time");
    let mut followers = Vec::new();
    for pop in ["lhr", "nrt"] {
        origin.control.follow_purges(&poll(pop, begun.last, 0), LONG).await.unwrap();
        let control = origin.control.clone();
        followers.push(tokio::spawn(async move {
            let page = control.follow_purges(&poll(pop, begun.last, 30_000), LONG).await.unwrap();
            assert_eq!(page.batches[0].scopes, [Scope::tag("a").unwrap()]);
            control.follow_purges(&poll(pop, page.last, 0), LONG).await.unwrap();
        }));
    }
    let receipt = origin.control.purge(&PurgeRequest { wait_ms: 30_000, soft: true, ..tag("A") }).await.unwrap();
    assert_eq!((receipt.number, receipt.purges, receipt.at_ms), (START_MS + 1, 1, START_MS));
    assert!(receipt.pops.len() == 2 && receipt.pops.iter().all(|pop| pop.done_ms.is_some()), "{receipt:?}");
    for follower in followers {
        follower.await.unwrap();
    }
    let known = origin.control.purges().await.unwrap();
    assert_eq!((known.last, known.length, known.recent), (receipt.number, 1, vec![receipt]));
    assert_eq!(known.pops.iter().map(|pop| &*pop.pop).collect::<Vec<_>>(), ["lhr", "nrt"]);
    origin.stop().await;
}

#[tokio::test]
async fn several_things_are_one_batch_with_numbers_in_a_row_and_each_thing_once() {
    let origin = Origin::start().await;
    let request = PurgeRequest {
        files: vec!["https://Example.com:443/a".to_owned(), "https://example.com/a".to_owned()],
        hosts: vec!["example.com".to_owned()],
        ..tag("x")
    };
    let receipt = origin.control.purge(&request).await.unwrap();
    assert_eq!((receipt.number, receipt.purges), (START_MS + 3, 3));
    let page = origin.control.follow_purges(&poll("lhr", 0, 0), LONG).await.unwrap();
    assert_eq!((page.batches.len(), page.batches[0].number, page.last), (1, START_MS + 1, START_MS + 3));
    origin.stop().await;
}

#[tokio::test]
async fn two_origins_over_one_store_number_without_repeats_and_pops_of_either_hear_of_both() {
    let folder = tempfile::tempdir().unwrap();
    let store = || StoreConfig::Embedded(folder.path().to_owned());
    let (one, two) = (Origin::start_on(store()).await, Origin::start_on(store()).await);
    let begun = one.control.purges().await.unwrap().last;
    let waiting = {
        let control = two.control.clone();
        tokio::spawn(async move { control.follow_purges(&poll("lhr", begun, 30_000), LONG).await.unwrap() })
    };
    one.control.purge(&tag("first")).await.unwrap();
    assert_eq!(waiting.await.unwrap().batches[0].scopes, [Scope::tag("first").unwrap()], "within a second");
    let mut purging = tokio::task::JoinSet::new();
    for n in 0..60 {
        let control: Control = if n % 2 == 0 { one.control.clone() } else { two.control.clone() };
        purging.spawn(async move { control.purge(&tag(&format!("t{n}"))).await.unwrap().number });
    }
    let numbers: BTreeSet<u64> = purging.join_all().await.into_iter().collect();
    assert_eq!(numbers.len(), 60);
    one.stop().await;
    two.stop().await;
    let again = Origin::start_on(store()).await;
    let page = again.control.follow_purges(&poll("lhr", begun + 1, 0), LONG).await.unwrap();
    assert_eq!(page.batches.iter().map(|batch| batch.number).collect::<BTreeSet<_>>(), numbers);
    again.stop().await;
}

#[tokio::test]
async fn what_is_wrong_is_named_and_nothing_is_purged() {
    let origin = Origin::start().await;
    let bad = PurgeRequest { hosts: vec!["fine".to_owned(), "not/fine".to_owned()], ..PurgeRequest::default() };
    let ControlError::Refused { status, code, message, .. } = origin.control.purge(&bad).await.unwrap_err() else {
        panic!("not refused")
    };
    assert_eq!((status, code.as_str()), (StatusCode::BAD_REQUEST, "request/bad"));
    assert!(message.contains("hosts") && message.contains("not/fine"), "{message}");
    let wrong = Control::new(origin.control.base().clone(), "wrong");
    assert!(matches!(
        wrong.purge(&tag("x")).await,
        Err(ControlError::Refused { status: StatusCode::UNAUTHORIZED, .. })
    ));
    let reply = origin.admin(Method::POST, "/v1/purges", r#"{"tags": ["x"], "mode": "soft"}"#).await;
    assert!(reply.status == StatusCode::BAD_REQUEST && reply.json()["message"].as_str().unwrap().contains("mode"));
    assert_eq!(origin.admin(Method::DELETE, "/v1/purges", "").await.header("allow"), "GET, POST");
    assert_eq!(origin.admin(Method::POST, "/v1/purges/poll", r#"{"pop": "a b", "number": 0}"#).await.status, 400);
    let ahead = origin.control.follow_purges(&poll("lhr", u64::MAX, 0), LONG).await.unwrap();
    assert!(ahead.batches.is_empty(), "a PoP that is ahead of a log from a backup has nothing to do");
    assert_eq!(origin.control.purges().await.unwrap().length, 0);
    origin.stop().await;
}
