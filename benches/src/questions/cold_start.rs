//! How long the first visitor of a function waits.

use std::time::Duration;

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;

use super::{Question, path};
use crate::figure::Figure;
use crate::load::{self, Pace, Touched};
use crate::peers::workerd;
use crate::report::{Column, Report};
use crate::server::Server;
use crate::skerry::{AccessLog, Origin};
use crate::{Bench, Failure};

const ABOUT: &str = "from the first byte of a function's first request to the first byte of its answer";

/// Functions unless the command line says otherwise.
const FUNCTIONS: u32 = 1000;

/// Of all functions, the tenth that is asked for first: so slowly that no start waits for another.
const CALM: (usize, Pace) = (10, Pace::Apart(Duration::from_millis(20)));

/// The others: all connections are always waiting.
const STORM: Pace = Pace::Together(8);

/// The functions asked for last are asked once more. So many are kept by every platform with its defaults.
const AGAIN: usize = 400;

/// Requests to one function before anything is measured: the server's own code is warm then, as in any that serves.
const WARM_UP: usize = 500;

const COLUMNS: [Column; 8] = [
    Column::new("requests", "requests", 0),
    Column::range("p50 µs", "p50_micros", 0),
    Column::range("p99 µs", "p99_micros", 0),
    Column::new("max µs", "max_micros", 0),
    Column::new("starts", "starts", 0),
    Column::new("unpooled", "starts_unpooled", 0),
    Column::new("start p50", "start_p50_micros", 0),
    Column::new("function p50", "function_p50_micros", 0),
];

const PHASES: [&str; 3] = ["first, one every 20 ms", "first, always 8 waiting", "again, always 8 waiting"];

/// One platform's figures: for each phase, one for each column.
struct Rows(&'static str, Vec<Vec<Figure>>);

impl Rows {
    fn new(name: &'static str) -> Self {
        Self(name, vec![vec![Figure::default(); COLUMNS.len()]; PHASES.len()])
    }

    fn add(&mut self, phases: &[Touched]) {
        for (row, touched) in self.1.iter_mut().zip(phases) {
            let Touched { first_byte, starts, unpooled, functions } = touched;
            // Only a platform with Server-Timing tells of its starts.
            let told = |count: u64| (functions.count() > 0).then_some(count as f64);
            let values = [
                Some(first_byte.count() as f64),
                first_byte.micros(0.5),
                first_byte.micros(0.99),
                first_byte.micros(1.0),
                told(starts.count()),
                told(*unpooled),
                starts.micros(0.5),
                functions.micros(0.5),
            ];
            row.iter_mut().zip(values).for_each(|(figure, value)| figure.add(value));
        }
    }
}

/// Measures.
///
/// # Errors
/// What did not start or answer.
pub(super) async fn ask(bench: &Bench) -> Result<Report, Failure> {
    let folder = tempfile::tempdir()?;
    let (machine, folder) = (&bench.machine, folder.path());
    let mut report = Report::new(bench, Question::ColdStart, ABOUT, &COLUMNS);
    let functions = bench.options.functions.unwrap_or(FUNCTIONS);
    let workerd = report.peer(workerd::WORKERD);
    let origin = Origin::start(bench, folder).await?;
    origin.deploy_many(functions).await?;
    origin.fill("pop").await?;
    let (mut skerry, mut loader) = (Rows::new("skerry"), Rows::new("workerd loader"));
    for round in 0..bench.options.rounds {
        skerry.add(&phases(&origin.pop("pop", AccessLog::Off).await?, functions, round).await?);
        if let Some(workerd) = &workerd {
            loader.add(&phases(&workerd::loader(machine, workerd, folder).await?, functions, round).await?);
        }
    }
    let rounds = bench.options.rounds;
    report.method(format!(
        "{functions} different small functions in random order, closed loop; {rounds} rounds, in each a new process: \
         median (least..greatest); start and function as Server-Timing tells them, unpooled: starts with no isolate ready"
    ));
    let rows = [Some(skerry), workerd.map(|_| loader)];
    for Rows(name, phases) in rows.into_iter().flatten() {
        for (phase, figures) in PHASES.iter().zip(phases) {
            report.row(format!("{name}: {phase}"), figures);
        }
    }
    Ok(report)
}

async fn phases(server: &Server, functions: u32, round: u32) -> Result<[Touched; 3], Failure> {
    let mut random = StdRng::seed_from_u64(u64::from(round));
    let mut paths: Vec<String> = (1..functions).map(path).collect();
    paths.shuffle(&mut random);
    load::touch(server, std::iter::repeat_n(path(0), WARM_UP), STORM).await?;
    let (few, many) = paths.split_at(paths.len() / CALM.0);
    let calm = load::touch(server, few, CALM.1).await?;
    let storm = load::touch(server, many, STORM).await?;
    let mut latest = many[many.len().saturating_sub(AGAIN)..].to_vec();
    latest.shuffle(&mut random);
    let again = load::touch(server, latest, STORM).await?;
    Ok([calm, storm, again])
}
