//! Objects in a directory: durable, checksummed, shared safely between processes.
//!
//! ```text
//! FORMAT               which layout this is
//! objects/a.d/b.o      the object `a/b`: blocks, each with its checksum, then a trailer (see `file`)
//! tmp/<pid>-<time>-<n> objects being written; each is locked by its writer
//! locks/<n>            one lock per stripe of keys, held while a condition is checked and the object renamed
//! ```
//!
//! A put writes and syncs a file in `tmp`, then, holding the lock of its stripe, checks its condition, renames the
//! file over the object and syncs the folder. A process killed at any moment leaves the old object or the new one and
//! perhaps a file in `tmp`, which the next `open` removes: no living writer has it locked. Folders are never removed.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::UNIX_EPOCH;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::{
    Attributes, Body, Clock, MAX_PAGE, Meta, Object, ObjectStore, Page, PutMode, StoreError, Written, limit_of, resolve,
};
use crate::key::Key;
use file::{Reader, Writer};

mod file;
mod walk;

/// Content of the file `FORMAT`.
const FORMAT: &[u8] = b"skerry objects 1\n";

/// How many locks the keys share: writers of different keys seldom meet, and the files are few.
const STRIPES: u32 = 64;

/// Bytes gathered or read in one visit to the disk.
const VISIT_BYTES: u64 = 8 * file::BLOCK_BYTES;

/// Folders remembered as durable before the memory is cleared.
const MAX_KNOWN_FOLDERS: usize = 4096;

/// A store in a directory.
#[derive(Clone)]
pub struct Embedded {
    root: Arc<Root>,
}

struct Root {
    path: PathBuf,
    clock: Clock,
    /// Begins the names of this opening's files in `tmp`: processes in different containers may have the same id.
    tmp_prefix: String,
    next_tmp: AtomicU64,
    /// Folders whose entries up to the root this process has synced.
    known: Mutex<HashSet<PathBuf>>,
}

impl Embedded {
    /// Opens the store in `path`, creating it when the folder is missing or empty, and removes what writers that died
    /// have left. Blocks on the disk.
    ///
    /// # Errors
    /// When the folder cannot be created or written, or holds something that is not a store of this format.
    pub fn open(path: impl Into<PathBuf>, clock: Clock) -> io::Result<Self> {
        let path = path.into();
        create_folder(&path)?;
        claim(&path)?;
        for folder in ["objects", "tmp", "locks"] {
            fs::create_dir_all(path.join(folder))?;
        }
        sync_folder(&path)?;
        remove_stale(&path.join("tmp"))?;
        let opened = clock().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos());
        let tmp_prefix = format!("{}-{opened}", std::process::id());
        let (next_tmp, known) = (AtomicU64::new(0), Mutex::default());
        Ok(Self { root: Arc::new(Root { path, clock, tmp_prefix, next_tmp, known }) })
    }

    /// Runs `work` where it may block.
    async fn blocking<T: Send + 'static>(
        &self,
        key: &Key,
        work: impl FnOnce(&Root, &Key) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (root, owned) = (self.root.clone(), key.clone());
        match tokio::task::spawn_blocking(move || work(&root, &owned)).await {
            Ok(result) => result,
            Err(panicked_or_cancelled) => Err(StoreError::unavailable(key, panicked_or_cancelled)),
        }
    }
}

impl std::fmt::Debug for Embedded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Embedded({})", self.root.path.display())
    }
}

#[async_trait]
impl ObjectStore for Embedded {
    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<Object, StoreError> {
        let open = move |root: &Root, key: &Key| {
            let reader = Reader::open(&root.object(key), key)?;
            let range = resolve(key, range, reader.meta.size)?;
            let first = reader.read(range.start..range.end.min(range.start + VISIT_BYTES))?;
            Ok((reader, range, first))
        };
        let (reader, range, first) = self.blocking(key, open).await?;
        let (meta, attributes) = (reader.meta.clone(), reader.attributes.clone());
        let at = range.start + first.iter().map(|c| c.len() as u64).sum::<u64>();
        let rest = rest(self.clone(), Arc::new(reader), at..range.end);
        let body = Body::new(stream::iter(first.into_iter().map(Ok)).chain(rest));
        Ok(Object { meta, attributes, range, body })
    }

    async fn head(&self, key: &Key) -> Result<(Meta, Attributes), StoreError> {
        let open = |root: &Root, key: &Key| Reader::open(&root.object(key), key);
        let Reader { meta, attributes, .. } = self.blocking(key, open).await?;
        Ok((meta, attributes))
    }

    async fn put(
        &self,
        key: &Key,
        mut body: Body,
        mode: PutMode,
        attributes: Attributes,
    ) -> Result<Written, StoreError> {
        attributes.check(key)?;
        let limit = limit_of(&mode);
        let mut writer: Option<Writer> = None;
        let mut total = 0;
        loop {
            let (chunks, ended) = gather(key, &mut body).await?;
            total += chunks.iter().map(|c| c.len() as u64).sum::<u64>();
            if total > limit {
                return Err(StoreError::TooLarge { key: key.clone(), limit });
            }
            let last = ended.then(|| (mode.clone(), attributes.clone()));
            let begun = writer.take();
            let step = self.blocking(key, move |root, key| root.write(key, begun, &chunks, last)).await?;
            match step {
                Step::More(begun) => writer = Some(begun),
                Step::Done(written) => return Ok(written),
            }
        }
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        self.blocking(key, |root, key| root.delete(key).map_err(|e| StoreError::unavailable(key, e))).await
    }

    async fn list(&self, folder: &Key, after: Option<&Key>, limit: usize) -> Result<Page, StoreError> {
        let after = after.cloned();
        let walk = move |root: &Root, folder: &Key| {
            walk::page(&root.folder(folder), folder, after.as_ref(), limit.min(MAX_PAGE))
                .map_err(|e| StoreError::unavailable(folder, e))
        };
        self.blocking(folder, walk).await
    }
}

/// The chunks of `range`, read visit by visit as they are asked for.
fn rest(
    store: Embedded,
    reader: Arc<Reader>,
    range: Range<u64>,
) -> impl futures::Stream<Item = Result<Bytes, super::BoxError>> + Send + 'static {
    let visits = stream::try_unfold(range.start, move |at| {
        let (store, reader, end) = (store.clone(), reader.clone(), range.end);
        async move {
            if at >= end {
                return Ok::<_, StoreError>(None);
            }
            let next = end.min(at + VISIT_BYTES);
            let key = reader.meta.key.clone();
            let chunks = store.blocking(&key, move |_, _| reader.read(at..next)).await?;
            Ok(Some((stream::iter(chunks.into_iter().map(Ok::<_, StoreError>)), next)))
        }
    });
    visits.try_flatten().map_err(Into::into)
}

/// The next chunks of `body`, about [`VISIT_BYTES`] of them, and whether they are the last.
async fn gather(key: &Key, body: &mut Body) -> Result<(Vec<Bytes>, bool), StoreError> {
    let (mut chunks, mut size) = (Vec::new(), 0);
    while size < VISIT_BYTES {
        match body.next().await {
            Some(Ok(chunk)) => {
                size += chunk.len() as u64;
                chunks.push(chunk);
            }
            Some(Err(source)) => return Err(StoreError::Body { key: key.clone(), source }),
            None => return Ok((chunks, true)),
        }
    }
    Ok((chunks, false))
}

enum Step {
    More(Writer),
    Done(Written),
}

impl Root {
    fn objects(&self) -> PathBuf {
        self.path.join("objects")
    }

    fn folder(&self, key: &Key) -> PathBuf {
        key.segments().fold(self.objects(), |path, segment| path.join(format!("{segment}.d")))
    }

    fn object(&self, key: &Key) -> PathBuf {
        let mut path = self.objects();
        let mut segments = key.segments().peekable();
        while let Some(segment) = segments.next() {
            path.push(format!("{segment}.{}", if segments.peek().is_some() { "d" } else { "o" }));
        }
        path
    }

    /// One visit of a put: appends `chunks`, and commits when they are the last.
    fn write(
        &self,
        key: &Key,
        begun: Option<Writer>,
        chunks: &[Bytes],
        last: Option<(PutMode, Attributes)>,
    ) -> Result<Step, StoreError> {
        let failed = |e: io::Error| StoreError::unavailable(key, e);
        let mut writer = match begun {
            Some(writer) => writer,
            None => self.begin(key).map_err(failed)?,
        };
        for chunk in chunks {
            writer.write(chunk).map_err(failed)?;
        }
        let Some((mode, attributes)) = last else { return Ok(Step::More(writer)) };
        let (tmp, meta) = writer.finish((self.clock)(), attributes).map_err(failed)?;
        self.commit(key, tmp, &mode)?;
        Ok(Step::Done(Written { etag: meta.etag, size: meta.size }))
    }

    /// Starts a file in `tmp`, locked so that no `open` takes it for a dead writer's.
    fn begin(&self, key: &Key) -> io::Result<Writer> {
        loop {
            let number = self.next_tmp.fetch_add(1, Ordering::Relaxed);
            let path = self.path.join("tmp").join(format!("{}-{number}", self.tmp_prefix));
            let file = match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => file,
                Err(e) if e.kind() == ErrorKind::AlreadyExists => continue,
                Err(e) => return Err(e),
            };
            let tmp = Tmp { path: Some(path), file };
            tmp.file.lock()?;
            // Another process may have opened the store between the creation and the lock, and removed the file.
            if tmp.path().try_exists()? {
                return Ok(Writer::new(key, tmp));
            }
        }
    }

    /// Makes a finished file the object, when `mode` holds.
    fn commit(&self, key: &Key, tmp: Tmp, mode: &PutMode) -> Result<(), StoreError> {
        let failed = |e: io::Error| StoreError::unavailable(key, e);
        let _held = self.lock(key).map_err(failed)?;
        let path = self.object(key);
        match mode {
            PutMode::Overwrite => {}
            PutMode::Create => {
                if path.try_exists().map_err(failed)? {
                    return Err(StoreError::AlreadyExists { key: key.clone() });
                }
            }
            PutMode::Update(etag) => match Reader::open(&path, key) {
                Ok(reader) if reader.meta.etag == *etag => {}
                Ok(_) | Err(StoreError::NotFound { .. }) => {
                    return Err(StoreError::Precondition { key: key.clone() });
                }
                Err(e) => return Err(e),
            },
        }
        self.place(tmp, &path).map_err(failed)
    }

    fn place(&self, tmp: Tmp, path: &Path) -> io::Result<()> {
        let folder = path.parent().unwrap_or(&self.path);
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).contains(folder);
        if !known {
            fs::create_dir_all(folder)?;
        }
        tmp.rename(path)?;
        sync_folder(folder)?;
        if !known {
            // Whoever created these folders may not have synced them yet.
            for above in folder.ancestors().skip(1).take_while(|above| above.starts_with(&self.path)) {
                sync_folder(above)?;
            }
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            if known.len() >= MAX_KNOWN_FOLDERS {
                known.clear();
            }
            known.insert(folder.to_owned());
        }
        Ok(())
    }

    fn delete(&self, key: &Key) -> io::Result<()> {
        let _held = self.lock(key)?;
        let path = self.object(key);
        match fs::remove_file(&path) {
            Ok(()) => sync_folder(path.parent().unwrap_or(&self.path)),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// Holds the lock of the key's stripe until the file is dropped. Each call opens the file anew, so that the lock
    /// also excludes the other tasks of this process.
    fn lock(&self, key: &Key) -> io::Result<File> {
        let stripe = crc32c::crc32c(key.as_str().as_bytes()) % STRIPES;
        let path = self.path.join("locks").join(stripe.to_string());
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
        file.lock()?;
        Ok(file)
    }
}

/// A file in `tmp`, removed when dropped unless it has been renamed: by then the name may be another writer's.
#[derive(Debug)]
struct Tmp {
    path: Option<PathBuf>,
    /// Locked until the end, also of the renaming: an `open` in between would take the file for a dead writer's.
    file: File,
}

impl Tmp {
    fn path(&self) -> &Path {
        self.path.as_deref().unwrap_or(Path::new(""))
    }

    fn rename(mut self, to: &Path) -> io::Result<()> {
        fs::rename(self.path(), to)?;
        self.path = None;
        Ok(())
    }
}

impl Drop for Tmp {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // What stays is removed by the next `open`.
            let _ = fs::remove_file(path);
        }
    }
}

/// Creates a folder and those above it, and makes the entries of all that are new durable.
fn create_folder(path: &Path) -> io::Result<()> {
    let missing = path.ancestors().take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists());
    let above: Vec<PathBuf> =
        missing.filter_map(|folder| folder.parent()).map(|above| Path::new(".").join(above)).collect();
    fs::create_dir_all(path)?;
    above.iter().try_for_each(|folder| sync_folder(folder))
}

/// Checks or writes the file `FORMAT`.
fn claim(path: &Path) -> io::Result<()> {
    let format = path.join("FORMAT");
    let other = |why| Err(io::Error::new(ErrorKind::InvalidData, format!("{}: {why}", path.display())));
    let read = || match fs::read(&format) {
        Ok(content) => Ok(Some(content)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    };
    if read()?.is_none() {
        let foreign = |e: &io::Result<fs::DirEntry>| {
            e.as_ref().is_ok_and(|e| !e.file_name().as_encoded_bytes().starts_with(b"FORMAT"))
        };
        // Read again: another process may be creating the store at this moment, and writes FORMAT first.
        if fs::read_dir(path)?.any(|e| foreign(&e)) && read()?.is_none() {
            return other("the folder is neither empty nor an object store; choose another one");
        }
        let tmp = path.join(format!("FORMAT.{}", std::process::id()));
        let mut file = File::create(&tmp)?;
        file.write_all(FORMAT)?;
        file.sync_all()?;
        fs::rename(&tmp, &format)?;
        sync_folder(path)?;
    }
    match read()?.as_deref() {
        Some(FORMAT) => Ok(()),
        _ => other("the object store in this folder was written by another release or is damaged"),
    }
}

/// Removes the files of writers that died: nobody has them locked.
fn remove_stale(tmp: &Path) -> io::Result<()> {
    for entry in fs::read_dir(tmp)? {
        let path = entry?.path();
        let Ok(file) = File::open(&path) else { continue };
        if file.try_lock().is_ok() {
            match fs::remove_file(&path) {
                Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
    }
    Ok(())
}

/// Makes the entries of a folder durable.
fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests;
