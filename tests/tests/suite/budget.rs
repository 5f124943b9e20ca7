//! Budgets tell people once, and brake.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tests::fleet::{Options, function};
use tests::{Fleet, Reply, eventually, get};

/// A price book with which a byte that is sent costs a thousandth of a dollar, and nothing else costs much.
fn dear(folder: &Path) -> PathBuf {
    let book = Path::new(env!("CARGO_MANIFEST_DIR")).join("../edge/capacity/prices.toml");
    let text = std::fs::read_to_string(book).expect("the price book");
    let (cheap, dear) = ("own.egress = { amount = 0.002,", "own.egress = { amount = 1000000,");
    assert!(text.contains(cheap));
    let path = folder.join("dear.toml");
    std::fs::write(&path, text.replace(cheap, dear)).expect("a file");
    path
}

/// A function whose answers cost a dollar.
fn dollar(folder: &Path, name: &str, project: &str) -> PathBuf {
    let source = "export default { fetch: () => new Response('x'.repeat(1000)) }";
    function(&folder.join(name), project, &[("index.js", source)])
}

fn fleet(functions: &Path, prices: &Path) -> Fleet {
    let more =
        ["--workers", "1", "--meter-every", "100ms", "--prices", &prices.to_string_lossy()].map(str::to_owned).into();
    Fleet::with(&Options { functions: Some(functions.to_owned()), pops: "lhr=0,iad=0", more, ..Options::default() })
}

/// Lines of all PoPs' logs about a threshold.
fn told(fleet: &Fleet, function: &str, percent: u32) -> usize {
    let logs =
        ["lhr", "iad"].map(|pop| std::fs::read_to_string(fleet.state().join(format!("logs/{pop}.log"))).unwrap());
    let words = [format!("{function} has spent"), format!(" {percent} % of its budget")];
    logs.iter().flat_map(|log| log.lines()).filter(|line| words.iter().all(|word| line.contains(word))).count()
}

async fn ask(fleet: &Fleet, pop: &str, path: &str) -> Reply {
    get(fleet.pop(pop), path, &[]).await
}

#[tokio::test]
async fn people_are_told_once_and_the_brake_refuses_what_nobody_pays_for() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let budget = r#""budget": { "amount": 20, "per": "day", "alerts": [100, 50], "brake": "limit" }"#;
    let braked = dollar(folder.path(), "braked", budget);
    dollar(folder.path(), "told", r#""budget": { "amount": 2, "per": "month" }"#);
    dollar(folder.path(), "free", "");
    let prices = dear(other.path());
    let fleet = fleet(folder.path(), &prices);
    for pop in ["lhr", "iad"] {
        for _ in 0..6 {
            assert_eq!(ask(&fleet, pop, "/braked").await.status, 200);
        }
        for path in ["/told", "/free"] {
            assert_eq!(ask(&fleet, pop, path).await.status, 200);
        }
    }
    eventually("half is spent", async || told(&fleet, "braked", 50) > 0).await;
    assert_eq!((told(&fleet, "braked", 50), told(&fleet, "braked", 100)), (1, 0));
    assert_eq!(fleet.scrape("lhr").await.sum("skerry_budget_limit_per_second", &[]), 0.0, "no brake yet");
    // Two more PoPs' worth of answers: the budget is used up, whoever sent them.
    for _ in 0..9 {
        assert_eq!(ask(&fleet, "lhr", "/braked").await.status, 200);
    }
    let refused = async |pop: &str| {
        let mut last = None;
        eventually("the brake acts", async || {
            let reply = ask(&fleet, pop, "/braked").await;
            let refused = reply.status == 429;
            last = Some(reply);
            refused
        })
        .await;
        last.expect("a reply")
    };
    for pop in ["lhr", "iad"] {
        let reply = refused(pop).await;
        assert_eq!(
            (reply.header("x-skerry-error"), reply.json()["code"].as_str()),
            ("budget/limit", Some("budget/limit"))
        );
        assert!(reply.header("retry-after").parse::<u64>().is_ok_and(|seconds| (1..=86_400).contains(&seconds)));
    }
    eventually("all thresholds are told of", async || {
        [("braked", 100), ("told", 50), ("told", 80), ("told", 100)]
            .iter()
            .all(|(name, at)| told(&fleet, name, *at) > 0)
    })
    .await;
    for (name, percent) in [("braked", 50), ("braked", 100), ("told", 50), ("told", 80), ("told", 100)] {
        assert_eq!(told(&fleet, name, percent), 1, "{name} {percent}");
    }
    assert_eq!((ask(&fleet, "lhr", "/told").await.status, ask(&fleet, "iad", "/free").await.status), (200, 200));
    // What is refused costs little and is counted apart.
    let mut json = Value::Null;
    eventually("what was refused has arrived", async || {
        let shown = fleet.ok(&["cost", "--json", "--prices", &prices.to_string_lossy()]);
        json = serde_json::from_str(&shown).expect("JSON");
        let rows = json["own"]["rows"].as_array().expect("rows").iter();
        rows.filter(|row| row["function"] == "braked").any(|row| row["usage"]["refused"].as_u64() >= Some(2))
    })
    .await;
    assert!(
        json["alerts"].as_array().unwrap().iter().any(|alert| alert["function"] == "braked" && alert["percent"] == 100)
    );
    let text = fleet.ok(&["cost"]);
    for words in
        ["braked passed 100 % of its budget of 20.00 USD for 20", "told passed 80 % of its budget of 2.00 USD for 20"]
    {
        assert!(text.contains(words), "{words}: {text}");
    }
    let mut alerts = 0.0;
    for pop in ["lhr", "iad"] {
        let scrape = fleet.scrape(pop).await;
        alerts += scrape.sum("skerry_budget_alerts_total", &[]);
        assert!(scrape.sum("skerry_budget_spent_ratio", &[("function", "braked")]) >= 1.0);
    }
    assert_eq!(alerts, 5.0);
    // A version without a brake is let go at once.
    dollar(folder.path(), "braked", r#""budget": { "amount": 20, "per": "day" }"#);
    fleet.deploy(&braked);
    eventually("it runs again", async || ask(&fleet, "lhr", "/braked").await.status == 200).await;
}

#[tokio::test]
async fn the_brake_holds_after_a_restart_without_the_origin() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    dollar(folder.path(), "braked", r#""budget": { "amount": 3, "per": "day", "brake": "limit" }"#);
    let fleet = fleet(folder.path(), &dear(other.path()));
    for _ in 0..4 {
        ask(&fleet, "lhr", "/braked").await;
    }
    eventually("the brake acts", async || ask(&fleet, "lhr", "/braked").await.status == 429).await;
    fleet.signal("origin", rustix::process::Signal::STOP);
    let before = fleet.pid("lhr");
    fleet.signal("lhr", rustix::process::Signal::KILL);
    eventually("it acts again, by what is on disk", async || {
        let reply = tests::client::try_send(fleet.pop("lhr"), http::Method::GET, "/braked", &[], "").await;
        fleet.pid("lhr") != before && reply.is_ok_and(|reply| reply.status == 429)
    })
    .await;
    fleet.signal("origin", rustix::process::Signal::CONT);
}
