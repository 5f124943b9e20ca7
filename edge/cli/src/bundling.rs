//! From a project folder to a bundle: modules, TypeScript, static files.
//!
//! There is no bundler in here: every module of the project becomes one module of the bundle under its path relative
//! to the project folder, so that stack traces name the files people wrote. What the isolate has to resolve is only
//! what a browser would: a relative address. Where the author leaves out what a bundler would guess (`./util` for
//! `./util.ts`, `./x.js` for `./x.ts`, a folder for its index), the specifier is written out in the bundle. JavaScript
//! is otherwise left byte for byte as it is, and lines never move; TypeScript is transpiled, with a source map.
//!
//! A module whose path ends in `.json` is JSON, and every import of it has `with { type: "json" }` in the bundle, whether
//! the author wrote it or not. Any other text that is imported becomes JavaScript under its own path: a module with one
//! default export.

mod assets;
mod graph;
mod imports;
mod module;
mod nesting;
mod resolve;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;

use origin::bundle::{Asset, Bundle, Digest, FORMAT, MAX_BUNDLE_BYTES, Module};

use crate::project::{Project, SourceError, SourceErrors};
use crate::units::show_bytes;

/// Everything that stands in the way of a bundle.
pub(crate) type BuildErrors = SourceErrors;

/// Most modules of one bundle. Larger programs are bundled into one file first.
pub(crate) const MAX_MODULES: usize = 2_000;

/// Stack of the thread that compiles: enough, without optimisation too, for the deepest program that [`nesting`] lets
/// through. This is address space, of which only what is used becomes memory.
const COMPILER_STACK_BYTES: usize = 512 << 20;

/// Most errors and warnings of one build that are reported.
const MAX_REPORTED: usize = 100;

/// A bundle, and what has to be uploaded with it.
#[derive(Clone, Debug)]
pub(crate) struct Built {
    /// The bundle. The same project gives the same bytes on every machine.
    pub bundle: Bundle,
    /// The bytes of every asset, once for each digest, in the order of digests.
    pub assets: Vec<(Digest, PathBuf)>,
    /// What works but is probably not meant; what the project file says has its own, [`Project::warnings`].
    pub warnings: Vec<SourceError>,
}

/// Bundles a project: compiles every module its entry can reach and digests its static files. No code runs.
///
/// # Errors
/// Every syntax error, every import that cannot be resolved, every static file that cannot be published, or a bundle
/// larger than [`MAX_BUNDLE_BYTES`], in the order they are met; at most 100.
pub(crate) fn bundle(project: &Project) -> Result<Built, BuildErrors> {
    let (mut errors, mut warnings) = (Vec::new(), Vec::new());
    let modules = match &project.main {
        Some(main) => compile(project, main, &mut errors, &mut warnings),
        None => BTreeMap::new(),
    };
    let published = match &project.assets {
        Some(assets) => assets::collect(&project.folder, assets, &mut errors, &mut warnings),
        None => assets::Published::default(),
    };
    errors.truncate(MAX_REPORTED);
    warnings.truncate(MAX_REPORTED);
    if !errors.is_empty() {
        return Err(SourceErrors(errors));
    }
    let bundle = Bundle {
        format: FORMAT,
        name: project.name.clone(),
        main: project.main.clone(),
        modules,
        config: project.config.clone(),
        assets: published.table,
    };
    let (bytes, _) = bundle.encode();
    if bytes.len() > MAX_BUNDLE_BYTES {
        return Err(too_large(project.file, bytes.len(), &bundle.modules, &bundle.assets).into());
    }
    Ok(Built { bundle, assets: published.files.into_iter().collect(), warnings })
}

/// Compiles on a thread of its own: its stack is deep, and a compiler that panics over strange source takes only this
/// thread with it.
fn compile(
    project: &Project,
    main: &str,
    errors: &mut Vec<SourceError>,
    warnings: &mut Vec<SourceError>,
) -> BTreeMap<String, Module> {
    let outcome = std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("compiler".to_owned())
            .stack_size(COMPILER_STACK_BYTES)
            .spawn_scoped(scope, || graph::walk(project, main))
            .map(|thread| thread.join())
    });
    match outcome {
        Ok(Ok(graph)) => {
            errors.extend(graph.errors);
            warnings.extend(graph.warnings);
            graph.modules
        }
        Ok(Err(_)) => {
            let help = "bundle it first, for instance with esbuild --bundle --format=esm, and report the source";
            errors.push(SourceError::in_file(main, "the compiler gave up on this program", help));
            BTreeMap::new()
        }
        Err(error) => {
            let message = format!("no thread could be started to compile it: {error}");
            errors.push(SourceError::in_file(main, message, "free some memory"));
            BTreeMap::new()
        }
    }
}

/// The error of a bundle over the limit, with what takes the room.
fn too_large(
    file: &str,
    bytes: usize,
    modules: &BTreeMap<String, Module>,
    assets: &BTreeMap<String, Asset>,
) -> SourceError {
    let mut sizes: Vec<(usize, &str)> = modules
        .iter()
        .map(|(path, module)| (module.source.len() + module.source_map.as_ref().map_or(0, String::len), path.as_str()))
        .collect();
    sizes.sort_unstable_by(|a, b| b.cmp(a));
    let largest: Vec<String> =
        sizes.iter().take(5).map(|(size, path)| format!("{path} ({})", show_bytes(*size as u64))).collect();
    let (most, bytes) = (show_bytes(MAX_BUNDLE_BYTES as u64), show_bytes(bytes as u64));
    let message = format!("the bundle has more than {most} ({bytes} so far)");
    let help = if largest.is_empty() {
        format!("it names {} static files: publish fewer", assets.len())
    } else {
        format!("the largest modules are {}; move data into static files", largest.join(", "))
    };
    SourceError::in_file(file, message, help)
}
