//! How fast cached objects of 1 KiB to 100 MiB are served, by one worker and by two.

use std::path::Path;

use super::Question;
use crate::objects::Objects;
use crate::peers::{Caching, nginx, varnish};
use crate::program::Program;
use crate::report::Report;
use crate::rounds::{self, Contender};
use crate::skerry::{Origin, Pop, everything};
use crate::{Bench, Failure, sources};

const ABOUT: &str = "objects out of the cache, of several sizes; every cache has them from the same origin";

const SIZES: [(&str, u64); 4] = [("1 KiB", 1 << 10), ("10 KiB", 10 << 10), ("1 MiB", 1 << 20), ("100 MiB", 100 << 20)];

/// What is larger than this is not passed through a function: its time is that of the copies.
const LARGEST_THROUGH: u64 = 1 << 20;

/// Room for one of the largest, and for those that let no object have more than an eighth of it.
const MIB: u64 = 1024;

/// How often a server is asked before it must have kept what it was asked for.
const TRIALS: u32 = 3;

/// Measures.
///
/// # Errors
/// What did not start or answer.
pub(super) async fn ask(bench: &Bench) -> Result<Report, Failure> {
    let folder = tempfile::tempdir()?;
    let mut report = Report::new(bench, Question::Hits, ABOUT);
    let peers = Peers { nginx: report.peer(nginx::NGINX), varnish: report.peer(varnish::VARNISH) };
    let objects = Objects::start()?;
    for workers in [1, 2] {
        for (name, size) in SIZES {
            let folder = folder.path().join(format!("{workers}-{size}"));
            std::fs::create_dir_all(&folder)?;
            let path = format!("/bytes-{size}/");
            let mut contenders = Vec::new();
            for contender in contenders_of(bench, &peers, &objects, &folder, workers, size, &path).await? {
                match keeps(&contender, &objects).await? {
                    true => contenders.push(contender),
                    false => report.note(format!("{} does not keep {name}: not measured", contender.name())),
                }
            }
            let title = if workers == 1 { name.to_owned() } else { format!("{name}, {workers} workers") };
            let before = objects.work().requests;
            rounds::compare(bench, &mut report, &title, contenders).await?;
            let missed = objects.work().requests - before;
            if missed > 0 {
                // By whom is not known: a row that is slow beside its like is no row of hits.
                report.note(format!("{title}: the origin was asked {missed} times meanwhile; not all were hits"));
            }
        }
    }
    report.note(
        "2 workers: both cores are free for the server and the load generator takes its share of one; CPU per request tells \
         what the second worker costs",
    );
    report.note("nginx keeps objects in files, in the kernel's page cache: they are in nobody's RSS");
    Ok(report)
}

struct Peers {
    nginx: Option<Program>,
    varnish: Option<Program>,
}

async fn contenders_of(
    bench: &Bench,
    peers: &Peers,
    objects: &Objects,
    folder: &Path,
    workers: u32,
    size: u64,
    path: &str,
) -> Result<Vec<Contender>, Failure> {
    let room = format!("{MIB}MiB");
    let pop = |name: &'static str| {
        let pop = Pop::named(name).in_front_of(objects.address).with(&["--cache", &room]);
        if workers > 1 { pop.workers(workers) } else { pop }
    };
    let mut contenders = Vec::new();
    for (name, source) in [("skerry", None), ("function", Some(sources::pass_through(sources::Origin::Own)))] {
        if source.is_some() && size > LARGEST_THROUGH {
            continue;
        }
        // Each has the whole of the paths, so each has an origin of its own to deploy it.
        let folder = folder.join(name);
        std::fs::create_dir_all(&folder)?;
        let origin = Origin::start(bench, &folder).await?;
        origin.deploy(&[everything(name, origin.asset(b"something".to_vec()).await?, source)]).await?;
        let title = if name == "skerry" { "skerry" } else { "skerry through a function" };
        contenders.push(Contender::new(title, origin.pop(&pop(name)).await?, path));
    }
    let (machine, caching) = (&bench.machine, Caching { workers, mib: MIB });
    if let Some(nginx) = &peers.nginx {
        let server = nginx::cache(machine, nginx, folder, objects.address, path, caching).await?;
        contenders.push(Contender::new("nginx proxy_cache", server, path));
    }
    if let Some(varnish) = &peers.varnish {
        let server = varnish::cache(machine, varnish, folder, objects.address, path, caching).await?;
        contenders.push(Contender::new("varnish", server, path));
    }
    Ok(contenders)
}

/// Whether a server answers out of what it has kept, once it has been asked a few times.
async fn keeps(contender: &Contender, objects: &Objects) -> Result<bool, Failure> {
    for _ in 1..TRIALS {
        contender.once().await?;
    }
    let before = objects.work().requests;
    contender.once().await?;
    Ok(objects.work().requests == before)
}
