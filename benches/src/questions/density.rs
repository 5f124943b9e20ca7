//! How much memory functions take that are idle, and those that were given up.

use std::time::Duration;

use super::{Question, path};
use crate::figure::Figure;
use crate::load::{self, Pace};
use crate::peers::{deno, workerd};
use crate::report::{Column, Report};
use crate::server::Server;
use crate::skerry::{Origin, Pop};
use crate::{Bench, Failure};

mod many;

const ABOUT: &str = "resident memory of functions that are idle, and of those that were given up for others";

/// The option that bounds the memory for isolates.
const BUDGET: &str = "--isolates";

/// Room for every function of the first table.
const ROOM: &str = "8GiB";

/// Deno Workers: each takes about 9 MiB.
const DENO_FUNCTIONS: u32 = 100;

const ONE: Pace = Pace::Together(1);

const COLUMNS: [Column; 5] = [
    Column::new("KiB/function", "kib_per_function", 0),
    Column::new("functions", "functions", 0),
    Column::new("RSS MiB with the first", "first_resident_mib", 1),
    Column::new("with all", "all_resident_mib", 1),
    Column::new("when all but one are removed", "removed_resident_mib", 1),
];

/// Measures.
///
/// # Errors
/// What did not start or answer, or did not keep all functions.
pub(super) async fn ask(bench: &Bench) -> Result<Report, Failure> {
    let folder = tempfile::tempdir()?;
    let (machine, folder) = (&bench.machine, folder.path());
    let mut report = Report::new(bench, Question::Density, ABOUT);
    let (workerd, deno) = (report.peer(workerd::WORKERD), report.peer(deno::DENO));
    let (functions, settle) = (bench.options.functions, Duration::from_secs_f64(bench.options.settle));
    report.method(format!(
        "each function asked once, then nothing for {settle:?}; (all - first) / (functions - 1); once, in a new process"
    ));
    let mut rows = vec![("skerry", skerry(bench, folder, settle).await?)];
    if let Some(workerd) = &workerd {
        let server = workerd::loader(machine, workerd, folder).await?;
        rows.push(("workerd loader", idle("workerd", &server, functions, settle).await?.into()));
    }
    if let Some(deno) = &deno {
        let server = deno::workers(machine, deno, folder).await?;
        rows.push(("Deno Workers", idle("deno", &server, DENO_FUNCTIONS, settle).await?.into()));
    }
    let table = report.table("idle", &COLUMNS);
    for (name, mut values) in rows {
        values.resize(COLUMNS.len(), f64::NAN);
        let figure = |value: f64| (!value.is_nan()).then_some(value).into_iter().collect::<Figure>();
        table.row(name, values.into_iter().map(figure).collect());
    }
    report.note("workerd's loader and the Deno Workers keep what they have started: nothing of theirs can be removed");
    match bench.skerry.takes(BUDGET) {
        true => many::measure(bench, &mut report).await?,
        false => report.note(format!("functions that were given up: not measured, this skerry has no option {BUDGET}")),
    }
    Ok(report)
}

async fn skerry(bench: &Bench, folder: &std::path::Path, settle: Duration) -> Result<Vec<f64>, Failure> {
    let functions = bench.options.functions;
    let origin = Origin::start(bench, folder).await?;
    origin.deploy_many(functions).await?;
    origin.fill("pop").await?;
    let pop = Pop::named("pop");
    let pop = if bench.skerry.takes(BUDGET) { pop.with(&[BUDGET, ROOM]) } else { pop };
    let server = origin.pop(&pop).await?;
    let mut values = idle("skerry", &server, functions, settle).await?.to_vec();
    origin.remove(1..functions).await?;
    origin.arrived("pop").await?;
    tokio::time::sleep(settle).await;
    values.push(server.resident_mib());
    Ok(values)
}

async fn idle(name: &str, server: &Server, functions: u32, settle: Duration) -> Result<[f64; 4], Failure> {
    load::touch(server, [path(0)], ONE).await?;
    tokio::time::sleep(settle).await;
    let first = server.resident_mib();
    load::touch(server, (1..functions).map(path), ONE).await?;
    tokio::time::sleep(settle).await;
    let all = server.resident_mib();
    let gone = load::touch(server, (0..functions).map(path), ONE).await?.starts();
    if gone > 0 {
        return Err(format!(
            "{name} keeps {gone} of {functions} functions no longer, so the figure would be wrong: ask for less with \
             --functions, or for a shorter --settle"
        )
        .into());
    }
    Ok([(all - first) * 1024.0 / f64::from(functions - 1), f64::from(functions), first, all])
}
