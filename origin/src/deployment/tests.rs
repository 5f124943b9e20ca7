//! Deployments on a store in memory, and on one that others change at the same time.

use std::collections::BTreeMap;
use std::time::SystemTime;

use super::*;
use crate::bundle::{FORMAT, FunctionConfig, Module};
use crate::store::{Embedded, Memory};

fn memory() -> Arc<dyn ObjectStore> {
    Arc::new(Memory::new(Arc::new(SystemTime::now)))
}

fn name(text: &str) -> FunctionName {
    text.parse().unwrap()
}

fn bundle(function: &str, source: &str, routes: &[&str]) -> Bundle {
    let module = Module { source: source.to_owned(), source_map: None };
    Bundle {
        format: FORMAT,
        name: name(function),
        main: Some("index.js".to_owned()),
        modules: BTreeMap::from([("index.js".to_owned(), module)]),
        config: FunctionConfig {
            routes: routes.iter().map(|r| r.parse().unwrap()).collect(),
            ..FunctionConfig::default()
        },
        assets: BTreeMap::new(),
    }
}

fn asset(content: &[u8]) -> Asset {
    Asset {
        digest: Digest::of(content),
        size: content.len() as u64,
        content_type: "text/plain".to_owned(),
        cache_control: "max-age=60".to_owned(),
    }
}

async fn put_blob(store: &dyn ObjectStore, content: &[u8]) {
    let key = blob_key(&Digest::of(content));
    store.put(&key, content.to_vec().into(), PutMode::Create, Attributes::default()).await.unwrap();
}

async fn publish(deployments: &Deployments, bundle: &Bundle, now_ms: u64) -> Digest {
    let (bytes, version) = bundle.encode();
    deployments.publish(bytes.into(), &version, None, now_ms).await.unwrap();
    version
}

#[tokio::test]
async fn a_deploy_is_live_once_and_only_once() {
    let deployments = Deployments::new(memory());
    let version = publish(&deployments, &bundle("hello", "1", &["*/hello"]), 5).await;
    let first = deployments.deploy(&name("hello"), &version, 10).await.unwrap();
    assert_eq!(first, Outcome { generation: 1, version, previous: None, changed: true });
    let again = deployments.deploy(&name("hello"), &version, 20).await.unwrap();
    assert_eq!(again, Outcome { generation: 1, version, previous: Some(version), changed: false });
    let (manifest, _) = deployments.manifest().await.unwrap();
    let live = &manifest.functions[&name("hello")];
    assert_eq!((live.deployed_at_ms, live.routes[0].to_string().as_str()), (10, "*/hello"));
}

#[tokio::test]
async fn rollback_goes_to_the_version_before_or_to_the_one_named() {
    let deployments = Deployments::new(memory());
    let hello = name("hello");
    let mut versions = Vec::new();
    for n in 0..3 {
        let version = publish(&deployments, &bundle("hello", &n.to_string(), &[]), n).await;
        deployments.deploy(&hello, &version, n).await.unwrap();
        versions.push(version);
    }
    assert_eq!(deployments.rollback(&hello, None, 9).await.unwrap().version, versions[1]);
    assert_eq!(deployments.rollback(&hello, None, 9).await.unwrap().version, versions[0]);
    let error = deployments.rollback(&hello, None, 9).await.unwrap_err();
    assert!(matches!(error, DeployError::NothingBefore { .. }), "{error}");
    let named = deployments.rollback(&hello, Some(&versions[2].short()), 9).await.unwrap();
    assert_eq!((named.version, named.generation), (versions[2], 6));
    for (prefix, says) in [("abc", "4 to 64"), ("XYZW", "4 to 64"), ("0000000000", "no version")] {
        let error = deployments.rollback(&hello, Some(prefix), 9).await.unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
    }
    let listed = deployments.versions(&hello).await.unwrap();
    assert_eq!(listed.iter().map(|v| v.version).collect::<Vec<_>>(), [versions[2], versions[1], versions[0]]);
    assert_eq!(listed.iter().map(|v| v.live).collect::<Vec<_>>(), [true, false, false]);
}

#[tokio::test]
async fn a_deleted_function_is_gone_but_can_be_deployed_again() {
    let deployments = Deployments::new(memory());
    let hello = name("hello");
    let version = publish(&deployments, &bundle("hello", "1", &[]), 1).await;
    deployments.deploy(&hello, &version, 1).await.unwrap();
    assert_eq!(deployments.delete(&hello).await.unwrap(), 2);
    assert!(matches!(deployments.delete(&hello).await, Err(DeployError::NotDeployed { .. })));
    assert!(matches!(deployments.rollback(&hello, None, 1).await, Err(DeployError::NotDeployed { .. })));
    assert_eq!(deployments.deploy(&hello, &version, 3).await.unwrap().generation, 3);
}

#[tokio::test]
async fn a_route_or_asset_of_another_function_is_a_conflict() {
    let deployments = Deployments::new(memory());
    put_blob(&*deployments.store, b"x").await;
    let with_asset = |function, path: &str, routes: &[&str]| Bundle {
        assets: BTreeMap::from([(path.to_owned(), asset(b"x"))]),
        ..bundle(function, function, routes)
    };
    let first = publish(&deployments, &with_asset("first", "/site/a", &["*/one", "a.test/*"]), 1).await;
    deployments.deploy(&name("first"), &first, 1).await.unwrap();

    let routes = publish(&deployments, &bundle("second", "2", &["*/two", "A.test/*"]), 1).await;
    let error = deployments.deploy(&name("second"), &routes, 1).await.unwrap_err();
    assert!(error.to_string().starts_with("the route a.test/* belongs to the function first"), "{error}");
    let paths = publish(&deployments, &with_asset("second", "/site/a", &[]), 1).await;
    let error = deployments.deploy(&name("second"), &paths, 1).await.unwrap_err();
    assert!(error.to_string().starts_with("the asset path /site/a belongs to the function first"), "{error}");
    let fine = publish(&deployments, &with_asset("second", "/site/b", &["*/one/*"]), 1).await;
    assert_eq!(deployments.deploy(&name("second"), &fine, 1).await.unwrap().generation, 2);

    let error = deployments.deploy(&name("second"), &first, 1).await.unwrap_err();
    assert!(matches!(error, DeployError::OtherFunction { .. }), "{error}");
    let error = deployments.deploy(&name("second"), &Digest::of(b"?"), 1).await.unwrap_err();
    assert!(matches!(error, DeployError::UnknownVersion { .. }), "{error}");
}

#[tokio::test]
async fn an_unsound_bundle_is_refused_with_every_reason() {
    let deployments = Deployments::new(memory());
    let mut bad = bundle("hello", "1", &["*/a", "*/a"]);
    bad.config.compatibility_date = "2026-13-01".to_owned();
    bad.config.ratelimits = vec![serde_json::from_str(r#"{"name":"L","limit":0,"period_seconds":1}"#).unwrap()];
    bad.config.cohorts =
        vec![serde_json::from_str(r#"{"name":"L","experiment":"e","cohorts":[],"cookie":"c"}"#).unwrap()];
    bad.config.jwt = vec![
        serde_json::from_str(
            r#"{"name":"J","issuers":[],"audiences":["a"],"keys":[{"algorithm":"HS256","material":{"pem":"x"}}]}"#,
        )
        .unwrap(),
    ];
    bad.assets.insert("/../x".to_owned(), asset(b"x"));
    let (bytes, version) = bad.encode();
    let error = deployments.publish(bytes.into(), &version, None, 1).await.unwrap_err().to_string();
    for says in ["twice", "YYYY-MM-DD", "at least 1", "weight", "issuer", "HS256", "'..'", "on env twice"] {
        assert!(error.contains(says), "{says}: {error}");
    }
}

#[tokio::test]
async fn torn_oversized_or_incomplete_bundles_are_refused() {
    let deployments = Deployments::new(memory());
    let (mut bytes, version) = bundle("hello", "1", &[]).encode();
    bytes[10] ^= 1;
    let error = deployments.publish(bytes.into(), &version, None, 1).await.unwrap_err();
    assert!(error.to_string().contains("corrupt"), "{error}");
    let large = vec![b' '; MAX_BUNDLE_BYTES + 1];
    let error = deployments.publish(large.into(), &version, None, 1).await.unwrap_err();
    assert!(matches!(error, DeployError::TooLarge { .. }), "{error}");
    let assets = BTreeMap::from([("/a".to_owned(), asset(b"not uploaded"))]);
    let (bytes, version) = Bundle { assets, ..bundle("hello", "1", &[]) }.encode();
    let error = deployments.publish(bytes.into(), &version, None, 1).await.unwrap_err();
    assert!(matches!(&error, DeployError::MissingBlobs(m) if *m == [Digest::of(b"not uploaded")]), "{error}");
    assert!(deployments.versions(&name("hello")).await.unwrap().is_empty());
}

#[tokio::test]
async fn deploys_of_many_functions_through_several_origins_all_land() {
    let folder = tempfile::tempdir().unwrap();
    let origins: Vec<Arc<Deployments>> = (0..3)
        .map(|_| Embedded::open(folder.path(), Arc::new(SystemTime::now)).unwrap())
        .map(|store| Arc::new(Deployments::new(Arc::new(store))))
        .collect();
    let deploys = (0..24_u64).map(|n| {
        let origin = origins[n as usize % 3].clone();
        tokio::spawn(async move {
            let function = format!("f{n}");
            let version = publish(&origin, &bundle(&function, "1", &[&format!("*/{n}")]), n).await;
            origin.deploy(&name(&function), &version, n).await.unwrap().generation
        })
    });
    let mut generations: Vec<u64> = Vec::new();
    for deploy in futures::future::join_all(deploys).await {
        generations.push(deploy.unwrap());
    }
    generations.sort();
    assert_eq!(generations, (1..=24).collect::<Vec<_>>());
    let (manifest, _) = origins[0].manifest().await.unwrap();
    assert_eq!((manifest.generation, manifest.functions.len()), (24, 24));
}

#[tokio::test]
async fn old_versions_are_removed_but_never_those_a_rollback_needs() {
    let deployments = Deployments::new(memory());
    let hello = name("hello");
    let first = publish(&deployments, &bundle("hello", "first", &[]), 0).await;
    deployments.deploy(&hello, &first, 0).await.unwrap();
    for n in 1..=version::MAX_VERSIONS as u64 + 60 {
        publish(&deployments, &bundle("hello", &n.to_string(), &[]), n).await;
    }
    let versions = deployments.versions(&hello).await.unwrap();
    assert!(versions.len() <= version::MAX_VERSIONS + 51, "{}", versions.len());
    assert!(versions.iter().any(|v| v.version == first && v.live));
}

#[tokio::test]
async fn followers_see_changes_made_behind_their_back() {
    let store = memory();
    let (ours, theirs) = (Arc::new(Deployments::new(store.clone())), Deployments::new(store.clone()));
    let follower = Follower::start(ours).await.unwrap();
    let mut watch = follower.watch();
    put_blob(&*store, b"x").await;
    let assets = BTreeMap::from([("/a".to_owned(), asset(b"x"))]);
    let version = publish(&theirs, &Bundle { assets, ..bundle("hello", "1", &[]) }, 1).await;
    theirs.deploy(&name("hello"), &version, 7000).await.unwrap();
    assert!(follower.live().asset("/a").is_none());
    follower.refresh().await.unwrap();
    assert!(watch.has_changed().unwrap());
    assert_eq!(watch.borrow_and_update().manifest.generation, 1);
    let live = follower.live();
    let found = live.asset("/a").unwrap();
    assert_eq!((found.asset.digest, found.function.as_str()), (Digest::of(b"x"), "hello"));
    follower.refresh().await.unwrap();
    assert!(!watch.has_changed().unwrap(), "nothing new");
}

#[tokio::test]
async fn a_corrupt_bundle_takes_only_its_own_assets_away() {
    let store = memory();
    let deployments = Arc::new(Deployments::new(store.clone()));
    put_blob(&*store, b"x").await;
    let mut versions = Vec::new();
    for function in ["one", "two"] {
        let assets = BTreeMap::from([(format!("/{function}"), asset(b"x"))]);
        let version = publish(&deployments, &Bundle { assets, ..bundle(function, "1", &[]) }, 1).await;
        deployments.deploy(&name(function), &version, 1).await.unwrap();
        versions.push(version);
    }
    let damaged = bundle_key(&versions[0]);
    let whole = deployments.bundle(&versions[0]).await.unwrap();
    store.put(&damaged, b"damaged".to_vec().into(), PutMode::Overwrite, Attributes::default()).await.unwrap();
    // Another origin process that starts now has nothing in memory.
    let follower = Follower::start(Arc::new(Deployments::new(store.clone()))).await.unwrap();
    assert!(follower.live().asset("/one").is_none() && follower.live().asset("/two").is_some());
    let error = deployments.bundle(&versions[0]).await.unwrap_err();
    assert!(matches!(error, DeployError::Store(StoreError::Corrupt { .. })), "{error}");
    store.put(&damaged, whole.into(), PutMode::Overwrite, Attributes::default()).await.unwrap();
    follower.refresh().await.unwrap();
    assert!(follower.live().asset("/one").is_some(), "restored without a restart");
}
