//! How much memory a million small objects take besides their bytes.

use super::Question;
use crate::figure::Figure;
use crate::load::{self, Pace};
use crate::objects::Objects;
use crate::peers::{Caching, varnish};
use crate::report::{Column, Report};
use crate::server::Server;
use crate::skerry::{Origin, Pop, everything};
use crate::{Bench, Failure};

const ABOUT: &str = "resident memory of many small objects in the cache";

/// Bytes of an object's body.
const BYTES: u64 = 100;

/// MiB for each million of objects: more than anybody needs.
const MIB_PER_MILLION: u64 = 8192;

/// Connections that fill a cache.
const FILLING: Pace = Pace::Together(32);

/// Of so many objects one is asked for again, to see whether it is still there.
const ONE_IN: usize = 97;

const COLUMNS: [Column; 6] = [
    Column::new("overhead B/object", "overhead_bytes_per_object", 0),
    Column::new("RSS B/object", "resident_bytes_per_object", 0),
    Column::new("still there %", "kept_percent", 1),
    Column::new("objects", "objects", 0),
    Column::new("RSS MiB before", "empty_resident_mib", 1),
    Column::new("RSS MiB with all", "full_resident_mib", 1),
];

/// Measures.
///
/// # Errors
/// What did not start or answer.
pub(super) async fn ask(bench: &Bench) -> Result<Report, Failure> {
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    let mut report = Report::new(bench, Question::Resident, ABOUT);
    let varnish = report.peer(varnish::VARNISH);
    let objects = Objects::start()?;
    let count = bench.options.objects;
    let mib = (MIB_PER_MILLION * count).div_ceil(1_000_000).max(256);
    report.method(format!(
        "{count} objects of {BYTES} B, each asked for once, then one in {ONE_IN} again; (RSS with all - before) / objects, less \
         the body: head, key, bookkeeping, and what the allocator holds; once, in a new process"
    ));
    let origin = Origin::start(bench, folder).await?;
    origin.deploy(&[everything("all", origin.asset(b"something".to_vec()).await?, None)]).await?;
    let pop = Pop::named("pop").in_front_of(objects.address).keeping(bench, mib);
    let mut rows = vec![("skerry", fill(&origin.pop(&pop).await?, &objects, count).await?)];
    if let Some(varnish) = &varnish {
        let caching = Caching { workers: 1, mib };
        let server = varnish::cache(&bench.machine, varnish, folder, objects.address, "/bytes-1/", caching).await?;
        rows.push(("varnish", fill(&server, &objects, count).await?));
    }
    let table = report.table("", &COLUMNS);
    for (name, figures) in rows {
        table.row(name, figures);
    }
    report.note("nginx keeps a file for each object, which is in nobody's RSS: it is not among them");
    Ok(report)
}

async fn fill(server: &Server, objects: &Objects, count: u64) -> Result<Vec<Figure>, Failure> {
    let path = |number| format!("/bytes-{BYTES}/{number}");
    // What the first requests need, connections above all, is no object's.
    load::touch(server, (0..64).map(|number| format!("/bytes-{BYTES}/first-{number}")), FILLING).await?;
    let before = server.resident_mib();
    // In parts: every request of one is made before the first is sent.
    for part in 0..count.div_ceil(10_000) {
        load::touch(server, (part * 10_000..count.min((part + 1) * 10_000)).map(path), FILLING).await?;
    }
    let all = server.resident_mib();
    let asked = objects.work().requests;
    let again: Vec<_> = (0..count).step_by(ONE_IN).map(path).collect();
    let sample = again.len() as f64;
    load::touch(server, again, FILLING).await?;
    let gone = (objects.work().requests - asked) as f64;
    let each = (all - before) * f64::from(1 << 20) / count as f64;
    let values = [each - BYTES as f64, each, (1.0 - gone / sample) * 100.0, count as f64, before, all];
    Ok(values.map(|value| Figure::from_iter([value])).into())
}
