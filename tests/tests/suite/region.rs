//! Regions: nodes that run what the edge should not.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use futures::future::join_all;
use http::Method;
use http::Response;
use rustix::process::Signal;
use tempfile::TempDir;
use tests::fleet::function;
use tests::{Fleet, Lone, Options, Reply, Stub, eventually, get, send};

const REGION: &str = "eu-west-1";

/// Holds so many MiB of heap.
const BIG: &str = "export default { async fetch(request) {
    const body = await request.text(), keep = [];
    const mib = Number(new URL(request.url).searchParams.get('mib'));
    for (let i = 0; i < mib; i++) keep.push(new Array(131072).fill(i + 0.5));
    return new Response(keep.length + body);
} }";

/// Tells its caller, and then computes for longer than the edge lets it.
const BUSY: &str = "export default { async fetch(request, env) {
    await fetch(env.TOLD + new URL(request.url).search, { method: request.method });
    let x = 0;
    for (let i = 0; i < 4e8; i++) x += i % 7;
    return new Response('done ' + (x > 0));
} }";

/// Everything that a function can see of a request.
const SEES: &str = "export default { async fetch(request) {
    const body = await request.text(), { method, url, cf } = request;
    return Response.json({ method, url: url.replace(/there|here/, ''), headers: [...request.headers], cf, body });
} }";

/// Sends back what comes, as it comes.
const ECHO: &str = "export default { fetch: (request) => new Response(request.body) }";

/// Waits for a server.
const WAITS: &str =
    "export default { fetch: async (request, env) => new Response(await (await fetch(env.TOLD)).text()) }";

/// Asks its origin.
const ASKS: &str = "export default { fetch: async (request) => {
    try { return new Response((await fetch(request)).status) } catch (error) { return new Response('no origin') }
} }";

fn functions(told: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let own = |name: &str, project: &str, source: &str| {
        function(&folder.path().join(name), project, &[("index.js", source)]);
    };
    let roomy = r#""limits": { "cpu_ms": 20000 }"#;
    own(
        "big",
        &format!(r#"{roomy}, "placement": "auto", "region": {{ "limits": {{ "heap_bytes": "400MiB" }} }}"#),
        BIG,
    );
    own("small", &format!(r#"{roomy}, "placement": "edge""#), BIG);
    own("cheap", &format!(r#"{roomy}, "region": {{ "objective_ms": "10s" }}"#), BIG);
    own("near", &format!(r#"{roomy}, "region": {{ "objective_ms": 1 }}"#), BIG);
    own("declares", r#""placement": "auto", "limits": { "heap_bytes": "600MiB" }"#, BIG);
    let told = format!(r#""vars": {{ "TOLD": "{told}" }}"#);
    own("busy", &told, BUSY);
    own("waits", &told, WAITS);
    own("asks", r#""placement": { "mode": "smart" }"#, ASKS);
    own("there", r#""placement": "region""#, SEES);
    own("here", r#""placement": "edge""#, SEES);
    own("echo", r#""placement": "region""#, ECHO);
    folder
}

fn options(functions: &Path, more: &[&str]) -> Options {
    let more = more.iter().map(|word| (*word).to_owned()).collect();
    Options { functions: Some(functions.to_owned()), pops: "lhr=0", more, ..Options::default() }
}

fn regional(functions: &TempDir) -> Fleet {
    let more = ["--regions", REGION, "--workers", "1", "--allow-fetch", "127.0.0.1/32"];
    Fleet::with(&options(functions.path(), &more))
}

/// What the PoP says of where a request ran.
fn place(reply: &Reply) -> String {
    let phases = reply.headers.get_all("server-timing").iter().map(|line| line.to_str().unwrap());
    let phases: Vec<_> = phases.flat_map(|line| line.split(", ")).collect();
    let place = phases.iter().find_map(|phase| phase.strip_prefix("place;desc="));
    place.unwrap_or_default().trim_matches('"').to_owned()
}

#[track_caller]
fn ran(reply: &Reply, status: u16, at: &str) {
    assert_eq!((reply.status, &*place(reply)), (status, at), "{reply:?}");
}

#[tokio::test]
async fn a_function_that_needs_300_mib_is_run_in_the_region_once_it_has_shown_that() {
    let fleet = regional(&functions("-"));
    let lhr = fleet.pop("lhr");
    ran(&get(lhr, "/big?mib=1", &[]).await, 200, "edge: home");
    let first = get(lhr, "/big?mib=300", &[]).await;
    ran(&first, 200, "region: retry");
    assert_eq!(first.text(), "300");
    assert_eq!(first.header("x-skerry-pop"), "lhr");
    ran(&get(lhr, "/big?mib=300", &[]).await, 200, "region: learnt_need");
    ran(&get(lhr, "/big?mib=1", &[]).await, 200, "region: learnt_need");
    let over = get(lhr, "/big?mib=600", &[]).await;
    ran(&over, 500, "region: learnt_need");
    assert_eq!(over.header("x-skerry-error"), "limit/heap", "the region has a limit, too");
    let pinned = get(lhr, "/small?mib=300", &[]).await;
    ran(&pinned, 500, "edge: placement");
    assert_eq!(pinned.header("x-skerry-error"), "limit/heap");
    ran(&get(lhr, "/declares?mib=300", &[]).await, 200, "region: declared_need");

    let scrape = fleet.scrape("lhr").await;
    let placed = |reason| scrape.sum("skerry_placements_total", &[("place", "region"), ("reason", reason)]);
    assert_eq!(["retry", "learnt_need", "declared_need"].map(placed), [1.0, 3.0, 1.0]);
    let log = std::fs::read_to_string(fleet.state().join("logs/lhr.log")).unwrap();
    assert!(log.contains("learnt_need"), "{log}");
    let log = std::fs::read_to_string(fleet.state().join(format!("logs/{REGION}.log"))).unwrap();
    assert!(log.contains(first.header("x-request-id")), "the region logs the same request: {log}");
    let pops = fleet.ok(&["pops"]);
    assert!(pops.contains("eu-west-1 (region)"), "{pops}");
}

#[tokio::test]
async fn what_has_begun_and_is_not_idempotent_is_never_run_twice() {
    let stub = Stub::start(|_| Response::new(String::new())).await;
    let functions = functions(&format!("http://{}/", stub.address));
    let fleet = regional(&functions);
    let lhr = fleet.pop("lhr");
    let seen = || stub.seen.lock().unwrap().clone();
    let broken = send(lhr, Method::POST, "/busy?a", &[], "x").await;
    ran(&broken, 500, "edge: home");
    assert_eq!(broken.header("x-skerry-error"), "limit/cpu");
    assert_eq!(seen(), ["POST /?a"]);
    ran(&send(lhr, Method::POST, "/busy?b", &[], "x").await, 200, "region: learnt_need");
    assert_eq!(seen(), ["POST /?a", "POST /?b"]);

    // A region that goes away over a request: nobody knows how far it came.
    fleet.signal(REGION, Signal::STOP);
    let (asked, ()) = tokio::join!(send(lhr, Method::POST, "/busy?c", &[], "x"), async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        fleet.signal(REGION, Signal::KILL);
    });
    assert_eq!((asked.status, asked.header("x-skerry-error")), (502, "region/lost"), "{asked:?}");
    assert!(!seen().contains(&"POST /?c".to_owned()), "it had not begun, but nobody here can know");
}

#[tokio::test]
async fn a_get_that_breaks_a_limit_is_run_again_at_once() {
    let stub = Stub::start(|_| Response::new(String::new())).await;
    let fleet = regional(&functions(&format!("http://{}/", stub.address)));
    let reply = get(fleet.pop("lhr"), "/busy?a", &[]).await;
    ran(&reply, 200, "region: retry");
    assert_eq!(*stub.seen.lock().unwrap(), ["GET /?a", "GET /?a"]);
    ran(&get(fleet.pop("lhr"), "/busy?b", &[]).await, 200, "region: learnt_need");
}

#[tokio::test]
async fn a_function_sees_the_same_request_here_and_there() {
    let fleet = regional(&functions("-"));
    let sent = [
        ("host", "www.example"),
        ("x-forwarded-for", "133.11.0.1"),
        ("x-forwarded-proto", "https"),
        ("x-request-id", "0123456789abcdef"),
        ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        ("cookie", "a=b"),
        ("x-own", "one"),
        ("x-own", "two"),
        ("cdn-loop", "another"),
        ("x-skerry-region-visit", "{}"),
    ];
    for (method, body) in [(Method::GET, ""), (Method::POST, "body")] {
        let ask =
            async |name: &str| send(fleet.pop("lhr"), method.clone(), &format!("/{name}/x?y=%20"), &sent, body).await;
        let (here, there) = (ask("here").await, ask("there").await);
        ran(&here, 200, "edge: placement");
        ran(&there, 200, "region: placement");
        let (mut here, mut there) = (here.json(), there.json());
        assert_eq!(there["cf"]["country"], "JP");
        assert_eq!(there["cf"]["colo"], "LHR");
        for seen in [&mut here, &mut there] {
            let fields = seen["headers"].as_array_mut().unwrap();
            // That one is the platform's own between its nodes; a client's is of no meaning.
            fields.retain(|field| field[0] != "x-skerry-region-visit");
        }
        assert_eq!(here, there);
    }
}

#[tokio::test]
async fn nobody_but_a_pop_of_the_fleet_gets_a_region_to_run_anything() {
    let fleet = regional(&functions("-"));
    let region = fleet.pop(REGION);
    assert_eq!(get(region, "/.skerry/health", &[]).await.status, 200);
    let visit = r#"{"function":"there","client":"1.2.3.4","secure":true,"authority":"a","request_id":"0123456789","http":"HTTP/1.1","pop":"lhr","traced":false,"heavy":false}"#;
    for pass in [None, Some(""), Some("x"), Some(&*"0".repeat(64))] {
        let mut sent = vec![("x-skerry-region-visit", visit)];
        sent.extend(pass.map(|pass| ("x-skerry-region", pass)));
        let reply = get(region, "/there", &sent).await;
        assert_eq!((reply.status, reply.header("x-skerry-error")), (403, "client/no-peer"), "{pass:?}");
    }
}

#[tokio::test]
async fn without_its_region_the_edge_runs_what_it_can() {
    let fleet = regional(&functions("-"));
    let lhr = fleet.pop("lhr");
    ran(&get(lhr, "/big?mib=300", &[]).await, 200, "region: retry");
    let region = fleet.pop(REGION);
    fleet.signal(REGION, Signal::TERM);
    eventually("the region is gone", async || TcpStream::connect(region).is_err()).await;
    let whole = "x".repeat(100_000);
    let post = send(lhr, Method::POST, "/big?mib=1", &[], whole.clone()).await;
    ran(&post, 200, "edge: no_region");
    assert_eq!(post.text(), format!("1{whole}"), "nothing of the body was lost on the way");
    for _ in 0..20 {
        ran(&get(lhr, "/big?mib=1", &[]).await, 200, "edge: no_region");
    }
    let reply = get(lhr, "/there", &[]).await;
    assert_eq!((reply.status, reply.header("x-skerry-error")), (503, "region/unreachable"), "{reply:?}");
    assert!(!reply.header("retry-after").is_empty());

    let mut command = fleet.command(REGION);
    let mut again = command.stderr(std::process::Stdio::null()).spawn().unwrap();
    eventually("the region is back, and trusted again", async || {
        place(&get(lhr, "/there", &[]).await).starts_with("region")
    })
    .await;
    eventually("for everybody", async || get(lhr, "/there", &[]).await.status == 200).await;
    again.kill().unwrap();
    again.wait().unwrap();
}

#[tokio::test]
async fn a_region_that_stands_still_is_found_out_and_the_edge_runs_what_it_can() {
    let fleet = regional(&functions("-"));
    let lhr = fleet.pop("lhr");
    ran(&get(lhr, "/big?mib=300", &[]).await, 200, "region: retry");
    fleet.signal(REGION, Signal::STOP);
    ran(&get(lhr, "/big?mib=1", &[]).await, 200, "edge: no_region");
    let post = send(lhr, Method::POST, "/big?mib=1", &[], "x").await;
    ran(&post, 200, "edge: no_region");
    fleet.signal(REGION, Signal::CONT);
    eventually("it is trusted again", async || place(&get(lhr, "/big?mib=1", &[]).await) == "region: learnt_need")
        .await;
}

#[tokio::test]
async fn bodies_stream_through_both_ways() {
    let fleet = regional(&functions("-"));
    let mut stream = TcpStream::connect(fleet.pop("lhr")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
        .write_all(b"POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    for word in ["first", "second", "third"] {
        write!(stream, "{:x}\r\n{word}\r\n", word.len()).unwrap();
        // Each comes back before the next one is sent.
        while !answer.contains(word) {
            let mut some = [0; 4096];
            let read = stream.read(&mut some).unwrap();
            assert!(read > 0, "{answer}");
            answer.push_str(std::str::from_utf8(&some[..read]).unwrap());
        }
    }
    stream.write_all(b"0\r\n\r\n").unwrap();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("0\r\n\r\n"), "{answer}");
    assert!(answer.contains("region: placement"), "{answer}");
}

#[tokio::test]
async fn an_overloaded_pop_sends_its_surplus_and_keeps_the_rest() {
    let stub = Stub::after(Duration::from_millis(300), |_| Response::new("told".to_owned())).await;
    let fleet = regional(&functions(&format!("http://{}/", stub.address)));
    let lhr = fleet.pop("lhr");
    let calm = async |lhr: SocketAddr| {
        for _ in 0..5 {
            ran(&get(lhr, "/waits", &[]).await, 200, "edge: home");
        }
    };
    calm(lhr).await;
    for _ in 0..3 {
        let replies = join_all((0..60).map(|_| get(lhr, "/waits", &[]))).await;
        assert!(replies.iter().all(|reply| reply.status == 200));
        let at = |at: &str| replies.iter().filter(|reply| place(reply) == at).count();
        let (here, surplus) = (at("edge: home"), at("region: concurrency"));
        assert!(here >= 4 && surplus >= 10, "{here} {surplus}");
    }
    calm(lhr).await;
}

#[tokio::test]
async fn a_pop_that_cannot_reach_its_origin_sends_what_needs_it_to_the_region() {
    let fleet = regional(&functions("-"));
    let lhr = fleet.pop("lhr");
    ran(&get(lhr, "/asks/nothing", &[]).await, 200, "edge: home");
    let origin = fleet.origin();
    fleet.signal("origin", Signal::TERM);
    eventually("the origin is gone", async || TcpStream::connect(origin).is_err()).await;
    let mut number = 0;
    eventually("the PoP gives its origin up", async || {
        number += 1;
        place(&get(lhr, &format!("/asks/{number}"), &[]).await) == "region: origin_health"
    })
    .await;
    ran(&get(lhr, "/small?mib=1", &[]).await, 200, "edge: placement");
    ran(&get(lhr, "/big?mib=1", &[]).await, 200, "edge: home");
}

#[tokio::test]
async fn where_prices_are_known_a_function_moves_to_the_cheaper_place_if_its_objective_lets_it() {
    let fleet = regional(&functions("-"));
    let origin = fleet.origin();
    let prices = [("--edge-price", "0.3+72"), ("--region-price", "0.1+0.05")];
    let pop = Lone::before(origin, fleet, &prices).await;
    for name in ["cheap", "near", "big"] {
        for _ in 0..25 {
            assert_eq!(get(pop.address, &format!("/{name}?mib=1"), &[]).await.status, 200);
        }
    }
    eventually("it has moved", async || place(&get(pop.address, "/cheap?mib=1", &[]).await) == "region: cost").await;
    ran(&get(pop.address, "/near?mib=1", &[]).await, 200, "edge: home");
    ran(&get(pop.address, "/big?mib=1", &[]).await, 200, "edge: home");
}

#[tokio::test]
async fn a_pop_without_a_region_runs_all_but_what_is_of_the_region_alone() {
    let folder = functions("-");
    let fleet = Fleet::with(&options(folder.path(), &[]));
    let lhr = fleet.pop("lhr");
    ran(&get(lhr, "/big?mib=1", &[]).await, 200, "");
    ran(&get(lhr, "/declares?mib=1", &[]).await, 200, "");
    let reply = get(lhr, "/there", &[]).await;
    assert_eq!((reply.status, reply.header("x-skerry-error")), (502, "region/none"), "{reply:?}");
    let taken = fleet.fails(&["up", "--no-functions", "--pops", "lhr=0", "--regions", "lhr", "--state", "other"]);
    assert!(taken.contains("--regions names lhr"), "{taken}");
}

#[tokio::test]
async fn a_region_keeps_tenants_in_processes_of_their_own() {
    let folder = functions("-");
    let fleet =
        Fleet::with(&options(folder.path(), &["--regions", REGION, "--workers", "1", "--isolation", "process"]));
    let lhr = fleet.pop("lhr");
    ran(&get(lhr, "/big?mib=300", &[]).await, 200, "region: retry");
    let over = get(lhr, "/big?mib=600", &[]).await;
    ran(&over, 500, "region: learnt_need");
    assert_eq!(over.header("x-skerry-error"), "limit/heap");
    let scrape = fleet.scrape(REGION).await;
    assert!(scrape.sum("skerry_cells", &[]) >= 1.0, "it runs in a cell");
}
