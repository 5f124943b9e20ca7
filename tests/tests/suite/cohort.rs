use std::collections::HashMap;

use tests::{Fleet, get};

#[tokio::test]
async fn a_client_keeps_its_cohort_in_every_pop_without_the_origin() {
    let fleet = Fleet::start();
    let first = get(fleet.pop("lhr"), "/ab/", &[]).await;
    let cohort = first.header("x-cohort").to_owned();
    let set = first.header("set-cookie").to_owned();
    assert!(set.contains("Max-Age=") && set.contains("HttpOnly"), "{set}");
    let cookie = set.split(';').next().unwrap();
    let before = fleet.origin_requests().await;
    for pop in ["lhr", "iad", "nrt"] {
        let again = get(fleet.pop(pop), "/ab/", &[("cookie", &format!("a=b; {cookie}"))]).await;
        assert_eq!((again.header("x-cohort"), again.header("set-cookie")), (cohort.as_str(), ""));
        let foreign = get(fleet.pop(pop), "/ab/", &[("cookie", "skerry-client=somebody")]).await;
        let there = get(fleet.pop("lhr"), "/ab/", &[("cookie", "skerry-client=somebody")]).await;
        assert_eq!(foreign.header("x-cohort"), there.header("x-cohort"));
    }
    assert_eq!(fleet.origin_requests().await, before);
}

#[tokio::test]
async fn ten_thousand_clients_split_by_the_weights_to_a_point() {
    let fleet = Fleet::start();
    let address = fleet.pop("iad");
    let lanes = (0..16).map(|_| async move {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let mut counts: HashMap<String, u32> = HashMap::new();
        for _ in 0..625 {
            sender.ready().await.unwrap();
            let request = http::Request::get("/ab/")
                .header("host", "h")
                .body(http_body_util::Empty::<bytes::Bytes>::new())
                .unwrap();
            let response = sender.send_request(request).await.unwrap();
            *counts.entry(response.headers()["x-cohort"].to_str().unwrap().to_owned()).or_default() += 1;
            http_body_util::BodyExt::collect(response.into_body()).await.unwrap();
        }
        counts
    });
    let mut total: HashMap<String, u32> = HashMap::new();
    for lane in lanes.map(tokio::spawn).collect::<Vec<_>>() {
        for (cohort, count) in lane.await.unwrap() {
            *total.entry(cohort).or_default() += count;
        }
    }
    for (cohort, share) in [("control", 5000), ("one-page", 3000), ("express", 2000)] {
        let off = total[cohort].abs_diff(share);
        assert!(off <= 100, "{cohort}: {total:?}");
    }
}
