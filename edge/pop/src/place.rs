//! Where a request for a function runs: here, or in the region. The decision is `capacity`'s; this is what it is told, and
//! what is done about it.
//!
//! Each worker decides for itself, by what it sees: how many invocations it has, how late its turns are, whether its origin
//! and the region answer. What is known of a function is shared by all. A PoP without a region decides nothing.

mod cost;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use cache::{FailureKind, OriginFailure};
use capacity::fallback::{self, BROKE, Choice, Fallback, Place, Pop, Progress, Standing, Waiting, Why};
use http::request::Parts;
use http::{HeaderValue, Response};
use http_body::Body as _;
use isolate::Body;
use isolate::limits::{Limit, Limits};
use origin::bundle::{FunctionConfig, Placement};

use crate::capabilities::Request;
use crate::config::RegionLimits;
use crate::fault::Fault;
use crate::function::Function;
use crate::outcome::ClientBody;
use crate::state::State;
use crate::upstream::{Lent, Region, RegionFailed, Sent, USED};
use crate::worker::Worker;

pub(crate) use cost::{Spent, watch as watch_costs};

/// How often a worker looks how late its turns are.
const LAG_EVERY: Duration = Duration::from_millis(20);

/// The limits that a region node raises, and that a function may need more of than the edge gives.
const NEEDS: [Limit; 4] = [Limit::Cpu, Limit::Wall, Limit::Heap, Limit::Buffers];

/// What one worker goes by.
pub(crate) struct Placing {
    pop: RefCell<Pop>,
    /// Invocations here whose response has not begun.
    in_flight: Cell<u32>,
    /// How long whatever became ready last waited for its turn.
    lag: Cell<Duration>,
}

/// A request that has its place.
pub(crate) enum Placed<'a> {
    /// The region has answered.
    There(Response<ClientBody>),
    /// It runs here.
    Here(Parts, Body, Option<Stay<'a>>),
}

/// An invocation that runs here, for as long as its response has not begun.
pub(crate) struct Stay<'a> {
    placing: &'a Placing,
    state: &'a State,
    began: Instant,
}

impl Placing {
    /// That of a worker; `None` where there is nothing to choose.
    pub(crate) fn of(state: &State) -> Option<Self> {
        let pop = RefCell::new(Pop::new(&state.fallback, true));
        let has_region = !state.regions.nodes.is_empty();
        has_region.then(|| Self { pop, in_flight: Cell::new(0), lag: Cell::default() })
    }

    /// A function has asked the origin.
    pub(crate) fn asked_origin(&self, state: &State, function: &Function, failure: Option<&OriginFailure>) {
        function.asks_origin.store(true, Ordering::Relaxed);
        let well = match failure.map(|failure| failure.kind) {
            None | Some(FailureKind::Corrupt) => true,
            Some(FailureKind::Unreachable | FailureKind::TimedOut | FailureKind::Withheld) => false,
            Some(FailureKind::Busy | FailureKind::Abandoned) => return,
        };
        self.pop.borrow_mut().origin.outcome(&state.fallback.health, well, state.moment());
    }

    fn choose(&self, state: &State, function: &Function) -> Choice {
        let (now, in_flight) = (state.moment(), self.in_flight.get());
        let mut standing = function.standing.load();
        if standing.placement() == fallback::Placement::Edge {
            return Choice { place: Place::Edge, why: Why::Placement };
        }
        // What is remembered fades by itself; a copy tells whether it has.
        if standing.too_large() == Some(Why::LearntNeed) && Standing::clone(&standing).recall(&state.fallback, now) {
            change(function, |standing| _ = standing.recall(&state.fallback, now));
            standing = function.standing.load();
        }
        let request = Waiting {
            in_flight,
            waited: self.lag.get(),
            last: in_flight == 0,
            needs_origin: function.asks_origin.load(Ordering::Relaxed),
        };
        let choice = state.fallback.choose(&standing, &mut self.pop.borrow_mut(), request, now);
        // An edge that is too full is better than none.
        if choice.place == Place::Refused && standing.may_run_at_edge() {
            return Choice { place: Place::Edge, ..choice };
        }
        choice
    }

    fn region_fared(&self, state: &State, well: bool) {
        if let Some(region) = &mut self.pop.borrow_mut().region {
            region.outcome(&state.fallback.health, well, state.moment());
        }
    }

    fn may_retry(&self, state: &State) -> bool {
        self.pop.borrow_mut().budget.withdraw(&state.fallback.retries, state.moment())
    }

    fn stay<'a>(&'a self, state: &'a State) -> Stay<'a> {
        self.in_flight.set(self.in_flight.get() + 1);
        Stay { placing: self, state, began: Instant::now() }
    }
}

impl Stay<'_> {
    /// The invocation is over, or its response has begun; `well` unless the PoP itself was at fault.
    pub(crate) fn over(self, capabilities: &Request, well: bool) {
        let (spent, took) = (&capabilities.function.spent, self.began.elapsed());
        spent.took(took);
        spent.ran(u64::try_from(capabilities.notes.cpu.get().as_micros()).unwrap_or(u64::MAX));
        let (fallback, in_flight) = (&self.state.fallback, self.placing.in_flight.get());
        let mut pop = self.placing.pop.borrow_mut();
        pop.health.outcome(&fallback.health, well, self.state.moment());
        pop.limit.sample(&fallback.concurrency, took.as_secs_f64(), in_flight);
    }
}

impl Drop for Stay<'_> {
    fn drop(&mut self) {
        self.placing.in_flight.set(self.placing.in_flight.get() - 1);
    }
}

/// Finds the place for a request, and runs it in the region when that is the place.
///
/// # Errors
/// When it can run nowhere, or the region has had it and gave no answer.
pub(crate) async fn place<'a>(
    worker: &'a Worker,
    capabilities: &Rc<Request>,
    head: Parts,
    body: Body,
) -> Result<Placed<'a>, Fault> {
    let (state, function) = (&worker.state, &capabilities.function);
    let Some(placing) = &worker.placing else {
        // Where the request has been sent to already, or where all run at the edge.
        let homeless = state.region.is_none() && function.standing.load().placement() == fallback::Placement::Region;
        return if homeless { Err(Fault::NoRegion) } else { Ok(Placed::Here(head, body, None)) };
    };
    let choice = placing.choose(state, function);
    match choice.place {
        Place::Edge => {
            note(worker, capabilities, choice);
            Ok(Placed::Here(head, body, Some(placing.stay(state))))
        }
        Place::Refused => {
            note(worker, capabilities, choice);
            Err(Fault::RegionUnreachable("it failed too often lately and is left alone for a while".to_owned()))
        }
        Place::Region => match Box::pin(ask(worker, placing, capabilities, choice.why, head, body)).await {
            Ok(response) => {
                note(worker, capabilities, choice);
                Ok(Placed::There(response))
            }
            Err(Unanswered { fault, rest: Some((head, body)) }) if function.standing.load().may_run_at_edge() => {
                note(worker, capabilities, Choice { place: Place::Edge, why: Why::NoRegion });
                let (pop, label, request_id) = (&state.name, &function.label, capabilities.visit.request_id());
                tracing::warn!(target: "function", %pop, function = %label, %request_id, "runs here instead: {fault}");
                Ok(Placed::Here(head, body, Some(placing.stay(state))))
            }
            Err(Unanswered { fault, .. }) => {
                note(worker, capabilities, choice);
                Err(fault)
            }
        },
    }
}

/// A request that broke a limit here, sent to the region when that may be: `None` when the fault stands. Whatever becomes of
/// this one, the next ones go there at once.
pub(crate) async fn elsewhere(
    worker: &Worker,
    capabilities: &Rc<Request>,
    limit: Limit,
    head: Option<&Parts>,
    had_body: bool,
) -> Option<Response<ClientBody>> {
    let (state, function) = (&worker.state, &capabilities.function);
    let placing = worker.placing.as_ref()?;
    if function.standing.load().placement() != fallback::Placement::Auto || !is_need(limit) {
        return None;
    }
    let now = state.moment();
    if change(function, |standing| standing.saw(&state.fallback, BROKE, now)) {
        let (pop, label, code) = (&state.name, &function.label, limit.row().code);
        tracing::info!(%pop, function = %label, code, "a function needs more than the edge gives: it goes to the region");
    }
    let head = head.filter(|_| !had_body)?.clone();
    let progress = Progress::Started { idempotent: head.method.is_idempotent() };
    let choice = state.fallback.retry(&function.standing.load(), &mut placing.pop.borrow_mut(), progress, now);
    if choice.place != Place::Region {
        return None;
    }
    let answered = Box::pin(ask(worker, placing, capabilities, choice.why, head, crate::request::empty())).await;
    // The fault here says more of a request than that of a region that is not there.
    answered.ok().inspect(|_| note(worker, capabilities, choice))
}

/// Looks again and again how late this worker's turns are.
pub(crate) async fn watch_lag(worker: Rc<Worker>) {
    while let Some(placing) = &worker.placing {
        let due = Instant::now() + LAG_EVERY;
        tokio::time::sleep_until(due.into()).await;
        placing.lag.set(due.elapsed());
    }
}

/// What is known of a function before it has run.
pub(crate) fn standing(config: &FunctionConfig, fallback: &Fallback) -> Standing {
    let placement = match config.placement {
        Placement::Edge => fallback::Placement::Edge,
        Placement::Region => fallback::Placement::Region,
        Placement::Auto => fallback::Placement::Auto,
    };
    let mut standing = Standing::new(fallback, placement, None, config.region_objective_ms.map(Duration::from_millis));
    for row in NEEDS.map(Limit::row) {
        if let Some(asked) = config.limits.get(row.key) {
            standing.declare(*asked as f64 / row.max as f64);
        }
    }
    standing
}

impl RegionLimits {
    /// What a function has on this node: what it declares for regions, else what the node gives, and never more than that.
    ///
    /// # Errors
    /// As [`Limits::with`].
    pub(crate) fn limits(&self, config: &FunctionConfig) -> Result<Limits, String> {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let most = [millis(self.cpu), millis(self.wall), self.memory, self.memory];
        let mut values = config.limits.clone();
        values.extend(config.region_limits.clone());
        for (limit, most) in NEEDS.into_iter().zip(most) {
            let row = limit.row();
            let asked = config.region_limits.get(row.key).copied().unwrap_or(most);
            values.insert(row.key.to_owned(), asked.min(most).max(row.min));
        }
        Limits::in_region(values.iter().map(|(key, value)| (key.as_str(), *value)))
    }
}

/// Why the region gave no answer, and the request, when it is whole and nobody has run it.
struct Unanswered {
    fault: Fault,
    rest: Option<(Parts, Body)>,
}

/// Asks the region nodes in order, the next one as long as none has begun.
async fn ask(
    worker: &Worker,
    placing: &Placing,
    capabilities: &Rc<Request>,
    why: Why,
    head: Parts,
    mut body: Body,
) -> Result<Response<ClientBody>, Unanswered> {
    let heavy = matches!(why, Why::Placement | Why::DeclaredNeed | Why::LearntNeed | Why::Retry);
    let (state, began) = (&worker.state, Instant::now());
    let visit = &capabilities.visit;
    let errand = Sent {
        function: capabilities.function.name.to_string(),
        client: visit.client,
        secure: visit.is_secure(),
        authority: visit.authority.clone(),
        request_id: visit.request_id().to_owned(),
        http: capabilities.http.to_owned(),
        pop: state.name.clone(),
        traced: capabilities.trace.is_some(),
        heavy,
    };
    let mut why = "it failed too often lately and is left alone for a while".to_owned();
    let ready = |node: &&Arc<Region>| node.origin.breaker.holds(state.millis()).is_none();
    for node in state.regions.nodes.iter().filter(ready) {
        let (lent, borrowed) = Lent::new(body);
        match worker.upstream.to_region(node, &errand, head.clone(), borrowed).await {
            Ok(response) => {
                placing.region_fared(state, true);
                capabilities.notes.region.set(Some(began.elapsed()));
                return Ok(learn(state, &capabilities.function, response));
            }
            Err(RegionFailed { why: told, begun }) => {
                placing.region_fared(state, false);
                let told = format!("{}: {told}", node.name);
                let may_again = || head.method.is_idempotent() && placing.may_retry(state);
                // A body that has begun is gone.
                match lent.back() {
                    Some(whole) if !begun || (whole.is_end_stream() && may_again()) => body = whole,
                    _ if begun => return Err(Unanswered { fault: Fault::RegionLost(told), rest: None }),
                    _ => return Err(Unanswered { fault: Fault::RegionUnreachable(told), rest: None }),
                }
                why = told;
            }
        }
    }
    Err(Unanswered { fault: Fault::RegionUnreachable(why), rest: Some((head, body)) })
}

/// Takes from a region's answer what it says of the function's need.
fn learn(state: &State, function: &Function, mut response: Response<cache::OriginBody>) -> Response<ClientBody> {
    let used = response.headers_mut().remove(USED);
    let micros = used.as_ref().and_then(|used| used.to_str().ok()?.parse::<u32>().ok());
    if let Some(micros) = micros {
        function.spent.ran(micros.into());
    }
    // Most requests of a function that is here by choice need little, and change nothing.
    let limit = function.limits.time(Limit::Cpu).min(Duration::from_millis(Limit::Cpu.row().max));
    let share = micros.map(|micros| f64::from(micros) / 1e6 / limit.as_secs_f64());
    if let Some(share) = share.filter(|share| *share > state.fallback.need.off)
        && function.standing.load().placement() == fallback::Placement::Auto
    {
        change(function, |standing| standing.saw(&state.fallback, share, state.moment()));
    }
    response.map(ClientBody::Region)
}

/// Changes what is known of a function; whether it changes where it runs.
fn change(function: &Function, change: impl Fn(&mut Standing)) -> bool {
    let changed = |known: &Arc<Standing>| {
        let mut known = Standing::clone(known);
        change(&mut known);
        known
    };
    let before = function.standing.rcu(changed);
    before.too_large() != function.standing.load().too_large()
}

fn note(worker: &Worker, capabilities: &Request, choice: Choice) {
    capabilities.notes.placed.set(Some(choice));
    worker.counts().placed.add((choice.place.as_str(), choice.why.as_str()), 1);
}

fn is_need(limit: Limit) -> bool {
    NEEDS.contains(&limit) || limit == Limit::Wasm
}

/// What a region node says of an invocation that it had.
pub(crate) fn used(cpu: Duration) -> HeaderValue {
    HeaderValue::from(u64::try_from(cpu.as_micros()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(limits: &[(&str, u64)], region: &[(&str, u64)]) -> FunctionConfig {
        let table = |values: &[(&str, u64)]| values.iter().map(|(key, value)| ((*key).to_owned(), *value)).collect();
        FunctionConfig { limits: table(limits), region_limits: table(region), ..FunctionConfig::default() }
    }

    #[test]
    fn a_region_gives_what_it_has_unless_a_function_declares_less() {
        let node = RegionLimits::default();
        let given = |config: &FunctionConfig, limit| node.limits(config).unwrap().get(limit);
        let plain = config(&[("cpu_ms", 10), ("subrequests", 7)], &[]);
        assert_eq!(given(&plain, Limit::Cpu), 30_000);
        assert_eq!((given(&plain, Limit::Wall), given(&plain, Limit::Heap)), (900_000, 1 << 30));
        assert_eq!(given(&plain, Limit::Subrequests), 7, "what a region does not raise is the function's own");
        let declared = config(&[], &[("cpu_ms", 2000), ("heap_bytes", 8 << 30)]);
        assert_eq!((given(&declared, Limit::Cpu), given(&declared, Limit::Heap)), (2000, 1 << 30));
    }

    #[test]
    fn a_function_that_declares_more_than_the_edge_has_never_runs_there() {
        let fallback = Fallback::default();
        let why = |limits: &[(&str, u64)]| standing(&config(limits, &[]), &fallback).too_large();
        assert_eq!(why(&[]), None);
        assert_eq!(why(&[("heap_bytes", 512 << 20), ("cpu_ms", 30_000)]), None);
        for beyond in [("heap_bytes", 513 << 20), ("cpu_ms", 30_001), ("wall_ms", 300_001), ("buffer_bytes", 1 << 30)] {
            assert_eq!(why(&[beyond]), Some(Why::DeclaredNeed), "{beyond:?}");
        }
    }
}
