//! Whether the simulator says what the fleet does: one trace through both.
//!
//! What the simulator is told of the fleet is measured on requests that come one at a time, so that none waits for another
//! ([`calibrate`]). The trace that both are judged by comes afterwards, and nothing is fitted to it.

mod calibrate;

use std::time::{Duration, Instant};

use capacity::load::process::Recorded;
use capacity::simulate::cache::Keep;
use capacity::simulate::pilot::Scaling;
use capacity::simulate::popular::Popular;
use capacity::simulate::scenario::{Functions, NodeKind, Objects, Place, PopPlan};
use capacity::simulate::{Law, Scenario, Span, Tally, chance::Chance};
use serde_json::json;

use self::calibrate::Measured;
use super::Question;
use crate::connection::get_with;
use crate::figure::Figure;
use crate::fleet::{Fleet, Project};
use crate::replay::{self, Seen, Shot, quantile};
use crate::report::{Column, Report};
use crate::{Bench, Failure};

const ABOUT: &str = "the same trace through `skerry up` and through `skerry simulate`'s model";

/// Functions, of [`Kind::ALL`] in turn.
const FUNCTIONS: u32 = 16;
const FUNCTION_EXPONENT: f64 = 1.0;

/// Objects behind those that fetch, and for how many seconds they are fresh.
const OBJECTS: u32 = 60;
const OBJECT_EXPONENT: f64 = 0.9;
const FRESH_SECONDS: u32 = 20;

/// Memory for isolates: fewer than there are functions.
const ISOLATES: &str = "60MiB";

/// How much of a worker the functions take of a busy PoP, and of each of three.
const BUSY: f64 = 0.2;
const QUIET: f64 = 0.06;

/// So much at the beginning counts for nothing.
const WARM_UP: Duration = Duration::from_secs(10);

const SEED: u64 = 5;

/// A client of each PoP, by its address: front doors choose by where it stands.
const CLIENTS: [(&str, &str); 3] = [("lhr", "212.58.244.1"), ("iad", "8.8.8.8"), ("nrt", "133.11.0.1")];

const COLUMNS: [Column; 4] = [
    Column::new("fleet", "fleet", 2),
    Column::new("simulator", "simulator", 2),
    Column::new("difference", "difference", 2),
    Column::new("allowed", "allowed", 0),
];

/// What a function does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Sorts numbers.
    Short,
    /// Sorts twice.
    Long,
    /// Sorts, and waits [`WAITS`].
    Waits,
    /// Sorts, and fetches an object.
    Fetches,
}

/// How long [`Kind::Waits`] does.
const WAITS: Duration = Duration::from_millis(20);

impl Kind {
    const ALL: [Self; 4] = [Self::Short, Self::Long, Self::Waits, Self::Fetches];

    fn of(function: u32) -> Self {
        Self::ALL[function as usize % Self::ALL.len()]
    }

    /// Native code does the work, so that it takes as long in a new isolate as in an old one.
    fn source(self) -> String {
        let sorts = if self == Self::Long { 2 } else { 1 };
        let then = match self {
            Self::Short | Self::Long => String::new(),
            Self::Waits => format!("await scheduler.wait({});", WAITS.as_millis()),
            Self::Fetches => "const answer = await fetch(new URL('/objects/' + new URL(request.url).search.slice(1) + '.txt', request.url));
    if (!answer.ok) throw new Error('the object is not there: ' + answer.status);
    await answer.text();"
                .to_owned(),
        };
        format!(
            "const numbers = new Uint32Array(40000).map((_, i) => (i * 2654435761) >>> 0);
const work = new Uint32Array(numbers.length);
export default {{
  async fetch(request) {{
    for (let i = 0; i < {sorts}; i++) {{
      work.set(numbers);
      work.sort();
    }}
    {then}
    return new Response('done');
  }},
}};
"
        )
    }
}

fn projects() -> Vec<Project> {
    let function = |number| Project {
        name: format!("f-{number}"),
        keys: json!({ "routes": [format!("*/f-{number}/*")] }),
        source: Some(Kind::of(number).source()),
        assets: Vec::new(),
    };
    let cache_control = format!("public, max-age={FRESH_SECONDS}");
    let objects = Project {
        name: "objects".to_owned(),
        keys: json!({ "routes": ["*/objects/*"], "assets": { "directory": "./assets", "cache_control": cache_control } }),
        source: None,
        assets: (0..OBJECTS).map(|number| (format!("objects/{number}.txt"), vec![b'x'; 1000])).collect(),
    };
    (0..FUNCTIONS).map(function).chain([objects]).collect()
}

/// The request for a function by a client of the PoP `pop`.
fn request(fleet: &Fleet, pop: usize, function: u32, object: u32) -> Vec<u8> {
    let address = CLIENTS.iter().find(|(name, _)| *name == fleet.pops[pop].name).map_or("", |(_, address)| address);
    get_with(fleet.front.address, &format!("/f-{function}/?{object}"), &[("X-Forwarded-For", address)])
}

/// A trace before it is known how long anything takes.
struct Trace(Vec<(Duration, usize, u32, Option<u32>)>);

impl Trace {
    /// Requests that come independently, so many a second in all.
    fn new(pops: usize, rate: f64, time: Duration) -> Self {
        let (functions, objects) =
            (Popular::zipf(FUNCTIONS, FUNCTION_EXPONENT), Popular::zipf(OBJECTS, OBJECT_EXPONENT));
        let (mut chance, mut at, mut requests) = (Chance::new(SEED, 1), 0.0, Vec::new());
        loop {
            at += chance.exponential() / rate;
            if at >= time.as_secs_f64() {
                return Self(requests);
            }
            let (pop, function) = (chance.below(pops), functions.draw(&mut chance));
            let object = (Kind::of(function) == Kind::Fetches).then(|| objects.draw(&mut chance));
            requests.push((Duration::from_secs_f64(at), pop, function, object));
        }
    }

    fn shots(&self, fleet: &Fleet) -> Vec<Shot> {
        let shot = |(due, pop, function, object): &(Duration, usize, u32, Option<u32>)| Shot {
            due: *due,
            request: request(fleet, *pop, *function, object.unwrap_or(0)),
        };
        self.0.iter().map(shot).collect()
    }

    /// The same for the simulator: each takes as long as some request of its kind did when nobody waited.
    fn recorded(&self, measured: &Measured) -> Vec<Recorded> {
        let mut chance = Chance::new(SEED, 2);
        let mut record = |(due, pop, function, object): &(Duration, usize, u32, Option<u32>)| {
            let kind = Kind::of(*function);
            let wait = if kind == Kind::Waits { measured.waits } else { 0.0 };
            Recorded {
                at: due.as_nanos() as u64,
                function: *function,
                service: nanos(measured.service(kind, &mut chance)),
                wait: nanos(wait),
                // What one function has fetched is not there for another one.
                object: object.map(|object| function * OBJECTS + object),
                pop: Some(*pop as u32),
            }
        };
        self.0.iter().map(&mut record).collect()
    }
}

fn nanos(seconds: f64) -> u64 {
    Span(seconds).nanos()
}

fn scenario(fleet: &Fleet, measured: &Measured, recorded: Vec<Recorded>, time: Duration) -> Scenario {
    let plan = |(pop, client): (&crate::fleet::Pop, &f64)| PopPlan {
        name: pop.name.clone(),
        client: Span(*client),
        origin: Span(pop.to_origin.as_secs_f64()),
        ..PopPlan::default()
    };
    Scenario {
        name: "fidelity".into(),
        duration: Span(time.as_secs_f64()),
        warm_up: Span(WARM_UP.as_secs_f64()),
        load: Default::default(),
        recorded,
        functions: Functions {
            count: FUNCTIONS,
            service: Law::Constant(Span(0.0)),
            pooled: measured.pooled.clone(),
            unpooled: measured.unpooled.clone(),
            refill: measured.refill.clone(),
            ready: 2,
            kept: measured.kept,
            ..Functions::default()
        },
        objects: Some(Objects {
            count: FUNCTIONS * OBJECTS,
            popularity: OBJECT_EXPONENT,
            fresh_for: Span(f64::from(FRESH_SECONDS)),
            front: 0,
            behind: (FUNCTIONS * OBJECTS) as usize,
            keep: Keep::Lru,
        }),
        pops: fleet.pops.iter().zip(&measured.clients).map(plan).collect(),
        node: NodeKind { workers: 1, queue: 10_000, patience: Span(30.0), ..NodeKind::default() },
        scaling: Scaling::Fixed,
        origin: Some(Place {
            workers: 64,
            queue: 10_000,
            service: Some(measured.origin.clone()),
            cost_of_million: None,
        }),
        region: None,
        fallback: None,
        faults: Vec::new(),
        objective: Default::default(),
        control: None,
        sample: 1.0,
    }
}

/// What one side came to: throughput, cold starts and hits in percent, p50 and p99 in milliseconds.
fn of_fleet(seen: &[Seen], time: Duration) -> [f64; 5] {
    let late: Vec<&Seen> = seen.iter().filter(|seen| seen.sent >= WARM_UP).collect();
    let share = |part: usize, of: usize| part as f64 * 100.0 / of.max(1) as f64;
    // What waited for the start of another request has none of its own: it tells of no evaluation.
    let cold = late.iter().filter(|seen| seen.phase("evaluate").is_some_and(|(took, _)| took > 0.0)).count();
    let asked: Vec<&str> = late.iter().filter_map(|seen| seen.phase("cache")).map(|(_, what)| what).collect();
    let hits = asked.iter().filter(|what| **what == "hit").count();
    let mut took: Vec<f64> = late.iter().map(|seen| seen.took.as_secs_f64() * 1e3).collect();
    let well = seen.iter().filter(|seen| seen.is_well()).count();
    [
        well as f64 / time.as_secs_f64(),
        share(cold, late.len()),
        share(hits, asked.len()),
        quantile(&mut took, 0.5),
        quantile(&mut took, 0.99),
    ]
}

/// What the cache behind did, and how often.
fn outcomes(seen: &[Seen]) -> String {
    let mut counts = std::collections::BTreeMap::<&str, u64>::new();
    for (_, what) in seen.iter().filter_map(|seen| seen.phase("cache")) {
        *counts.entry(what).or_default() += 1;
    }
    counts.iter().map(|(what, count)| format!("{count} {what}")).collect::<Vec<_>>().join(", ")
}

fn of_simulator(tally: &Tally) -> [f64; 5] {
    let share = |part: u64, of: u64| part as f64 * 100.0 / of.max(1) as f64;
    [
        tally.answered as f64 / tally.duration,
        share(tally.starts[1] + tally.starts[2], tally.starts.iter().sum()),
        share(tally.behind.0, tally.behind.0 + tally.behind.1),
        tally.latency.quantile(0.5) * 1e3,
        tally.latency.quantile(0.99) * 1e3,
    ]
}

/// Names of these, whether the difference is in points and not in percent, and how much it may be.
const LINES: [(&str, bool, f64); 5] = [
    ("answers/s (%)", false, 2.0),
    ("cold starts % (points)", true, 2.0),
    ("hits behind % (points)", true, 2.0),
    ("p50 ms (%)", false, 15.0),
    ("p99 ms (%)", false, 15.0),
];

/// Measures.
///
/// # Errors
/// What did not start or answer.
pub(super) async fn ask(bench: &Bench) -> Result<Report, Failure> {
    let mut report = Report::new(bench, Question::Fidelity, ABOUT);
    let time = Duration::from_secs(u64::from(bench.options.trace));
    report.method(format!(
        "{time:?} of requests at random (open loop, seed {SEED}) for {FUNCTIONS} functions that sort, wait {WAITS:?} or fetch one of \
         {OBJECTS} objects with max-age={FRESH_SECONDS}, by Zipf's law, through the front door; the first {WARM_UP:?} do not count; \
         the simulator is told service times, starts, distances and isolates that {ISOLATES} hold as measured on requests that \
         came one at a time"
    ));
    let fleets = [
        ("one busy PoP, no distance", "lhr", BUSY, true),
        ("three PoPs at their distances", "lhr,iad,nrt", QUIET, false),
    ];
    for (name, pops, use_, near) in fleets {
        let folder = tempfile::tempdir()?;
        let mut options = vec!["--pops", pops, "--workers", "1", "--isolates", ISOLATES];
        options.extend(near.then_some("--no-distance"));
        let fleet = Fleet::start(bench, folder.path(), &projects(), &options).await?;
        let measured = calibrate::measure(&fleet).await?;
        let rate = use_ / measured.mean() * fleet.pops.len() as f64;
        let trace = Trace::new(fleet.pops.len(), rate, time);
        let began = Instant::now();
        let seen = replay::play(fleet.front.address, &trace.shots(&fleet), began, async { Ok(()) }).await?;
        let outcomes = outcomes(&seen);
        let failed = seen.iter().filter(|seen| !seen.is_well()).count();
        let scenario = scenario(&fleet, &measured, trace.recorded(&measured), time);
        let tally = capacity::simulate::run(&scenario, SEED, &mut |_| ())?;
        let (fleets, simulators) = (of_fleet(&seen, time), of_simulator(&tally));
        let table = report.table(name, &COLUMNS);
        let mut off = Vec::new();
        for ((line, in_points, allowed), (a, b)) in LINES.into_iter().zip(fleets.into_iter().zip(simulators)) {
            let difference = if in_points { b - a } else { (b / a - 1.0) * 100.0 };
            table.row(line, [a, b, difference, allowed].map(|value| Figure::from_iter([value])).into());
            off.extend((difference.abs() > allowed).then_some(line));
        }
        let verdict = if off.is_empty() {
            "all within what is allowed".to_owned()
        } else {
            format!("too far apart: {}", off.join(", "))
        };
        report.note(format!(
            "{name}: {verdict}; {} requests, {rate:.0} a second, {failed} of the fleet's failed; its cache behind: {outcomes}; told: {measured}",
            seen.len()
        ));
    }
    Ok(report)
}
