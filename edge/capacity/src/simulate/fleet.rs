//! The fleet at work: one function for each thing that can happen.

mod desk;
mod nodes;
mod placing;
mod pop;
mod requests;
mod tally;

pub(super) use tally::SLOT;
pub use tally::{PopTally, Refusal, Tally};

use self::desk::Desk;
use self::pop::{Node, Pop};
use self::requests::Request;
use super::Nanos;
use super::agenda::Agenda;
use super::cache::Cache;
use super::chance::Chance;
use super::popular::Popular;
use super::scenario::Scenario;
use crate::load::process::Arrivals;

/// What happens.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// A request reaches its PoP.
    Arrives,
    /// A request leaves its worker.
    Ran(u32),
    /// It has waited for what needs no worker.
    Waited(u32),
    /// A request reaches the origin, or the region.
    Reaches(u32, Where),
    /// It leaves a worker there.
    Served(u32, Where),
    /// Its answer is back in the PoP.
    Back(u32, Where),
    /// The policy of a PoP looks.
    Looks(u32),
    /// A PoP weighs its cost against the region's.
    Weighs(u32),
    /// A node serves.
    Serves {
        pop: u32,
        node: u32,
    },
    /// A fault is told, happens, or is over.
    Told(u32),
    Fails(u32),
    Mended(u32),
}

/// Another place than the PoP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Where {
    Origin,
    Region,
}

/// Streams of chance, one for each part.
struct Chances {
    place: Chance,
    service: Chance,
    wait: Chance,
    kind: Chance,
    start: Chance,
    origin: Chance,
    node: Chance,
}

struct Fleet<'a> {
    scenario: &'a Scenario,
    agenda: Agenda<Event>,
    arrivals: Arrivals,
    recorded: usize,
    requests: Vec<Request>,
    free: Vec<u32>,
    pops: Vec<Pop>,
    shares: Popular,
    functions: Popular,
    objects: Option<Popular>,
    origin: Option<Desk>,
    region: Option<Desk>,
    chances: Chances,
    tally: Tally,
    warm_up: Nanos,
}

/// Plays a scenario; `progress` hears now and then which part of it is over. It has been validated.
pub(super) fn play(scenario: &Scenario, seed: u64, progress: &mut dyn FnMut(f64)) -> Tally {
    let mut fleet = Fleet::new(scenario, seed);
    let end = scenario.duration.nanos();
    fleet.begin();
    let mut events: u64 = 0;
    while let Some(event) = fleet.agenda.next(end) {
        fleet.happens(event);
        events += 1;
        if events.is_multiple_of(1 << 16) {
            progress(fleet.agenda.now() as f64 / end as f64);
        }
    }
    fleet.end(end, events)
}

impl<'a> Fleet<'a> {
    fn new(scenario: &'a Scenario, seed: u64) -> Self {
        let mut pops = Vec::new();
        for plan in &scenario.pops {
            for copy in 0..plan.copies {
                let name = if plan.copies == 1 { plan.name.clone() } else { format!("{}-{}", plan.name, copy + 1) };
                pops.push(Pop::new(name, plan, scenario));
            }
        }
        let shares: Vec<f64> = pops.iter().map(|pop| pop.share).collect();
        let desk = |place: &super::scenario::Place| Desk::new(place.workers, place.queue);
        Self {
            scenario,
            agenda: Agenda::default(),
            arrivals: Arrivals::new(scenario.load.clone(), seed, 1),
            recorded: 0,
            requests: Vec::new(),
            free: Vec::new(),
            tally: Tally::new(pops.len()),
            pops,
            shares: Popular::weighted(&shares),
            functions: Popular::zipf(scenario.functions.count, scenario.functions.popularity),
            objects: scenario.objects.as_ref().map(|objects| Popular::zipf(objects.count, objects.popularity)),
            origin: scenario.origin.as_ref().map(desk),
            region: scenario.region.as_ref().map(desk),
            chances: Chances {
                place: Chance::new(seed, 2),
                service: Chance::new(seed, 3),
                start: Chance::new(seed, 4),
                origin: Chance::new(seed, 5),
                node: Chance::new(seed, 6),
                wait: Chance::new(seed, 7),
                kind: Chance::new(seed, 8),
            },
            warm_up: scenario.warm_up.nanos(),
        }
    }

    fn begin(&mut self) {
        self.next_arrival();
        self.begin_weighing();
        if let Some(interval) = self.scenario.scaling.interval() {
            for pop in 0..self.pops.len() as u32 {
                self.agenda.add(interval, Event::Looks(pop));
            }
        }
        for (i, fault) in self.scenario.faults.iter().enumerate() {
            let at = fault.at.nanos();
            if fault.notice.0 > 0.0 {
                self.agenda.add(at.saturating_sub(fault.notice.nanos()), Event::Told(i as u32));
            }
            self.agenda.add(at, Event::Fails(i as u32));
            if let Some(back) = fault.back {
                self.agenda.add(at.saturating_add(back.nanos()), Event::Mended(i as u32));
            }
        }
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Arrives => self.arrives(),
            Event::Ran(id) => self.ran(id),
            Event::Waited(id) => self.fetches(id),
            Event::Reaches(id, place) => self.reaches(id, place),
            Event::Served(id, place) => self.served(id, place),
            Event::Back(id, place) => self.back(id, place),
            Event::Looks(pop) => self.looks(pop),
            Event::Weighs(pop) => self.weighs(pop),
            Event::Serves { pop, node } => self.serves(pop, node),
            Event::Told(fault) => self.told(fault),
            Event::Fails(fault) => self.fails(fault),
            Event::Mended(fault) => self.mended(fault),
        }
    }

    fn end(mut self, end: Nanos, events: u64) -> Tally {
        for pop in 0..self.pops.len() {
            let at = &mut self.pops[pop];
            at.meter(end);
            self.tally.pops[pop].name = at.name.clone();
            self.tally.pops[pop].node_seconds = at.nodes.iter().map(|node| Node::seconds(node, end)).sum();
            self.tally.pops[pop].in_flight_mean = at.flight_area as f64 / end as f64;
            self.tally.pops[pop].nodes = at.serving();
        }
        self.tally.in_flight = (self.requests.len() - self.free.len()) as u64;
        self.tally.events = events;
        self.tally.duration = end as f64 / 1e9;
        self.tally
    }
}

/// The cache of a PoP.
fn cache(objects: Option<&super::scenario::Objects>, capacity: impl Fn(&super::scenario::Objects) -> usize) -> Cache {
    let (capacity, keep, fresh) = objects.map_or((0, super::cache::Keep::Lru, 0), |objects| {
        (capacity(objects), objects.keep, objects.fresh_for.nanos())
    });
    Cache::new(capacity, keep, fresh)
}
