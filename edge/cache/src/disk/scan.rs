//! Finding what is in the folder at the start. Bodies are not read: whether a file is whole is seen when it is wanted.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{FileId, Inner};

/// Reads the folder in a thread of its own; until it is done, a look by name finds what it can.
pub(super) fn start(inner: &Arc<Inner>) {
    let scanning = Arc::clone(inner);
    let started = std::thread::Builder::new().name("cache-scan".into()).spawn(move || {
        if let Err(error) = scan(&scanning) {
            scanning.fail("reading its folder", &error);
        }
        scanning.lock().index.end_scan();
    });
    if let Err(error) = started {
        inner.fail("starting its thread", &error);
        inner.lock().index.end_scan();
    }
}

fn scan(inner: &Inner) -> io::Result<()> {
    for folder in fs::read_dir(&inner.config.folder)? {
        let folder = folder?;
        let name = folder.file_name();
        let Some(name) = name.to_str().filter(|name| name.len() == 2 && *name != "..") else { continue };
        if let Err(error) = scan_folder(inner, name, &folder.path()) {
            inner.fail("reading its folder", &error);
        }
    }
    Ok(())
}

fn scan_folder(inner: &Inner, folder: &str, path: &Path) -> io::Result<()> {
    for file in fs::read_dir(path)? {
        if inner.is_closing() {
            return Ok(());
        }
        let file = file?;
        let name = file.file_name();
        let Some(id) = name.to_str().and_then(|name| FileId::parse(folder, name)) else {
            // None of ours; whoever put it there may want it.
            continue;
        };
        let metadata = match file.metadata() {
            Ok(metadata) if metadata.is_file() => metadata,
            Ok(_) => continue,
            // Removed meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                inner.counts.errors.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(path = %file.path().display(), %error, "a file of the cache can't be read");
                continue;
            }
        };
        let mut state = inner.lock();
        if !state.index.found(id, metadata.len()) {
            state.index.doom(id);
        }
        let doomed = state.index.doomed() > 0;
        drop(state);
        if doomed {
            inner.wake.notify_one();
        }
    }
    Ok(())
}

/// The files for a URI that the index does not know.
pub(super) fn search(inner: &Inner, uri: u64) -> Vec<FileId> {
    let (folder, begin) = FileId::place(uri);
    let Ok(files) = fs::read_dir(inner.config.folder.join(&folder)) else { return Vec::new() };
    let names = files.flatten().filter_map(|file| file.file_name().into_string().ok());
    let ids = names.filter(|name| name.starts_with(&begin)).filter_map(|name| FileId::parse(&folder, &name));
    let ids: Vec<_> = ids.collect();
    let state = inner.lock();
    ids.into_iter().filter(|id| !state.index.knows(*id)).collect()
}
