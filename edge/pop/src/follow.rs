//! Follows the manifest: long polls the control API, gets what is new, tries it, and only then makes it live.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use isolate::{Program, Trial};
use origin::api::PopReport;
use origin::bundle::{Bundle, Digest, FunctionName, Isolation, RoutePattern};
use origin::client::Control;
use origin::deployment::{Deployment, Manifest};

use crate::cell;
use crate::fault::Fault;
use crate::function::{DAMAGED, Function};
use crate::routes::{Live, Routes, Shelved};
use crate::shelf::Kept;
use crate::state::State;

/// The longest start of a new version: other functions' changes wait for it.
const TRIAL: Duration = Duration::from_secs(10);
/// What a new version is called with while its code cache is made. Twice: the second call is the one that shows what every
/// call needs.
const CALL: &str = "/";
/// One wait for news.
const POLL: Duration = Duration::from_secs(20);
/// Pause after a failure: from the first to the longest.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

pub(crate) struct Follower {
    pub(crate) state: Arc<State>,
    pub(crate) control: Control,
    /// Tries new versions, where a bad one holds up nobody.
    pub(crate) trial: Trial,
    /// Makes the cells in which those are tried that run in cells.
    pub(crate) maker: Option<cell::Maker>,
    pub(crate) report: PopReport,
    /// What is live but not on disk yet.
    unkept: Option<Kept>,
}

impl Follower {
    pub(crate) fn new(state: Arc<State>, control: Control, trial: Trial, maker: Option<cell::Maker>) -> Self {
        let report = PopReport { pop: state.name.clone(), ..PopReport::default() };
        Self { state, control, trial, maker, report, unkept: None }
    }

    /// Serves what the last run had, before anybody is asked. Only what is there is looked up: a bundle is read when its
    /// function is first asked for.
    pub(crate) fn recall(&mut self) {
        let Some(Kept { whole, manifest, provisioned }) = self.state.shelf.manifest() else { return };
        let here = self.state.shelf.versions();
        let functions = manifest.functions.iter().map(|(name, deployment)| {
            let version = deployment.version;
            let live = match (here.contains(&version), provisioned.contains(name)) {
                (true, false) => Live::Shelved(Arc::new(Shelved::new(version))),
                (true, true) => match Function::read(&version, &self.state) {
                    Ok(function) => Live::Ready(Arc::new(function)),
                    Err(why) => Live::Damaged(why.into()),
                },
                (false, _) => Live::Damaged(DAMAGED.into()),
            };
            (name.clone(), version, deployment.routes.clone(), live)
        });
        let functions: Vec<_> = functions.collect();
        let sound = whole && functions.iter().all(|(.., live)| live.is_sound());
        self.state.routes.store(Arc::new(Routes::new(manifest.generation, functions)));
        // With something missing, the generation is not reported as had, so that the first poll brings it all.
        self.report.generation = if sound { manifest.generation } else { 0 };
        self.report.store = manifest.store;
        self.report.applied_at_ms = now_ms();
    }

    /// Never ends.
    pub(crate) async fn follow(mut self) {
        let mut pause = PAUSE;
        loop {
            let report = self.report();
            let polled = tokio::select! {
                polled = self.control.poll(&report, POLL) => polled,
                // Told at once, with a new poll.
                () = self.state.strikes.changed.notified() => continue,
                () = self.state.shelf.mend.notified() => {
                    self.mend().await;
                    continue;
                }
            };
            match polled {
                Ok(Some(manifest)) => match self.apply(&manifest).await {
                    Ok(()) => {
                        self.state.metrics.polls.add("ok", 1);
                        pause = PAUSE;
                    }
                    Err(error) => {
                        self.state.metrics.polls.add("not-applied", 1);
                        tracing::warn!(pop = %self.state.name, generation = manifest.generation, %error, "manifest not applied yet");
                        tokio::time::sleep(pause).await;
                        pause = (pause * 2).min(LONGEST_PAUSE);
                    }
                },
                Ok(None) => {
                    self.state.metrics.polls.add("ok", 1);
                    pause = PAUSE;
                    self.keep();
                }
                Err(error) => {
                    self.state.metrics.polls.add("failed", 1);
                    tracing::warn!(pop = %self.state.name, %error, "control API not reached; serving what is here");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// Makes the code caches that are wanted. Where a bundle is damaged, everything is asked for: what is sound stays.
    async fn mend(&mut self) {
        for version in self.state.shelf.take_wanted() {
            let Some(bundle) = self.state.shelf.bundle(&version) else { continue };
            if let Ok((function, program)) = Function::new(bundle, &version, &self.state) {
                let _ = self.compile(&version, &Arc::new(function), &program).await;
            }
        }
        if !self.state.routes.load().live.values().all(|(_, live)| live.is_sound()) {
            self.report.generation = 0;
        }
    }

    /// Tries a version, and keeps what V8 has compiled of it then. The outer error is that it cannot be tried now, the inner
    /// that it does not work.
    async fn compile(
        &mut self,
        version: &Digest,
        function: &Arc<Function>,
        program: &Arc<Program>,
    ) -> Result<Result<(), String>, String> {
        let isolation = function.isolation;
        let compiling = async {
            match isolation {
                Isolation::Isolate => self.trial.compile(program, &[CALL, CALL]).await.map_err(Fault::Function),
                Isolation::Process => cell::compile(&self.state, self.maker.as_ref(), function, &[CALL, CALL]).await,
            }
        };
        match tokio::time::timeout(TRIAL, compiling).await {
            Ok(Ok(Some(cache))) => {
                if let Err(error) = self.state.shelf.keep_code_cache(version, isolation, &cache) {
                    tracing::warn!(%version, %error, "code cache not kept on disk");
                }
            }
            Ok(Ok(None)) => {
                tracing::warn!(%version, "no code cache: a call of it took more than its thread could stand");
            }
            Ok(Err(fault @ Fault::NoCell(_))) => return Err(fault.to_string()),
            Ok(Err(Fault::WorkerLost)) => {
                return Ok(Err("the process in which it was tried has ended over it".to_owned()));
            }
            Ok(Err(fault)) => return Ok(Err(fault.to_string())),
            Err(_) => return Ok(Err(format!("its start takes longer than {} s", TRIAL.as_secs()))),
        }
        Ok(Ok(()))
    }

    /// What the control API is told: beside what was refused at the start, what is in quarantine by now.
    fn report(&self) -> PopReport {
        let mut report = self.report.clone();
        for (name, (_, live)) in &self.state.routes.load().live {
            if let Some(function) = live.function()
                && function.quarantined.load(Ordering::Relaxed)
            {
                let why = Fault::Quarantined(function.label.clone()).to_string();
                report.failed.entry(name.clone()).or_insert(why);
            }
        }
        report
    }

    /// Makes a manifest live. A function whose version cannot be had or does not start keeps the one before; the others
    /// do not wait for it.
    ///
    /// # Errors
    /// What could not be had now: the manifest counts as not applied, and is asked for again.
    async fn apply(&mut self, manifest: &Manifest) -> Result<(), String> {
        let before = self.state.routes.load_full();
        let mut functions = Vec::new();
        let mut failed = BTreeMap::new();
        let mut missing = Vec::new();
        for (name, deployment) in &manifest.functions {
            let known =
                before.live.get(name).filter(|(version, live)| *version == deployment.version && live.is_sound());
            let obtained = match known {
                Some((_, live)) => Ok(live.clone()),
                None => match self.obtain(&deployment.version).await {
                    Ok(Ok(live)) => Ok(live),
                    Ok(Err(why)) => {
                        tracing::error!(pop = %self.state.name, function = %name, version = %deployment.version, "version refused: {why}");
                        failed.insert(name.clone(), why);
                        Err("no version of it has started on this PoP".to_owned())
                    }
                    Err(why) => {
                        missing.push(format!("{name}: {why}"));
                        Err(why)
                    }
                },
            };
            functions.push(match obtained {
                Ok(live) => (name.clone(), deployment.version, deployment.routes.clone(), live),
                Err(why) => self.last_good(&before, name, manifest).unwrap_or_else(|| {
                    (name.clone(), deployment.version, deployment.routes.clone(), Live::Damaged(why.into()))
                }),
            });
        }
        let routes = Routes::new(manifest.generation, functions);
        let _ = tokio::time::timeout(TRIAL, self.state.provision(routes.provisioned.clone())).await;
        self.state.routes.store(Arc::new(routes));
        self.state.metrics.functions.retain(|name| manifest.functions.contains_key(name));
        let whole = failed.is_empty() && missing.is_empty();
        if missing.is_empty() {
            self.report = PopReport {
                store: manifest.store.clone(),
                generation: manifest.generation,
                applied_at_ms: now_ms(),
                failed,
                pop: self.report.pop.clone(),
            };
        }
        self.remember(manifest, whole);
        if missing.is_empty() { Ok(()) } else { Err(missing.join("; ")) }
    }

    /// The version of `name` that was live before, with those of its routes that nobody else has by now.
    fn last_good(
        &self,
        before: &Routes,
        name: &FunctionName,
        manifest: &Manifest,
    ) -> Option<(FunctionName, Digest, Vec<RoutePattern>, Live)> {
        let (version, live) = before.live.get(name).filter(|(_, live)| live.is_sound())?;
        let taken = |pattern: &RoutePattern| {
            manifest.functions.iter().any(|(owner, deployment)| owner != name && deployment.routes.contains(pattern))
        };
        let patterns = before.patterns(name).into_iter().filter(|pattern| !taken(pattern)).collect();
        Some((name.clone(), *version, patterns, live.clone()))
    }

    /// Gets a version, tries it, and has its code cache made. The outer error is that it cannot be had now, the inner that
    /// it does not work.
    async fn obtain(&mut self, version: &Digest) -> Result<Result<Live, String>, String> {
        let shelf = &self.state.shelf;
        let mut kept = true;
        let bundle = match shelf.bundle(version) {
            Some(bundle) => bundle,
            None => {
                let bytes = self.control.bundle(version).await.map_err(|error| error.to_string())?;
                let bundle = Bundle::decode(&bytes, version).map_err(|error| error.to_string())?;
                if let Err(error) = shelf.keep_bundle(version, &bytes) {
                    tracing::warn!(%version, %error, "bundle not kept on disk");
                    kept = false;
                }
                bundle
            }
        };
        let (function, program) = match Function::new(bundle, version, &self.state) {
            Ok(built) => built,
            Err(why) => return Ok(Err(why)),
        };
        let function = Arc::new(function);
        if function.has_handler
            && let Err(why) = self.compile(version, &function, &program).await?
        {
            return Ok(Err(why));
        }
        let quarantined = self.state.strikes.quarantine(&version.to_string()).is_some();
        function.quarantined.store(quarantined, Ordering::Relaxed);
        if !kept {
            function.keep(program);
        }
        Ok(Ok(Live::Ready(function)))
    }

    /// On disk last: what a restart finds has been live.
    fn remember(&mut self, manifest: &Manifest, whole: bool) {
        // The last good version stays beside the one that was refused, for the next start.
        let mut kept = manifest.clone();
        let routes = self.state.routes.load();
        for (name, deployment) in &mut kept.functions {
            if let Some((version, live)) = routes.live.get(name)
                && live.is_sound()
                && *version != deployment.version
            {
                *deployment = Deployment { version: *version, routes: routes.patterns(name), ..deployment.clone() };
            }
        }
        let provisioned = manifest.functions.keys().filter(|name| routes.is_provisioned(name)).cloned().collect();
        self.unkept = Some(Kept { whole, manifest: kept, provisioned });
        self.keep();
    }

    /// Writes what is not on disk yet. What could not be written (a full disk) is tried again after the next poll.
    fn keep(&mut self) {
        let Some(kept) = &self.unkept else { return };
        if let Err(error) = self.state.shelf.keep_manifest(kept) {
            tracing::warn!(pop = %self.state.name, %error, "manifest not kept on disk; tried again later");
            return;
        }
        let needed: HashSet<Digest> = kept.manifest.functions.values().map(|d| d.version).collect();
        self.state.shelf.tidy(|version| needed.contains(version));
        self.unkept = None;
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
