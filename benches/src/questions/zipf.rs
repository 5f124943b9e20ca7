//! How often the origin is asked when few objects are popular and some change.

use std::cell::RefCell;
use std::rc::Rc;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::Question;
use crate::connection::field;
use crate::figure::Figure;
use crate::load::{self, Pace};
use crate::objects::{self, CHANGES_EVERY, KEEPS_FOR, ONE_IN, Objects};
use crate::peers::{Caching, nginx, varnish};
use crate::report::{Column, Report};
use crate::server::Server;
use crate::skerry::{Origin, Pop, everything};
use crate::{Bench, Failure};

const ABOUT: &str = "requests to the origin while clients ask for some of many objects, a few of them far more often";

/// Objects there are.
const OBJECTS: usize = 100_000;

/// The n-th most popular object is asked for in proportion to 1 / n to this power.
const EXPONENT: f64 = 0.9;

/// MiB of each cache: about a sixth of all objects.
const MIB: u64 = 64;

/// Requests in a second, on average.
const RATE: f64 = 2000.0;

const CONNECTIONS: usize = 64;

const SEED: u64 = 4;

/// What a version may be older than it should be, for the time that an answer takes and for ages in whole seconds.
const GRACE: std::time::Duration = std::time::Duration::from_millis(1500);

const COLUMNS: [Column; 9] = [
    Column::new("to the origin/1,000", "origin_requests_per_1000", 1),
    Column::new("of these 304", "origin_confirmed_per_1000", 1),
    Column::new("hits %", "hit_percent", 1),
    Column::new("MiB from the origin", "origin_mib", 1),
    Column::new("not the latest/1,000", "outdated_per_1000", 2),
    Column::new("older than allowed", "staleness_errors", 0),
    Column::new("p50 µs", "p50_micros", 0),
    Column::new("p99 µs", "p99_micros", 0),
    Column::new("RSS MiB", "resident_mib", 1),
];

/// Measures.
///
/// # Errors
/// What did not start or answer.
pub(super) async fn ask(bench: &Bench) -> Result<Report, Failure> {
    let folder = tempfile::tempdir()?;
    let (machine, folder) = (&bench.machine, folder.path());
    let mut report = Report::new(bench, Question::Zipf, ABOUT);
    let (nginx, varnish) = (report.peer(nginx::NGINX), report.peer(varnish::VARNISH));
    let objects = Rc::new(Objects::start()?);
    let trace = Rc::new(trace(OBJECTS, bench.options.requests, SEED));
    report.method(format!(
        "{} requests for {OBJECTS} objects of 0.5 to 16 KiB, Zipf with exponent {EXPONENT}, {RATE} a second at random (open \
         loop), seed {SEED}: the same for each; one object in {ONE_IN} changes every {CHANGES_EVERY:?} and may be kept for \
         {KEEPS_FOR:?}; caches of {MIB} MiB, empty at first; latencies from the time a request was due to its first byte",
        trace.len(),
    ));
    let origin = Origin::start(bench, folder).await?;
    origin.deploy(&[everything("all", origin.asset(b"something".to_vec()).await?, None)]).await?;
    let pop = Pop::named("pop").in_front_of(objects.address).keeping(bench, MIB);
    let caching = Caching { workers: 1, mib: MIB };
    let mut rows = vec![("skerry", follow(&origin.pop(&pop).await?, &objects, &trace).await?)];
    if let Some(nginx) = &nginx {
        let server = nginx::cache(machine, nginx, folder, objects.address, "/bytes-1/", caching).await?;
        rows.push(("nginx proxy_cache", follow(&server, &objects, &trace).await?));
    }
    if let Some(varnish) = &varnish {
        let server = varnish::cache(machine, varnish, folder, objects.address, "/bytes-1/", caching).await?;
        rows.push(("varnish", follow(&server, &objects, &trace).await?));
    }
    let table = report.table("", &COLUMNS);
    for (name, figures) in rows {
        table.row(name, figures);
    }
    report.note(
        "nginx bounds files and not memory, and looks after the bound every few seconds; Varnish's bound leaves out what it \
         needs for itself; stale answers are off for both, as they are for Skerry where the origin does not ask for them",
    );
    Ok(report)
}

async fn follow(server: &Server, objects: &Rc<Objects>, trace: &Rc<Vec<u64>>) -> Result<Vec<Figure>, Failure> {
    #[derive(Default)]
    struct Stale {
        outdated: u64,
        errors: u64,
    }
    let stale = Rc::new(RefCell::new(Stale::default()));
    let (before, seen, origin) = (objects.work(), Rc::clone(&stale), Rc::clone(objects));
    let see = move |path: &str, fields: &[httparse::Header<'_>]| {
        let number = path.rsplit('-').next().and_then(|number| number.parse().ok());
        let version = field(fields, "etag").trim_matches('"').parse().ok();
        let (Some(number), Some(version)) = (number, version) else { return };
        if let Some(age) = origin.outdated(number, version) {
            let mut seen = seen.borrow_mut();
            seen.outdated += 1;
            seen.errors += u64::from(age > KEEPS_FOR + GRACE);
        }
    };
    let pace = Pace::Random { per_second: RATE, connections: CONNECTIONS, seed: SEED };
    let touched = load::watch(server, trace.iter().map(|number| objects::path(*number)), pace, see).await?;
    let (work, requests) = (objects.work().since(before), trace.len() as f64);
    let per_thousand = |count: u64| Some(count as f64 * 1000.0 / requests);
    let stale = stale.borrow();
    let values = [
        per_thousand(work.requests),
        per_thousand(work.confirmed),
        Some((1.0 - work.requests as f64 / requests) * 100.0),
        Some(work.bytes as f64 / f64::from(1 << 20)),
        per_thousand(stale.outdated),
        Some(stale.errors as f64),
        touched.scheduled.micros(0.5),
        touched.scheduled.micros(0.99),
        Some(server.resident_mib()),
    ];
    Ok(values.into_iter().map(|value| value.into_iter().collect()).collect())
}

/// Numbers of objects in the order in which they are asked for. Which are popular has nothing to do with which change.
fn trace(objects: usize, requests: u32, seed: u64) -> Vec<u64> {
    let mut sum = 0.0;
    let cumulative: Vec<f64> = (1..=objects)
        .map(|rank| {
            sum += (rank as f64).powf(-EXPONENT);
            sum
        })
        .collect();
    let mut random = StdRng::seed_from_u64(seed);
    let ranks = std::iter::repeat_with(|| {
        let at = random.random::<f64>() * sum;
        cumulative.partition_point(|cumulative| *cumulative < at).min(objects - 1)
    });
    // 7919 is prime to any power of ten: each rank has a number of its own.
    ranks.take(requests as usize).map(|rank| (rank as u64 * 7919) % objects as u64).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn a_trace_is_the_same_each_time_and_as_uneven_as_zipf_says() {
        let trace = trace(OBJECTS, 100_000, SEED);
        assert_eq!(trace, super::trace(OBJECTS, 100_000, SEED));
        let mut counts: HashMap<u64, u32> = HashMap::new();
        trace.iter().for_each(|number| *counts.entry(*number).or_default() += 1);
        let (first, second) = (f64::from(counts[&0]), f64::from(counts[&7919]));
        assert!((first / second - 2_f64.powf(EXPONENT)).abs() < 0.2, "{first} {second}");
        assert!((30_000..50_000).contains(&counts.len()), "{} objects", counts.len());
        let changing = trace.iter().filter(|number| *number % ONE_IN == ONE_IN - 1).count();
        assert!((5_000..15_000).contains(&changing), "{changing} requests for objects that change");
    }
}
