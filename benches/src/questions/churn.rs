//! Whether a process grows by starting functions and giving them up.

use super::{Question, path};
use crate::figure::Figure;
use crate::load::{self, Pace};
use crate::report::{Column, Report};
use crate::skerry::{Origin, Pop};
use crate::{Bench, Failure};

const ABOUT: &str =
    "resident memory of one process that starts a function for every request, and gives up another for it";

/// Functions that take turns: more than the process may keep.
const FUNCTIONS: u32 = 400;

/// The first look at the memory comes after so many boots, the others at every tenth of the whole.
const FIRST: u32 = 1000;

const CONNECTIONS: usize = 8;

/// Memory for isolates: little, so that nearly every function is given up before its turn comes again.
const BUDGET: [&str; 2] = ["--isolates", "128MiB"];

const COLUMNS: [Column; 4] = [
    Column::new("RSS MiB", "resident_mib", 1),
    Column::new("by the first", "ratio_to_first", 3),
    Column::new("p50 µs since", "p50_micros", 0),
    Column::new("CPU µs/boot since", "cpu_micros_per_boot", 0),
];

/// Measures.
///
/// # Errors
/// What did not start or answer, or was answered without a boot.
pub(super) async fn ask(bench: &Bench) -> Result<Report, Failure> {
    let folder = tempfile::tempdir()?;
    let mut report = Report::new(bench, Question::Churn, ABOUT);
    let boots = bench.options.boots;
    let origin = Origin::start(bench, folder.path()).await?;
    origin.deploy_many(FUNCTIONS).await?;
    origin.fill("pop").await?;
    let pop = match bench.skerry.takes(BUDGET[0]) {
        true => Pop::named("pop").with(&BUDGET),
        false => {
            report.note(format!("this skerry has no option {}: it keeps what it keeps by default", BUDGET[0]));
            Pop::named("pop")
        }
    };
    let server = origin.pop(&pop).await?;

    report.method(format!(
        "{FUNCTIONS} small functions in turns, {boots} requests over {CONNECTIONS} connections, a closed loop; memory for \
         isolates: {}; every request has started an isolate, or this would have failed",
        BUDGET[1]
    ));
    report.note("workerd's loader keeps what it has loaded, and Deno has none: neither gives up functions");
    let table = report.table("boots", &COLUMNS);
    let looks = std::iter::once(FIRST).chain((1..=10).map(|tenth| boots / 10 * tenth)).filter(|look| *look >= FIRST);
    let (mut done, mut first) = (0, None);
    for look in looks {
        if look <= done {
            continue;
        }
        let cpu = server.usage().cpu;
        let paths = (done..look).map(|boot| path(boot % FUNCTIONS));
        let touched = load::touch(&server, paths, Pace::Together(CONNECTIONS)).await?;
        if touched.starts() != u64::from(look - done) {
            let (starts, requests) = (touched.starts(), look - done);
            return Err(format!("{starts} isolates were started for {requests} requests: too many were kept").into());
        }
        let cpu = server.usage().cpu.saturating_sub(cpu).as_secs_f64() * 1e6 / f64::from(look - done);
        let resident = server.resident_mib();
        let values = [
            Some(resident),
            Some(resident / *first.get_or_insert(resident)),
            touched.first_byte.micros(0.5),
            Some(cpu),
        ];
        table.row(look.to_string(), values.map(|value| value.into_iter().collect::<Figure>()).into());
        done = look;
    }
    Ok(report)
}
