//! Where a request runs: what [`Fallback`] decides, fed with what a simulated PoP sees.

use std::time::Duration;

use super::super::{Nanos, Scenario};
use super::{Event, Fleet, Refusal, Where};
use crate::Moment;
use crate::fallback::{self, Costs, Fallback, Placement, Progress, Standing, Waiting};

/// How often a PoP weighs what it costs against the region.
const WEIGHS: Nanos = 10_000_000_000;

/// What a PoP knows for its choices. Its functions are alike in what they need and cost, so that one standing is theirs.
#[derive(Debug)]
pub(super) struct Placing {
    pop: fallback::Pop,
    standing: Standing,
    /// Requests that had come when it last weighed.
    weighed: u64,
}

impl Placing {
    pub(super) fn new(config: &Fallback, scenario: &Scenario) -> Self {
        let objective = Duration::from_nanos(scenario.objective.latency.nanos());
        Self {
            pop: fallback::Pop::new(config, scenario.region.is_some()),
            standing: Standing::new(config, Placement::Auto, None, Some(objective)),
            weighed: 0,
        }
    }

    /// What turns with hysteresis, as it stands.
    fn switches(&self) -> [bool; 4] {
        let pop = &self.pop;
        let region = pop.region.is_none_or(|region| region.is_well());
        [self.standing.costs_less_in_region(), pop.health.is_well(), pop.origin.is_well(), region]
    }
}

fn moment(nanos: Nanos) -> Moment {
    Moment::after_epoch(Duration::from_nanos(nanos))
}

impl Fleet<'_> {
    /// Does something with what a PoP knows for its choices, and counts what turned by it.
    fn placing<T>(&mut self, pop: u32, body: impl FnOnce(&Fallback, &mut Placing, Moment) -> T) -> Option<T> {
        let (config, now) = (self.scenario.fallback.as_ref()?, moment(self.agenda.now()));
        let placing = self.pops[pop as usize].placing.as_mut()?;
        let before = placing.switches();
        let result = body(config, placing, now);
        let turned = before.iter().zip(placing.switches()).filter(|(before, after)| *before != after).count();
        self.tally.turns += turned as u64;
        Some(result)
    }

    /// Whether a request that a worker could take runs here. Otherwise it is on its way elsewhere.
    pub(super) fn stays(&mut self, id: u32) -> bool {
        let request = self.requests[id as usize];
        let pop = &self.pops[request.pop as usize];
        let waiting = Waiting {
            in_flight: pop.running,
            waited: Duration::from_nanos(self.agenda.now() - request.at),
            last: pop.queue.is_empty(),
            needs_origin: false,
        };
        let choice = self.placing(request.pop, |config, placing, now| {
            config.choose(&placing.standing, &mut placing.pop, waiting, now)
        });
        let Some(choice) = choice else { return true };
        self.tally.choice(choice);
        match choice.place {
            fallback::Place::Edge => true,
            fallback::Place::Region => {
                self.elsewhere(id, Refusal::TurnedAway);
                false
            }
            fallback::Place::Refused => {
                self.refuse(id, Refusal::TurnedAway);
                false
            }
        }
    }

    /// Its node went while it ran: once more in the region, where that does no harm.
    pub(super) fn lost(&mut self, id: u32) {
        let request = self.requests[id as usize];
        let progress = Progress::Started { idempotent: request.idempotent };
        let choice = self.placing(request.pop, |config, placing, now| {
            placing.pop.health.outcome(&config.health, false, now);
            config.retry(&placing.standing, &mut placing.pop, progress, now)
        });
        self.leaves(id);
        match choice {
            Some(choice) => {
                self.tally.choice(choice);
                match choice.place {
                    fallback::Place::Region => self.elsewhere(id, Refusal::NodeLost),
                    fallback::Place::Edge | fallback::Place::Refused => self.refuse(id, Refusal::NodeLost),
                }
            }
            None => self.refuse(id, Refusal::NodeLost),
        }
    }

    /// A request that ran in a PoP was answered after so long.
    pub(super) fn went_well(&mut self, pop: u32, took: Nanos) {
        let running = self.pops[pop as usize].running;
        self.placing(pop, |config, placing, now| {
            placing.pop.health.outcome(&config.health, true, now);
            placing.pop.limit.sample(&config.concurrency, took as f64 / 1e9, running);
        });
    }

    /// Another place answered a request of a PoP, or had no room for it.
    pub(super) fn told_of(&mut self, id: u32, place: Where, well: bool) {
        let pop = self.requests[id as usize].pop;
        self.placing(pop, |config, placing, now| match place {
            Where::Origin => placing.pop.origin.outcome(&config.health, well, now),
            Where::Region => {
                if let Some(region) = &mut placing.pop.region {
                    region.outcome(&config.health, well, now);
                }
            }
        });
    }

    /// Has every PoP weigh its cost against the region's, when that is known.
    pub(super) fn begin_weighing(&mut self) {
        let known = self.scenario.region.as_ref().is_some_and(|region| region.cost_of_million.is_some());
        if known && self.scenario.fallback.is_some() {
            for pop in 0..self.pops.len() as u32 {
                self.agenda.add(WEIGHS, Event::Weighs(pop));
            }
        }
    }

    pub(super) fn weighs(&mut self, pop: u32) {
        self.agenda.add(self.agenda.now() + WEIGHS, Event::Weighs(pop));
        let (scenario, at) = (self.scenario, &self.pops[pop as usize]);
        let Some(region) = &scenario.region else { return };
        let (all, nodes) = (at.all(), f64::from(at.serving() + at.coming()));
        let takes = region.service.as_ref().unwrap_or(&scenario.functions.service).p99();
        let region_p99 = Duration::from_nanos(at.to_client + at.to_region) + Duration::from_secs_f64(takes);
        self.placing(pop, |config, placing, now| {
            let requests = all - std::mem::replace(&mut placing.weighed, all);
            let costs = region.cost_of_million.filter(|_| requests > 0).map(|million| {
                let hourly = requests as f64 * 3600.0 / (WEIGHS as f64 / 1e9);
                Costs { edge: nodes * scenario.node.cost / hourly * 1e6, region: million, region_p99 }
            });
            placing.standing.compare(config, costs, now);
        });
    }
}
