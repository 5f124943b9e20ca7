//! What an origin in trouble is spared, and what its clients get meanwhile.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tests::client::{Answer, exchange};
use tests::fleet::eventually;
use tests::lone::HOSTS;
use tests::wire::{Asked, Then, answer};
use tests::{Lone, Scrape, Wire, get};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Straight to the cache: no function hides what the PoP says.
const HOST: &str = HOSTS[1];

struct Site {
    origin: Wire,
    pop: Lone,
    admin: SocketAddr,
}

impl Site {
    /// A PoP with one worker, so that a kept connection is there for the next request.
    async fn of(more: &[(&str, &str)], answer: impl Fn(&Asked) -> (Vec<u8>, Then) + Send + Sync + 'static) -> Self {
        let origin = Wire::start(answer).await;
        let admin = tests::free_address();
        let address = admin.to_string();
        let more = [&[("--workers", "1"), ("--admin", &*address)], more].concat();
        let pop = Lone::for_all(origin.address, &more).await;
        Self { origin, pop, admin }
    }

    async fn send(&self, method: &str, page: &str) -> Answer {
        let length = if method == "POST" { "Content-Length: 4\r\n\r\nbody" } else { "\r\n" };
        let request = format!("{method} {page} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n{length}");
        exchange(self.pop.address, request).await
    }

    async fn get(&self, page: &str) -> Answer {
        self.send("GET", page).await
    }

    fn asked(&self, page: &str) -> usize {
        self.origin.seen().iter().filter(|asked| asked.target() == page).count()
    }

    async fn scrape(&self) -> Scrape {
        let authorization = self.pop.fleet.authorization();
        let page = get(self.admin, "/metrics", &[("authorization", &authorization)]).await;
        Scrape::parse(&page.text()).unwrap_or_else(|why| panic!("{why}"))
    }

    /// The PoP has no response of the origin, for this reason.
    async fn fails(&self, method: &str, page: &str, status: u16, code: &str) -> Answer {
        let answer = self.send(method, page).await;
        assert_eq!(answer.status, status, "{}\n{}", answer.head, answer.text());
        assert!(answer.head.contains(&format!("x-skerry-error: {code}")), "{}", answer.head);
        answer
    }
}

#[tokio::test]
async fn a_kept_connection_that_the_origin_closed_costs_no_client_its_answer() {
    let closed = AtomicBool::new(false);
    let site = Site::of(&[], move |asked| match asked.target() {
        "/closed-once" if !closed.swap(true, Ordering::Relaxed) => (Vec::new(), Then::Close),
        "/closed" => (Vec::new(), Then::Close),
        _ => answer("200 OK", "", "page"),
    })
    .await;
    assert_eq!(site.get("/warm").await.text(), "page");
    assert_eq!(site.get("/closed-once").await.text(), "page");
    assert_eq!(site.asked("/closed-once"), 2, "the origin closed the first connection without a byte");
    assert_eq!(site.scrape().await.sum("skerry_origin_retries_total", &[("origin", "own"), ("reason", "closed")]), 1.0);
    // What may have had an effect is not sent twice.
    site.fails("POST", "/closed", 502, "origin/unreachable").await;
    assert_eq!(site.asked("/closed"), 1);
    // Nor is what a fresh connection was closed for: it is the request that the origin does not like.
    site.fails("GET", "/closed", 502, "origin/unreachable").await;
    assert_eq!(site.asked("/closed"), 2);
}

#[tokio::test]
async fn an_origin_that_fails_is_left_alone_and_its_stored_pages_are_sent_until_it_is_back() {
    let down = Arc::new(AtomicBool::new(false));
    let is_down = Arc::clone(&down);
    let site = Site::of(&[("--origin-timeout", "300ms")], move |_| {
        let fields = "Cache-Control: max-age=0\r\nETag: \"1\"\r\n";
        if is_down.load(Ordering::Relaxed) { (Vec::new(), Then::Wait) } else { answer("200 OK", fields, "page") }
    })
    .await;
    assert_eq!(site.get("/stored").await.text(), "page");
    down.store(true, Ordering::Relaxed);
    eventually("the breaker opens", async || {
        let failed = site.get("/new").await;
        assert!(matches!(failed.status, 502 | 504), "{}", failed.head);
        failed.head.contains("x-skerry-error: origin/circuit-open")
    })
    .await;
    let before = site.origin.seen().len();
    let stale = site.get("/stored").await;
    assert_eq!((stale.status, stale.text().as_str()), (200, "page"), "{}", stale.head);
    // A probe may be sent now and then, all others are not.
    let answers = futures::future::join_all((0..50).map(|_| site.get("/new"))).await;
    assert!(answers.iter().all(|answer| matches!(answer.status, 502 | 504)));
    assert!(answers.iter().any(|answer| answer.head.to_lowercase().contains("retry-after: ")));
    assert!(site.origin.seen().len() < before + 10, "{} requests", site.origin.seen().len() - before);
    let scrape = site.scrape().await;
    assert!(scrape.sum("skerry_origin_breaker_opened_total", &[("origin", "own")]) >= 1.0);
    assert_eq!(scrape.sum("skerry_origin_breakers", &[("origin", "own"), ("state", "closed")]), 0.0);
    down.store(false, Ordering::Relaxed);
    eventually("the origin is asked again", async || site.get("/new").await.status == 200).await;
    assert_eq!(site.scrape().await.sum("skerry_origin_breakers", &[("origin", "own"), ("state", "closed")]), 1.0);
}

#[tokio::test]
async fn an_origin_that_answers_errors_or_nonsense_or_hangs_up_is_there_and_is_asked() {
    let site = Site::of(&[], |asked| match asked.target() {
        "/nonsense" => (b"HTTP/1.1 200 OK\r\nno field\r\n\r\n".to_vec(), Then::Close),
        "/half" => (b"HTTP/1.1 200 OK\r\nX: ".to_vec(), Then::Close),
        "/closed" => (Vec::new(), Then::Close),
        _ => answer("503 Service Unavailable", "", "busy"),
    })
    .await;
    for _ in 0..30 {
        assert_eq!(site.get("/error").await.text(), "busy");
        site.fails("GET", "/nonsense", 502, "origin/corrupt").await;
        site.fails("GET", "/half", 502, "origin/unreachable").await;
        site.fails("GET", "/closed", 502, "origin/unreachable").await;
    }
    assert_eq!(site.asked("/nonsense"), 30);
}

#[tokio::test]
async fn no_more_requests_are_under_way_than_may_be_and_those_that_wait_in_vain_are_told() {
    let bounds = [("--origin-requests", "1"), ("--origin-wait", "200ms")];
    let site = Site::of(&bounds, |asked| match asked.target() {
        "/endless" => {
            (b"HTTP/1.1 200 OK\r\nCache-Control: no-store\r\n\r\n".to_vec(), Then::Repeat(vec![b'x'; 1 << 16]))
        }
        _ => answer("200 OK", "", "page"),
    })
    .await;
    let mut stream = tokio::net::TcpStream::connect(site.pop.address).await.unwrap();
    let request = format!("GET /endless HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.read_exact(&mut [0; 4096]).await.unwrap();
    let answer = site.fails("GET", "/page", 503, "overload/origin-busy").await;
    assert!(answer.head.to_lowercase().contains("retry-after: 1"), "{}", answer.head);
    let scrape = site.scrape().await;
    assert_eq!(scrape.sum("skerry_origin_requests", &[("origin", "own"), ("state", "in-use")]), 1.0);
    assert_eq!(scrape.sum("skerry_origin_breakers", &[("origin", "own"), ("state", "closed")]), 1.0);
    drop(stream);
    eventually("there is room again", async || site.get("/page").await.status == 200).await;
    let idle = site.scrape().await;
    assert_eq!(idle.sum("skerry_origin_requests", &[("origin", "own"), ("state", "in-use")]), 0.0);
}

#[tokio::test]
async fn a_head_that_never_ends_ends_in_time() {
    let site = Site::of(&[("--origin-timeout", "400ms")], |asked| match asked.target() {
        "/half" => (b"HTTP/1.1 200 OK\r\nX: ".to_vec(), Then::Wait),
        "/silent" => (Vec::new(), Then::Wait),
        _ => answer("200 OK", "", "page"),
    })
    .await;
    let before = site.pop.resident();
    for page in ["/half", "/silent"] {
        site.fails("GET", page, 504, "origin/timed-out").await;
        assert_eq!(site.get("/page").await.text(), "page");
    }
    assert!(site.pop.resident() < before + (64 << 20));
}

#[tokio::test]
async fn framing_that_two_readers_would_read_as_two_responses_is_refused() {
    let site = Site::of(&[], |asked| {
        let framing = match asked.target() {
            "/both" => "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
            "/coded" => "Transfer-Encoding: gzip\r\n\r\nbody",
            "/unknown" => "Transfer-Encoding: x-odd, chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
            "/twice" => "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
            "/folded" => "X: a\r\n b\r\nContent-Length: 4\r\n\r\nbody",
            "/space" => "Content-Length : 4\r\n\r\nbody",
            "/cr" => "X: a\rY: b\r\nContent-Length: 4\r\n\r\nbody",
            "/nul" => "X: a\0b\r\nContent-Length: 4\r\n\r\nbody",
            _ => return answer("200 OK", "", "page"),
        };
        (format!("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n{framing}").into_bytes(), Then::Close)
    })
    .await;
    for page in ["/both", "/coded", "/unknown", "/twice", "/folded", "/space", "/cr", "/nul"] {
        for _ in 0..2 {
            site.fails("GET", page, 502, "origin/corrupt").await;
            assert_eq!(site.get("/page").await.text(), "page");
        }
        assert_eq!(site.asked(page), 2, "{page} was kept");
    }
}

#[tokio::test]
async fn that_there_is_nothing_is_kept_where_the_operator_says_for_how_long() {
    let answers = |asked: &Asked| match asked.target() {
        "/error" => answer("500 Internal Server Error", "", "error"),
        "/own" => answer("404 Not Found", "Cache-Control: no-cache\r\n", "nothing"),
        _ => answer("404 Not Found", "", "nothing"),
    };
    for (more, asked) in [(&[("--negative-ttl", "1h")][..], 1), (&[], 3)] {
        let site = Site::of(more, answers).await;
        for _ in 0..3 {
            assert_eq!(site.get("/nothing").await.status, 404);
            assert_eq!(site.get("/own").await.status, 404);
            assert_eq!(site.get("/error").await.status, 500);
        }
        assert_eq!((site.asked("/nothing"), site.asked("/own"), site.asked("/error")), (asked, 3, 3));
    }
}
