//! More functions than memory for them: the longest idle are given up.

use std::time::Duration;

use super::{BUDGET, path};
use crate::load::{self, Pace};
use crate::report::{Column, Report};
use crate::skerry::{Origin, Pop};
use crate::{Bench, Failure};

/// Memory for isolates, in MiB.
const MIB: u32 = 256;

/// The process that the cost is counted from has a tenth of the functions; they do not fit either.
const FEW: u32 = 10;

/// Of the functions that were given up first, so many are visited again.
const RETURNS: u32 = 200;

/// Visitors come so slowly that none waits for another's start.
const VISITS: f64 = 100.0;

/// Until what was given up last has gone back to the system.
const SETTLE: Duration = Duration::from_secs(3);

const CONNECTIONS: usize = 8;

const COLUMNS: [Column; 9] = [
    Column::new("RSS MiB", "resident_mib", 1),
    Column::new("peak RSS MiB", "peak_resident_mib", 1),
    Column::new("budget MiB", "budget_mib", 0),
    Column::new("KiB/function given up", "kib_per_evicted", 1),
    Column::new("first p50 µs", "first_p50_micros", 0),
    Column::new("first p99 µs", "first_p99_micros", 0),
    Column::new("return p50 µs", "return_p50_micros", 0),
    Column::new("return p99 µs", "return_p99_micros", 0),
    Column::new("RSS MiB untouched", "untouched_resident_mib", 1),
];

/// Adds a table.
///
/// # Errors
/// What did not start or answer, or kept a function that it should have given up.
pub(super) async fn measure(bench: &Bench, report: &mut Report) -> Result<(), Failure> {
    let mut rows = Vec::new();
    for functions in [bench.options.many / FEW, bench.options.many] {
        let visited = visit(bench, functions).await;
        rows.push((functions, visited.map_err(|failure| format!("with {functions} functions: {failure}"))?));
    }
    let [(few, first), (many, last)] = &rows[..] else { return Err("there are two rows".into()) };
    let evicted = (last[0] - first[0]) * 1024.0 / f64::from(many - few);
    report.note(format!(
        "given up: {VISITS} first visits a second would take too long for {many} functions, so all are visited over \
         {CONNECTIONS} connections in a closed loop; then {RETURNS} of those visited first come back, {VISITS} a second"
    ));
    report.note(format!(
        "KiB/function given up: what the process with {many} functions has more than that with {few}, for each function \
         that it has more; both have a budget of {MIB} MiB for isolates"
    ));
    let table = report.table("functions deployed, each visited once", &COLUMNS);
    for (functions, [resident, untouched, peak, first, first_99, back, back_99]) in rows {
        let evicted = (functions == bench.options.many).then_some(evicted);
        let values = [
            Some(resident),
            Some(peak),
            Some(f64::from(MIB)),
            evicted,
            Some(first),
            Some(first_99),
            Some(back),
            Some(back_99),
            Some(untouched),
        ];
        table.row(functions.to_string(), values.map(|value| value.into_iter().collect()).into());
    }
    Ok(())
}

/// Resident memory after all visits, before the first one, and at its peak; and latencies: of first visits, and of returns.
async fn visit(bench: &Bench, functions: u32) -> Result<[f64; 7], Failure> {
    let folder = tempfile::tempdir()?;
    let origin = Origin::start(bench, folder.path()).await?;
    origin.deploy_many(functions).await?;
    origin.fill("pop").await?;
    let server = origin.pop(&Pop::named("pop").with(&[BUDGET, &format!("{MIB}MiB")])).await?;
    let untouched = server.resident_mib();
    server.reset_peak()?;
    let first = load::touch(&server, (0..functions).map(path), Pace::Together(CONNECTIONS)).await?;
    let peak = server.peak_mib();
    tokio::time::sleep(SETTLE).await;
    let resident = server.resident_mib();
    let pace = Pace::Random { per_second: VISITS, connections: CONNECTIONS, seed: 1 };
    let back = load::touch(&server, (0..RETURNS.min(functions / 4)).map(path), pace).await?;
    if back.starts() != back.first_byte.count() {
        let (kept, of) = (back.first_byte.count() - back.starts(), back.first_byte.count());
        return Err(format!("{kept} of {of} functions were still there that should have been given up").into());
    }
    let micros = |share| [&first, &back].map(|touched| touched.first_byte.micros(share).unwrap_or_default());
    let ([first, back], [first_99, back_99]) = (micros(0.5), micros(0.99));
    Ok([resident, untouched, peak, first, first_99, back, back_99])
}
