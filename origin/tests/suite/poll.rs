//! How PoPs follow the manifest.

use std::collections::BTreeMap;
use std::time::Duration;

use http::{Method, StatusCode};
use origin::api::PopReport;
use origin::server::StoreConfig;

use crate::harness::{Origin, START_MS, name};

const LONG: Duration = Duration::from_secs(30);

fn report(pop: &str, generation: u64) -> PopReport {
    PopReport { pop: pop.to_owned(), generation, applied_at_ms: 7, ..PopReport::default() }
}

#[tokio::test]
async fn a_poll_answers_at_once_when_the_generation_is_another() {
    let origin = Origin::start().await;
    assert_eq!(origin.control.poll(&report("lhr", 0), Duration::ZERO).await.unwrap(), None);
    let version = origin.deploy("hello", &[]).await;
    for other in [0, 99] {
        let manifest = origin.control.poll(&report("lhr", other), LONG).await.unwrap().expect("a manifest");
        assert_eq!((manifest.generation, manifest.functions[&name("hello")].version), (1, version));
    }
    assert_eq!(origin.control.poll(&report("lhr", 1), Duration::ZERO).await.unwrap(), None);
    let reply = origin.admin(Method::GET, "/v1/manifest?after=1", "").await;
    assert_eq!(reply.status, StatusCode::NOT_MODIFIED);
    let reply = origin.admin(Method::GET, "/v1/manifest?after=0&wait_ms=30000", "").await;
    assert_eq!((reply.status, reply.json()["generation"].as_u64()), (StatusCode::OK, Some(1)));
    origin.stop().await;
}

#[tokio::test]
async fn waiting_polls_hear_of_each_change() {
    let origin = Origin::start().await;
    for generation in 0..3 {
        let waiting = ["lhr", "iad", "nrt"].map(|pop| {
            let control = origin.control.clone();
            tokio::spawn(async move { control.poll(&report(pop, generation), LONG).await })
        });
        while origin.control.pops().await.unwrap().iter().filter(|p| p.generation == generation).count() < 3 {
            tokio::task::yield_now().await;
        }
        origin.deploy("hello", &[("/a", format!("{generation}").as_bytes())]).await;
        for poll in waiting {
            let manifest = poll.await.unwrap().unwrap().expect("a manifest");
            assert_eq!(manifest.generation, generation + 1);
        }
    }
    origin.stop().await;
}

#[tokio::test]
async fn what_a_pop_reports_is_listed() {
    let origin = Origin::start().await;
    let failed = BTreeMap::from([(name("hello"), "SyntaxError: line 3".to_owned())]);
    let told = PopReport { failed: failed.clone(), ..report("nrt", 0) };
    origin.control.poll(&report("lhr", 0), Duration::ZERO).await.unwrap();
    origin.control.poll(&told, Duration::ZERO).await.unwrap();
    let pops = origin.control.pops().await.unwrap();
    assert_eq!(pops.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(), ["lhr", "nrt"]);
    assert_eq!((pops[1].applied_at_ms, pops[1].last_seen_ms, &pops[1].failed), (7, START_MS, &failed));
    assert!(origin.control.poll(&report("no such name", 0), Duration::ZERO).await.is_err());
    origin.stop().await;
}

#[tokio::test]
async fn a_change_made_through_another_origin_on_the_same_store_arrives() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = || StoreConfig::Embedded(folder.path().to_owned());
    let (one, two) = (Origin::start_on(store()).await, Origin::start_on(store()).await);
    let control = two.control.clone();
    let waiting = tokio::spawn(async move { control.poll(&report("lhr", 0), LONG).await });
    one.deploy("site", &[("/a", b"through one")]).await;
    assert_eq!(waiting.await.unwrap().unwrap().expect("a manifest").generation, 1);
    assert_eq!(two.get("/a", &[]).await.body, "through one");
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn a_drain_ends_waiting_polls_at_once() {
    let origin = Origin::start().await;
    let control = origin.control.clone();
    let waiting = tokio::spawn(async move { control.poll(&report("lhr", 0), LONG).await });
    while origin.control.pops().await.unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    origin.stop().await;
    assert_eq!(waiting.await.unwrap().unwrap(), None);
}

#[tokio::test]
async fn a_pop_of_another_store_gets_the_manifest_though_the_generation_is_the_same() {
    let (one, two) = (Origin::start().await, Origin::start().await);
    one.deploy("hello", &[]).await;
    two.deploy("other", &[]).await;
    let had = one.control.manifest().await.unwrap();
    assert_eq!((had.generation, had.store.len()), (1, 32));
    let told = PopReport { store: had.store.clone(), ..report("lhr", had.generation) };
    assert_eq!(one.control.poll(&told, Duration::ZERO).await.unwrap(), None);
    let manifest = two.control.poll(&told, LONG).await.unwrap().expect("a manifest");
    assert!(manifest.functions.contains_key(&name("other")) && manifest.store != had.store);
    let told = PopReport { store: manifest.store, ..report("lhr", manifest.generation) };
    assert_eq!(two.control.poll(&told, Duration::ZERO).await.unwrap(), None, "it converges");
    one.deploy("hello", &[("/a", b"a")]).await;
    assert_eq!(one.control.manifest().await.unwrap().store, had.store, "given once");
    one.stop().await;
    two.stop().await;
}
