//! Static files: walked, digested, and named by the address they are published under.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use origin::bundle::{Asset, Digest};
use origin::key::Key;
use sha2::{Digest as _, Sha256};

use crate::project::folder::{Folder, FolderError};
use crate::project::{AssetFolder, SourceError};

/// Most static files of one version.
pub(crate) const MAX_ASSETS: usize = 20_000;

/// Largest static file, in bytes.
pub(crate) const MAX_ASSET_BYTES: u64 = 100 << 20;

/// Deepest folder walked.
const MAX_DEPTH: usize = 64;

/// The static files of a version.
#[derive(Default)]
pub(super) struct Published {
    /// By URL path without percent-encoding: the origin decodes what it is asked for, and tries `index.html` for a path
    /// that ends with `/`.
    pub(super) table: BTreeMap<String, Asset>,
    /// One file for each digest.
    pub(super) files: BTreeMap<Digest, PathBuf>,
}

/// Digests every file of the asset folder. Names that begin with `.` are left out, but `.well-known` is published;
/// `_headers` and `_redirects` are instructions to other platforms and left out with a warning.
pub(super) fn collect(
    folder: &Folder,
    assets: &AssetFolder,
    errors: &mut Vec<SourceError>,
    warnings: &mut Vec<SourceError>,
) -> Published {
    let mut walk = Walk { folder, found: Vec::new(), errors, warnings };
    let walked = folder
        .directory(&assets.directory)
        .map_err(|error| SourceError::in_file(&assets.directory, format!("this folder {error}"), error.help()))
        .and_then(|directory| walk.visit(&directory, &assets.directory, 0));
    let found = std::mem::take(&mut walk.found);
    if let Err(error) = walked {
        errors.push(error);
    }
    let mut published = Published::default();
    for (relative, path) in found {
        let name = relative.strip_prefix(&assets.directory).unwrap_or(&relative).trim_start_matches('/');
        match digest(&path) {
            Ok((digest, size)) => {
                let asset = Asset {
                    digest,
                    size,
                    content_type: content_type(name),
                    cache_control: assets.cache_control.clone(),
                };
                published.files.entry(digest).or_insert(path);
                published.table.insert(format!("/{name}"), asset);
            }
            Err(error) => {
                errors.push(SourceError::in_file(&relative, format!("this static file {error}"), ""));
                if errors.len() >= super::MAX_REPORTED {
                    break;
                }
            }
        }
    }
    published
}

/// Finding the files below a folder, in the order of their names.
struct Walk<'a> {
    folder: &'a Folder,
    /// Path relative to the project folder, and where the file is.
    found: Vec<(String, PathBuf)>,
    errors: &'a mut Vec<SourceError>,
    warnings: &'a mut Vec<SourceError>,
}

impl Walk<'_> {
    /// Walks over `directory`. An error ends the walk; what is wrong with single files is only noted.
    fn visit(&mut self, directory: &Path, relative: &str, depth: usize) -> Result<(), SourceError> {
        let unreadable =
            |error: io::Error| SourceError::in_file(relative, format!("this folder cannot be read: {error}"), "");
        if depth > MAX_DEPTH {
            let message = format!("folders are nested more than {MAX_DEPTH} deep");
            return Err(SourceError::in_file(relative, message, "flatten them"));
        }
        let mut entries = Vec::new();
        for entry in fs::read_dir(directory).map_err(unreadable)? {
            entries.push(entry.map_err(unreadable)?);
            if entries.len() + self.found.len() > MAX_ASSETS {
                let message = format!("a function publishes at most {MAX_ASSETS} static files");
                return Err(SourceError::in_file(relative, message, "publish fewer"));
            }
        }
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let name = entry.file_name();
            let Some(name) = name.to_str() else {
                let message = format!("the file name {name:?} is not UTF-8");
                self.errors.push(SourceError::in_file(relative, message, "rename it"));
                continue;
            };
            let path = format!("{relative}/{name}");
            let is_dir = entry.file_type().map_err(unreadable)?.is_dir();
            match name {
                ".well-known" => {}
                name if name.starts_with('.') => continue,
                "_headers" | "_redirects" if depth == 0 => {
                    let message = "this file is not published: Skerry does not support it yet";
                    let help = "set headers and redirects in the function";
                    self.warnings.push(SourceError::in_file(&path, message, help));
                    continue;
                }
                _ => {}
            }
            if is_dir {
                self.visit(&entry.path(), &path, depth + 1)?;
            } else {
                self.file(path);
            }
        }
        Ok(())
    }

    fn file(&mut self, path: String) {
        if let Err(error) = Key::parse(&path) {
            let message = format!("this cannot be the name of a static file: {}", error.why);
            self.errors.push(SourceError::in_file(&path, message, "rename it"));
            return;
        }
        match self.folder.file(&path) {
            Ok(file) => self.found.push((path, file)),
            Err(FolderError::NotAFile) => {
                let help = "static files are files: copy what a link leads to";
                self.errors.push(SourceError::in_file(&path, "this is not a file", help));
            }
            Err(error) => {
                self.errors.push(SourceError::in_file(&path, format!("this static file {error}"), error.help()))
            }
        }
    }
}

/// The digest and length of a file, read piece by piece.
fn digest(path: &Path) -> Result<(Digest, u64), FolderError> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 64 << 10];
    let mut size = 0;
    loop {
        let read = match file.read(&mut buffer) {
            Ok(0) => return Ok((Digest::from_bytes(hasher.finalize().into()), size)),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        };
        size += read as u64;
        if size > MAX_ASSET_BYTES {
            return Err(FolderError::TooLarge { limit: MAX_ASSET_BYTES });
        }
        hasher.update(&buffer[..read]);
    }
}

/// The media type by the file's name; text is UTF-8.
fn content_type(name: &str) -> String {
    let guess = mime_guess::from_path(name).first_or_octet_stream();
    if guess.type_() == mime_guess::mime::TEXT { format!("{guess}; charset=utf-8") } else { guess.to_string() }
}
