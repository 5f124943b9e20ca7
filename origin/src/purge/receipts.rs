//! Which PoP has done which purge, as far as they have told this origin.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::{Batch, Confirmation, PurgeFollower, PurgePoll, Receipt};

/// Receipts remembered.
const MAX_RECEIPTS: usize = 100;

/// PoPs remembered; beyond that the one unheard of for longest is forgotten.
const MAX_POPS: usize = 1000;

/// A PoP that was not heard of for so long is not waited for: it is away, and validates what it has by now, or will before
/// it serves it. Three times the longest poll.
const PRESENT: Duration = Duration::from_secs(15);

/// A PoP that was not heard of for so long is not named any more.
const REMEMBERED: Duration = Duration::from_secs(3600);

/// Receipts in the making. Every change wakes those who [`Self::watch`].
pub(crate) struct Receipts {
    state: Mutex<State>,
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    pops: BTreeMap<String, Pop>,
    /// Oldest first.
    accepted: VecDeque<Accepted>,
}

struct Pop {
    number: u64,
    fenced: bool,
    seen: Instant,
    seen_ms: u64,
}

struct Accepted {
    /// As it will be answered, without the PoPs.
    receipt: Receipt,
    at: Instant,
    done: BTreeMap<String, Duration>,
}

impl Receipts {
    pub(crate) fn new() -> Self {
        Self { state: Mutex::default(), changed: watch::channel(()).0 }
    }

    pub(crate) fn watch(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// A batch is durable.
    pub(crate) fn accept(&self, batch: &Batch, now: Instant) {
        let mut state = self.lock();
        let accepted = Accepted::new(batch, now, &state.pops);
        state.accepted.push_back(accepted);
        if state.accepted.len() > MAX_RECEIPTS {
            state.accepted.pop_front();
        }
    }

    /// A PoP has told how far it is.
    pub(crate) fn confirm(&self, poll: &PurgePoll, now: Instant, now_ms: u64) {
        let PurgePoll { pop: name, number, fenced, .. } = poll;
        let mut state = self.lock();
        for accepted in state.accepted.iter_mut().filter(|accepted| accepted.receipt.number <= *number) {
            if !accepted.done.contains_key(name) {
                accepted.done.insert(name.clone(), now.saturating_duration_since(accepted.at));
            }
        }
        let pop = Pop { number: *number, fenced: *fenced, seen: now, seen_ms: now_ms };
        state.pops.insert(name.clone(), pop);
        state.pops.retain(|_, pop| now.saturating_duration_since(pop.seen) < REMEMBERED);
        if state.pops.len() > MAX_POPS
            && let Some(oldest) = state.pops.iter().min_by_key(|(_, pop)| pop.seen).map(|(name, _)| name.clone())
        {
            state.pops.remove(&oldest);
        }
        drop(state);
        self.changed.send_replace(());
    }

    /// Whether every PoP that is present has done a purge.
    pub(crate) fn is_complete(&self, number: u64, now: Instant) -> bool {
        let present = |pop: &&Pop| now.saturating_duration_since(pop.seen) < PRESENT;
        self.lock().pops.values().filter(present).all(|pop| pop.number >= number)
    }

    /// The receipt of a batch. Where so many came after it that it is forgotten, it tells only who is as far by now, not
    /// when that was.
    pub(crate) fn receipt(&self, batch: &Batch) -> Receipt {
        let state = self.lock();
        let number = batch.last();
        match state.accepted.iter().rfind(|accepted| accepted.receipt.number == number) {
            Some(accepted) => state.receipt(accepted),
            None => state.receipt(&Accepted::new(batch, Instant::now(), &state.pops)),
        }
    }

    /// The newest receipts, newest first.
    pub(crate) fn recent(&self) -> Vec<Receipt> {
        let state = self.lock();
        state.accepted.iter().rev().map(|accepted| state.receipt(accepted)).collect()
    }

    pub(crate) fn pops(&self) -> Vec<PurgeFollower> {
        let follower = |(name, pop): (&String, &Pop)| PurgeFollower {
            pop: name.clone(),
            number: pop.number,
            fenced: pop.fenced,
            last_seen_ms: pop.seen_ms,
        };
        self.lock().pops.iter().map(follower).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Accepted {
    fn new(batch: &Batch, at: Instant, pops: &BTreeMap<String, Pop>) -> Self {
        let Batch { at_ms, mode, scopes, .. } = batch;
        let (number, purges) = (batch.last(), scopes.len());
        // A PoP can be faster than the one who asked for the purge is told.
        let done = pops.iter().filter(|(_, pop)| pop.number >= number);
        let done = done.map(|(name, _)| (name.clone(), Duration::ZERO)).collect();
        Self { receipt: Receipt { number, purges, mode: *mode, at_ms: *at_ms, pops: Vec::new() }, at, done }
    }
}

impl State {
    fn receipt(&self, accepted: &Accepted) -> Receipt {
        let confirmation = |(name, pop): (&String, &Pop)| Confirmation {
            pop: name.clone(),
            done_ms: accepted.done.get(name).map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX)),
            last_seen_ms: pop.seen_ms,
        };
        Receipt { pops: self.pops.iter().map(confirmation).collect(), ..accepted.receipt.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Mode, Scope};
    use super::*;

    fn batch(number: u64) -> Batch {
        Batch { number, at_ms: 1, mode: Mode::Hard, scopes: vec![Scope::Everything], id: String::new() }
    }

    fn poll(pop: &str, number: u64) -> PurgePoll {
        PurgePoll { pop: pop.to_owned(), number, fenced: false, wait_ms: 0 }
    }

    #[tokio::test]
    async fn a_receipt_names_who_has_done_it_and_who_has_not() {
        let (receipts, start) = (Receipts::new(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        for pop in ["iad", "lhr", "nrt"] {
            receipts.confirm(&poll(pop, 4), start, 0);
        }
        receipts.confirm(&poll("lhr", 5), at(1), 1);
        receipts.accept(&batch(5), at(2));
        receipts.confirm(&poll("iad", 7), at(9), 9);
        let done = |receipt: &Receipt| receipt.pops.iter().map(|pop| pop.done_ms).collect::<Vec<_>>();
        assert_eq!(done(&receipts.receipt(&batch(5))), [Some(7), Some(0), None]);
        assert!(!receipts.is_complete(5, at(10)));
        receipts.confirm(&poll("nrt", 5), at(20), 20);
        assert!(receipts.is_complete(5, at(20)));
        receipts.confirm(&poll("nrt", 6), at(90), 90);
        assert_eq!(done(&receipts.recent()[0]), [Some(7), Some(0), Some(18)], "the first word counts");
    }

    #[tokio::test]
    async fn who_is_away_is_named_but_not_waited_for_and_one_day_forgotten() {
        let (receipts, start) = (Receipts::new(), Instant::now());
        receipts.confirm(&poll("gone", 1), start, 0);
        receipts.accept(&batch(2), start);
        assert!(!receipts.is_complete(2, start + PRESENT / 2));
        assert!(receipts.is_complete(2, start + PRESENT));
        receipts.confirm(&poll("here", 2), start + PRESENT, 0);
        assert_eq!(receipts.receipt(&batch(2)).pops.len(), 2);
        receipts.confirm(&poll("here", 2), start + REMEMBERED, 0);
        assert_eq!(receipts.receipt(&batch(2)).pops.len(), 1);
        for n in 0..1100 {
            receipts.accept(&batch(n), start);
            receipts.confirm(&poll(&format!("p{n}"), 0), start + REMEMBERED, 0);
        }
        assert_eq!((receipts.recent().len(), receipts.pops().len()), (MAX_RECEIPTS, MAX_POPS));
    }
}
