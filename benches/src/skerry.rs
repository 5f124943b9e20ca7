//! Skerry as it runs in a fleet, without a front door and without simulated distances: one origin, and PoPs.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use futures::{TryStreamExt as _, stream};
use origin::bundle::{Asset, Bundle, Digest, FORMAT, FunctionConfig, Module};
use origin::client::Control;

use crate::machine::Place;
use crate::server::{Server, free_address};
use crate::{Bench, Failure, sources};

/// Where a PoP says whether it serves.
const HEALTH: &str = "/.skerry/health";

/// How long a PoP may take to get and try what is deployed.
const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(600);

/// How often a PoP is asked whether it serves.
const READY_EVERY: Duration = Duration::from_millis(20);

/// Uploads at once.
const UPLOADS_AT_ONCE: usize = 8;

/// Variable and value of the admin token.
const TOKEN: (&str, &str) = ("SKERRY_ADMIN_TOKEN", "benches");

/// A PoP, as it differs from one worker on the server's core with the defaults and without an access log.
#[derive(Clone, Debug)]
pub(crate) struct Pop<'a> {
    name: &'a str,
    workers: u32,
    place: Place,
    access_log: bool,
    options: Vec<String>,
    behind: Option<SocketAddr>,
}

impl<'a> Pop<'a> {
    /// One of that name.
    pub(crate) fn named(name: &'a str) -> Self {
        let (options, behind) = (Vec::new(), None);
        Self { name, workers: 1, place: Place::Pinned, access_log: false, options, behind }
    }

    /// With a line in a file for each request: the default of a PoP, which peers do not do.
    pub(crate) fn logging(self) -> Self {
        Self { access_log: true, ..self }
    }

    /// With so many workers, on any core.
    pub(crate) fn workers(self, workers: u32) -> Self {
        Self { workers, place: Place::Anywhere, ..self }
    }

    /// With an option of `skerry pop`, and its value.
    pub(crate) fn with(mut self, option: &[&str]) -> Self {
        self.options.extend(option.iter().map(|&word| word.to_owned()));
        self
    }

    /// With so much memory for cached answers, and none kept on disk where a release would.
    pub(crate) fn keeping(self, bench: &Bench, mib: u64) -> Self {
        let pop = self.with(&["--cache", &format!("{mib}MiB")]);
        if bench.skerry.takes("--cache-disk") { pop.with(&["--cache-disk", "0"]) } else { pop }
    }

    /// In front of another server than the origin that deploys to it.
    pub(crate) fn in_front_of(self, server: SocketAddr) -> Self {
        Self { behind: Some(server), ..self }
    }
}

/// An origin that keeps its objects in memory, and what its PoPs need.
pub(crate) struct Origin<'a> {
    bench: &'a Bench,
    folder: PathBuf,
    admin: String,
    control: Control,
    server: Server,
}

impl<'a> Origin<'a> {
    /// Starts one. Logs, and what PoPs keep, go to `folder`.
    ///
    /// # Errors
    /// When it does not start.
    pub(crate) async fn start(bench: &'a Bench, folder: &Path) -> Result<Self, Failure> {
        let (address, admin) = (free_address()?, free_address()?);
        let mut command = Command::new(&bench.skerry.path);
        command.env(TOKEN.0, TOKEN.1).args(["origin", "--store", "memory"]);
        command.args(["--listen", &address.to_string(), "--admin", &admin.to_string()]);
        let log = folder.join("origin.log");
        let server = Server::start(&bench.machine, Place::Anywhere, command, address, None, &log).await?;
        let admin = format!("http://{admin}");
        let control = Control::new(admin.parse()?, TOKEN.1);
        Ok(Self { bench, folder: folder.to_owned(), admin, control, server })
    }

    /// Where other caches find it.
    pub(crate) fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// Requests that it has answered so far, those of PoPs for the manifest not counted.
    ///
    /// # Errors
    /// When it does not tell.
    pub(crate) async fn requests(&self) -> Result<u64, Failure> {
        Ok(self.control.stats().await?.requests)
    }

    /// Makes functions live.
    ///
    /// # Errors
    /// When the origin refuses one.
    pub(crate) async fn deploy(&self, functions: &[Bundle]) -> Result<(), Failure> {
        stream::iter(functions.iter().map(Ok::<_, Failure>))
            .try_for_each_concurrent(UPLOADS_AT_ONCE, async |function| {
                let (bytes, version) = function.encode();
                self.control.put_bundle(&version, bytes, None).await?;
                self.control.deploy(&function.name, &version).await?;
                Ok(())
            })
            .await
    }

    /// Makes so many different small functions live.
    ///
    /// # Errors
    /// When the origin refuses one.
    pub(crate) async fn deploy_many(&self, functions: u32) -> Result<(), Failure> {
        let names = (0..functions).map(sources::name);
        self.deploy(&names.map(|name| function(&name, sources::numbered(&name))).collect::<Vec<_>>()).await
    }

    /// Takes functions of [`Self::deploy_many`] away.
    ///
    /// # Errors
    /// When the origin refuses it.
    pub(crate) async fn remove(&self, functions: std::ops::Range<u32>) -> Result<(), Failure> {
        for function in functions {
            self.control.delete(&sources::name(function).parse()?).await?;
        }
        Ok(())
    }

    /// Stores a static file, for the bundles that list it.
    ///
    /// # Errors
    /// When the origin refuses it.
    pub(crate) async fn asset(&self, bytes: Vec<u8>) -> Result<Asset, Failure> {
        let (digest, size) = (Digest::of(&bytes), bytes.len() as u64);
        self.control.put_blob(&digest, bytes).await?;
        let (content_type, cache_control) = ("application/octet-stream".to_owned(), "public, max-age=86400".to_owned());
        Ok(Asset { digest, size, content_type, cache_control })
    }

    /// Starts a PoP. It has what is deployed when this returns. A PoP of the same name that ran before has left it on
    /// disk, as after a restart.
    ///
    /// # Errors
    /// When it does not start, or not with everything.
    pub(crate) async fn pop(&self, pop: &Pop<'_>) -> Result<Server, Failure> {
        let mut server = self.launch(pop)?;
        server.ready(Some(HEALTH), READY_EVERY).await?;
        self.arrived(pop.name).await?;
        Ok(server)
    }

    /// Lets a PoP get and try everything that is deployed, and ends it: the next of that name is as new, and has it all.
    ///
    /// # Errors
    /// As [`Self::pop`].
    pub(crate) async fn fill(&self, name: &str) -> Result<(), Failure> {
        self.pop(&Pop { place: Place::Anywhere, ..Pop::named(name) }).await.map(drop)
    }

    /// As [`Self::fill`], and then removes the code caches that were made: a PoP of that name compiles from source. `false`
    /// when none were made, as by older releases.
    ///
    /// # Errors
    /// As [`Self::pop`], or when they cannot be removed.
    pub(crate) async fn fill_without_code_caches(&self, name: &str) -> Result<bool, Failure> {
        self.fill(name).await?;
        let folder = self.folder.join(name).join("code");
        let Ok(entries) = std::fs::read_dir(&folder) else { return Ok(false) };
        let mut removed = false;
        for entry in entries {
            std::fs::remove_file(entry?.path())?;
            removed = true;
        }
        Ok(removed)
    }

    /// Starts a PoP and does not wait.
    ///
    /// # Errors
    /// When there is no such program.
    pub(crate) fn launch(&self, pop: &Pop<'_>) -> Result<Server, Failure> {
        let address = free_address()?;
        let mut command = Command::new(&self.bench.skerry.path);
        let log = if pop.access_log { "info" } else { "info,access=error" };
        command.env(TOKEN.0, TOKEN.1).env("RUST_LOG", log).args(["pop", "--name", pop.name]);
        command.args(["--workers", &pop.workers.to_string(), "--listen", &address.to_string()]);
        command.args(["--control", &self.admin]);
        command.args(["--origin", &format!("http://{}", pop.behind.unwrap_or(self.server.address))]);
        command.arg("--data").arg(self.folder.join(pop.name)).args(&pop.options);
        let log = self.folder.join(format!("{}.log", pop.name));
        Server::launch(&self.bench.machine, pop.place, command, address, &log)
    }

    /// Waits until a PoP reports the live manifest, which it does once it serves it and has it on disk.
    ///
    /// # Errors
    /// When it does not within ten minutes, or cannot start a function.
    pub(crate) async fn arrived(&self, name: &str) -> Result<(), Failure> {
        let (began, generation) = (Instant::now(), self.control.manifest().await?.generation);
        loop {
            let pops = self.control.pops().await?;
            match pops.iter().find(|pop| pop.name == name && pop.generation == generation) {
                Some(pop) => match pop.failed.iter().next() {
                    Some((function, why)) => return Err(format!("{function} does not start: {why}").into()),
                    None => return Ok(()),
                },
                None if began.elapsed() > ARRIVAL_TIMEOUT => {
                    let waited = ARRIVAL_TIMEOUT.as_secs();
                    return Err(format!("the PoP {name} has not got what is deployed within {waited} s").into());
                }
                None => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }
}

/// A function of one module that answers `/name`.
///
/// # Panics
/// When the name is none.
pub(crate) fn function(name: &str, source: String) -> Bundle {
    let modules = [("index.js".to_owned(), Module { source, source_map: None })].into();
    Bundle { main: Some("index.js".to_owned()), modules, ..bundle(name, &format!("*/{name}")) }
}

/// A static file at the path `/name`: passed through a function when there is its source.
///
/// # Panics
/// When the name is none.
pub(crate) fn object(name: &str, asset: Asset, source: Option<String>) -> Bundle {
    let assets = [(format!("/{name}"), asset)].into();
    let without = bundle(name, &format!("*/{name}"));
    Bundle { assets, ..source.map_or(without, |source| function(name, source)) }
}

/// Everything on every host: straight to the cache, or passed through a function when there is its source. `asset` is there
/// because a project has something.
///
/// # Panics
/// When the name is none.
pub(crate) fn everything(name: &str, asset: Asset, source: Option<String>) -> Bundle {
    let mut bundle = object(name, asset, source);
    bundle.config.routes = vec!["*/*".parse().expect("the route is written here")];
    bundle
}

fn bundle(name: &str, route: &str) -> Bundle {
    let routes = vec![route.parse().expect("the route is written here")];
    Bundle {
        format: FORMAT,
        name: name.parse().expect("the name is written here"),
        main: None,
        modules: Default::default(),
        config: FunctionConfig { routes, ..FunctionConfig::default() },
        assets: Default::default(),
    }
}
