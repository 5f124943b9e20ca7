//! A fleet as `skerry up` runs it: front door, origin, PoPs, with or without their distances.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::connection::{Connection, get_with};
use crate::machine::Place;
use crate::process;
use crate::server::{Server, free_address};
use crate::{Bench, Failure};

/// How long it may take until it is ready: building the functions and the first start of each.
const READY_TIMEOUT: Duration = Duration::from_secs(120);

/// A running fleet. Dropped, it is ended.
#[derive(Debug)]
pub(crate) struct Fleet {
    /// `skerry up` itself, which is the front door.
    pub(crate) front: Server,
    state: PathBuf,
    /// The PoPs, in order.
    pub(crate) pops: Vec<Pop>,
}

/// A PoP of it.
#[derive(Clone, Debug)]
pub(crate) struct Pop {
    /// Its city.
    pub(crate) name: String,
    /// Where its metrics are.
    admin: SocketAddr,
    /// The made-up round trip to the origin.
    pub(crate) to_origin: Duration,
}

/// A part of a fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part<'a> {
    /// The PoP of that name.
    Pop(&'a str),
    /// The origin.
    Origin,
}

/// A function's folder.
pub(crate) struct Project {
    /// Its name.
    pub(crate) name: String,
    /// Keys of its project file beside the name, as JSON.
    pub(crate) keys: Value,
    /// Its source; none when it has static files only.
    pub(crate) source: Option<String>,
    /// Static files below `assets`.
    pub(crate) assets: Vec<(String, Vec<u8>)>,
}

impl Project {
    fn write(&self, folder: &Path) -> Result<(), Failure> {
        let folder = folder.join(&self.name);
        std::fs::create_dir_all(&folder)?;
        let mut keys = self.keys.clone();
        keys["name"] = self.name.clone().into();
        keys["compatibility_date"] = "2026-11-24".into();
        if let Some(source) = &self.source {
            keys["main"] = "index.js".into();
            std::fs::write(folder.join("index.js"), source)?;
        }
        for (name, bytes) in &self.assets {
            let path = folder.join("assets").join(name);
            std::fs::create_dir_all(path.parent().unwrap_or(&folder))?;
            std::fs::write(path, bytes)?;
        }
        Ok(std::fs::write(folder.join("wrangler.json"), keys.to_string())?)
    }
}

impl Fleet {
    /// Starts one with these functions and these further options of `skerry up`; its state goes to `folder`.
    ///
    /// # Errors
    /// When it does not start, with the end of what it says.
    pub(crate) async fn start(
        bench: &Bench,
        folder: &Path,
        projects: &[Project],
        options: &[&str],
    ) -> Result<Self, Failure> {
        let (functions, state) = (folder.join("functions"), folder.join("state"));
        for project in projects {
            project.write(&functions)?;
        }
        let mut command = Command::new(&bench.skerry.path);
        command.env("RUST_LOG", "info,access=error").arg("up").args(options);
        command.arg("--functions").arg(&functions).arg("--state").arg(&state);
        let address = free_address()?;
        command.args(["--front", &address.to_string(), "--origin", "0", "--admin", "0"]);
        let front = Server::launch(&bench.machine, Place::Anywhere, command, address, &folder.join("up.log"))?;
        let mut fleet = Self { front, state, pops: Vec::new() };
        fleet.front.ready(Some("/.skerry/health"), Duration::from_millis(100)).await?;
        let began = Instant::now();
        let described = loop {
            match fleet.described() {
                Ok(described) => break described,
                Err(failure) if began.elapsed() > READY_TIMEOUT => return Err(failure),
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        };
        for pop in described["pops"].as_array().into_iter().flatten() {
            let text = |key: &str| pop[key].as_str().unwrap_or_default();
            let to_origin = Duration::from_secs_f64(pop["origin_rtt_ms"].as_f64().unwrap_or(0.0) / 1e3);
            fleet.pops.push(Pop { name: text("name").to_owned(), admin: text("admin").parse()?, to_origin });
        }
        Ok(fleet)
    }

    fn described(&self) -> Result<Value, Failure> {
        let path = self.state.join("fleet.json");
        let bytes = std::fs::read(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        Ok(serde_json::from_slice(&bytes)?)
    }

    /// The process that is this part now; none while it is down.
    pub(crate) fn pid(&self, part: Part<'_>) -> Option<u32> {
        let described = self.described().ok()?;
        let node = match part {
            Part::Origin => &described["origin"],
            Part::Pop(name) => described["pops"].as_array()?.iter().find(|pop| pop["name"] == *name)?,
        };
        let pid = node["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok())?;
        process::runs(pid).then_some(pid)
    }

    /// A metric of a PoP: the sum over those whose labels hold this text.
    ///
    /// # Errors
    /// When the PoP does not tell.
    pub(crate) async fn metric(&self, pop: &Pop, name: &str, label: &str) -> Result<f64, Failure> {
        let token = std::fs::read_to_string(self.state.join("admin.token"))?;
        let fields = [("Authorization", format!("Bearer {}", token.trim())), ("Connection", "close".to_owned())];
        let mut connection = Connection::open(pop.admin).await?;
        let mut body = Vec::new();
        connection.send(&get_with(pop.admin, "/metrics", &fields)).await?;
        connection.receive(async |bytes| body.extend_from_slice(bytes)).await?;
        let text = String::from_utf8_lossy(&body);
        let of = |line: &str| {
            let rest = line.strip_prefix(name)?;
            (rest.starts_with(['{', ' ']) && rest.contains(label))
                .then(|| rest.rsplit(' ').next()?.parse::<f64>().ok())?
        };
        Ok(text.lines().filter_map(of).sum())
    }
}
