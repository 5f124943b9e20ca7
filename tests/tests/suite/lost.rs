//! A function that V8 cannot be got out of costs the worker it runs on, and no more.

use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use tests::client::try_send;
use tests::fleet::{Options, function};
use tests::{Fleet, Reply, eventually, get};

/// Ends in an error that V8 aborts the process for. Its CPU time is [`PATIENT`]ly limited: on a busy machine the
/// watchdog would come first, and the cause would be another.
pub(super) const KILLER: &str = "export default { fetch(request) {
    if (new URL(request.url).searchParams.has('kill')) 'A'.repeat(2e8).match(/A/g);
    return new Response('alive');
} }";
pub(super) const PATIENT: &str = r#""limits": { "cpu_ms": 20000 }"#;
/// Goes on in one native call for seconds after it was told to end: V8 searches backwards naively.
pub(super) const STUCK: &str = "export default { fetch(request) {
    if (new URL(request.url).searchParams.has('kill')) 'a'.repeat(1e6).lastIndexOf('a'.repeat(1e4) + 'b');
    return new Response('alive');
} }";
const NEIGHBOUR: &str = "export default { fetch: () => new Response('neighbour') }";

/// One PoP with one worker, where nothing can be somewhere else.
fn one_worker(functions: &Path) -> Fleet {
    let more = vec!["--workers".to_owned(), "1".to_owned()];
    Fleet::with(&Options { functions: Some(functions.to_owned()), pops: "lhr=0", more, ..Options::default() })
}

fn log(fleet: &Fleet) -> String {
    std::fs::read_to_string(fleet.state().join("logs/lhr.log")).expect("a log")
}

pub(super) fn assert_lost(reply: &Reply) {
    assert_eq!((reply.status, reply.header("retry-after")), (503, "1"), "{reply:?}");
    assert_eq!(reply.header("x-skerry-error"), "overload/worker-lost");
    assert_eq!(reply.header("x-skerry-pop"), "lhr");
    assert_eq!(reply.json()["code"], "overload/worker-lost");
    assert_eq!(reply.json()["request_id"], reply.header("x-request-id"));
}

async fn kill(fleet: &Fleet, name: &str) -> Reply {
    get(fleet.pop("lhr"), &format!("/{name}?kill"), &[]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_function_that_kills_its_worker_is_answered_for_named_and_put_in_quarantine() {
    let folder = tempfile::tempdir().unwrap();
    let killer = function(&folder.path().join("killer"), PATIENT, &[("index.js", KILLER)]);
    function(&folder.path().join("neighbour"), "", &[("index.js", NEIGHBOUR)]);
    let fleet = one_worker(folder.path());
    let (pop, pid) = (fleet.pop("lhr"), fleet.pid("lhr"));
    for time in 1..=3 {
        let reply = kill(&fleet, "killer").await;
        assert_lost(&reply);
        eventually("the log names the function, the request and the cause", async || {
            let log = log(&fleet);
            log.lines().any(|line| {
                line.contains("function=killer@")
                    && line.contains(reply.header("x-request-id"))
                    && line.contains(&format!("strikes={time}"))
                    && line.contains("more memory")
            })
        })
        .await;
        assert_eq!(get(pop, "/neighbour", &[]).await.text(), "neighbour");
        assert_eq!(get(pop, "/.skerry/health", &[]).await.status, 200);
    }
    let assert_quarantined = |reply: &Reply| {
        assert_eq!((reply.status, reply.header("x-skerry-error")), (500, "function/quarantined"), "{reply:?}");
        let message = reply.json()["message"].as_str().expect("a message").to_owned();
        assert!(
            message.contains("killer@") && message.contains("quarantine") && message.contains("Deploy"),
            "{message}"
        );
    };
    let metrics = fleet.scrape("lhr").await;
    // After the first time it runs apart, and costs nobody else a worker.
    assert_eq!(metrics.sum("skerry_workers_lost_total", &[("cause", "exhausted")]), 1.0);
    assert_eq!(metrics.sum("skerry_cells_lost_total", &[("cause", "exhausted")]), 2.0);
    assert_eq!(metrics.sum("skerry_functions_quarantined", &[]), 1.0);
    // Whatever is asked of it now.
    assert_quarantined(&get(pop, "/killer", &[]).await);
    assert_eq!(get(pop, "/neighbour", &[]).await.text(), "neighbour");
    assert_eq!(fleet.pid("lhr"), pid, "the process is the same");
    eventually("the control API knows", async || {
        let pops = tokio::task::block_in_place(|| fleet.ok(&["pops", "--json"]));
        pops.contains("quarantine")
    })
    .await;

    fleet.signal("lhr", Signal::KILL);
    eventually("the quarantine outlives the process", async || {
        let reply = try_send(pop, http::Method::GET, "/killer", &[], "").await;
        reply.is_ok_and(|reply| {
            assert_ne!(reply.text(), "alive");
            reply.header("x-skerry-error") == "function/quarantined"
        })
    })
    .await;

    std::fs::write(killer.join("index.js"), "export default { fetch: () => new Response('mended') }").unwrap();
    tokio::task::block_in_place(|| fleet.deploy(&killer));
    eventually("another version is not in quarantine", async || get(pop, "/killer", &[]).await.text() == "mended")
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_function_is_stuck_the_pop_goes_on_without_its_worker() {
    let folder = tempfile::tempdir().unwrap();
    function(&folder.path().join("stuck"), "", &[("index.js", STUCK)]);
    function(&folder.path().join("neighbour"), "", &[("index.js", NEIGHBOUR)]);
    let fleet = one_worker(folder.path());
    let (pop, pid) = (fleet.pop("lhr"), fleet.pid("lhr"));
    let stuck = kill(&fleet, "stuck");
    // These arrive while the only worker is in the native call: in the listener's queue, or in a connection.
    let others = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        for _ in 0..3 {
            assert_eq!(get(pop, "/neighbour", &[]).await.text(), "neighbour");
            assert_eq!(get(pop, "/.skerry/health", &[]).await.status, 200);
        }
    };
    let (stuck, ()) = tokio::join!(stuck, others);
    assert_lost(&stuck);
    assert_eq!(fleet.pid("lhr"), pid);
    assert!(log(&fleet).contains("could not be ended"));
    // The same function again, on the new worker.
    assert_eq!(get(pop, "/stuck", &[]).await.text(), "alive");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_waits_on_a_lost_worker_is_told_to_ask_again() {
    let folder = tempfile::tempdir().unwrap();
    function(&folder.path().join("killer"), PATIENT, &[("index.js", KILLER)]);
    let waiting = "export default { async fetch() { await new Promise((done) => setTimeout(done, 20000)); } }";
    function(&folder.path().join("waiting"), "", &[("index.js", waiting)]);
    let fleet = one_worker(folder.path());
    let pop = fleet.pop("lhr");
    let waits = tokio::spawn(async move { get(pop, "/waiting", &[]).await });
    let head = tokio::spawn(async move { tests::client::send(pop, http::Method::HEAD, "/waiting", &[], "").await });
    eventually("both are under way", async || {
        tokio::time::sleep(Duration::from_millis(300)).await;
        true
    })
    .await;
    assert_lost(&kill(&fleet, "killer").await);
    assert_lost(&waits.await.unwrap());
    let head = head.await.unwrap();
    assert_eq!((head.status, head.body.len()), (503, 0), "{head:?}");
    assert!(!log(&fleet).contains("function=waiting"), "it is not to blame");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_function_in_quarantine_is_not_kept_ready_any_more() {
    let folder = tempfile::tempdir().unwrap();
    function(&folder.path().join("killer"), &format!("\"min_ready\": 1, {PATIENT}"), &[("index.js", KILLER)]);
    let fleet = one_worker(folder.path());
    let residents = async || fleet.scrape("lhr").await.sum("skerry_isolates", &[("state", "resident")]);
    eventually("it is ready", async || residents().await == 1.0).await;
    for _ in 0..3 {
        assert_lost(&kill(&fleet, "killer").await);
    }
    eventually("it is in quarantine", async || {
        get(fleet.pop("lhr"), "/killer", &[]).await.header("x-skerry-error") == "function/quarantined"
    })
    .await;
    // Its worker looks each second after what is to be ready: it has done so with the last isolate gone, and once more.
    eventually("none is kept ready", async || residents().await == 0.0).await;
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert_eq!(residents().await, 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_http2_a_lost_worker_ends_its_connection_and_the_cache_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    function(&folder.path().join("killer"), PATIENT, &[("index.js", KILLER)]);
    let half = "export default { fetch: () => new Response(new ReadableStream({
        async pull(out) {
            out.enqueue(new TextEncoder().encode('part'));
            await new Promise((done) => setTimeout(done, 50));
        }
    })) }";
    function(&folder.path().join("half"), "", &[("index.js", half)]);
    let site = function(
        &folder.path().join("site"),
        r#""assets": { "directory": "public" }"#,
        &[("index.js", "export default { fetch: (request) => fetch(request) }")],
    );
    std::fs::create_dir_all(site.join("public/site")).unwrap();
    std::fs::write(site.join("public/site/page.txt"), "an object").unwrap();
    let fleet = one_worker(folder.path());
    let (pop, pid) = (fleet.pop("lhr"), fleet.pid("lhr"));
    assert_eq!(get(pop, "/site/page.txt", &[]).await.text(), "an object");
    fleet.signal("origin", Signal::TERM);

    let both = tests::client::try_send_h2(pop, &["/half", "/killer?kill"]);
    let both = tokio::time::timeout(Duration::from_secs(15), both).await.expect("neither hangs");
    assert!(both.iter().all(Result::is_err), "neither looks whole: {both:?}");
    let cached = get(pop, "/site/page.txt", &[]).await;
    assert_eq!((cached.status, cached.text().as_str()), (200, "an object"));
    assert!(cached.header("cache-status").contains("hit"), "{cached:?}");
    assert_eq!(tests::client::send_h2(pop, "/killer").await.text(), "alive");
    assert_eq!(fleet.pid("lhr"), pid);
}
