//! The end of a cell that nobody asked for: whose account it goes on.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use isolate::Cause;
use rustix::process::{Pid, Signal};

use super::outside::Outside;
use super::wire::Ended;
use crate::strikes::blame;

/// Why a cell is lost.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Loss {
    /// A function cost it its worker, as it would have cost the PoP one: the cell says so itself.
    #[error("{cause}")]
    Function { version: Option<String>, cause: Cause },
    /// The process ended.
    #[error("{0}")]
    Ended(String),
    /// It said what no cell says.
    #[error("it said {0}")]
    Misconduct(String),
}

impl Loss {
    /// The loss in the end of a link; `None` when the process has ended by then, and tells more.
    pub(super) fn of(ended: Ended) -> Option<Self> {
        match ended {
            Ended::Closed => None,
            Ended::Misconduct(what) => Some(Self::Misconduct(what.to_owned())),
        }
    }

    /// Stable name: metric label.
    const fn as_str(&self) -> &'static str {
        match self {
            Self::Function { cause, .. } => cause.as_str(),
            Self::Ended(_) => "ended",
            Self::Misconduct(_) => "misconduct",
        }
    }
}

impl Outside {
    /// Notes on whose account the cell was lost: of the function it names, else of those it had requests of.
    pub(super) fn blame(&self, loss: &Loss) {
        self.state.metrics.cells_lost.add(loss.as_str(), 1);
        let flights = self.flights.borrow();
        let under_way = flights.values().map(|flight| &flight.request);
        let requests: Vec<_> = under_way.clone().map(|request| request.visit.request_id()).collect();
        let named = match loss {
            Loss::Function { version: Some(version), .. } => self.functions.borrow().get(version).map(Arc::clone),
            _ => None,
        };
        let guilty: BTreeSet<_> = match &named {
            Some(function) => BTreeSet::from([isolate::Source::version(&**function)]),
            None => under_way.clone().map(|request| isolate::Source::version(&*request.function)).collect(),
        };
        let (pop, pid, list) = (&self.state.name, self.pid, requests.join(","));
        if guilty.is_empty() {
            tracing::error!(%pop, pid, "a cell was lost while nothing was under way in it: {loss}");
        }
        for version in guilty {
            blame(&self.state, "cell", version, &loss.to_string(), &list);
        }
    }
}

/// The processes of one worker's cells, for whoever has to end them when the worker is lost.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pids(Arc<Mutex<HashSet<u32>>>);

impl Pids {
    pub(super) fn insert(&self, pid: u32) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(pid);
    }

    pub(super) fn remove(&self, pid: u32) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&pid);
    }

    /// Ends them. A lost worker waits for none of its children, so that their numbers are still theirs.
    pub(crate) fn kill(&self) {
        for pid in self.0.lock().unwrap_or_else(PoisonError::into_inner).drain() {
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
            let _ = pid.map(|pid| rustix::process::kill_process(pid, Signal::KILL));
        }
    }
}
