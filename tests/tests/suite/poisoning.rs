//! Known ways to make a shared cache give one client's trouble to another: web cache poisoning, deception, denial of service,
//! and request smuggling. The origin here is as careless as can be: it puts all that it was asked into its answer, and lets
//! everybody keep it.

use std::sync::atomic::{AtomicUsize, Ordering};

use tests::client::{Answer, exchange};
use tests::lone::HOSTS;
use tests::wire::{Asked, Then, answer};
use tests::{Lone, Wire};

/// What a PoP itself says of each request, and what differs from client to client for that.
const OWN: [&str; 4] = ["x-request-id", "x-forwarded-for", "cf-connecting-ip", "connection"];

/// All that was asked.
fn reflected(asked: &Asked) -> String {
    let fields = asked.fields.iter().filter(|(name, _)| !OWN.contains(&name.as_str()));
    let mut lines: Vec<_> = fields.map(|(name, value)| format!("{name}: {value}\n")).collect();
    lines.sort();
    format!("{}\n{}\n{}", asked.line, lines.concat(), String::from_utf8_lossy(&asked.body))
}

fn reflect(asked: &Asked) -> (Vec<u8>, Then) {
    let body = if asked.line.starts_with("HEAD ") { String::new() } else { reflected(asked) };
    answer("200 OK", "Cache-Control: max-age=3600\r\nContent-Type: text/plain\r\n", &body)
}

/// A PoP in front of an origin, and pages that nobody has asked for yet.
struct Site {
    origin: Wire,
    pop: Lone,
    pages: AtomicUsize,
}

impl Site {
    async fn careless() -> Self {
        Self::of(reflect).await
    }

    async fn of(answer: impl Fn(&Asked) -> (Vec<u8>, Then) + Send + Sync + 'static) -> Self {
        let origin = Wire::start(answer).await;
        let pop = Lone::for_all(origin.address, &[]).await;
        Self { origin, pop, pages: AtomicUsize::new(0) }
    }

    fn page(&self) -> String {
        format!("/page-{}", self.pages.fetch_add(1, Ordering::Relaxed))
    }

    async fn send(&self, request: &str) -> Answer {
        exchange(self.pop.address, request).await
    }

    async fn get(&self, host: &str, target: &str) -> Answer {
        self.send(&format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")).await
    }

    /// Sends an odd request for a page, `{page}` and `{host}` being its place, and then what everybody sends: who does
    /// gets what the page is without the odd one, whichever host it is.
    async fn survives(&self, odd: &str) {
        for host in HOSTS {
            let (page, plain) = (self.page(), self.page());
            let odd = odd.replace("{page}", &page).replace("{host}", host);
            let first = self.send(&odd).await;
            let second = self.get(host, &page).await;
            let other = self.get(host, &plain).await;
            let story = format!("{host}: after\n{odd}\nwhich got\n{}\n\n{}", first.head, first.text());
            assert_eq!((second.status, other.status), (200, 200), "{story}");
            assert_eq!(second.text(), other.text().replace(&plain, &page), "{story}");
        }
        self.sound();
    }

    /// Everything that the origin was sent can be understood in one way only.
    fn sound(&self) {
        for asked in self.origin.seen() {
            assert_eq!(asked.wrong, None, "{asked:?}");
        }
    }
}

/// A request with these field lines, for a page.
fn with(lines: &str) -> String {
    format!("GET {{page}} HTTP/1.1\r\nHost: {{host}}\r\nConnection: close\r\n{lines}\r\n")
}

#[tokio::test]
async fn a_field_by_which_frameworks_take_another_host_or_path_or_method_poisons_nobody() {
    let site = Site::careless().await;
    for name in [
        "X-Forwarded-Host",
        "X-Forwarded-Scheme",
        "X-Forwarded-Prefix",
        "X-Forwarded-Port",
        "X-Forwarded-Server",
        "X-Forwarded-Proto",
        "X-Forwarded-Path",
        "X-Forwarded-Ssl",
        "X-Original-URL",
        "X-Original-Host",
        "X-Rewrite-URL",
        "X-Host",
        "X-HTTP-Host-Override",
        "Forwarded",
        "X-HTTP-Method-Override",
        "X-HTTP-Method",
        "X-Method-Override",
        "Front-End-Https",
        "X-URL-Scheme",
    ] {
        site.survives(&with(&format!("{name}: evil\r\n"))).await;
    }
}

#[tokio::test]
async fn whoever_is_not_trusted_cannot_say_that_a_request_came_by_https() {
    let site = Site::of(|asked| {
        let insecure = asked.field("x-forwarded-proto") != "https";
        answer("200 OK", "Cache-Control: max-age=3600\r\n", if insecure { "plain" } else { "secure" })
    })
    .await;
    for host in HOSTS {
        let page = site.page();
        let lied = format!(
            "GET {page} HTTP/1.1\r\nHost: {host}\r\nX-Forwarded-Proto: https\r\nFront-End-Https: on\r\nConnection: close\r\n\r\n"
        );
        assert_eq!(site.send(&lied).await.text(), "plain", "{host}");
        assert_eq!(site.get(host, &page).await.text(), "plain", "{host}");
    }
}

#[tokio::test]
async fn answers_by_https_and_http_are_kept_apart_behind_a_proxy_that_is_trusted() {
    let origin = Wire::start(|asked| {
        let scheme = asked.field("x-forwarded-proto").to_owned();
        answer("200 OK", "Cache-Control: max-age=3600\r\n", &scheme)
    })
    .await;
    let pop = Lone::for_all(origin.address, &[("--trust", "127.0.0.0/8")]).await;
    for host in HOSTS {
        for scheme in ["https", "http", "https", "http"] {
            let request =
                format!("GET / HTTP/1.1\r\nHost: {host}\r\nX-Forwarded-Proto: {scheme}\r\nConnection: close\r\n\r\n");
            assert_eq!(exchange(pop.address, request).await.text(), scheme, "{host}");
        }
    }
}

#[tokio::test]
async fn a_get_with_a_body_changes_nothing_for_those_without() {
    let site = Site::careless().await;
    site.survives(&with("Content-Length: 4\r\n").replace("\r\n\r\n", "\r\n\r\nevil")).await;
    site.survives(&with("Transfer-Encoding: chunked\r\n").replace("\r\n\r\n", "\r\n\r\n4\r\nevil\r\n0\r\n\r\n")).await;
    let form = "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 6\r\n";
    site.survives(&with(form).replace("\r\n\r\n", "\r\n\r\na=evil")).await;
}

#[tokio::test]
async fn a_head_request_leaves_no_empty_page_behind() {
    let site = Site::careless().await;
    site.survives(&with("").replace("GET ", "HEAD ")).await;
    site.survives(&with("X-HTTP-Method-Override: HEAD\r\n")).await;
    // Nor does it take away the page that is there.
    for host in HOSTS {
        let page = site.page();
        let before = site.get(host, &page).await.text();
        let head = site.send(&with("").replace("GET ", "HEAD ").replace("{page}", &page).replace("{host}", host)).await;
        assert_eq!((head.status, head.body.len()), (200, 0));
        assert_eq!(site.get(host, &page).await.text(), before);
    }
}

#[tokio::test]
async fn methods_are_told_apart_by_case() {
    let site = Site::careless().await;
    for method in ["get", "Get", "GETX", "PURGE", "TRACE", "OPTIONS", "POST", "PUT", "DELETE", "evil"] {
        site.survives(&with("").replace("GET ", &format!("{method} "))).await;
    }
}

#[tokio::test]
async fn spellings_of_a_host_never_share_an_answer_that_the_origin_could_tell_apart() {
    let site = Site::careless().await;
    for host in ["{host}:1234", "{host}.", "{host}:443", "evil.{host}", "{host}:", "{host}:80", "{host}:080"] {
        site.survives(&with("").replace("Host: {host}", &format!("Host: {host}"))).await;
    }
    for host in HOSTS {
        let page = site.page();
        let before = site.get(host, &page).await.text();
        assert_eq!(site.get(&host.to_uppercase(), &page).await.text(), before, "the case of a host means nothing");
    }
}

#[tokio::test]
async fn two_hosts_or_one_that_is_none_are_refused() {
    let site = Site::careless().await;
    for (host, status) in [
        ("Host: {host}\r\nHost: evil.example", 400),
        ("Host: evil.example\r\nHost: {host}", 400),
        ("Host: {host}\r\nhost: {host}", 400),
        ("Host: evil@{host}", 400),
        ("Host: {host}/evil", 400),
        ("Host: {host}?evil", 400),
        ("Host: {host}#evil", 400),
        ("Host: {host} evil", 400),
        ("Host: {host},evil", 404),
        ("Host: {host}\\evil", 400),
        ("Host: {host}:evil", 400),
        ("Host: {host}:80:80", 400),
        ("Host: {host}:65536", 400),
        ("Host: {host}:-1", 400),
        ("Host: ", 400),
        ("Host : {host}", 400),
    ] {
        for own in HOSTS {
            let host = host.replace("{host}", own);
            let answer = site.send(&format!("GET / HTTP/1.1\r\n{host}\r\nConnection: close\r\n\r\n")).await;
            assert_eq!(answer.status, status, "{host:?}: {}", answer.text());
        }
    }
    assert!(site.origin.seen().is_empty(), "{:?}", site.origin.seen());
}

#[tokio::test]
async fn a_target_in_absolute_form_counts_and_its_host_field_does_not() {
    let site = Site::careless().await;
    site.survives(&with("").replace("GET {page}", "GET http://evil.example{page}")).await;
    site.survives(&with("").replace("GET {page}", "GET https://{host}{page}")).await;
    site.survives(&with("").replace("GET {page}", "GET ftp://{host}{page}")).await;
    for host in HOSTS {
        let page = site.page();
        let absolute = format!("GET http://{host}{page} HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n");
        let answer = site.send(&absolute).await;
        assert!(answer.text().contains(&format!("host: {host}\n")), "{}", answer.text());
        assert!(!answer.text().contains("evil"), "{}", answer.text());
        assert_eq!(site.get(host, &page).await.text(), answer.text());
    }
}

#[tokio::test]
async fn a_connection_field_takes_nothing_away_that_the_pop_adds() {
    let site = Site::careless().await;
    for name in ["X-Forwarded-For", "CF-Connecting-IP", "X-Request-Id", "X-Forwarded-Proto", "Host", "CDN-Loop", "Via"]
    {
        site.survives(&with("").replace("Connection: close", &format!("Connection: close, {name}, X-Evil"))).await;
    }
    for asked in site.origin.seen() {
        for name in ["x-forwarded-for", "x-request-id", "host", "cdn-loop"] {
            assert!(!asked.field(name).is_empty() || (name == "x-forwarded-for"), "{name} of {asked:?}");
        }
    }
}

#[tokio::test]
async fn a_field_of_one_connection_does_not_reach_the_origin() {
    let site = Site::careless().await;
    let lines = "X-Auth: evil\r\nKeep-Alive: evil\r\nProxy-Connection: evil\r\nTE: trailers\r\nUpgrade: h2c\r\n";
    let odd = with(lines).replace("Connection: close", "Connection: close, X-Auth, Upgrade, HTTP2-Settings");
    site.survives(&odd.replace("\r\n\r\n", "\r\nHTTP2-Settings: evil\r\n\r\n")).await;
    for asked in site.origin.seen() {
        assert!(!reflected(&asked).contains("evil") && asked.field("upgrade").is_empty(), "{asked:?}");
    }
}

#[tokio::test]
async fn a_range_gets_a_part_and_others_the_whole() {
    let site = Site::careless().await;
    let many = vec!["0-0"; 2000].join(",");
    for range in [
        "Range: bytes=0-0\r\n",
        "Range: bytes=999999-\r\n",
        "Range: bytes=-0\r\n",
        "Range: bytes=18446744073709551615-18446744073709551616\r\n",
        "Range: evil=0-1\r\n",
        "Range: bytes=0-0\r\nRange: bytes=1-1\r\n",
        "Range: bytes=0-0\r\nIf-Range: \"evil\"\r\n",
        "Range: bytes=0-0\r\nIf-Range: Thu, 01 Jan 1970 00:00:00 GMT\r\n",
        "If-Match: \"evil\"\r\n",
        "If-None-Match: *\r\n",
        "If-Unmodified-Since: Thu, 01 Jan 1970 00:00:00 GMT\r\n",
        "If-Modified-Since: Fri, 31 Dec 9999 23:59:59 GMT\r\n",
        &format!("Range: bytes={many}\r\n"),
    ] {
        site.survives(&with(range)).await;
    }
}

#[tokio::test]
async fn a_thousand_overlapping_ranges_bring_no_more_than_the_whole() {
    let body = "0123456789".repeat(10_000);
    let site = Site::of(move |_| answer("200 OK", "Cache-Control: max-age=3600\r\nETag: \"a\"\r\n", &body)).await;
    for host in HOSTS {
        let ranges = vec!["0-"; 1000].join(",");
        for _ in 0..2 {
            let request =
                format!("GET / HTTP/1.1\r\nHost: {host}\r\nRange: bytes={ranges}\r\nConnection: close\r\n\r\n");
            let answer = site.send(&request).await;
            assert!(answer.body.len() <= 110_000, "{host}: {} bytes, {}", answer.body.len(), answer.head);
        }
    }
}

#[tokio::test]
async fn an_error_that_an_odd_request_provokes_is_nobody_elses() {
    // As servers do: a field that is too long, has a character that is none, or asks for another method is an error.
    let site = Site::of(|asked| {
        let long = asked.fields.iter().any(|(_, value)| value.len() > 8000);
        let error = |status| answer(status, "Last-Modified: Thu, 01 Jan 2015 00:00:00 GMT\r\n", "evil");
        match asked.field("x-odd") {
            _ if long => error("400 Bad Request"),
            "" => reflect(asked),
            status => error(status),
        }
    })
    .await;
    let long = "x".repeat(10_000);
    site.survives(&with(&format!("X-Long: {long}\r\n"))).await;
    site.survives(&with(&format!("Cookie: {long}\r\n"))).await;
    for status in ["400 Bad Request", "403 Forbidden", "408 Timeout", "413 Too Large", "415 Type", "417 Expectation"] {
        site.survives(&with(&format!("X-Odd: {status}\r\n"))).await;
    }
    for status in
        ["421 Misdirected", "429 Too Many", "431 Fields Too Large", "500 Error", "502 Bad Gateway", "503 Busy"]
    {
        site.survives(&with(&format!("X-Odd: {status}\r\n"))).await;
    }
}

#[tokio::test]
async fn an_error_of_the_pop_is_of_the_one_request_that_was_wrong() {
    let site = Site::careless().await;
    let long = "x".repeat(100_000);
    site.survives(&with(&format!("X-Long: {long}\r\n"))).await;
    site.survives(&with(&"x: y\r\n".repeat(500))).await;
    for odd in [
        "X-Odd: \x07\r\n",
        "X-Odd: a\x00b\r\n",
        "X-Odd: a\rb\r\n",
        "X-Odd: a\x7fb\r\n",
        "X Odd: a\r\n",
        "X-\x01: a\r\n",
    ] {
        site.survives(&with(odd)).await;
    }
    site.survives(&with("Expect: evil\r\n")).await;
    site.survives(&with(" folded: evil\r\n")).await;
    site.survives(&with("X-Odd: a\r\n\tfolded\r\n")).await;
}

#[tokio::test]
async fn what_an_answer_varies_by_keeps_it_from_others() {
    let site = Site::of(|asked| {
        let varying = "Cache-Control: max-age=3600\r\nVary: X-Odd, Accept-Encoding\r\nVary: Cookie\r\n";
        answer("200 OK", varying, &reflected(asked))
    })
    .await;
    for lines in [
        "X-Odd: evil\r\n",
        "X-Odd: \r\n",
        "X-Odd: evil\r\nX-Odd: evil\r\n",
        "Accept-Encoding: evil\r\n",
        "Accept-Encoding: gzip;q=0\r\n",
        "Cookie: id=evil\r\n",
        "Cookie: id=1\r\nCookie: evil=1\r\n",
    ] {
        site.survives(&with(lines)).await;
    }
}

#[tokio::test]
async fn an_answer_that_sets_a_cookie_goes_to_one_client() {
    let site = Site::of(|asked| {
        let cookie = format!("Set-Cookie: session={}\r\n", asked.field("x-who"));
        answer("200 OK", &format!("Cache-Control: public, max-age=3600\r\n{cookie}"), &reflected(asked))
    })
    .await;
    site.survives(&with("X-Who: evil\r\nCookie: session=evil\r\n")).await;
    for host in HOSTS {
        let page = site.page();
        let own = format!("GET {page} HTTP/1.1\r\nHost: {host}\r\nX-Who: me\r\nConnection: close\r\n\r\n");
        assert_eq!(site.send(&own).await.field("set-cookie"), "session=me");
        assert_eq!(site.get(host, &page).await.field("set-cookie"), "session=");
    }
}

#[tokio::test]
async fn every_spelling_of_a_query_is_a_page_of_its_own() {
    let site = Site::careless().await;
    for query in [
        "?",
        "?a=1;b=evil",
        "?a=1&a=evil",
        "?b=2&a=1",
        "?a=1&b=2",
        "?utm_content=x;a=evil",
        "?a=1&",
        "?&a=1",
        "?A=1",
        "?a=%31",
        "?a=1%26b=evil",
        "?a[]=1",
        "??a=1",
        "?a=1?b=evil",
        "?a=+1",
        "?a=%201",
        "?_method=evil",
        "?a=1#evil",
    ] {
        for host in HOSTS {
            let page = site.page();
            let target = format!("{page}{query}");
            let odd = site.get(host, &target).await.text();
            let first = odd.lines().next().unwrap_or_default().to_owned();
            let plain = site.get(host, &page).await.text();
            assert_eq!(plain.lines().next(), Some(format!("GET {page} HTTP/1.1").as_str()), "{host}: {target}");
            let again = site.get(host, &target).await.text();
            assert_eq!(again.lines().next(), Some(first.as_str()), "{host}: {target}");
        }
    }
}

/// Asks for `odd`, then for `plain`: the origin has been asked for whatever either client got.
async fn confuses_nobody(site: &Site, odd: &str, plain: &str) {
    for host in HOSTS {
        let first = site.get(host, odd).await;
        let second = site.get(host, plain).await;
        let line = format!("GET {plain} HTTP/1.1");
        assert_eq!((second.status, second.text().lines().next()), (200, Some(line.as_str())), "{host}: after {odd:?}");
        let own = first.text().lines().next().unwrap_or_default().to_owned();
        let same = own == line && first.text() == second.text();
        assert!(first.status == 400 || same || own != line, "{host}: {odd:?} got {own:?}");
    }
}

#[tokio::test]
async fn what_the_origin_is_asked_for_is_what_the_answer_is_stored_under() {
    let site = Site::careless().await;
    for (number, odd) in [
        "/{n}/a/../b",
        "/{n}/a/%2e%2e/b",
        "/{n}/a/.%2E/b",
        "/{n}/a%2f..%2fb",
        "/{n}/a/..%2fb",
        "/{n}/a/..;/b",
        "/{n}//b",
        "//{n}/b",
        "/{n}/b/",
        "/{n}/b/.",
        "/{n}/./b",
        "/{n}\\b",
        "/{n}/a\\..\\b",
        "/{n}/b%00",
        "/{n}/b%00.css",
        "/{n}/b%0a",
        "/{n}/b%0d%0aX:%20evil",
        "/{n}/b%20",
        "/{n}/b%23evil",
        "/{n}/b%3fevil",
        "/{n}/b%3Bevil",
        "/{n}/b;evil",
        "/{n}/b;/x.css",
        "/{n}/B",
        "/{n}/%62",
        "/{n}/%2562",
        "/{n}/b%2e",
        "/{n}/b#evil",
        "/{n}/b%",
        "/{n}/b%zz",
        "/{n}/%c0%ae%c0%ae/b",
        "/{n}/%e2%80%a5/b",
        "/{n}/b\u{301}",
        "/{n}/\u{ff42}",
        "/{n}/b%ff",
        "/{n}/b:80",
        "/{n}/b@evil",
        "/{n}/b,evil",
        "/{n}/b|evil",
        "/{n}/b~",
        "/{n}/b!",
        "/{n}/b.css",
        "/{n}/b/x.css",
    ]
    .iter()
    .enumerate()
    {
        let number = number.to_string();
        confuses_nobody(&site, &odd.replace("{n}", &number), &format!("/{number}/b")).await;
    }
    site.sound();
}

#[tokio::test]
async fn a_page_for_one_client_is_not_stored_because_its_name_looks_static() {
    // As frameworks do: what follows the account's page in the path is not looked at, and nobody thought of caching.
    let site = Site::of(|asked| answer("200 OK", "", &format!("account of {}", asked.field("cookie")))).await;
    for host in HOSTS {
        for path in [
            "/account/a.css",
            "/account.css",
            "/account/a.js",
            "/account;a.png",
            "/account%2fa.css",
            "/account%00.css",
            "/account%0a.jpg",
            "/account%23.ico",
            "/account%3f.woff",
            "/account//a.svg",
            "/static/../account/a.css",
            "/static/..%2faccount",
            "/static/%2e%2e/account",
            "/account/favicon.ico",
            "/account/robots.txt",
            "/account?a.css",
        ] {
            let victim = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nCookie: victim\r\nConnection: close\r\n\r\n");
            assert_eq!(site.send(&victim).await.text(), "account of victim");
            assert_eq!(site.get(host, path).await.text(), "account of ", "{host}: {path}");
        }
    }
}

#[tokio::test]
async fn a_long_path_is_a_page_or_refused() {
    let site = Site::careless().await;
    for length in [1000, 8000, 60_000, 70_000, 1 << 20] {
        let long = format!("/{}", "a".repeat(length));
        for host in HOSTS {
            let longer = site.get(host, &format!("{long}b")).await;
            let answer = site.get(host, &long).await;
            assert!(matches!(answer.status, 200 | 0 | 414 | 431), "{length}: {}", answer.head);
            assert!(answer.status != 200 || answer.text().starts_with(&format!("GET {long} HTTP/1.1\n")), "{length}");
            assert!(longer.status != 200 || longer.text().starts_with(&format!("GET {long}b HTTP/1.1\n")), "{length}");
        }
    }
}

#[tokio::test]
async fn what_a_client_writes_does_not_split_an_answer() {
    // A redirection to wherever the client says, decoded: what servers that can be split do.
    let site = Site::of(|asked| {
        let place = asked.target().replace("%0d", "\r").replace("%0a", "\n").replace("%00", "\0").replace("%20", " ");
        answer("302 Found", &format!("Cache-Control: max-age=3600\r\nLocation: {place}\r\n"), "")
    })
    .await;
    for tail in ["%0dX-Evil:%201", "%0aX-Evil:%201", "%00", "%0d%0d"] {
        for host in HOSTS {
            let answer = site.get(host, &format!("{}{tail}", site.page())).await;
            let lines: Vec<_> = answer.head.split(['\r', '\n']).filter(|line| line.starts_with("X-Evil")).collect();
            assert!(lines.is_empty() && answer.rest.is_empty(), "{host}: {tail}: {:?}", answer.head);
            assert!(!answer.head.contains('\0') && !answer.head.replace("\r\n", "").contains(['\r', '\n']), "{tail}");
        }
    }
}

#[tokio::test]
async fn a_request_that_two_servers_could_read_differently_reaches_the_origin_in_one_way_or_not_at_all() {
    let site = Site::careless().await;
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: {host}\r\nX: ";
    for (framing, body) in [
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"),
        ("Content-Length: 60\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        ("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"),
        ("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n"),
        ("Transfer-Encoding: identity, chunked\r\n", "0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", "0\r\n\r\n"),
        ("Transfer-Encoding:\x0bchunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"),
        ("Transfer-Encoding : chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"),
        (" Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"),
        ("X: y\r\n Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"),
        ("X: y\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"),
        ("Transfer_Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"),
        ("Content-Length: 0\r\nContent-Length: 5\r\n", "12345"),
        ("Content-Length: 5\r\nContent-Length: 5\r\n", "12345"),
        ("Content-Length: 5, 5\r\n", "12345"),
        ("Content-Length: +5\r\n", "12345"),
        ("Content-Length: 0x5\r\n", "12345"),
        ("Content-Length: -5\r\n", "12345"),
        ("Content-Length: 5 5\r\n", "12345"),
        ("Content-Length: 99999999999999999999\r\n", "12345"),
        ("Content-Length : 5\r\n", "12345"),
        ("Transfer-Encoding: chunked\r\n", "5;a=b\r\n12345\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", "5\n12345\n0\n\n"),
        ("Transfer-Encoding: chunked\r\n", "05\r\n12345\r\n00\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", "-1\r\n12345\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", "0x5\r\n12345\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", "5\r\n123456\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", "FFFFFFFFFFFFFFFF1\r\n12345\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", "0\r\nContent-Length: 5\r\nHost: evil\r\n\r\n"),
        ("", ""),
    ] {
        for method in ["POST", "GET"] {
            for host in HOSTS {
                let page = site.page();
                let before = site.origin.seen().len();
                let request = format!("{method} {page} HTTP/1.1\r\nHost: {host}\r\n{framing}\r\n{body}");
                let tail = format!("{}evil\r\nConnection: close\r\n\r\n", smuggled.replace("{host}", host));
                let answer = site.send(&format!("{request}{tail}")).await;
                let answers = 1 + String::from_utf8_lossy(&answer.rest).matches("HTTP/1.1 ").count();
                let seen = &site.origin.seen()[before..];
                assert!(seen.len() <= answers, "{framing:?} {body:?}: {seen:?} for {answers} answers: {answer:?}");
                let plain = site.get(host, &page).await;
                assert_eq!(plain.status, 200, "{framing:?}");
                assert!(!plain.text().contains("12345") && !plain.text().contains("evil"), "{}", plain.text());
            }
        }
    }
    site.sound();
}

#[tokio::test]
async fn a_field_that_nobody_has_heard_of_is_the_origins_to_name_in_vary() {
    // What the tests above would see of a page that is poisoned: here it is, and RFC 9111 section 4.1 wants it so.
    let site = Site::careless().await;
    for host in HOSTS {
        let page = site.page();
        site.send(&with("X-Unheard-Of: evil\r\n").replace("{page}", &page).replace("{host}", host)).await;
        let second = site.get(host, &page).await;
        assert!(second.text().contains("x-unheard-of: evil"), "{host}");
        let hit =
            second.head.contains("cache-status: lone; hit") || second.head.contains("cache-status: lone/front; hit");
        assert!(hit, "{host}: {}", second.head);
    }
}

#[tokio::test]
async fn whoever_waits_for_the_same_page_does_not_get_the_error_of_the_odd_one_before() {
    // Slow, so that all of them wait for one answer.
    let origin = tests::Stub::after(std::time::Duration::from_millis(100), |request| {
        let response = http::Response::builder();
        match request.headers().get("x-odd") {
            Some(status) => response.status(status.to_str().unwrap()).body("evil".to_owned()),
            None => response.header("cache-control", "max-age=60").body("page".to_owned()),
        }
        .unwrap()
    })
    .await;
    let pop = Lone::for_all(origin.address, &[]).await;
    for status in ["400", "403", "404", "405", "431", "500", "503"] {
        for host in HOSTS {
            let plain = format!("GET /{status} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
            let odd = plain.replace("Connection", &format!("X-Odd: {status}\r\nConnection"));
            origin.seen.lock().unwrap().clear();
            let first = tokio::spawn(exchange(pop.address, odd));
            let seen = std::sync::Arc::clone(&origin.seen);
            tests::eventually("the odd one has asked", async || !seen.lock().unwrap().is_empty()).await;
            let others = futures::future::join_all((0..5).map(|_| exchange(pop.address, plain.clone()))).await;
            assert_eq!(first.await.unwrap().status.to_string(), status);
            for other in others {
                assert_eq!((other.status, other.text().as_str()), (200, "page"), "{host}: after {status}");
            }
        }
    }
}

#[tokio::test]
async fn over_http_2_the_authority_counts_and_a_host_that_differs_does_not() {
    let site = Site::careless().await;
    for host in HOSTS {
        let page = site.page();
        let stream = tokio::net::TcpStream::connect(site.pop.address).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http2::handshake(
            hyper_util::rt::TokioExecutor::new(),
            hyper_util::rt::TokioIo::new(stream),
        )
        .await
        .unwrap();
        tokio::spawn(connection);
        for (authority, field) in [(host, "evil.example"), ("evil.example", host)] {
            let request = http::Request::get(format!("http://{authority}{page}")).header("host", field);
            let request = request.header("x-forwarded-host", "evil").header("te", "trailers");
            let response = sender.send_request(request.body(String::new()).unwrap()).await.unwrap();
            assert!(matches!(response.status().as_u16(), 200 | 400 | 404), "{authority} {field}: {response:?}");
        }
        let plain = site.page();
        let (got, other) = (site.get(host, &page).await, site.get(host, &plain).await);
        assert_eq!(got.text(), other.text().replace(&plain, &page));
    }
    site.sound();
}
