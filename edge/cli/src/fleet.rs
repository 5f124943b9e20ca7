//! `fleet.json`: what `skerry up` runs, written for the commands that talk to it.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// File name inside the state folder.
pub(crate) const FILE: &str = "fleet.json";

/// Beside it: where the PoPs' metrics are, as Prometheus reads it (`file_sd_configs`).
pub(crate) const TARGETS: &str = "prometheus.json";

/// Name of the state folder that commands look for when none is given.
pub(crate) const STATE: &str = ".skerry";

/// The format this release reads and writes.
pub(crate) const FORMAT: u32 = 1;

/// Largest file read, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// A running fleet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Fleet {
    /// [`FORMAT`].
    pub format: u32,
    /// The supervisor's process.
    pub pid: u32,
    /// State folder, absolute.
    pub state: PathBuf,
    /// The front door, which sends a client to its nearest PoP.
    pub front: SocketAddr,
    /// The control and admin API.
    pub admin: SocketAddr,
    /// File with the token of the admin API, absolute. The token itself is never in this file.
    pub token_file: PathBuf,
    /// Whether round trips are simulated.
    pub distance: bool,
    /// Part of a round trip that does not depend on the distance, in milliseconds.
    pub hop_ms: f64,
    /// The origin.
    pub origin: OriginNode,
    /// The PoPs, in the order they were given.
    pub pops: Vec<PopNode>,
    /// The region nodes, in the order they were given: PoPs that serve the others alone.
    #[serde(default)]
    pub regions: Vec<PopNode>,
}

/// A place on the globe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Place {
    /// City code, lower case (`lhr`).
    pub code: String,
    /// City name.
    pub city: String,
    /// Country, ISO 3166-1 alpha-2.
    pub country: String,
    /// Degrees north.
    pub latitude: f64,
    /// Degrees east.
    pub longitude: f64,
}

impl Place {
    /// Latitude and longitude in degrees.
    pub(crate) fn coordinates(&self) -> (f64, f64) {
        (self.latitude, self.longitude)
    }
}

/// The origin's process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct OriginNode {
    /// Where it serves objects.
    pub address: SocketAddr,
    /// Where it stands.
    pub place: Place,
    /// Its process when `up` started it last.
    pub pid: Option<u32>,
    /// Its log.
    pub log: PathBuf,
    /// The command that starts it by hand.
    pub command: Vec<String>,
}

/// A PoP's process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct PopNode {
    /// Its name, unique in the fleet.
    pub name: String,
    /// Where clients reach it.
    pub address: SocketAddr,
    /// Where its health and metrics are (`/health`, and `/metrics` with the token of the admin API).
    pub admin: SocketAddr,
    /// Where it stands.
    pub place: Place,
    /// Round trip to the origin, in milliseconds; 0 without distance.
    pub origin_rtt_ms: f64,
    /// Where it reaches the origin: a WAN link, or the origin itself without distance.
    pub origin_via: SocketAddr,
    /// Where it reaches the control API: a WAN link, or the API itself without distance.
    pub control_via: SocketAddr,
    /// The regions that it may send to, the nearest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub regions: Vec<RegionVia>,
    /// Its process when `up` started it last.
    pub pid: Option<u32>,
    /// Its log.
    pub log: PathBuf,
    /// The command that starts it by hand.
    pub command: Vec<String>,
}

/// A region as a PoP reaches it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RegionVia {
    /// Its name.
    pub name: String,
    /// Round trip to it, in milliseconds; 0 without distance.
    pub rtt_ms: f64,
    /// Where the PoP reaches it: a WAN link, or the node itself without distance.
    pub via: SocketAddr,
}

/// Why there is no fleet to talk to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FleetError {
    /// No `fleet.json` where one was looked for.
    #[error(
        "no fleet is running: there is no {} (start one with `skerry up`, or name its state folder with --state, \
         or a remote one with --admin-url and --token-file)",
        .0.display()
    )]
    Missing(PathBuf),
    /// There is one, but it cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is one, but it is not a fleet.
    #[error("{} is not a fleet this release can read: {why} (it is written by `skerry up`; start it again)", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
}

impl Fleet {
    /// Reads the fleet of the state folder `state`, or, when none is named, of the nearest `.skerry` at or above `from`.
    ///
    /// # Errors
    /// [`FleetError`] when there is none or it cannot be read.
    pub(crate) fn find(state: Option<&Path>, from: &Path) -> Result<Self, FleetError> {
        let here = state.map_or_else(|| from.join(STATE), Path::to_owned).join(FILE);
        let above = || from.ancestors().skip(1).map(|folder| folder.join(STATE).join(FILE)).find(|path| path.is_file());
        let path = if here.is_file() || state.is_some() { here } else { above().unwrap_or(here) };
        Self::read(&path)
    }

    fn read(path: &Path) -> Result<Self, FleetError> {
        let unreadable = |source| FleetError::Unreadable { path: path.to_owned(), source };
        let invalid = |why: String| FleetError::Invalid { path: path.to_owned(), why };
        let size = match fs::metadata(path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(FleetError::Missing(path.to_owned())),
            Err(error) => return Err(unreadable(error)),
        };
        if size > MAX_BYTES {
            return Err(invalid(format!("it has {size} bytes")));
        }
        let fleet: Self =
            serde_json::from_slice(&fs::read(path).map_err(unreadable)?).map_err(|e| invalid(e.to_string()))?;
        if fleet.format != FORMAT {
            return Err(invalid(format!("it has format {}, this release reads {FORMAT}", fleet.format)));
        }
        Ok(fleet)
    }

    /// Writes the file, and that of the metrics, whole: a reader sees the old one or the new one.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub(crate) fn write(&self) -> io::Result<()> {
        let bytes = serde_json::to_vec_pretty(self).map_err(io::Error::other)?;
        write_whole(&self.state.join(FILE), &bytes)?;
        let target = |pop: &PopNode| serde_json::json!({ "targets": [pop.admin], "labels": { "pop": pop.name } });
        let targets = serde_json::Value::from_iter(self.pops.iter().chain(&self.regions).map(target));
        write_whole(&self.state.join(TARGETS), &serde_json::to_vec_pretty(&targets)?)
    }

    /// Removes the files: nothing runs any more.
    pub(crate) fn remove(&self) {
        let _ = fs::remove_file(self.state.join(TARGETS));
        let _ = fs::remove_file(self.state.join(FILE));
    }

    /// The PoP called `name`.
    pub(crate) fn pop(&self, name: &str) -> Option<&PopNode> {
        self.pops.iter().find(|pop| pop.name == name)
    }
}

/// Replaces a file by way of a temporary one beside it, readable by the owner only, durable when this returns.
///
/// # Errors
/// When the folder cannot be written.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let temporary = path.with_extension(format!("tmp-{}", std::process::id()));
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn example(state: &Path) -> Fleet {
        let place = |code: &str| Place {
            code: code.to_owned(),
            city: code.to_uppercase(),
            country: "GB".to_owned(),
            latitude: 51.47,
            longitude: -0.45,
        };
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        Fleet {
            format: FORMAT,
            pid: 1,
            state: state.to_owned(),
            front: address,
            admin: address,
            token_file: state.join("admin.token"),
            distance: true,
            hop_ms: 2.0,
            origin: OriginNode { address, place: place("fra"), pid: Some(2), log: state.join("o"), command: vec![] },
            pops: vec![PopNode {
                name: "lhr".to_owned(),
                address,
                admin: SocketAddr::from(([127, 0, 0, 1], 2)),
                place: place("lhr"),
                origin_rtt_ms: 8.5,
                origin_via: address,
                control_via: address,
                regions: vec![],
                pid: Some(3),
                log: state.join("p"),
                command: vec![],
            }],
            regions: vec![],
        }
    }

    #[test]
    fn the_nearest_state_folder_at_or_above_is_found() {
        let root = tempfile::tempdir().unwrap();
        let state = root.path().join(STATE);
        let deep = root.path().join("functions/hello");
        fs::create_dir_all(&state).unwrap();
        fs::create_dir_all(&deep).unwrap();
        assert!(matches!(Fleet::find(None, &deep), Err(FleetError::Missing(path)) if path.starts_with(&deep)));
        let fleet = example(&state);
        fleet.write().unwrap();
        assert_eq!(Fleet::find(None, &deep).unwrap(), fleet);
        assert!(
            matches!(Fleet::find(Some(&deep), &deep), Err(FleetError::Missing(_))),
            "a named folder is not searched"
        );
        fleet.remove();
        assert!(Fleet::find(None, &deep).is_err());
    }

    #[test]
    fn a_file_that_is_not_a_fleet_is_named() {
        let root = tempfile::tempdir().unwrap();
        for text in ["", "{}", "[1", "{\"format\": 99}"] {
            fs::write(root.path().join(FILE), text).unwrap();
            let error = Fleet::find(Some(root.path()), root.path()).unwrap_err();
            assert!(error.to_string().contains(FILE), "{error}");
        }
        let mut other = example(root.path());
        other.format = 99;
        other.write().unwrap();
        assert!(Fleet::find(Some(root.path()), root.path()).unwrap_err().to_string().contains("format 99"));
    }
}
