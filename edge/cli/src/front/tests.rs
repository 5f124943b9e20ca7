use super::*;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::server::conn::http1;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

const LONDON: (f64, f64) = (51.47, -0.45);
const WASHINGTON: (f64, f64) = (38.94, -77.46);
const TOKYO: (f64, f64) = (35.76, 140.39);

/// A PoP that says its name and what it was asked, and counts what it runs.
struct StubPop {
    address: SocketAddr,
    runs: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl StubPop {
    async fn start(name: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let runs = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&runs);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let runs = Arc::clone(&counted);
                connections.spawn(http1::Builder::new().serve_connection(
                    TokioIo::new(stream),
                    service_fn(move |request| run(name, request, Arc::clone(&runs))),
                ));
            }
        });
        Self { address, runs, task }
    }

    /// As SIGKILL would: listener and connections are gone.
    async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

async fn run(name: &str, request: Request<Incoming>, runs: Arc<AtomicUsize>) -> Result<Response<Full<Bytes>>, String> {
    if request.uri().path() == health::PATH {
        return Ok(Response::new(Full::default()));
    }
    runs.fetch_add(1, Ordering::Relaxed);
    if request.uri().path() == "/hang" && name == "hung" {
        return std::future::pending().await;
    }
    if request.uri().path() == "/many" {
        let mut response = Response::new(Full::default());
        for i in 0..500 {
            response.headers_mut().append("x-many", http::HeaderValue::from(i));
        }
        return Ok(response);
    }
    if request.uri().path() == "/crash" {
        return Err("crash".to_owned());
    }
    let header = |name: &str| request.headers().get(name).map(|v| v.to_str().unwrap().to_owned());
    let said = [header("x-forwarded-for"), header("host"), header("x-secret"), header("te"), header("cookie")];
    let path = request.uri().to_string();
    let body = request.into_body().collect().await.map_err(|e| e.to_string())?.to_bytes();
    let text = format!("{name} {path} {said:?} {}", body.len());
    Ok(Response::builder().header("connection", "x-private").header("x-private", "1").body(Full::from(text)).unwrap())
}

fn alarm() -> Alarm {
    Alarm::start().unwrap()
}

fn locate(address: IpAddr) -> Option<Spot> {
    let spot = |coordinates, label: &str| Some(Spot { coordinates, label: label.to_owned() });
    match address.to_string().as_str() {
        "133.11.0.1" => spot((36.2, 138.3), "JP"),
        "8.8.8.8" => spot((39.8, -98.6), "US"),
        _ => None,
    }
}

async fn front(pops: &[(&str, SocketAddr, (f64, f64))]) -> SocketAddr {
    let backends = pops
        .iter()
        .map(|(name, address, coordinates)| Backend {
            name: (*name).to_owned(),
            address: *address,
            coordinates: *coordinates,
            runs: true,
        })
        .collect();
    let trust = vec!["127.0.0.0/8".parse().unwrap()];
    let front = Arc::new(Front::new(Config { backends, locate: Box::new(locate), trust, hop: None }, alarm()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(front.serve(listener, std::future::pending()));
    address
}

/// Sends raw bytes on a connection of its own and reads until the front door closes it.
async fn ask(front: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(front).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn get(front: SocketAddr, from: &str) -> String {
    let head = format!("GET /a?b=1 HTTP/1.1\r\nhost: h\r\nx-forwarded-for: {from}\r\nconnection: close\r\n\r\n");
    ask(front, &head).await
}

#[tokio::test]
async fn a_client_goes_to_its_nearest_pop_and_its_forwarders_are_kept() {
    let (lhr, iad, nrt) = (StubPop::start("lhr").await, StubPop::start("iad").await, StubPop::start("nrt").await);
    let front =
        front(&[("lhr", lhr.address, LONDON), ("iad", iad.address, WASHINGTON), ("nrt", nrt.address, TOKYO)]).await;
    let answer = get(front, "133.11.0.1").await;
    assert!(answer.contains("nrt /a?b=1 [Some(\"133.11.0.1, 127.0.0.1\"), Some(\"h\")"), "{answer}");
    assert!(answer.contains("x-skerry-front: nrt; rtt=0.0; client=JP"), "{answer}");
    assert!(get(front, "8.8.8.8").await.contains("iad /a"));
    let unknown = get(front, "10.9.8.7").await;
    assert!(unknown.contains("lhr /a") && unknown.contains("client=unknown"), "{unknown}");
}

#[tokio::test]
async fn fields_of_one_connection_do_not_pass_in_either_direction() {
    let lhr = StubPop::start("lhr").await;
    let front = front(&[("lhr", lhr.address, LONDON)]).await;
    let answer =
        ask(front, "GET / HTTP/1.1\r\nhost: h\r\nx-secret: 1\r\nte: trailers\r\nconnection: close, X-Secret\r\n\r\n")
            .await;
    assert!(answer.contains("Some(\"h\"), None, None, None]") && !answer.contains("x-private"), "{answer}");
}

#[tokio::test]
async fn an_absolute_target_gives_the_host_and_a_request_without_one_is_refused() {
    let lhr = StubPop::start("lhr").await;
    let front = front(&[("lhr", lhr.address, LONDON)]).await;
    let answer = ask(front, "GET http://site.example/x HTTP/1.1\r\nhost: other\r\nconnection: close\r\n\r\n").await;
    assert!(answer.contains("lhr /x") && answer.contains("Some(\"site.example\")"), "{answer}");
    let answer = ask(front, "GET / HTTP/1.1\r\nconnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("application/problem+json"), "{answer}");
}

#[tokio::test]
async fn when_a_pop_is_gone_its_clients_go_to_the_next_nearest_and_its_uploads_too() {
    let (lhr, iad, nrt) = (StubPop::start("lhr").await, StubPop::start("iad").await, StubPop::start("nrt").await);
    let front =
        front(&[("lhr", lhr.address, LONDON), ("iad", iad.address, WASHINGTON), ("nrt", nrt.address, TOKYO)]).await;
    assert!(get(front, "133.11.0.1").await.contains("nrt /a"));
    nrt.kill().await;
    let upload = "x".repeat(200_000);
    let post = format!(
        "POST /p HTTP/1.1\r\nhost: h\r\nx-forwarded-for: 133.11.0.1\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{upload}",
        upload.len()
    );
    let answer = ask(front, &post).await;
    assert!(
        answer.contains("lhr /p") && answer.ends_with(" 200000"),
        "from Japan London is nearer than Washington: {answer}"
    );
    assert!(get(front, "133.11.0.1").await.contains("lhr /a"));
    lhr.kill().await;
    assert!(get(front, "133.11.0.1").await.contains("iad /a"));
    iad.kill().await;
    let answer = get(front, "133.11.0.1").await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("retry-after: 1"), "{answer}");
}

#[tokio::test]
async fn a_request_that_may_have_run_is_repeated_only_when_that_is_safe() {
    let (lhr, iad) = (StubPop::start("lhr").await, StubPop::start("iad").await);
    let front = front(&[("lhr", lhr.address, LONDON), ("iad", iad.address, WASHINGTON)]).await;
    let answer = ask(front, "POST /crash HTTP/1.1\r\nhost: h\r\ncontent-length: 1\r\nconnection: close\r\n\r\nx").await;
    assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
    assert_eq!((lhr.runs.load(Ordering::Relaxed), iad.runs.load(Ordering::Relaxed)), (1, 0));
    let answer = ask(front, "GET /crash HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 50"), "{answer}");
    assert_eq!((lhr.runs.load(Ordering::Relaxed), iad.runs.load(Ordering::Relaxed)), (2, 1));
}

#[tokio::test]
async fn a_pop_that_comes_back_is_found_by_the_health_check() {
    let (lhr, iad) = (StubPop::start("lhr").await, StubPop::start("iad").await);
    let address = lhr.address;
    let config = Config {
        backends: vec![
            Backend { name: "lhr".to_owned(), address, coordinates: LONDON, runs: true },
            Backend { name: "iad".to_owned(), address: iad.address, coordinates: WASHINGTON, runs: true },
        ],
        locate: Box::new(locate),
        trust: vec![],
        hop: None,
    };
    let front = Arc::new(Front::new(config, alarm()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let door = listener.local_addr().unwrap();
    tokio::spawn(Arc::clone(&front).serve(listener, std::future::pending()));
    lhr.kill().await;
    assert!(get(door, "-").await.contains("iad /a"));
    assert!(!front.health.is_up(0) && front.health.is_up(1));
    let again = TcpListener::bind(address).await.unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = again.accept().await {
            let service = service_fn(|request| run("lhr", request, Arc::default()));
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    while !front.health.is_up(0) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(get(door, "-").await.contains("lhr /a"));
}

#[tokio::test]
async fn bodies_stream_before_they_are_whole() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let pop = listener.local_addr().unwrap();
    // Echoes every chunk as it comes.
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = service_fn(|request: Request<Incoming>| async move {
                let frames = futures::StreamExt::map(request.into_body().into_data_stream(), |chunk| {
                    chunk.map(http_body::Frame::data)
                });
                Ok::<_, hyper::Error>(Response::new(StreamBody::new(frames)))
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    let front = front(&[("lhr", pop, LONDON)]).await;
    let mut stream = TcpStream::connect(front).await.unwrap();
    stream.write_all(b"POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n").await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"5\r\nfirst\r\n") {
        assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "{}", String::from_utf8_lossy(&answer));
    }
    stream.write_all(b"6\r\nsecond\r\n0\r\n\r\n").await.unwrap();
    while !answer.ends_with(b"6\r\nsecond\r\n0\r\n\r\n") {
        assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "{}", String::from_utf8_lossy(&answer));
    }
}

#[tokio::test]
async fn http_2_without_tls_is_spoken_too() {
    let lhr = StubPop::start("lhr").await;
    let front = front(&[("lhr", lhr.address, LONDON)]).await;
    let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http::<Full<Bytes>>();
    let uri = format!("http://{front}/h2").parse().unwrap();
    let mut request = Request::new(Full::default());
    *request.uri_mut() = uri;
    // A browser may split its cookies over fields of HTTP/2, but never over fields of HTTP/1.1.
    for cookie in ["a=1", "b=2; c=3"] {
        request.headers_mut().append("cookie", http::HeaderValue::from_static(cookie));
    }
    let response = client.request(request).await.unwrap();
    assert_eq!((response.status(), response.version()), (StatusCode::OK, http::Version::HTTP_2));
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let body = String::from_utf8_lossy(&body);
    assert!(body.contains(&format!("lhr /h2 [Some(\"127.0.0.1\"), Some(\"{front}\")")), "{body}");
    assert!(body.contains("Some(\"a=1; b=2; c=3\")]"), "{body}");
}

#[tokio::test]
async fn distance_delays_an_answer_by_at_least_the_round_trip() {
    let lhr = StubPop::start("lhr").await;
    let backends = vec![Backend { name: "lhr".to_owned(), address: lhr.address, coordinates: LONDON, runs: true }];
    let hop = Some(Duration::from_millis(60));
    let front = Arc::new(Front::new(Config { backends, locate: Box::new(locate), trust: vec![], hop }, alarm()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(front.serve(listener, std::future::pending()));
    let start = std::time::Instant::now();
    assert!(get(address, "-").await.contains("x-skerry-front: lhr; rtt=60.0; client=unknown"));
    assert!(start.elapsed() >= Duration::from_millis(60));
}

#[tokio::test]
async fn closing_finishes_what_is_under_way() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let pop = listener.local_addr().unwrap();
    let (asked, was_asked) = tokio::sync::oneshot::channel();
    let (answer, may_answer) = tokio::sync::oneshot::channel::<()>();
    tokio::spawn(async move {
        let mut gate = Some((asked, may_answer));
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = [0; 4096];
            let read = stream.read(&mut buffer).await.unwrap();
            if !buffer[..read].starts_with(b"GET /.skerry") {
                let (asked, may_answer) = gate.take().unwrap();
                asked.send(()).unwrap();
                may_answer.await.unwrap();
            }
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\nslow").await;
        }
    });
    let backends = vec![Backend { name: "lhr".to_owned(), address: pop, coordinates: LONDON, runs: true }];
    let config = Config { backends, locate: Box::new(locate), trust: vec![], hop: None };
    let door = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = door.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(Arc::new(Front::new(config, alarm())).serve(door, async move {
        let _ = stopped.await;
    }));
    let client = tokio::spawn(async move { ask(address, "GET / HTTP/1.1\r\nhost: h\r\n\r\n").await });
    was_asked.await.unwrap();
    stop.send(()).unwrap();
    answer.send(()).unwrap();
    assert!(client.await.unwrap().ends_with("slow"));
    serving.await.unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_request_at_a_pop_that_hangs_is_repeated_at_the_next_nearest() {
    // As a stopped process: the kernel takes connections, and nothing is answered.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = listener.local_addr().unwrap();
    let iad = StubPop::start("iad").await;
    let front = front(&[("lhr", silent, LONDON), ("iad", iad.address, WASHINGTON)]).await;
    let start = std::time::Instant::now();
    assert!(get(front, "-").await.contains("iad /a"));
    assert!(start.elapsed() < ANSWER_TIMEOUT / 4);
}

#[tokio::test]
async fn a_slow_answer_of_a_pop_that_is_well_is_waited_for() {
    let (hung, iad) = (StubPop::start("hung").await, StubPop::start("iad").await);
    let front = front(&[("hung", hung.address, LONDON), ("iad", iad.address, WASHINGTON)]).await;
    let head = "GET /hang HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n";
    let waiting = tokio::time::timeout(health::CHECK_TIMEOUT * 2, ask(front, head)).await;
    assert!(waiting.is_err(), "its health checks are answered, so it works on the request: {waiting:?}");
}

#[tokio::test]
async fn an_upload_that_its_client_breaks_off_is_the_clients_fault() {
    let lhr = StubPop::start("lhr").await;
    let front = front(&[("lhr", lhr.address, LONDON)]).await;
    let mut client = TcpStream::connect(front).await.unwrap();
    client.write_all(b"POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\nnonsense\r\n").await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("broke off"), "{answer}");
}

#[tokio::test]
async fn an_answer_with_many_fields_passes() {
    let lhr = StubPop::start("lhr").await;
    let front = front(&[("lhr", lhr.address, LONDON)]).await;
    let answer = ask(front, "GET /many HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.matches("x-many").count() == 500, "{answer}");
}

#[tokio::test]
async fn a_question_about_the_server_is_answered_by_the_front_door_itself() {
    let lhr = StubPop::start("lhr").await;
    let front = front(&[("lhr", lhr.address, LONDON)]).await;
    let answer = ask(front, "OPTIONS * HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 204") && answer.contains("allow: GET"), "{answer}");
    assert_eq!(lhr.runs.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_door_with_as_many_clients_as_it_takes_still_closes() {
    let config = Config { backends: vec![], locate: Box::new(locate), trust: vec![], hop: None };
    let door = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = door.local_addr().unwrap();
    let front = Arc::new(Front::new(config, alarm()));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let permits = Arc::new(Semaphore::new(1));
    let serving = tokio::spawn(front.serve_within(permits, door, async move {
        let _ = stopped.await;
    }));
    let _first = TcpStream::connect(address).await.unwrap();
    let _second = TcpStream::connect(address).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    stop.send(()).unwrap();
    tokio::time::timeout(DRAIN_TIMEOUT * 2, serving).await.expect("it closes").unwrap();
}
