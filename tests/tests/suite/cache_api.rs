//! What functions see of the cache: `caches`, and what their `fetch()` says of caching. Each function in an isolate and in
//! a cell.

use http::{Method, Request, Response};
use hyper::body::Incoming;
use serde_json::{Value, json};
use tests::fleet::{Options, function};
use tests::stub::Stub;
use tests::{Fleet, send};

const DOES: &str = r#"
const named = async (name) => name === undefined ? caches.default : await caches.open(name);
const shown = async (response) => response === undefined ? null : {
    status: response.status, text: await response.text(), state: response.headers.get("cache-status"),
    tags: response.headers.get("cache-tag"), fields: Object.fromEntries(response.headers),
};
const does = {
    async put({ cache, url, text, init, times }) {
        const body = times === undefined ? text : new ReadableStream({
            pull(out) { if (times-- > 0) out.enqueue(new TextEncoder().encode(text)); else if (init?.breaks) out.error(new Error("broke")); else out.close(); },
        });
        await (await named(cache)).put(url, new Response(body, init));
        return "put";
    },
    match: async ({ cache, url, init }) => shown(await (await named(cache)).match(new Request(url, init))),
    remove: async ({ cache, url }) => (await named(cache)).delete(url),
    fetch: async ({ url, init }) => shown(await fetch(url, init)),
    async many({ times }) { for (let n = 0; n < times; n++) await caches.default.match("http://o/"); },
};
export default {
    async fetch(request) {
        try {
            const [name, asked] = await request.json();
            return Response.json(await does[name](asked));
        } catch (error) {
            return Response.json(`${error.name}: ${error.message}`);
        }
    },
};
"#;

/// A PoP with the functions `isolate` and `other`, and `cell` in a process of its own.
struct Pop {
    _folder: tempfile::TempDir,
    fleet: Fleet,
    origin: Stub,
}

const BOTH: [&str; 2] = ["isolate", "cell"];

impl Pop {
    async fn start(answer: impl Fn(&Request<Incoming>) -> Response<String> + Send + Sync + 'static) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["isolate", "other"] {
            function(&folder.path().join(name), "", &[("index.js", DOES)]);
        }
        function(&folder.path().join("cell"), r#""isolation": "process""#, &[("index.js", DOES)]);
        let more = ["--workers=1", "--allow-fetch=127.0.0.1/32"].map(str::to_owned).to_vec();
        let functions = Some(folder.path().to_owned());
        let fleet = Fleet::with(&Options { functions, pops: "lhr=0", more, ..Options::default() });
        Self { fleet, origin: Stub::start(answer).await, _folder: folder }
    }

    /// What comes of a call in a function.
    async fn does(&self, function: &str, call: &str, argument: Value) -> Value {
        let body = json!([call, argument]).to_string();
        let reply = send(self.fleet.pop("lhr"), Method::POST, &format!("/{function}/"), &[], body).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        serde_json::from_slice(&reply.body).unwrap()
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.origin.address)
    }

    /// How often the origin was asked for paths that begin so.
    fn asked(&self, path: &str) -> usize {
        self.origin.seen.lock().unwrap().iter().filter(|line| line.starts_with(&format!("GET {path}"))).count()
    }
}

fn nothing_to_keep(request: &Request<Incoming>) -> Response<String> {
    let path = request.uri().path();
    let (status, control) = match path {
        _ if path.contains("missing") => (404, ""),
        _ if path.contains("private") => (200, "private"),
        _ if path.contains("kept") => (200, "max-age=600"),
        _ => (200, "no-store"),
    };
    let response = Response::builder().status(status).header("cache-control", control);
    let response = if path.contains("cookie") { response.header("set-cookie", "a=b") } else { response };
    response.body(format!("of the origin: {path}")).unwrap()
}

/// "cache.match [...] Our implementation of the Cache API respects the following HTTP headers on the request passed to
/// match(): Range [...] If-Modified-Since [...] If-None-Match."
#[tokio::test]
async fn a_function_finds_what_it_has_put_whole_in_parts_and_by_condition() {
    let pop = Pop::start(nothing_to_keep).await;
    let url = "https://example.com/page?q=1";
    for function in BOTH {
        assert_eq!(pop.does(function, "match", json!({ "url": url })).await, Value::Null);
        let init = json!({ "status": 200, "headers": { "cache-control": "s-maxage=60", "etag": "\"1\"", "x-own": "caf\u{e9}" } });
        let put = json!({ "url": url, "text": "hello", "times": 3, "init": init });
        assert_eq!(pop.does(function, "put", put).await, "put");
        let found = pop.does(function, "match", json!({ "url": url })).await;
        assert_eq!((&found["status"], &found["text"]), (&json!(200), &json!("hellohellohello")), "{function}: {found}");
        assert_eq!((&found["fields"]["age"], &found["fields"]["x-own"]), (&json!("0"), &json!("caf\u{e9}")));
        assert!(found["state"].as_str().unwrap().contains("hit"), "{found}");
        let with = |name: &str, value: &str| json!({ "url": url, "init": { "headers": { name: value } } });
        let part = pop.does(function, "match", with("range", "bytes=5-6")).await;
        assert_eq!((&part["status"], &part["text"]), (&json!(206), &json!("he")));
        let same = pop.does(function, "match", with("if-none-match", "\"1\"")).await;
        assert_eq!((&same["status"], &same["text"]), (&json!(304), &json!("")));
        assert_eq!(pop.does(function, "remove", json!({ "url": url })).await, true);
        assert_eq!(pop.does(function, "remove", json!({ "url": url })).await, false);
        assert_eq!(pop.does(function, "match", json!({ "url": url })).await, Value::Null);
    }
}

#[tokio::test]
async fn caches_of_functions_and_names_and_what_fetch_stores_are_kept_apart() {
    let pop = Pop::start(nothing_to_keep).await;
    for function in BOTH {
        let url = pop.url(&format!("/kept-{function}"));
        let forged = json!({ "url": url, "text": "forged" });
        assert_eq!(pop.does(function, "put", forged).await, "put");
        for other in ["other", function] {
            let real = pop.does(other, "fetch", json!({ "url": url })).await;
            assert!(real["text"].as_str().unwrap().starts_with("of the origin"), "{other}: {real}");
        }
        assert_eq!(pop.asked(&format!("/kept-{function}")), 1, "what fetch() stores without options is shared");
        assert_eq!(pop.does("other", "match", json!({ "url": url })).await, Value::Null);
        for name in ["default", "a", "named default"] {
            assert_eq!(pop.does(function, "match", json!({ "cache": name, "url": url })).await, Value::Null, "{name}");
        }
        assert_eq!(pop.does("other", "remove", json!({ "url": url })).await, false);
        assert_eq!(pop.does(function, "match", json!({ "url": url })).await["text"], "forged");
    }
}

/// "Responses with Set-Cookie headers are never cached"; put() resolves "regardless of whether the cache successfully stored
/// the response".
#[tokio::test]
async fn what_may_not_be_stored_is_not_and_a_body_that_breaks_off_is_told() {
    let pop = Pop::start(nothing_to_keep).await;
    let url = "http://example.com/a";
    for function in BOTH {
        for fields in [
            json!({ "set-cookie": "a=b" }),
            json!({ "cache-control": "no-store" }),
            json!({ "cache-control": "private" }),
        ] {
            let put = json!({ "url": url, "text": "x", "init": { "headers": fields } });
            assert_eq!(pop.does(function, "put", put).await, "put");
            assert_eq!(pop.does(function, "match", json!({ "url": url })).await, Value::Null, "{fields}");
        }
        let broken = json!({ "url": url, "text": "x", "times": 2, "init": { "breaks": true } });
        let said = pop.does(function, "put", broken).await;
        assert!(said.as_str().unwrap().contains("broke"), "{function}: {said}");
        let part = json!({ "url": url, "text": "x", "init": { "status": 206 } });
        assert!(pop.does(function, "put", part).await.as_str().unwrap().starts_with("TypeError: cache.put()"));
        assert_eq!(pop.does(function, "match", json!({ "url": url })).await, Value::Null);
        let said = pop.does(function, "many", json!({ "times": 60 })).await;
        assert!(said.as_str().unwrap().contains("(subrequests)"), "{said}");
    }
}

#[tokio::test]
async fn a_lifetime_of_the_functions_counts_before_the_origins_for_this_function_alone() {
    let pop = Pop::start(nothing_to_keep).await;
    for function in BOTH {
        let fetch = async |who: &str, path: &str, init: Value| {
            let url = pop.url(&format!("/{function}{path}"));
            pop.does(who, "fetch", json!({ "url": url, "init": init })).await
        };
        let asked = |path: &str| pop.asked(&format!("/{function}{path}"));
        for _ in 0..3 {
            assert_eq!(fetch(function, "/ttl", json!({ "cf": { "cacheTtl": 60 } })).await["status"], 200);
        }
        assert_eq!(asked("/ttl"), 1);
        fetch("other", "/ttl", json!({ "cf": { "cacheTtl": 60 } })).await;
        fetch("other", "/ttl", json!({})).await;
        assert_eq!(asked("/ttl"), 3, "no other function gets it");
        let by_status = json!({ "cf": { "cacheTtlByStatus": { "200-299": 60, "404": 60 } } });
        for path in ["/missing", "/missing", "/ok", "/ok"] {
            fetch(function, path, by_status.clone()).await;
        }
        assert_eq!((asked("/missing"), asked("/ok")), (1, 1));
        for (path, init) in [
            ("/cookie", json!({ "cf": { "cacheTtl": 60 } })),
            ("/private", json!({ "cf": { "cacheTtl": 60 }, "headers": { "cookie": "a=b" } })),
            ("/never", json!({ "cf": { "cacheTtlByStatus": { "200": -1 } } })),
            ("/kept-no-store", json!({ "cache": "no-store" })),
            ("/kept-reload", json!({ "cache": "reload" })),
        ] {
            fetch(function, path, init.clone()).await;
            fetch(function, path, init).await;
            assert_eq!(asked(path), 2, "{path}");
        }
        let reloaded = fetch(function, "/kept-reload", json!({})).await;
        assert_eq!(asked("/kept-reload"), 2, "{reloaded}");
        let said = fetch(function, "/absent", json!({ "cache": "only-if-cached" })).await;
        assert!(said.as_str().is_some_and(|said| said.starts_with("TypeError: fetch()")), "{said}");
    }
}

#[tokio::test]
async fn a_key_of_the_functions_takes_the_place_of_the_url_and_tags_stay_with_what_is_stored() {
    let pop = Pop::start(nothing_to_keep).await;
    for function in BOTH {
        let options =
            json!({ "cf": { "cacheKey": "http://example.com/one", "cacheTtl": 60, "cacheTags": ["red", "b:1"] } });
        let fetch = async |who: &str, path: &str| {
            let url = pop.url(&format!("/{function}{path}"));
            pop.does(who, "fetch", json!({ "url": url, "init": options })).await
        };
        let first = fetch(function, "/a").await;
        let second = fetch(function, "/b").await;
        assert_eq!((&first["text"], &first["tags"]), (&second["text"], &second["tags"]), "{second}");
        assert_eq!(second["tags"], "red,b:1");
        let other = fetch("other", "/c").await;
        assert_ne!(first["text"], other["text"], "a key is a function's own");
        pop.does("other", "fetch", json!({ "url": pop.url("/clean"), "init": {} })).await;
        for (cf, named) in [(json!({ "cacheTtl": "x" }), "cf.cacheTtl"), (json!({ "cacheTags": [1] }), "cf.cacheTags")]
        {
            let said = pop.does(function, "fetch", json!({ "url": pop.url("/d"), "init": { "cf": cf } })).await;
            assert!(said.as_str().is_some_and(|said| said.starts_with("TypeError") && said.contains(named)), "{said}");
        }
    }
}
