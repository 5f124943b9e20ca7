use std::path::Path;

use tests::fleet::function;
use tests::{Fleet, Options, get};

#[tokio::test]
async fn a_forwarded_address_is_placed_and_gets_its_region() {
    let fleet = Fleet::start();
    for (address, country, region) in [
        ("133.11.0.1", "JP", "asia-northeast"),
        ("141.30.0.1", "DE", "eu-central"),
        ("2001:200::1", "JP", "asia-northeast"),
        ("133.11.0.1, 127.0.0.1", "JP", "asia-northeast"),
        // What the client itself claims stands left of what a proxy added; only trusted hops are skipped.
        ("133.11.0.1, 141.30.0.1", "DE", "eu-central"),
    ] {
        for front in [fleet.pop("lhr"), fleet.front()] {
            let reply = get(front, "/geo/", &[("x-forwarded-for", address)]).await.json();
            assert_eq!(
                (reply["country"].as_str(), reply["region"].as_str()),
                (Some(country), Some(region)),
                "{address}: {reply}"
            );
        }
    }
    let unknown = get(fleet.pop("lhr"), "/geo/", &[]).await.json();
    assert!(unknown["country"].is_null() && unknown["region"].is_string(), "{unknown}");
}

#[tokio::test]
async fn the_front_door_sends_a_client_to_the_nearest_pop() {
    let fleet = Fleet::start();
    for (address, pop) in [("133.11.0.1", "nrt"), ("141.30.0.1", "lhr"), ("8.8.8.8", "iad")] {
        let reply = get(fleet.front(), "/hello", &[("x-forwarded-for", address)]).await;
        assert_eq!(reply.header("x-skerry-pop"), pop, "{address}");
    }
}

#[tokio::test]
async fn a_database_of_maxminds_schema_tells_city_and_place() {
    let folder = tempfile::tempdir().unwrap();
    function(&folder.path().join("where"), "", &[("index.js", "export default { fetch: (r) => Response.json(r.cf) }")]);
    let data =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("edge/middleware/data/GeoIP2-City-Test.mmdb");
    let more = vec!["--geo".to_owned(), data.to_string_lossy().into_owned()];
    let fleet =
        Fleet::with(&Options { functions: Some(folder.path().to_owned()), pops: "lhr=0", more, ..Options::default() });
    let cf = get(fleet.pop("lhr"), "/where", &[("x-forwarded-for", "81.2.69.142")]).await.json();
    assert_eq!(
        (cf["country"].as_str(), cf["city"].as_str(), cf["continent"].as_str()),
        (Some("GB"), Some("London"), Some("EU"))
    );
    assert_eq!(
        (cf["latitude"].as_str(), cf["longitude"].as_str(), cf["colo"].as_str()),
        (Some("51.5142"), Some("-0.0931"), Some("LHR"))
    );
}
