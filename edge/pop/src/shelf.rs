//! What a PoP keeps on disk: the last manifest it applied, and its bundles. Enough to serve after a restart without
//! anybody's help. A damaged file is as good as none.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use origin::bundle::{Bundle, Digest};
use origin::deployment::Manifest;
use serde::{Deserialize, Serialize};

use crate::config::StartError;

/// The file with the manifest: the digest of the rest in the first line, then [`Kept`].
const MANIFEST: &str = "manifest.json";

/// What was live when it was written.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Kept {
    /// Whether it was all that its generation asked for, and not an older version in some place.
    pub(crate) whole: bool,
    pub(crate) manifest: Manifest,
}

/// The data folder of one PoP.
#[derive(Debug)]
pub(crate) struct Shelf {
    folder: PathBuf,
}

impl Shelf {
    pub(crate) fn open(folder: &Path) -> Result<Self, StartError> {
        let bundles = folder.join("bundles");
        fs::create_dir_all(&bundles).map_err(|source| StartError::Data { path: bundles, source })?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// What was live last; nothing when there is none, or when the file is not as it was written.
    pub(crate) fn manifest(&self) -> Option<Kept> {
        let text = fs::read_to_string(self.folder.join(MANIFEST)).ok()?;
        let kept = text.split_once('\n').filter(|(digest, json)| *digest == Digest::of(json.as_bytes()).to_string());
        let kept = kept.and_then(|(_, json)| serde_json::from_str(json).ok());
        if kept.is_none() {
            tracing::warn!(file = %self.folder.join(MANIFEST).display(), "damaged manifest on disk not used");
        }
        kept
    }

    pub(crate) fn keep_manifest(&self, kept: &Kept) -> std::io::Result<()> {
        let json = serde_json::to_string(kept)?;
        write(&self.folder, MANIFEST, format!("{}\n{json}", Digest::of(json.as_bytes())).as_bytes())
    }

    /// A bundle whose bytes are still those of its version.
    pub(crate) fn bundle(&self, version: &Digest) -> Option<Bundle> {
        let bytes = fs::read(self.path(version)).ok()?;
        Bundle::decode(&bytes, version)
            .inspect_err(|error| tracing::warn!(%version, %error, "bundle on disk not used"))
            .ok()
    }

    pub(crate) fn keep_bundle(&self, version: &Digest, bytes: &[u8]) -> std::io::Result<()> {
        write(&self.folder.join("bundles"), &version.to_string(), bytes)
    }

    /// Removes the bundles that no manifest needs any more, and what an interrupted write left.
    pub(crate) fn tidy(&self, needed: impl Fn(&Digest) -> bool) {
        let Ok(entries) = fs::read_dir(self.folder.join("bundles")) else { return };
        for entry in entries.flatten() {
            let version = entry.file_name().to_str().and_then(|name| name.parse::<Digest>().ok());
            if !version.is_some_and(|version| needed(&version)) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    fn path(&self, version: &Digest) -> PathBuf {
        self.folder.join("bundles").join(version.to_string())
    }
}

/// Writes a file so that a crash leaves the old one or the new one.
fn write(folder: &Path, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    let temporary = folder.join(format!(".{name}.new"));
    let mut file = fs::File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, folder.join(name))?;
    fs::File::open(folder)?.sync_all()
}
