//! Shields: PoPs that others ask instead of the origin.

use rustix::process::Signal;
use tests::client::exchange;
use tests::fleet::function;
use tests::lone::HOSTS;
use tests::wire::{Then, answer};
use tests::{Fleet, Lone, Options, Wire, eventually, get, send};

const LOGO: &str = "/site/logo.png";
/// One site, whichever PoP is asked for it.
const HOST: (&str, &str) = ("host", "www.example");

fn tiered(shield: &str) -> Fleet {
    Fleet::with(&Options { more: vec!["--shield".to_owned(), shield.to_owned()], ..Options::default() })
}

#[tokio::test]
async fn hundreds_of_clients_of_three_cold_pops_cost_the_origin_one_request() {
    let fleet = tiered("lhr");
    let before = fleet.origin_requests().await;
    let clients = ["lhr", "iad", "nrt"].into_iter().flat_map(|name| (0..100).map(move |_| name));
    let replies = futures::future::join_all(clients.map(|name| get(fleet.pop(name), LOGO, &[HOST]))).await;
    let original = std::fs::read(tests::fleet::examples().join("site/public/site/logo.png")).unwrap();
    for reply in &replies {
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert!(reply.body == original);
    }
    assert_eq!(fleet.origin_requests().await, before + 1);

    // Each hop says what it did, the one next to the origin first (RFC 9211 section 2), and only the nearest its name.
    let via = replies.iter().map(|reply| {
        let hops = reply.headers.get_all("cache-status").iter().map(|hop| hop.to_str().unwrap());
        let hops: Vec<_> = hops.flat_map(|hops| hops.split(", ")).collect();
        hops.iter().map(|hop| hop.split(';').next().unwrap().trim().to_owned()).collect::<Vec<_>>()
    });
    for (hops, reply) in via.zip(&replies) {
        let pop = reply.header("x-skerry-pop");
        let expected = if pop == "lhr" { vec!["lhr"] } else { vec!["lhr", pop] };
        assert_eq!(hops, expected);
        assert_eq!(reply.headers.get_all("x-request-id").iter().count(), 1);
        assert!(!reply.headers.contains_key("x-skerry-tier"));
    }
    let hit = get(fleet.pop("iad"), LOGO, &[HOST]).await;
    let etag = hit.header("etag").to_owned();
    assert_eq!(get(fleet.pop("nrt"), LOGO, &[HOST, ("if-none-match", &etag)]).await.status, 304);
    let part = get(fleet.pop("iad"), LOGO, &[HOST, ("range", "bytes=10-19")]).await;
    assert_eq!((part.status, &part.body[..]), (206, &original[10..20]));
    assert_eq!(fleet.origin_requests().await, before + 1, "all of that came from the caches");
}

#[tokio::test]
async fn a_shield_looks_into_its_cache_and_runs_no_function() {
    let folder = tempfile::tempdir().unwrap();
    let module = "export default { async fetch(request) { const r = await fetch(request); return new Response(r.status, { headers: { pop: request.cf.colo } }) } }";
    function(&folder.path().join("passes"), "", &[("index.js", module)]);
    let more = vec!["--shield".to_owned(), "lhr".to_owned()];
    let fleet = Fleet::with(&Options { functions: Some(folder.path().to_owned()), more, ..Options::default() });
    let reply = get(fleet.pop("iad"), "/passes/nothing", &[]).await;
    assert_eq!((reply.status, reply.text().as_str(), reply.header("pop")), (200, "404", "IAD"), "{reply:?}");
    let scrape = fleet.scrape("lhr").await;
    assert_eq!(scrape.sum("skerry_requests_total", &[("function", "passes")]), 0.0);
    assert_eq!(scrape.sum("skerry_origin_answer_duration_seconds_count", &[("origin", "own")]), 1.0);
    let scrape = fleet.scrape("iad").await;
    assert_eq!(scrape.sum("skerry_origin_answer_duration_seconds_count", &[("origin", "own")]), 0.0);
    assert_eq!(scrape.sum("skerry_origin_answer_duration_seconds_count", &[("origin", "shield")]), 1.0);
}

#[tokio::test]
async fn without_its_shield_a_pop_asks_the_origin_itself() {
    let fleet = tiered("lhr");
    let lhr = fleet.pop("lhr");
    fleet.signal("lhr", Signal::TERM);
    eventually("lhr is gone", async || tokio::net::TcpStream::connect(lhr).await.is_err()).await;
    let before = fleet.origin_requests().await;
    assert_eq!(get(fleet.pop("iad"), LOGO, &[]).await.status, 200);
    assert_eq!(fleet.origin_requests().await, before + 1);
    assert_eq!(get(fleet.pop("iad"), "/site/other", &[]).await.status, 404);
    let scrape = fleet.scrape("iad").await;
    assert_eq!(scrape.sum("skerry_shield_detours_total", &[]), 2.0);
    assert!(scrape.sum("skerry_shield_detours_total", &[("reason", "failed")]) >= 1.0);
}

/// A PoP before this origin, with a shield at this address.
async fn shielded(origin: &Wire, shield: std::net::SocketAddr) -> Lone {
    Lone::for_all(origin.address, &[("--shield", &format!("other=http://{shield}"))]).await
}

/// A port where nobody listens.
async fn nowhere() -> std::net::SocketAddr {
    tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

fn post(host: &str, body: &str) -> String {
    let length = body.len();
    format!("POST /form HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
}

#[tokio::test]
async fn a_body_that_no_shield_was_there_for_goes_to_the_origin_whole() {
    let origin = Wire::start(|asked| answer("200 OK", "", &String::from_utf8_lossy(&asked.body))).await;
    let pop = shielded(&origin, nowhere().await).await;
    for (index, host) in HOSTS.iter().enumerate() {
        let got = exchange(pop.address, post(host, "a=1&b=2")).await;
        assert_eq!((got.status, got.text().as_str()), (200, "a=1&b=2"), "{host}: {}", got.head);
        assert_eq!(origin.seen().len(), index + 1, "once");
    }
}

#[tokio::test]
async fn what_a_shield_may_have_passed_on_before_it_was_lost_is_not_sent_twice() {
    let origin = Wire::start(|_| answer("200 OK", "", "body")).await;
    let lost = Wire::start(|_| (Vec::new(), Then::Close)).await;
    let pop = shielded(&origin, lost.address).await;
    for host in HOSTS {
        for body in ["", "a=1"] {
            let got = exchange(pop.address, post(host, body)).await;
            assert!(got.status >= 500, "{host}: {}", got.head);
        }
        assert_eq!(origin.seen().len(), 0, "{host}");
    }
    let get = format!("GET /page HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", HOSTS[1]);
    assert_eq!(exchange(pop.address, get).await.status, 200, "what may be asked twice is");
}

#[tokio::test]
async fn what_pops_say_to_each_other_comes_and_goes_with_nobody_else() {
    let origin = Wire::start(|_| answer("200 OK", "X-Skerry-Tier-Own: lhr\r\n", "body")).await;
    let pop = Lone::for_all(origin.address, &[]).await;
    for host in HOSTS {
        let fields = "X-Skerry-Tier-Url: http://a/\r\nX-Skerry-Tier-Assets: a\r\nX-Skerry-Tier-Purged: 1\r\n";
        let get = format!("GET /{host} HTTP/1.1\r\nHost: {host}\r\n{fields}Connection: close\r\n\r\n");
        let got = exchange(pop.address, get).await;
        assert_eq!((got.status, got.field("x-skerry-tier-own")), (200, ""), "{host}: {}", got.head);
        let seen = origin.seen();
        for name in ["x-skerry-tier-url", "x-skerry-tier-assets", "x-skerry-tier-purged"] {
            assert_eq!(seen.last().unwrap().field(name), "", "{host}");
        }
    }
}

#[tokio::test]
async fn nobody_but_a_pop_of_the_fleet_gets_behind_a_function() {
    let fleet = tiered("lhr");
    let url = format!("http://{}/auth/secret", fleet.pop("lhr"));
    let token = fleet.authorization();
    let token = token.trim_start_matches("Bearer ");
    for pass in ["", "x", token, &"0".repeat(64)] {
        let sent = [("x-skerry-tier", pass), ("x-skerry-tier-url", &*url), ("x-skerry-tier-assets", "auth/1")];
        let reply = send(fleet.pop("lhr"), http::Method::GET, "/auth/secret", &sent, "").await;
        assert_eq!((reply.status, reply.header("x-skerry-error")), (403, "client/no-peer"), "{pass:?}");
    }
    let without = fleet.fails(&["up", "--no-functions", "--pops", "lhr=0", "--shield", "iad", "--state", "other"]);
    assert!(without.contains("--shield names iad"), "{without}");
}
