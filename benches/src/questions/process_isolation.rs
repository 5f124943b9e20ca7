//! What a process of its own costs a function.

use std::sync::Arc;
use std::time::Duration;

use super::{Question, path};
use crate::figure::Figure;
use crate::flow::Flow;
use crate::load::{self, Pace};
use crate::report::{Column, Report};
use crate::rounds::{self, Contender};
use crate::server::Server;
use crate::skerry::{Origin, Pop, function};
use crate::upstream::{SMALL_BYTES, Upstream};
use crate::{Bench, Failure, sources};

const ABOUT: &str =
    "the same functions in isolates of one process, and each tenant's in a process behind its own walls";

/// Puts every function of a PoP into a process of its tenant's.
const CELLS: [&str; 2] = ["--isolation", "process"];

/// Where each is measured: its name, and the options of its PoP.
const WAYS: [(&str, &[&str]); 2] = [("isolate", &[]), ("process", &CELLS)];

/// Tenants of the second table: each is a process.
const TENANTS: u32 = 50;

/// Between first requests: long enough for the next spare process to stand ready.
const APART: Duration = Duration::from_millis(100);

const COLUMNS: [Column; 5] = [
    Column::new("functions", "functions", 0),
    Column::new("p50 µs", "p50_micros", 0),
    Column::new("p99 µs", "p99_micros", 0),
    Column::new("p50 µs together", "together_p50_micros", 0),
    Column::new("KiB/function", "kib_per_function", 0),
];

/// Measures.
///
/// # Errors
/// What did not start, or did not answer what it should.
pub(super) async fn ask(bench: &Bench) -> Result<Report, Failure> {
    let folder = tempfile::tempdir()?;
    let mut report = Report::new(bench, Question::ProcessIsolation, ABOUT);
    if !bench.skerry.takes(CELLS[0]) {
        report.note(format!("not measured: this skerry has no option {}", CELLS[0]));
        return Ok(report);
    }
    let upstream = Upstream::start(&Arc::new(Flow::default()))?;
    let origin = Origin::start(bench, folder.path()).await?;
    let passed = sources::pass_through_with_field(sources::Origin::Own);
    origin.deploy(&[function("hello", sources::hello()), function("passed", passed)]).await?;
    origin.deploy_many(TENANTS).await?;

    let (mut hello, mut passed) = (Vec::new(), Vec::new());
    for (way, options) in WAYS {
        let server = origin.pop(&Pop::named(way).with(options)).await?;
        hello.push(Contender::new(way, server, "/hello"));
        let name = format!("{way}-passed");
        let pop = Pop::named(&name).with(options).in_front_of(upstream.address);
        passed.push(Contender::asked(way, origin.pop(&pop).await?, "/passed", &sources::FIELDS));
    }
    for contender in &hello {
        contender.check(sources::BODY.as_bytes()).await?;
    }
    for contender in &passed {
        contender.check(&[b'x'; SMALL_BYTES]).await?;
    }
    rounds::compare(bench, &mut report, "the smallest function", hello).await?;
    rounds::compare(bench, &mut report, "1 KiB passed through from an origin", passed).await?;

    let mut rows = Vec::new();
    for (way, options) in WAYS {
        // Room for all, and what the first table has compiled is on disk.
        let pop = Pop::named(way).with(options).with(&["--isolates", "2GiB"]);
        let values = first_requests(&origin.pop(&pop).await?).await?;
        let together = origin.pop(&pop).await?;
        load::touch(&together, ["/hello"], Pace::Together(1)).await?;
        let touched = load::touch(&together, (0..TENANTS).map(path), Pace::Together(8)).await?;
        rows.push((way, [values[0], values[1], values[2], touched.first_byte.micros(0.5), values[3]]));
    }
    report.method(format!(
        "{TENANTS} functions of a tenant each, one after the other {} ms apart, and in another process 8 at a time; memory: what \
         resident pages count for this process in proportion (PSS), less what there was before, by function",
        APART.as_millis()
    ));
    let table = report.table("first requests, and memory", &COLUMNS);
    for (way, values) in rows {
        table.row(way, values.map(|value| value.into_iter().collect::<Figure>()).into());
    }
    Ok(report)
}

async fn first_requests(server: &Server) -> Result<[Option<f64>; 4], Failure> {
    load::touch(server, std::iter::repeat_n("/hello", 100), Pace::Together(1)).await?;
    tokio::time::sleep(APART * 10).await;
    let before = server.proportional_mib();
    let touched = load::touch(server, (0..TENANTS).map(path), Pace::Apart(APART)).await?;
    let grown = server.proportional_mib() - before;
    Ok([
        Some(f64::from(TENANTS)),
        touched.first_byte.micros(0.5),
        touched.first_byte.micros(0.99),
        Some(grown * 1024.0 / f64::from(TENANTS)),
    ])
}
