//! What the PoPs have told.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::api::{MAX_FAILURE_CHARS, MAX_POP_NAME, Pop, PopReport, Pops};
use crate::deployment::MAX_FUNCTIONS;
use crate::server::problem::Problem;

/// PoPs remembered; beyond that the one unheard of for longest is forgotten.
const MAX_POPS: usize = 1000;

/// The PoPs that have polled this origin since it started.
#[derive(Default)]
pub(super) struct Seen {
    pops: Mutex<BTreeMap<String, Pop>>,
}

impl Seen {
    /// Remembers what a PoP reports.
    pub(super) fn note(&self, report: PopReport, now_ms: u64) -> Result<(), Problem> {
        let PopReport { pop: name, generation, applied_at_ms, mut failed, store: _ } = report;
        check_name(&name)?;
        if failed.len() > MAX_FUNCTIONS {
            return Err(Problem::bad_request("more functions failed than there can be"));
        }
        for message in failed.values_mut() {
            if let Some((end, _)) = message.char_indices().nth(MAX_FAILURE_CHARS) {
                message.truncate(end);
            }
        }
        let mut pops = self.pops.lock().unwrap_or_else(PoisonError::into_inner);
        pops.insert(name.clone(), Pop { name, generation, applied_at_ms, last_seen_ms: now_ms, failed });
        if pops.len() > MAX_POPS
            && let Some(oldest) = pops.values().min_by_key(|p| p.last_seen_ms).map(|p| p.name.clone())
        {
            pops.remove(&oldest);
        }
        Ok(())
    }

    pub(super) fn list(&self) -> Pops {
        Pops { pops: self.pops.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect() }
    }
}

/// What a PoP may call itself.
pub(super) fn check_name(name: &str) -> Result<(), Problem> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if !(1..=MAX_POP_NAME).contains(&name.len()) || !name.bytes().all(fits) {
        return Err(Problem::bad_request("a PoP's name is 1 to 63 letters, digits, '-', '_' or '.'"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(pop: &str) -> PopReport {
        PopReport { pop: pop.to_owned(), ..PopReport::default() }
    }

    #[test]
    fn names_and_numbers_are_bounded() {
        let seen = Seen::default();
        for bad in ["", "a b", "a\n", "é", &"x".repeat(64)] {
            assert!(seen.note(report(bad), 1).is_err(), "{bad:?}");
        }
        for n in 0..1100 {
            seen.note(report(&format!("pop-{n}")), n).unwrap();
        }
        let list = seen.list().pops;
        assert_eq!(list.len(), MAX_POPS);
        assert!(list.iter().all(|p| p.last_seen_ms >= 100), "the oldest are forgotten");
    }

    #[test]
    fn long_messages_are_cut_at_a_character() {
        let seen = Seen::default();
        let failed = BTreeMap::from([("hello".parse().unwrap(), "é".repeat(5000))]);
        seen.note(PopReport { failed, ..report("lhr") }, 1).unwrap();
        assert_eq!(seen.list().pops[0].failed.values().next().unwrap().chars().count(), MAX_FAILURE_CHARS);
    }
}
