//! The way of a request: to a worker of its PoP, to the origin or the region, and back to its client.

use std::collections::hash_map::Entry;

use super::super::Nanos;
use super::super::isolates::Found;
use super::super::law::Law;
use super::desk::{self, Desk};
use super::pop::Standing;
use super::{Event, Fleet, Refusal, Where};
use crate::load::process::Recorded;

/// A request on its way.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Request {
    pub(super) at: Nanos,
    pub(super) pop: u32,
    node: u32,
    function: u32,
    /// What its function fetches.
    object: Option<u32>,
    service: Nanos,
    wait: Nanos,
    /// When a worker took it.
    started: Nanos,
    /// Whether the PoP runs it: from when a worker takes it until its answer.
    pub(super) here: bool,
    pub(super) idempotent: bool,
}

impl Fleet<'_> {
    pub(super) fn next_arrival(&mut self) {
        let at = if self.scenario.recorded.is_empty() {
            self.arrivals.next()
        } else {
            self.scenario.recorded.get(self.recorded).map(|request| request.at)
        };
        if let Some(at) = at {
            self.agenda.add(at, Event::Arrives);
        }
    }

    /// The next request: as it was recorded, or drawn.
    fn draw(&mut self) -> Request {
        let (chances, functions) = (&mut self.chances, &self.scenario.functions);
        let recorded: Option<Recorded> = self.scenario.recorded.get(self.recorded).copied();
        let (function, service, wait) = match recorded {
            Some(request) => (request.function, request.service, request.wait),
            None => (
                self.functions.draw(&mut chances.place),
                functions.service.draw(&mut chances.service),
                functions.wait.draw(&mut chances.wait),
            ),
        };
        let known = recorded.and_then(|request| request.pop).filter(|pop| (*pop as usize) < self.pops.len());
        let pop = known.unwrap_or_else(|| self.shares.draw(&mut chances.place));
        let object = self.objects.as_ref().and_then(|objects| match recorded {
            Some(request) => request.object,
            None => Some(objects.draw(&mut chances.place)),
        });
        let idempotent = functions.idempotent >= 1.0 || chances.kind.unit() < functions.idempotent;
        Request { at: self.agenda.now(), pop, function, object, service, wait, idempotent, ..Request::default() }
    }

    pub(super) fn arrives(&mut self) {
        let now = self.agenda.now();
        let request = self.draw();
        let pop = request.pop;
        self.recorded += 1;
        self.next_arrival();
        self.tally.arrived += 1;
        self.tally.pops[pop as usize].arrived += 1;
        let at = &mut self.pops[pop as usize];
        if let Some(object) = request.object {
            let counts = u64::from(now >= self.warm_up);
            if at.serving() > 0 && at.front.look_up(object, now) {
                self.tally.front.0 += counts;
                return self.answer(request);
            }
            self.tally.front.1 += counts;
        }
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

    /// Runs a request on a worker that is free, unless it is better run elsewhere.
    fn start(&mut self, id: u32) {
        if !self.stays(id) {
            return;
        }
        let now = self.agenda.now();
        let functions = &self.scenario.functions;
        let request = &mut self.requests[id as usize];
        let pop = &mut self.pops[request.pop as usize];
        let Some(node) = pop.occupy() else { return };
        pop.running += 1;
        request.node = node;
        (request.here, request.started) = (true, now);
        let ready = (functions.ready * pop.workers()) as usize;
        // Each worker makes its own, one at a time.
        let refill = functions.refill.draw(&mut self.chances.start) / u64::from(pop.workers().max(1));
        let found = pop.isolates.take(request.function, ready, now, refill);
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

    /// It leaves its worker. Its isolate runs others while it waits.
    pub(super) fn ran(&mut self, id: u32) {
        let now = self.agenda.now();
        let request = self.requests[id as usize];
        let pop = &mut self.pops[request.pop as usize];
        pop.meter(now);
        let standing = pop.release(request.node, now - request.started, now);
        let kept = self.scenario.functions.kept * pop.serving().max(1);
        pop.isolates.give_back(request.function, kept as usize);
        if standing == Standing::Gone {
            // It was lost with its node, whose end took it off the count of what runs there.
            return self.lost(id);
        }
        if request.wait > 0 {
            self.agenda.add(now.saturating_add(request.wait), Event::Waited(id));
        } else {
            self.fetches(id);
        }
        self.start_waiting(request.pop);
    }

    /// Its function asks the cache behind it, and the origin when that has nothing. While one asks for an object, the
    /// others wait for the same answer.
    pub(super) fn fetches(&mut self, id: u32) {
        let now = self.agenda.now();
        let request = self.requests[id as usize];
        let (Some(object), Some(_)) = (request.object, &self.origin) else { return self.finish(id) };
        let counts = u64::from(request.at >= self.warm_up);
        let pop = &mut self.pops[request.pop as usize];
        if pop.behind.look_up(object, now) {
            self.tally.behind.0 += counts;
            return self.finish(id);
        }
        self.tally.behind.1 += counts;
        let shared = self.scenario.objects.as_ref().is_some_and(|objects| objects.behind > 0);
        match pop.asking.entry(object) {
            Entry::Occupied(asking) if shared => return asking.into_mut().push(id),
            Entry::Vacant(asking) if shared => drop(asking.insert(Vec::new())),
            _ => {}
        }
        let half = self.pops[request.pop as usize].to_origin / 2;
        self.agenda.add(now + half, Event::Reaches(id, Where::Origin));
    }

    pub(super) fn start_waiting(&mut self, pop: u32) {
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
    pub(super) fn elsewhere(&mut self, id: u32, refusal: Refusal) {
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

    pub(super) fn reaches(&mut self, id: u32, place: Where) {
        self.tally.asked[place as usize] += 1;
        match self.desk(place).map(|desk| desk.arrives(id)) {
            Some(desk::Arrived::Starts) => self.serve(id, place),
            Some(desk::Arrived::Waits) => {}
            Some(desk::Arrived::Full) | None => {
                self.told_of(id, place, false);
                let refusal = if place == Where::Origin { Refusal::OriginBusy } else { Refusal::RegionBusy };
                for waits in self.who_waits_for(id) {
                    self.refuse(waits, refusal);
                }
                self.refuse(id, refusal);
            }
        }
    }

    /// Those that wait for the answer which this one has asked for.
    fn who_waits_for(&mut self, id: u32) -> Vec<u32> {
        let request = self.requests[id as usize];
        let asked = request.object.filter(|_| request.here);
        asked.and_then(|object| self.pops[request.pop as usize].asking.remove(&object)).unwrap_or_default()
    }

    fn serve(&mut self, id: u32, place: Where) {
        let scenario = self.scenario;
        let there = if place == Where::Origin { &scenario.origin } else { &scenario.region };
        let law: Option<&Law> = there.as_ref().and_then(|place| place.service.as_ref());
        let request = self.requests[id as usize];
        let own = request.service.saturating_add(request.wait);
        let takes = law.map_or(own, |law| law.draw(&mut self.chances.origin));
        self.agenda.add(self.agenda.now().saturating_add(takes), Event::Served(id, place));
    }

    pub(super) fn served(&mut self, id: u32, place: Where) {
        let pop = &self.pops[self.requests[id as usize].pop as usize];
        let half = if place == Where::Origin { pop.to_origin } else { pop.to_region } / 2;
        self.agenda.add(self.agenda.now() + half, Event::Back(id, place));
        if let Some(next) = self.desk(place).and_then(Desk::leaves) {
            self.serve(next, place);
        }
    }

    pub(super) fn back(&mut self, id: u32, place: Where) {
        let now = self.agenda.now();
        let request = self.requests[id as usize];
        self.told_of(id, place, true);
        if let (Where::Origin, Some(object)) = (place, request.object) {
            self.pops[request.pop as usize].behind.admit(object, now);
        }
        let waiting = self.who_waits_for(id);
        self.finish(id);
        for waits in waiting {
            self.finish(waits);
        }
    }

    fn finish(&mut self, id: u32) {
        let now = self.agenda.now();
        let request = self.requests[id as usize];
        if let Some(object) = request.object {
            self.pops[request.pop as usize].front.admit(object, now);
        }
        if request.here {
            self.went_well(request.pop, now - request.started);
        }
        self.answer(request);
        self.drop(id);
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

    pub(super) fn refuse(&mut self, id: u32, refusal: Refusal) {
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
        self.leaves(id);
        self.free.push(id);
    }

    /// The PoP does not run it any more.
    pub(super) fn leaves(&mut self, id: u32) {
        let request = &mut self.requests[id as usize];
        if std::mem::take(&mut request.here) {
            self.pops[request.pop as usize].running -= 1;
        }
    }
}
