//! A function version as the engine takes it, and the loader that gives V8 its modules and nothing else.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

use deno_core::error::ModuleLoaderError;
use deno_core::{
    ModuleLoadOptions, ModuleLoadReferrer, ModuleLoadResponse, ModuleLoader, ModuleSource, ModuleSourceCode,
    ModuleSpecifier, ModuleType, ResolutionKind, SourceCodeCacheInfo, resolve_import,
};
use deno_error::JsErrorBox;
use serde::{Deserialize, Serialize};

use crate::code_cache::{CodeCache, Unsealed};
use crate::fault::Fault;
use crate::limits::Limits;

/// What was found of a program's code cache: nothing, the cache, or one that must not be used.
pub type Found = Option<Result<CodeCache, Unsealed>>;

/// Where a program comes from when a worker has no isolate with it: nothing is read before it is asked for.
pub trait Source {
    /// Names the version among all that a process runs.
    fn version(&self) -> &str;

    /// The program, and its code cache when there is one.
    ///
    /// # Errors
    /// Why it cannot be had: [`Fault::Boot`] as a rule.
    fn load(&self) -> Result<(Arc<Program>, Found), Fault>;
}

impl Source for Arc<Program> {
    fn version(&self) -> &str {
        &self.version
    }

    fn load(&self) -> Result<(Self, Found), Fault> {
        Ok((Self::clone(self), None))
    }
}

/// A function version: immutable, shared by all workers.
#[derive(Debug)]
pub struct Program {
    /// Names the version among all that a process runs.
    pub version: String,
    /// Path of the entry module among `modules`.
    pub main: String,
    /// Sources by path relative to the project folder.
    pub modules: BTreeMap<String, Code>,
    /// What stands on `env`: `[{ "name", "kind": "var" | "ratelimit" | "jwt" | "cohort", "value"? }]`.
    pub bindings: String,
    /// What it may use up.
    pub limits: Limits,
    /// Whether its isolates stay, idle or not: somebody wants them warm.
    pub provisioned: bool,
}

/// One module's source.
#[derive(Debug)]
pub struct Code {
    /// JavaScript (or JSON, for a path that ends in `.json`).
    pub source: Arc<str>,
    /// Source map, when the source was made from another language.
    pub source_map: Option<Arc<str>>,
}

impl Program {
    /// A line of a module as its author wrote it: from the module itself, or from what its source map carries.
    pub(crate) fn source_line(&self, path: &str, line: i64) -> Option<String> {
        let code = self.modules.get(path)?;
        let number = usize::try_from(line).ok()?.checked_sub(1)?;
        let original = code.source_map.as_ref().and_then(|map| {
            let map: serde_json::Value = serde_json::from_str(map).ok()?;
            Some(map.get("sourcesContent")?.get(0)?.as_str()?.to_owned())
        });
        let source = original.as_deref().unwrap_or(&code.source);
        let text = source.lines().nth(number)?.trim_end();
        // A line of minified code is no help, and long.
        (text.len() <= 200).then(|| text.to_owned())
    }
}

const EDGE: &str = "skerry:edge";

/// The built-in module. Its functions are made with the snapshot; this only gives them names.
const EDGE_SOURCE: &str = r#"const edge = globalThis[Symbol.for("skerry:edge")];
export const { locate, nearestRegion, tooManyRequests } = edge;
"#;

/// Loads the modules of the program that claims the isolate, and the built-in one.
#[derive(Default)]
pub(crate) struct Loader {
    program: RefCell<Option<Arc<Program>>>,
    /// Until the program has started.
    cache: RefCell<Option<CodeCache>>,
    /// Modules whose code cache V8 did not take.
    rejected: Cell<usize>,
}

/// The address of a module, as stack traces name it before [`readable`] shortens it.
pub(crate) fn specifier(path: &str) -> Result<ModuleSpecifier, String> {
    let mut url = ModuleSpecifier::parse("file:///").map_err(|e| e.to_string())?;
    url.set_path(path);
    Ok(url)
}

/// Turns module addresses in a message into the paths its author knows.
pub(crate) fn readable(message: &str) -> String {
    message.replace("file:///", "")
}

impl Loader {
    pub(crate) fn claim(&self, program: Arc<Program>, cache: Option<CodeCache>) {
        *self.program.borrow_mut() = Some(program);
        *self.cache.borrow_mut() = cache;
    }

    /// Lets the code cache go, which a started program does not need any more; whether V8 took all of it.
    pub(crate) fn started(&self) -> CacheUse {
        match (self.cache.take(), self.rejected.get()) {
            (None, _) => CacheUse::Absent,
            (Some(_), 0) => CacheUse::Used,
            (Some(_), _) => CacheUse::Rejected,
        }
    }

    fn cached(&self, specifier: &ModuleSpecifier) -> Option<SourceCodeCacheInfo> {
        let cache = self.cache.borrow();
        let data = cache.as_ref()?.0.get(&module_path(specifier)?)?;
        Some(SourceCodeCacheInfo { hash: 0, data: Some(Cow::Owned(data.to_vec())) })
    }

    fn find<R>(&self, specifier: &ModuleSpecifier, found: impl FnOnce(&Code) -> R) -> Option<R> {
        let program = self.program.borrow();
        let modules = &program.as_ref()?.modules;
        Some(found(modules.get(&module_path(specifier)?)?))
    }
}

/// What became of a start's code cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum CacheUse {
    /// There was none.
    #[default]
    Absent,
    /// V8 took it.
    Used,
    /// V8 did not take all of it, and compiled.
    Rejected,
    /// What was found was not shown to V8.
    Refused(Unsealed),
}

impl CacheUse {
    /// Stable name: metric label and log field.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Used => "used",
            Self::Rejected => "rejected",
            Self::Refused(why) => why.as_str(),
        }
    }
}

/// The path that a module's address was made from.
fn module_path(specifier: &ModuleSpecifier) -> Option<String> {
    percent_decode(specifier.path().trim_start_matches('/'))
}

fn percent_decode(path: &str) -> Option<String> {
    let bytes = path.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == b'%' {
            out.push(u8::from_str_radix(path.get(at + 1..at + 3)?, 16).ok()?);
            at += 3;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8(out).ok()
}

impl ModuleLoader for Loader {
    fn resolve(
        &self,
        specifier: &str,
        referrer: &str,
        _kind: ResolutionKind,
    ) -> Result<ModuleSpecifier, ModuleLoaderError> {
        let outside = || {
            JsErrorBox::type_error(format!("{} imports {specifier:?}, which is not in the bundle", readable(referrer)))
        };
        let url = if specifier == EDGE {
            ModuleSpecifier::parse(EDGE).map_err(JsErrorBox::from_err)?
        } else {
            resolve_import(specifier, referrer).map_err(|_| outside())?
        };
        let known = url.as_str() == EDGE || (url.scheme() == "file" && self.find(&url, |_| ()).is_some());
        if known { Ok(url) } else { Err(outside()) }
    }

    fn load(
        &self,
        specifier: &ModuleSpecifier,
        _referrer: Option<&ModuleLoadReferrer>,
        _options: ModuleLoadOptions,
    ) -> ModuleLoadResponse {
        let source = if specifier.as_str() == EDGE {
            Some(Arc::from(EDGE_SOURCE))
        } else {
            self.find(specifier, |code| Arc::clone(&code.source))
        };
        let kind = if specifier.path().ends_with(".json") { ModuleType::Json } else { ModuleType::JavaScript };
        ModuleLoadResponse::Sync(match source {
            Some(source) => {
                let cached = self.cached(specifier);
                Ok(ModuleSource::new(kind, ModuleSourceCode::String(source.into()), specifier, cached))
            }
            None => Err(JsErrorBox::type_error(format!("{specifier} is not in the bundle"))),
        })
    }

    /// Called when a code cache was given and V8 did not take it.
    fn code_cache_ready(
        &self,
        _specifier: ModuleSpecifier,
        _hash: u64,
        _code_cache: &[u8],
    ) -> Pin<Box<dyn Future<Output = ()>>> {
        self.rejected.set(self.rejected.get() + 1);
        Box::pin(std::future::ready(()))
    }

    fn get_source_map(&self, file_name: &str) -> Option<Cow<'_, [u8]>> {
        let specifier = ModuleSpecifier::parse(file_name).ok()?;
        let map = self.find(&specifier, |code| code.source_map.clone())??;
        Some(Cow::Owned(map.as_bytes().to_vec()))
    }

    fn source_map_source_exists(&self, _source_url: &str) -> Option<bool> {
        Some(true)
    }
}
