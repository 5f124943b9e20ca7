//! Every row of the table of limits, and every kind of function that means harm, on a real PoP: the status, the error, the
//! log, and a neighbour that does not notice.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use http::Method;
use serde_json::Value;
use tests::fleet::function;
use tests::{Fleet, Options, Reply, Stub, eventually, get, send};

/// A function that breaks a limit: what its handler does, the limits of its project file, and what then has to happen.
struct Breaker {
    name: &'static str,
    /// Key of the limit in the table; empty for one that breaks none.
    key: &'static str,
    limits: &'static str,
    body: &'static str,
}

const fn breaker(key: &'static str, name: &'static str, limits: &'static str, body: &'static str) -> Breaker {
    Breaker { name, key, limits, body }
}

/// Those that a client meets as the status and code of the limit's row.
const FAILING: &[Breaker] = &[
    breaker("cpu_ms", "loop", "", "for (;;) {}"),
    breaker("cpu_ms", "chain", "", "const f = () => Promise.resolve().then(f); await f()"),
    breaker("cpu_ms", "storm", "", "const f = () => queueMicrotask(f); f(); await new Promise(() => {})"),
    breaker("cpu_ms", "iteration", "", "for await (const x of (async function* () { for (;;) yield 1 })());"),
    breaker("cpu_ms", "regexp", "", "/^(a+)+$/.test('a'.repeat(40) + 'b')"),
    breaker(
        "cpu_ms",
        "sort",
        r#""cpu_ms": 200"#,
        "const a = new Float64Array(1e6).map((_, i) => (i * 7919) % 1e6); for (;;) a.toSorted()",
    ),
    breaker("cpu_ms", "catching", "", "for (;;) { try { for (;;); } catch {} finally { continue } }"),
    breaker("cpu_ms", "trap", "", "throw { get stack() { for (;;); } }"),
    breaker("cpu_ms", "logging", "", "for (;;) console.log('x'.repeat(100))"),
    breaker("wall_ms", "waiting", r#""wall_ms": 200"#, "await scheduler.wait(60000)"),
    breaker("heap_bytes", "array", r#""heap_bytes": "32MiB", "cpu_ms": 20000"#, "const a = []; for (;;) a.push({ a })"),
    breaker(
        "heap_bytes",
        "flatten",
        r#""heap_bytes": "32MiB", "cpu_ms": 20000"#,
        "let s = 'xy'; for (let i = 0; i < 20; i++) s += s; const a = []; for (let n = 0;; n++) { const t = s + n; t.at(5); a.push(t) }",
    ),
    breaker(
        "heap_bytes",
        "json",
        r#""heap_bytes": "32MiB", "cpu_ms": 20000"#,
        "let o = [1]; for (;;) o = [o, JSON.parse(JSON.stringify(o))]",
    ),
    breaker(
        "heap_bytes",
        "map",
        r#""heap_bytes": "32MiB", "cpu_ms": 20000"#,
        "const m = new Map(); for (let i = 0;; i++) m.set(i, { i })",
    ),
    breaker(
        "heap_bytes",
        "huge",
        r#""heap_bytes": "32MiB", "cpu_ms": 20000"#,
        "return new Response(new Array(2 ** 24).fill(1.5).length)",
    ),
    breaker(
        "buffer_bytes",
        "buffers",
        r#""buffer_bytes": "8MiB""#,
        "const a = []; for (;;) a.push(new ArrayBuffer(1 << 16))",
    ),
    breaker("buffer_bytes", "typed", r#""buffer_bytes": "8MiB""#, "return new Response(new Uint8Array(1 << 30))"),
    breaker(
        "wasm_bytes",
        "wasm",
        r#""wasm_bytes": "8MiB""#,
        "const a = []; for (;;) a.push(new WebAssembly.Memory({ initial: 16 }))",
    ),
    breaker("stack_bytes", "deep", "", "const f = () => [f()]; f()"),
    breaker("subrequests", "fetching", r#""subrequests": 3"#, "for (;;) await fetch(request.url + '/../none')"),
    breaker("pending", "timers", r#""pending": 100"#, "for (;;) setTimeout(() => {}, 1e6)"),
    breaker(
        "request_body_bytes",
        "upload",
        r#""request_body_bytes": "1KiB""#,
        "return new Response(await request.text())",
    ),
    breaker(
        "response_body_bytes",
        "download",
        r#""response_body_bytes": "1KiB""#,
        "return new Response('x'.repeat(2000))",
    ),
    breaker(
        "header_bytes",
        "heads",
        r#""header_bytes": "1KiB""#,
        "return new Response('', { headers: { a: 'x'.repeat(2000) } })",
    ),
];

/// Those that meet their limit otherwise.
const OTHERS: &[Breaker] = &[
    breaker("startup_ms", "starting", "", ""),
    breaker(
        "connections",
        "opening",
        r#""connections": 2"#,
        "const to = request.headers.get('x-to'); const all = await Promise.all(Array.from({ length: 8 }, (_, i) => fetch(`http://${to}/${i}`))); return new Response(all.map((r) => r.status))",
    ),
    breaker("concurrency", "crowd", r#""concurrency": 1"#, "await scheduler.wait(500); return new Response('done')"),
    breaker(
        "wait_until_ms",
        "later",
        r#""wait_until_ms": 50"#,
        "ctx.waitUntil(scheduler.wait(60000)); return new Response('answered')",
    ),
    breaker(
        "log_bytes",
        "verbose",
        r#""log_bytes": 100"#,
        "for (let i = 0; i < 100; i++) console.log('a line of the log'); return new Response('answered')",
    ),
];

/// What is wrong without a limit's help: the code is the function's.
const FAULTY: &[(&str, &str, &str)] = &[
    ("never", "await new Promise(() => {})", "function/never-answered"),
    ("proxy", "return new Proxy(new Response('x'), { get() { throw new Error('trap') } })", "function/threw"),
    ("thenable", "return { get then() { throw new Error('then') } }", "function/threw"),
    ("fake", "return { __proto__: Response.prototype }", "function/invalid-response"),
    ("unreadable", "throw new Proxy({}, { get() { throw 1 } })", "function/threw"),
    (
        "then",
        "Promise.prototype.then = () => {}; await null; return new Response((await fetch(request.url + '/../none')).status)",
        "",
    ),
    (
        "iterator",
        "Array.prototype[Symbol.iterator] = () => { throw 1 }; return new Response([...[1]])",
        "function/threw",
    ),
    (
        "call",
        "Function.prototype.call = Function.prototype.apply = Function.prototype.bind = () => { throw 1 }; return new Response(await (await fetch(request.url + '/../none')).text())",
        "",
    ),
    (
        "setter",
        "Object.defineProperty(Object.prototype, 'value', { set() { throw 1 }, get() { throw 2 } }); console.log({}); return new Response('x', { headers: { a: 'b' } })",
        "",
    ),
];

/// A neighbour that is asked all the time, and must always answer.
struct Neighbour {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Neighbour {
    fn of(pop: SocketAddr) -> Self {
        let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&asked));
        let task = tokio::spawn(async move {
            while !stopped.load(Ordering::Relaxed) {
                let reply = get(pop, "/neighbour", &[]).await;
                assert_eq!((reply.status, reply.text().as_str()), (200, "fine"), "{:?}", reply.headers);
                count.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        });
        Self { stop, asked, task }
    }

    /// Ends the asking; how often it was.
    async fn end(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("the neighbour has always answered");
        self.asked.load(Ordering::Relaxed)
    }
}

/// The access log's line of a request: of an error with a stack trace, the last one.
async fn access_line(fleet: &Fleet, reply: &Reply) -> String {
    let id = reply.header("x-request-id").to_owned();
    let mut line = String::new();
    eventually(&format!("the access log has the request {id}, answered with {}", reply.status), async || {
        let log = std::fs::read_to_string(fleet.state().join("logs/lhr.log")).unwrap();
        let found = log.lines().find(|line| line.contains(" method=") && line.contains(&id));
        line = found.unwrap_or_default().to_owned();
        found.is_some()
    })
    .await;
    line
}

/// Waits for words in the PoP's log.
async fn logged(fleet: &Fleet, words: &[&str]) {
    eventually(&format!("a line of the log has {words:?}"), async || {
        let log = std::fs::read_to_string(fleet.state().join("logs/lhr.log")).unwrap();
        log.lines().any(|line| words.iter().all(|word| line.contains(word)))
    })
    .await;
}

fn deployed(folder: &std::path::Path, more: Vec<String>) -> Fleet {
    // A PoP tries a version with a request for "/" before it goes live: harm is done to clients only.
    let handler = |body: &str| {
        let tried = "if (new URL(request.url).pathname === '/') return new Response('')";
        format!("export default {{ async fetch(request, env, ctx) {{ {tried}; {body} }} }};")
    };
    function(&folder.join("neighbour"), "", &[("index.js", "export default { fetch: () => new Response('fine') }")]);
    for Breaker { name, limits, body, .. } in FAILING.iter().chain(OTHERS.iter().filter(|other| !other.body.is_empty()))
    {
        function(&folder.join(name), &format!(r#""limits": {{ {limits} }}"#), &[("index.js", &handler(body))]);
    }
    for (name, body, _) in FAULTY {
        function(&folder.join(name), "", &[("index.js", &handler(body))]);
    }
    Fleet::with(&Options { functions: Some(folder.to_owned()), pops: "lhr=0", more, ..Options::default() })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_limit_has_its_status_its_error_and_its_line_in_the_log_and_no_neighbour_notices() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::after(std::time::Duration::from_millis(50), |_| http::Response::new(String::new())).await;
    let fleet = deployed(folder.path(), vec!["--allow-fetch".to_owned(), "127.0.0.1/32".to_owned()]);
    let pop = fleet.pop("lhr");
    let pid = fleet.pid("lhr");
    let table: Value = serde_json::from_str(&fleet.ok(&["limits", "--json"])).unwrap();
    let rows: BTreeMap<&str, &Value> =
        table["limits"].as_array().unwrap().iter().map(|row| (row["key"].as_str().unwrap(), row)).collect();
    for key in rows.keys() {
        let has = FAILING.iter().chain(OTHERS).any(|breaker| breaker.key == *key);
        assert!(has, "the limit {key} has no function here that breaks it");
    }
    eventually("the PoP has its manifest", async || get(pop, "/neighbour", &[]).await.status == 200).await;
    let neighbour = Neighbour::of(pop);
    for Breaker { name, key, .. } in FAILING {
        let row = rows[key];
        let body = if *key == "request_body_bytes" { "x".repeat(2000) } else { String::new() };
        let method = if body.is_empty() { Method::GET } else { Method::POST };
        let reply = send(pop, method, &format!("/{name}"), &[], body).await;
        let (status, code) = (row["status"].as_u64().unwrap(), row["code"].as_str().unwrap());
        assert_eq!(
            (u64::from(reply.status), reply.header("x-skerry-error")),
            (status, code),
            "{name}: {}",
            reply.text()
        );
        assert_eq!(
            (reply.json()["code"].as_str(), reply.json()["status"].as_u64()),
            (Some(code), Some(status)),
            "{name}"
        );
        let line = access_line(&fleet, &reply).await;
        let (field, value) = (format!(r#"code="{code}""#), format!("status={status}"));
        assert!(line.contains(&field) && line.contains(&value), "{name}: {line}");
    }
    for (name, _, code) in FAULTY {
        let reply = get(pop, &format!("/{name}"), &[]).await;
        let error = reply.header("x-skerry-error");
        assert!(
            if code.is_empty() { error.is_empty() || error.starts_with("function/") } else { error == *code },
            "{name}: {error:?}"
        );
        let line = access_line(&fleet, &reply).await;
        assert!(error.is_empty() || line.contains(&format!(r#"code="{error}""#)), "{name}: {line}");
    }
    others(&fleet, folder.path(), &stub, &rows).await;
    assert!(neighbour.end().await > 50);
    assert_eq!(fleet.pid("lhr"), pid, "the process that began is the one that is here");
}

async fn others(fleet: &Fleet, folder: &std::path::Path, stub: &Stub, rows: &BTreeMap<&str, &Value>) {
    let pop = fleet.pop("lhr");
    // A start over its limit does not get as far as a PoP.
    let starting = function(&folder.join("starting"), "", &[("index.js", "for (;;) {} export default {}")]);
    let error = fleet.fails(&["deploy", &starting.to_string_lossy()]);
    assert!(error.contains(rows["startup_ms"]["counts"].as_str().unwrap()), "{error}");
    assert_eq!(get(pop, "/starting", &[]).await.status, 404);

    let opened = get(pop, "/opening", &[("x-to", &stub.address.to_string())]).await;
    assert_eq!(opened.text(), ["200"; 8].join(","));
    assert_eq!(stub.most.load(Ordering::Relaxed), 2, "others wait for their turn");

    let asked = (0..8).map(|_| get(pop, "/crowd", &[]));
    let answers = futures_join(asked).await;
    let refused: Vec<_> = answers.iter().filter(|reply| reply.status != 200).collect();
    assert!(!refused.is_empty() && refused.len() < 8);
    for reply in refused {
        let row = rows["concurrency"];
        assert_eq!(u64::from(reply.status), row["status"].as_u64().unwrap());
        assert_eq!((reply.header("x-skerry-error"), reply.header("retry-after")), (row["code"].as_str().unwrap(), "1"));
    }

    let later = get(pop, "/later", &[]).await;
    assert_eq!(later.text(), "answered");
    logged(fleet, &[later.header("x-request-id"), "waitUntil", "given up"]).await;

    let verbose = get(pop, "/verbose", &[]).await;
    assert_eq!(verbose.text(), "answered");
    let id = verbose.header("x-request-id");
    logged(fleet, &[id, "log_bytes"]).await;
    let log = std::fs::read_to_string(fleet.state().join("logs/lhr.log")).unwrap();
    assert_eq!(log.lines().filter(|line| line.contains(id) && line.contains("a line of the log")).count(), 5);
}

/// All at once.
async fn futures_join<T: Send + 'static>(
    all: impl Iterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    let tasks: Vec<_> = all.map(tokio::spawn).collect();
    let mut results = Vec::new();
    for task in tasks {
        results.push(task.await.expect("no panic"));
    }
    results
}

#[tokio::test]
async fn a_profile_is_deployed_with_its_limits_and_an_unknown_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let looping = |folder: &std::path::Path, name: &str, limits: &str| {
        let source = "export default { fetch(request) { if (request.url.endsWith('/spin')) for (;;); return new Response('ok') } }";
        function(&folder.join(name), limits, &[("index.js", source)])
    };
    looping(folder.path(), "free", r#""limits": { "profile": "cloudflare-workers-free" }"#);
    looping(folder.path(), "origin", r#""limits": { "profile": "lambda-edge-origin", "cpu_ms": 20 }"#);
    let fleet = Fleet::of(folder.path());
    for name in ["free", "origin"] {
        assert_eq!(get(fleet.pop("lhr"), &format!("/{name}"), &[]).await.text(), "ok");
        let spin = get(fleet.pop("lhr"), &format!("/{name}/spin"), &[]).await;
        assert_eq!((spin.status, spin.header("x-skerry-error")), (500, "limit/cpu"), "{name}");
    }
    let limits = |arguments: &[&str]| -> BTreeMap<String, u64> {
        let json: Value = serde_json::from_str(&fleet.ok(arguments)).unwrap();
        let rows = json["limits"].as_array().unwrap().iter();
        rows.map(|row| (row["key"].as_str().unwrap().to_owned(), row["value"].as_u64().unwrap())).collect()
    };
    let origin = limits(&["limits", "--json", &folder.path().join("origin").to_string_lossy()]);
    assert_eq!((origin["cpu_ms"], origin["wall_ms"], origin["heap_bytes"]), (20, 60_000, 512 << 20));
    let free = limits(&["limits", "--json", "--profile", "cloudflare-workers-free"]);
    assert_eq!((free["cpu_ms"], free["heap_bytes"], free["subrequests"]), (10, 128 << 20, 50));
    assert_eq!(limits(&["limits", "--json"])["cpu_ms"], 50);
    let text = fleet.ok(&["limits", "--profile", "cloudfront-functions"]);
    assert!(text.contains("docs.aws.amazon.com") && text.contains("heap_bytes is 2 MiB there"), "{text}");

    let output = fleet.cli(&["deploy", &folder.path().join("origin").to_string_lossy()]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.contains("needs a region node") && said.contains("heap_bytes"), "{said}");

    let unknown = looping(folder.path(), "free", r#""limits": { "profile": "cloudflare-worker" }"#);
    let error = fleet.fails(&["deploy", &unknown.to_string_lossy()]);
    for part in ["wrangler.jsonc:1:", "limits.profile", "did you mean \"cloudflare-workers\"?"] {
        assert!(error.contains(part), "{part:?} is not in {error}");
    }
    let error = fleet.fails(&["limits", "--profile", "cloudflare-worker"]);
    assert!(error.contains("cloudflare-workers"), "{error}");
}
