//! Scaling that acts on a running fleet.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use tests::fleet::{Options, eventually, function};
use tests::{Fleet, get};

/// Says which process answers, and takes a while.
const SLOW: &str = r#"
export default {
  async fetch(request) {
    await scheduler.wait(Number(new URL(request.url).searchParams.get('wait') ?? 0));
    return new Response('ok');
  }
}
"#;

/// One or two processes, each of which should carry four requests in flight.
const TWO: &str = r#"
every = "500ms"
[pops.lhr.policy]
settle = "2s"
[pops.lhr.policy.horizontal]
max = 2
[pops.lhr.policy.concurrency]
capacity = 4.0
utilisation = 1.0
stable_window = "6s"
"#;

fn scaled(folder: &Path, scaling: &str) -> Fleet {
    function(&folder.join("functions/slow"), "", &[("index.js", SLOW)]);
    let file = folder.join("scale.toml");
    std::fs::write(&file, scaling).unwrap();
    let more = vec!["--scale".to_owned(), file.to_string_lossy().into_owned()];
    Fleet::with(&Options { functions: Some(folder.join("functions")), more, ..Options::default() })
}

fn processes(fleet: &Fleet) -> Vec<String> {
    let pops = fleet.current()["pops"].as_array().unwrap().clone();
    let names = pops.iter().map(|pop| pop["name"].as_str().unwrap().to_owned());
    names.filter(|name| name.starts_with("lhr")).collect()
}

fn decisions(fleet: &Fleet) -> Vec<Value> {
    let printed = fleet.ok(&["plan", "--json", "--last", "1000"]);
    serde_json::from_str::<Value>(&printed).unwrap().as_array().unwrap().clone()
}

/// A client who is in London.
const LONDON: (&str, &str) = ("x-forwarded-for", "81.2.69.142");

#[tokio::test]
async fn under_load_a_pop_gets_a_second_process_and_gives_it_back_and_no_request_fails() {
    let folder = tempfile::tempdir().unwrap();
    let fleet = scaled(folder.path(), TWO);
    assert_eq!(processes(&fleet), ["lhr"]);
    let front = fleet.front();
    let until = Instant::now() + Duration::from_secs(8);
    let clients = (0..12).map(|_| async move {
        let mut served = Vec::new();
        while Instant::now() < until {
            let reply = get(front, "/slow/?wait=50", &[LONDON]).await;
            assert_eq!(reply.status, 200, "{}", reply.text());
            served.push(reply.header("x-skerry-pop").to_owned());
        }
        served
    });
    let served: Vec<String> = futures::future::join_all(clients).await.into_iter().flatten().collect();
    assert_eq!(processes(&fleet), ["lhr", "lhr-2"]);
    let second = served.iter().filter(|pop| *pop == "lhr-2").count();
    assert!(second > 0 && second < served.len(), "{second} of {}", served.len());
    let scale = fleet.pop_admin("lhr-2");
    let report = get(scale, "/scale", &[("authorization", &fleet.authorization())]).await.json();
    assert!(report["in_flight"]["sum_seconds"].as_f64().unwrap() > 0.0, "{report}");
    assert_eq!(get(scale, "/scale", &[]).await.status, 401);

    // Light traffic goes on while it is given back.
    let quiet = async {
        let mut asked = 0;
        while processes(&fleet) != ["lhr"] {
            assert_eq!(get(front, "/slow/", &[LONDON]).await.status, 200);
            asked += 1;
            assert!(asked < 3000, "{:?}", decisions(&fleet).last());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    quiet.await;
    let decided = decisions(&fleet);
    let change = |from: u64, to: u64| {
        decided
            .iter()
            .find(|entry| entry["current"] == from && entry["desired"] == to)
            .unwrap_or_else(|| panic!("{decided:#?}"))
    };
    let rise = change(1, 2)["explanation"].as_str().unwrap();
    // By concurrency, or by the maximum where that asks for more.
    assert!(rise.starts_with("processes of PoP lhr rises from 1 to 2 by "), "{rise}");
    assert!(rise.contains("ceil(load / (capacity × utilisation))") && rise.contains("capacity = 4"), "{rise}");
    change(2, 1);
    let told = fleet.ok(&["plan", "--explain", "--last", "1000"]);
    assert!(told.contains("processes of PoP lhr falls from 2 to 1"), "{told}");
}

#[tokio::test]
async fn a_schedule_brings_a_process_before_anybody_asks_and_a_silent_one_holds_the_count() {
    let folder = tempfile::tempdir().unwrap();
    let sale = "[[pops.lhr.policy.schedule]]\nname = \"sale\"\ncron = \"* * * * *\"\nlasts = \"2m\"\nleast = 2\n";
    let fleet = scaled(folder.path(), &format!("{TWO}{sale}"));
    eventually("the schedule has brought a second process", async || processes(&fleet).len() == 2).await;
    let by = |rule: &str| decisions(&fleet).iter().any(|entry| entry["by"] == rule);
    assert!(by("schedule"));
    // A process that stands still says nothing of what it carries: nothing is taken away, nor put beside it.
    fleet.signal("lhr-2", Signal::STOP);
    let held =
        || decisions(&fleet).iter().any(|entry| entry["decision"]["held"] == "no_metrics" && entry["current"] == 2);
    eventually("the count is held", async || held()).await;
    assert_eq!(processes(&fleet).len(), 2);
    fleet.signal("lhr-2", Signal::CONT);
    // One that somebody ends does not hold the count for ever: the schedule has another started.
    let ended = fleet.pid("lhr-2").unwrap();
    fleet.signal("lhr-2", Signal::TERM);
    let pid = || {
        fleet.current()["pops"]
            .as_array()
            .unwrap()
            .iter()
            .find(|pop| pop["name"] == "lhr-2")
            .map(|pop| pop["pid"].clone())
    };
    eventually("another runs in its place", async || pid().is_some_and(|pid| pid.is_u64() && pid != ended)).await;
}

#[tokio::test]
async fn what_is_wrong_with_the_scaling_is_said_at_once_and_nothing_starts() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("scale.toml");
    let fleet = Fleet::start();
    let told = fleet.fails(&["plan", "--explain"]);
    assert!(told.contains("--scale FILE"), "{told}");
    for (scaling, complaints) in [
        (
            "every = \"1ms\"\n[pops.xyz.policy.horizontal]\nmax = 99\nmin = 0\n",
            &["every", "pops.xyz", "max", "min"][..],
        ),
        ("[pops.lhr.policy.concurrency]\ncapacity = -1.0\n", &["pops.lhr.policy", "concurrency.capacity", "-1"]),
        ("[pops.lhr.policy]\nconcurency = 1\n", &["concurency", "line 2"]),
        ("[pops.lhr]\ncpu_percent = 170\n[pops.lhr.policy]\n", &["cpu_percent"]),
    ] {
        std::fs::write(&file, scaling).unwrap();
        let arguments =
            ["up", "--no-functions", "--pops", "lhr=0", "--state", "other", "--scale", file.to_str().unwrap()];
        let told = fleet.fails(&arguments);
        for complaint in complaints {
            assert!(told.contains(complaint), "{scaling}: {complaint} in {told}");
        }
    }
}
