//! One supervisor per state folder.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

/// An exclusive hold on a state folder. The kernel lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct StateLock {
    file: File,
    /// The folder, absolute.
    pub folder: PathBuf,
}

/// Why the folder cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LockError {
    /// Another supervisor has it.
    #[error(
        "another `skerry up`{} uses the state folder {}: end that one first, or name another folder with --state",
        .pid.map(|pid| format!(" (process {pid})")).unwrap_or_default(), folder.display()
    )]
    Held {
        /// The folder.
        folder: PathBuf,
        /// The other's process, when the lock file says it.
        pid: Option<u32>,
    },
    /// The folder cannot be made or written.
    #[error("cannot use {} as state folder: {source} (name another one with --state)", folder.display())]
    Unusable {
        /// The folder.
        folder: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl StateLock {
    /// Makes the folder when there is none and takes hold of it.
    ///
    /// # Errors
    /// [`LockError`].
    pub(crate) fn acquire(folder: &Path) -> Result<Self, LockError> {
        let unusable = |source| LockError::Unusable { folder: folder.to_owned(), source };
        fs::create_dir_all(folder).map_err(unusable)?;
        let absolute = folder.canonicalize().map_err(unusable)?;
        let path = absolute.join("lock");
        let mut options = OpenOptions::new();
        let mut file = options.read(true).write(true).create(true).truncate(false).open(path).map_err(unusable)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let _ = file.take(32).read_to_string(&mut text);
                return Err(LockError::Held { folder: absolute, pid: text.trim().parse().ok() });
            }
            Err(TryLockError::Error(source)) => return Err(unusable(source)),
        }
        let write = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        write(&mut file).map_err(unusable)?;
        Ok(Self { file, folder: absolute })
    }
}

impl Drop for StateLock {
    fn drop(&mut self) {
        // The file stays: removing it would let a third process lock a name that the second still holds.
        let _ = self.file.set_len(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_supervisor_is_told_the_process_of_the_first() {
        let root = tempfile::tempdir().unwrap();
        let state = root.path().join("deep/.skerry");
        let first = StateLock::acquire(&state).unwrap();
        let error = StateLock::acquire(&state).unwrap_err();
        assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
        drop(first);
        StateLock::acquire(&state).unwrap();
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        fs::write(&file, "").unwrap();
        let error = StateLock::acquire(&file.join("state")).unwrap_err();
        assert!(error.to_string().contains("file/state") && error.to_string().contains("--state"), "{error}");
    }
}
