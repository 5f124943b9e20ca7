//! `skerry up`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use ipnet::IpNet;
use isolate::Platform;

use super::jwt;
use super::meter::MeterArgs;
use super::protection::ProtectionArgs;
use crate::deploy;
use crate::output::{Failure, Progress};
use crate::project;
use crate::signals::{self, Input};
use crate::units;
use crate::up::banner::Call;
use crate::up::launch::{self, Settings, Source};
use crate::up::lock::StateLock;
use crate::up::plan::{self, Plan, PopPlan, RegionPlan};
use crate::up::scale::Scaling;

/// Most functions deployed from one folder.
const MAX_FUNCTIONS: usize = 200;

/// Run an origin and PoPs on this machine, with the distances between their cities
///
/// Starts an origin and a process for each PoP, deploys the functions that changed, and prints where everything is.
/// Round trips between client, PoP and origin are made up from the coordinates of their cities: the great circle at two
/// thirds of the speed of light, plus --hop. The front door sends each client to the PoP nearest to it; a client whose
/// place is unknown, like curl on this machine, counts as standing where the first PoP stands.
///
/// A process that crashes is started again after a pause; one that is ended with SIGTERM stays down, and the command that
/// starts it again is printed. Ctrl-C finishes what is under way and ends every process; once more ends them at once.
///
/// A function that was rolled back or deleted stays so until its folder changes, or is deployed.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Up {
    /// Folder for everything that is kept: objects, deployments, token, logs
    #[arg(long, default_value = crate::fleet::STATE, value_name = "FOLDER")]
    state: PathBuf,
    /// Folder whose subfolders with a project file are deployed
    #[arg(long, default_value = "functions", value_name = "FOLDER")]
    functions: PathBuf,
    /// Deploy nothing
    #[arg(long, conflicts_with = "functions")]
    no_functions: bool,
    /// Address of the front door. A port alone is one of 127.0.0.1, port 0 a free one; so with all addresses
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDRESS", value_parser = plan::address)]
    front: SocketAddr,
    /// PoPs: city=port, city=address:port, or city alone for a free port
    #[arg(long, default_value = "lhr=8081,iad=8082,nrt=8083", value_delimiter = ',', value_name = "POP")]
    pops: Vec<PopPlan>,
    /// Address of the origin
    #[arg(long, default_value = "127.0.0.1:8090", value_name = "ADDRESS", value_parser = plan::address)]
    origin: SocketAddr,
    /// City where the origin stands
    #[arg(long, default_value = "fra", value_name = "CITY", value_parser = plan::city)]
    origin_city: middleware::geo::City,
    /// Address of the control and admin API
    #[arg(long, default_value = "127.0.0.1:8091", value_name = "ADDRESS", value_parser = plan::address)]
    admin: SocketAddr,
    /// Leave the round trips out
    #[arg(long)]
    no_distance: bool,
    /// Part of every round trip that does not depend on the distance
    #[arg(long, default_value = "2ms", value_name = "TIME", value_parser = units::duration)]
    hop: Duration,
    /// Worker threads of each PoP [default: the processors shared among the PoPs, at least one each]
    #[arg(long, value_name = "COUNT", value_parser = super::pop::workers)]
    workers: Option<usize>,
    /// Memory of each PoP for cached answers
    #[arg(long, default_value = "256MiB", value_name = "SIZE", value_parser = units::bytes)]
    cache: u64,
    /// Disk of each PoP for cached answers, in its folder of the state; 0 for none
    #[arg(long, default_value = "1GiB", value_name = "SIZE", value_parser = units::bytes)]
    cache_disk: u64,
    /// Memory of each PoP for the isolates of functions; those idle longest go first
    #[arg(long, default_value = "1GiB", value_name = "SIZE", value_parser = units::bytes)]
    isolates: u64,
    /// What stands between functions: isolate, a V8 isolate; or process, around it a process for each tenant that can do
    /// nothing by itself. With isolate, functions whose project file says "isolation": "process" have one
    #[arg(long, value_name = "WALL", default_value_t = pop::Isolation::Isolate)]
    isolation: pop::Isolation,
    /// Networks that functions may fetch from although they are not public, for instance 127.0.0.1/32
    #[arg(long, value_name = "NETWORK", value_delimiter = ',')]
    allow_fetch: Vec<IpNet>,
    /// How many processes PoPs have: a TOML file with a policy for each PoP that is to scale, as in README.md, "Scaling"
    /// [default: one each]
    #[arg(long, value_name = "FILE")]
    scale: Option<PathBuf>,
    #[command(flatten)]
    meter: MeterArgs,
    #[command(flatten)]
    protection: ProtectionArgs,
    /// PoPs of --pops that the others ask instead of the origin, so that it is asked once for all: lhr, or lhr,iad to share
    /// the objects among them [default: none]
    #[arg(long, value_name = "CITY", value_delimiter = ',', value_parser = plan::city)]
    shield: Vec<middleware::geo::City>,
    /// Region nodes beside the PoPs, where functions have bigger limits: a region of AWS like eu-west-1, a city, or NAME=CITY.
    /// A PoP asks the nearest first; what goes there is up to each function's "placement" [default: none]
    #[arg(long, value_name = "REGION", value_delimiter = ',')]
    regions: Vec<RegionPlan>,
    /// Object store of the origin: a folder; `memory`, gone with the origin; or s3://bucket/prefix with the AWS_* variables
    /// for access [default: a folder in the state]
    #[arg(long)]
    store: Option<String>,
    /// Geolocation database in MaxMind's format [default: the built-in country database]
    #[arg(long, value_name = "FILE")]
    geo: Option<PathBuf>,
    /// Print the fleet as JSON when it is ready
    #[arg(long)]
    json: bool,
}

impl Up {
    /// Runs the fleet until SIGINT or SIGTERM.
    ///
    /// # Errors
    /// Why it could not start; nothing is left running then.
    pub(crate) fn run(self) -> Result<(), Failure> {
        let plan = Plan {
            front: self.front,
            origin: self.origin,
            admin: self.admin,
            origin_city: self.origin_city,
            pops: self.pops,
            regions: self.regions,
            hop: (!self.no_distance).then_some(self.hop),
        };
        plan.check().map_err(Failure::Usage)?;
        let shields: Vec<String> = self.shield.iter().map(|city| city.code.to_owned()).collect();
        let is_pop = |shield: &&String| plan.pops.iter().any(|pop| pop.city.code == **shield);
        if let Some(unknown) = shields.iter().find(|shield| !is_pop(shield)) {
            return Err(Failure::Usage(format!("--shield names {unknown}, which is no PoP of --pops")));
        }
        let scaling = self.scale.as_deref().map(|file| Scaling::read(file, &plan)).transpose()?;
        let folders = if self.no_functions { Vec::new() } else { functions(&self.functions)? };
        let lock = StateLock::acquire(&self.state)?;
        // A port in use is worth knowing before functions are built; it is taken for good afterwards.
        drop(plan.clone().reserve()?);
        let functions = build(&folders)?;
        let here = std::env::current_dir()?;
        let share = super::pop::default_workers().div_ceil(plan.pops.len()).max(1);
        let settings = Settings {
            plan,
            store: self.store.map(absolute_store).transpose()?,
            workers: Some(self.workers.unwrap_or(share)),
            cache: self.cache,
            cache_disk: self.cache_disk,
            isolates: self.isolates,
            isolation: self.isolation,
            scaling,
            meter: self.meter.arguments()?,
            protection: self.protection,
            shields,
            allow_fetch: self.allow_fetch,
            geo: self.geo.map(|path| path.canonicalize().map_err(|error| unreadable(&path, &error))).transpose()?,
            call: Call {
                program: std::env::args().next().unwrap_or_else(|| "skerry".to_owned()),
                sign: sign_arguments(&here, &functions),
                here,
            },
            json: self.json,
        };
        let hurry = async || signals::shutdown(Input::Ignored).await;
        super::runtime()?
            .block_on(async { launch::run(settings, lock, functions, signals::shutdown(Input::Ignored), hurry).await })
    }
}

/// What `jwt sign` needs to be told to make a token for the function `auth`, from `here`: its folder, unless that is the
/// one where it looks. `None` when nobody knows the folder.
fn sign_arguments(here: &Path, functions: &[Source]) -> Option<Vec<String>> {
    let found = jwt::example(here);
    let auth = functions.iter().find(|source| source.built.bundle.name.as_str() == "auth").map(|source| &source.folder);
    match (found, auth) {
        (Some(found), Some(auth)) if found.canonicalize().ok() == auth.canonicalize().ok() => Some(Vec::new()),
        (_, Some(auth)) => Some(vec!["--function".to_owned(), auth.to_string_lossy().into_owned()]),
        (found, None) => found.map(|_| Vec::new()),
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::Failed(format!("cannot read {}: {error}", path.display()))
}

/// A folder is made absolute, so that the printed commands work from everywhere.
fn absolute_store(store: String) -> Result<String, Failure> {
    if store.contains("://") || store == "memory" {
        return Ok(store);
    }
    Ok(std::path::absolute(&store)?.to_string_lossy().into_owned())
}

/// The subfolders with a project file, by name.
fn functions(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let entries = std::fs::read_dir(folder).map_err(|error| {
        Failure::Failed(format!(
            "cannot read the folder {}: {error}; name the folder of your functions with --functions, or start without any \
             with --no-functions",
            folder.display()
        ))
    })?;
    let mut folders = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| unreadable(folder, &error))?.path();
        if project::FILE_NAMES.iter().any(|name| path.join(name).is_file()) {
            folders.push(path);
        }
    }
    folders.sort();
    if folders.is_empty() {
        return Err(Failure::Failed(nothing_in(folder)));
    }
    if folders.len() > MAX_FUNCTIONS {
        let (found, folder) = (folders.len(), folder.display());
        return Err(Failure::Failed(format!("{folder} holds {found} functions, at most {MAX_FUNCTIONS} are possible")));
    }
    Ok(folders)
}

/// Says what to do about a folder without functions, which may be a function itself.
fn nothing_in(folder: &Path) -> String {
    let shown = folder.display();
    let project = project::FILE_NAMES.iter().find(|name| folder.join(name).is_file());
    match project {
        Some(name) => format!(
            "{shown} is a function itself, it has a {name}: name the folder around it with --functions, or start with \
             --no-functions and then deploy it: skerry deploy {shown}"
        ),
        None => format!(
            "no subfolder of {shown} has a project file ({}): name the folder of your functions with --functions, or \
             start without any with --no-functions",
            project::FILE_NAMES.join(", ")
        ),
    }
}

/// Builds all functions; the errors of all are said at once.
fn build(folders: &[PathBuf]) -> Result<Vec<Source>, Failure> {
    if folders.is_empty() {
        return Ok(Vec::new());
    }
    let platform = Platform::start();
    let progress = Progress::start("building the functions");
    let (mut functions, mut wrong) = (Vec::<Source>::new(), Vec::new());
    for folder in folders {
        progress.say(format!("building {}", folder.display()));
        match deploy::build(platform, folder, &progress) {
            Ok(built) => functions.push(Source { folder: folder.clone(), built }),
            Err(Failure::Failed(text)) => wrong.push(text),
            Err(other) => return Err(other),
        }
    }
    for (index, source) in functions.iter().enumerate() {
        let name = &source.built.bundle.name;
        if let Some(first) = functions[..index].iter().find(|first| first.built.bundle.name == *name) {
            let (first, second) = (first.folder.display(), source.folder.display());
            wrong.push(format!("{first} and {second} are both called {name:?}: give one of them another \"name\""));
        }
    }
    if wrong.is_empty() { Ok(functions) } else { Err(Failure::Failed(wrong.join("\n"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subfolders_with_a_project_file_are_the_functions() {
        let root = tempfile::tempdir().unwrap();
        for name in ["b", "a", "notes"] {
            std::fs::create_dir(root.path().join(name)).unwrap();
        }
        std::fs::write(root.path().join("b/wrangler.toml"), "").unwrap();
        std::fs::write(root.path().join("a/wrangler.jsonc"), "").unwrap();
        std::fs::write(root.path().join("README.md"), "").unwrap();
        let found = functions(root.path()).unwrap_or_else(|failure| panic!("{failure:?}"));
        assert_eq!(found, [root.path().join("a"), root.path().join("b")]);
        let missing = functions(&root.path().join("none"));
        assert!(matches!(missing, Err(Failure::Failed(text)) if text.contains("--functions")));
        let empty = functions(&root.path().join("notes"));
        assert!(matches!(empty, Err(Failure::Failed(text)) if text.contains("no subfolder of")));
        let itself = functions(&root.path().join("a"));
        assert!(matches!(itself, Err(Failure::Failed(text)) if text.contains("is a function itself")));
    }

    #[test]
    fn a_store_in_a_folder_is_made_absolute_and_memory_or_a_url_is_left_alone() {
        assert!(matches!(absolute_store("memory".to_owned()), Ok(store) if store == "memory"));
        assert!(matches!(absolute_store("s3://b/p".to_owned()), Ok(store) if store == "s3://b/p"));
        assert!(matches!(absolute_store("x".to_owned()), Ok(store) if store.starts_with('/')));
    }
}
