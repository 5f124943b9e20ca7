//! What clients notice when a PoP or the origin is lost under load.

use std::cell::Cell;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use super::Question;
use crate::connection::get_with;
use crate::figure::Figure;
use crate::fleet::{Fleet, Part, Project};
use crate::replay::{self, Seen, Shot, quantile};
use crate::report::{Column, Report};
use crate::{Bench, Failure, load, process};

const ABOUT: &str = "`skerry up` with three PoPs at half of its load, and kill -9 in the middle";

/// A client of each PoP, by its address.
const CLIENTS: [&str; 3] = ["212.58.244.1", "8.8.8.8", "133.11.0.1"];
/// The PoP that is killed.
const VICTIM: &str = "iad";

/// Connections and time of the closed loop that finds out what the fleet can do.
const CONNECTIONS: usize = 32;
const FULL: Duration = Duration::from_secs(4);

/// Latencies are judged in stretches of this length; calm is so many in a row of at most so many times the median p99 of
/// those before the loss.
const STRETCH: Duration = Duration::from_millis(500);
const CALM: usize = 3;
const AS_BEFORE: f64 = 2.0;
/// So much at the beginning counts for nothing.
const WARM_UP: Duration = Duration::from_secs(5);

/// How long the origin is kept down: what it comes back as is killed, too.
const ORIGIN_DOWN: Duration = Duration::from_secs(5);

/// The part of the requests that may fail, for the error budget.
const BUDGET: f64 = 0.001;

const OBJECTS: usize = 20;

const COLUMNS: [Column; 9] = [
    Column::new("requests/s", "requests_per_second", 0),
    Column::new("failed, in flight there", "failed_in_flight", 0),
    Column::new("failed otherwise", "failed_otherwise", 0),
    Column::new("p99 ms before", "p99_millis_before", 1),
    Column::new("worst p99 after", "p99_millis_worst_after", 1),
    Column::new("p99 back after s", "p99_back_seconds", 1),
    Column::new("runs again after s", "runs_again_seconds", 1),
    Column::new("stale answers", "stale", 0),
    Column::new("% of a day's budget", "budget_of_day_percent", 3),
];

fn projects() -> Vec<Project> {
    let computes = "const numbers = new Uint32Array(8000).map((_, i) => (i * 2654435761) >>> 0);
export default {
  fetch() {
    numbers.slice().sort();
    return new Response('done');
  },
};
";
    let fetches = "export default {
  fetch(request) {
    return fetch(new URL('/objects/' + new URL(request.url).search.slice(1) + '.txt', request.url));
  },
};
";
    let function = |name: &str, source: &str| Project {
        name: name.to_owned(),
        keys: json!({ "routes": [format!("*/{name}/*")] }),
        source: Some(source.to_owned()),
        assets: Vec::new(),
    };
    let objects = Project {
        name: "objects".to_owned(),
        keys: json!({
            "routes": ["*/objects/*"],
            "assets": { "directory": "./assets", "cache_control": "public, max-age=1" }
        }),
        source: None,
        assets: (0..OBJECTS).map(|number| (format!("objects/{number}.txt"), vec![b'x'; 1000])).collect(),
    };
    vec![function("computes", computes), function("fetches", fetches), objects]
}

/// One in ten is a POST, which nobody may repeat; three in ten fetch an object.
fn request(fleet: &Fleet, number: usize) -> Vec<u8> {
    let (address, client) = (fleet.front.address, [("X-Forwarded-For", CLIENTS[number % CLIENTS.len()])]);
    match (number / CLIENTS.len()) % 10 {
        0 => {
            let (_, client) = client[0];
            format!(
                "POST /computes/ HTTP/1.1\r\nHost: {address}\r\nX-Forwarded-For: {client}\r\nContent-Length: 0\r\n\r\n"
            )
            .into_bytes()
        }
        1..=3 => get_with(address, &format!("/fetches/?{}", number % OBJECTS), &client),
        _ => get_with(address, "/computes/", &client),
    }
}

/// When a part was killed, when its process was gone, which takes it some milliseconds, and when it ran again.
#[derive(Default)]
struct Loss {
    at: Cell<Duration>,
    gone: Cell<Duration>,
    again: Cell<Option<Duration>>,
}

/// Kills a part, and what comes in its place for as long as it shall be down.
async fn kill(
    fleet: &Fleet,
    part: Part<'_>,
    began: Instant,
    at: Duration,
    down: Duration,
    loss: &Loss,
) -> Result<(), Failure> {
    tokio::time::sleep_until((began + at).into()).await;
    let first = fleet.pid(part).ok_or("what shall be killed does not run")?;
    process::signal(first, Signal::KILL);
    loss.at.set(began.elapsed());
    while process::runs(first) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    loss.gone.set(began.elapsed());
    let mut last = first;
    let give_up = began.elapsed() + down + Duration::from_secs(20);
    loop {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let now = began.elapsed();
        let Some(pid) = fleet.pid(part).filter(|pid| *pid != last) else {
            if now > give_up {
                return Ok(());
            }
            continue;
        };
        if now < loss.at.get() + down {
            process::signal(pid, Signal::KILL);
            last = pid;
        } else {
            loss.again.set(Some(now - loss.at.get()));
            return Ok(());
        }
    }
}

/// The 99th percentile of each stretch, in seconds, by when its requests were sent.
fn stretches(seen: &[Seen], from: Duration, to: Duration) -> Vec<f64> {
    let count = ((to.saturating_sub(from)).as_secs_f64() / STRETCH.as_secs_f64()) as usize;
    let mut all = vec![Vec::new(); count];
    for seen in seen.iter().filter(|seen| seen.sent >= from) {
        let stretch = ((seen.sent - from).as_secs_f64() / STRETCH.as_secs_f64()) as usize;
        if let Some(times) = all.get_mut(stretch) {
            times.push(seen.took.as_secs_f64());
        }
    }
    all.iter_mut().map(|times| quantile(times, 0.99)).collect()
}

/// After which stretch all is as before, for good enough a while.
fn back_after(after: &[f64], good: f64) -> Option<f64> {
    let calm = after.windows(CALM).position(|stretch| stretch.iter().all(|p99| *p99 <= good))?;
    Some(calm as f64 * STRETCH.as_secs_f64())
}

async fn lose(
    fleet: &Fleet,
    part: Part<'_>,
    down: Duration,
    rate: f64,
    time: Duration,
) -> Result<Vec<Figure>, Failure> {
    let count = (rate * time.as_secs_f64()) as usize;
    let shots: Vec<Shot> = (0..count)
        .map(|number| Shot { due: Duration::from_secs_f64(number as f64 / rate), request: request(fleet, number) })
        .collect();
    let (loss, began) = (Loss::default(), Instant::now());
    let seen =
        replay::play(fleet.front.address, &shots, began, kill(fleet, part, began, time / 2, down, &loss)).await?;
    let at = loss.at.get();
    let victim = CLIENTS.iter().zip(&fleet.pops).position(|(_, pop)| part == Part::Pop(pop.name.as_str()));
    let (mut in_flight, mut otherwise) = (0, 0);
    for (number, seen) in seen.iter().enumerate().filter(|(_, seen)| !seen.is_well()) {
        let there =
            victim == Some(number % CLIENTS.len()) && seen.sent <= loss.gone.get() && seen.sent + seen.took >= at;
        *(if there { &mut in_flight } else { &mut otherwise }) += 1;
        if otherwise > 0 && otherwise <= 3 && !there {
            let after = seen.sent.as_secs_f64() - at.as_secs_f64();
            eprintln!("  sent {after:.3} s after the loss, {:?} after {:?}", seen.status, seen.took);
        }
    }
    let after = stretches(&seen, at, time);
    let usual = quantile(&mut stretches(&seen, WARM_UP, at.saturating_sub(STRETCH)), 0.5);
    let stale = seen.iter().filter(|seen| seen.phase("cache").is_some_and(|(_, what)| what == "stale")).count();
    let values = [
        Some(rate),
        Some(f64::from(in_flight)),
        Some(f64::from(otherwise)),
        Some(usual * 1e3),
        Some(after.iter().copied().fold(0.0, f64::max) * 1e3),
        back_after(&after, usual * AS_BEFORE),
        loss.again.get().map(|again| again.as_secs_f64()),
        Some(stale as f64),
        Some(f64::from(in_flight + otherwise) / (BUDGET * rate * 86_400.0) * 100.0),
    ];
    Ok(values.into_iter().map(|value| value.into_iter().collect()).collect())
}

/// Measures.
///
/// # Errors
/// What did not start or answer.
pub(super) async fn ask(bench: &Bench) -> Result<Report, Failure> {
    let mut report = Report::new(bench, Question::Failover, ABOUT);
    let time = Duration::from_secs(u64::from(bench.options.trace));
    let folder = tempfile::tempdir()?;
    let options = ["--pops", "lhr,iad,nrt", "--workers", "1", "--no-distance"];
    let fleet = Fleet::start(bench, folder.path(), &projects(), &options).await?;
    for number in 0..CLIENTS.len() * 10 * OBJECTS {
        fleet.front.answer(&request(&fleet, number)).await?;
    }
    // Of any PoP: all three share the cores of this machine.
    let full = load::repeat(&fleet.front, &request(&fleet, CLIENTS.len() * 4), CONNECTIONS, FULL).await?;
    let rate = full.latencies.count() as f64 / full.elapsed.as_secs_f64() / 2.0;
    let pop = lose(&fleet, Part::Pop(VICTIM), Duration::ZERO, rate, time).await?;
    let origin = lose(&fleet, Part::Origin, ORIGIN_DOWN, rate, time).await?;
    let table = report.table("", &COLUMNS);
    table.row(format!("the PoP {VICTIM}"), pop);
    table.row(format!("the origin, for {} s", ORIGIN_DOWN.as_secs()), origin);
    report.method(format!(
        "clients of three PoPs alike, an open loop at half of what {CONNECTIONS} connections in a closed loop reached, {time:?}; one in \
         ten is a POST, three fetch one of {OBJECTS} objects with max-age=1; kill -9 in the middle, `skerry up` starts it again; \
         the 99th percentile of {STRETCH:?} is back when it is at most {AS_BEFORE} times their median before, {CALM} times in a row"
    ));
    report.note(format!(
        "in flight there: sent to the PoP before its process was gone, and not answered when it was killed; only a POST may fail so, since nobody knows \
         whether it ran. The budget is {} % of a day's requests at this rate",
        BUDGET * 100.0
    ));
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calm_is_as_good_as_before_for_a_while() {
        assert_eq!(back_after(&[9.0, 1.0, 9.0, 1.0, 1.0, 1.0], 1.0), Some(1.5));
        assert_eq!(back_after(&[1.0, 1.0, 1.0], 1.0), Some(0.0));
        assert_eq!(back_after(&[9.0, 9.0], 1.0), None);
    }
}
