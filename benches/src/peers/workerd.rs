//! workerd, with functions in its configuration or loaded when they are asked for.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::machine::{Machine, Place};
use crate::program::{Peer, Program};
use crate::server::{Server, free_address};
use crate::{Failure, sources};

/// workerd from npm.
pub(crate) const WORKERD: Peer = Peer {
    name: "workerd",
    variable: "WORKERD",
    packages: &["@cloudflare/workerd-linux-64/bin/workerd", "@cloudflare/workerd-linux-arm64/bin/workerd"],
    version: "--version",
    install: "make peers",
};

/// The leanest for the peer: later in 2026, dates begin to bring Node.js's modules along, which costs each function half
/// a MiB and its first visitor a millisecond or two.
const COMPATIBILITY_DATE: &str = "2026-01-01";

/// Loads a function when it is first asked for. The source is in memory already: nothing is read from a disk.
const LOADER: &str = r#"
import source from "source";
export default {
  fetch(request, env) {
    const name = new URL(request.url).pathname.slice(1);
    const worker = env.LOADER.get(name, () => ({
      compatibilityDate: "@DATE@",
      mainModule: "index.js",
      modules: { "index.js": @MODULE@ },
    }));
    return worker.getEntrypoint().fetch(request);
  },
};
"#;

/// Answers everything with the function of this source, which may fetch from any address. `name` is one of `folder` that
/// nothing else has.
///
/// # Errors
/// When it does not start.
pub(crate) async fn serve(
    machine: &Machine,
    workerd: &Program,
    folder: &Path,
    name: &str,
    source: &str,
) -> Result<Server, Failure> {
    let folder = folder.join(name);
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("index.js"), source)?;
    let (address, worker) =
        (free_address()?, worker("main", r#"(name = "index.js", esModule = embed "index.js")"#, ""));
    let services = r#"(name = "main", worker = .main),
                      (name = "internet", network = (allow = ["public", "private", "local"]))"#;
    let command = configure(workerd, &folder, address, services, &worker)?;
    Server::start(machine, Place::Pinned, command, address, None, &folder.join("output.log")).await
}

/// Answers `/anything` with the function that [`sources::numbered`] makes of the name `anything`, each in an isolate.
///
/// # Errors
/// When it does not start.
pub(crate) async fn loader(machine: &Machine, workerd: &Program, folder: &Path) -> Result<Server, Failure> {
    let module = r#"source.replace("NAME", name)"#;
    load(machine, workerd, folder, &sources::numbered("NAME"), module).await
}

/// Answers `/anything` with a function of this source, each in an isolate and different by its first line.
///
/// # Errors
/// When it does not start.
pub(crate) async fn big_loader(
    machine: &Machine,
    workerd: &Program,
    folder: &Path,
    source: &str,
) -> Result<Server, Failure> {
    load(machine, workerd, folder, source, r"`// This is ${name}.\n` + source").await
}

async fn load(
    machine: &Machine,
    workerd: &Program,
    folder: &Path,
    source: &str,
    module: &str,
) -> Result<Server, Failure> {
    let folder = folder.join("workerd-loader");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("index.js"), LOADER.replace("@MODULE@", module).replace("@DATE@", COMPATIBILITY_DATE))?;
    std::fs::write(folder.join("source"), source)?;
    let modules = r#"(name = "index.js", esModule = embed "index.js"), (name = "source", text = embed "source")"#;
    let bindings = r#"compatibilityFlags = ["experimental"], bindings = [(name = "LOADER", workerLoader = ())],"#;
    let (address, worker) = (free_address()?, worker("main", modules, bindings));
    let command = configure(workerd, &folder, address, r#"(name = "main", worker = .main)"#, &worker)?;
    Server::start(machine, Place::Pinned, command, address, Some("/warm-up"), &folder.join("output.log")).await
}

/// Starts one with so many functions, each a service of its configuration, and does not wait. It answers everything with
/// the first.
///
/// # Errors
/// When there is no such program.
pub(crate) fn launch_many(
    machine: &Machine,
    workerd: &Program,
    folder: &Path,
    functions: u32,
) -> Result<Server, Failure> {
    let folder = folder.join(format!("workerd-{functions}"));
    std::fs::create_dir_all(&folder)?;
    let (mut services, mut workers) = (String::new(), String::new());
    for (number, name) in (0..functions).map(|number| (number, sources::name(number))) {
        let service = if number == 0 { "main".to_owned() } else { name.clone() };
        std::fs::write(folder.join(format!("{name}.js")), sources::numbered(&name))?;
        write!(services, r#"(name = "{service}", worker = .worker{number}), "#)?;
        let module = format!(r#"(name = "index.js", esModule = embed "{name}.js")"#);
        workers += &worker(&format!("worker{number}"), &module, "");
    }
    let address = free_address()?;
    let command = configure(workerd, &folder, address, services.trim_end_matches(", "), &workers)?;
    Server::launch(machine, Place::Pinned, command, address, &folder.join("output.log"))
}

fn worker(name: &str, modules: &str, more: &str) -> String {
    format!(
        "const {name} :Workerd.Worker = (
  modules = [{modules}],
  compatibilityDate = \"{COMPATIBILITY_DATE}\",
  {more}
);
"
    )
}

/// Writes a configuration that serves the service `main`, and makes the command that runs it.
fn configure(
    workerd: &Program,
    folder: &Path,
    address: SocketAddr,
    services: &str,
    workers: &str,
) -> Result<Command, Failure> {
    let text = format!(
        r#"using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [{services}],
  sockets = [(name = "http", address = "{address}", http = (), service = "main")],
);
{workers}"#
    );
    let file: PathBuf = folder.join("config.capnp");
    std::fs::write(&file, text)?;
    let mut command = Command::new(&workerd.path);
    command.arg("serve").arg(file).arg("--experimental");
    Ok(command)
}
