//! What a fleet takes for requests that come one at a time.

use std::fmt;
use std::time::Duration;

use capacity::simulate::chance::Chance;
use capacity::simulate::{Law, Span};

use super::{FUNCTIONS, Kind, OBJECTS, WAITS, request};
use crate::Failure;
use crate::connection::Connection;
use crate::fleet::{Fleet, Part};
use crate::process;
use crate::replay::{self, Seen, quantile};

/// Warm requests of each kind to each PoP.
const WARM: u32 = 100;
/// Rounds over all functions, which start what was evicted.
const ROUNDS: u32 = 3;

/// What the simulator is told.
pub(super) struct Measured {
    /// For each kind, how long its requests occupied a worker, in seconds.
    services: [Vec<f64>; 4],
    /// How long [`Kind::Waits`] waits.
    pub(super) waits: f64,
    /// A start with an isolate ready, and with none; how long one takes to be made.
    pub(super) pooled: Law,
    pub(super) unpooled: Law,
    pub(super) refill: Law,
    /// The origin, without the distance to it.
    pub(super) origin: Law,
    /// From a client to each PoP and back, with what the front door takes.
    pub(super) clients: Vec<f64>,
    /// Isolates that a PoP keeps.
    pub(super) kept: u32,
}

impl Measured {
    /// How long some request of this kind took.
    pub(super) fn service(&self, kind: Kind, chance: &mut Chance) -> f64 {
        let services = &self.services[kind as usize];
        services[chance.below(services.len())]
    }

    /// The mean service time over the kinds.
    pub(super) fn mean(&self) -> f64 {
        let mean = |times: &Vec<f64>| times.iter().sum::<f64>() / times.len() as f64;
        self.services.iter().map(mean).sum::<f64>() / self.services.len() as f64
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |seconds: f64| format!("{:.2} ms", seconds * 1e3);
        for (kind, times) in Kind::ALL.iter().zip(&self.services) {
            write!(f, "{kind:?} {}, ", ms(quantile(&mut times.clone(), 0.5)).to_lowercase())?;
        }
        let clients: Vec<String> = self.clients.iter().map(|client| ms(*client)).collect();
        write!(
            f,
            "start {} or {}, origin {}, front door and clients {}, {} isolates kept",
            ms(self.pooled.moments().0),
            ms(self.unpooled.moments().0),
            ms(self.origin.moments().0),
            clients.join(" "),
            self.kept
        )
    }
}

/// A law through measured values.
fn law(mut values: Vec<f64>) -> Law {
    let parts = [0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0];
    let points = parts.map(|part| (part, Span(quantile(&mut values, part).max(0.0))));
    Law::Measured(points.into())
}

/// What was seen of requests to one PoP, one at a time.
#[derive(Default)]
struct Samples {
    /// By kind: in the PoP, without waiting for the origin.
    totals: [Vec<f64>; 4],
    misses: Vec<f64>,
    pooled: Vec<f64>,
    unpooled: Vec<f64>,
    made: Vec<f64>,
}

/// Asks every PoP of the fleet.
///
/// # Errors
/// When one does not answer, or another one does.
pub(super) async fn measure(fleet: &Fleet) -> Result<Measured, Failure> {
    let (mut samples, mut clients, mut kept, mut extras) = (Samples::default(), Vec::new(), 0.0, Vec::new());
    for (number, pop) in fleet.pops.iter().enumerate() {
        let mut connection = Connection::open(fleet.front.address).await?;
        let (mut overheads, mut warm) = (Vec::new(), Samples::default());
        for kind in 0..4 {
            let pid = fleet.pid(Part::Pop(&pop.name)).ok_or("the PoP is not there")?;
            let (before, mut inside) = (process::usage(pid).cpu, 0.0);
            for time in 0..WARM + 10 {
                // The first ones start it and bring the object.
                let seen = once(fleet, &mut connection, number, kind, 0).await?;
                let total = seen.phase("total").map_or(0.0, |(took, _)| took);
                inside += total;
                let is_miss = seen.phase("cache").is_some_and(|(_, what)| what != "hit");
                if time >= 10 && seen.phase("start").is_none() && !is_miss {
                    warm.totals[kind as usize].push(total);
                    overheads.push(seen.took.as_secs_f64() - total);
                }
            }
            // What the worker does for a request before and after what it tells of: reading, writing, the log.
            let used = (process::usage(pid).cpu - before).as_secs_f64();
            if kind < 2 {
                extras.push((used - inside).max(0.0) / f64::from(WARM + 10));
            }
        }
        let typical: Vec<f64> = warm.totals.iter().map(|totals| quantile(&mut totals.clone(), 0.5)).collect();
        for round in 0..ROUNDS {
            for function in 0..FUNCTIONS {
                let object = (round * FUNCTIONS + function) % OBJECTS;
                let seen = once(fleet, &mut connection, number, function, object).await?;
                tokio::time::sleep(Duration::from_millis(20)).await;
                samples.learn(function, &seen, &typical, pop.to_origin.as_secs_f64());
            }
            kept += fleet.metric(pop, "skerry_isolates", "state=\"resident\"").await?
                / f64::from(ROUNDS)
                / fleet.pops.len() as f64;
        }
        clients.push(quantile(&mut overheads, 0.5));
        samples.totals.iter_mut().zip(warm.totals).for_each(|(all, of_pop)| all.extend(of_pop));
    }
    let extra = extras.iter().sum::<f64>() / extras.len() as f64;
    let middle = |values: &[f64]| quantile(&mut values.to_vec(), 0.5);
    let waits = middle(&samples.totals[Kind::Waits as usize]) - middle(&samples.totals[Kind::Short as usize]);
    debug_assert!(waits + 0.005 > WAITS.as_secs_f64());
    // What sorts as much takes as long, be it that it waits afterwards.
    samples.totals[Kind::Waits as usize] = samples.totals[Kind::Short as usize].clone();
    samples.totals.iter_mut().flatten().for_each(|total| *total += extra);
    clients.iter_mut().for_each(|client| *client = (*client - extra).max(0.0));
    let unpooled = if samples.unpooled.is_empty() { &samples.pooled } else { &samples.unpooled };
    let refill = if samples.made.is_empty() { Law::Constant(Span(0.02)) } else { law(samples.made.clone()) };
    Ok(Measured {
        waits,
        unpooled: law(unpooled.clone()),
        pooled: law(samples.pooled),
        refill,
        origin: law(samples.misses),
        services: samples.totals,
        clients,
        kept: (kept.round() as u32).max(1),
    })
}

impl Samples {
    /// From a request that may have started an isolate, or asked the origin. Of what did both, neither is known.
    fn learn(&mut self, function: u32, seen: &Seen, typical: &[f64], to_origin: f64) {
        let kind = Kind::of(function);
        let beyond = seen.phase("total").map_or(0.0, |(took, _)| took) - typical[kind as usize];
        let is_miss = seen.phase("cache").is_some_and(|(_, what)| what != "hit");
        match (seen.phase("isolate"), is_miss) {
            (Some((made, "unpooled")), false) => {
                self.unpooled.push(beyond.max(0.0));
                self.made.push(made);
            }
            (Some(_), false) => self.pooled.push(beyond.max(0.0)),
            (None, true) => self.misses.push((beyond - to_origin).max(0.0)),
            (Some(_), true) => {
                let origin = seen.phase("origin").map_or(0.0, |(took, _)| took);
                self.misses.push((origin - to_origin).max(0.0));
            }
            (None, false) => {}
        }
    }
}

/// Asks once, and sees to it that the right PoP has answered.
async fn once(
    fleet: &Fleet,
    connection: &mut Connection,
    pop: usize,
    function: u32,
    object: u32,
) -> Result<Seen, Failure> {
    let request = request(fleet, pop, function, object);
    let seen = replay::ask(connection, &request, Duration::ZERO).await;
    match &seen.status {
        Ok(200) if seen.pop == fleet.pops[pop].name => Ok(seen),
        Ok(200) => Err(format!("{} answered a client of {}", seen.pop, fleet.pops[pop].name).into()),
        Ok(status) => Err(format!("f-{function} answers {status}").into()),
        Err(error) => Err(format!("f-{function}: {error}").into()),
    }
}
