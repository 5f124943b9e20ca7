//! The object store: one trait, three implementations, one contract.
//!
//! Why not a file system interface? Because the truth may live in a bucket: there is no rename, no append and no
//! lock there, but there is a conditional put. Everything above this module is built on that one primitive, so that
//! several origin processes may share a bucket or a directory.
//!
//! **Invariant:** a reader sees the whole object before a put or the whole object after it, never a mixture, and a
//! put that returned is durable. What cannot be read back as it was written is [`StoreError::Corrupt`].

use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::key::Key;

pub use body::{Body, BodyStream, BodyTooLarge, BoxError, DigestMismatch};
pub use embedded::Embedded;
pub use memory::Memory;
pub use s3::{S3, S3Config};

mod body;
#[cfg(test)]
pub mod contract;
mod embedded;
mod memory;
mod s3;

/// Largest object, in bytes. A multipart upload of 10,000 parts of 8 MiB carries it.
pub const MAX_OBJECT_BYTES: u64 = 64 << 30;

/// Largest body of a conditional put, in bytes: S3 takes a condition only on a put in one piece, which is held in
/// memory. Larger than any bundle, far larger than any manifest.
pub const MAX_CONDITIONAL_BYTES: u64 = 16 << 20;

/// Most keys in one [`Page`].
pub const MAX_PAGE: usize = 1000;

/// Longest attribute, in bytes.
pub const MAX_ATTRIBUTE_BYTES: usize = 512;

/// Where the time comes from.
pub type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// A place for immutable and changing objects.
#[async_trait]
pub trait ObjectStore: std::fmt::Debug + Send + Sync + 'static {
    /// Reads an object, or the bytes `range` of it; a range that ends after the object is cut at its end.
    ///
    /// The body ends with an error, never silently, when the object cannot be read to its end.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::Range`] when `range` is empty or begins at or after the end;
    /// [`StoreError::Precondition`] when the object was replaced while its range was looked up;
    /// [`StoreError::Corrupt`]; [`StoreError::Denied`] or [`StoreError::Unavailable`].
    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<Object, StoreError>;

    /// What is known about an object without its bytes.
    ///
    /// # Errors
    /// As [`Self::get`].
    async fn head(&self, key: &Key) -> Result<(Meta, Attributes), StoreError>;

    /// Writes an object, all of it or nothing, and returns when it is durable.
    ///
    /// # Errors
    /// [`StoreError::AlreadyExists`] or [`StoreError::Precondition`] when `mode` does not hold at the moment of the
    /// change; [`StoreError::Body`] when the body failed; [`StoreError::TooLarge`] beyond [`MAX_OBJECT_BYTES`], or
    /// beyond [`MAX_CONDITIONAL_BYTES`] for any mode but [`PutMode::Overwrite`]; [`StoreError::Attributes`];
    /// [`StoreError::Denied`] or [`StoreError::Unavailable`].
    async fn put(&self, key: &Key, body: Body, mode: PutMode, attributes: Attributes) -> Result<Written, StoreError>;

    /// Removes an object. Removing what is not there succeeds.
    ///
    /// # Errors
    /// [`StoreError::Denied`] or [`StoreError::Unavailable`].
    async fn delete(&self, key: &Key) -> Result<(), StoreError>;

    /// The keys below `folder`, at most `limit` (and [`MAX_PAGE`]) of them, beginning behind `after`, the last key of
    /// the page before.
    ///
    /// The order is the store's own, mostly that of bytes; following pages meets every key once that is there all
    /// the time.
    ///
    /// # Errors
    /// [`StoreError::Denied`] or [`StoreError::Unavailable`].
    async fn list(&self, folder: &Key, after: Option<&Key>, limit: usize) -> Result<Page, StoreError>;
}

/// What is known about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Its name.
    pub key: Key,
    /// Length in bytes.
    pub size: u64,
    /// Entity tag, without quotes: differs whenever the bytes differ.
    pub etag: String,
    /// When it was last written, with a precision of a second or better.
    pub modified: SystemTime,
}

/// What an object says about itself to a browser.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attributes {
    /// `Content-Type`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// `Cache-Control`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_control: Option<String>,
}

impl Attributes {
    /// Checks that each attribute is printable ASCII of at most [`MAX_ATTRIBUTE_BYTES`].
    ///
    /// # Errors
    /// [`StoreError::Attributes`] names the one that is not.
    pub fn check(&self, key: &Key) -> Result<(), StoreError> {
        for (name, value) in [("content type", &self.content_type), ("cache control", &self.cache_control)] {
            let ok = |v: &String| {
                (1..=MAX_ATTRIBUTE_BYTES).contains(&v.len()) && v.bytes().all(|b| (b' '..=b'~').contains(&b))
            };
            if value.as_ref().is_some_and(|v| !ok(v)) {
                return Err(StoreError::Attributes { key: key.clone(), name });
            }
        }
        Ok(())
    }
}

/// An object, or a range of one, being read.
#[derive(Debug)]
pub struct Object {
    /// What is known about the whole object.
    pub meta: Meta,
    /// What it says about itself.
    pub attributes: Attributes,
    /// The bytes of the object that `body` carries.
    pub range: Range<u64>,
    /// The bytes.
    pub body: Body,
}

/// When a put may change the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PutMode {
    /// Always.
    Overwrite,
    /// Only when there is no such object.
    Create,
    /// Only when the object there has this entity tag.
    Update(String),
}

/// What a put has written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Entity tag of the new object.
    pub etag: String,
    /// Its length in bytes.
    pub size: u64,
}

/// A part of a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// In the store's order.
    pub keys: Vec<Key>,
    /// Whether there are keys after the last one.
    pub more: bool,
}

/// Why a store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such object.
    #[error("there is no object {key}")]
    NotFound {
        /// The object.
        key: Key,
    },
    /// [`PutMode::Create`] found an object.
    #[error("the object {key} exists already")]
    AlreadyExists {
        /// The object.
        key: Key,
    },
    /// [`PutMode::Update`] found another object, or none.
    #[error("the object {key} has changed since it was read")]
    Precondition {
        /// The object.
        key: Key,
    },
    /// What is stored is not what was written.
    #[error("the stored object {key} is corrupt ({why}); restore it from a backup or put it again")]
    Corrupt {
        /// The object.
        key: Key,
        /// What does not fit.
        why: String,
    },
    /// There are no such bytes.
    #[error("the range is outside of the object {key} of {size} bytes")]
    Range {
        /// The object.
        key: Key,
        /// Its length.
        size: u64,
    },
    /// More bytes than allowed.
    #[error("the body for {key} is larger than {limit} bytes")]
    TooLarge {
        /// The object.
        key: Key,
        /// The limit.
        limit: u64,
    },
    /// An attribute no header could carry.
    #[error("the {name} of {key} must be 1 to {MAX_ATTRIBUTE_BYTES} printable ASCII characters")]
    Attributes {
        /// The object.
        key: Key,
        /// Which attribute.
        name: &'static str,
    },
    /// The body to be written ended with an error; nothing was written.
    #[error("the body for {key} ended early: {source}")]
    Body {
        /// The object.
        key: Key,
        /// The body's own error.
        source: BoxError,
    },
    /// The store refused our credentials or permissions.
    #[error("the store denied access to {key}: {source}")]
    Denied {
        /// The object.
        key: Key,
        /// The store's own error.
        source: BoxError,
    },
    /// The store did not answer, or not as a store does.
    #[error("the store is unavailable for {key}: {source}")]
    Unavailable {
        /// The object.
        key: Key,
        /// The store's own error.
        source: BoxError,
    },
}

impl StoreError {
    /// Whether there is no such object.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    /// Whether a condition of a put did not hold: read again and retry.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::AlreadyExists { .. } | Self::Precondition { .. })
    }

    pub(crate) fn unavailable(key: &Key, source: impl Into<BoxError>) -> Self {
        Self::Unavailable { key: key.clone(), source: source.into() }
    }

    pub(crate) fn corrupt(key: &Key, why: impl Into<String>) -> Self {
        Self::Corrupt { key: key.clone(), why: why.into() }
    }
}

/// The bytes of an object of `size` that a get with `range` carries.
fn resolve(key: &Key, range: Option<Range<u64>>, size: u64) -> Result<Range<u64>, StoreError> {
    match range {
        None => Ok(0..size),
        Some(r) if r.start < r.end && r.start < size => Ok(r.start..r.end.min(size)),
        Some(_) => Err(StoreError::Range { key: key.clone(), size }),
    }
}

/// The most bytes a put may carry.
fn limit_of(mode: &PutMode) -> u64 {
    match mode {
        PutMode::Overwrite => MAX_OBJECT_BYTES,
        PutMode::Create | PutMode::Update(_) => MAX_CONDITIONAL_BYTES,
    }
}
