use tests::fleet::function;
use tests::stub::Stub;
use tests::{Fleet, Options, get, send};

#[tokio::test]
async fn a_function_that_fails_is_told_apart_and_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    for (name, body) in [
        ("fine", "return new Response('fine')"),
        ("throws", "throw new Error('secret detail')"),
        ("hoards", "const a = []; for (;;) a.push(new Array(1000).fill(a.length))"),
        ("never", "await new Promise(() => {})"),
        ("text", "return 'text'"),
    ] {
        let source = format!("export default {{ async fetch(request, env, ctx) {{ {body} }} }}");
        function(
            &folder.path().join(name),
            r#""limits": { "heap_bytes": "32MiB", "cpu_ms": 3000 }"#,
            &[("index.js", &source)],
        );
    }
    let quick = "export default { async fetch() { for (;;) {} } }";
    function(&folder.path().join("quick"), r#""limits": { "cpu_ms": 20 }"#, &[("index.js", quick)]);
    let fleet = Fleet::of(folder.path());
    let pop = fleet.pop("lhr");
    for (path, status, code) in [
        ("/throws", 500, "function/threw"),
        ("/quick", 500, "limit/cpu"),
        ("/hoards", 500, "limit/heap"),
        ("/never", 500, "function/never-answered"),
        ("/text", 500, "function/invalid-response"),
    ] {
        let reply = get(pop, path, &[]).await;
        assert_eq!((reply.status, reply.header("x-skerry-error")), (status, code), "{path}: {}", reply.text());
        assert!(!reply.text().contains("secret"), "a function's own words are for the log: {}", reply.text());
        assert_eq!(get(pop, "/fine", &[]).await.text(), "fine", "after {path}");
    }
    let log = std::fs::read_to_string(fleet.state().join("logs/lhr.log")).unwrap();
    assert!(log.contains("secret detail") && log.contains("index.js:1"), "{log}");
}

#[tokio::test]
async fn a_failing_function_opens_to_the_origin_where_its_project_says_so() {
    let folder = tempfile::tempdir().unwrap();
    for (name, project, first) in [
        ("open", r#""assets": { "directory": "public" }, "on_failure": "origin""#, ""),
        ("asks", r#""assets": { "directory": "public" }"#, "ctx.passThroughOnException();"),
        ("closed", r#""assets": { "directory": "public" }"#, ""),
    ] {
        let source = format!("export default {{ async fetch(request, env, ctx) {{ {first} throw new Error('x') }} }}");
        let f = function(&folder.path().join(name), project, &[("index.js", &source)]);
        std::fs::create_dir_all(f.join("public").join(name)).unwrap();
        std::fs::write(f.join("public").join(name).join("page.txt"), "from the origin").unwrap();
    }
    let fleet = Fleet::of(folder.path());
    for (path, status) in [("/open/page.txt", 200), ("/asks/page.txt", 200), ("/closed/page.txt", 500)] {
        let reply = get(fleet.pop("lhr"), path, &[]).await;
        assert_eq!(reply.status, status, "{path}: {}", reply.text());
        assert_eq!(reply.text() == "from the origin", status == 200);
    }
}

#[tokio::test]
async fn functions_reach_public_addresses_and_those_allowed_and_no_other() {
    let stub = Stub::start(|request| {
        http::Response::new(format!("stub {} {:?}", request.uri(), request.headers().get("cdn-loop")))
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let source = "export default { async fetch(request) { try { return await fetch(new URL(request.url).searchParams.get('to')) } catch (e) { return new Response(e.message, { status: 418 }) } } }";
    function(&folder.path().join("proxy"), "", &[("index.js", source)]);
    let closed = Fleet::of(folder.path());
    let port = stub.address.port();
    for host in ["127.0.0.1", "localhost", "2130706433", "[::ffff:127.0.0.1]", "0.0.0.0", "169.254.169.254"] {
        let reply = get(closed.pop("lhr"), &format!("/proxy?to=http://{host}:{port}/x"), &[]).await;
        assert!(
            reply.status == 418 && reply.text().contains("not a public address"),
            "{host}: {} {}",
            reply.status,
            reply.text()
        );
    }
    assert_eq!(*stub.seen.lock().unwrap(), Vec::<String>::new());
    let more = vec!["--allow-fetch".to_owned(), "127.0.0.1/32".to_owned()];
    let open =
        Fleet::with(&Options { functions: Some(folder.path().to_owned()), pops: "lhr=0", more, ..Options::default() });
    let reply = get(open.pop("lhr"), &format!("/proxy?to=http://localhost:{port}/x?y=1"), &[]).await;
    assert_eq!((reply.status, reply.text().as_str()), (200, r#"stub /x?y=1 Some("skerry-lhr")"#));
    // A function that asks its own PoP for itself, by another name, meets its own mark.
    let own = open.pop("lhr").port();
    let reply =
        get(open.pop("lhr"), &format!("/proxy?to=http://127.0.0.1:{own}/proxy"), &[("host", "other.example")]).await;
    assert_eq!((reply.status, reply.header("x-skerry-error")), (508, "client/loop"));
}

#[tokio::test]
async fn large_bodies_stream_both_ways() {
    let folder = tempfile::tempdir().unwrap();
    let source = "export default { async fetch(request) {
      const upper = new TransformStream({ transform(chunk, c) { for (let i = 0; i < chunk.length; i++) chunk[i] -= 32; c.enqueue(chunk) } });
      return request.url.endsWith('/upper') ? new Response(request.body.pipeThrough(upper)) : new Response(request.body);
    } }";
    function(&folder.path().join("s"), r#""limits": { "cpu_ms": 20000 }"#, &[("index.js", source)]);
    let fleet = Fleet::of(folder.path());
    let body = "abcdefghij".repeat(2_000_000);
    let same = send(fleet.pop("lhr"), http::Method::POST, "/s/", &[], body.clone()).await;
    assert!(same.status == 200 && same.body == body.as_bytes());
    let upper = send(fleet.pop("lhr"), http::Method::POST, "/s/upper", &[], body[..1_000_000].to_owned()).await;
    assert!(upper.status == 200 && upper.body == body[..1_000_000].to_uppercase().as_bytes(), "{}", upper.status);
}

#[tokio::test]
async fn a_host_outside_and_the_own_origin_share_nothing_in_the_cache() {
    let stub = Stub::start(|_| {
        http::Response::builder().header("cache-control", "max-age=60").body("inside".to_owned()).unwrap()
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let source = "export default { async fetch(request) { return await fetch(new URL(request.url).searchParams.get('to') ?? request) } }";
    function(&folder.path().join("proxy"), "", &[("index.js", source)]);
    let more = vec!["--allow-fetch".to_owned(), "127.0.0.1/32".to_owned()];
    let fleet =
        Fleet::with(&Options { functions: Some(folder.path().to_owned()), pops: "lhr=0", more, ..Options::default() });
    let inside = get(fleet.pop("lhr"), &format!("/proxy?to=http://{}/proxy/x", stub.address), &[]).await;
    assert_eq!(inside.text(), "inside");
    // The same URL, but the client's own host now: that is the origin, which has no such object.
    let own = get(fleet.pop("lhr"), "/proxy/x", &[("host", &stub.address.to_string())]).await;
    assert_eq!(own.status, 404, "{}", own.text());
}

#[tokio::test]
async fn a_loop_over_two_pops_is_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let source = "export default { async fetch(request) {
      const hops = Number(new URL(request.url).searchParams.get('hops') ?? 0);
      if (hops > 20) return new Response('not stopped');
      const [a, b] = request.headers.get('x-pops').split(',');
      const answer = await fetch(`http://${hops % 2 ? a : b}/ring?hops=${hops + 1}`, { headers: { 'x-pops': `${a},${b}` } });
      return new Response(answer.body, { status: answer.status, headers: { 'x-hops': answer.headers.get('x-hops') ?? String(hops) } });
    } }";
    function(&folder.path().join("ring"), "", &[("index.js", source)]);
    let more = vec!["--allow-fetch".to_owned(), "127.0.0.1/32".to_owned()];
    let options =
        Options { functions: Some(folder.path().to_owned()), pops: "lhr=0,iad=0", more, ..Options::default() };
    let fleet = Fleet::with(&options);
    let pops = format!("{},{}", fleet.pop("lhr"), fleet.pop("iad"));
    let reply = get(fleet.pop("lhr"), "/ring", &[("x-pops", &pops)]).await;
    assert_eq!((reply.status, reply.header("x-hops")), (508, "1"), "{}", reply.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_wait_until_was_given_is_done_before_a_pop_ends() {
    let stub = Stub::start(|_| http::Response::new(String::new())).await;
    let folder = tempfile::tempdir().unwrap();
    let source = format!(
        "export default {{ fetch(request, env, ctx) {{
           ctx.waitUntil((async () => {{ await new Promise(r => setTimeout(r, 1000)); await fetch('http://{}/done') }})());
           return new Response('answered') }} }}",
        stub.address
    );
    function(&folder.path().join("later"), "", &[("index.js", &source)]);
    let more = vec!["--allow-fetch".to_owned(), "127.0.0.1/32".to_owned()];
    let fleet =
        Fleet::with(&Options { functions: Some(folder.path().to_owned()), pops: "lhr=0", more, ..Options::default() });
    assert_eq!(get(fleet.pop("lhr"), "/later", &[]).await.text(), "answered");
    fleet.stop();
    assert_eq!(*stub.seen.lock().unwrap(), ["GET /done"]);
}

#[tokio::test]
async fn functions_live_in_utc_wherever_the_machine_stands() {
    let folder = tempfile::tempdir().unwrap();
    let source = "export default { fetch: () => Response.json([
        new Date(0).getHours(), new Date(0).getTimezoneOffset(), Intl.DateTimeFormat().resolvedOptions().timeZone,
    ]) }";
    function(&folder.path().join("f"), "", &[("index.js", source)]);
    let fleet = Fleet::of(folder.path());
    assert_eq!(get(fleet.pop("lhr"), "/f", &[]).await.text(), r#"[0,0,"UTC"]"#);
}
