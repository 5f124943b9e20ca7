//! Follows the manifest: long polls the control API, gets what is new, tries it, and only then makes it live.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use isolate::Watchdog;
use origin::api::PopReport;
use origin::bundle::{Bundle, Digest, FunctionName};
use origin::client::Control;
use origin::deployment::{Deployment, Manifest};

use crate::function::Function;
use crate::routes::{Live, Routes};
use crate::shelf::Shelf;
use crate::state::State;

/// One wait for news.
const POLL: Duration = Duration::from_secs(20);
/// Pause after a failure: from the first to the longest.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

pub(crate) struct Follower {
    pub(crate) state: Arc<State>,
    pub(crate) control: Control,
    pub(crate) shelf: Shelf,
    /// Tries new versions, on the control thread, where a bad one holds up nobody.
    pub(crate) trial: isolate::Worker,
    pub(crate) report: PopReport,
}

impl Follower {
    pub(crate) fn new(
        state: Arc<State>,
        control: Control,
        shelf: Shelf,
        platform: isolate::Platform,
        watchdog: &Watchdog,
    ) -> Self {
        let report = PopReport { pop: state.name.clone(), generation: 0, applied_at_ms: 0, failed: BTreeMap::new() };
        let trial = isolate::Worker::new(platform, watchdog, isolate::Config { ready: 1, residents: 1 });
        Self { state, control, shelf, trial, report }
    }

    /// Serves what the last run had, before anybody is asked.
    pub(crate) async fn recall(&mut self) {
        if let Some(manifest) = self.shelf.manifest() {
            let functions = manifest.functions.iter().map(|(name, deployment)| {
                let live = match self.shelf.bundle(&deployment.version) {
                    Some(bundle) => self.build(bundle, &deployment.version),
                    None => Err("the copy on disk is missing or damaged".to_owned()),
                };
                let live = live.unwrap_or_else(|why| Live::Damaged(why.into()));
                (name.clone(), deployment.version, deployment.routes.clone(), live)
            });
            let functions: Vec<_> = functions.collect();
            let damaged = functions.iter().any(|(.., live)| matches!(live, Live::Damaged(_)));
            self.state.routes.store(Arc::new(Routes::new(manifest.generation, functions)));
            // With something missing, the generation is not reported as had, so that the first poll brings it all.
            self.report.generation = if damaged { 0 } else { manifest.generation };
            self.report.applied_at_ms = now_ms();
        }
    }

    /// Never ends.
    pub(crate) async fn follow(mut self) {
        let mut pause = PAUSE;
        loop {
            match self.control.poll(&self.report, POLL).await {
                Ok(Some(manifest)) => match self.apply(&manifest).await {
                    Ok(()) => pause = PAUSE,
                    Err(error) => {
                        tracing::warn!(pop = %self.state.name, generation = manifest.generation, %error, "manifest not applied yet");
                        tokio::time::sleep(pause).await;
                        pause = (pause * 2).min(LONGEST_PAUSE);
                    }
                },
                Ok(None) => pause = PAUSE,
                Err(error) => {
                    tracing::warn!(pop = %self.state.name, %error, "control API not reached; serving what is here");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// Makes a manifest live, whole: a version that cannot be had puts it off, a version that does not start leaves the
    /// one before in its place.
    async fn apply(&mut self, manifest: &Manifest) -> Result<(), String> {
        let before = self.state.routes.load_full();
        let mut functions = Vec::new();
        let mut failed = BTreeMap::new();
        for (name, deployment) in &manifest.functions {
            let known = before
                .live
                .get(name)
                .filter(|(version, live)| *version == deployment.version && matches!(live, Live::Ready(_)));
            let live = match known {
                Some((_, live)) => live.clone(),
                None => match self.obtain(&deployment.version).await? {
                    Ok(live) => live,
                    Err(why) => {
                        tracing::error!(pop = %self.state.name, function = %name, version = %deployment.version, "version refused: {why}");
                        failed.insert(name.clone(), why);
                        match self.last_good(&before, name) {
                            Some(entry) => {
                                functions.push(entry);
                                continue;
                            }
                            None => Live::Damaged("no version of it has started on this PoP".into()),
                        }
                    }
                },
            };
            functions.push((name.clone(), deployment.version, deployment.routes.clone(), live));
        }
        self.state.routes.store(Arc::new(Routes::new(manifest.generation, functions)));
        self.report = PopReport {
            generation: manifest.generation,
            applied_at_ms: now_ms(),
            failed,
            pop: self.report.pop.clone(),
        };
        self.remember(manifest);
        Ok(())
    }

    /// The version of `name` that was live before, with the routes it had.
    fn last_good(
        &self,
        before: &Routes,
        name: &FunctionName,
    ) -> Option<(FunctionName, Digest, Vec<origin::bundle::RoutePattern>, Live)> {
        let (version, live) = before.live.get(name).filter(|(_, live)| matches!(live, Live::Ready(_)))?;
        Some((name.clone(), *version, before.patterns(name), live.clone()))
    }

    /// Gets a version and tries it. The outer error is that it cannot be had now, the inner that it does not work.
    async fn obtain(&self, version: &Digest) -> Result<Result<Live, String>, String> {
        let bundle = match self.shelf.bundle(version) {
            Some(bundle) => bundle,
            None => {
                let bytes = self.control.bundle(version).await.map_err(|error| error.to_string())?;
                let bundle = Bundle::decode(&bytes, version).map_err(|error| error.to_string())?;
                if let Err(error) = self.shelf.keep_bundle(version, &bytes) {
                    tracing::warn!(%version, %error, "bundle not kept on disk");
                }
                bundle
            }
        };
        let live = match self.build(bundle, version) {
            Ok(live) => live,
            Err(why) => return Ok(Err(why)),
        };
        if let Live::Ready(function) = &live
            && function.has_handler
        {
            let started = self.trial.warm(&function.program).await;
            self.trial.retain(|_| false);
            if let Err(fault) = started {
                return Ok(Err(fault.to_string()));
            }
        }
        Ok(Ok(live))
    }

    fn build(&self, bundle: Bundle, version: &Digest) -> Result<Live, String> {
        Function::new(bundle, version, &self.state.limiters).map(|function| Live::Ready(Arc::new(function)))
    }

    /// On disk last: what a restart finds has been live. A manifest that could not be kept is asked for again.
    fn remember(&self, manifest: &Manifest) {
        // The last good version stays beside the one that was refused, for the next start.
        let mut kept = manifest.clone();
        let routes = self.state.routes.load();
        for (name, deployment) in &mut kept.functions {
            if let Some((version, Live::Ready(_))) = routes.live.get(name)
                && *version != deployment.version
            {
                *deployment = Deployment { version: *version, routes: routes.patterns(name), ..deployment.clone() };
            }
        }
        if let Err(error) = self.shelf.keep_manifest(&kept) {
            tracing::warn!(pop = %self.state.name, %error, "manifest not kept on disk");
            return;
        }
        let needed: HashMap<Digest, ()> = kept.functions.values().map(|d| (d.version, ())).collect();
        self.shelf.tidy(|version| needed.contains_key(version));
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
