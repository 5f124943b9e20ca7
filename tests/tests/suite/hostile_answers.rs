//! Answers of origins that are broken, contradict themselves, or mean harm: what the client gets now, and what the next one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tests::client::{Answer, exchange};
use tests::lone::HOSTS;
use tests::wire::{Then, answer};
use tests::{Lone, Wire};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// What each page answers, and what follows it.
type Pages = Arc<Mutex<HashMap<String, (Vec<u8>, Then)>>>;

/// A PoP, and an origin that says for each page what a test wants it to.
struct Site {
    pop: Lone,
    origin: Wire,
    pages: Pages,
}

impl Site {
    async fn start() -> Self {
        let pages: Pages = Arc::default();
        let known = Arc::clone(&pages);
        let origin = Wire::start(move |asked| {
            let known = known.lock().unwrap();
            known.get(asked.target()).cloned().unwrap_or_else(|| answer("404 Not Found", "", ""))
        })
        .await;
        let pop = Lone::for_all(origin.address, &[("--cache", "64MiB")]).await;
        Self { pop, origin, pages }
    }

    /// A page with this answer.
    fn page(&self, answer: (Vec<u8>, Then)) -> String {
        let mut pages = self.pages.lock().unwrap();
        let page = format!("/page-{}", pages.len());
        pages.insert(page.clone(), answer);
        page
    }

    /// `GET`, with these further lines.
    async fn get(&self, host: &str, page: &str, lines: &str) -> Answer {
        let request = format!("GET {page} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{lines}\r\n");
        exchange(self.pop.address, request).await
    }

    /// How often the origin was asked for a page.
    fn asked(&self, page: &str) -> usize {
        self.origin.seen().iter().filter(|asked| asked.target() == page).count()
    }

    /// What two clients get, one after the other, and how often the origin is asked for that.
    async fn twice(&self, host: &str, response: &(Vec<u8>, Then)) -> (Answer, Answer, usize) {
        let page = self.page(response.clone());
        let first = self.get(host, &page, "").await;
        let second = self.get(host, &page, "").await;
        (first, second, self.asked(&page))
    }

    /// These fields on a 200 make both clients get the body, out of the origin so many times.
    async fn asks(&self, times: usize, fields: &str) {
        for host in HOSTS {
            let (first, second, asked) = self.twice(host, &answer("200 OK", fields, "body")).await;
            let told = &fields[..fields.len().min(300)];
            assert_eq!((first.status, first.text().as_str(), first.whole), (200, "body", true), "{host}: {told}");
            assert_eq!((second.status, second.text().as_str(), second.whole), (200, "body", true), "{host}: {told}");
            assert_eq!(asked, times, "{host}: {told}\n{}", second.head);
        }
    }

    /// The PoP still answers, for a page that is as it should be.
    async fn lives(&self) {
        self.asks(1, "Cache-Control: max-age=60\r\n").await;
    }
}

const PAST: &str = "Thu, 01 Jan 2015 00:00:00 GMT";
const NEVER: &str = "Fri, 31 Dec 9999 23:59:59 GMT";

#[tokio::test]
async fn dates_beyond_all_measure_are_dates_and_those_that_are_none_have_passed() {
    let site = Site::start().await;
    for (times, fields) in [
        (1, format!("Expires: {NEVER}\r\n")),
        (1, format!("Date: {NEVER}\r\nCache-Control: max-age=60\r\n")),
        (2, format!("Date: {NEVER}\r\nExpires: {PAST}\r\n")),
        (2, "Expires: Wed, 31 Dec 1969 23:59:59 GMT\r\n".to_owned()),
        (2, "Expires: Mon, 01 Jan 0001 00:00:00 GMT\r\n".to_owned()),
        (2, "Expires: 0\r\n".to_owned()),
        (2, "Expires: -1\r\n".to_owned()),
        (2, "Expires: \r\n".to_owned()),
        (2, "Expires: Fri, 32 Dec 2099 23:59:59 GMT\r\n".to_owned()),
        (2, "Expires: Fri, 31 Dec 99999 23:59:59 GMT\r\n".to_owned()),
        (2, "Expires: 4102444800\r\n".to_owned()),
        (2, format!("Expires: {PAST}\r\nExpires: {NEVER}\r\n")),
        (2, format!("Last-Modified: {NEVER}\r\n")),
        (2, "Last-Modified: yesterday\r\n".to_owned()),
        (1, "Last-Modified: Thu, 01 Jan 1970 00:00:00 GMT\r\n".to_owned()),
        (2, "Date: Thu, 01 Jan 1970 00:00:00 GMT\r\nCache-Control: max-age=60\r\n".to_owned()),
    ] {
        site.asks(times, &fields).await;
    }
}

#[tokio::test]
async fn a_lifetime_that_is_no_number_is_none_and_one_that_is_too_large_is_bounded() {
    let site = Site::start().await;
    for (times, control) in [
        (2, "max-age=-1"),
        (2, "max-age=1.5"),
        (2, "max-age=1e9"),
        (2, "max-age=0x60"),
        (2, "max-age="),
        (2, "max-age"),
        (2, "max-age=sixty"),
        (2, "max-age=\u{0663}\u{0666}"),
        (2, "s-maxage=-1, max-age=60"),
        (1, "max-age=99999999999999999999999999"),
        (1, "max-age=18446744073709551615"),
        (1, "max-age=60, stale-while-revalidate=99999999999999999999, stale-if-error=18446744073709551615"),
        (1, "max-age=60, stale-while-revalidate=-1, stale-if-error=x"),
        (1, "max-age=60, , ,=, =\"\", x=\"\\\""),
    ] {
        site.asks(times, &format!("Cache-Control: {control}\r\n")).await;
    }
    let empty = ",".repeat(20_000);
    site.asks(1, &format!("Cache-Control: {empty}max-age=60\r\n")).await;
    site.asks(2, &format!("Cache-Control: max-age=60\r\nAge: {}\r\n", "9".repeat(1000))).await;
}

#[tokio::test]
async fn of_directives_that_contradict_each_other_the_stricter_one_counts() {
    let site = Site::start().await;
    for control in [
        "no-store, max-age=60",
        "max-age=60, no-store",
        "public, private, max-age=60",
        "max-age=60, private",
        "max-age=60, PRIVATE",
        "immutable, max-age=60, no-store",
        "max-age=60, no-cache",
        "max-age=60\r\nCache-Control: no-store",
        "s-maxage=0, max-age=60",
        "max-age=0, max-age=60",
        "max-age=60, no-store=\"x\"",
        "max-age=60, private=\"",
    ] {
        site.asks(2, &format!("Cache-Control: {control}\r\n")).await;
    }
}

#[tokio::test]
async fn a_connection_field_does_not_hide_who_may_keep_an_answer() {
    let site = Site::start().await;
    for hidden in ["Cache-Control: no-store", "Cache-Control: private", "CDN-Cache-Control: no-store", "Expires: 0"] {
        let (name, _) = hidden.split_once(':').unwrap();
        site.asks(2, &format!("Connection: {name}\r\n{hidden}\r\nLast-Modified: {PAST}\r\n")).await;
    }
    site.asks(2, "Connection: set-cookie\r\nSet-Cookie: id=1\r\nCache-Control: max-age=60\r\n").await;
    site.asks(2, "Connection: vary\r\nVary: *\r\nCache-Control: max-age=60\r\n").await;
    site.asks(2, &format!("Connection: age\r\nAge: 100\r\nCache-Control: max-age=60\r\nETag: \"{}\"\r\n", "x")).await;
}

#[tokio::test]
async fn what_varies_by_everything_is_for_one_and_by_a_thousand_fields_for_those_who_are_alike() {
    let site = Site::start().await;
    for vary in ["*", "Accept, *", "*, *", "a b", "\"", "Accept\r\nVary: *"] {
        site.asks(2, &format!("Cache-Control: max-age=60\r\nVary: {vary}\r\n")).await;
    }
    let names: Vec<_> = (0..1000).map(|number| format!("X-{number}")).collect();
    let page =
        site.page(answer("200 OK", &format!("Cache-Control: max-age=60\r\nVary: {}\r\n", names.join(",")), "body"));
    for host in HOSTS {
        assert_eq!(site.get(host, &page, "").await.text(), "body");
        assert_eq!(site.get(host, &page, "X-999: other\r\n").await.text(), "body");
        let alike = site.get(host, &page, "").await;
        assert!(alike.status == 200 && alike.text() == "body", "{}", alike.head);
    }
    let asked = site.asked(&page);
    assert!((4..=6).contains(&asked), "kept apart by each of its names, or not kept: {asked}");
    site.lives().await;
}

#[tokio::test]
async fn a_body_that_is_not_what_its_fields_say_passes_as_it_is() {
    let site = Site::start().await;
    for fields in [
        "Content-Encoding: gzip\r\n",
        "Content-Encoding: gzip, gzip, br, evil\r\n",
        "Content-Encoding: \r\n",
        "Content-Type: application/x-gzip\r\nContent-Encoding: identity\r\n",
        "Content-Type: \r\n",
        "Content-Type: text/html; charset=\"\r\n",
        "Content-MD5: none\r\nDigest: sha-256=none\r\n",
        "Content-Range: bytes 0-1/99999\r\n",
        "Content-Location: http://[\r\n",
        "ETag: \"\r\n",
        "ETag: W/\r\n",
        "ETag: none\r\nETag: \"other\"\r\n",
        "Accept-Ranges: none\r\n",
        "Trailer: Content-Length\r\n",
    ] {
        site.asks(1, &format!("Cache-Control: max-age=60\r\n{fields}")).await;
    }
}

#[tokio::test]
async fn a_validator_that_is_none_is_of_no_harm() {
    let site = Site::start().await;
    let long = "x".repeat(50_000);
    for tag in ["\"", "W/", "none", "\"a\" \"b\"", "W/\"a", "\u{e9}", &format!("\"{long}\"")] {
        let fields = format!("Cache-Control: max-age=60\r\nETag: {tag}\r\nLast-Modified: never\r\n");
        let page = site.page(answer("200 OK", &fields, "body"));
        for host in HOSTS {
            for lines in [
                "",
                "If-None-Match: \"\r\n",
                "If-None-Match: *\r\n",
                "If-Match: W/\r\n",
                "Range: bytes=0-1\r\nIf-Range: \"\r\n",
            ] {
                let answer = site.get(host, &page, lines).await;
                let fits = match answer.status {
                    200 => answer.text() == "body",
                    206 => answer.text() == "bo",
                    304 | 412 => true,
                    _ => false,
                };
                assert!(
                    fits,
                    "{host}: {}: {lines}: {}",
                    &tag[..tag.len().min(50)],
                    &answer.head[..answer.head.len().min(500)]
                );
            }
        }
    }
    site.lives().await;
}

#[tokio::test]
async fn a_body_that_is_cut_off_breaks_off_for_the_client_and_is_not_kept() {
    let site = Site::start().await;
    let fields = "Cache-Control: max-age=60\r\nETag: \"a\"\r\n";
    for head in [
        format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 100\r\n\r\nbody"),
        format!("HTTP/1.1 200 OK\r\n{fields}Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n"),
        format!("HTTP/1.1 200 OK\r\n{fields}Transfer-Encoding: chunked\r\n\r\n64\r\nbody"),
        format!("HTTP/1.1 200 OK\r\n{fields}Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n"),
        format!("HTTP/1.1 200 OK\r\n{fields}Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\nzz\r\n"),
        format!("HTTP/1.1 200 OK\r\n{fields}Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\nFFFFFFFFFFFFFFFFF\r\n"),
    ] {
        for host in HOSTS {
            let (first, second, asked) = site.twice(host, &(head.clone().into_bytes(), Then::Close)).await;
            for answer in [first, second] {
                assert!(!answer.whole || answer.status >= 500, "{host}: {head}: {answer:?}");
            }
            assert_eq!(asked, 2, "{host}: {head}");
        }
    }
    site.lives().await;
}

#[tokio::test]
async fn what_follows_a_body_is_nobodys_answer() {
    let site = Site::start().await;
    let evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nCache-Control: max-age=60\r\n\r\nevil";
    for (status, framing) in [
        ("200 OK", "Content-Length: 4\r\n\r\nbody"),
        ("200 OK", "Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n"),
        ("204 No Content", "\r\n"),
        ("204 No Content", "Content-Length: 4\r\n\r\n"),
        ("304 Not Modified", "\r\n"),
        ("200 OK", "Content-Length: 0\r\n\r\n"),
    ] {
        let page = site.page((format!("HTTP/1.1 {status}\r\n{framing}{evil}").into_bytes(), Then::Wait));
        for host in HOSTS {
            for _ in 0..3 {
                site.get(host, &page, "").await;
                let other = site.page(answer("200 OK", "", "other"));
                let got = site.get(host, &other, "").await;
                assert_eq!((got.status, got.text().as_str()), (200, "other"), "{host}: after {status} {framing:?}");
            }
        }
    }
}

#[tokio::test]
async fn two_lengths_or_two_framings_are_refused_or_read_in_the_one_way_and_not_kept() {
    let site = Site::start().await;
    for framing in [
        "Content-Length: 4\r\nContent-Length: 8\r\n\r\nbodyevil",
        "Content-Length: 4, 8\r\n\r\nbodyevil",
        "Content-Length: +4\r\n\r\nbody",
        "Content-Length: -4\r\n\r\nbody",
        "Content-Length: 4x\r\n\r\nbody",
        "Content-Length: 18446744073709551616\r\n\r\nbody",
    ] {
        let bytes = format!("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n{framing}").into_bytes();
        for host in HOSTS {
            let (first, second, asked) = site.twice(host, &(bytes.clone(), Then::Close)).await;
            for answer in [first, second] {
                assert!(answer.status >= 500 || !answer.whole, "{host}: {framing}: {answer:?}");
            }
            assert_eq!(asked, 2, "{host}: {framing}");
        }
    }
    site.lives().await;
}

#[tokio::test]
async fn a_part_that_nobody_asked_for_is_not_the_whole() {
    let site = Site::start().await;
    for range in [
        "bytes 0-3/8",
        "bytes 4-7/8",
        "bytes 0-3/*",
        "bytes 0-3/4",
        "bytes 5-2/8",
        "bytes */8",
        "bytes 0-3",
        "lines 0-3/8",
        "bytes 0-18446744073709551615/*",
        "bytes 0-3/2",
        "bytes 0-99/100",
        "bytes=0-3",
        "",
    ] {
        let fields = format!("Cache-Control: max-age=60\r\nETag: \"a\"\r\nContent-Range: {range}\r\n");
        let response = answer("206 Partial Content", &fields, "body");
        for host in HOSTS {
            let (first, second, _) = site.twice(host, &response).await;
            for answer in [first, second] {
                assert!(answer.status != 200 || range == "bytes 0-3/4", "{host}: {range}: {answer:?}");
            }
            // Nor for who asks for a part, if it is not the one.
            let page = site.page(response.clone());
            for lines in ["Range: bytes=0-3\r\n", "Range: bytes=2-5\r\n", "Range: bytes=0-\r\n", ""] {
                let got = site.get(host, &page, lines).await;
                assert!(got.status != 200 || range == "bytes 0-3/4", "{host}: {range}: {lines}: {got:?}");
            }
        }
    }
    let plain = answer("206 Partial Content", "Cache-Control: max-age=60\r\n", "body");
    for host in HOSTS {
        let (_, second, asked) = site.twice(host, &plain).await;
        assert!(second.status != 200 && asked == 2, "{host}: {second:?}");
    }
    site.lives().await;
}

#[tokio::test]
async fn a_304_or_a_416_that_nobody_asked_for_is_for_one() {
    let site = Site::start().await;
    for status in ["304 Not Modified", "416 Range Not Satisfiable"] {
        let fields = format!("Last-Modified: {PAST}\r\nETag: \"a\"\r\nContent-Range: bytes */4\r\n");
        let bytes = format!(
            "HTTP/1.1 {status}\r\n{fields}{}\r\n",
            if status.starts_with("416") { "Content-Length: 0\r\n" } else { "" }
        );
        for host in HOSTS {
            let (first, second, asked) = site.twice(host, &(bytes.clone().into_bytes(), Then::Wait)).await;
            assert_eq!((first.status, asked), (second.status, 2), "{host}: {status}");
            assert!(first.body.is_empty() || first.status >= 400, "{host}: {first:?}");
        }
    }
    site.lives().await;
}

#[tokio::test]
async fn a_304_for_a_representation_that_is_not_stored_has_the_origin_asked_again() {
    let site = Site::start().await;
    let page = site.page(answer("200 OK", "Cache-Control: max-age=0\r\nETag: \"1\"\r\n", "old"));
    let change = |response| site.pages.lock().unwrap().insert(page.clone(), response);
    for host in HOSTS {
        change(answer("200 OK", "Cache-Control: max-age=0\r\nETag: \"1\"\r\n", "old"));
        assert_eq!(site.get(host, &page, "").await.text(), "old");
        change(("HTTP/1.1 304 Not Modified\r\nETag: \"2\"\r\n\r\n".into(), Then::Wait));
        let before = site.asked(&page);
        // An origin that insists has given no response, and what is stored stands in.
        let answer = site.get(host, &page, "").await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "old"), "{host}: {}", answer.head);
        if host == "plain.example" {
            assert!(answer.field("cache-status").ends_with("detail=stale-if-error"), "{}", answer.head);
        }
        let seen = site.origin.seen();
        let asked: Vec<_> = seen.iter().filter(|asked| asked.target() == page).skip(before).collect();
        let conditions: Vec<_> = asked.iter().map(|asked| asked.field("if-none-match")).collect();
        assert_eq!(conditions, ["\"1\"", ""], "{host}: once more, without the condition");
    }
    site.lives().await;
}

#[tokio::test]
async fn an_origin_that_names_another_representation_in_a_304_is_asked_for_that_one() {
    let origin = Wire::start(|asked| {
        let fields = "Cache-Control: max-age=0\r\nETag: \"2\"\r\n";
        match (asked.field("if-none-match"), asked.field("x-first")) {
            ("", "yes") => answer("200 OK", "Cache-Control: max-age=0\r\nETag: \"1\"\r\n", "old"),
            ("", _) => answer("200 OK", fields, "new"),
            _ => (format!("HTTP/1.1 304 Not Modified\r\n{fields}\r\n").into_bytes(), Then::Wait),
        }
    })
    .await;
    let pop = Lone::for_all(origin.address, &[]).await;
    for host in HOSTS {
        let get = |lines: &str| format!("GET /a HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{lines}\r\n");
        assert_eq!(exchange(pop.address, get("X-First: yes\r\n")).await.text(), "old", "{host}");
        let second = exchange(pop.address, get("")).await;
        assert_eq!((second.status, second.text().as_str()), (200, "new"), "{host}: {}", second.head);
        // Now it is what is stored, and confirmed.
        let third = exchange(pop.address, get("")).await;
        assert_eq!((third.status, third.text().as_str()), (200, "new"), "{host}: {}", third.head);
        assert!(third.field("cache-status").contains("fwd-status=304"), "{host}: {}", third.head);
    }
}

#[tokio::test]
async fn interim_responses_are_waited_through_and_a_flood_of_them_is_cut_off() {
    let site = Site::start().await;
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n";
    for host in HOSTS {
        let (last, then) = answer("200 OK", "", "body");
        let few = site.page(([hints.repeat(20).into_bytes(), last].concat(), then));
        let page = site.get(host, &few, "").await;
        assert_eq!((page.status, page.text().as_str()), (200, "body"), "{host}");
        let endless = site.page((Vec::new(), Then::Repeat(hints.repeat(50).into_bytes())));
        let flood = site.get(host, &endless, "").await;
        let status = if host == "plain.example" { 502 } else { 500 };
        assert_eq!((flood.status, flood.whole), (status, true), "{host}: {}", flood.head);
    }
    site.lives().await;
}

#[tokio::test]
async fn a_status_that_there_is_not_passes_or_is_an_error_and_the_pop_lives() {
    let site = Site::start().await;
    for status in [
        "99 Low",
        "100",
        "199 Early",
        "600 High",
        "999 Highest",
        "1000 Higher",
        "0 None",
        "-1 Negative",
        "20 Short",
        "200",
        "abc",
    ] {
        let bytes =
            format!("HTTP/1.1 {status}\r\nCache-Control: max-age=60\r\nContent-Length: 4\r\n\r\nbody").into_bytes();
        for host in HOSTS {
            let (first, second, _) = site.twice(host, &(bytes.clone(), Then::Close)).await;
            assert!(first.status >= 200 && first.status == second.status, "{host}: {status}: {first:?} {second:?}");
        }
    }
    for line in
        ["", "HTTP/1.1", "HTTP/9.9 200 OK", "HTTP/1.1200 OK", "ICY 200 OK", "<html>", "\0\0\0\0", "HTTP/1.1\t200\tOK"]
    {
        let bytes = format!("{line}\r\nContent-Length: 4\r\n\r\nbody").into_bytes();
        for host in HOSTS {
            let (first, second, asked) = site.twice(host, &(bytes.clone(), Then::Close)).await;
            assert!(
                first.status >= 500 && second.status >= 500 && asked == 2,
                "{host}: {line:?}: {first:?} {second:?}"
            );
        }
    }
    site.lives().await;
}

#[tokio::test]
async fn heads_that_are_too_large_are_an_error_of_the_origin_and_the_pop_lives() {
    let site = Site::start().await;
    let fields = "Cache-Control: max-age=60\r\n";
    for odd in [
        format!("Set-Cookie: {}\r\n", "x".repeat(1 << 20)),
        format!("X: {}\r\n", "x".repeat(10 << 20)),
        "X: y\r\n".repeat(10_000),
        format!("Set-Cookie: {}\r\n", "x".repeat(100_000)),
        "Set-Cookie: a=b\r\n".repeat(90),
    ] {
        for host in HOSTS {
            let (first, second, asked) = site.twice(host, &answer("200 OK", &format!("{fields}{odd}"), "body")).await;
            for answer in [first, second] {
                assert!(
                    answer.status == 502 || (answer.status == 500 && host != HOSTS[1]) || answer.text() == "body",
                    "{host}: {:?}",
                    answer.head.get(..300)
                );
            }
            assert_eq!(asked, 2, "{host}: {} bytes", odd.len());
        }
    }
    site.lives().await;
}

#[tokio::test]
async fn places_that_are_none_invalidate_nothing_but_the_page_itself() {
    let site = Site::start().await;
    let long = format!("/{}", "x".repeat(50_000));
    for place in ["http://[", "//", "", "http://", ":", "%", "\u{e9}", "http://a:99999/", "javascript:evil", &long] {
        let fields = format!("Cache-Control: max-age=60\r\nLocation: {place}\r\nContent-Location: {place}\r\n");
        for host in HOSTS {
            let page = site.page(answer("200 OK", &fields, "body"));
            assert_eq!(site.get(host, &page, "").await.text(), "body");
            let post =
                format!("POST {page} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            assert_eq!(exchange(site.pop.address, post).await.status, 200, "{host}: {place}");
            assert_eq!(site.get(host, &page, "").await.text(), "body");
            // An empty reference names the page: then the answer to POST is what it stands for now.
            let asked = if place.is_empty() { 2 } else { 3 };
            assert_eq!(site.asked(&page), asked, "{host}: {place}");
        }
    }
    site.lives().await;
}

#[tokio::test]
async fn a_body_without_end_costs_a_bounded_share_of_memory_and_ends_with_its_client() {
    let site = Site::start().await;
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(65_536)).into_bytes();
    let head = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    site.lives().await;
    let before = site.pop.resident();
    for host in HOSTS {
        let page = site.page((head.clone(), Then::Repeat(chunk.clone())));
        let mut readers = Vec::new();
        for _ in 0..4 {
            let mut stream = tokio::net::TcpStream::connect(site.pop.address).await.unwrap();
            stream.write_all(format!("GET {page} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).await.unwrap();
            readers.push(stream);
        }
        let mut buffer = vec![0; 1 << 20];
        for stream in &mut readers {
            let mut read = 0;
            while read < 100 << 20 {
                match stream.read(&mut buffer).await {
                    Ok(0) | Err(_) => break,
                    Ok(some) => read += some,
                }
            }
        }
        let grown = site.pop.resident().saturating_sub(before) >> 20;
        assert!(grown < 300, "{host}: {grown} MiB for bodies that are not kept");
    }
    site.lives().await;
}
