//! What a PoP keeps on disk: the last manifest it applied, and its bundles. Enough to serve after a restart without
//! anybody's help. A damaged file is as good as none.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use isolate::{CodeCache, Found, SealKey};
use origin::bundle::{Bundle, Digest, FunctionName, Isolation};
use origin::deployment::Manifest;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::config::StartError;

/// The file with the manifest: [`Kept`].
const MANIFEST: &str = "manifest.json";

/// The folder of the bundles, each under its version.
const BUNDLES: &str = "bundles";
/// The folder of the code caches, each under its version.
const CODE: &str = "code";
/// The secret under which code caches are sealed. Who can write it can write machine code for this PoP: for its owner only.
const KEY: &str = "code.key";

/// What was live when it was written.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Kept {
    /// Whether it was all that its generation asked for, and not an older version in some place.
    pub(crate) whole: bool,
    pub(crate) manifest: Manifest,
    /// The functions that are read at once, because they are started before anybody asks.
    #[serde(default)]
    pub(crate) provisioned: BTreeSet<FunctionName>,
}

/// The data folder of one PoP.
#[derive(Debug)]
pub(crate) struct Shelf {
    folder: PathBuf,
    key: SealKey,
    wanted: Mutex<BTreeSet<Digest>>,
    /// Tells the follower that something here is damaged, or wanted.
    pub(crate) mend: Notify,
}

impl Shelf {
    pub(crate) fn open(folder: &Path) -> Result<Self, StartError> {
        for path in [folder.join(BUNDLES), folder.join(CODE)] {
            fs::create_dir_all(&path).map_err(|source| StartError::Data { path, source })?;
        }
        let key = seal_key_of(folder).map_err(|source| StartError::Data { path: folder.join(KEY), source })?;
        Ok(Self { folder: folder.to_owned(), key, wanted: Mutex::default(), mend: Notify::new() })
    }

    /// What was live last; nothing when there is none, or when the file is not as it was written.
    pub(crate) fn manifest(&self) -> Option<Kept> {
        recall(&self.folder, MANIFEST)
    }

    pub(crate) fn keep_manifest(&self, kept: &Kept) -> std::io::Result<()> {
        keep(&self.folder, MANIFEST, kept)
    }

    /// A bundle whose bytes are still those of its version.
    pub(crate) fn bundle(&self, version: &Digest) -> Option<Bundle> {
        let bytes = fs::read(self.path(version)).ok()?;
        Bundle::decode(&bytes, version)
            .inspect_err(|error| tracing::warn!(%version, %error, "bundle on disk not used"))
            .ok()
    }

    pub(crate) fn keep_bundle(&self, version: &Digest, bytes: &[u8]) -> std::io::Result<()> {
        write(&self.folder.join(BUNDLES), &version.to_string(), bytes)
    }

    /// The versions whose bundles are here; whether they are whole shows when they are read.
    pub(crate) fn versions(&self) -> HashSet<Digest> {
        let Ok(entries) = fs::read_dir(self.folder.join(BUNDLES)) else { return HashSet::new() };
        entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
    }

    /// The code cache of a version. One that this PoP did not make, or that is of another engine, is made anew.
    pub(crate) fn code_cache(&self, version: &Digest, isolation: Isolation) -> Found {
        let sealed = fs::read(self.folder.join(CODE).join(version.to_string())).ok()?;
        let opened = CodeCache::open(&sealed, &self.key, &label(version, isolation));
        if let Err(why) = &opened {
            tracing::warn!(%version, why = why.as_str(), "code cache not used; it is made anew");
            self.want_code_cache(version);
        }
        Some(opened)
    }

    /// Has the follower make a code cache.
    pub(crate) fn want_code_cache(&self, version: &Digest) {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner).insert(*version);
        self.mend.notify_one();
    }

    /// The versions whose code caches are to be made.
    pub(crate) fn take_wanted(&self) -> BTreeSet<Digest> {
        std::mem::take(&mut self.wanted.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn keep_code_cache(
        &self,
        version: &Digest,
        isolation: Isolation,
        cache: &CodeCache,
    ) -> std::io::Result<()> {
        let sealed = cache.seal(&self.key, &label(version, isolation));
        write(&self.folder.join(CODE), &version.to_string(), &sealed)
    }

    /// Removes what no manifest needs any more, and what an interrupted write left.
    pub(crate) fn tidy(&self, needed: impl Fn(&Digest) -> bool) {
        for folder in [BUNDLES, CODE] {
            let Ok(entries) = fs::read_dir(self.folder.join(folder)) else { continue };
            for entry in entries.flatten() {
                let version = entry.file_name().to_str().and_then(|name| name.parse::<Digest>().ok());
                if !version.is_some_and(|version| needed(&version)) {
                    let _ = fs::remove_file(entry.path());
                }
            }
        }
    }

    fn path(&self, version: &Digest) -> PathBuf {
        self.folder.join(BUNDLES).join(version.to_string())
    }
}

/// What a code cache is sealed for. One that came out of a cell is for cells alone: whoever has taken a cell over may have
/// made it, and V8 would trust it like machine code.
fn label(version: &Digest, isolation: Isolation) -> String {
    match isolation {
        Isolation::Isolate => version.to_string(),
        Isolation::Process => format!("{version} in a cell"),
    }
}

/// The key of a data folder, or a new one: what was sealed with another is made anew.
pub(crate) fn seal_key_of(folder: &Path) -> std::io::Result<SealKey> {
    let path = &folder.join(KEY);
    if let Ok(bytes) = fs::read(path)
        && let Ok(secret) = bytes.try_into()
    {
        return Ok(SealKey::new(&secret));
    }
    let secret: [u8; SealKey::BYTES] = rand::random();
    let temporary = path.with_extension("new");
    let _ = fs::remove_file(&temporary);
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&temporary)?;
    file.write_all(&secret)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    Ok(SealKey::new(&secret))
}

/// What [`keep`] wrote; nothing when there is none, or when the file is not as it was written.
pub(crate) fn recall<T: serde::de::DeserializeOwned>(folder: &Path, name: &str) -> Option<T> {
    let text = fs::read_to_string(folder.join(name)).ok()?;
    let kept = text.split_once('\n').filter(|(digest, json)| *digest == Digest::of(json.as_bytes()).to_string());
    let kept = kept.and_then(|(_, json)| serde_json::from_str(json).ok());
    if kept.is_none() {
        tracing::warn!(file = %folder.join(name).display(), "damaged file not used");
    }
    kept
}

/// Writes a file of JSON below its digest, so that a damaged one is found out.
pub(crate) fn keep(folder: &Path, name: &str, value: &impl Serialize) -> std::io::Result<()> {
    let json = serde_json::to_string(value)?;
    write(folder, name, format!("{}\n{json}", Digest::of(json.as_bytes())).as_bytes())
}

/// Writes a file so that a crash leaves the old one or the new one.
pub(crate) fn write(folder: &Path, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    let temporary = folder.join(format!(".{name}.new"));
    let mut file = fs::File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, folder.join(name))?;
    fs::File::open(folder)?.sync_all()
}
