use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;
use tests::fleet::{copy, examples};
use tests::{Fleet, Options, get};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deploy_is_live_everywhere_within_a_second_and_no_request_fails() {
    let fleet = Fleet::with(&Options { distance: true, ..Options::default() });
    let hello = fleet.folder.path().join("hello");
    copy(&examples().join("hello"), &hello);
    let first = get(fleet.pop("lhr"), "/hello", &[]).await.header("x-skerry-version").to_owned();

    let stop = Arc::new(AtomicBool::new(false));
    let load: Vec<_> = ["lhr", "iad", "nrt"]
        .map(|pop| {
            let (address, stop) = (fleet.pop(pop), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut answered = 0;
                while !stop.load(Ordering::Relaxed) {
                    let reply = get(address, "/hello", &[]).await;
                    assert_eq!(reply.status, 200, "{}", reply.text());
                    answered += 1;
                }
                answered
            })
        })
        .into();
    let mut last = String::new();
    for round in 0..5 {
        let source = format!("export default {{ fetch: () => new Response('round {round}') }}");
        std::fs::write(hello.join("index.js"), source).unwrap();
        let fleet_folder = hello.clone();
        let released = tokio::task::block_in_place(|| fleet.deploy(&fleet_folder));
        let pops = released["pops"].as_array().expect("PoPs").clone();
        assert_eq!(pops.len(), 3, "{released}");
        for pop in pops {
            assert!(pop["after_ms"].as_f64().is_some_and(|after| after < 1000.0), "{pop}");
        }
        for pop in ["lhr", "iad", "nrt"] {
            let reply = get(fleet.pop(pop), "/hello", &[]).await;
            assert_eq!(reply.text(), format!("round {round}"), "{pop}");
            last = reply.header("x-skerry-version").to_owned();
        }
    }
    stop.store(true, Ordering::Relaxed);
    for lane in load {
        assert!(lane.await.unwrap() > 10);
    }
    assert_ne!(first, last);

    let versions: Value = serde_json::from_str(&fleet.ok(&["versions", "hello", "--json"])).unwrap();
    assert_eq!(versions.as_array().or_else(|| versions["versions"].as_array()).expect("a list").len(), 6, "{versions}");
    fleet.ok(&["rollback", "hello"]);
    assert_eq!(get(fleet.pop("nrt"), "/hello", &[]).await.text(), "round 3");
    let original = first.strip_prefix("hello@").unwrap();
    fleet.ok(&["rollback", "hello", original]);
    for pop in ["lhr", "iad", "nrt"] {
        assert_eq!(get(fleet.pop(pop), "/hello", &[]).await.header("x-skerry-version"), first);
    }
}

#[tokio::test]
async fn a_deploy_of_the_same_changes_nothing_and_assets_move_with_their_version() {
    let fleet = Fleet::with(&Options { pops: "lhr=0", ..Options::default() });
    let site = fleet.folder.path().join("site");
    copy(&examples().join("site"), &site);
    let same = fleet.deploy(&site);
    assert_eq!(same["changed"], false, "{same}");

    let new = site.join("public/site/new.txt");
    std::fs::write(&new, "first").unwrap();
    fleet.deploy(&site);
    assert_eq!(get(fleet.origin(), "/site/new.txt", &[]).await.text(), "first");
    std::fs::write(&new, "second").unwrap();
    fleet.deploy(&site);
    assert_eq!(get(fleet.origin(), "/site/new.txt", &[]).await.text(), "second");
    fleet.ok(&["rollback", "site"]);
    assert_eq!(get(fleet.origin(), "/site/new.txt", &[]).await.text(), "first");
    assert_eq!(get(fleet.pop("lhr"), "/site/new.txt", &[]).await.text(), "first");
}

#[tokio::test]
async fn a_deleted_function_is_gone_from_every_pop_and_a_rollback_with_its_version_brings_it_back() {
    let fleet = Fleet::start();
    let version = get(fleet.pop("lhr"), "/hello", &[]).await.header("x-skerry-version").to_owned();
    let deleted: Value = serde_json::from_str(&fleet.ok(&["delete", "hello", "--json"])).unwrap();
    assert_eq!((&deleted["function"], deleted["pops"].as_array().unwrap().len()), (&"hello".into(), 3), "{deleted}");
    for pop in ["lhr", "iad", "nrt"] {
        assert_eq!(get(fleet.pop(pop), "/hello", &[]).await.status, 404, "{pop}: {deleted}");
    }
    assert!(deleted["pops"].as_array().unwrap().iter().all(|pop| pop["state"] == "gone"), "{deleted}");
    assert!(fleet.fails(&["delete", "hello"]).contains("hello is not deployed"));
    fleet.ok(&["rollback", "hello", version.strip_prefix("hello@").unwrap()]);
    assert_eq!(get(fleet.pop("nrt"), "/hello", &[]).await.header("x-skerry-version"), version);
    assert!(fleet.ok(&["delete", "hello"]).contains("hello is deleted, generation"));
}

#[tokio::test]
async fn a_rollback_outlives_the_fleet_until_the_folder_changes() {
    let functions = tempfile::tempdir().unwrap();
    let hello = functions.path().join("hello");
    let write = |text: &str| {
        let source = format!("export default {{ fetch: () => new Response('{text}') }}");
        tests::fleet::function(&hello, "", &[("index.js", &source)])
    };
    write("first");
    let options = Options { functions: Some(functions.path().to_owned()), pops: "lhr=0", ..Options::default() };
    let fleet = Fleet::with(&options);
    write("second");
    let fleet = Fleet::within(fleet.stop(), &options);
    assert_eq!(get(fleet.pop("lhr"), "/hello", &[]).await.text(), "second");
    fleet.ok(&["rollback", "hello"]);
    let fleet = Fleet::within(fleet.stop(), &options);
    assert_eq!(get(fleet.pop("lhr"), "/hello", &[]).await.text(), "first", "`up` does not undo a rollback");
    let said = std::fs::read_to_string(fleet.folder.path().join("up.log")).unwrap();
    assert!(said.contains("hello is at") && said.contains("skerry deploy"), "{said}");
    write("third");
    let fleet = Fleet::within(fleet.stop(), &options);
    assert_eq!(get(fleet.pop("lhr"), "/hello", &[]).await.text(), "third");
}

#[tokio::test]
async fn a_deploy_of_the_same_has_no_time_that_it_took() {
    let fleet = Fleet::with(&Options { pops: "lhr=0", ..Options::default() });
    let same = fleet.deploy(&examples().join("hello"));
    assert_eq!((&same["changed"], &same["pops"][0]["state"]), (&false.into(), &"live".into()), "{same}");
    assert!(same["pops"][0]["after_ms"].is_null(), "{same}");
}

#[tokio::test]
async fn a_deploy_of_code_leaves_the_cache_alone_and_one_of_assets_does_not() {
    let fleet = Fleet::with(&Options { pops: "lhr=0", ..Options::default() });
    let site = fleet.folder.path().join("site");
    copy(&examples().join("site"), &site);
    let logo = async || get(fleet.pop("lhr"), "/site/logo.png", &[]).await.header("cache-status").to_owned();
    logo().await;
    assert!(logo().await.contains("hit"));
    let source = std::fs::read_to_string(site.join("index.js")).unwrap();
    std::fs::write(site.join("index.js"), format!("{source}\n// other code\n")).unwrap();
    fleet.deploy(&site);
    assert!(logo().await.contains("hit"));
    std::fs::write(site.join("public/site/style.css"), "body { color: red }").unwrap();
    fleet.deploy(&site);
    assert_eq!(get(fleet.pop("lhr"), "/site/style.css", &[]).await.text(), "body { color: red }");
    assert!(logo().await.contains("miss"));
}
