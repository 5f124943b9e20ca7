//! V8's code caches of a program's modules, sealed: what a start takes instead of compiling.
//!
//! V8 checks a code cache against its own version, its flags and the length of the source, and trusts the rest like
//! machine code. So one is made here only, from the very program that it is for, and kept under a seal: a MAC
//! (RFC 2104) with a key that never leaves the machine. What does not open is not shown to V8.
//!
//! # Why not a snapshot of the started function
//!
//! It would save the evaluation of the top level as well, and is left out for these reasons:
//!
//! - It costs more than it saves, up to a top level of several milliseconds. A start with a code cache takes an isolate that
//!   is ready; one from its own snapshot has to make an isolate, which takes longer than all the rest of a start together
//!   (`benches cold_start`, the rows with the pool empty), and no pool can hold those of every function.
//! - V8 shares one read-only heap among the isolates of a process and one set of hashes among those of a snapshot, and a
//!   release build does not check that two blobs agree: a mistake there corrupts heaps in silence.
//! - Much of what a top level does cannot be in a snapshot, and V8 answers by ending the process that makes it (a WebAssembly
//!   module, `Intl` objects) or by a blob that fails when it is loaded (`CryptoKey` and other objects that are native).
//! - Whatever random numbers, times and identifiers the top level made would be the same in every isolate there ever is of
//!   that version, the secrets of its `env` would lie in a file, and no author would see why.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_lc_rs::{constant_time, hmac};
use deno_core::v8;
use serde::{Deserialize, Serialize};

use crate::platform::snapshot;

const MAGIC: &[u8] = b"skerry code cache 1\n";
const MAC_BYTES: usize = 32;

/// What V8 made of each module of one program, by path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CodeCache(pub(crate) BTreeMap<String, Arc<[u8]>>);

/// The key of the seals, as secret as what the functions themselves hold.
#[derive(Clone, Debug)]
pub struct SealKey(hmac::Key);

impl SealKey {
    /// Length of the secret in bytes.
    pub const BYTES: usize = 32;

    /// From a secret that is random and kept.
    pub fn new(secret: &[u8; Self::BYTES]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }
}

/// Why a sealed code cache is not used. It is made anew then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unsealed {
    /// Not sealed with this key for this program: altered, torn, or another's.
    Tampered,
    /// Made by another V8, with other flags, or over another startup snapshot.
    OtherEngine,
}

impl Unsealed {
    /// Stable name: metric label and log field.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tampered => "tampered",
            Self::OtherEngine => "other_engine",
        }
    }
}

/// Names what a code cache depends on beside its source. Call it once V8 runs.
fn engine() -> String {
    let tag = v8::script_compiler::cached_data_version_tag();
    format!("{} {tag:08x} {}", v8::VERSION_STRING, snapshot().id)
}

/// What [`CodeCache::modules`] gave. V8 trusts it like machine code.
impl<'a> FromIterator<(&'a str, &'a [u8])> for CodeCache {
    fn from_iter<T: IntoIterator<Item = (&'a str, &'a [u8])>>(modules: T) -> Self {
        Self(modules.into_iter().map(|(path, data)| (path.to_owned(), Arc::from(data))).collect())
    }
}

impl CodeCache {
    /// Bytes in all.
    pub fn len(&self) -> usize {
        self.0.values().map(|data| data.len()).sum()
    }

    /// Whether no module has one.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What V8 made, with the path of its module: for a process that is told, and believed, what to run.
    pub fn modules(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(path, data)| (path.as_str(), &**data))
    }

    /// As bytes that only [`CodeCache::open`] with the same key and version takes back.
    pub fn seal(&self, key: &SealKey, version: &str) -> Vec<u8> {
        let engine = engine();
        let mut bytes = Vec::with_capacity(MAGIC.len() + engine.len() + self.len() + 64 * (self.0.len() + 1));
        bytes.extend_from_slice(MAGIC);
        put(&mut bytes, engine.as_bytes());
        for (path, data) in &self.0 {
            put(&mut bytes, path.as_bytes());
            put(&mut bytes, data);
        }
        seal_bytes(key, version, &bytes)
    }

    /// What [`CodeCache::seal`] sealed.
    ///
    /// # Errors
    /// [`Unsealed`]: the bytes are not what this engine sealed for this version.
    pub fn open(sealed: &[u8], key: &SealKey, version: &str) -> Result<Self, Unsealed> {
        let bytes = unseal(sealed, key, version)?;
        let mut rest = bytes.strip_prefix(MAGIC).ok_or(Unsealed::OtherEngine)?;
        if take(&mut rest) != Some(engine().as_bytes()) {
            return Err(Unsealed::OtherEngine);
        }
        let mut modules = BTreeMap::new();
        while !rest.is_empty() {
            let (Some(path), Some(data)) = (take(&mut rest), take(&mut rest)) else { return Err(Unsealed::Tampered) };
            let path = str::from_utf8(path).map_err(|_| Unsealed::Tampered)?;
            modules.insert(path.to_owned(), Arc::from(data));
        }
        Ok(Self(modules))
    }
}

/// The bytes and their MAC.
pub(crate) fn seal_bytes(key: &SealKey, label: &str, bytes: &[u8]) -> Vec<u8> {
    [bytes, mac(key, label, bytes).as_ref()].concat()
}

/// What [`seal_bytes`] sealed under the same label.
pub(crate) fn unseal<'a>(sealed: &'a [u8], key: &SealKey, label: &str) -> Result<&'a [u8], Unsealed> {
    let (bytes, tag) = sealed.split_last_chunk::<MAC_BYTES>().ok_or(Unsealed::Tampered)?;
    constant_time::verify_slices_are_equal(mac(key, label, bytes).as_ref(), tag).map_err(|_| Unsealed::Tampered)?;
    Ok(bytes)
}

/// The label (of a code cache, its version) is signed, too: a cache of another program is as bad as a forged one.
fn mac(key: &SealKey, label: &str, bytes: &[u8]) -> hmac::Tag {
    let mut context = hmac::Context::with_key(&key.0);
    context.update(&(label.len() as u64).to_le_bytes());
    context.update(label.as_bytes());
    context.update(bytes);
    context.sign()
}

/// Appends a length and that many bytes.
fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// Takes back what [`put`] appended.
fn take<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk::<8>()?;
    let (bytes, after) = after.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
    *rest = after;
    Some(bytes)
}
