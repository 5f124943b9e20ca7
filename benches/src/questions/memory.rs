//! How much memory an idle function takes.

use std::time::Duration;

use super::{Question, path};
use crate::figure::Figure;
use crate::load::{self, Pace};
use crate::peers::workerd;
use crate::report::{Column, Report};
use crate::server::Server;
use crate::skerry::{AccessLog, Origin};
use crate::{Bench, Failure};

const ABOUT: &str = "resident memory for each function that has answered and is idle: (all - first) / (functions - 1)";

/// Functions unless the command line says otherwise: as many as a worker of Skerry keeps.
const FUNCTIONS: u32 = 500;

/// Until what goes on behind the last answer is over.
const SETTLE: Duration = Duration::from_millis(500);

const ONE: Pace = Pace::Together(1);

const COLUMNS: [Column; 4] = [
    Column::range("KiB/function", "kib_per_function", 0),
    Column::new("functions", "functions", 0),
    Column::new("RSS MiB with the first", "first_resident_mib", 1),
    Column::new("with all", "all_resident_mib", 1),
];

/// Measures.
///
/// # Errors
/// What did not start or answer, or did not keep all functions.
pub(super) async fn ask(bench: &Bench) -> Result<Report, Failure> {
    let folder = tempfile::tempdir()?;
    let (machine, folder) = (&bench.machine, folder.path());
    let mut report = Report::new(bench, Question::Memory, ABOUT, &COLUMNS);
    let functions = bench.options.functions.unwrap_or(FUNCTIONS);
    let workerd = report.peer(workerd::WORKERD);
    let origin = Origin::start(bench, folder).await?;
    origin.deploy_many(functions).await?;
    origin.fill("pop").await?;
    let (mut skerry, mut loader) = (vec![Figure::default(); COLUMNS.len()], vec![Figure::default(); COLUMNS.len()]);
    for _ in 0..bench.options.rounds {
        measure("skerry", &origin.pop("pop", AccessLog::Off).await?, functions, &mut skerry).await?;
        if let Some(workerd) = &workerd {
            measure("workerd", &workerd::loader(machine, workerd, folder).await?, functions, &mut loader).await?;
        }
    }
    let rounds = bench.options.rounds;
    report
        .method(format!("each function asked once; {rounds} rounds, in each a new process: median (least..greatest)"));
    report.row("skerry", skerry);
    if workerd.is_some() {
        report.row("workerd loader", loader);
    }
    Ok(report)
}

async fn measure(name: &str, server: &Server, functions: u32, figures: &mut [Figure]) -> Result<(), Failure> {
    load::touch(server, [path(0)], ONE).await?;
    tokio::time::sleep(SETTLE).await;
    let first = server.usage().resident as f64;
    load::touch(server, (1..functions).map(path), ONE).await?;
    tokio::time::sleep(SETTLE).await;
    let all = server.usage().resident as f64;
    let gone = load::touch(server, (0..functions).map(path), ONE).await?.starts.count();
    if gone > 0 {
        let less = "ask for less with --functions";
        return Err(
            format!("{name} keeps less than {functions} functions, so the figure would be wrong: {less}").into()
        );
    }
    let mib = f64::from(1 << 20);
    let each = (all - first) / f64::from(functions - 1) / 1024.0;
    let values = [each, f64::from(functions), first / mib, all / mib];
    figures.iter_mut().zip(values).for_each(|(figure, value)| figure.add(value));
    Ok(())
}
