use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use tests::fleet::function;
use tests::{Fleet, Options, Scrape, eventually, get, send};

const COUNT: &str = "skerry_requests_total";
const TOOK: &str = "skerry_request_duration_seconds_count";

/// Functions that fail in ways of their own, and one that does not.
fn functions(folder: &std::path::Path) {
    for (name, project, body) in [
        ("fine", "", "return new Response('x'.repeat(100000))"),
        ("teapot", "", "return new Response('', { status: 418 })"),
        ("throws", "", "throw new Error('x')"),
        ("loops", r#""limits": { "cpu_ms": 20 }"#, "for (;;) {}"),
        ("text", "", "return 'text'"),
        ("small", r#""limits": { "request_body_bytes": 10 }"#, "return new Response(await request.text())"),
        ("open", r#""on_failure": "origin""#, "throw new Error('x')"),
    ] {
        let source = format!("export default {{ async fetch(request) {{ {body} }} }}");
        function(&folder.join(name), project, &[("index.js", &source)]);
    }
}

#[tokio::test]
async fn every_request_is_counted_once_under_its_function_and_its_outcome() {
    let folder = tempfile::tempdir().unwrap();
    functions(folder.path());
    let more = vec!["--workers".to_owned(), "2".to_owned()];
    let fleet =
        Fleet::with(&Options { functions: Some(folder.path().to_owned()), pops: "lhr=0", more, ..Options::default() });
    let pop = fleet.pop("lhr");
    let before = fleet.scrape("lhr").await;
    assert_eq!((before.sum(COUNT, &[]), before.sum(TOOK, &[])), (0.0, 0.0), "health checks are no requests");
    assert_eq!(before.sum("skerry_functions", &[("state", "live")]), 7.0);
    assert!(before.sum("skerry_manifest_generation", &[]) >= 1.0);

    let expected = [
        ("/fine", "", "fine", "ok", "2xx", 40),
        ("/teapot", "", "teapot", "ok", "4xx", 3),
        ("/throws", "", "throws", "function/threw", "5xx", 5),
        ("/loops", "", "loops", "limit/cpu", "5xx", 2),
        ("/text", "", "text", "function/invalid-response", "5xx", 4),
        ("/small", "more than ten bytes", "small", "limit/request-body", "4xx", 6),
        ("/small", "ten", "small", "ok", "2xx", 7),
        ("/open", "", "open", "ok", "4xx", 2),
        ("/nowhere", "", "-", "client/unknown-route", "4xx", 8),
    ];
    let mut asking = tokio::task::JoinSet::new();
    for (path, body, .., count) in expected {
        let method = if body.is_empty() { http::Method::GET } else { http::Method::POST };
        for _ in 0..count {
            asking.spawn(send(pop, method.clone(), path, &[], body));
        }
    }
    let replies = asking.join_all().await;
    let after = fleet.scrape("lhr").await;
    for (_, _, function, outcome, status, count) in expected {
        let labels = [("function", function), ("outcome", outcome), ("status", status)];
        assert_eq!(after.sum(COUNT, &labels), f64::from(count), "{labels:?}");
    }
    let all = replies.len() as f64;
    assert_eq!((after.sum(COUNT, &[]), after.sum(TOOK, &[])), (all, all));
    for function in after.labels(COUNT, "function") {
        let labels = [("function", function)];
        assert_eq!(after.sum(COUNT, &labels), after.sum(TOOK, &labels), "{function}");
    }
    let count = |name: &str, labels: &[(&str, &str)]| after.sum(name, labels);
    assert_eq!(count("skerry_limit_broken_total", &[("function", "loops"), ("limit", "limit/cpu")]), 2.0);
    assert_eq!(count("skerry_limit_broken_total", &[("function", "small"), ("limit", "limit/request-body")]), 6.0);
    assert_eq!(count("skerry_limit_broken_total", &[]), 8.0);
    // The origin answered for it, with its own 404.
    assert_eq!(count("skerry_function_failures_total", &[("function", "open"), ("code", "function/threw")]), 2.0);
    assert_eq!(count("skerry_cache_requests_total", &[]), 2.0);
    // Two loops of 20 ms.
    assert!(count("skerry_function_cpu_seconds_total", &[("function", "loops")]) >= 0.04);
    let bodies: usize = replies.iter().map(|reply| reply.body.len()).sum();
    assert!(count("skerry_sent_bytes_total", &[]) > bodies as f64 && bodies > 4_000_000);
    assert!(count("skerry_received_bytes_total", &[]) > all * 10.0);
    // A start each on one of two workers, and two more after the limit was broken.
    let starts = count("skerry_isolate_starts_total", &[]);
    assert!((7.0..=7.0 * 2.0 + 2.0).contains(&starts), "{starts}");
    assert!(count("process_resident_memory_bytes", &[]) > 1e7 && count("process_cpu_seconds_total", &[]) > 0.0);
    assert!(count("process_open_fds", &[]) >= 3.0 && count("process_start_time_seconds", &[]) > 1.7e9);
    eventually("connections and isolates are counted", async || {
        let now = fleet.scrape("lhr").await;
        let resident = now.sum("skerry_isolates", &[("state", "resident")]);
        now.sum("skerry_connections", &[]) == 0.0 && (6.0..=14.0).contains(&resident)
    })
    .await;
}

#[tokio::test]
async fn limits_that_leave_the_response_alone_or_break_it_off_are_counted_too() {
    let folder = tempfile::tempdir().unwrap();
    let pause = "await new Promise((done) => setTimeout(done, 10))";
    for (name, project, body) in [
        ("chatty", r#""log_bytes": 100"#, "console.log('x'.repeat(200)); console.log('more')".to_owned()),
        ("waits", r#""wait_until_ms": 50"#, "ctx.waitUntil(new Promise((done) => setTimeout(done, 60000)))".to_owned()),
        ("after", r#""cpu_ms": 20"#, format!("ctx.waitUntil((async () => {{ {pause}; for (;;) {{}} }})())")),
        ("asks", r#""subrequests": 1"#, "try { await fetch(request); await fetch(request) } catch {}".to_owned()),
        (
            "long",
            r#""response_body_bytes": 1000"#,
            format!(
                "return new Response(new ReadableStream({{ async pull(c) {{ {pause}; c.enqueue(new Uint8Array(600)) }} }}))"
            ),
        ),
    ] {
        let source =
            format!("export default {{ async fetch(request, env, ctx) {{ {body}; return new Response('ok') }} }}");
        function(&folder.path().join(name), &format!(r#""limits": {{ {project} }}"#), &[("index.js", &source)]);
    }
    let fleet = Fleet::of(folder.path());
    let broken = [
        ("chatty", "limit/log"),
        ("waits", "limit/wait-until"),
        ("after", "limit/cpu"),
        ("asks", "limit/subrequests"),
        ("long", "limit/response-body"),
    ];
    for _ in 0..3 {
        for (name, _) in broken {
            let _ = tests::client::try_send(fleet.pop("lhr"), http::Method::GET, &format!("/{name}"), &[], "").await;
        }
    }
    eventually("every broken limit is counted", async || {
        fleet.scrape("lhr").await.sum("skerry_limit_broken_total", &[]) >= 15.0
    })
    .await;
    let scrape = fleet.scrape("lhr").await;
    for (name, limit) in broken {
        let labels = [("function", name), ("limit", limit)];
        assert_eq!(scrape.sum("skerry_limit_broken_total", &labels), 3.0, "{labels:?}");
        assert_eq!(scrape.sum(COUNT, &[("function", name), ("outcome", "ok")]), 3.0, "{name}");
    }
    assert_eq!(scrape.sum("skerry_function_failures_total", &[]), 0.0);
}

#[tokio::test]
async fn metrics_are_for_whoever_has_the_token_and_on_the_admin_listener_alone() {
    let fleet = Fleet::with(&Options { pops: "lhr=0", ..Options::default() });
    let admin = fleet.pop_admin("lhr");
    let authorization = fleet.authorization();
    let with_token = [("authorization", authorization.as_str())];
    for headers in [&[][..], &[("authorization", "Bearer wrong")], &[("authorization", "Basic wrong")]] {
        let reply = get(admin, "/metrics", headers).await;
        assert_eq!((reply.status, reply.header("x-skerry-error")), (401, "auth/token"), "{headers:?}");
        assert!(reply.header("www-authenticate").starts_with("Bearer "), "{:?}", reply.headers);
        assert!(!reply.text().contains("skerry_"), "{}", reply.text());
    }
    assert_eq!(get(admin, "/metrics", &with_token).await.status, 200);
    assert_eq!(get(admin, "/health", &[]).await.text(), "ok\n");
    let reply = send(admin, http::Method::POST, "/metrics", &with_token, "x").await;
    assert_eq!((reply.status, reply.header("allow")), (405, "GET, HEAD"));
    assert_eq!(get(admin, "/hello", &with_token).await.status, 404);
    for public in [fleet.pop("lhr"), fleet.front(), fleet.origin()] {
        for path in ["/metrics", "/health", "/.skerry/metrics"] {
            let reply = get(public, path, &with_token).await;
            assert!(reply.status == 404 && !reply.text().contains("skerry_requests_total"), "{public}{path}");
        }
    }
    let targets = std::fs::read_to_string(fleet.state().join("prometheus.json")).unwrap();
    let targets: serde_json::Value = serde_json::from_str(&targets).unwrap();
    assert_eq!(targets, serde_json::json!([{ "targets": [admin.to_string()], "labels": { "pop": "lhr" } }]));
    let folder = fleet.stop();
    assert!(!folder.path().join(".skerry/prometheus.json").exists());
}

#[tokio::test]
async fn what_the_cache_did_is_counted_as_responses_say_it() {
    let fleet = Fleet::with(&Options { pops: "lhr=0", ..Options::default() });
    for _ in 0..5 {
        assert_eq!(get(fleet.pop("lhr"), "/site/logo.png", &[]).await.status, 200);
    }
    let scrape = fleet.scrape("lhr").await;
    let outcome = |outcome: &str| scrape.sum("skerry_cache_requests_total", &[("outcome", outcome)]);
    assert_eq!((outcome("miss"), outcome("hit")), (1.0, 4.0));
    assert_eq!(scrape.sum("skerry_cache_entries", &[]), 1.0);
    let bytes = scrape.sum("skerry_cache_bytes", &[]);
    assert!(bytes > 0.0 && bytes < scrape.sum("skerry_cache_capacity_bytes", &[]), "{bytes}");
}

#[tokio::test]
async fn the_admin_listener_answers_while_every_worker_is_stuck() {
    let folder = tempfile::tempdir().unwrap();
    // Not for the calls that a deploy tries it with.
    let source =
        "export default { fetch(request) { while (request.url.includes('loop=')) {} return new Response('') } }";
    function(&folder.path().join("loops"), r#""limits": { "cpu_ms": 4000 }"#, &[("index.js", source)]);
    let more = vec!["--workers".to_owned(), "1".to_owned()];
    let fleet =
        Fleet::with(&Options { functions: Some(folder.path().to_owned()), pops: "lhr=0", more, ..Options::default() });
    let pop = fleet.pop("lhr");
    let (first, second) = (tokio::spawn(get_loops(pop)), tokio::spawn(get_loops(pop)));
    eventually("the worker is in the loop", async || {
        // One connection is taken, and the other waits for the worker.
        fleet.scrape("lhr").await.sum("skerry_connections", &[]) >= 1.0
    })
    .await;
    assert_eq!(get(fleet.pop_admin("lhr"), "/health", &[]).await.status, 200);
    assert!(!first.is_finished() && !second.is_finished(), "the worker was free by then");
    first.abort();
    second.abort();
}

async fn get_loops(pop: std::net::SocketAddr) {
    let _ = tests::client::try_send(pop, http::Method::GET, "/loops?loop=1", &[], "").await;
}

#[tokio::test]
async fn a_cold_start_is_traced_and_a_trusted_trace_goes_through_to_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let stub = tests::stub::Stub::start(|request| {
        let header = |name| request.headers().get(name).map_or("none", |value| value.to_str().unwrap()).to_owned();
        http::Response::new(format!("{} {}", header("traceparent"), header("tracestate")))
    })
    .await;
    let url = format!("http://{}/", stub.address);
    let source = format!(
        "export default {{ fetch: (request) => request.headers.has('own') ? fetch('{url}', {{ headers: {{ traceparent: 'own' }} }}) : fetch('{url}') }}"
    );
    function(&folder.path().join("asks"), "", &[("index.js", &source)]);
    let more = vec!["--allow-fetch".to_owned(), "127.0.0.1/32".to_owned()];
    let fleet =
        Fleet::with(&Options { functions: Some(folder.path().to_owned()), pops: "lhr=0", more, ..Options::default() });
    let pop = fleet.pop("lhr");
    fleet.signal("lhr", Signal::TERM);
    eventually("lhr is stopped", async || tokio::net::TcpStream::connect(pop).await.is_err()).await;
    std::fs::write(folder.path().join("token"), "metrics-only").unwrap();
    let log = folder.path().join("log");
    let mut again = fleet
        .command("lhr")
        .env("RUST_LOG", "info,start=debug")
        .arg("--admin-token-file")
        .arg(folder.path().join("token"))
        .stderr(Stdio::from(std::fs::File::create(&log).unwrap()))
        .spawn()
        .unwrap();
    eventually("lhr is back", async || {
        tests::client::try_send(pop, http::Method::GET, "/.skerry/health", &[], "")
            .await
            .is_ok_and(|reply| reply.status == 200)
    })
    .await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let sent = [("traceparent", trace), ("tracestate", "vendor=1")];
    let text = get(pop, "/asks", &sent).await.text();
    assert_eq!(text, format!("{trace} vendor=1"), "a fetch() goes on with the trace");
    assert_eq!(get(pop, "/asks", &[sent[0], ("own", "1")]).await.text(), "own none");
    for broken in ["00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01", "ff", ""] {
        let text = get(pop, "/asks", &[("traceparent", broken), ("tracestate", "vendor=1")]).await.text();
        assert_eq!(text, "none none", "{broken:?}");
    }
    let own = [("authorization", "Bearer metrics-only")];
    let page = get(fleet.pop_admin("lhr"), "/metrics", &own).await.text();
    assert_eq!(Scrape::parse(&page).unwrap().sum(COUNT, &[("function", "asks")]), 5.0);
    let deploys = [("authorization", &*fleet.authorization())];
    assert_eq!(get(fleet.pop_admin("lhr"), "/metrics", &deploys).await.status, 401);
    kill_process(Pid::from_child(&again), Signal::TERM).unwrap();
    again.wait().unwrap();
    let log = std::fs::read_to_string(log).unwrap();
    let starts: Vec<&str> = log.lines().filter(|line| line.contains(" start: ")).collect();
    assert!(
        !starts.is_empty() && starts.iter().all(|line| line.contains("asks@") && line.contains("pool=\"")),
        "{starts:?}"
    );
    let traced = log.lines().filter(|line| line.contains("access:") && line.contains("trace_id"));
    assert_eq!(traced.filter(|line| line.contains("4bf92f3577b34da6a3ce929d0e0e4736")).count(), 2, "{log}");
}
