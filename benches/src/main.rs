//! Answers questions about Skerry's speed with figures, beside peers measured in the same run.
//!
//! [`questions`] has one file for each question. What they stand on: [`skerry`] and [`peers`] start what is measured,
//! [`server`] holds it as a process on a core of its own, [`load`] asks it over [`connection`]s, [`rounds`] takes turns
//! among several, and [`report`] puts the figures into tables and JSON.

mod connection;
mod figure;
mod fleet;
mod flow;
mod latencies;
mod load;
mod machine;
mod objects;
mod peers;
mod process;
mod program;
mod questions;
mod replay;
mod report;
mod rounds;
mod server;
mod skerry;
mod sources;
mod timing;
mod token;
mod upstream;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use machine::Machine;
use program::Program;
use questions::Question;
use report::Report;

/// Whatever stops a bench, said for the person who runs it.
type Failure = Box<dyn std::error::Error>;

/// Answers questions about Skerry's speed with figures, beside peers measured in the same run
///
/// Peers that are not installed are named with the command that installs them.
#[derive(Debug, Parser)]
#[command(name = "benches", verbatim_doc_comment)]
struct Options {
    /// Questions to answer [default: all]
    #[arg(value_enum)]
    questions: Vec<Question>,
    /// Length of one sample under load, in seconds
    #[arg(long, default_value = "2", value_parser = seconds)]
    seconds: f64,
    /// Rounds: every server is measured once in each
    #[arg(long, default_value = "3", value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Functions of cold_start, first_request and density
    #[arg(long, default_value = "1000", value_parser = clap::value_parser!(u32).range(20..=1000))]
    functions: u32,
    /// Functions that are deployed and given up in density
    #[arg(long, default_value = "10000", value_parser = clap::value_parser!(u32).range(3000..=10_000))]
    many: u32,
    /// Boots of churn
    #[arg(long, default_value = "100000", value_parser = clap::value_parser!(u32).range(2000..=10_000_000))]
    boots: u32,
    /// Objects of resident
    #[arg(long, default_value = "1000000", value_parser = clap::value_parser!(u64).range(1000..=10_000_000))]
    objects: u64,
    /// Requests of zipf, 2,000 a second
    #[arg(long, default_value = "120000", value_parser = clap::value_parser!(u32).range(1000..=10_000_000))]
    requests: u32,
    /// Time until functions count as idle in density, in seconds
    #[arg(long, default_value = "10", value_parser = seconds)]
    settle: f64,
    /// MiB of the bodies of streaming
    #[arg(long, default_value = "1024", value_parser = clap::value_parser!(u64).range(512..=4096))]
    mib: u64,
    /// Length of the traces of fidelity and failover, in seconds
    #[arg(long, default_value = "60", value_parser = clap::value_parser!(u32).range(20..=3600))]
    trace: u32,
    /// Write the figures as JSON, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.1..=60.0).contains(seconds));
    seconds.ok_or_else(|| format!("{text:?} is not a number from 0.1 to 60"))
}

/// What every question gets.
struct Bench {
    options: Options,
    machine: Machine,
    skerry: Program,
}

fn main() -> ExitCode {
    let options = Options::parse();
    match run(options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> Result<bool, Failure> {
    let machine = Machine::look()?;
    // This thread generates the load; whatever it starts without saying where runs beside it.
    machine.stay_off_the_servers_core()?;
    let bench = Bench { skerry: Program::skerry()?, options, machine };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        // Dropping the questions ends every process that they have started.
        tokio::select! {
            answered = answer(&bench) => answered,
            _ = tokio::signal::ctrl_c() => Err("interrupted".into()),
            _ = terminate.recv() => Err("terminated".into()),
        }
    })
}

/// Answers what was asked, in order. Whether everything could be answered.
async fn answer(bench: &Bench) -> Result<bool, Failure> {
    let mut reports = Vec::new();
    let mut sound = true;
    for question in Question::chosen(&bench.options.questions) {
        eprintln!("{question}: measuring ...");
        match question.ask(bench).await {
            Ok(report) => {
                println!("{report}");
                reports.push(report);
            }
            Err(failure) => {
                eprintln!("{question}: {failure}");
                sound = false;
            }
        }
    }
    if let Some(path) = &bench.options.json {
        write(path, &reports)?;
    }
    Ok(sound)
}

fn write(path: &Path, reports: &[Report]) -> Result<(), Failure> {
    let json: Vec<_> = reports.iter().map(Report::json).collect();
    let text = serde_json::to_string_pretty(&json)? + "\n";
    std::fs::write(path, text).map_err(|error| format!("cannot write {}: {error}", path.display()).into())
}
