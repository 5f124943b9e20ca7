//! The fleet at work: one function for each thing that can happen.

mod desk;
mod pop;
mod tally;

pub(super) use tally::SLOT;
pub use tally::{PopTally, Refusal, Tally};

use self::desk::Desk;
use self::pop::{Node, Pop, Standing};
use super::agenda::Agenda;
use super::cache::Cache;
use super::chance::Chance;
use super::isolates::Found;
use super::popular::Popular;
use super::scenario::Scenario;
use super::{Law, Nanos};
use crate::load::process::Arrivals;

/// What happens.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// A request reaches its PoP.
    Arrives,
    /// A request leaves its worker.
    Ran(u32),
    /// A request reaches the origin, or the region.
    Reaches(u32, Where),
    /// It leaves a worker there.
    Served(u32, Where),
    /// Its answer is back in the PoP.
    Back(u32),
    /// The policy of a PoP looks.
    Looks(u32),
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

/// A request on its way.
#[derive(Clone, Copy, Debug, Default)]
struct Request {
    at: Nanos,
    pop: u32,
    node: u32,
    function: u32,
    object: u32,
    service: Nanos,
    /// When a worker took it.
    started: Nanos,
    /// Whether an isolate of the PoP is held for it.
    leased: bool,
}

/// Streams of chance, one for each part.
struct Chances {
    place: Chance,
    service: Chance,
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
            },
            warm_up: scenario.warm_up.nanos(),
        }
    }

    fn begin(&mut self) {
        self.next_arrival();
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
            Event::Reaches(id, place) => self.reaches(id, place),
            Event::Served(id, place) => self.served(id, place),
            Event::Back(id) => self.back(id),
            Event::Looks(pop) => self.looks(pop),
            Event::Serves { pop, node } => self.serves(pop, node),
            Event::Told(fault) => self.told(fault),
            Event::Fails(fault) => self.fails(fault),
            Event::Mended(fault) => self.mended(fault),
        }
    }

    fn next_arrival(&mut self) {
        let at = if self.scenario.recorded.is_empty() {
            self.arrivals.next()
        } else {
            self.scenario.recorded.get(self.recorded).map(|request| request.at)
        };
        if let Some(at) = at {
            self.agenda.add(at, Event::Arrives);
        }
    }

    fn arrives(&mut self) {
        let now = self.agenda.now();
        let (function, service) = match self.scenario.recorded.get(self.recorded) {
            Some(request) => (request.function, request.service),
            None => (
                self.functions.draw(&mut self.chances.place),
                self.scenario.functions.service.draw(&mut self.chances.service),
            ),
        };
        self.recorded += 1;
        self.next_arrival();
        let pop = self.shares.draw(&mut self.chances.place);
        let object = self.objects.as_ref().map_or(0, |objects| objects.draw(&mut self.chances.place));
        let request = Request { at: now, pop, node: 0, function, object, service, started: 0, leased: false };
        self.tally.arrived += 1;
        self.tally.pops[pop as usize].arrived += 1;
        let at = &mut self.pops[pop as usize];
        if self.objects.is_some() && at.serving() > 0 && at.front.look_up(object, now) {
            self.tally.front.0 += u64::from(now >= self.warm_up);
            return self.answer(request);
        }
        self.tally.front.1 += u64::from(self.objects.is_some() && now >= self.warm_up);
        let id = self.keep(request);
        self.pops[pop as usize].meter(now);
        self.pops[pop as usize].came();
        if self.pops[pop as usize].free_node().is_some() {
            return self.start(id);
        }
        self.expire(pop);
        let at = &mut self.pops[pop as usize];
        if at.queue.len() < at.room() {
            at.queue.push_back(id);
        } else if at.serving() == 0 {
            self.elsewhere(id, Refusal::PopDown);
        } else {
            self.elsewhere(id, Refusal::QueueFull);
        }
    }

    /// Runs a request on a worker that is free.
    fn start(&mut self, id: u32) {
        let now = self.agenda.now();
        let functions = &self.scenario.functions;
        let request = &mut self.requests[id as usize];
        let pop = &mut self.pops[request.pop as usize];
        let Some(node) = pop.occupy() else { return };
        request.node = node;
        (request.leased, request.started) = (true, now);
        let ready = (functions.ready * pop.workers()) as usize;
        let again = now.saturating_add(functions.refill.draw(&mut self.chances.start));
        let found = pop.isolates.take(request.function, ready, now, again);
        let begin = match found {
            Found::Warm => 0,
            Found::Blank => functions.pooled.draw(&mut self.chances.start),
            Found::Nothing => functions.unpooled.draw(&mut self.chances.start),
        };
        if request.at >= self.warm_up {
            self.tally.waits.record(now - request.at);
            self.tally.starts[found as usize] += 1;
        }
        self.agenda.add(now.saturating_add(begin).saturating_add(request.service), Event::Ran(id));
    }

    fn ran(&mut self, id: u32) {
        let now = self.agenda.now();
        let request = self.requests[id as usize];
        let pop = &mut self.pops[request.pop as usize];
        pop.meter(now);
        if pop.release(request.node, now - request.started, now) == Standing::Gone {
            // It was lost with its node, whose end took it off the count of what runs there.
            return self.refuse(id, Refusal::NodeLost);
        }
        let needs_origin = match (&self.objects, &self.origin) {
            (Some(_), Some(_)) => !pop.behind.look_up(request.object, now),
            _ => false,
        };
        self.tally.behind.0 += u64::from(self.objects.is_some() && !needs_origin && request.at >= self.warm_up);
        self.tally.behind.1 += u64::from(needs_origin && request.at >= self.warm_up);
        if needs_origin {
            self.agenda.add(now + pop.to_origin / 2, Event::Reaches(id, Where::Origin));
        } else {
            self.finish(id);
        }
        self.start_waiting(request.pop);
    }

    fn start_waiting(&mut self, pop: u32) {
        loop {
            self.expire(pop);
            let at = &mut self.pops[pop as usize];
            if at.free_node().is_none() {
                return;
            }
            let Some(id) = at.queue.pop_front() else { return };
            self.start(id);
        }
    }

    /// Refuses what has waited too long.
    fn expire(&mut self, pop: u32) {
        let now = self.agenda.now();
        let patience = self.scenario.node.patience.nanos();
        while let Some(id) = self.pops[pop as usize].queue.front().copied() {
            if now - self.requests[id as usize].at <= patience {
                return;
            }
            self.pops[pop as usize].queue.pop_front();
            self.refuse(id, Refusal::QueueTimeout);
        }
    }

    /// To the region, or nowhere.
    fn elsewhere(&mut self, id: u32, refusal: Refusal) {
        if self.region.is_none() {
            return self.refuse(id, refusal);
        }
        let half = self.pops[self.requests[id as usize].pop as usize].to_region / 2;
        self.agenda.add(self.agenda.now() + half, Event::Reaches(id, Where::Region));
    }

    fn desk(&mut self, place: Where) -> Option<&mut Desk> {
        match place {
            Where::Origin => self.origin.as_mut(),
            Where::Region => self.region.as_mut(),
        }
    }

    fn reaches(&mut self, id: u32, place: Where) {
        self.tally.asked[place as usize] += 1;
        match self.desk(place).map(|desk| desk.arrives(id)) {
            Some(desk::Arrived::Starts) => self.serve(id, place),
            Some(desk::Arrived::Waits) => {}
            Some(desk::Arrived::Full) | None => {
                let refusal = if place == Where::Origin { Refusal::OriginBusy } else { Refusal::RegionBusy };
                self.give_back(id);
                self.refuse(id, refusal);
            }
        }
    }

    fn serve(&mut self, id: u32, place: Where) {
        let scenario = self.scenario;
        let there = if place == Where::Origin { &scenario.origin } else { &scenario.region };
        let law: Option<&Law> = there.as_ref().and_then(|place| place.service.as_ref());
        let own = self.requests[id as usize].service;
        let takes = law.map_or(own, |law| law.draw(&mut self.chances.origin));
        self.agenda.add(self.agenda.now().saturating_add(takes), Event::Served(id, place));
    }

    fn served(&mut self, id: u32, place: Where) {
        let pop = &self.pops[self.requests[id as usize].pop as usize];
        let half = if place == Where::Origin { pop.to_origin } else { pop.to_region } / 2;
        self.agenda.add(self.agenda.now() + half, Event::Back(id));
        if let Some(next) = self.desk(place).and_then(Desk::leaves) {
            self.serve(next, place);
        }
    }

    fn back(&mut self, id: u32) {
        let now = self.agenda.now();
        let request = self.requests[id as usize];
        if request.leased && self.objects.is_some() {
            self.pops[request.pop as usize].behind.admit(request.object, now);
        }
        self.finish(id);
    }

    fn finish(&mut self, id: u32) {
        let now = self.agenda.now();
        let request = self.requests[id as usize];
        if self.objects.is_some() {
            self.pops[request.pop as usize].front.admit(request.object, now);
        }
        self.give_back(id);
        self.answer(request);
        self.drop(id);
    }

    fn give_back(&mut self, id: u32) {
        let request = &mut self.requests[id as usize];
        if std::mem::take(&mut request.leased) {
            let pop = &mut self.pops[request.pop as usize];
            let kept = self.scenario.functions.kept * pop.serving().max(1);
            pop.isolates.give_back(request.function, kept as usize);
        }
    }

    fn answer(&mut self, request: Request) {
        self.tally.answered += 1;
        if request.at >= self.warm_up {
            let pop = request.pop as usize;
            let took = self.agenda.now() - request.at + self.pops[pop].to_client;
            self.tally.latency.record(took);
            self.tally.pops[pop].latency.record(took);
            if took > self.scenario.objective.latency.nanos() {
                self.tally.violation(pop, request.at);
            }
        }
    }

    fn refuse(&mut self, id: u32, refusal: Refusal) {
        let request = self.requests[id as usize];
        let pop = &mut self.tally.pops[request.pop as usize];
        pop.refused += 1;
        self.tally.refused[refusal as usize] += 1;
        if request.at >= self.warm_up {
            self.tally.violation(request.pop as usize, request.at);
        }
        self.drop(id);
    }

    fn keep(&mut self, request: Request) -> u32 {
        match self.free.pop() {
            Some(id) => {
                self.requests[id as usize] = request;
                id
            }
            None => {
                self.requests.push(request);
                (self.requests.len() - 1) as u32
            }
        }
    }

    fn drop(&mut self, id: u32) {
        self.free.push(id);
    }

    fn looks(&mut self, pop: u32) {
        let now = self.agenda.now();
        let at = &mut self.pops[pop as usize];
        let measure = at.measure(now);
        let desired = at.pilot.look(measure);
        self.scale(pop, desired);
        if let Some(interval) = self.scenario.scaling.interval() {
            self.agenda.add(now + interval, Event::Looks(pop));
        }
    }

    fn scale(&mut self, pop: u32, desired: u32) {
        let now = self.agenda.now();
        let at = &mut self.pops[pop as usize];
        let current = at.serving() + at.coming();
        if desired < current {
            at.shrink(current - desired, now);
        }
        for _ in current..desired {
            let node = self.pops[pop as usize].order(now);
            let takes = self.scenario.node.start.draw(&mut self.chances.node);
            self.agenda.add(now.saturating_add(takes), Event::Serves { pop, node });
        }
        self.tally.most_nodes = self.tally.most_nodes.max(self.pops.iter().map(|pop| pop.serving()).sum());
    }

    fn serves(&mut self, pop: u32, node: u32) {
        let now = self.agenda.now();
        self.pops[pop as usize].meter(now);
        self.pops[pop as usize].begin(node);
        self.start_waiting(pop);
    }

    /// The PoP of a fault and the nodes that it takes.
    fn hit(&self, fault: u32) -> Option<(u32, u32)> {
        let fault = &self.scenario.faults[fault as usize];
        let named = |pop: &Pop| pop.name == fault.pop || pop.name == format!("{}-1", fault.pop);
        let pop = self.pops.iter().position(named)?;
        Some((pop as u32, fault.nodes.unwrap_or(u32::MAX)))
    }

    fn told(&mut self, fault: u32) {
        let now = self.agenda.now();
        let Some((pop, nodes)) = self.hit(fault) else { return };
        let at = &mut self.pops[pop as usize];
        at.meter(now);
        at.condemn(nodes);
    }

    fn fails(&mut self, fault: u32) {
        let now = self.agenda.now();
        let Some((pop, nodes)) = self.hit(fault) else { return };
        let at = &mut self.pops[pop as usize];
        at.meter(now);
        at.lose(nodes, now);
        if at.serving() == 0 {
            // Nobody is there to keep a queue, a cache or an isolate.
            at.forget();
            for id in std::mem::take(&mut at.queue) {
                self.elsewhere(id, Refusal::PopDown);
            }
        }
    }

    fn mended(&mut self, fault: u32) {
        let now = self.agenda.now();
        let Some((pop, nodes)) = self.hit(fault) else { return };
        let at = &mut self.pops[pop as usize];
        for _ in 0..nodes.min(at.lost) {
            let node = self.pops[pop as usize].order(now);
            self.serves(pop, node);
        }
        self.pops[pop as usize].lost = 0;
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
