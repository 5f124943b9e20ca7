use tests::client::raw;
use tests::fleet::function;
use tests::{Fleet, Options, get, send};

fn functions(folder: &std::path::Path) {
    function(
        &folder.join("echo"),
        r#""limits": { "request_body_bytes": "1KiB" }"#,
        &[(
            "index.js",
            "export default { async fetch(r) { return Response.json({ method: r.method, url: r.url, headers: [...r.headers], body: await r.text() }) } }",
        )],
    );
    let only = folder.join("only");
    function(&only, "", &[("index.js", "export default { fetch: () => new Response('only') }")]);
    let text = std::fs::read_to_string(only.join("wrangler.jsonc")).unwrap().replace("*/only", "only.example/only");
    std::fs::write(only.join("wrangler.jsonc"), text).unwrap();
    function(
        &folder.join("framing"),
        "",
        &[(
            "index.js",
            "export default { fetch: () => new Response('four', { headers: { 'content-length': '99', connection: 'x-a', 'x-a': '1', 'transfer-encoding': 'chunked' } }) }",
        )],
    );
}

#[tokio::test]
async fn what_is_no_request_gets_a_clear_answer() {
    let folder = tempfile::tempdir().unwrap();
    functions(folder.path());
    let fleet = Fleet::of(folder.path());
    let pop = fleet.pop("lhr");
    let long = "a".repeat(100 << 10);
    for (sent, status) in [
        ("BLAH\r\n\r\n".to_owned(), "400"),
        ("GET /echo HTTP/1.1\r\n\r\n".to_owned(), "400"),
        ("GET /echo HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_owned(), "400"),
        ("GET /echo HTTP/1.1\r\nHost: u@h\r\n\r\n".to_owned(), "400"),
        ("GET /echo HTTP/1.1\r\nHost: a\r\nBad Name: x\r\n\r\n".to_owned(), "400"),
        (format!("GET /echo HTTP/1.1\r\nHost: a\r\nX: {long}\r\n\r\n"), "431"),
        (format!("GET /echo?{long} HTTP/1.1\r\nHost: a\r\n\r\n"), "414 431"),
        (format!("GET /echo HTTP/1.1\r\nHost: a\r\n{}\r\n", "x: y\r\n".repeat(200)), "431"),
        ("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n".to_owned(), "400"),
        ("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab".to_owned(), "400"),
        ("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".to_owned(), "400 500"),
    ] {
        let answer = raw(pop, sent.as_bytes()).await;
        let code = answer.split(' ').nth(1).unwrap_or("");
        let (sent, answer) = (&sent[..sent.len().min(80)], &answer[..answer.len().min(500)]);
        assert!(status.split(' ').any(|s| s == code), "{sent:?}: {answer:?}");
        assert_eq!(get(pop, "/echo", &[]).await.status, 200);
    }
}

#[tokio::test]
async fn a_body_longer_than_announced_is_not_part_of_the_request() {
    let folder = tempfile::tempdir().unwrap();
    functions(folder.path());
    let fleet = Fleet::of(folder.path());
    let answer =
        raw(fleet.pop("lhr"), b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nokGARBAGE\r\n\r\n").await;
    let mut answers = answer.split("HTTP/1.1 ").skip(1);
    assert!(
        answers.next().is_some_and(|first| first.starts_with("200") && first.contains(r#""body":"ok""#)),
        "{answer}"
    );
    assert!(answers.next().is_some_and(|second| second.starts_with("400")), "{answer}");
}

#[tokio::test]
async fn unknown_hosts_and_paths_and_loops_and_large_bodies_are_told() {
    let folder = tempfile::tempdir().unwrap();
    functions(folder.path());
    let fleet = Fleet::of(folder.path());
    let pop = fleet.pop("lhr");
    let cases = [
        (get(pop, "/only", &[("host", "only.example:8080")]).await, 200, ""),
        (get(pop, "/only", &[("host", "other.example")]).await, 404, "client/unknown-route"),
        (get(pop, "/nothing", &[]).await, 404, "client/unknown-route"),
        (get(pop, "/echo", &[("cdn-loop", "other, skerry-lhr")]).await, 508, "client/loop"),
        (get(pop, "/echo", &[("cdn-loop", "other")]).await, 200, ""),
        (send(pop, http::Method::POST, "/echo", &[], "x".repeat(1025)).await, 413, "limit/request-body"),
        (send(pop, http::Method::POST, "/echo", &[], "x".repeat(1024)).await, 200, ""),
    ];
    for (reply, status, code) in cases {
        assert_eq!((reply.status, reply.header("x-skerry-error")), (status, code), "{}", reply.text());
        if !code.is_empty() {
            assert_eq!(reply.header("content-type"), "application/problem+json");
            assert_eq!(reply.json()["request_id"].as_str(), Some(reply.header("x-request-id")));
        }
    }
    // Chunked: nobody announced how long it would be.
    let chunk = format!("{:x}\r\n{}\r\n", 600, "y".repeat(600));
    let sent = format!("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}{chunk}0\r\n\r\n");
    assert!(raw(pop, sent.as_bytes()).await.starts_with("HTTP/1.1 413"));
}

#[tokio::test]
async fn a_host_that_no_route_names_is_unknown() {
    let folder = tempfile::tempdir().unwrap();
    functions(folder.path());
    for name in ["echo", "framing"] {
        std::fs::remove_dir_all(folder.path().join(name)).unwrap();
    }
    let fleet = Fleet::of(folder.path());
    let reply = get(fleet.pop("lhr"), "/only", &[("host", "other.example")]).await;
    assert_eq!((reply.status, reply.header("x-skerry-error")), (404, "client/unknown-host"));
}

#[tokio::test]
async fn fields_of_one_connection_do_not_pass_in_either_direction() {
    let folder = tempfile::tempdir().unwrap();
    functions(folder.path());
    let fleet = Fleet::of(folder.path());
    let reply = get(fleet.pop("lhr"), "/framing", &[]).await;
    assert_eq!((reply.text().as_str(), reply.header("content-length"), reply.header("x-a")), ("four", "4", ""));
    let seen = get(
        fleet.pop("lhr"),
        "/echo",
        &[("connection", "x-secret"), ("x-secret", "1"), ("te", "trailers"), ("x-kept", "2")],
    )
    .await;
    assert!(
        !seen.text().contains("x-secret") && !seen.text().contains("trailers") && seen.text().contains("x-kept"),
        "{}",
        seen.text()
    );
    // The client's address is this PoP's to say: what the client claims about it is gone, unless its peer is trusted.
    assert!(seen.text().contains(r#"["cf-connecting-ip","127.0.0.1"]"#), "{}", seen.text());
}

#[tokio::test]
async fn no_spelling_of_a_path_gets_past_the_function_that_guards_it() {
    let folder = tempfile::tempdir().unwrap();
    let guard = function(
        &folder.path().join("guard"),
        r#""assets": { "directory": "public" }"#,
        &[("index.js", "export default { fetch: () => new Response('guarded', { status: 403 }) }")],
    );
    std::fs::create_dir_all(guard.join("public/guard")).unwrap();
    std::fs::write(guard.join("public/guard/secret.txt"), "secret").unwrap();
    let open = function(
        &folder.path().join("open"),
        "",
        &[("index.js", "export default { fetch: (r) => fetch(new Request(new URL(r.url), r)) }")],
    );
    let text = std::fs::read_to_string(open.join("wrangler.jsonc")).unwrap().replace("*/open/*", "*/*");
    std::fs::write(open.join("wrangler.jsonc"), text).unwrap();
    let fleet = Fleet::of(folder.path());
    for path in [
        "/guard/secret.txt",
        "/%67uard/secret.txt",
        "/gu%61rd%2Fsecret.txt",
        "/open/../guard/secret.txt",
        "/open/%2e%2E/guard/secret.txt",
        "/open/x%2f..%2f..%2fguard/secret.txt",
        "/open/..\\guard\\secret.txt",
        "//guard/secret.txt",
        "/./guard/secret.txt",
    ] {
        for address in [fleet.pop("lhr"), fleet.front()] {
            let answer =
                raw(address, format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").as_bytes()).await;
            assert!(!answer.contains("\r\n\r\nsecret"), "{path}: {answer}");
        }
    }
}

#[tokio::test]
async fn a_client_that_says_nothing_is_given_up_and_one_that_hangs_up_costs_nothing() {
    let fleet = Fleet::with(&Options { pops: "lhr=0", ..Options::default() });
    let silent: Vec<_> = silent_clients(50, fleet.pop("lhr")).await;
    assert_eq!(get(fleet.pop("lhr"), "/hello", &[]).await.status, 200);
    let began = std::time::Instant::now();
    // Ctrl-C does not wait for them.
    fleet.stop();
    assert!(began.elapsed() < std::time::Duration::from_secs(5), "{:?}", began.elapsed());
    drop(silent);
}

async fn silent_clients(count: usize, address: std::net::SocketAddr) -> Vec<tokio::net::TcpStream> {
    let mut streams = Vec::new();
    for _ in 0..count {
        streams.push(tokio::net::TcpStream::connect(address).await.unwrap());
    }
    streams
}
