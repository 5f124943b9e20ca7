//! `skerry simulate`.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use capacity::load::log::{Log, LogError, Trace};
use capacity::simulate::report::Report;
use capacity::simulate::{self, Scenario, regret};
use clap::Args;

use crate::output::{self, Failure, Progress};
use crate::table::{Align, Table};

/// Largest scenario read, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// Longest line of a log, in bytes.
const MAX_LINE_BYTES: u64 = 256 << 10;
/// PoPs that are shown on a terminal; all are in the JSON.
const SHOWN_POPS: usize = 20;

/// Play a fleet on paper: PoPs, isolates, caches, queues, scaling and what befalls them
///
/// The scenario is a TOML file; the shortest one is
///
///   name = "one pop"
///   duration = "10m"
///   [load]
///   rate = 500.0             # requests a second
///   [functions]
///   service = { lognormal = { p50 = "1ms", p99 = "10ms" } }
///   [[pops]]
///   nodes = 2
///
/// The same scenario and seed give the same result to the byte. What the result rests on is printed below it.
///
/// Exit code 1 when the objective is broken.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Simulate {
    /// The scenario: a TOML file
    #[arg(required_unless_present = "regret")]
    scenario: Option<PathBuf>,
    /// Play this recorded load in place of the scenario's: a PoP's log, a CSV with the columns
    /// timestamp,function,duration_ms (ms) or those of Azure's invocation trace
    #[arg(long, value_name = "FILE", conflicts_with = "regret")]
    log: Option<PathBuf>,
    /// Compare scaling policies with one that knows the future, under five loads
    #[arg(long, conflicts_with = "scenario")]
    regret: bool,
    /// Seed of all that comes by chance
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

impl Simulate {
    /// Prints the result.
    ///
    /// # Errors
    /// When the file makes no sense, or the objective is broken.
    pub(crate) fn run(self) -> Result<(), Failure> {
        let Some(path) = &self.scenario else { return self.compare() };
        let text = read(path)?;
        let trace = self.log.as_deref().map(recorded).transpose()?;
        let scenario = Scenario::parse_under(&text, trace)
            .map_err(|error| Failure::Failed(format!("the scenario {} is wrong:\n{error}", path.display())))?;
        let progress = Progress::start(format!("simulating {}", scenario.name));
        let mut said = 0;
        let tally = simulate::run(&scenario, self.seed, &mut |part| {
            let percent = (part * 100.0) as u32;
            if percent > said {
                said = percent;
                progress.say(format!("simulating {}: {percent} %", scenario.name));
            }
        })?;
        drop(progress);
        let report = Report::new(&scenario, self.seed, &tally);
        if self.json {
            output::json(&report)?
        } else {
            output::print(shown(&report))?
        }
        if report.violated > report.violations_allowed {
            let (seen, allowed) = (report.violated * 100.0, report.violations_allowed * 100.0);
            return Err(Failure::Failed(format!(
                "the objective is broken: {seen:.3} % violations, and {allowed:.3} % are allowed"
            )));
        }
        Ok(())
    }

    fn compare(&self) -> Result<(), Failure> {
        let progress = Progress::start("comparing policies");
        let mut rows = Vec::new();
        for load in regret::LOADS {
            progress.say(format!("comparing policies: {load}"));
            let scenario = regret::trial(load);
            rows.extend(regret::compare(load, &scenario, &regret::policies(&scenario, self.seed), self.seed));
        }
        drop(progress);
        if self.json { output::json(&rows) } else { output::print(regret::text(&rows)) }
    }
}

/// Reads a log line by line, so that only its requests are in memory.
fn recorded(path: &Path) -> Result<Trace, Failure> {
    let said = |error: std::io::Error| Failure::Failed(format!("cannot read {}: {error}", path.display()));
    let wrong = |error: LogError| Failure::Failed(format!("the log {} is wrong: {error}", path.display()));
    let mut file = BufReader::new(fs::File::open(path).map_err(said)?);
    let (mut log, mut line, mut number) = (Log::default(), Vec::new(), 0_usize);
    loop {
        line.clear();
        number += 1;
        if file.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line).map_err(said)? == 0 {
            return log.done().map_err(wrong);
        }
        if line.len() as u64 == MAX_LINE_BYTES && line.last() != Some(&b'\n') {
            let path = path.display();
            return Err(Failure::Failed(format!(
                "the log {path} is wrong: line {number} is longer than {MAX_LINE_BYTES} bytes"
            )));
        }
        log.line(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n'])).map_err(wrong)?;
    }
}

fn read(path: &Path) -> Result<String, Failure> {
    let said = |error: std::io::Error| Failure::Failed(format!("cannot read {}: {error}", path.display()));
    let mut text = String::new();
    fs::File::open(path).map_err(said)?.take(MAX_FILE_BYTES + 1).read_to_string(&mut text).map_err(said)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(Failure::Failed(format!("{} is larger than {MAX_FILE_BYTES} bytes", path.display())));
    }
    Ok(text)
}

fn shown(report: &Report) -> String {
    let (left, right) = (Align::Left, Align::Right);
    let mut result = Table::new(&[("RESULT", left), ("OF THE SIMULATION", left)]);
    result.row(["scenario".to_owned(), format!("{}, {} s, seed {}", report.scenario, report.seconds, report.seed)]);
    for (name, value) in report.lines() {
        result.row([name.to_owned(), value]);
    }
    let mut pops = Table::new(&[
        ("POP", left),
        ("ARRIVED", right),
        ("REFUSED", right),
        ("P99 MS", right),
        ("NODE HOURS", right),
        ("NODES", right),
    ]);
    for pop in report.pops.iter().take(SHOWN_POPS) {
        let (p99, hours) = (format!("{:.2}", pop.p99 * 1e3), format!("{:.2}", pop.node_hours));
        pops.row([
            pop.name.clone(),
            pop.arrived.to_string(),
            pop.refused.to_string(),
            p99,
            hours,
            pop.nodes.to_string(),
        ]);
    }
    let mut text = format!("{result}\n{pops}");
    if report.pops.len() > SHOWN_POPS {
        text.push_str(&format!("and {} more PoPs, which --json shows\n", report.pops.len() - SHOWN_POPS));
    }
    text.push_str("\nASSUMPTIONS\n");
    for assumption in &report.assumptions {
        text.push_str(&format!("- {assumption}\n"));
    }
    text
}
