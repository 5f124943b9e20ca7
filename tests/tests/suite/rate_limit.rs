use std::time::Duration;

use tests::{Fleet, get};

#[tokio::test]
async fn a_client_over_its_limit_waits_as_told_and_others_do_not() {
    let fleet = Fleet::start();
    let ask = async |client: &str| get(fleet.pop("lhr"), "/limited/", &[("x-forwarded-for", client)]).await;
    for left in (0..5).rev() {
        let reply = ask("133.11.0.1").await;
        assert_eq!(reply.status, 200);
        assert_eq!(reply.header("ratelimit-policy"), r#""default";q=5;w=10"#);
        assert!(
            reply.header("ratelimit").starts_with(&format!(r#""default";r={left};t="#)),
            "{}",
            reply.header("ratelimit")
        );
    }
    let refused = ask("133.11.0.1").await;
    assert_eq!(refused.status, 429);
    let wait: u64 = refused.header("retry-after").parse().expect("seconds");
    assert!((1..=11).contains(&wait), "{wait}");
    assert!(refused.header("ratelimit").starts_with(r#""default";r=0;t="#));
    assert_eq!(ask("141.30.0.1").await.status, 200, "another client is not affected");
    tokio::time::sleep(Duration::from_secs(wait)).await;
    assert_eq!(ask("133.11.0.1").await.status, 200, "after Retry-After");
}

#[tokio::test]
async fn counters_outlive_a_deploy() {
    let fleet = Fleet::start();
    let copy = fleet.folder.path().join("limited");
    tests::fleet::copy(&tests::fleet::examples().join("limited"), &copy);
    for _ in 0..5 {
        get(fleet.pop("lhr"), "/limited/", &[]).await;
    }
    let source = std::fs::read_to_string(copy.join("index.js")).unwrap();
    std::fs::write(copy.join("index.js"), format!("{source}// another version\n")).unwrap();
    fleet.deploy(&copy);
    assert_eq!(get(fleet.pop("lhr"), "/limited/", &[]).await.status, 429);
}
