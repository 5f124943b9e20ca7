//! Heads as an attacker would write them: nearly right, and anything else. Two requests and the answer to the first, all of
//! them edited at random; what the second client gets from the store is judged by a small reading of RFC 9111 that knows
//! nothing of the cache's own. Where the text is too strange for that reading, the cache must only not fall over.
//!
//! `FUZZ_CASES=1000000 cargo test -p cache --test suite heads` is a long run.

#[path = "../../../../tests/src/near.rs"]
mod near;

use cache::policy::{
    ClientControl, Control, Demand, Exchange, Rules, freshness, invalidation, storing, validation, vary,
};
use cache::{Config, Outcome};
use http::header::{HeaderName, SET_COOKIE};
use http::{HeaderMap, HeaderValue, Method, Request};
use proptest::prelude::*;

use crate::support::*;

const REQUESTS: [&str; 10] = [
    "GET http://example.com/a\naccept: text/html, */*;q=0.1\naccept-encoding: gzip, br\nuser-agent: x\n",
    "GET http://example.com/a\nauthorization: Bearer x\ncookie: id=1\nx-variant: 1\n",
    "GET http://example.com/a\nrange: bytes=0-3\nif-range: \"a\"\n",
    "GET http://example.com/a\nrange: bytes=-2,1-,0-0\naccept-language: de, en;q=0.5\n",
    "GET http://example.com/a\nif-none-match: W/\"a\", \"b\"\nif-modified-since: Tue, 14 Nov 2023 22:13:20 GMT\n",
    "GET http://example.com/a\nif-match: *\nif-unmodified-since: Sunday, 06-Nov-94 08:49:37 GMT\n",
    "GET http://example.com/a\ncache-control: no-cache, max-age=0, only-if-cached, min-fresh=5, max-stale\npragma: no-cache\n",
    "HEAD http://example.com/a\nx-variant: 2\n",
    "POST http://example.com/a\ncontent-length: 0\n",
    "GET http://example.com/a\nconnection: close, x-variant\nte: trailers\nupgrade: h2c\n",
];

const RESPONSES: [&str; 17] = [
    "200\ncache-control: max-age=10\netag: \"a\"\n",
    "200\ncache-control: public, s-maxage=20, max-age=5, stale-while-revalidate=30, stale-if-error=60\nage: 3\n",
    "200\ncache-control: max-age=10, stale-while-revalidate=30\nvary: accept-language\n",
    "200\ncache-control: private, max-age=60\nset-cookie: id=1\n",
    "200\ncache-control: no-store, must-understand\n",
    "200\ncache-control: max-age=60, no-cache=\"set-cookie, x-user\", private=\"x-user\"\nset-cookie: a\nx-user: b\n",
    "200\ncache-control: max-age=20, must-revalidate\nvary: x-variant, accept-encoding\netag: W/\"a\"\n",
    "200\ncache-control: max-age=60\nvary: *\n",
    "200\nexpires: Tue, 14 Nov 2023 22:13:30 GMT\ndate: Tue, 14 Nov 2023 22:13:20 GMT\n",
    "200\nlast-modified: Mon, 13 Nov 2023 22:13:20 GMT\ndate: Tuesday, 14-Nov-23 22:13:20 GMT\n",
    "200\ncdn-cache-control: max-age=30, stale-if-error=9\ncache-control: no-store\nsurrogate-control: max-age=5\n",
    "404\ncache-control: max-age=15, immutable\ncontent-type: text/plain; charset=\"utf-8\"\n",
    "206\ncontent-range: bytes 0-3/8\ncache-control: max-age=60\netag: \"a\"\n",
    "301\nlocation: /b\ncontent-location: http://example.com/c\n",
    "304\netag: \"a\"\ncache-control: max-age=9\ncontent-length: 7\n",
    "200\nconnection: x-hop, cache-control\nx-hop: 1\nkeep-alive: 5\ncache-control: max-age=60\ncontent-length: 5\n",
    "503\nretry-after: 9\ncache-control: max-age=2147483648, s-maxage=18446744073709551616\ncache-tag: a, b\n",
];

const BODY: &str = "the-body";

/// A first line and the fields, of which those that are none are left out.
fn parse(text: &[u8]) -> (String, HeaderMap) {
    let mut lines = text.split(|byte| *byte == b'\n');
    let first = String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
    let mut headers = HeaderMap::new();
    for line in lines {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let name = HeaderName::from_bytes(&line[..colon]);
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    (first, headers)
}

fn request_of(text: &[u8]) -> Request<()> {
    let (line, headers) = parse(text);
    let (method, uri) = line.split_once(' ').unwrap_or(("GET", &line));
    let mut request = Request::new(());
    *request.method_mut() = method.parse().unwrap_or(Method::GET);
    *request.uri_mut() = uri.parse().unwrap_or_else(|_| http::Uri::from_static("http://example.com/a"));
    *request.headers_mut() = headers;
    request
}

fn reply_of(text: &[u8], body: &'static str) -> (u16, HeaderMap, FromOrigin) {
    let (line, headers) = parse(text);
    let status = line.parse().ok().filter(|status| (200..1000).contains(status)).unwrap_or(200);
    let mut response = Reply::new(status, body).send().unwrap();
    *response.headers_mut() = headers.clone();
    (status, headers, Ok(response))
}

/// A field's lines as one.
fn joined(headers: &HeaderMap, name: &str) -> Vec<u8> {
    headers.get_all(name).iter().map(HeaderValue::as_bytes).collect::<Vec<_>>().join(&b","[..])
}

/// Directives of the plainest form: tokens, and tokens or quoted tokens behind `=`. `None` when there is anything else, or
/// one twice.
fn directives(headers: &HeaderMap) -> Option<Vec<(String, Option<String>)>> {
    let text = String::from_utf8(joined(headers, "cache-control")).ok()?;
    let token = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let mut found: Vec<(String, Option<String>)> = Vec::new();
    for member in text.split(',').map(str::trim).filter(|member| !member.is_empty()) {
        let (name, value) = member.split_once('=').map_or((member, None), |(name, value)| (name, Some(value)));
        let value = value.map(|value| value.trim_matches('"'));
        let name = name.to_ascii_lowercase();
        if !token(&name) || value.is_some_and(|value| !token(value)) || found.iter().any(|(own, _)| *own == name) {
            return None;
        }
        found.push((name, value.map(str::to_owned)));
    }
    Some(found)
}

/// What the first exchange was.
struct First {
    method: Method,
    request: HeaderMap,
    status: u16,
    response: HeaderMap,
}

/// What is wrong with an answer out of the store, so many seconds later.
fn judge(first: &First, again: &Request<()>, second: &Answer, pause: u64) -> Result<(), String> {
    let wrong = |why: &str| Err(why.to_owned());
    if first.method != Method::GET || matches!(first.status, 304 | 100..200) {
        return wrong("an answer that no GET brought");
    }
    if second.headers.contains_key(SET_COOKIE) {
        return wrong("somebody's cookie");
    }
    if ["connection", "keep-alive", "transfer-encoding"].iter().any(|name| second.headers.contains_key(*name)) {
        return wrong("a field of one connection");
    }
    for name in String::from_utf8_lossy(&joined(&first.response, "vary")).split(',').map(str::trim) {
        let negotiated = ["accept", "accept-charset", "accept-encoding", "accept-language"];
        let value = |headers: &HeaderMap| {
            joined(headers, name).into_iter().filter(|byte| !byte.is_ascii_whitespace()).collect::<Vec<_>>()
        };
        let known = negotiated.iter().any(|known| known.eq_ignore_ascii_case(name));
        if name == "*" || (!known && !name.is_empty() && value(&first.request) != value(again.headers())) {
            return wrong("another variant");
        }
    }
    let targeted = ["cdn-cache-control", "skerry-cdn-cache-control", "surrogate-control"];
    if let Some(directives) = directives(&first.response)
        && !targeted.iter().any(|name| first.response.contains_key(*name))
    {
        judge_by(&directives, first, second, pause)?;
    }
    judge_body(again, second, pause)
}

/// What `Cache-Control`, of the plainest form and alone, does not allow.
fn judge_by(directives: &[(String, Option<String>)], first: &First, second: &Answer, pause: u64) -> Result<(), String> {
    let get = |name: &str| directives.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_deref());
    let has = |name: &str| get(name).is_some();
    // Too large a number is as large as can be; what is none is nothing.
    let number = |text: &str| match text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => text.parse::<u64>().unwrap_or(u64::MAX),
        false => 0,
    };
    let seconds = |name: &str| get(name).map(|value| value.map_or(0, number));
    let wrong = |why: &str| Err(format!("{why}: {directives:?}"));
    if has("no-store") && !has("must-understand") {
        return wrong("no-store");
    }
    if get("private") == Some(None) {
        return wrong("private");
    }
    let shares = has("public") || has("must-revalidate") || has("s-maxage");
    if first.request.contains_key("authorization") && !shares {
        return wrong("somebody's answer");
    }
    if get("no-cache") == Some(None) {
        return wrong("not validated");
    }
    let day = 24 * 3600;
    let longest = match seconds("s-maxage").or(seconds("max-age")) {
        Some(lifetime) => lifetime,
        None if first.response.contains_key("expires") => u64::MAX,
        None => day,
    };
    let within = |name: &str| longest.saturating_add(seconds(name).unwrap_or(0));
    let in_time = match second.outcome {
        Outcome::Stale if has("must-revalidate") || has("proxy-revalidate") || has("s-maxage") => {
            return wrong("stale, which is forbidden");
        }
        // The second answer of the origin may be an error.
        Outcome::Stale => pause < within("stale-while-revalidate") || pause <= within("stale-if-error"),
        _ => pause < longest,
    };
    if in_time { Ok(()) } else { wrong("too old") }
}

/// The body, and the fields that speak of it.
fn judge_body(again: &Request<()>, second: &Answer, pause: u64) -> Result<(), String> {
    let text = second.body.as_deref().map_err(|why| format!("a broken body: {why}"))?;
    let age = second.header("age");
    if age.parse::<u64>().ok().is_none_or(|age| age < pause) {
        return Err(format!("age {age:?} after {pause} s"));
    }
    let whole = match second.status {
        _ if again.method() == Method::HEAD => text.is_empty(),
        204 | 205 | 304 | 412 | 416 => text.is_empty(),
        206 => return judge_part(second, text),
        _ => text == BODY,
    };
    let length = second.header("content-length");
    let fits = match second.status {
        204 | 205 => matches!(length, "" | "0"),
        _ => again.method() == Method::HEAD || text.is_empty() || length == text.len().to_string(),
    };
    if whole && fits { Ok(()) } else { Err(format!("{} with {text:?} of {length:?} bytes", second.status)) }
}

fn judge_part(second: &Answer, text: &str) -> Result<(), String> {
    let range = second.header("content-range");
    let part = range.strip_prefix("bytes ").and_then(|range| range.split_once('/')).and_then(|(range, total)| {
        let (start, end) = range.split_once('-')?;
        Some((start.parse::<usize>().ok()?, end.parse::<usize>().ok()?, total.parse::<usize>().ok()?))
    });
    match part {
        // A part may have been stored as the part that the origin said it was: then its bytes are its own.
        Some((start, end, total)) if end < total && end - start + 1 == text.len() => {
            let own = BODY.get(start..=end);
            if total != BODY.len() || own == Some(text) { Ok(()) } else { Err(format!("{text:?} for {range}")) }
        }
        _ if second.header("content-type").starts_with("multipart/byteranges") => Ok(()),
        _ => Err(format!("{text:?} for {range:?}")),
    }
}

/// What a request is for: scheme, host, port, path with query. Without a host in its target, also what `Host` says.
fn place(request: &Request<()>) -> (String, String, u16, String, Vec<u8>) {
    let uri = request.uri();
    let scheme = uri.scheme_str().unwrap_or("http").to_ascii_lowercase();
    let port = uri.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let host = uri.host().map_or_else(|| joined(request.headers(), "host"), |_| Vec::new());
    (scheme, uri.host().unwrap_or_default().to_ascii_lowercase(), port, path, host)
}

/// Both exchanges; what the second client got, when that came from the store.
async fn run(texts: &[Vec<u8>; 4], pause: u64, confirms: bool) -> Result<Option<Outcome>, TestCaseError> {
    let [first, response, again, later] = texts;
    let world = World::with(Config { capacity_bytes: 1 << 20, ..Config::default() });
    let (request, again) = (request_of(first), request_of(again));
    let (status, fields, reply) = reply_of(response, BODY);
    let facts =
        First { method: request.method().clone(), request: request.headers().clone(), status, response: fields };
    let same = place(&request) == place(&again);
    if let Ok(answer) = world.run(request, move |_| async move { reply }).await {
        read_any(answer).await;
    }
    world.settled().await;
    world.pass(pause);
    let (_, _, mut reply) = reply_of(later, BODY);
    if let (true, Ok(reply)) = (confirms, &mut reply) {
        *reply.status_mut() = http::StatusCode::NOT_MODIFIED;
    }
    let asked = world.asked();
    let second = world.run(again.clone(), move |_| async move { reply }).await;
    let second = match second {
        Ok(second) => read_any(second).await,
        Err(_) => None,
    };
    world.settled().await;
    prop_assert!(world.cache.bytes() <= 1 << 20);
    prop_assert_eq!((world.cache.fills(), world.cache.fill_bytes()), (0, 0));
    let Some(second) = second else { return Ok(None) };
    let status = second.cache_status();
    prop_assert!(sfv::Parser::new(&status).parse::<sfv::List>().is_ok(), "Cache-Status: {}", status);
    if !matches!(second.outcome, Outcome::Hit | Outcome::Stale) {
        return Ok(None);
    }
    prop_assert!(same, "an answer to another URI");
    prop_assert!(second.outcome == Outcome::Stale || world.asked() == asked);
    if let Err(why) = judge(&facts, &again, &second, pause) {
        return Err(TestCaseError::fail(format!("{why}\n{second:?}\nof {:?}", facts.response)));
    }
    Ok(Some(second.outcome))
}

/// A response with text that may be none; `None` when its body broke off.
async fn read_any(response: http::Response<cache::Body>) -> Option<Answer> {
    use http_body_util::BodyExt as _;
    let (parts, body) = response.into_parts();
    let outcome = *parts.extensions.get::<Outcome>().expect("every response has an outcome");
    let body = body.collect().await.ok()?.to_bytes();
    let body = Ok(String::from_utf8_lossy(&body).into_owned());
    Some(Answer { status: parts.status.as_u16(), headers: parts.headers, outcome, body })
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn seeds(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

#[test]
fn the_seeds_are_about_something() {
    let (mut hits, mut stale) = (0, 0);
    for response in seeds(&RESPONSES) {
        for request in seeds(&REQUESTS) {
            for pause in [0, 12, 25] {
                let texts = [seeds(&REQUESTS)[0].clone(), response.clone(), request.clone(), response.clone()];
                match block_on(run(&texts, pause, false)).unwrap() {
                    Some(Outcome::Hit) => hits += 1,
                    Some(_) => stale += 1,
                    None => {}
                }
            }
        }
    }
    assert!(hits > 100 && stale > 5, "{hits} hits, {stale} stale");
}

#[test]
fn an_answer_that_should_not_be_is_seen() {
    let judged = |request: &str, response: &str, again: &str, outcome, pause: u64, change: &dyn Fn(&mut Answer)| {
        let (method, headers) = parse(request.as_bytes());
        let (status, fields, _) = reply_of(response.as_bytes(), BODY);
        let method = method.split(' ').next().unwrap().parse().unwrap();
        let first = First { method, request: headers, status, response: fields };
        let mut headers = HeaderMap::new();
        headers.insert("age", HeaderValue::from(pause));
        headers.insert("content-length", HeaderValue::from(BODY.len()));
        let mut answer = Answer { status: 200, headers, outcome, body: Ok(BODY.to_owned()) };
        change(&mut answer);
        judge(&first, &request_of(again.as_bytes()), &answer, pause)
    };
    let (plain, fresh) = ("GET http://a/\n", "200\ncache-control: max-age=10\n");
    let same = |_: &mut Answer| {};
    assert_eq!(judged(plain, fresh, plain, Outcome::Hit, 9, &same), Ok(()));
    for (request, response, pause) in [
        (plain, fresh, 10),
        ("POST http://a/\n", fresh, 0),
        ("GET http://a/\nauthorization: x\n", fresh, 0),
        ("GET http://a/\nx-variant: 1\n", "200\ncache-control: max-age=10\nvary: X-Variant\n", 0),
        (plain, "200\ncache-control: max-age=10\nvary: a, *\n", 0),
        (plain, "200\ncache-control: max-age=10, no-store\n", 0),
        (plain, "200\ncache-control: max-age=10\ncache-control: private\n", 0),
        (plain, "200\ncache-control: max-age=10, no-cache\n", 0),
        (plain, "200\ncache-control: max-age=10, s-maxage=5\n", 5),
        (plain, "200\ncache-control: max-age=x\n", 0),
        (plain, "200\nlast-modified: Mon, 13 Nov 2000 22:13:20 GMT\n", 24 * 3600),
        (plain, "304\ncache-control: max-age=10\n", 0),
    ] {
        assert!(judged(request, response, plain, Outcome::Hit, pause, &same).is_err(), "{request} {response} {pause}");
    }
    let swr = "200\ncache-control: max-age=10, stale-while-revalidate=10\n";
    assert_eq!(judged(plain, swr, plain, Outcome::Stale, 15, &same), Ok(()));
    assert!(judged(plain, swr, plain, Outcome::Stale, 21, &same).is_err());
    let strict = "200\ncache-control: max-age=10, stale-while-revalidate=10, must-revalidate\n";
    assert!(judged(plain, strict, plain, Outcome::Stale, 15, &same).is_err());
    let changes: [&dyn Fn(&mut Answer); 6] = [
        &|answer| answer.body = Ok("another".to_owned()),
        &|answer| drop(answer.headers.insert("set-cookie", HeaderValue::from_static("a"))),
        &|answer| drop(answer.headers.insert("connection", HeaderValue::from_static("a"))),
        &|answer| drop(answer.headers.insert("content-length", HeaderValue::from_static("9"))),
        &|answer| drop(answer.headers.insert("age", HeaderValue::from_static("4"))),
        &|answer| answer.status = 206,
    ];
    for (number, change) in changes.iter().enumerate() {
        assert!(judged(plain, fresh, plain, Outcome::Hit, 5, change).is_err(), "change {number}");
    }
}

proptest! {
    #![proptest_config(near::cases(4000))]

    #[test]
    fn no_head_makes_the_cache_fall_over_or_send_what_it_must_not(
        first in near::bytes(seeds(&REQUESTS)),
        response in near::bytes(seeds(&RESPONSES)),
        again in prop_oneof![2 => Just(None), 1 => near::bytes(seeds(&REQUESTS)).prop_map(Some)],
        later in near::bytes(seeds(&RESPONSES)),
        pause in prop_oneof![3 => 0_u64..70, 1 => 0_u64..200_000, 1 => Just(1 << 33)],
        confirms in any::<bool>(),
    ) {
        let again = again.unwrap_or_else(|| first.clone());
        block_on(run(&[first, response, again, later], pause, confirms))?;
    }

    /// The rules by themselves, with all that a head may hold.
    #[test]
    fn no_head_makes_a_rule_fall_over(
        request in near::text(&REQUESTS), response in near::bytes(seeds(&RESPONSES)), took in any::<u32>(),
    ) {
        let (asked, (status, fields, _)) = (request_of(request.as_bytes()), reply_of(&response, BODY));
        let status = http::StatusCode::from_u16(status).unwrap();
        let requested = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
        let exchange = Exchange { requested, received: requested + std::time::Duration::from_secs(took.into()) };
        let (control, rules) = (Control::of_response(&fields), Rules::default());
        let lifetime = freshness::lifetime(status, &fields, &control, exchange, &rules);
        prop_assert!(lifetime.as_secs() < 1 << 40, "{lifetime:?}");
        prop_assert!(freshness::initial_age(&fields, exchange) >= std::time::Duration::from_secs(took.into()));
        for obeyed in [ClientControl::Ignore, ClientControl::Honour] {
            Demand::of_request(asked.headers(), obeyed);
        }
        if let Some(names) = vary::names(&fields) {
            prop_assert!(vary::matches(&vary::selectors(&names, asked.headers()), asked.headers()), "like itself");
        }
        let updated = validation::freshened(&fields, &fields, &control);
        prop_assert_eq!(validation::freshened(&updated, &fields, &control), updated.clone(), "once more changes nothing");
        let mut stored = fields.clone();
        storing::strip_unstored(&mut stored, &control);
        prop_assert!(control.withheld().all(|name| !stored.contains_key(name)));
        let target = "http://example.com/a";
        for uri in invalidation::also_invalidated(target, &fields) {
            prop_assert_eq!(uri.host(), Some("example.com"), "another host's");
        }
    }
}
