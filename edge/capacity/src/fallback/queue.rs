//! Which waiting requests go elsewhere: those that keep a queue standing (CoDel, RFC 8289).
//!
//! A queue that empties now and then only evens out bursts. One in which every request waits above the target for a whole
//! interval stands: then one request is turned away, and the next ones after intervals that shorten with the square root
//! of their number, until the wait is below the target (section 5.3). Where CoDel drops, a PoP sends to the region, or
//! answers 503 where there is none.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Moment;
use crate::invalid::Check;

/// What a queue may be. The defaults are those of the RFC (section 4.4).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Delay {
    /// A wait that is good.
    #[serde(with = "crate::span")]
    pub target: Duration,
    /// So long it may be above.
    #[serde(with = "crate::span")]
    pub interval: Duration,
}

impl Default for Delay {
    fn default() -> Self {
        Self { target: Duration::from_millis(5), interval: Duration::from_millis(100) }
    }
}

impl Delay {
    pub(super) fn check(&self, check: &mut Check) {
        let ms = Duration::from_millis;
        check.span("target", self.target, ms(1)..=ms(10_000));
        check.span("interval", self.interval, self.target..=ms(60_000));
    }
}

/// One queue.
#[derive(Clone, Copy, Debug, Default)]
pub struct Queue {
    /// When the wait will have been above the target for an interval.
    above_until: Option<Moment>,
    /// In the state of turning away: when the next one goes.
    next: Option<Moment>,
    /// How many have gone in this state, and at the last entry into it; when the next would have gone at its end.
    count: u32,
    count_at_entry: u32,
    last_next: Moment,
}

impl Queue {
    /// A request leaves the queue after so long a wait; whether it is turned away. `last`: no other waits behind it.
    pub fn turns_away(&mut self, config: &Delay, wait: Duration, last: bool, now: Moment) -> bool {
        let stands = self.stands(config, wait, last, now);
        match self.next {
            Some(_) if !stands => {
                self.next = None;
                false
            }
            Some(next) if now >= next => {
                self.count = self.count.saturating_add(1);
                self.schedule(config, next);
                true
            }
            Some(_) => false,
            None if stands => {
                // Soon after the last time, at about the rate that worked then.
                let since = self.count.saturating_sub(self.count_at_entry);
                let recent = now.since(self.last_next) < config.interval * 16;
                self.count = if since > 1 && recent { since } else { 1 };
                self.count_at_entry = self.count;
                self.schedule(config, now);
                true
            }
            None => false,
        }
    }

    /// Whether requests are being turned away.
    pub fn is_standing(&self) -> bool {
        self.next.is_some()
    }

    fn stands(&mut self, config: &Delay, wait: Duration, last: bool, now: Moment) -> bool {
        if wait < config.target || last {
            self.above_until = None;
            return false;
        }
        match self.above_until {
            None => {
                self.above_until = Some(now + config.interval);
                false
            }
            Some(until) => now >= until,
        }
    }

    /// The control law.
    fn schedule(&mut self, config: &Delay, from: Moment) {
        let next = from + config.interval.div_f64(f64::from(self.count).sqrt());
        self.next = Some(next);
        self.last_next = next;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn at(n: u64) -> Moment {
        Moment::from_secs(1000) + ms(n)
    }

    /// When requests are turned away of those that leave each millisecond.
    fn turned_away(queue: &mut Queue, from: u64, until: u64, wait: impl Fn(u64) -> u64) -> Vec<u64> {
        (from..until).filter(|n| queue.turns_away(&Delay::default(), ms(wait(*n)), false, at(*n))).collect()
    }

    #[test]
    fn a_burst_that_passes_within_the_interval_loses_nothing() {
        assert_eq!(turned_away(&mut Queue::default(), 0, 1000, |n| if n % 100 < 99 { 50 } else { 4 }), []);
    }

    #[test]
    fn a_standing_queue_turns_away_by_the_control_law() {
        // The first after an interval, the next after interval / sqrt(1), sqrt(2), sqrt(3), ...
        let mut queue = Queue::default();
        let all = turned_away(&mut queue, 0, 400, |_| 20);
        assert_eq!(all, [100, 200, 271, 329, 379]);
        assert!(queue.is_standing());
        assert_eq!(turned_away(&mut queue, 400, 500, |_| 4), []);
        assert!(!queue.is_standing());
    }

    #[test]
    fn soon_after_it_goes_on_at_the_rate_that_worked() {
        let mut queue = Queue::default();
        turned_away(&mut queue, 0, 400, |_| 20);
        turned_away(&mut queue, 400, 410, |_| 4);
        // Five went, one of them at the entry: it begins anew at four.
        assert_eq!(turned_away(&mut queue, 410, 620, |_| 20), [510, 560, 605]);
        let mut queue = Queue::default();
        turned_away(&mut queue, 0, 400, |_| 20);
        turned_away(&mut queue, 400, 2500, |_| 4);
        assert_eq!(turned_away(&mut queue, 2500, 2790, |_| 20), [2600, 2700, 2771], "long after, from one");
    }

    #[test]
    fn the_last_one_waiting_is_never_turned_away() {
        let mut queue = Queue::default();
        assert!((0..1000).all(|n| !queue.turns_away(&Delay::default(), ms(500), true, at(n))));
    }

    proptest! {
        #[test]
        fn a_queue_that_was_below_its_target_within_the_interval_loses_nothing(waits in prop::collection::vec(0_u64..100, 1..500)) {
            let mut queue = Queue::default();
            let mut below = 0;
            for (n, wait) in waits.iter().enumerate() {
                if *wait < 5 { below = n; }
                let away = queue.turns_away(&Delay::default(), ms(*wait), false, at(n as u64));
                prop_assert!(!away || n - below >= 100);
            }
        }
    }
}
