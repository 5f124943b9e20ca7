//! How long the first visitor of a function waits.

use std::path::Path;

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;

use super::{Question, path, phases};
use crate::figure::Figure;
use crate::load::{self, Pace, Touched};
use crate::peers::{deno, workerd};
use crate::program::Program;
use crate::report::{Column, Report};
use crate::server::Server;
use crate::skerry::{Origin, Pop};
use crate::{Bench, Failure};

const ABOUT: &str = "from the first byte of a function's first request to the first byte of its answer";

/// Connections, in every row.
const CONNECTIONS: usize = 8;

/// First requests a second.
const CALM: f64 = 100.0;

/// The same when many come at once, and for how many functions: within about a second.
const STORM: f64 = 200.0;
const STORM_FUNCTIONS: usize = 200;

/// What Deno's Workers can follow on one core, and for how many functions: each takes about 9 MiB.
const DENO_RATE: f64 = 20.0;
const DENO_FUNCTIONS: usize = 100;

/// Requests to one function before anything is measured: the server's own code is warm then, as in any that serves.
const WARM_UP: usize = 500;

/// The PoP without code caches.
const UNCACHED: &str = "uncached";

const COLUMNS: [Column; 9] = [
    Column::new("functions", "functions", 0),
    Column::range("p50 µs", "p50_micros", 0),
    Column::range("p99 µs", "p99_micros", 0),
    Column::new("max µs", "max_micros", 0),
    Column::new("p99 µs from schedule", "scheduled_p99_micros", 0),
    Column::new("lag p99 µs", "lag_p99_micros", 0),
    Column::new("starts", "starts", 0),
    Column::new("unpooled", "starts_unpooled", 0),
    Column::new("cached", "starts_cached", 0),
];

/// How a row is asked.
#[derive(Clone, Copy)]
enum Manner {
    Calm,
    Storm,
    /// All connections are always waiting.
    Closed,
    Deno,
}

impl Manner {
    fn show(self) -> String {
        match self {
            Self::Calm => format!("first, {CALM} a second"),
            Self::Storm => format!("first, storm of {STORM} a second"),
            Self::Closed => format!("first, always {CONNECTIONS} waiting"),
            Self::Deno => format!("first, {DENO_RATE} a second"),
        }
    }

    fn pace(self, seed: u64) -> Pace {
        let random = |per_second| Pace::Random { per_second, connections: CONNECTIONS, seed };
        match self {
            Self::Calm => random(CALM),
            Self::Storm => random(STORM),
            Self::Closed => Pace::Together(CONNECTIONS),
            Self::Deno => random(DENO_RATE),
        }
    }

    fn functions(self) -> usize {
        match self {
            Self::Calm | Self::Closed => usize::MAX,
            Self::Storm => STORM_FUNCTIONS,
            Self::Deno => DENO_FUNCTIONS,
        }
    }
}

/// Whose functions.
#[derive(Clone)]
enum Platform<'a> {
    Skerry(Pop<'a>),
    Workerd(&'a Program),
    Deno(&'a Program),
}

/// Figures of one platform asked in one manner.
struct Row<'a> {
    name: String,
    platform: Platform<'a>,
    manner: Manner,
    figures: Vec<Figure>,
    phases: phases::Rows,
}

impl<'a> Row<'a> {
    fn new(name: &str, platform: &Platform<'a>, manner: Manner) -> Self {
        let figures = vec![Figure::default(); COLUMNS.len()];
        Self {
            name: format!("{name}: {}", manner.show()),
            platform: platform.clone(),
            manner,
            figures,
            phases: phases::Rows::default(),
        }
    }

    /// One round, with a new process.
    async fn measure(&mut self, bench: &Bench, origin: &Origin<'_>, folder: &Path, seed: u64) -> Result<(), Failure> {
        let functions = bench.options.functions;
        let server = match &self.platform {
            Platform::Skerry(pop) => origin.pop(pop).await,
            Platform::Workerd(workerd) => workerd::loader(&bench.machine, workerd, folder).await,
            Platform::Deno(deno) => deno::workers(&bench.machine, deno, folder).await,
        };
        let server = server?;
        let mut paths: Vec<String> = (1..functions).map(path).collect();
        paths.shuffle(&mut StdRng::seed_from_u64(seed));
        paths.truncate(self.manner.functions());
        let touched = self.touch(&server, &paths, seed).await.map_err(|failure| format!("{}: {failure}", self.name))?;
        self.add(&touched);
        Ok(())
    }

    async fn touch(&self, server: &Server, paths: &[String], seed: u64) -> Result<Touched, Failure> {
        load::touch(server, std::iter::repeat_n(path(0), WARM_UP), Pace::Together(CONNECTIONS)).await?;
        let touched = load::touch(server, paths, self.manner.pace(seed)).await?;
        let (starts, functions) = (touched.starts(), paths.len() as u64);
        if matches!(self.platform, Platform::Skerry(_)) && starts != functions {
            return Err(
                format!("{starts} isolates were started for {functions} functions that never ran before").into()
            );
        }
        Ok(touched)
    }

    fn add(&mut self, touched: &Touched) {
        let told = matches!(self.platform, Platform::Skerry(_));
        let count = |count: u64| told.then_some(count as f64);
        let Touched { first_byte, scheduled, lag, phases } = touched;
        let values = [
            Some(first_byte.count() as f64),
            first_byte.micros(0.5),
            first_byte.micros(0.99),
            first_byte.micros(1.0),
            scheduled.micros(0.99),
            lag.micros(0.99),
            count(touched.starts()),
            count(phases.count("isolate", Some("unpooled"))),
            count(phases.count("compile", Some("cached"))),
        ];
        self.figures.iter_mut().zip(values).for_each(|(figure, value)| figure.add(value));
        self.phases.add(phases);
    }
}

/// Measures.
///
/// # Errors
/// What did not start or answer, or did not start an isolate for a function that had none.
pub(super) async fn ask(bench: &Bench) -> Result<Report, Failure> {
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    let mut report = Report::new(bench, Question::ColdStart, ABOUT);
    let (workerd, deno) = (report.peer(workerd::WORKERD), report.peer(deno::DENO));
    let origin = Origin::start(bench, folder).await?;
    let functions = bench.options.functions;
    origin.deploy_many(functions).await?;
    origin.fill("pop").await?;

    let cached = origin.fill_without_code_caches(UNCACHED).await?;
    let mut rows = skerry(bench, &mut report, cached);
    if let Some(workerd) = &workerd {
        let platform = Platform::Workerd(workerd);
        rows.extend(
            [Manner::Calm, Manner::Storm, Manner::Closed].map(|manner| Row::new("workerd loader", &platform, manner)),
        );
    }
    if let Some(deno) = &deno {
        rows.push(Row::new("Deno Workers", &Platform::Deno(deno), Manner::Deno));
    }
    for round in 0..bench.options.rounds {
        for row in &mut rows {
            row.measure(bench, &origin, folder, u64::from(round)).await?;
        }
    }
    tell(bench, &mut report, functions);
    let table = report.table("", &COLUMNS);
    rows.iter().for_each(|row| table.row(row.name.clone(), row.figures.clone()));
    let table = report.table("phases, as Server-Timing tells them", &phases::COLUMNS);
    rows.into_iter().for_each(|row| row.phases.put(&row.name, table));
    Ok(report)
}

/// The rows of this platform: as configured by default, and without what makes a start fast.
fn skerry<'a>(bench: &Bench, report: &mut Report, cached: bool) -> Vec<Row<'a>> {
    let default = Platform::Skerry(Pop::named("pop"));
    let mut rows = vec![Row::new("skerry", &default, Manner::Calm)];
    match bench.skerry.takes("--ready") {
        true => {
            let platform = Platform::Skerry(Pop::named("pop").with(&["--ready", "0"]));
            rows.push(Row::new("skerry, pool empty", &platform, Manner::Calm));
        }
        false => report.note("pool empty: not measured, this skerry has no option --ready"),
    }
    match cached {
        true => {
            let platform = Platform::Skerry(Pop::named(UNCACHED));
            rows.push(Row::new("skerry, no code cache", &platform, Manner::Calm));
        }
        false => report.note("no code cache: this skerry makes none, so all its rows are without"),
    }
    rows.extend([Manner::Storm, Manner::Closed].map(|manner| Row::new("skerry", &default, manner)));
    rows
}

fn tell(bench: &Bench, report: &mut Report, functions: u32) {
    let rounds = bench.options.rounds;
    report.method(format!(
        "{functions} different small functions deployed, asked for in random order over {CONNECTIONS} connections that \
         are open before, after {WARM_UP} requests to another one; limits and metrics on; {rounds} rounds, in each a new \
         process: median (least..greatest)"
    ));
    report.note(format!(
        "so many a second: at random as independent clients come (Poisson), an open loop. Latency counts from the first \
         byte of the request at the socket, since the question is what one start costs; what waited for a free one of \
         the {CONNECTIONS} connections before is the lag, and 'from schedule' has both"
    ));
    report.note(
        "starts, those that found no isolate ready (unpooled), and those from a code cache (cached) are what skerry tells",
    );
    report.note(format!(
        "Deno has no loader: a Deno Worker for each function in one `deno serve` process, {DENO_FUNCTIONS} of them, since \
         one takes about 9 MiB, a thread and 17 ms of processor time"
    ));
    report.note(
        "workerd has the sources in memory; skerry has the bundles on its disk and reads one when it is asked for",
    );
}
