//! What functions purge themselves: `ctx.cache.purge()`, of what the cache in front has of them.

use std::net::SocketAddr;

use http::Method;
use serde_json::{Value, json};
use tests::fleet::{Options, eventually, function};
use tests::{Fleet, get, send};

/// A page is one that no other call has, with the tags of its query. A POST purges what its body says.
const PURGES: &str = r#"
export default {
  async fetch(request, env, ctx) {
    const url = new URL(request.url);
    if (request.method === 'POST') {
      try {
        const { times = 1, ...options } = await request.json();
        let result;
        for (let n = 0; n < times; n++) result = await ctx.cache.purge(options);
        return Response.json(result);
      } catch (error) {
        return Response.json(`${error.name}: ${error.message}`);
      }
    }
    const headers = { 'cache-control': 'max-age=3600', 'cache-tag': url.searchParams.get('tags') ?? '' };
    return new Response(crypto.randomUUID(), { headers });
  }
}
"#;

const NAMES: [&str; 3] = ["one", "other", "cell"];
const PAGES: [&str; 3] = ["a/1?tags=News,n1", "a/2?tags=n2", "b/1?tags=news"];
const ON: &str = r#""cache": { "enabled": true, "cross_version": true }"#;

struct Purging {
    folder: tempfile::TempDir,
    fleet: Fleet,
}

impl Purging {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["one", "other"] {
            function(&folder.path().join(name), ON, &[("index.js", PURGES)]);
        }
        function(&folder.path().join("cell"), &format!(r#"{ON}, "isolation": "process""#), &[("index.js", PURGES)]);
        let functions = Some(folder.path().to_owned());
        let fleet = Fleet::with(&Options { functions, pops: "lhr=0,iad=0", ..Options::default() });
        Self { folder, fleet }
    }

    /// What a PoP has of every page of a function.
    async fn pages(&self, pop: &str, name: &str) -> Vec<String> {
        let mut pages = Vec::new();
        for page in PAGES {
            let reply = get(self.fleet.pop(pop), &format!("/{name}/{page}"), &[]).await;
            assert_eq!(reply.status, 200, "{}", reply.text());
            pages.push(reply.text());
        }
        pages
    }

    async fn purge(&self, pop: &str, name: &str, options: Value) -> Value {
        purge(self.fleet.pop(pop), name, options).await
    }
}

async fn purge(address: SocketAddr, name: &str, options: Value) -> Value {
    let reply = send(address, Method::POST, &format!("/{name}/purge"), &[], options.to_string()).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    serde_json::from_slice(&reply.body).unwrap()
}

/// Which of the pages are others than before.
fn changed(before: &[String], after: &[String]) -> Vec<bool> {
    before.iter().zip(after).map(|(before, after)| before != after).collect()
}

#[tokio::test]
async fn a_function_purges_its_own_pages_here_at_once_and_on_every_pop_and_nothing_of_others() {
    let fleet = Purging::start();
    for name in ["one", "cell"] {
        for (options, purged) in [
            (json!({ "tags": ["NEWS"] }), [true, false, true]),
            (json!({ "pathPrefixes": [format!("/{name}/a/")] }), [true, true, false]),
            (json!({ "tags": ["n2", "absent"], "pathPrefixes": [format!("/{name}/b/")] }), [false, true, true]),
            (json!({ "pathPrefixes": ["/absent/"] }), [false, false, false]),
            (json!({ "purgeEverything": true }), [true, true, true]),
        ] {
            let mut before = Vec::new();
            for of in NAMES {
                before.push((of, fleet.pages("lhr", of).await, fleet.pages("iad", of).await));
            }
            let said = fleet.purge("lhr", name, options.clone()).await;
            assert_eq!(said, json!({ "success": true, "errors": [] }), "{name} {options}");
            for (of, lhr, iad) in &before {
                let expected = if *of == name { purged } else { [false; 3] };
                // No waiting: it has promised so.
                assert_eq!(changed(lhr, &fleet.pages("lhr", of).await), expected, "{name} {options}: {of}");
                let there = async || changed(iad, &fleet.pages("iad", of).await) == expected;
                eventually("the other PoP has done it", there).await;
            }
        }
    }
}

#[tokio::test]
async fn what_a_version_before_has_answered_is_purged_by_the_next() {
    let fleet = Purging::start();
    let before = fleet.pages("lhr", "one").await;
    let version = async || get(fleet.fleet.pop("lhr"), "/one/probe", &[]).await.header("x-skerry-version").to_owned();
    let old = version().await;
    let next = PURGES.replace("randomUUID()", "randomUUID() + '!'");
    fleet.fleet.deploy(&function(&fleet.folder.path().join("one"), ON, &[("index.js", &next)]));
    let posted = async || {
        let reply = send(fleet.fleet.pop("lhr"), Method::POST, "/one/purge", &[], r#"{"tags":["absent"]}"#).await;
        reply.header("x-skerry-version") != old
    };
    eventually("the next version is live", posted).await;
    assert_eq!(fleet.pages("lhr", "one").await, before, "answers outlive a deploy");
    fleet.purge("lhr", "one", json!({ "tags": ["news"] })).await;
    assert_eq!(changed(&before, &fleet.pages("lhr", "one").await), [true, false, true]);
}

#[tokio::test]
async fn what_a_function_may_not_purge_is_named_and_what_an_operator_purges_of_it_is_its_own_too() {
    let fleet = Purging::start();
    let many: Vec<String> = (0..101).map(|n| format!("t{n}")).collect();
    let before = fleet.pages("lhr", "one").await;
    for name in ["one", "cell"] {
        for (options, named) in [
            (json!({}), "nothing to purge: give tags, pathPrefixes or purgeEverything"),
            (json!({ "tags": "news" }), "tags must be an array of strings"),
            (json!({ "tags": [1] }), "tags must be an array of strings"),
            (json!({ "tags": ["a b"] }), "tags: tag \"a b\""),
            (json!({ "tags": many }), "101 things to purge, the most in one call is 100"),
            (json!({ "pathPrefixes": ["https://h/a"] }), "pathPrefixes: path prefix \"https://h/a\""),
            (json!({ "pathPrefixes": ["/a?b"] }), "pathPrefixes: path prefix \"/a?b\""),
            (json!({ "purgeEverything": 1 }), "purgeEverything must be true or false"),
            (json!({ "purgeEverything": true, "tags": ["a"] }), "purgeEverything stands alone"),
            (json!({ "tags": ["x".repeat(2 << 20)] }), "longer than"),
            (json!({ "tags": ["absent"], "times": 60 }), "(subrequests)"),
        ] {
            let said = fleet.purge("lhr", name, options).await;
            let said = said.as_str().unwrap();
            assert!(said.starts_with("TypeError: ") && said.contains(named), "{name}: {said}");
        }
    }
    assert_eq!(fleet.pages("lhr", "one").await, before);
    // The log is everybody's: one function cannot fill it.
    for _ in 0..3 {
        let many = fleet.purge("lhr", "cell", json!({ "tags": ["absent"], "times": 45 })).await;
        if many["success"] == false {
            let said = many["errors"][0]["message"].as_str().unwrap();
            assert!(said.contains("120 times within a minute"), "{said}");
        }
    }
    assert_eq!(fleet.purge("lhr", "cell", json!({ "tags": ["absent"] })).await["success"], false);
    assert_eq!(fleet.purge("lhr", "one", json!({ "tags": ["absent"] })).await["success"], true);
    let other = fleet.pages("lhr", "other").await;
    let refused = fleet.fleet.fails(&["purge", "--function", "one", "https://h/a"]);
    assert!(refused.contains("--function") && refused.contains("not URL"), "{refused}");
    fleet.fleet.ok(&["purge", "--wait", "20s", "--function", "one", "--prefix", "/one/a/"]);
    assert_eq!(changed(&before, &fleet.pages("lhr", "one").await), [true, true, false]);
    assert_eq!(fleet.pages("lhr", "other").await, other);
    fleet.fleet.signal("origin", rustix::process::Signal::STOP);
    let waiting = tokio::spawn(purge(fleet.fleet.pop("lhr"), "one", json!({ "tags": ["absent"] })));
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    fleet.fleet.signal("origin", rustix::process::Signal::KILL);
    let said = waiting.await.unwrap();
    assert_eq!(said["success"], false, "{said}");
    assert!(!said["errors"][0]["message"].as_str().unwrap().is_empty() && said["errors"][0]["code"] == 1, "{said}");
}
