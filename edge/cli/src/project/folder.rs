//! The project folder: paths that cannot leave it, files of bounded size.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::units::show_bytes;

/// A project's folder. Nothing outside it is ever read on behalf of the project, through symbolic links either.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    root: PathBuf,
}

/// Why a path or a file is not usable. The messages complete a sentence that names the path.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FolderError {
    /// No such file.
    #[error("does not exist")]
    Missing,
    /// Outside the folder, through `..` or a symbolic link.
    #[error("is outside the project folder")]
    Outside,
    /// An absolute path.
    #[error("is an absolute path")]
    Absolute,
    /// A character that means something else in the address of a module.
    #[error("has the character {0:?}, which no path in a project may have")]
    Character(char),
    /// A folder or a device.
    #[error("is not a file")]
    NotAFile,
    /// A file or a device.
    #[error("is not a folder")]
    NotAFolder,
    /// Larger than what it is read for may be.
    #[error("is larger than {}", show_bytes(*.limit))]
    TooLarge {
        /// Largest size accepted, in bytes.
        limit: u64,
    },
    /// Not UTF-8.
    #[error("is not UTF-8 text")]
    NotText,
    /// What the system said.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
}

impl FolderError {
    /// What to do about it, as a sentence; empty when the message says it all.
    pub(crate) fn help(&self) -> &'static str {
        match self {
            Self::Outside => "keep everything the function needs inside its folder",
            Self::Absolute | Self::Missing => "write a path relative to the project folder",
            Self::Character(_) => "rename the file",
            Self::NotText => "store it as UTF-8",
            Self::NotAFile | Self::NotAFolder | Self::TooLarge { .. } | Self::Io(_) => "",
        }
    }
}

/// `path`, written in a file of the folder `base` (relative to the root, `""` for the root), as a path relative to
/// the root: no `.`, no `..`, no empty part. The root itself is `""`.
///
/// # Errors
/// [`FolderError::Outside`], [`FolderError::Absolute`] and [`FolderError::Character`].
pub(crate) fn join(base: &str, path: &str) -> Result<String, FolderError> {
    if path.starts_with('/') {
        return Err(FolderError::Absolute);
    }
    if let Some(bad) = path.chars().find(|&c| matches!(c, '\\' | '%' | '?' | '#') || c.is_control()) {
        return Err(FolderError::Character(bad));
    }
    let mut parts: Vec<&str> = base.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop().ok_or(FolderError::Outside)?;
            }
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

/// The folder part of a path relative to the root: `src` of `src/index.ts`, `""` of `index.ts`.
pub(crate) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

impl Folder {
    /// The folder at `path`.
    ///
    /// # Errors
    /// [`FolderError::Missing`] and [`FolderError::NotAFolder`].
    pub(crate) fn open(path: &Path) -> Result<Self, FolderError> {
        let root = path.canonicalize().map_err(missing)?;
        if root.is_dir() { Ok(Self { root }) } else { Err(FolderError::NotAFolder) }
    }

    /// Where the file `relative` is.
    ///
    /// # Errors
    /// When it is missing, outside the folder or not a regular file.
    pub(crate) fn file(&self, relative: &str) -> Result<PathBuf, FolderError> {
        let path = self.inside(relative)?;
        if path.is_file() { Ok(path) } else { Err(FolderError::NotAFile) }
    }

    /// Where the folder `relative` is.
    ///
    /// # Errors
    /// When it is missing, outside the folder or not a folder.
    pub(crate) fn directory(&self, relative: &str) -> Result<PathBuf, FolderError> {
        let path = self.inside(relative)?;
        if path.is_dir() { Ok(path) } else { Err(FolderError::NotAFolder) }
    }

    /// The text of the file `relative`, of at most `limit` bytes, without a byte order mark.
    ///
    /// # Errors
    /// Those of [`Folder::file`], and when the file is too large or not UTF-8.
    pub(crate) fn read(&self, relative: &str, limit: u64) -> Result<String, FolderError> {
        let mut bytes = Vec::new();
        File::open(self.file(relative)?)?.take(limit + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit {
            return Err(FolderError::TooLarge { limit });
        }
        let text = String::from_utf8(bytes).map_err(|_| FolderError::NotText)?;
        Ok(match text.strip_prefix('\u{feff}') {
            Some(rest) => rest.to_owned(),
            None => text,
        })
    }

    fn inside(&self, relative: &str) -> Result<PathBuf, FolderError> {
        let path = fs::canonicalize(self.root.join(relative)).map_err(missing)?;
        if path.starts_with(&self.root) { Ok(path) } else { Err(FolderError::Outside) }
    }
}

/// "Not found" in its two spellings: no such name, or a file where a folder would have to be.
fn missing(error: io::Error) -> FolderError {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => FolderError::Missing,
        _ => FolderError::Io(error),
    }
}
