//! The project file of a function: `wrangler.jsonc`, `wrangler.json` or `wrangler.toml`.
//!
//! The file is read into one tree of values that know where they stand ([`document`]), and one walk over the tree
//! ([`schema`], [`bindings`]) collects every error before it gives up, so that a person corrects the file once.
//! Names are those of Cloudflare Workers where Workers has the thing.

mod bindings;
mod budget;
mod document;
mod fields;
pub(crate) mod folder;
mod front;
mod limits;
mod placement;
mod schema;
mod source_error;
#[cfg(test)]
mod tests;
mod tokens;
mod units;

use std::fs;
use std::path::Path;

use origin::bundle::{FunctionConfig, FunctionName};

use document::Language;
use folder::{Folder, FolderError};
pub(crate) use source_error::{SourceError, SourceErrors};
pub(crate) use units::shown;

/// Everything that is wrong with a project file.
pub(crate) type ProjectErrors = SourceErrors;

/// Names a project file may have. A folder has exactly one of them.
pub(crate) const FILE_NAMES: [&str; 3] = ["wrangler.jsonc", "wrangler.json", "wrangler.toml"];

/// Largest project file read, in bytes.
pub(crate) const MAX_PROJECT_FILE_BYTES: u64 = 1 << 20;

/// `Cache-Control` of assets whose project file says nothing: fresh for five minutes, then revalidated by its entity
/// tag, so that a forgotten setting neither hammers the origin nor pins an old file for long.
pub(crate) const DEFAULT_ASSET_CACHE_CONTROL: &str = "public, max-age=300";

/// A project file that has been read and found right, and the folder it stands in.
#[derive(Clone, Debug)]
pub(crate) struct Project {
    /// The folder that holds everything the function is made of.
    pub folder: Folder,
    /// Name of the project file in the folder, one of [`FILE_NAMES`].
    pub file: &'static str,
    /// The function's name.
    pub name: FunctionName,
    /// The entry module, relative to the folder; `None` when the function is only assets.
    pub main: Option<String>,
    /// The static files; at least one of `main` and `assets` is given.
    pub assets: Option<AssetFolder>,
    /// The rest of the file, as the bundle carries it.
    pub config: FunctionConfig,
    /// What works but is probably not meant.
    pub warnings: Vec<SourceError>,
}

/// A folder of static files to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AssetFolder {
    /// Relative to the project folder.
    pub directory: String,
    /// `Cache-Control` of every file.
    pub cache_control: String,
}

impl Project {
    /// Reads the project file in the folder `dir`.
    ///
    /// # Errors
    /// When there is no project file or more than one, and otherwise everything that is wrong with the file.
    pub(crate) fn load(dir: &Path) -> Result<Self, ProjectErrors> {
        let folder = Folder::open(dir).map_err(|e| {
            let message = format!("the folder {e}");
            SourceError::in_file(&dir.display().to_string(), message, "name the folder of a function")
        })?;
        let file = find(dir)?;
        let text = folder.read(file, MAX_PROJECT_FILE_BYTES).map_err(|e| unreadable(file, &e))?;
        schema::read(folder, file, &text)
    }
}

/// The one project file of a folder.
fn find(dir: &Path) -> Result<&'static str, SourceError> {
    let present: Vec<&str> =
        FILE_NAMES.into_iter().filter(|name| fs::symlink_metadata(dir.join(name)).is_ok()).collect();
    let shown = dir.display().to_string();
    match present[..] {
        [] => Err(SourceError::in_file(
            &shown,
            "there is no project file",
            format!("a function has one of {} in its folder", FILE_NAMES.join(", ")),
        )),
        [file] => Ok(FILE_NAMES.into_iter().find(|name| *name == file).unwrap_or(FILE_NAMES[0])),
        _ => Err(SourceError::in_file(
            &shown,
            format!("there is more than one project file: {}", present.join(", ")),
            "keep one of them",
        )),
    }
}

fn unreadable(file: &str, error: &FolderError) -> SourceError {
    SourceError::in_file(file, format!("the project file {error}"), "")
}

/// The language of a project file, by its name.
fn language(file: &str) -> Language {
    if file.ends_with(".toml") { Language::Toml } else { Language::Jsonc }
}
