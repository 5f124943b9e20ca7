//! A deployed version, ready to run: its program and the native parts behind its bindings.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use arc_swap::ArcSwap;
use capacity::fallback::Standing;
use http::HeaderValue;
use isolate::limits::{Limit, Limits};
use isolate::{Code, Fault, Found, Platform, Program, Source};
use origin::bundle::{Budget, Bundle, Digest, FunctionConfig, FunctionName, Isolation, OnFailure};

use crate::bindings::{Binding, Limiters};
use crate::brake::Brake;
use crate::config::RegionLimits;
use crate::front::Fronts;
use crate::heavy::Heavy;
use crate::metrics::Series;
use crate::place::{self, Spent};
use crate::shelf::Shelf;
use crate::state::State;

/// One version of a function on this PoP. Shared by all workers. Its program is in memory only while an isolate has it.
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) name: FunctionName,
    /// `name@digest`, as the response header shows it.
    pub(crate) label: String,
    pub(crate) label_value: HeaderValue,
    pub(crate) version: Digest,
    /// The same as text, as isolates know it.
    version_text: String,
    /// Whether there is a handler to run, or only assets of the origin.
    pub(crate) has_handler: bool,
    pub(crate) limits: Limits,
    /// Its limit on the heap, in MB (2^20 bytes): the memory that its invocations are charged for.
    pub(crate) heap_mb: u64,
    cohorts: Vec<Known>,
    /// What it may cost.
    pub(crate) budget: Option<Budget>,
    pub(crate) brake: Brake,
    /// Workers of this PoP that have it started before anybody asks.
    pub(crate) min_ready: u32,
    /// Where it runs: as its project file says, or as this PoP has it for all.
    pub(crate) isolation: Isolation,
    pub(crate) tenant: Tenant,
    /// Whether it runs in a cell for a while, so that it does not hold up others.
    pub(crate) heavy: Heavy,
    pub(crate) bindings: HashMap<String, Binding>,
    pub(crate) on_failure: OnFailure,
    /// What is known of where it runs best. Changed seldom, read with every request.
    pub(crate) standing: ArcSwap<Standing>,
    /// What its requests have taken, where there is a region.
    pub(crate) spent: Spent,
    /// Whether it has asked the origin, as far as anybody has looked.
    pub(crate) asks_origin: AtomicBool,
    /// What the node gives that it runs on, when that is a region node.
    region: Option<RegionLimits>,
    /// The caches in front of it.
    pub(crate) fronts: Fronts,
    /// Names the assets it was deployed with: what the cache holds of the origin for it is theirs. A deploy that leaves
    /// them alone leaves the cache alone.
    pub(crate) assets: String,
    /// Where it counts, once it has been asked for.
    pub(crate) series: OnceLock<Arc<Series>>,
    /// It cost this PoP too many workers: it is not run any more.
    pub(crate) quarantined: AtomicBool,
    program: Mutex<Memory>,
    shelf: Arc<Shelf>,
    /// Its copy on disk was found damaged.
    damaged: AtomicBool,
}

/// A cohort of a function, by its number; 0 for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Cohort(u16);

/// A cohort that is counted apart.
#[derive(Debug)]
struct Known {
    binding: String,
    name: String,
    /// `experiment/name`.
    label: String,
}

/// Cohorts of a function that are counted apart; the others share one label.
const MOST_COHORTS: usize = 100;
const OTHER_COHORTS: &str = "(other)";

/// How a function has its program.
#[derive(Debug)]
enum Memory {
    /// Read just now, for the first start.
    Fresh(Arc<Program>),
    /// While an isolate has it; else it is read again.
    Shared(Weak<Program>),
    /// For good: it could not be written to disk.
    Unkept(Arc<Program>),
}

/// With whose functions one shares a cell.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Tenant {
    /// With those of the same tenant.
    Named(FunctionName),
    /// With its own other versions only.
    Function(FunctionName),
}

impl Function {
    /// Builds what the bundle describes, with its program, for the PoP with this state.
    ///
    /// # Errors
    /// What is wrong with the configuration.
    pub(crate) fn new(bundle: Bundle, version: &Digest, state: &State) -> Result<(Self, Arc<Program>), String> {
        let bindings = Binding::all(&bundle.name, &bundle.config, &state.limiters)?;
        // Without a handler there is nothing to be in front of: the cache behind is all there is.
        let fronts = match bundle.main {
            Some(_) => Fronts::new(&bundle.config, &version.to_string())?,
            None => Fronts::default(),
        };
        let name = bundle.name.clone();
        let assets = serde_json::to_vec(&bundle.assets).map_err(|e| e.to_string())?;
        let label = format!("{name}@{}", version.short());
        let (on_failure, has_handler, min_ready) =
            (bundle.config.on_failure, bundle.main.is_some(), bundle.config.min_ready);
        let isolation = match state.isolation {
            Isolation::Process => Isolation::Process,
            Isolation::Isolate => bundle.config.isolation,
        };
        let tenant = bundle.config.tenant.clone().map_or_else(|| Tenant::Function(name.clone()), Tenant::Named);
        let cohorts = cohorts(&bundle.config);
        let budget = bundle.config.budget.clone();
        let standing = place::standing(&bundle.config, &state.fallback);
        let program = Arc::new(program(bundle, version, state.region.as_ref())?);
        let function = Self {
            heap_mb: program.limits.get(Limit::Heap).div_ceil(1 << 20),
            cohorts,
            budget,
            brake: Brake::default(),
            label_value: HeaderValue::from_str(&label).map_err(|e| e.to_string())?,
            label,
            series: OnceLock::new(),
            version: *version,
            version_text: version.to_string(),
            has_handler,
            limits: program.limits.clone(),
            min_ready,
            isolation,
            tenant,
            heavy: Heavy::default(),
            bindings,
            on_failure,
            standing: ArcSwap::from_pointee(standing),
            spent: Spent::default(),
            asks_origin: AtomicBool::new(false),
            region: state.region,
            fronts,
            assets: format!("{name}/{}", Digest::of(&assets).short()),
            name,
            program: Mutex::new(Memory::Shared(Arc::downgrade(&program))),
            shelf: Arc::clone(&state.shelf),
            damaged: AtomicBool::new(false),
            quarantined: AtomicBool::new(false),
        };
        Ok((function, program))
    }

    /// Reads a version that is on disk. Nothing of it stays in memory but what every request needs.
    ///
    /// # Errors
    /// Why it cannot be run.
    pub(crate) fn read(version: &Digest, state: &State) -> Result<Self, String> {
        let bundle = state.shelf.bundle(version).ok_or_else(|| DAMAGED.to_owned());
        let function = bundle.and_then(|bundle| Self::new(bundle, version, state));
        let quarantined = AtomicBool::new(state.strikes.quarantine(&version.to_string()).is_some());
        let program = |program| Mutex::new(Memory::Fresh(program));
        function.map(|(function, fresh)| Self { program: program(fresh), quarantined, ..function })
    }

    /// Keeps the program in memory: it could not be written to disk.
    pub(crate) fn keep(&self, program: Arc<Program>) {
        *self.program.lock().unwrap_or_else(PoisonError::into_inner) = Memory::Unkept(program);
    }

    /// Has its code cache made anew: V8 did not take the one that is there.
    pub(crate) fn refresh_code_cache(&self) {
        self.shelf.want_code_cache(&self.version);
    }

    /// A cohort, for [`Self::cohort_label`].
    pub(crate) fn cohort(&self, binding: &str, name: &str) -> Cohort {
        let known = |known: &Known| known.binding == binding && known.name == name;
        let place = self.cohorts.iter().position(known).unwrap_or(MOST_COHORTS);
        Cohort(place as u16 + 1)
    }

    /// What a cohort is called in logs and sums; `None` for none.
    pub(crate) fn cohort_label(&self, cohort: Cohort) -> Option<&str> {
        let place = usize::from(cohort.0.checked_sub(1)?);
        Some(self.cohorts.get(place).map_or(OTHER_COHORTS, |known| &known.label))
    }

    /// Whether a worker has it started before anybody asks.
    pub(crate) fn is_kept_by(&self, worker: usize) -> bool {
        worker < self.min_ready as usize
    }

    /// Whether it can still be started, as far as known.
    pub(crate) fn is_sound(&self) -> bool {
        !self.damaged.load(Ordering::Relaxed)
    }
}

impl Source for Function {
    fn version(&self) -> &str {
        &self.version_text
    }

    fn load(&self) -> Result<(Arc<Program>, Found), Fault> {
        // Workers share the sources of what they run, and load them once.
        let mut held = self.program.lock().unwrap_or_else(PoisonError::into_inner);
        let known = match &*held {
            Memory::Fresh(program) | Memory::Unkept(program) => Some(Arc::clone(program)),
            Memory::Shared(program) => program.upgrade(),
        };
        let program = match known {
            Some(program) => program,
            None => {
                let bundle = self.shelf.bundle(&self.version).ok_or_else(|| {
                    // Told once: a follower that is told with every request would begin its poll anew with each.
                    if !self.damaged.swap(true, Ordering::Relaxed) {
                        self.shelf.mend.notify_one();
                    }
                    Fault::Gone(DAMAGED.to_owned())
                })?;
                Arc::new(program(bundle, &self.version, self.region.as_ref()).map_err(Fault::Boot)?)
            }
        };
        if !matches!(*held, Memory::Unkept(_)) {
            *held = Memory::Shared(Arc::downgrade(&program));
        }
        drop(held);
        Ok((program, self.shelf.code_cache(&self.version, self.isolation)))
    }
}

/// Why what is on disk is not run.
pub(crate) const DAMAGED: &str = "the copy on disk is missing or damaged";

fn program(bundle: Bundle, version: &Digest, region: Option<&RegionLimits>) -> Result<Program, String> {
    let limits = match region {
        Some(region) => region.limits(&bundle.config)?,
        None => Limits::with(bundle.config.limits.iter().map(|(key, value)| (key.as_str(), *value)))?,
    };
    let modules: BTreeMap<_, _> = bundle
        .modules
        .into_iter()
        .map(|(path, m)| (path, Code { source: m.source.into(), source_map: m.source_map.map(Into::into) }))
        .collect();
    let env = env(&bundle.config);
    Ok(Program {
        version: version.to_string(),
        main: bundle.main.unwrap_or_default(),
        modules,
        bindings: env,
        limits,
        provisioned: bundle.config.min_ready > 0,
    })
}

/// The cohorts that are counted apart, in the order of the file.
fn cohorts(config: &FunctionConfig) -> Vec<Known> {
    let all = config.cohorts.iter().flat_map(|binding| binding.cohorts.iter().map(move |cohort| (binding, cohort)));
    let known = all.map(|(binding, cohort)| Known {
        binding: binding.name.clone(),
        name: cohort.name.clone(),
        label: format!("{}/{}", binding.experiment, cohort.name),
    });
    known.take(MOST_COHORTS).collect()
}

/// What the function's `env` holds, for the isolate.
fn env(config: &FunctionConfig) -> String {
    let vars =
        config.vars.iter().map(|(name, value)| serde_json::json!({ "name": name, "kind": "var", "value": value }));
    let named = |kind: &'static str| move |name: &String| serde_json::json!({ "name": name, "kind": kind });
    let limiters = config.ratelimits.iter().map(|b| &b.name).map(named("ratelimit"));
    let verifiers = config.jwt.iter().map(|b| &b.name).map(named("jwt"));
    let cohorts = config.cohorts.iter().map(|b| &b.name).map(named("cohort"));
    serde_json::Value::from_iter(vars.chain(limiters).chain(verifiers).chain(cohorts)).to_string()
}

/// Builds and starts a bundle as a PoP would, in this process, and throws it away: what a deploy does before anything
/// is uploaded.
///
/// # Errors
/// What its author has to mend.
pub fn check_bundle(platform: Platform, bundle: &Bundle) -> Result<(), String> {
    let (_, version) = bundle.encode();
    Binding::all(&bundle.name, &bundle.config, &Limiters::default())?;
    if bundle.main.is_none() {
        return Ok(());
    }
    isolate::check(platform, program(bundle.clone(), &version, None)?).map_err(|fault| fault.to_string())
}
