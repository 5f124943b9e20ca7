//! How soon a process with many functions answers its first request.

use std::time::{Duration, Instant};

use super::{Question, path};
use crate::figure::Figure;
use crate::peers::workerd;
use crate::report::{Column, Report};
use crate::server::Server;
use crate::skerry::{Origin, Pop};
use crate::{Bench, Failure};

const ABOUT: &str = "from the start of the process to the first 200 of one of its functions";

/// How often it is tried meanwhile.
const EVERY: Duration = Duration::from_micros(200);

const COLUMNS: [Column; 3] = [
    Column::new("functions", "functions", 0),
    Column::range("ms", "millis", 1),
    Column::new("RSS MiB then", "resident_mib", 1),
];

/// Measures.
///
/// # Errors
/// What did not start or answer.
pub(super) async fn ask(bench: &Bench) -> Result<Report, Failure> {
    let folder = tempfile::tempdir()?;
    let (machine, folder) = (&bench.machine, folder.path());
    let mut report = Report::new(bench, Question::FirstRequest, ABOUT);
    let functions = bench.options.functions;
    let workerd = report.peer(workerd::WORKERD);
    let origin = Origin::start(bench, folder).await?;
    let mut rows = Vec::new();
    for functions in [1, functions] {
        origin.deploy_many(functions).await?;
        origin.fill("pop").await?;
        let mut figures = vec![Figure::default(); COLUMNS.len()];
        for _ in 0..bench.options.rounds {
            measure(|| origin.launch(&Pop::named("pop")), functions, &path(functions / 2), &mut figures).await?;
        }
        rows.push(("skerry", figures));
    }
    if let Some(workerd) = &workerd {
        for functions in [1, functions] {
            let mut figures = vec![Figure::default(); COLUMNS.len()];
            for _ in 0..bench.options.rounds {
                measure(|| workerd::launch_many(machine, workerd, folder, functions), functions, "/", &mut figures)
                    .await?;
            }
            rows.push(("workerd", figures));
        }
    }
    let rounds = bench.options.rounds;
    report.method(format!(
        "a new connection and request every {EVERY:?} until one is answered with 200; {rounds} rounds: median \
         (least..greatest)"
    ));
    report.note("skerry has its bundles and manifest on disk from the run before, and an origin that it can reach");
    report.note("workerd has every function as a service of its configuration, all of which it loads at its start");
    report.note("deno serve is one function, so it is not here");
    let table = report.table("", &COLUMNS);
    rows.into_iter().for_each(|(name, figures)| table.row(name, figures));
    Ok(report)
}

async fn measure(
    launch: impl FnOnce() -> Result<Server, Failure>,
    functions: u32,
    path: &str,
    figures: &mut [Figure],
) -> Result<(), Failure> {
    let began = Instant::now();
    let mut server = launch()?;
    server.ready(Some(path), EVERY).await?;
    let took = began.elapsed().as_secs_f64() * 1e3;
    let values = [f64::from(functions), took, server.resident_mib()];
    figures.iter_mut().zip(values).for_each(|(figure, value)| figure.add(value));
    Ok(())
}
