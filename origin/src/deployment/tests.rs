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
    bad.assets.insert("/a\\b".to_owned(), asset(b"x"));
    let (bytes, version) = bad.encode();
    let error = deployments.publish(bytes.into(), &version, None, 1).await.unwrap_err().to_string();
    for says in ["twice", "YYYY-MM-DD", "at least 1", "weight", "issuer", "HS256", "'..'", "'\\'", "on env twice"] {
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

#[tokio::test]
async fn a_manifest_that_could_not_be_read_again_is_not_written() {
    let deployments = Deployments::new(memory());
    // As full as it can be: functions with as many and as long routes as are allowed.
    let mut full = Stored::default();
    let add = |full: &mut Stored, n: usize| {
        let routes = (10..100).map(|r| format!("*/{n}/{r}/{}", "x".repeat(1000)).parse().unwrap()).collect();
        let deployment = Deployment { version: Digest::of(b"?"), size: 1, routes, deployed_at_ms: 1 };
        full.deploy(&name(&format!("f{n}")), deployment).unwrap();
    };
    add(&mut full, 100);
    let each = full.encode().len();
    (101..100 + MAX_MANIFEST_BYTES / each).for_each(|n| add(&mut full, n));
    assert!(deployments.swap(&mut full, None).await.unwrap());
    let long = format!("*/{}", "y".repeat(1000));
    let routes: Vec<String> = (0..100).map(|n| format!("{long}/{n}")).collect();
    let routes: Vec<&str> = routes.iter().map(String::as_str).collect();
    let version = publish(&deployments, &bundle("hello", "1", &routes), 1).await;
    let error = deployments.deploy(&name("hello"), &version, 1).await.unwrap_err();
    assert!(matches!(error, DeployError::ManifestTooLarge { size, limit } if size > limit), "{error}");
    assert_eq!(deployments.manifest().await.unwrap().0, full.manifest, "the last good one is there");
    for n in 101..103 {
        deployments.delete(&name(&format!("f{n}"))).await.unwrap();
    }
    deployments.deploy(&name("hello"), &version, 1).await.unwrap();
}

#[tokio::test]
async fn too_many_or_too_long_routes_are_refused() {
    let deployments = Deployments::new(memory());
    let many: Vec<String> = (0..101).map(|n| format!("*/{n}")).collect();
    let long = format!("*/{}", "x".repeat(1024));
    for (routes, says) in [
        (many.iter().map(String::as_str).collect::<Vec<_>>(), "there are 101 routes, the limit is 100"),
        (vec![long.as_str()], "longer than 1024 bytes"),
    ] {
        let (bytes, version) = bundle("hello", "1", &routes).encode();
        let error = deployments.publish(bytes.into(), &version, None, 1).await.unwrap_err().to_string();
        assert!(error.contains(says) && error.len() < 200, "{error}");
    }
}

/// A store whose next put of the manifest is applied and then said not to be, as a retry after a lost answer is.
#[derive(Debug)]
struct Forgetful {
    store: Memory,
    forgets: std::sync::atomic::AtomicBool,
}

#[async_trait::async_trait]
impl ObjectStore for Forgetful {
    async fn get(&self, key: &Key, range: Option<std::ops::Range<u64>>) -> Result<crate::store::Object, StoreError> {
        self.store.get(key, range).await
    }

    async fn head(&self, key: &Key) -> Result<(crate::store::Meta, Attributes), StoreError> {
        self.store.head(key).await
    }

    async fn put(
        &self,
        key: &Key,
        body: Body,
        mode: PutMode,
        attributes: Attributes,
    ) -> Result<crate::store::Written, StoreError> {
        let written = self.store.put(key, body, mode, attributes).await?;
        let forgets = key.as_str() == "manifest" && self.forgets.swap(false, std::sync::atomic::Ordering::SeqCst);
        if forgets { Err(StoreError::Precondition { key: key.clone() }) } else { Ok(written) }
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        self.store.delete(key).await
    }

    async fn list(&self, folder: &Key, after: Option<&Key>, limit: usize) -> Result<crate::store::Page, StoreError> {
        self.store.list(folder, after, limit).await
    }
}

#[tokio::test]
async fn a_rollback_whose_put_was_applied_but_answered_with_a_conflict_goes_back_one_version_only() {
    let store = Forgetful { store: Memory::new(Arc::new(SystemTime::now)), forgets: false.into() };
    let store = Arc::new(store);
    let deployments = Deployments::new(store.clone());
    let hello = name("hello");
    let mut versions = Vec::new();
    for n in 0..3 {
        let version = publish(&deployments, &bundle("hello", &n.to_string(), &[]), n).await;
        deployments.deploy(&hello, &version, n).await.unwrap();
        versions.push(version);
    }
    store.forgets.store(true, std::sync::atomic::Ordering::SeqCst);
    let outcome = deployments.rollback(&hello, None, 9).await.unwrap();
    let expected = Outcome { generation: 4, version: versions[1], previous: Some(versions[2]), changed: true };
    assert_eq!(outcome, expected);
    assert_eq!(deployments.manifest().await.unwrap().0.functions[&hello].version, versions[1]);
}

#[tokio::test]
async fn a_damaged_bundle_does_not_keep_another_function_from_being_deployed() {
    let store = memory();
    put_blob(&*store, b"x").await;
    let with_asset = |function: &str| {
        let assets = BTreeMap::from([(format!("/{function}"), asset(b"x"))]);
        Bundle { assets, ..bundle(function, "1", &[]) }
    };
    let before = Deployments::new(store.clone());
    let damaged = publish(&before, &with_asset("damaged"), 1).await;
    before.deploy(&name("damaged"), &damaged, 1).await.unwrap();
    store.put(&bundle_key(&damaged), b"?".to_vec().into(), PutMode::Overwrite, Attributes::default()).await.unwrap();
    let deployments = Deployments::new(store.clone());
    let sound = publish(&deployments, &with_asset("sound"), 1).await;
    assert_eq!(deployments.deploy(&name("sound"), &sound, 1).await.unwrap().generation, 2);
}

#[tokio::test]
async fn a_damaged_record_hides_only_its_own_version_and_is_repaired_by_publishing_again() {
    let deployments = Deployments::new(memory());
    let hello = name("hello");
    let one = publish(&deployments, &bundle("hello", "1", &[]), 1).await;
    let two = publish(&deployments, &bundle("hello", "2", &[]), 2).await;
    let record = fixed(&format!("functions/hello/versions/{one}"));
    let damage = async || {
        let body = b"{".to_vec().into();
        deployments.store.put(&record, body, PutMode::Overwrite, Attributes::default()).await.unwrap();
    };
    let listed = async || deployments.versions(&hello).await.unwrap().iter().map(|v| v.version).collect::<Vec<_>>();
    damage().await;
    assert_eq!(listed().await, [two]);
    publish(&deployments, &bundle("hello", "1", &[]), 3).await;
    assert_eq!(listed().await, [one, two]);
    // Enough versions that old ones are removed: the damaged record is no reason to refuse new ones.
    damage().await;
    for n in 3..=version::MAX_VERSIONS as u64 + 60 {
        publish(&deployments, &bundle("hello", &n.to_string(), &[]), n).await;
    }
    assert!(listed().await.len() > version::MAX_VERSIONS / 2);
}

#[tokio::test]
async fn a_clock_that_is_set_back_does_not_set_back_what_was_deployed_when() {
    let deployments = Deployments::new(memory());
    let hello = name("hello");
    for (source, now_ms, expected) in [("1", 5_000, 5_000), ("2", 1_000, 5_001), ("3", 9_000, 9_000)] {
        let version = publish(&deployments, &bundle("hello", source, &[]), now_ms).await;
        deployments.deploy(&hello, &version, now_ms).await.unwrap();
        let live = deployments.manifest().await.unwrap().0.functions[&hello].deployed_at_ms;
        assert_eq!(live, expected, "{source}");
    }
    deployments.rollback(&hello, None, 2_000).await.unwrap();
    assert_eq!(deployments.manifest().await.unwrap().0.functions[&hello].deployed_at_ms, 9_001);
}

#[tokio::test]
async fn ed25519_is_accepted_as_the_newer_name_of_eddsa() {
    let deployments = Deployments::new(memory());
    let mut verifying = bundle("hello", "1", &[]);
    let binding = r#"{"name":"J","issuers":["i"],"audiences":["a"],"jwks_url":"https://i.test/","jwks_algorithms":["Ed25519"],
        "keys":[{"algorithm":"Ed25519","material":{"pem":"x"}}]}"#;
    verifying.config.jwt = vec![serde_json::from_str(binding).unwrap()];
    publish(&deployments, &verifying, 1).await;
}
