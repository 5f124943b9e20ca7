//! From a folder to every PoP: build, check in V8, upload what is missing, make it live, wait until the PoPs have it.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use origin::bundle::{Bundle, Digest, FunctionName, MAX_BUNDLE_BYTES};
use origin::client::Control;
use origin::deployment::Outcome;
use serde::Serialize;

use crate::bundling::{self, Built};
use crate::output::{Failure, note};
use crate::project::Project;
use crate::table::{Align, Table};
use crate::units::show_bytes;

/// How long PoPs may take to report a change before it is said that they did not.
pub const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(10);

/// Between two looks at what the PoPs report.
const ARRIVAL_INTERVAL: Duration = Duration::from_millis(20);

/// A PoP that has not reported for this long is taken for down and not waited for.
const LIVE_WITHIN: Duration = Duration::from_secs(30);

/// Uploads at once.
const UPLOADS: usize = 8;

/// Builds the function in `folder` and runs its top level in an isolate: what would fail at a PoP fails here.
///
/// V8 must have been initialised on the main thread.
///
/// # Errors
/// Everything wrong with the project file, the sources or the assets, or what V8 says about the modules.
pub fn build(folder: &Path) -> Result<Built, Failure> {
    let failed = |what: String| Failure::Failed(format!("{} cannot be deployed:\n{what}", folder.display()));
    let project = Project::load(folder).map_err(|errors| failed(errors.to_string()))?;
    let built = bundling::bundle(&project).map_err(|errors| failed(errors.to_string()))?;
    for warning in project.warnings.iter().chain(&built.warnings) {
        note(format_args!("warning: {}: {warning}", folder.display()));
    }
    check(&built.bundle).map_err(failed)?;
    Ok(built)
}

/// Boots the bundle in an isolate, on a thread of its own: an isolate brings a runtime, which must not start in another.
fn check(bundle: &Bundle) -> Result<(), String> {
    if bundle.main.is_none() {
        return Ok(());
    }
    std::thread::scope(|scope| {
        let check = std::thread::Builder::new().name("check".to_owned()).spawn_scoped(scope, || pop::check_bundle(bundle));
        let check = check.map_err(|error| format!("no thread to check the bundle in: {error}"))?;
        check.join().map_err(|_| "the check of the bundle broke down".to_owned())?.map(|_| ())
    })
}

/// What a deploy or rollback did, and when each PoP had it.
#[derive(Clone, Debug, Serialize)]
pub struct Released {
    /// The function.
    pub function: FunctionName,
    /// The version that is live.
    pub version: Digest,
    /// The one before.
    pub previous: Option<Digest>,
    /// Whether anything changed.
    pub changed: bool,
    /// Generation of the manifest.
    pub generation: u64,
    /// Length of the bundle in bytes.
    pub size: u64,
    /// Static files.
    pub assets: usize,
    /// Of those, the ones that had to be uploaded.
    pub uploaded: usize,
    /// The PoPs.
    pub pops: Vec<Arrival>,
}

/// When a PoP had a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Arrival {
    /// The PoP.
    pub pop: String,
    /// Milliseconds from the change of the manifest until the PoP served it; `None` when it has not yet.
    pub after_ms: Option<u64>,
    /// What went wrong there.
    pub error: Option<String>,
}

/// Uploads what the origin does not have, publishes the bundle and makes it live. Returns what changed and how many
/// assets were uploaded.
///
/// # Errors
/// What the origin answers: nothing is live then that was not before.
pub async fn release(control: &Control, built: &Built) -> Result<(Outcome, usize), Failure> {
    let (bytes, version) = built.bundle.encode();
    if bytes.len() > MAX_BUNDLE_BYTES {
        let (size, most) = (show_bytes(bytes.len() as u64), show_bytes(MAX_BUNDLE_BYTES as u64));
        return Err(Failure::Failed(format!("the bundle has {size}, at most {most} are possible: publish large data as assets")));
    }
    let digests: Vec<Digest> = built.assets.iter().map(|(digest, _)| *digest).collect();
    let missing = control.missing_blobs(&digests).await?;
    let uploads = built.assets.iter().filter(|(digest, _)| missing.contains(digest)).map(Ok::<_, Failure>);
    stream::iter(uploads)
        .try_for_each_concurrent(UPLOADS, async |(digest, path)| {
            let read = tokio::fs::read(path).await;
            let bytes = read.map_err(|error| Failure::Failed(format!("cannot read {}: {error}", path.display())))?;
            if Digest::of(&bytes) != *digest {
                return Err(Failure::Failed(format!("{} changed while it was deployed: deploy again", path.display())));
            }
            control.put_blob(digest, Bytes::from(bytes)).await.map_err(Failure::from)
        })
        .await?;
    control.publish(Bytes::from(bytes), &version, None).await?;
    Ok((control.deploy(&built.bundle.name, &version).await?, missing.len()))
}
