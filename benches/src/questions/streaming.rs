//! Whether a slow reader fills the memory of the server before it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use origin::bundle::Bundle;

use super::Question;
use crate::connection::{Connection, get};
use crate::figure::Figure;
use crate::flow::{self, Flow};
use crate::peers::{deno, workerd};
use crate::report::{Column, Report};
use crate::server::Server;
use crate::skerry::{Origin, Pop, function};
use crate::sources::{self, Origin as Fetched};
use crate::upstream::Upstream;
use crate::{Bench, Failure};

const ABOUT: &str = "memory while a long body goes through a function to a slow reader";

/// Beyond the time that the reader takes, how long a body may be on its way.
const PATIENCE: Duration = Duration::from_secs(120);

const COLUMNS: [Column; 6] = [
    Column::range("peak RSS MiB", "peak_resident_mib", 1),
    Column::new("RSS MiB before", "resident_before_mib", 1),
    Column::range("MiB on the way at the standstill", "standstill_mib", 1),
    Column::new("seconds", "seconds", 1),
    Column::new("CPU s", "cpu_seconds", 2),
    Column::new("MiB", "streamed_mib", 0),
];

/// A body's way.
#[derive(Clone, Copy)]
struct Way {
    title: &'static str,
    /// Where the function answers; [`Upstream`] sends what `/down…` asks for, and reads what comes to `/up…`.
    path: &'static str,
    source: fn(Fetched<'_>) -> String,
    /// What part of the body goes this way: not all where JavaScript has to look at each piece, which takes workerd, with
    /// pieces of 4 KiB, tens of seconds for a GiB.
    part: u64,
}

const WAYS: [Way; 4] = [
    Way { title: "down", path: "/down", source: sources::pass_through, part: 1 },
    Way { title: "down, each piece by way of JavaScript", path: "/down-js", source: sources::stream_through, part: 8 },
    Way { title: "up", path: "/up", source: sources::pass_up, part: 1 },
    Way { title: "up, each piece by way of JavaScript", path: "/up-js", source: sources::stream_up_through, part: 8 },
];

impl Way {
    fn name(self) -> &'static str {
        self.path.trim_start_matches('/')
    }

    fn is_up(self) -> bool {
        self.path.starts_with("/up")
    }

    /// The function, with limits that let so much pass.
    fn function(self, length: u64) -> Bundle {
        let mut bundle = function(self.name(), (self.source)(Fetched::Own));
        let limits = [("cpu_ms", 30_000), ("request_body_bytes", 2 * length), ("response_body_bytes", 2 * length)];
        bundle.config.limits = limits.map(|(key, value)| (key.to_owned(), value)).into();
        bundle
    }
}

/// Measures.
///
/// # Errors
/// What did not start, or lost a byte.
pub(super) async fn ask(bench: &Bench) -> Result<Report, Failure> {
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    let mut report = Report::new(bench, Question::Streaming, ABOUT);
    let (workerd, deno) = (report.peer(workerd::WORKERD), report.peer(deno::DENO));
    let flow = Arc::new(Flow::default());
    let length = bench.options.mib << 20;
    let upstream = Upstream::start(&flow)?;
    let origin = Origin::start(bench, folder).await?;
    origin.deploy(&WAYS.map(|way| way.function(length))).await?;
    let pop = Pop::named("pop").in_front_of(upstream.address);

    report.method(format!(
        "{} MiB, an eighth of it where JavaScript sees each piece, over one connection, each time through a new process; the \
         reader takes {} MiB a second and stands still \
         for {:?} after {} MiB; what is on the way then has been taken in by the server and the buffers of the kernel",
        length >> 20,
        flow::RATE >> 20,
        flow::STANDSTILL,
        flow::BEFORE_STANDSTILL >> 20,
    ));
    report.note("down: the client reads slowly; up: the origin does");
    let table = report.table("", &COLUMNS);
    for way in WAYS {
        let server = origin.pop(&pop).await?;
        let mut rows = vec![("skerry", server)];
        let source = (way.source)(Fetched::Other(upstream.address, way.path));
        if let Some(deno) = &deno {
            let name = format!("deno-{}", way.name());
            rows.push(("deno serve", deno::serve(&bench.machine, deno, folder, &name, &source).await?));
        }
        if let Some(workerd) = &workerd {
            let name = format!("workerd-{}", way.name());
            rows.push(("workerd", workerd::serve(&bench.machine, workerd, folder, &name, &source).await?));
        }
        for (name, server) in rows {
            let figures = measure(&server, way, length / way.part, &flow)
                .await
                .map_err(|failure| format!("{name}: {failure}"))?;
            table.row(format!("{name}: {}", way.title), figures);
        }
    }
    Ok(report)
}

async fn measure(server: &Server, way: Way, length: u64, flow: &Flow) -> Result<Vec<Figure>, Failure> {
    let before = server.resident_mib();
    let cpu = server.usage().cpu;
    server.reset_peak()?;
    flow.begin(length);
    let began = Instant::now();
    let time = PATIENCE + flow::STANDSTILL + Duration::from_secs(length / flow::RATE);
    let streamed = tokio::time::timeout(time, stream(server, way, flow)).await;
    let far = |why: &dyn std::fmt::Display| format!("{}: {} of {length} bytes: {why}", way.title, flow.counts().taken);
    streamed.map_err(|late| far(&late))?.map_err(|error| far(&error))?;
    let (took, counts) = (began.elapsed(), flow.counts());
    let (peak, cpu) = (server.peak_mib(), server.usage().cpu.saturating_sub(cpu));
    if counts.taken != length {
        return Err(far(&"that is not all").into());
    }
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let ahead = counts.ahead.map_or(f64::NAN, mib);
    let values = [peak, before, ahead, took.as_secs_f64(), cpu.as_secs_f64(), mib(length)];
    Ok(values.map(|value| Figure::from_iter([value])).into())
}

async fn stream(server: &Server, way: Way, flow: &Flow) -> std::io::Result<()> {
    let mut connection = Connection::open(server.address).await?;
    if way.is_up() {
        let Way { path, .. } = way;
        let (host, length) = (server.address, flow.length());
        let head = format!("POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n\r\n");
        connection.send(head.as_bytes()).await?;
        flow.give(&mut connection).await?;
        return connection.receive(async |_| ()).await;
    }
    connection.send(&get(server.address, way.path)).await?;
    connection.receive(async |bytes| flow.take(bytes.len()).await).await
}
