//! Why a deployment cannot be.

use crate::bundle::{BundleError, Digest, FunctionName, MAX_BUNDLE_BYTES, RoutePattern};
use crate::store::StoreError;

/// Why a version was not published or not made live. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// Not a bundle, or not the version it is said to be.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// Beyond [`MAX_BUNDLE_BYTES`].
    #[error("the bundle has {size} bytes, the limit is {MAX_BUNDLE_BYTES}; move data into assets or the object store")]
    TooLarge {
        /// Length of the bundle in bytes.
        size: usize,
    },
    /// Parts of the bundle make no sense: every one of them.
    #[error("the bundle is not sound: {}", .0.join("; "))]
    Invalid(Vec<String>),
    /// The bundle names assets whose bytes have not been uploaded.
    #[error("{} of the assets are not uploaded, the first is {}: put them before the bundle", .0.len(), .0[0])]
    MissingBlobs(Vec<Digest>),
    /// The version was never published.
    #[error("{name} has no version {version}: publish its bundle before it is deployed")]
    UnknownVersion {
        /// The function.
        name: FunctionName,
        /// The version asked for.
        version: Digest,
    },
    /// The prefix does not name one version.
    #[error("{prefix:?} does not name a version of {name}: {why}; `skerry versions {name}` lists them")]
    Prefix {
        /// The function.
        name: FunctionName,
        /// As given.
        prefix: String,
        /// What is wrong.
        why: String,
    },
    /// The version is another function's.
    #[error("version {version} is one of {owner}, not of {name}")]
    OtherFunction {
        /// The function asked for.
        name: FunctionName,
        /// The version.
        version: Digest,
        /// Whose it is.
        owner: FunctionName,
    },
    /// Another function is in the way.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// No version of the function is live.
    #[error("{name} is not deployed")]
    NotDeployed {
        /// The function.
        name: FunctionName,
    },
    /// The live version is the first one.
    #[error("{name} has no version before the live one {version}")]
    NothingBefore {
        /// The function.
        name: FunctionName,
        /// The live version.
        version: Digest,
    },
    /// The manifest is full.
    #[error("there are {limit} functions, the most that can be deployed; delete one first")]
    TooManyFunctions {
        /// The limit.
        limit: usize,
    },
    /// The manifest could not be read again.
    #[error(
        "the manifest would have {size} bytes, the limit is {limit}; use fewer or shorter routes, or delete a function"
    )]
    ManifestTooLarge {
        /// Its length in bytes.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// Others changed the manifest again and again.
    #[error("the manifest keeps changing; try again")]
    Contended,
    /// The stored manifest cannot be read by this release.
    #[error("the stored manifest is not readable: {0}")]
    Manifest(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl DeployError {
    /// Whether what is stored is at fault, so that trying again helps nobody.
    pub(super) fn is_damage(&self) -> bool {
        matches!(self, Self::Bundle(_) | Self::Store(StoreError::Corrupt { .. } | StoreError::NotFound { .. }))
    }
}

/// What another function has already.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// The very same route.
    #[error("the route {route} belongs to the function {owner}; change one of them, or delete {owner}")]
    Route {
        /// The route.
        route: RoutePattern,
        /// Whose it is.
        owner: FunctionName,
    },
    /// The same asset path.
    #[error("the asset path {path} belongs to the function {owner}; change one of them, or delete {owner}")]
    Asset {
        /// The path.
        path: String,
        /// Whose it is.
        owner: FunctionName,
    },
}
