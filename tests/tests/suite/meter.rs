//! What functions use is counted once and arrives once, whatever happens to the PoP, the origin, and what lies between.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::Method;
use rustix::process::Signal;
use serde_json::Value;
use tests::client::{raw, send_h2};
use tests::fleet::{Options, function};
use tests::lone::Lone;
use tests::{Fleet, eventually, get, send};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::lost::STUCK;

/// The fields of the access log and the numbers of the meter that say the same.
const SAME: [(&str, &str); 6] = [
    ("bytes", "bytes_out"),
    ("cpu_us", "cpu_us"),
    ("wall_us", "wall_us"),
    ("memory_mb_ms", "memory_mb_ms"),
    ("fills", "cache_fills"),
    ("reads", "object_reads"),
];

/// By function, version and cohort, then by the name of the number.
type Sums = BTreeMap<(String, String, String), BTreeMap<String, u64>>;

fn fleet(functions: &Path, every: &str) -> Fleet {
    let more = ["--workers", "2", "--meter-every", every].map(str::to_owned).into();
    Fleet::with(&Options { functions: Some(functions.to_owned()), pops: "lhr=0", more, ..Options::default() })
}

/// What the lines of the access log add up to, and how many there are.
fn logged(fleet: &Fleet) -> (usize, Sums) {
    let log = std::fs::read_to_string(fleet.state().join("logs/lhr.log")).expect("a log");
    let (mut lines, mut sums) = (0, Sums::new());
    for line in log.lines().filter(|line| line.contains(" method=") && line.contains(" bytes=")) {
        let pairs = line.split(' ').filter_map(|word| word.split_once('='));
        let field: BTreeMap<&str, &str> = pairs.map(|(name, value)| (name, value.trim_matches('"'))).collect();
        let (name, version) = field["function"].split_once('@').unwrap_or((field["function"], ""));
        let cohort = field.get("cohort").copied().unwrap_or_default();
        let sum = sums.entry((name.to_owned(), version.to_owned(), cohort.to_owned())).or_default();
        let mut add = |name: &str, number: u64| *sum.entry(name.to_owned()).or_default() += number;
        add("requests", 1);
        add("invocations", u64::from(field.contains_key("wall_us")));
        for (logged, metered) in SAME {
            add(metered, field.get(logged).map_or(0, |number| number.parse().expect("a number")));
        }
        lines += 1;
    }
    (lines, sums)
}

/// What `skerry cost` shows of the day.
fn metered(fleet: &Fleet) -> Sums {
    let answer: Value = serde_json::from_str(&fleet.ok(&["cost", "--json", "--by", "version,cohort"])).expect("JSON");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let rows = answer["own"]["rows"].as_array().expect("rows").iter().map(|row| {
        let key = (text(&row["function"]), text(&row["version"]), text(&row["cohort"]));
        let names = ["requests", "invocations"].into_iter().chain(SAME.map(|(_, name)| name));
        (key, names.map(|name| (name.to_owned(), row["usage"][name].as_u64().expect("a number"))).collect())
    });
    rows.collect()
}

/// Requests of a function that have arrived at the origin.
fn requests(fleet: &Fleet, name: &str) -> u64 {
    metered(fleet).iter().filter(|((function, ..), _)| function == name).map(|(_, sums)| sums["requests"]).sum()
}

/// Functions of every kind.
fn kinds(folder: &Path) {
    let handlers = [
        ("fine", "", "return new Response('x'.repeat(1000))"),
        ("computes", "", "let n = 0; for (let i = 0; i < 3e6; i++) n += i; return new Response(String(n))"),
        ("throws", "", "throw new Error('x=1 bytes=7')"),
        ("loops", r#""limits": { "cpu_ms": 20 }"#, "for (;;) {}"),
        ("small", r#""limits": { "heap_bytes": 67108864 }"#, "await scheduler.wait(20); return new Response('waited')"),
        ("celled", r#""isolation": "process""#, "for (let i = 0; i < 1e6; i++); return new Response('in a cell')"),
        (
            "fronted",
            r#""cache": { "enabled": true }"#,
            "return new Response('kept'.repeat(50), { headers: { 'cache-control': 'max-age=600', etag: '\"e\"' } })",
        ),
        (
            "later",
            "",
            "ctx.waitUntil(scheduler.wait(50).then(() => { for (let i = 0; i < 3e6; i++); })); return new Response('now')",
        ),
        (
            "endless",
            "",
            "return new Response(new ReadableStream({ async pull(c) { await scheduler.wait(2); c.enqueue(new Uint8Array(5000)) } }))",
        ),
        (
            "breaks",
            "",
            "let n = 0; return new Response(new ReadableStream({ pull(c) { if (n++ > 3) c.error('x'); else c.enqueue(new Uint8Array(700)) } }))",
        ),
        ("slow", "", "await scheduler.wait(2000); return new Response('too late')"),
        (
            "ab",
            r#""cohorts": [{ "binding": "AB", "experiment": "shop", "cohorts": { "old": 1, "new": 1 } }]"#,
            "return new Response(env.AB.assign(new URL(request.url).search).cohort)",
        ),
        ("site", r#""assets": { "directory": "public" }"#, "return fetch(request)"),
    ];
    for (name, project, body) in handlers {
        let tried = "if (new URL(request.url).pathname === '/') return new Response('')";
        let source = format!("export default {{ async fetch(request, env, ctx) {{ {tried}; {body} }} }}");
        function(
            &folder.join(name),
            project,
            &[("index.js", &source), ("public/site/page.txt", "an object of the store")],
        );
    }
}

/// Asks, and leaves after so many bytes of the answer.
async fn leaves(address: SocketAddr, path: &str, after: usize) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
    let (mut seen, mut buffer) = (0, [0; 4096]);
    while seen < after {
        seen += stream.read(&mut buffer).await.unwrap();
    }
    if after == 0 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn the_sums_of_the_meter_are_those_of_the_access_log() {
    let folder = tempfile::tempdir().unwrap();
    kinds(folder.path());
    let fleet = fleet(folder.path(), "200ms");
    let pop = fleet.pop("lhr");
    let mut sent = 0;
    for round in 0..6 {
        let paths =
            ["fine", "computes", "throws", "small", "celled", "fronted", "later", "breaks", "nowhere", "site/page.txt"];
        let all = paths
            .map(|path| async move { tests::client::try_send(pop, Method::GET, &format!("/{path}"), &[], "").await });
        sent += futures::future::join_all(all).await.len();
        for path in ["/fine", "/fronted", "/site/page.txt"] {
            assert_eq!(send(pop, Method::HEAD, path, &[], "").await.status, 200, "{path}");
        }
        assert_eq!(get(pop, "/fronted", &[("if-none-match", "\"e\"")]).await.status, 304);
        assert_eq!(get(pop, &format!("/ab?{round}"), &[]).await.status, 200);
        assert_eq!(send_h2(pop, "/fine").await.status, 200);
        sent += 6;
    }
    assert_eq!(get(pop, "/loops", &[]).await.status, 500);
    for after in [1, 20_000] {
        leaves(pop, "/endless", after).await;
    }
    leaves(pop, "/slow", 0).await;
    assert!(raw(pop, b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n").await.starts_with("HTTP/1.1 400"));
    sent += 5;

    eventually("every request has its line, and the origin has the same sums", async || {
        let (lines, logged) = logged(&fleet);
        assert!(lines <= sent, "{lines} lines of {sent} requests");
        lines == sent && logged == metered(&fleet)
    })
    .await;
    let (_, sums) = logged(&fleet);
    let of = |name: &str, number: &str| -> u64 {
        sums.iter().filter(|((function, ..), _)| function == name).map(|(_, sums)| sums[number]).sum()
    };
    assert_eq!((of("fine", "requests"), of("fine", "bytes_out")), (18, 12_000), "bodies of GET, none of HEAD");
    assert_eq!((of("fronted", "requests"), of("fronted", "invocations"), of("fronted", "bytes_out")), (18, 1, 1200));
    assert_eq!((of("throws", "requests"), of("throws", "invocations"), of("nowhere", "requests")), (6, 6, 0));
    assert_eq!(of("-", "requests"), 7);
    assert!(of("computes", "cpu_us") > 6000 && of("celled", "cpu_us") > 600 && of("loops", "cpu_us") >= 20_000);
    assert!(
        of("later", "cpu_us") > 6000 && of("later", "wall_us") > 6 * 50_000,
        "what goes on after the answer counts"
    );
    // 64 MB for 20 ms each, and the default of 128.
    let small = of("small", "memory_mb_ms");
    assert!(small >= 6 * 64 * 20 && small <= of("small", "wall_us").div_ceil(1000) * 64 + 64 * 6, "{small}");
    assert!(of("later", "memory_mb_ms") >= 6 * 128 * 50);
    assert_eq!(of("breaks", "bytes_out"), 6 * 4 * 700);
    assert!(of("endless", "bytes_out") >= 20_000 && of("slow", "requests") == 1 && of("slow", "bytes_out") == 0);
    assert_eq!((of("site", "cache_fills"), of("site", "object_reads")), (1, 1), "one fill, one read of the store");
    let cohorts: Vec<_> = sums.keys().filter(|(name, ..)| name == "ab").map(|(.., cohort)| cohort.as_str()).collect();
    assert!(
        !cohorts.is_empty() && cohorts.iter().all(|cohort| ["shop/old", "shop/new"].contains(cohort)),
        "{cohorts:?}"
    );
    let log = std::fs::read_to_string(fleet.state().join("logs/lhr.log")).unwrap();
    for (function, words) in
        [("endless@", "end=\"cut\""), ("breaks@", "end=\"broken\""), ("slow@", "code=\"client/gone\"")]
    {
        assert!(log.lines().any(|line| line.contains(function) && line.contains(words)), "{function} {words}");
    }
}

fn one(folder: &Path) {
    function(&folder.join("fine"), "", &[("index.js", "export default { fetch: () => new Response('fine') }")]);
}

async fn ask(address: SocketAddr, times: usize) {
    for _ in 0..times {
        assert_eq!(get(address, "/fine", &[]).await.status, 200);
    }
}

/// Requests that a PoP has written down and not delivered.
fn on_disk(folder: &Path) -> u64 {
    let text = std::fs::read_to_string(folder.join("usage.json")).unwrap_or_default();
    let Some((_, json)) = text.split_once('\n') else { return 0 };
    let ledger: Value = serde_json::from_str(json).expect("JSON");
    let rows = ["open", "sealed"].into_iter().flat_map(|part| ledger[part].as_array().expect("rows"));
    rows.filter_map(|row| row["used"]["requests"].as_u64()).sum()
}

#[tokio::test]
async fn a_pop_that_is_killed_while_the_origin_is_away_delivers_what_it_has_written_down_once() {
    let folder = tempfile::tempdir().unwrap();
    one(folder.path());
    let fleet = fleet(folder.path(), "100ms");
    let pop = fleet.pop("lhr");
    ask(pop, 20).await;
    let data = fleet.state().join("pops/lhr");
    eventually("the first are there, and known to be", async || requests(&fleet, "fine") == 20 && on_disk(&data) == 0)
        .await;
    fleet.signal("origin", Signal::STOP);
    let mut written = 0;
    for _ in 0..3 {
        ask(pop, 10).await;
        written += 10;
        eventually("they are written down", async || on_disk(&data) == written).await;
        let before = fleet.pid("lhr");
        fleet.signal("lhr", Signal::KILL);
        eventually("it runs again", async || {
            fleet.pid("lhr").is_some_and(|pid| Some(pid) != before)
                && tests::client::try_send(pop, Method::GET, "/fine?again", &[], "")
                    .await
                    .is_ok_and(|it| it.status == 200)
        })
        .await;
        written += 1;
        eventually("that one is, too", async || on_disk(&data) == written).await;
    }
    fleet.signal("origin", Signal::CONT);
    eventually("all have arrived", async || requests(&fleet, "fine") == 20 + written).await;
    eventually("nothing is left", async || on_disk(&data) == 0).await;
    assert_eq!(requests(&fleet, "fine"), 20 + written);
    // The day's bill is there after a restart of everything.
    let folder_of_fleet = fleet.stop();
    let fleet = Fleet::within(
        folder_of_fleet,
        &Options { functions: Some(folder.path().to_owned()), pops: "lhr=0", ..Options::default() },
    );
    assert_eq!(requests(&fleet, "fine"), 20 + written);
}

#[tokio::test]
async fn a_pop_that_ends_in_order_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    one(folder.path());
    // Longer than the test.
    let fleet = fleet(folder.path(), "1h");
    ask(fleet.pop("lhr"), 7).await;
    fleet.signal("lhr", Signal::TERM);
    eventually("its last word has arrived", async || requests(&fleet, "fine") == 7).await;
}

/// A way to the control API on which the answers to so many deliveries are lost.
async fn lossy(control: SocketAddr, losses: usize) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let left = Arc::new(AtomicUsize::new(losses));
    let losing = Arc::clone(&left);
    tokio::spawn(async move {
        loop {
            let Ok((mut client, _)) = listener.accept().await else { return };
            let losing = Arc::clone(&losing);
            tokio::spawn(async move {
                let mut server = TcpStream::connect(control).await.unwrap();
                let (mut asked, mut answered) = (vec![0; 65_536], vec![0; 65_536]);
                let mut delivers = false;
                loop {
                    tokio::select! {
                        read = client.read(&mut asked) => {
                            let Ok(read @ 1..) = read else { return };
                            delivers |= asked[..read].starts_with(b"POST /v1/usage ");
                            server.write_all(&asked[..read]).await.unwrap();
                        }
                        read = server.read(&mut answered) => {
                            let Ok(read @ 1..) = read else { return };
                            let lose = delivers && losing.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok();
                            if lose || client.write_all(&answered[..read]).await.is_err() {
                                return;
                            }
                            delivers = false;
                        }
                    }
                }
            });
        }
    });
    (address, left)
}

#[tokio::test]
async fn a_receipt_that_is_lost_costs_nobody_anything() {
    let folder = tempfile::tempdir().unwrap();
    one(folder.path());
    let fleet = fleet(folder.path(), "1h");
    let (control, left) = lossy(fleet.admin(), 4).await;
    let options = [("--control", format!("http://{control}")), ("--meter-every", "100ms".to_owned())];
    let options: Vec<_> = options.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let origin = fleet.origin();
    let mut lone = Lone::before(origin, fleet, &options).await;
    for round in 1..=4 {
        ask(lone.address, 5).await;
        eventually("they have arrived", async || requests(&lone.fleet, "fine") >= 5 * round).await;
        // With a receipt that was lost, it does not know.
        if round == 2 {
            lone.crash().await;
        }
    }
    eventually("receipts are not lost any more", async || left.load(Ordering::SeqCst) == 0).await;
    ask(lone.address, 1).await;
    eventually("the next has arrived", async || on_disk(&lone.data()) == 0 && requests(&lone.fleet, "fine") >= 21)
        .await;
    assert_eq!(requests(&lone.fleet, "fine"), 21);
}

#[tokio::test]
async fn what_a_clock_that_jumped_has_dated_wrong_counts_for_today() {
    let folder = tempfile::tempdir().unwrap();
    one(folder.path());
    let fleet = fleet(folder.path(), "1h");
    let origin = fleet.origin();
    let data = fleet.state().join("lone");
    std::fs::create_dir_all(&data).unwrap();
    let row = |day: &str| format!(r#"{{"day":"{day}","function":"fine","used":{{"requests":5}}}}"#);
    let json = format!(
        r#"{{"id":"abc","number":3,"open":[{}],"sealed":[{},{}],"known":["",{{}}]}}"#,
        row("2077-01-01"),
        row("1970-01-01"),
        row("2076-12-31")
    );
    std::fs::write(data.join("json"), &json).unwrap();
    let digest = std::process::Command::new("sha256sum").arg(data.join("json")).output().expect("coreutils").stdout;
    let digest = String::from_utf8(digest).unwrap();
    std::fs::write(data.join("usage.json"), format!("{}\n{json}", &digest[..64])).unwrap();
    let lone = Lone::before(origin, fleet, &[("--meter-every", "100ms")]).await;
    eventually("all of it is of today", async || requests(&lone.fleet, "fine") == 15).await;
    eventually("nothing is left", async || on_disk(&data) == 0).await;
}

/// A lost worker's thread comes back when V8 is done, or never: until then its requests have no line and no sum.
#[tokio::test]
async fn a_worker_that_is_lost_takes_no_sum_with_it() {
    let folder = tempfile::tempdir().unwrap();
    one(folder.path());
    function(&folder.path().join("stuck"), "", &[("index.js", STUCK)]);
    let fleet = fleet(folder.path(), "200ms");
    let pop = fleet.pop("lhr");
    ask(pop, 20).await;
    assert_eq!(get(pop, "/stuck?kill", &[]).await.header("x-skerry-error"), "overload/worker-lost");
    ask(pop, 20).await;
    eventually("those before and those after are there", async || requests(&fleet, "fine") == 40).await;
    eventually("the lines say the same", async || logged(&fleet).1 == metered(&fleet)).await;
}

#[tokio::test]
async fn a_disk_that_takes_nothing_holds_up_the_delivery_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    one(folder.path());
    let fleet = fleet(folder.path(), "1h");
    let origin = fleet.origin();
    let obstacle = fleet.state().join("lone/usage.json");
    std::fs::create_dir_all(&obstacle).unwrap();
    let lone = Lone::before(origin, fleet, &[("--meter-every", "100ms")]).await;
    ask(lone.address, 5).await;
    let log = lone.fleet.folder.path().join("lone.log");
    let told = || std::fs::read_to_string(&log).unwrap().matches("usage is not kept on disk").count();
    eventually("it is told", async || told() > 0).await;
    ask(lone.address, 5).await;
    assert_eq!(requests(&lone.fleet, "fine"), 0, "what is not on disk is not delivered");
    std::fs::remove_dir(&obstacle).unwrap();
    eventually("all have arrived", async || requests(&lone.fleet, "fine") == 10).await;
    assert_eq!(told(), 1, "once for an outage");
}

#[tokio::test]
async fn the_bill_names_the_day_its_prices_and_what_it_would_be_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    one(folder.path());
    let fleet = fleet(folder.path(), "100ms");
    assert!(fleet.ok(&["cost"]).starts_with("No usage is known for 20"));
    ask(fleet.pop("lhr"), 3).await;
    eventually("they have arrived", async || requests(&fleet, "fine") == 3).await;
    let text = fleet.ok(&["cost"]);
    for words in [
        "FUNCTION",
        "fine",
        "(idle)",
        "THE SAME ELSEWHERE",
        "Cloudflare Workers",
        "Lambda@Edge",
        "read between 20",
        "With *:",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(fleet.ok(&["cost", "--max-age", "1"]).contains("Older than 1 days: "));
    assert!(fleet.ok(&["cost", "--function", "other"]).starts_with("No usage of other is known"));
    assert!(fleet.ok(&["cost", "--day", "2020-01-01"]).starts_with("No usage is known for 2020-01-01"));
    let month = text.split("for ").nth(1).and_then(|rest| rest.get(..7)).unwrap().to_owned();
    let json: Value = serde_json::from_str(&fleet.ok(&["cost", "--month", &month, "--json", "--by", "pop"])).unwrap();
    assert_eq!(
        (json["own"]["rows"][0]["pop"].as_str(), json["own"]["rows"][0]["usage"]["requests"].as_u64()),
        (Some("lhr"), Some(3))
    );
    let money = |value: &Value| (value.as_f64().expect("an amount") * 1e6).round();
    let (own, rows) = (&json["own"], json["own"]["rows"].as_array().unwrap());
    assert!(money(&own["idle"]) > 0.0, "a machine costs something while it is idle: {json}");
    let sum: f64 = rows.iter().map(|row| money(&row["cost"])).sum();
    assert_eq!(money(&own["total"]), sum + money(&own["idle"]), "the lines add up");
    for (arguments, why) in [
        (&["cost", "--day", "yesterday"][..], "write YYYY-MM-DD"),
        (&["cost", "--month", "2026"], "write YYYY-MM"),
        (&["cost", "--month", "2026-11", "--by", "cohort"], "need a --day"),
        (&["cost", "--prices", "absent.toml"], "cannot read absent.toml"),
    ] {
        assert!(fleet.fails(arguments).contains(why), "{arguments:?}");
    }
}
