//! From a folder to every PoP: build, check in V8, upload what is missing, make it live, wait until the PoPs have it.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures::future::join_all;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use isolate::Platform;
use origin::api::Pop;
use origin::bundle::{Bundle, Digest, FunctionName};
use origin::client::{Control, ControlError, Upload};
use origin::deployment::Outcome;
use origin::store::Body;
use serde::Serialize;

use crate::bundling::{self, Built};
use crate::fleet::Fleet;
use crate::front::health;
use crate::output::{self, Failure, Progress, note};
use crate::project::Project;
use crate::table::{Align, Table};
use crate::units::show_bytes;

/// How long PoPs may take to report a change before it is said that they did not.
const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(10);

/// Until when PoPs may report a change that is made now.
pub(crate) fn arrival_deadline() -> Instant {
    Instant::now() + ARRIVAL_TIMEOUT
}

/// Between two looks at what the PoPs report.
const ARRIVAL_INTERVAL: Duration = Duration::from_millis(20);

/// A PoP that the origin heard of this much earlier than of the latest one is taken for down: a poll waits up to 30 s.
const HEARD_WITHIN_MS: u64 = 45_000;

/// Requests to the origin at once.
const REQUESTS_AT_ONCE: usize = 8;

/// Builds the function in `folder` and runs its top level in an isolate: what would fail at a PoP fails here.
///
/// # Errors
/// Everything wrong with the project file, the sources or the assets, or what V8 says about the modules.
pub(crate) fn build(platform: Platform, folder: &Path, progress: &Progress) -> Result<Built, Failure> {
    let failed = |what: String| Failure::Failed(format!("{} cannot be deployed:\n{what}", folder.display()));
    let project = Project::load(folder).map_err(|errors| failed(errors.to_string()))?;
    let built = bundling::bundle(&project).map_err(|errors| failed(errors.to_string()))?;
    for warning in project.warnings.iter().chain(&built.warnings) {
        progress.note(format_args!("warning: {}: {warning}", folder.display()));
    }
    check(platform, &built.bundle).map_err(failed)?;
    Ok(built)
}

/// Boots the bundle in an isolate, on a thread of its own: an isolate brings a runtime, which must not start in another.
fn check(platform: Platform, bundle: &Bundle) -> Result<(), String> {
    if bundle.main.is_none() {
        return Ok(());
    }
    std::thread::scope(|scope| {
        let check = std::thread::Builder::new()
            .name("check".to_owned())
            .stack_size(isolate::STACK_BYTES)
            .spawn_scoped(scope, || pop::check_bundle(platform, bundle));
        let check = check.map_err(|error| format!("no thread to check the bundle in: {error}"))?;
        check.join().map_err(|_| "the check of the bundle broke down".to_owned())?
    })
}

/// What a deploy or rollback did, and when each PoP had it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Released {
    /// The function.
    pub function: FunctionName,
    /// The version that is live.
    pub version: Digest,
    /// The one before.
    pub previous: Option<Digest>,
    /// Whether anything changed.
    pub changed: bool,
    /// Generation of the manifest.
    pub generation: u64,
    /// Length of the bundle in bytes, when it is known.
    pub size: Option<u64>,
    /// The static files, when they were at hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assets: Option<Assets>,
    /// The PoPs.
    pub pops: Vec<Arrival>,
    /// Why the PoPs could not be asked, when they could not: the version is live all the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pops_unknown: Option<String>,
}

/// How many static files a deploy had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Assets {
    /// All of them, each content once.
    pub total: usize,
    /// Those that the origin did not have.
    pub uploaded: usize,
}

/// When a PoP had a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Arrival {
    /// The PoP.
    pub pop: String,
    /// How it went.
    pub state: State,
    /// Milliseconds from the change of the manifest until the PoP served it; `None` when it does not, or nothing changed.
    pub after_ms: Option<u64>,
    /// What went wrong there.
    pub error: Option<String>,
}

/// How a change went at a PoP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    /// It serves the version.
    Live,
    /// It could not start the version, and serves the last good one.
    Failed,
    /// It is up but has not reported the change in time.
    Late,
    /// It does not answer; it catches up when it is back.
    Down,
}

impl State {
    /// The name in tables and JSON.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Failed => "failed",
            Self::Late => "late",
            Self::Down => "down",
        }
    }
}

/// Uploads what the origin does not have, publishes the bundle and makes it live. Returns what changed and how many
/// assets were uploaded.
///
/// # Errors
/// What the origin answers: nothing is live then that was not before.
pub(crate) async fn release(
    control: &Control,
    built: &Built,
    message: Option<&str>,
) -> Result<(Outcome, usize), Failure> {
    let (bytes, version) = built.bundle.encode();
    let missing: Vec<Option<&(Digest, PathBuf)>> = stream::iter(&built.assets)
        .map(async |asset| Ok::<_, Failure>((!control.has_blob(&asset.0).await?).then_some(asset)))
        .buffer_unordered(REQUESTS_AT_ONCE)
        .try_collect()
        .await?;
    let missing: Vec<&(Digest, PathBuf)> = missing.into_iter().flatten().collect();
    stream::iter(missing.iter().map(Ok))
        .try_for_each_concurrent(REQUESTS_AT_ONCE, async |(digest, path)| upload(control, digest, path).await)
        .await?;
    control.put_bundle(&version, bytes, message).await?;
    Ok((control.deploy(&built.bundle.name, &version).await?, missing.len()))
}

/// Streams an asset to the origin. A file that has changed since the bundle was made breaks its upload off.
async fn upload(control: &Control, digest: &Digest, path: &Path) -> Result<(), Failure> {
    let opened = async {
        let file = tokio::fs::File::open(path).await?;
        let size = file.metadata().await?.len();
        Ok::<_, std::io::Error>((file, size))
    };
    let (file, size) = opened.await.map_err(|e| Failure::Failed(format!("cannot read {}: {e}", path.display())))?;
    let upload = Upload { size: Some(size), body: Body::read(file).verified(*digest) };
    let sent = control.put_blob(digest, upload).await;
    sent.map_err(|error| Failure::from(error).context(format_args!("cannot upload {}", path.display())))
}

/// A PoP that should have a change.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    /// Its name.
    pub name: String,
    /// Where it answers health checks; without it, it is expected as long as the origin hears of it.
    pub address: Option<SocketAddr>,
}

impl Expected {
    /// The PoPs of a fleet, or without one those that the origin has heard of lately.
    ///
    /// # Errors
    /// When the origin does not answer until the deadline.
    async fn of(fleet: Option<&Fleet>, control: &Control, deadline: Instant) -> Result<Vec<Self>, ControlError> {
        if let Some(fleet) = fleet {
            let pops = fleet
                .pops
                .iter()
                .chain(&fleet.regions)
                .map(|pop| Self { name: pop.name.clone(), address: Some(pop.address) });
            return Ok(pops.collect());
        }
        let pops = insist(deadline, || control.pops()).await?;
        let latest = pops.iter().map(|pop| pop.last_seen_ms).max().unwrap_or_default();
        let heard = pops.into_iter().filter(|pop| latest.saturating_sub(pop.last_seen_ms) <= HEARD_WITHIN_MS);
        Ok(heard.map(|pop| Self { name: pop.name, address: None }).collect())
    }

    /// Whether it answers at all: one without a manifest yet says 503, and is about to have one.
    async fn is_up(&self) -> bool {
        match self.address {
            Some(address) => health::probe(address).await.is_some(),
            None => true,
        }
    }
}

/// Asks again until there is an answer or the deadline is over: what has been acknowledged is not undone by an origin
/// that is busy for a moment, or starts again.
async fn insist<T>(deadline: Instant, ask: impl AsyncFn() -> Result<T, ControlError>) -> Result<T, ControlError> {
    loop {
        match tokio::time::timeout_at(deadline.into(), ask()).await {
            Ok(Err(_)) if Instant::now() + ARRIVAL_INTERVAL < deadline => tokio::time::sleep(ARRIVAL_INTERVAL).await,
            Ok(answer) => return answer,
            Err(_) => return Err(ControlError::TimedOut),
        }
    }
}

/// Waits until every PoP that is up has the change of `function` (of any, when `None`) in `generation`, made at
/// `since_ms` if that is known, or the deadline is over.
///
/// # Errors
/// When the origin does not answer.
pub(crate) async fn arrivals(
    control: &Control,
    fleet: Option<&Fleet>,
    function: Option<&FunctionName>,
    generation: u64,
    since_ms: Option<u64>,
    deadline: Instant,
) -> Result<Vec<Arrival>, ControlError> {
    let expected = Expected::of(fleet, control, deadline).await?;
    loop {
        let (up, seen) =
            tokio::join!(join_all(expected.iter().map(Expected::is_up)), insist(deadline, || control.pops()));
        let seen = seen?;
        let arrivals: Vec<Arrival> = expected
            .iter()
            .zip(&up)
            .map(|(pop, up)| {
                let seen = seen.iter().find(|seen| seen.name == pop.name && seen.generation >= generation);
                arrival(&pop.name, *up, seen, function, since_ms)
            })
            .collect();
        let waiting = arrivals.iter().zip(&up).any(|(arrival, up)| *up && arrival.state == State::Late);
        if !waiting || Instant::now() + ARRIVAL_INTERVAL >= deadline {
            return Ok(arrivals);
        }
        tokio::time::sleep(ARRIVAL_INTERVAL).await;
    }
}

fn arrival(
    name: &str,
    up: bool,
    seen: Option<&Pop>,
    function: Option<&FunctionName>,
    since_ms: Option<u64>,
) -> Arrival {
    let failed = seen.and_then(|seen| match function {
        Some(function) => seen.failed.get(function).cloned(),
        None => seen.failed.values().next().cloned(),
    });
    let state = match (seen, &failed) {
        (Some(_), None) => State::Live,
        (Some(_), Some(_)) => State::Failed,
        (None, _) if up => State::Late,
        (None, _) => State::Down,
    };
    let served = seen.filter(|_| failed.is_none());
    let after_ms = served.and_then(|seen| Some(seen.applied_at_ms.saturating_sub(since_ms?)));
    Arrival { pop: name.to_owned(), state, after_ms, error: failed }
}

/// Waits for the PoPs after a deploy or rollback and puts everything together. The version is live whatever happens here:
/// that the PoPs cannot be asked is told, and is no failure.
pub(crate) async fn follow(
    control: &Control,
    fleet: Option<&Fleet>,
    function: &FunctionName,
    outcome: Outcome,
    deadline: Instant,
) -> Released {
    let Outcome { generation, version, previous, changed } = outcome;
    let asked = async {
        let manifest = insist(deadline, || control.manifest()).await?;
        let live = manifest.functions.get(function).filter(|live| live.version == version);
        let since = live.filter(|_| changed).map(|live| live.deployed_at_ms);
        let pops = arrivals(control, fleet, Some(function), generation, since, deadline).await?;
        Ok::<_, ControlError>((live.map(|live| live.size), pops))
    };
    let ((size, pops), pops_unknown) = match asked.await {
        Ok(answer) => (answer, None),
        Err(error) => ((None, Vec::new()), Some(error.to_string())),
    };
    let function = function.clone();
    Released { function, version, previous, changed, generation, size, assets: None, pops, pops_unknown }
}

impl Released {
    /// Prints it, and fails when a PoP could not take the version up.
    ///
    /// # Errors
    /// Names the PoPs that failed and why.
    pub(crate) fn print(&self, as_json: bool) -> Result<(), Failure> {
        if as_json {
            output::json(self)?;
        } else {
            output::print(self)?;
        }
        if let Some(why) = &self.pops_unknown {
            let (function, version) = (&self.function, self.version.short());
            note(format_args!(
                "warning: {function}@{version} is live; the PoPs could not be asked whether they have it: {why}"
            ));
        }
        let failed: Vec<String> = self
            .pops
            .iter()
            .filter_map(|pop| pop.error.as_ref().map(|error| format!("PoP {}: {error}", pop.pop)))
            .collect();
        if failed.is_empty() {
            return Ok(());
        }
        let kept = "its last good version serves on";
        Err(Failure::Failed(format!(
            "{} could not be started everywhere, {kept}:\n{}",
            self.function,
            failed.join("\n")
        )))
    }
}

impl fmt::Display for Released {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = self.version.short();
        if self.changed {
            write!(f, "{}@{version} is live, generation {}", self.function, self.generation)?;
        } else {
            write!(f, "{}@{version} was live already", self.function)?;
        }
        if let Some(size) = self.size {
            write!(f, ", {}", show_bytes(size))?;
        }
        if let Some(assets) = self.assets.filter(|assets| assets.total > 0) {
            write!(f, ", {} assets of which {} were uploaded", assets.total, assets.uploaded)?;
        }
        match self.previous.filter(|_| self.changed) {
            Some(previous) => writeln!(f, "; before it {}", previous.short())?,
            None => writeln!(f)?,
        }
        let mut table = Table::new(&[("POP", Align::Left), ("HAD IT AFTER", Align::Right), ("STATE", Align::Left)]);
        for pop in &self.pops {
            let after = pop.after_ms.map(|ms| format!("{ms} ms")).unwrap_or_default();
            table.row([pop.pop.clone(), after, pop.state.as_str().to_owned()]);
        }
        match (&self.pops[..], &self.pops_unknown) {
            ([], Some(_)) => Ok(()),
            ([], None) => writeln!(f, "no PoP has been heard of yet"),
            _ => write!(f, "{table}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pop(generation: u64, failed: Option<&str>) -> Pop {
        let failed = failed.map(|why| ("hello".parse().unwrap(), why.to_owned())).into_iter().collect();
        Pop { name: "lhr".to_owned(), generation, applied_at_ms: 1_042, last_seen_ms: 0, failed }
    }

    #[test]
    fn a_pop_is_live_failed_late_or_down() {
        let hello: FunctionName = "hello".parse().unwrap();
        let other: FunctionName = "other".parse().unwrap();
        let of =
            |up, seen: Option<&Pop>, function: &FunctionName| arrival("lhr", up, seen, Some(function), Some(1_000));
        let live = of(true, Some(&pop(3, None)), &hello);
        assert_eq!((live.state, live.after_ms), (State::Live, Some(42)));
        let same = arrival("lhr", true, Some(&pop(3, None)), Some(&hello), None);
        assert_eq!((same.state, same.after_ms), (State::Live, None), "nothing changed, so there is no time it took");
        let failed = of(true, Some(&pop(3, Some("threw"))), &hello);
        assert_eq!((failed.state, failed.after_ms, failed.error.as_deref()), (State::Failed, None, Some("threw")));
        assert_eq!(of(true, Some(&pop(3, Some("threw"))), &other).state, State::Live, "another function's failure");
        assert_eq!((of(true, None, &hello).state, of(false, None, &hello).state), (State::Late, State::Down));
    }

    #[test]
    fn what_was_released_is_said_with_its_times() {
        let released = Released {
            function: "hello".parse().unwrap(),
            version: Digest::of(b"2"),
            previous: Some(Digest::of(b"1")),
            changed: true,
            generation: 7,
            size: Some(1536),
            assets: Some(Assets { total: 3, uploaded: 1 }),
            pops: vec![
                arrival("lhr", true, Some(&pop(7, None)), None, Some(1_000)),
                arrival("nrt", false, None, None, Some(1_000)),
            ],
            pops_unknown: None,
        };
        let text = released.to_string();
        assert!(
            text.contains("is live, generation 7, 1.5 KiB, 3 assets of which 1 were uploaded; before it"),
            "{text}"
        );
        assert!(text.contains("lhr         42 ms  live") && text.contains("down"), "{text}");
        let json = serde_json::to_value(&released).unwrap();
        assert_eq!((&json["pops"][0]["after_ms"], &json["pops"][1]["state"]), (&42.into(), &"down".into()));
    }

    #[tokio::test]
    async fn what_is_live_is_said_to_be_live_when_the_origin_is_gone_afterwards() {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let control = Control::new(format!("http://{closed}").parse().unwrap(), "t");
        let outcome = Outcome { generation: 7, version: Digest::of(b"2"), previous: None, changed: true };
        let deadline = Instant::now() + ARRIVAL_INTERVAL * 5;
        let released = follow(&control, None, &"hello".parse().unwrap(), outcome, deadline).await;
        assert!(released.pops_unknown.as_ref().is_some_and(|why| why.contains("cannot be reached")), "{released:?}");
        assert!(released.to_string().contains("is live, generation 7"), "{released}");
    }
}
