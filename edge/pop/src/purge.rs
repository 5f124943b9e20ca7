//! Follows the purge log: a long poll that is at once this PoP's word on how far it is.
//!
//! A PoP starts **fenced**: what it has stored is validated before it is sent, until every purge is in force that came while
//! it was away. So it is again when it has not been in touch with the log for [`Config::purge_fence`]: a purge that it cannot
//! hear of is not served past that time. The log is replayed from the number that the cache has, which after a start is 0:
//! responses on a disk carry their own numbers, and the rules between those and now are what a replay brings back.
//!
//! Where several origins share a bucket, each sees within a second what the others add, and one that has not seen the bucket
//! for 5 seconds refuses to say how far the log is: that much comes on top of the fence at worst.
//!
//! [`Config::purge_fence`]: crate::Config::purge_fence

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cache::{Mode, Part, Purge, Scope};
use futures::{StreamExt as _, stream};
use middleware::rate_limit::Limiter;
use origin::client::Control;
use origin::purge::push::{Address, Pushes};
use origin::purge::{Batch, PurgePage, PurgePoll, PurgeRequest};
use tokio::sync::{oneshot, watch};

use crate::metrics::Tally;
use crate::state::State;

/// The longest wait for news; with short fences it is a quarter of those, so that one lost poll fences nobody.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// Pause after a failure: from the first to the longest.
const PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Purges of functions that wait to be sent, and that are under way at once.
const WAITING: usize = 256;
const UNDER_WAY: usize = 16;
/// Purges of one function that a PoP accepts within any minute: the log has room for so many, and what it drops takes others'
/// stored responses with it.
const MOST_PURGES: u32 = 120;
const MINUTE: Duration = Duration::from_secs(60);
/// Functions that are told apart in that.
const PURGERS: usize = 1000;
/// How long this PoP may take to do what is durable.
const OWN_TIME: Duration = Duration::from_secs(5);

/// A purge that a function of this PoP wants.
struct Order {
    request: PurgeRequest,
    done: oneshot::Sender<Result<(), String>>,
}

/// How a PoP stands to the purge log.
pub(crate) struct Standing {
    /// How long it may be out of touch with the log.
    fence: Duration,
    /// Whether stored responses are validated before they are sent.
    fenced: AtomicBool,
    /// When it last had every purge, on the clock of [`State::millis`].
    whole_ms: AtomicU64,
    /// Purges in the log, as it told last.
    pub(crate) log_length: AtomicU64,
    /// Purges put in force, by scope and mode.
    pub(crate) applied: Tally<(&'static str, &'static str)>,
    /// Polls, by what came of them.
    pub(crate) polls: Tally<&'static str>,
    /// Messages over NATS, by what came of them.
    pub(crate) pushes: Tally<&'static str>,
    /// Where functions' own purges go. Set once the log is followed.
    orders: OnceLock<tokio::sync::mpsc::Sender<Order>>,
    /// How often functions may.
    pace: Limiter,
    /// Number of the last purge that is in force.
    number: watch::Sender<u64>,
}

impl Standing {
    /// Of a PoP that has just started: it knows of nothing.
    pub(crate) fn new(cache: &cache::Cache, fence: Duration) -> Self {
        cache.fence(true);
        Self {
            fence,
            fenced: AtomicBool::new(true),
            whole_ms: AtomicU64::new(0),
            log_length: AtomicU64::new(0),
            applied: Tally::default(),
            polls: Tally::default(),
            pushes: Tally::default(),
            orders: OnceLock::new(),
            pace: Limiter::new(MOST_PURGES, MINUTE, PURGERS),
            number: watch::Sender::new(cache.purged()),
        }
    }

    pub(crate) fn is_fenced(&self) -> bool {
        self.fenced.load(Ordering::Relaxed)
    }

    /// Has the origin purge something, in all PoPs. It is durable when this is done, and in force here.
    ///
    /// # Errors
    /// Why it may be neither, for the function's author. To purge again is harmless.
    pub(crate) async fn order(&self, request: PurgeRequest, now_ms: u64) -> Result<(), String> {
        if let Some(function) = &request.function {
            let decision = self.pace.check(function.as_str(), now_ms);
            if !decision.allowed {
                let seconds = decision.retry_after.as_secs().max(1);
                return Err(format!(
                    "this function has purged {MOST_PURGES} times within a minute on this PoP; try again in {seconds} s, with \
                     several tags or prefixes in one call"
                ));
            }
        }
        const BUSY: &str = "too many purges wait in this PoP; try again";
        let (done, answered) = oneshot::channel();
        let orders = self.orders.get().ok_or("this PoP has just started; try again")?;
        orders.try_send(Order { request, done }).map_err(|_| BUSY.to_owned())?;
        answered.await.unwrap_or_else(|_| Err("the PoP is ending".to_owned()))
    }

    /// Time since this PoP last had every purge; since its start when it never had.
    pub(crate) fn lag(&self, now_ms: u64) -> Duration {
        Duration::from_millis(now_ms.saturating_sub(self.whole_ms.load(Ordering::Relaxed)))
    }
}

/// Follows the log for ever. `first` is told when the first poll is over: the log is in force then, or cannot be reached.
/// With the address of a NATS server and the token, what origins publish there is listened to as well.
pub(crate) async fn follow(
    state: Arc<State>,
    control: Control,
    fence: Duration,
    pushed: Option<(Address, String)>,
    first: mpsc::Sender<()>,
) {
    let listening = async {
        if let Some((nats, token)) = &pushed {
            listen(&state, nats, token).await;
        }
    };
    let (orders, ordered) = tokio::sync::mpsc::channel(WAITING);
    let _ = state.purges.orders.set(orders);
    let obeying = obey(&state, &control, ordered);
    tokio::join!(poll(&state, &control, fence, first), keep_watch(&state, fence), listening, obeying);
}

/// Sends what functions purge.
async fn obey(state: &State, control: &Control, mut ordered: tokio::sync::mpsc::Receiver<Order>) {
    let orders = stream::poll_fn(move |cx| ordered.poll_recv(cx));
    let sent = orders.for_each_concurrent(UNDER_WAY, async |Order { request, done }| {
        // Who asked may have left: the purge is meant all the same.
        let _ = done.send(purge(state, control, &request).await);
    });
    sent.await;
}

async fn purge(state: &State, control: &Control, request: &PurgeRequest) -> Result<(), String> {
    let receipt = control.purge(request).await.map_err(|error| {
        tracing::warn!(pop = %state.name, %error, "a function's purge was not accepted");
        error.to_string()
    })?;
    let mut number = state.purges.number.subscribe();
    let here = number.wait_for(|number| *number >= receipt.number);
    let here = tokio::time::timeout(OWN_TIME, here).await.is_ok();
    here.then_some(()).ok_or_else(|| "it is durable, but this PoP has not done it in time".to_owned())
}

/// Puts in force what origins publish, unless something before it is missing: the next poll brings that.
async fn listen(state: &State, nats: &Address, token: &str) {
    let mut pushes = Pushes::subscribe(nats, token, &state.name).await;
    loop {
        let result = match pushes.next().await {
            None => "refused",
            Some(push) if push.after > state.cache.purged() => "gap",
            Some(push) => {
                apply(state, &push.page);
                "ok"
            }
        };
        state.purges.pushes.add(result, 1);
    }
}

/// Fences the cache when the log was out of reach for too long.
async fn keep_watch(state: &State, fence: Duration) {
    loop {
        let lag = state.purges.lag(state.millis());
        if lag >= fence && !state.purges.is_fenced() {
            set_fence(state, true);
            tracing::warn!(pop = %state.name, "the purge log is out of reach: what is stored is validated before it is sent");
        }
        // A fenced one is looked at again as late as one that has just been unfenced may need it.
        tokio::time::sleep(fence.checked_sub(lag).filter(|left| !left.is_zero()).unwrap_or(fence)).await;
    }
}

async fn poll(state: &State, control: &Control, fence: Duration, first: mpsc::Sender<()>) {
    let longest_wait = LONGEST_WAIT.min(fence / 4);
    let mut wait = Duration::ZERO;
    let mut pause = PAUSE;
    loop {
        let poll = PurgePoll {
            pop: state.name.clone(),
            number: state.cache.purged(),
            fenced: state.purges.is_fenced(),
            wait_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
        };
        match control.follow_purges(&poll, wait + fence / 4).await {
            Ok(page) => {
                state.purges.polls.add("ok", 1);
                pause = PAUSE;
                let whole = apply(state, &page);
                wait = if whole { longest_wait } else { Duration::ZERO };
                if whole {
                    let _ = first.send(());
                } else if state.cache.purged() == poll.number {
                    // Nothing that helps: not to be asked for at once again.
                    tokio::time::sleep(pause).await;
                }
            }
            Err(error) => {
                let _ = first.send(());
                state.purges.polls.add("failed", 1);
                // Once for each outage: afterwards the fence tells.
                if pause == PAUSE {
                    tracing::warn!(pop = %state.name, %error, "the purge log cannot be reached");
                }
                wait = Duration::ZERO;
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE.min(fence / 4));
            }
        }
    }
}

/// Puts in force what the log says. Whether that is all there is.
fn apply(state: &State, page: &PurgePage) -> bool {
    if state.cache.purged() < page.known_after {
        // What the log does not reach back to may have been anything.
        let (scope, mode, at) = (Scope::Everything, Mode::Hard, SystemTime::now());
        enforce(state, &Purge { number: page.known_after, scope, mode, at }, "beyond-log");
    }
    for batch in &page.batches {
        apply_batch(state, batch);
    }
    state.purges.log_length.store(page.length, Ordering::Relaxed);
    let number = state.cache.purged();
    let whole = number >= page.last;
    if whole {
        // It holds of itself that far, also while this process is stopped.
        trust(state);
        state.purges.whole_ms.store(state.millis(), Ordering::Relaxed);
        if state.purges.is_fenced() {
            set_fence(state, false);
            tracing::info!(pop = %state.name, number, "every purge is in force; what is stored is sent");
        }
    }
    whole
}

fn apply_batch(state: &State, batch: &Batch) {
    let at = UNIX_EPOCH.checked_add(Duration::from_millis(batch.at_ms)).unwrap_or(UNIX_EPOCH);
    // Also where the origin's clock is ahead.
    let at = at.min(SystemTime::now());
    let mode = match batch.mode {
        origin::purge::Mode::Hard => Mode::Hard,
        origin::purge::Mode::Soft => Mode::Soft,
    };
    for (number, scope) in batch.purges() {
        enforce(state, &Purge { number, scope: in_cache(scope), mode, at }, scope.kind());
    }
}

fn enforce(state: &State, purge: &Purge, kind: &'static str) {
    if purge.number > state.cache.purged() {
        state.cache.purge(purge);
        state.purges.number.send_replace(purge.number);
        let mode = if purge.mode == Mode::Hard { "hard" } else { "soft" };
        state.purges.applied.add((kind, mode), 1);
    }
}

fn in_cache(scope: &origin::purge::Scope) -> Scope {
    use origin::purge::Scope as Logged;
    match scope {
        Logged::Url(url) => Scope::Uri(url.clone()),
        Logged::Prefix(prefix) => Scope::Prefix(prefix.clone()),
        Logged::Host(host) => Scope::Host(host.clone()),
        Logged::Tag(tag) => Scope::Tag(tag.clone()),
        Logged::Front { function, part } => Scope::Own(
            function.as_str().to_owned(),
            match part {
                origin::purge::Part::Prefix(prefix) => Part::Prefix(prefix.clone()),
                origin::purge::Part::Tag(tag) => Part::Tag(tag.clone()),
                origin::purge::Part::Everything => Part::Everything,
            },
        ),
        Logged::Everything => Scope::Everything,
    }
}

/// The cache fences itself when this is not said again.
fn trust(state: &State) {
    state.cache.fence_from(SystemTime::now() + state.purges.fence);
}

fn set_fence(state: &State, fenced: bool) {
    if fenced {
        state.cache.fence(true);
    } else {
        trust(state);
    }
    state.purges.fenced.store(fenced, Ordering::Relaxed);
}
