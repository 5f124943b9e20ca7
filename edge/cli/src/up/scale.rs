//! Scaling that acts: how many processes a PoP of `skerry up` has, decided by [`capacity::scale::policy`].
//!
//! Each PoP of the file has a task. It reads what the PoP's processes have under way, asks the policy, writes down what it
//! says and why, and starts or ends processes: those beside the first, which always runs. The front door spreads requests
//! over the processes at one place. One that is to end gets nothing new first, and finishes what it has.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use capacity::Moment;
use capacity::scale::concurrency::{Concurrency, Load, Recent};
use capacity::scale::horizontal::{Measured, Metric, Phase, Readiness, Replica, Sample};
use capacity::scale::policy::{Decision, Observation, Policy, State};
use futures::future::join_all;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::decisions::Log;
use super::plan::Plan;
use super::supervise::{Backoff, Event, Member, until};
use crate::fleet::{Fleet, PopNode};
use crate::front::Front;
use crate::output::{Failure, note};
use crate::units;

/// Largest file, in bytes.
const MAX_BYTES: u64 = 1 << 20;
/// Most processes of one PoP on one machine.
const MOST: u32 = 16;
/// Longest wait for what a process says it has under way.
const PATIENCE: Duration = Duration::from_secs(1);
/// A process that could not be started is not tried again for so long.
const PAUSE: Duration = Duration::from_secs(10);

/// What `--scale` names: how PoPs are scaled.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scaling {
    /// Between two decisions.
    #[serde(default = "every", deserialize_with = "span")]
    every: Duration,
    pub(crate) pops: BTreeMap<String, PopScaling>,
}

/// How one is.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PopScaling {
    /// What a process should use of its workers' processor time; without it that does not count.
    cpu_percent: Option<f64>,
    policy: Policy,
}

fn every() -> Duration {
    Duration::from_secs(2)
}

fn span<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    units::duration(&text).map_err(serde::de::Error::custom)
}

impl Scaling {
    /// Reads the file.
    ///
    /// # Errors
    /// Everything that is wrong with it, with the keys.
    pub(crate) fn read(path: &Path, plan: &Plan) -> Result<Self, Failure> {
        let wrong = |why: String| Failure::Usage(format!("--scale {}: {why}", path.display()));
        let text = crate::commands::read_text(path, MAX_BYTES).map_err(wrong)?;
        let scaling: Self = toml::from_str(&text).map_err(|error| wrong(error.to_string().trim_end().to_owned()))?;
        let found = scaling.faults(plan);
        if found.is_empty() { Ok(scaling) } else { Err(wrong(found.join("\n"))) }
    }

    fn faults(&self, plan: &Plan) -> Vec<String> {
        let mut found = Vec::new();
        if !(Duration::from_millis(200)..=Duration::from_secs(60)).contains(&self.every) {
            found.push("`every` must be from 200ms to 1m".to_owned());
        }
        for (name, PopScaling { cpu_percent, policy }) in &self.pops {
            if !plan.pops.iter().any(|pop| pop.city.code == name) {
                found.push(format!("`pops.{name}` is no PoP of --pops"));
            }
            if cpu_percent.is_some_and(|percent| !(1.0..=100.0).contains(&percent)) {
                found.push(format!("`pops.{name}.cpu_percent` must be from 1 to 100"));
            }
            if let Err(invalid) = policy.validate() {
                found.extend(invalid.0.iter().map(|invalid| format!("`pops.{name}.policy`: {invalid}")));
            }
            let bounds = &policy.horizontal;
            if bounds.min < 1 || bounds.max > MOST {
                let bad = format!("`pops.{name}.policy.horizontal`: `min` is at least 1 and `max` at most {MOST}");
                found.push(format!("{bad}: the first process always runs, and all are on this machine"));
            }
            if policy.concurrency.is_none() && cpu_percent.is_none() {
                found.push(format!("`pops.{name}` has neither `policy.concurrency` nor `cpu_percent` to go by"));
            }
        }
        found
    }

    pub(crate) fn every(&self) -> Duration {
        self.every
    }

    /// Processes of a PoP beside the first, at most.
    pub(crate) fn spare(&self, pop: &str) -> u32 {
        self.pops.get(pop).map_or(0, |scaling| scaling.policy.horizontal.max.saturating_sub(1))
    }
}

/// A process that may run beside the first of its PoP.
pub(crate) struct Spare {
    pub(crate) node: PopNode,
    pub(crate) member: Member,
    /// Its number among the processes of its PoP; the first is 0.
    pub(crate) place: usize,
    /// Its number among the front door's backends.
    pub(crate) backend: usize,
}

/// Who scales one PoP.
pub(crate) struct Scaler {
    pub(crate) name: String,
    /// Of the first process.
    pub(crate) admin: SocketAddr,
    /// Worker threads of each.
    pub(crate) workers: usize,
    pub(crate) scaling: PopScaling,
    pub(crate) every: Duration,
    pub(crate) spares: Vec<Spare>,
    pub(crate) front: Arc<Front>,
    pub(crate) fleet: Arc<Mutex<Fleet>>,
    pub(crate) token: String,
    pub(crate) log: Arc<Log>,
}

/// A spare that runs.
struct Life {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// What one process said last.
#[derive(Clone, Copy)]
struct Seen {
    report: Report,
    began: Moment,
}

/// What a PoP's admin listener says at `/scale`.
#[derive(Clone, Copy, Debug, Deserialize)]
struct Report {
    ready: bool,
    in_flight: InFlight,
    cpu_seconds: f64,
    uptime_seconds: f64,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct InFlight {
    sum_seconds: f64,
}

/// What was measured over all processes of a PoP since the last time.
struct Measurement {
    /// Requests under way, the mean; `None` when a process does not answer.
    in_flight: Option<f64>,
    /// Of each process, in percent of its workers.
    cpu: Vec<Option<f64>>,
    ready: u32,
}

impl Scaler {
    /// Decides and acts until `stop`, then ends what it has started.
    pub(crate) async fn run(
        self,
        mut stop: watch::Receiver<bool>,
        report: impl Fn(&Member, Event) + Clone + Send + Sync + 'static,
    ) {
        let mut lives: Vec<Option<Life>> = self.spares.iter().map(|_| None).collect();
        tokio::select! {
            () = self.keep_scaling(&mut lives, &report) => {}
            () = until(&mut stop) => {}
        }
        for life in lives.into_iter().flatten() {
            life.end().await;
        }
    }

    async fn keep_scaling(
        &self,
        lives: &mut [Option<Life>],
        report: &(impl Fn(&Member, Event) + Clone + Send + Sync + 'static),
    ) {
        let policy = &self.scaling.policy;
        let (mut state, mut windows) = (policy.start(), Windows::new(policy.concurrency.as_ref()));
        let mut seen: Vec<Option<Seen>> = vec![None; lives.len() + 1];
        let (mut ticks, mut paused) = (tokio::time::interval(self.every), None::<Instant>);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let now = now();
            self.forget(lives, &mut seen);
            let measured = self.measure(lives, &mut seen, now).await;
            let current = 1 + u32::try_from(lives.iter().flatten().count()).unwrap_or(u32::MAX);
            windows.record(now, measured.in_flight);
            let decision = self.decide(&mut state, &measured, windows.load(now), &seen, (current, now));
            self.log.write(&decision);
            if decision.desired > current && paused.is_none_or(|until| until <= Instant::now()) {
                note(first_line(&decision));
                let failed = self.start(lives, decision.desired - current, report).await;
                paused = failed.then(|| Instant::now() + PAUSE);
            } else if decision.desired < current {
                note(first_line(&decision));
                self.end(lives, &mut seen, current - decision.desired).await;
            }
        }
    }

    fn decide(
        &self,
        state: &mut State,
        measured: &Measurement,
        load: Option<Load>,
        seen: &[Option<Seen>],
        (current, now): (u32, Moment),
    ) -> Decision {
        let window = self.every;
        let sample = |cpu: &Option<f64>| cpu.map(|value| Sample { value, at: now, window });
        let metric = |target| Metric {
            name: "cpu_percent".to_owned(),
            target,
            measured: Measured::Average(measured.cpu.iter().map(sample).collect()),
        };
        let metrics: Vec<Metric> = self.scaling.cpu_percent.map(metric).into_iter().collect();
        let replica = |seen: &Seen| Replica {
            phase: Phase::Running,
            started: Some(seen.began),
            readiness: Some(Readiness { ready: seen.report.ready, since: seen.began }),
            request: 1.0,
        };
        let replicas: Vec<Replica> = seen.iter().flatten().map(replica).collect();
        let observation = Observation {
            current,
            ready: measured.ready,
            replicas: &replicas,
            metrics: &metrics,
            load,
            measured: None,
            reachable: true,
            foreseen: None,
            room: None,
        };
        self.scaling.policy.decide(state, &format!("processes of PoP {}", self.name), &observation, now)
    }

    /// What the processes have had under way since the last time.
    async fn measure(&self, lives: &[Option<Life>], seen: &mut [Option<Seen>], now: Moment) -> Measurement {
        let spares = self.spares.iter().zip(lives).filter(|(_, life)| life.is_some());
        let runs: Vec<(usize, SocketAddr)> =
            std::iter::once((0, self.admin)).chain(spares.map(|(spare, _)| (spare.place, spare.node.admin))).collect();
        let reports = join_all(runs.iter().map(|(_, admin)| read(*admin, &self.token))).await;
        let mut measured = Measurement { in_flight: Some(0.0), cpu: Vec::new(), ready: 0 };
        for ((place, _), report) in runs.into_iter().zip(reports) {
            let before = seen[place];
            let Some(report) = report else {
                // One that has not answered yet carries nothing; one that has fallen silent may carry anything.
                measured.in_flight = None;
                if before.is_some() {
                    measured.cpu.push(None);
                }
                continue;
            };
            measured.ready += u32::from(report.ready);
            let began = before.map_or(now, |before| before.began);
            seen[place] = Some(Seen { report, began });
            // A process that was started anew has counted from nothing.
            let since = before.filter(|before| before.report.uptime_seconds < report.uptime_seconds);
            let mean = since.map(|before| {
                let passed = report.uptime_seconds - before.report.uptime_seconds;
                let in_flight = (report.in_flight.sum_seconds - before.report.in_flight.sum_seconds).max(0.0) / passed;
                let cpu = (report.cpu_seconds - before.report.cpu_seconds).max(0.0) / passed;
                (in_flight, 100.0 * cpu / self.workers as f64)
            });
            measured.in_flight = measured.in_flight.map(|sum| sum + mean.map_or(0.0, |(in_flight, _)| in_flight));
            measured.cpu.push(mean.map(|(_, cpu)| cpu));
        }
        measured
    }

    /// Starts so many more; whether one could not be started.
    async fn start(
        &self,
        lives: &mut [Option<Life>],
        count: u32,
        report: &(impl Fn(&Member, Event) + Clone + Send + Sync + 'static),
    ) -> bool {
        let free: Vec<usize> = (0..lives.len()).filter(|at| lives[*at].is_none()).take(count as usize).collect();
        let started = join_all(free.iter().map(|at| self.spares[*at].member.start())).await;
        let mut failed = false;
        for (at, started) in free.into_iter().zip(started) {
            let spare = &self.spares[at];
            match started {
                Ok(child) => {
                    let node = PopNode { pid: child.pid(), ..spare.node.clone() };
                    self.change_fleet(|fleet| fleet.pops.push(node));
                    let (stop, stopped) = watch::channel(false);
                    let life = spare.member.clone().supervise(child, Backoff::default(), stopped, report.clone());
                    lives[at] = Some(Life { stop, task: tokio::spawn(life) });
                    self.front.enter(spare.backend);
                }
                Err(error) => {
                    failed = true;
                    note(format_args!("{error}\n{} is tried again in {} s", spare.member.recipe.name, PAUSE.as_secs()));
                }
            }
        }
        failed
    }

    /// A spare that somebody has ended is not there any more: whether there is to be one is decided anew.
    fn forget(&self, lives: &mut [Option<Life>], seen: &mut [Option<Seen>]) {
        for (spare, life) in self.spares.iter().zip(lives) {
            if life.as_ref().is_some_and(|life| life.task.is_finished()) {
                (*life, seen[spare.place]) = (None, None);
                self.change_fleet(|fleet| fleet.pops.retain(|pop| pop.name != spare.node.name));
            }
        }
    }

    /// Ends so many, the latest first. They finish what they have.
    async fn end(&self, lives: &mut [Option<Life>], seen: &mut [Option<Seen>], count: u32) {
        let last: Vec<usize> = (0..lives.len()).rev().filter(|at| lives[*at].is_some()).take(count as usize).collect();
        let mut ending = Vec::new();
        for at in last {
            let spare = &self.spares[at];
            seen[spare.place] = None;
            ending.extend(lives[at].take().map(|life| async move {
                self.front.leave(spare.backend).await;
                life.end().await;
                self.change_fleet(|fleet| fleet.pops.retain(|pop| pop.name != spare.node.name));
            }));
        }
        join_all(ending).await;
    }

    fn change_fleet(&self, change: impl FnOnce(&mut Fleet)) {
        let mut fleet = self.fleet.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut fleet);
        if let Err(error) = fleet.write() {
            note(format_args!("cannot write {}: {error}", fleet.state.join(crate::fleet::FILE).display()));
        }
    }
}

impl Life {
    async fn end(self) {
        self.stop.send_replace(true);
        let _ = self.task.await;
    }
}

/// The means that Knative's algorithm goes by.
struct Windows {
    stable: Recent,
    panic: Recent,
    /// Whether the last measurement was whole.
    known: bool,
}

impl Windows {
    fn new(config: Option<&Concurrency>) -> Self {
        let defaults = Concurrency::default();
        let config = config.unwrap_or(&defaults);
        let panic = config.stable_window.mul_f64(config.panic_window / 100.0);
        Self { stable: Recent::new(config.stable_window), panic: Recent::new(panic), known: false }
    }

    fn record(&mut self, now: Moment, in_flight: Option<f64>) {
        self.known = in_flight.is_some();
        if let Some(mean) = in_flight {
            for window in [&mut self.stable, &mut self.panic] {
                window.record(now, mean);
            }
        }
    }

    /// `None` when it is not known: the count is held, then.
    fn load(&self, now: Moment) -> Option<Load> {
        let (stable, panic) = (self.stable.mean(now)?, self.panic.mean(now)?);
        self.known.then_some(Load { stable, panic })
    }
}

fn now() -> Moment {
    Moment::after_epoch(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn first_line(decision: &Decision) -> String {
    decision.explain().lines().next().unwrap_or_default().to_owned()
}

/// What a process has under way; `None` when it does not say.
async fn read(admin: SocketAddr, token: &str) -> Option<Report> {
    let exchange = async {
        let stream = TcpStream::connect(admin).await.ok()?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
        let request = Request::get("/scale")
            .header(header::HOST, admin.to_string())
            .header(header::AUTHORIZATION, format!("Bearer {token}"))
            .header(header::CONNECTION, "close")
            .body(Empty::<Bytes>::new())
            .ok()?;
        let answer = async move {
            let response = sender.send_request(request).await.ok().filter(|it| it.status() == StatusCode::OK)?;
            let body = Limited::new(response.into_body(), 64 << 10).collect().await.ok()?.to_bytes();
            serde_json::from_slice(&body).ok()
        };
        let (report, _) = tokio::join!(answer, connection);
        report
    };
    tokio::time::timeout(PATIENCE, exchange).await.ok().flatten()
}
