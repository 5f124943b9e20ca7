//! `skerry simulate` and `skerry plan` with recorded loads, and the plan's page in a real browser.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const SCENARIO: &str = "name = 'small'\nduration = '1h'\n[functions]\n[[pops]]\nname = 'lhr'\n[[pops]]\nname = 'iad'\n";
const LOAD: &str = "[[place]]\nname = 'fra'\nkind = 'edge'\ndistance_km = 300\n[[place]]\nname = 'eu-west'\nkind = 'region'\n\
                    distance_km = 900\nrtt_ms = 40\n[[stream]]\nname = 'api'\nwork = { cpu_ms = 4, wait_ms = 10, memory_mb = 64 }\n";

fn skerry(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(tests::fleet::skerry()).args(arguments).current_dir(folder).output().expect("the binary runs")
}

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).expect("a file");
    }
    folder
}

/// A log as a PoP writes it: two requests a second for a minute, alternately in two PoPs.
fn pop_log() -> String {
    let line = |i: u32| {
        let (pop, second, part) = (["lhr", "iad"][i as usize % 2], i / 2, (i % 2) * 500_000);
        format!(
            "2026-11-27T12:00:{second:02}.{part:06}Z  INFO access: pop={pop} method=GET path=\"/a\" status=200 \
             function=a@0123 request_id={i} millis=4.5\n"
        )
    };
    (0..120).map(line).collect()
}

#[test]
fn a_pops_own_log_is_played_by_the_simulator_and_planned_for() {
    let folder = folder(&[("s.toml", SCENARIO), ("load.toml", LOAD), ("pop.log", &pop_log())]);
    let played = skerry(folder.path(), &["simulate", "s.toml", "--log", "pop.log", "--json"]);
    assert!(played.status.success(), "{}", String::from_utf8_lossy(&played.stderr));
    let report: serde_json::Value = serde_json::from_slice(&played.stdout).expect("JSON");
    assert_eq!((report["arrived"].as_u64(), report["answered"].as_u64()), (Some(120), Some(120)));
    assert_eq!((report["pops"][0]["arrived"].as_u64(), report["pops"][1]["arrived"].as_u64()), (Some(60), Some(60)));
    assert!(report["assumptions"].to_string().contains("as it was recorded"));
    let planned = skerry(folder.path(), &["plan", "--load", "load.toml", "--log", "pop.log", "--json"]);
    assert!(planned.status.success(), "{}", String::from_utf8_lossy(&planned.stderr));
}

#[test]
fn a_log_that_cannot_be_used_is_told_with_its_line() {
    let folder = folder(&[
        ("s.toml", SCENARIO),
        ("load.toml", LOAD),
        ("empty.log", ""),
        ("back.csv", "timestamp,function,duration_ms\n5000,a,1\n1000,a,1\n"),
        ("torn.log", &(pop_log() + "2026-11-27T12:01:00.000000Z  INFO access: pop=lhr method=GET\n")),
    ]);
    std::fs::write(folder.path().join("long.csv"), "x".repeat(300 << 10)).expect("a file");
    for (file, why) in [
        ("empty.log", "the trace is empty"),
        ("back.csv", "line 3: it goes back by 4.000 s"),
        ("torn.log", "line 121: has no millis"),
        ("long.csv", "line 1"),
        ("missing.log", "cannot read"),
    ] {
        for command in [&["simulate", "s.toml", "--log", file][..], &["plan", "--load", "load.toml", "--log", file]] {
            let output = skerry(folder.path(), command);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(1), "{command:?}: {said}");
            assert!(said.contains(why) && said.contains(file), "{command:?}: {said}");
        }
    }
}

/// Chromium, where there is one.
fn chromium() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let names = ["chromium", "chromium-browser", "google-chrome"];
    std::env::split_paths(&path).flat_map(|folder| names.map(|name| folder.join(name))).find(|path| path.is_file())
}

#[test]
fn the_page_of_a_plan_is_whole_in_a_real_browser() {
    let Some(chromium) = chromium() else {
        assert!(std::env::var_os("CI").is_none(), "chromium is missing, and CI must not go without");
        return eprintln!("\n*** chromium is missing, so the page of a plan is NOT TESTED: apt-get install chromium\n");
    };
    let load = format!("{LOAD}load = {{ base = 200, weekend = 0.5, burst = 1.5 }}\n");
    let folder = folder(&[("load.toml", &load)]);
    let planned = skerry(folder.path(), &["plan", "--load", "load.toml", "--html", "plan.html"]);
    assert!(planned.status.success(), "{}", String::from_utf8_lossy(&planned.stderr));
    let page = format!("file://{}", folder.path().join("plan.html").display());
    let profile = format!("--user-data-dir={}", folder.path().join("profile").display());
    // At the width of a phone; what a script logs, errors too, goes to standard error.
    let options = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--window-size=390,800"];
    let output =
        Command::new(chromium).args(options).args([&profile, "--dump-dom", &page]).output().expect("chromium runs");
    let (dom, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!said.contains("CONSOLE"), "a script or a part of the page failed:\n{said}");
    let plots: Vec<&str> = dom.split("<svg").skip(1).filter_map(|rest| rest.split("</svg>").next()).collect();
    assert!(plots.len() >= 2, "plots are missing:\n{dom}");
    for plot in plots {
        assert!(
            ["<path", "<rect", "<polyline", "<line"].iter().any(|mark| plot.contains(mark)),
            "an empty plot: {plot}"
        );
        assert!(!plot.contains("NaN") && !plot.contains("inf"), "a plot of no numbers: {plot}");
    }
}
