//! How long the first visitor of a function waits that is a MiB of real npm packages.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::{Question, path, phases};
use crate::figure::Figure;
use crate::load::{self, Pace, Touched};
use crate::peers::{deno, workerd};
use crate::program::{Peer, Program, node_modules};
use crate::report::{Column, Report};
use crate::server::Server;
use crate::skerry::{Origin, Pop, function};
use crate::{Bench, Failure, sources};

const ABOUT: &str = "first request of each of several copies of a function made of real npm packages";

/// The bundler.
const ESBUILD: Peer = Peer {
    name: "esbuild",
    variable: "ESBUILD",
    packages: &["@esbuild/linux-x64/bin/esbuild", "@esbuild/linux-arm64/bin/esbuild"],
    version: "--version",
    install: "make peers",
};

/// Copies, each with another first line: no platform may take one for another.
const COPIES: u32 = 16;

/// Time between an answer and the next first request: no start waits for another.
const PAUSE: Duration = Duration::from_millis(100);

/// What is bundled: the packages of `benches/package.json`, each at work already at the top level.
const ENTRY: &str = include_str!("big_bundle/entry.js");

const COLUMNS: [Column; 4] = [
    Column::new("copies", "copies", 0),
    Column::new("KiB of source", "source_kib", 0),
    Column::range("p50 ms", "p50_millis", 2),
    Column::range("max ms", "max_millis", 2),
];

/// One platform's figures.
struct Row {
    name: String,
    source_kib: f64,
    figures: Vec<Figure>,
    phases: phases::Rows,
}

impl Row {
    fn new(name: &str, source: &str) -> Self {
        let source_kib = source.len() as f64 / 1024.0;
        let (figures, phases) = (vec![Figure::default(); COLUMNS.len()], phases::Rows::default());
        Self { name: name.to_owned(), source_kib, figures, phases }
    }

    /// One round, with a new process.
    async fn measure(&mut self, server: &Server) -> Result<(), Failure> {
        let touched = load::touch(server, (0..COPIES).map(path), Pace::Apart(PAUSE)).await;
        let Touched { first_byte, phases, .. } = touched.map_err(|failure| format!("{}: {failure}", self.name))?;
        let millis = |share| first_byte.micros(share).map(|micros| micros / 1e3);
        let values = [Some(f64::from(COPIES)), Some(self.source_kib), millis(0.5), millis(1.0)];
        self.figures.iter_mut().zip(values).for_each(|(figure, value)| figure.add(value));
        self.phases.add(&phases);
        Ok(())
    }
}

/// Measures.
///
/// # Errors
/// What cannot be bundled, did not start or did not answer.
pub(super) async fn ask(bench: &Bench) -> Result<Report, Failure> {
    let folder = tempfile::tempdir()?;
    let (machine, folder) = (&bench.machine, folder.path());
    let mut report = Report::new(bench, Question::BigBundle, ABOUT);
    let esbuild = report.peer(ESBUILD).ok_or_else(|| format!("esbuild is missing: {}", ESBUILD.install))?;
    let (workerd, deno) = (report.peer(workerd::WORKERD), report.peer(deno::DENO));
    let source = bundle(&esbuild, folder)?;
    let origin = Origin::start(bench, folder).await?;
    let copies = (0..COPIES).map(sources::name).map(|name| function(&name, format!("// This is {name}.\n{source}")));
    origin.deploy(&copies.collect::<Vec<_>>()).await?;
    origin.fill("pop").await?;

    let mut pops = vec![(Row::new("skerry", &source), Pop::named("pop"))];
    match origin.fill_without_code_caches("uncached").await? {
        true => pops.push((Row::new("skerry, no code cache", &source), Pop::named("uncached"))),
        false => report.note("no code cache: this skerry makes none, so its row is without"),
    }
    let (mut loader, mut workers) = (Row::new("workerd loader", &source), Row::new("Deno Workers", &source));
    for _ in 0..bench.options.rounds {
        for (row, pop) in &mut pops {
            row.measure(&origin.pop(pop).await?).await?;
        }
        if let Some(workerd) = &workerd {
            loader.measure(&workerd::big_loader(machine, workerd, folder, &source).await?).await?;
        }
        if let Some(deno) = &deno {
            workers.measure(&deno::big_workers(machine, deno, folder, &source).await?).await?;
        }
    }
    let rounds = bench.options.rounds;
    report.method(format!(
        "{COPIES} copies that differ in their first line, one {PAUSE:?} after another over one connection, from the first \
         byte of the request to the first of the response; {rounds} rounds, in each a new process: median \
         (least..greatest)"
    ));
    report
        .note("date-fns, highlight.js (common), immutable, lodash, luxon, marked and zod, not minified; see entry.js");
    report.note("workerd and deno have the source in memory; a Deno Worker stands for a loader, which Deno has not");
    let rows: Vec<Row> =
        pops.into_iter().map(|(row, _)| row).chain(workerd.map(|_| loader)).chain(deno.map(|_| workers)).collect();
    let table = report.table("", &COLUMNS);
    rows.iter().for_each(|row| table.row(row.name.clone(), row.figures.clone()));
    let table = report.table("phases, as Server-Timing tells them", &phases::COLUMNS);
    rows.into_iter().for_each(|row| row.phases.put(&row.name, table));
    Ok(report)
}

/// Makes one module of [`ENTRY`] and the packages it imports.
fn bundle(esbuild: &Program, folder: &Path) -> Result<String, Failure> {
    let (entry, bundle) = (folder.join("entry.js"), folder.join("bundle.js"));
    std::fs::write(&entry, ENTRY)?;
    let mut command = Command::new(&esbuild.path);
    command.arg(&entry).args(["--bundle", "--format=esm", "--charset=ascii", "--log-level=warning"]);
    command.arg(format!("--outfile={}", bundle.display())).env("NODE_PATH", node_modules()).stdin(Stdio::null());
    let output = command.output().map_err(|error| format!("{} cannot be started: {error}", esbuild.path.display()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(format!("esbuild cannot bundle the packages; `{}` installs them:\n{said}", ESBUILD.install).into());
    }
    Ok(std::fs::read_to_string(bundle)?)
}
