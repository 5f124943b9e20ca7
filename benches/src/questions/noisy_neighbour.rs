//! What a function notices of another one on the same worker that does its worst.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Question;
use crate::figure::Figure;
use crate::load::{self, Pace, Touched};
use crate::report::{Column, Report};
use crate::server::Server;
use crate::skerry::{Origin, Pop, function};
use crate::{Bench, Failure, sources};

mod breakers;

const ABOUT: &str = "a quiet function on the only worker, while another function there breaks its limits";

/// Where the quiet one answers.
const QUIET: &str = "/quiet";

/// Requests to it in a second, and the connections they are spread over.
const QUIET_RATE: f64 = 500.0;
const CONNECTIONS: usize = 8;

/// Requests to the breaker in a second.
const BREAKER_RATE: f64 = 5.0;

/// Requests to the quiet one before anything is measured.
const WARM_UP: usize = 1000;

/// Time for what a sample has left behind: answers, isolates that end.
const SETTLE: Duration = Duration::from_millis(300);

/// Requests to the breaker before its neighbour is measured beside it: the first ones stall it, which is measured by itself.
const FIRST: u32 = 2;

const COLUMNS: [Column; 8] = [
    Column::range("p50 µs", "p50_micros", 0),
    Column::range("p99 µs", "p99_micros", 0),
    Column::new("max µs", "max_micros", 0),
    Column::new("quiet p99 µs", "quiet_p99_micros", 0),
    Column::range("p99 by quiet", "p99_ratio", 2),
    Column::new("p50 by quiet", "p50_ratio", 2),
    Column::new("first stall µs", "first_stall_micros", 0),
    Column::new("peak RSS MiB", "peak_resident_mib", 1),
];

struct Row {
    name: &'static str,
    figures: Vec<Figure>,
    answers: BTreeMap<String, u64>,
}

/// Measures.
///
/// # Errors
/// What did not start, and a quiet function that did not answer with 200.
pub(super) async fn ask(bench: &Bench) -> Result<Report, Failure> {
    let folder = tempfile::tempdir()?;
    let mut report = Report::new(bench, Question::NoisyNeighbour, ABOUT);
    let origin = Origin::start(bench, folder.path()).await?;
    let breakers = breakers::ALL.map(|(name, _, source)| function(name, source.to_owned()));
    origin.deploy(&breakers).await?;
    origin.deploy(&[function("quiet", sources::hello())]).await?;
    origin.fill("pop").await?;

    let row = |name| Row { name, figures: vec![Figure::default(); COLUMNS.len()], answers: BTreeMap::new() };
    let mut rows: Vec<Row> = breakers::ALL.map(|(_, title, _)| row(title)).into();
    for round in 0..bench.options.rounds {
        for (row, (name, ..)) in rows.iter_mut().zip(breakers::ALL) {
            let server = origin.pop(&Pop::named("pop")).await?;
            let measured = measure(bench, &server, name, u64::from(round), row).await;
            measured.map_err(|failure| format!("{}: {failure}", row.name))?;
        }
    }
    let (seconds, rounds) = (bench.options.seconds, bench.options.rounds);
    report.method(format!(
        "{QUIET_RATE} requests a second to the quiet one at random as independent clients come (Poisson), an open loop \
         over {CONNECTIONS} connections; latency from the moment for which a request was scheduled, so that what waits \
         behind a stall counts; {} s without, then {FIRST} requests to the breaker (first stall), then {seconds} s with \
         {BREAKER_RATE} a second, its limits being the defaults; {rounds} rounds, each with a new process of one worker: median \
         (least..greatest)",
        seconds / 2.0
    ));
    for Row { name, answers, .. } in &rows {
        let answers: Vec<String> = answers.iter().map(|(answer, count)| format!("{count} × {answer}")).collect();
        report.note(format!("{name} was answered {}", answers.join(", ")));
    }
    report.note("workerd (as it is open source) and deno serve have no limits: an endless loop there stops the process for good");
    let table = report.table("the quiet one, beside", &COLUMNS);
    rows.into_iter().for_each(|row| table.row(row.name, row.figures));
    Ok(report)
}

async fn measure(bench: &Bench, server: &Server, breaker: &str, round: u64, row: &mut Row) -> Result<(), Failure> {
    let time = bench.options.seconds;
    load::touch(server, std::iter::repeat_n(QUIET, WARM_UP), Pace::Together(CONNECTIONS)).await?;
    let quiet = quiet(server, time / 2.0, 2 * round).await?;
    tokio::time::sleep(SETTLE).await;
    server.reset_peak()?;
    let breaker = format!("/{breaker}");
    let first_time = f64::from(FIRST) / BREAKER_RATE;
    let (first, firsts) = tokio::join!(
        self::quiet(server, first_time, 2 * round + 1),
        load::knock(server, &breaker, BREAKER_RATE, FIRST)
    );
    let (first, mut answers) = (first?, firsts?);
    tokio::time::sleep(SETTLE).await;
    let knocks = (time * BREAKER_RATE).ceil() as u32;
    let (noisy, more) =
        tokio::join!(self::quiet(server, time, 2 * round + 1), load::knock(server, &breaker, BREAKER_RATE, knocks));
    let noisy = noisy?;
    for (answer, count) in more? {
        *answers.entry(answer).or_default() += count;
    }
    answers.into_iter().for_each(|(answer, count)| *row.answers.entry(answer).or_default() += count);
    let of = |touched: &Touched, share| touched.scheduled.micros(share);
    let ratio = |share| Some(of(&noisy, share)? / of(&quiet, share)?);
    let values = [
        of(&noisy, 0.5),
        of(&noisy, 0.99),
        of(&noisy, 1.0),
        of(&quiet, 0.99),
        ratio(0.99),
        ratio(0.5),
        of(&first, 1.0),
        Some(server.peak_mib()),
    ];
    row.figures.iter_mut().zip(values).for_each(|(figure, value)| figure.add(value));
    Ok(())
}

async fn quiet(server: &Server, seconds: f64, seed: u64) -> Result<Touched, Failure> {
    let requests = (seconds * QUIET_RATE).ceil() as usize;
    let pace = Pace::Random { per_second: QUIET_RATE, connections: CONNECTIONS, seed };
    load::touch(server, std::iter::repeat_n(QUIET, requests), pace).await
}
