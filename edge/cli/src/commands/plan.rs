//! `skerry plan`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use capacity::plan::{self, Plan as Answer, Question};
use capacity::price::Date;
use clap::Args;

use super::meter::book;
use crate::fleet::Fleet;
use crate::output::{self, Failure, Progress};
use crate::table::{Align, Table};
use crate::up::decisions;

/// Largest file read, in bytes: a trace of ten million requests.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// Find the cheapest place for a load: own machines, reserved, on demand, spot, Fargate, Lambda
///
/// The load is a TOML file with one [[place]] for each place and one [[stream]] for each part of the load:
///
///   [[place]]
///   name = "fra"
///   kind = "edge"            # or "region"
///   distance_km = 300        # of the farthest hundredth of the clients
///   [[stream]]
///   name = "api"
///   work = { cpu_ms = 4, wait_ms = 10, memory_mb = 64 }
///   load = { base = 50, weekend = 0.5, burst = 1.5 }
///   # or: trace = "pop.log" (a PoP's log, a CSV with timestamp,function,duration_ms, or a time a line in ms since 1970)
///   # or: batch = { cores = 64, minutes = 45, hour = 2 }
///
/// Without a load, --explain says what the running fleet decided about its processes last (`skerry up --scale`), and why.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Plan {
    /// The load: a TOML file
    #[arg(long, value_name = "FILE", required_unless_present_any = ["explain", "json"])]
    load: Option<PathBuf>,
    /// State folder of the fleet whose decisions are explained [default: the nearest .skerry]
    #[arg(long, value_name = "FOLDER", conflicts_with = "load")]
    state: Option<PathBuf>,
    /// Most decisions that are explained
    #[arg(long, value_name = "COUNT", default_value_t = 10, conflicts_with = "load")]
    last: usize,
    /// A recorded load for the streams without a load of their own: a PoP's log, a CSV with the columns
    /// timestamp,function,duration_ms (ms) or those of Azure's invocation trace, or a time a line
    #[arg(long, value_name = "FILE", requires = "load")]
    log: Option<PathBuf>,
    /// A price book in place of the one that comes with skerry
    #[arg(long, value_name = "FILE")]
    prices: Option<PathBuf>,
    /// For streams without one of their own, as in p99=200ms,errors=0.1%,residency=EU
    #[arg(long, value_name = "OBJECTIVE")]
    objective: Option<String>,
    /// Days after which a price is called stale
    #[arg(long, value_name = "DAYS", default_value_t = 365)]
    max_age: u32,
    /// Explain the answer in plain sentences
    #[arg(long, conflicts_with = "json")]
    explain: bool,
    /// Also write a page with plots to this file
    #[arg(long, value_name = "FILE", requires = "load")]
    html: Option<PathBuf>,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

impl Plan {
    /// Prints the answer.
    ///
    /// # Errors
    /// When a file cannot be read or makes no sense, or nothing can carry the load.
    pub(crate) fn run(self) -> Result<(), Failure> {
        let Some(load) = &self.load else { return self.decisions() };
        let prices = book(self.prices.as_deref())?;
        let objective = self.objective.as_deref().map(plan::objective).transpose();
        let objective = objective.map_err(|error| Failure::Usage(format!("--objective: {error}")))?;
        let folder = load.parent().unwrap_or_else(|| Path::new("")).to_owned();
        // What is named on the command line is meant from here, and what the file names from where it stands.
        let log = self.log.as_deref().map(std::path::absolute).transpose()?;
        let log = log.as_deref().and_then(Path::to_str);
        let trace = |name: &str| read(&folder.join(name));
        let text = read(load).map_err(Failure::Failed)?;
        let question = Question::parse(&text, objective.as_ref(), prices, log, &trace)
            .map_err(|error| Failure::Failed(format!("the load {} is wrong:\n{error}", load.display())))?;
        let progress = Progress::start("comparing mixes");
        let mut answer = question.plan().map_err(|error| Failure::Failed(error.to_string()))?;
        drop(progress);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        answer.doubts = question.prices.doubts(Date::from_unix_seconds(now), i64::from(self.max_age));
        if let Some(path) = &self.html {
            let title = format!("Plan for {}", load.display());
            fs::write(path, plan::html(&answer, &title))
                .map_err(|error| Failure::Failed(format!("cannot write {}: {error}", path.display())))?;
            output::note(format_args!("wrote {}", path.display()));
        }
        if self.json {
            return output::json(&answer);
        }
        if self.explain { output::print(answer.explain()) } else { output::print(summary(&answer)) }
    }

    /// What a fleet decided about its processes, the latest last.
    fn decisions(&self) -> Result<(), Failure> {
        let found = Fleet::find(self.state.as_deref(), &std::env::current_dir()?);
        let fleet = found.map_err(|error| Failure::Failed(error.to_string()))?;
        let entries = match decisions::last(&fleet.state, self.last) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Failure::Failed(
                    "this fleet has decided nothing: it was started without --scale FILE (to plan for a load, give --load FILE)"
                        .to_owned(),
                ));
            }
            read => read?,
        };
        if self.json {
            return output::json(&entries);
        }
        let said = entries.iter().map(|entry| {
            let at = super::ago((entry.at * 1000.0) as u64);
            format!("{at}: {}\n", entry.explanation.replace('\n', "\n    "))
        });
        output::print(said.collect::<String>())
    }
}

/// The text of a file; what is wrong, for people, when there is none.
fn read(path: &Path) -> Result<String, String> {
    super::read_text(path, MAX_FILE_BYTES)
}

fn summary(answer: &Answer) -> String {
    let (left, right) = (Align::Left, Align::Right);
    let mut table =
        Table::new(&[("HOW", left), ("WHAT", left), ("NUMBER", right), ("OF THE WORK", right), ("A MONTH", right)]);
    for part in &answer.mix.parts {
        let (count, share) = (format!("{:.2}", part.count), format!("{:.0} %", 100.0 * part.share));
        table.row([part.kind.as_str().to_owned(), part.name.clone(), count, share, part.monthly.to_string()]);
    }
    for (money, from) in answer.mix.egress.iter().zip(["from own machines", "from a region"]) {
        if money.micros() > 0 {
            table.row(["bytes to clients", from, "", "", &money.to_string()]);
        }
    }
    table.row(["total", &answer.currency, "", "", &answer.total().to_string()]);
    let (stale, unverified) = (
        answer.doubts.iter().filter(|doubt| doubt.stale_days.is_some()).count(),
        answer.doubts.iter().filter(|doubt| doubt.unverified).count(),
    );
    let doubts = if answer.doubts.is_empty() {
        String::new()
    } else {
        format!(
            "Of the sources of these prices, {stale} are stale and {unverified} unverified; --explain names them.\n"
        )
    };
    format!(
        "{table}{doubts}Why, what would change it, and what happens when a part is lost: --explain, or --html FILE.\n"
    )
}
