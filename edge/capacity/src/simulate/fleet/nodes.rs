//! Nodes as they come and go: by the policy, and by faults.

use super::pop::Pop;
use super::{Event, Fleet, Refusal};

impl Fleet<'_> {
    pub(super) fn looks(&mut self, pop: u32) {
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

    pub(super) fn serves(&mut self, pop: u32, node: u32) {
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

    pub(super) fn told(&mut self, fault: u32) {
        let now = self.agenda.now();
        let Some((pop, nodes)) = self.hit(fault) else { return };
        let at = &mut self.pops[pop as usize];
        at.meter(now);
        at.condemn(nodes);
    }

    pub(super) fn fails(&mut self, fault: u32) {
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

    pub(super) fn mended(&mut self, fault: u32) {
        let now = self.agenda.now();
        let Some((pop, nodes)) = self.hit(fault) else { return };
        let at = &mut self.pops[pop as usize];
        for _ in 0..nodes.min(at.lost) {
            let node = self.pops[pop as usize].order(now);
            self.serves(pop, node);
        }
        self.pops[pop as usize].lost = 0;
    }
}
