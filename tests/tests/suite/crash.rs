use rustix::process::Signal;
use tests::client::try_send;
use tests::fleet::function;
use tests::{Fleet, eventually, get};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_kill_9_of_every_process() {
    let folder = tempfile::tempdir().unwrap();
    let source = |n: u32| format!("export default {{ fetch: () => new Response('{n}') }}");
    let f = function(&folder.path().join("f"), "", &[("index.js", &source(0))]);
    let fleet = Fleet::of(folder.path());
    let pop = fleet.pop("lhr");
    for (n, victim) in [(1, "origin"), (2, "lhr"), (3, "origin")] {
        std::fs::write(f.join("index.js"), source(n)).unwrap();
        tokio::task::block_in_place(|| fleet.deploy(&f));
        let pid = fleet.pid(victim);
        fleet.signal(victim, Signal::KILL);
        eventually("the supervisor has started it again", async || {
            fleet.pid(victim).is_some_and(|now| Some(now) != pid)
        })
        .await;
        eventually("the acknowledged version serves", async || {
            try_send(pop, http::Method::GET, "/f", &[], "").await.is_ok_and(|reply| reply.text() == n.to_string())
        })
        .await;
        let admin = fleet.admin();
        eventually("the origin answers", async || {
            try_send(admin, http::Method::GET, "/v1/pops", &[], "").await.is_ok()
        })
        .await;
    }
    let versions = fleet.ok(&["versions", "f"]);
    assert_eq!(versions.lines().count(), 5, "a heading and four versions: {versions}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_origin_killed_in_the_middle_of_deploys_keeps_each_that_was_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let source = |n: u32| format!("export default {{ fetch: () => new Response('{n}') }}");
    let f = function(&folder.path().join("f"), "", &[("index.js", &source(0))]);
    let fleet = Fleet::of(folder.path());
    let mut acknowledged = vec![];
    for n in 1..=6 {
        std::fs::write(f.join("index.js"), source(n)).unwrap();
        let deploy = std::process::Command::new(tests::skerry())
            .current_dir(fleet.folder.path())
            .args(["deploy", "--json", &f.to_string_lossy()])
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(u64::from(n) * 60)).await;
        let pid = fleet.pid("origin");
        fleet.signal("origin", Signal::KILL);
        let output = tokio::task::block_in_place(|| deploy.wait_with_output()).unwrap();
        if output.status.success() {
            let released: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            acknowledged.push(released["version"].as_str().unwrap().to_owned());
        }
        eventually("the origin is started again", async || fleet.pid("origin").is_some_and(|now| Some(now) != pid))
            .await;
        let admin = fleet.admin();
        eventually("the origin answers", async || {
            try_send(admin, http::Method::GET, "/v1/pops", &[], "").await.is_ok()
        })
        .await;
        // A manifest that a kill tore would not be readable now.
        let versions = fleet.ok(&["versions", "f", "--json"]);
        for version in &acknowledged {
            assert!(versions.contains(version.as_str()), "{version} is lost: {versions}");
        }
    }
}

#[tokio::test]
async fn a_damaged_bundle_on_disk_is_never_run_and_is_fetched_again() {
    let folder = tempfile::tempdir().unwrap();
    function(&folder.path().join("f"), "", &[("index.js", "export default { fetch: () => new Response('intact') }")]);
    let fleet = Fleet::of(folder.path());
    let pop = fleet.pop("lhr");
    let bundles = fleet.state().join("pops/lhr/bundles");
    let bundle = std::fs::read_dir(&bundles).unwrap().next().expect("one bundle").unwrap().path();
    let damage = || {
        let bytes = std::fs::read_to_string(&bundle).unwrap().replace("intact", "forged");
        std::fs::write(&bundle, bytes).unwrap();
    };

    // With the origin there: fetched again. What is killed may answer once more before it is gone.
    damage();
    let pid = fleet.pid("lhr");
    fleet.signal("lhr", Signal::KILL);
    eventually("it is started again", async || fleet.pid("lhr").is_some_and(|now| Some(now) != pid)).await;
    eventually("it serves the true version", async || {
        try_send(pop, http::Method::GET, "/f", &[], "").await.is_ok_and(|reply| {
            assert!(!reply.text().contains("forged"), "{reply:?}");
            reply.text() == "intact"
        })
    })
    .await;

    // Without: a clear error, and never the forged version.
    fleet.signal("origin", Signal::TERM);
    let origin = fleet.origin();
    eventually("the origin is stopped", async || tokio::net::TcpStream::connect(origin).await.is_err()).await;
    damage();
    fleet.signal("lhr", Signal::KILL);
    eventually("it says that its copy is damaged", async || {
        try_send(pop, http::Method::GET, "/f", &[], "").await.is_ok_and(|reply| {
            assert!(!reply.text().contains("forged"), "{reply:?}");
            reply.status == 502 && reply.header("x-skerry-error") == "origin/corrupt"
        })
    })
    .await;
    let mut again = fleet.command("origin").spawn().unwrap();
    eventually("it serves the true version", async || {
        try_send(pop, http::Method::GET, "/f", &[], "").await.is_ok_and(|reply| reply.text() == "intact")
    })
    .await;
    rustix::process::kill_process(rustix::process::Pid::from_child(&again), Signal::TERM).unwrap();
    again.wait().unwrap();
    assert_eq!(get(pop, "/f", &[]).await.text(), "intact");
}
