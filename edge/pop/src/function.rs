//! A deployed version, ready to run: its program and the native parts behind its bindings.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};

use http::HeaderValue;
use isolate::limits::Limits;
use isolate::{Code, Platform, Program};
use origin::bundle::{Bundle, Digest, FunctionConfig, FunctionName, OnFailure};

use crate::bindings::{Binding, Limiters};
use crate::metrics::Series;

/// One version of a function on this PoP. Shared by all workers.
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) name: FunctionName,
    /// `name@digest`, as the response header shows it.
    pub(crate) label: String,
    pub(crate) label_value: HeaderValue,
    pub(crate) program: Arc<Program>,
    /// Whether there is a handler to run, or only assets of the origin.
    pub(crate) has_handler: bool,
    pub(crate) bindings: HashMap<String, Binding>,
    pub(crate) on_failure: OnFailure,
    /// Names the assets it was deployed with: what the cache holds of the origin for it is theirs. A deploy that leaves
    /// them alone leaves the cache alone.
    pub(crate) assets: String,
    /// Where it counts, once it has been asked for.
    pub(crate) series: OnceLock<Arc<Series>>,
}

impl Function {
    /// Builds what the bundle describes. `limiters` keeps counters over versions.
    ///
    /// # Errors
    /// What is wrong with the configuration.
    pub(crate) fn new(bundle: Bundle, version: &Digest, limiters: &Limiters) -> Result<Self, String> {
        let bindings = Binding::all(&bundle.name, &bundle.config, limiters)?;
        let name = bundle.name.clone();
        let on_failure = bundle.config.on_failure;
        let has_handler = bundle.main.is_some();
        let assets = serde_json::to_vec(&bundle.assets).map_err(|e| e.to_string())?;
        let assets = format!("{name}/{}", Digest::of(&assets).short());
        let program = Arc::new(program(bundle, version)?);
        let label = format!("{name}@{}", version.short());
        let label_value = HeaderValue::from_str(&label).map_err(|e| e.to_string())?;
        Ok(Self {
            name,
            label,
            label_value,
            program,
            has_handler,
            bindings,
            on_failure,
            assets,
            series: OnceLock::new(),
        })
    }
}

fn program(bundle: Bundle, version: &Digest) -> Result<Program, String> {
    let limits = Limits::with(bundle.config.limits.iter().map(|(key, value)| (key.as_str(), *value)))?;
    let modules: BTreeMap<_, _> = bundle
        .modules
        .into_iter()
        .map(|(path, m)| (path, Code { source: m.source.into(), source_map: m.source_map.map(Into::into) }))
        .collect();
    let env = env(&bundle.config);
    Ok(Program { version: version.to_string(), main: bundle.main.unwrap_or_default(), modules, bindings: env, limits })
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
    let function = Function::new(bundle.clone(), &version, &Limiters::default())?;
    if !function.has_handler {
        return Ok(());
    }
    let program = Arc::into_inner(function.program).ok_or("the program is in use")?;
    isolate::check(platform, program).map_err(|fault| fault.to_string())
}
