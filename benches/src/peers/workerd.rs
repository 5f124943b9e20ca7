//! workerd, with functions in its configuration or loaded when they are asked for.

use std::path::Path;
use std::process::Command;

use crate::machine::{Machine, Place};
use crate::program::{Peer, Program};
use crate::server::{Server, free_address};
use crate::{Failure, sources};

/// workerd from npm: the binary of the platform's package, since that of the package `workerd` may be a script.
pub(crate) const WORKERD: Peer = Peer {
    name: "workerd",
    variable: "WORKERD",
    places: &[
        "node_modules/@cloudflare/workerd-linux-64/bin/workerd",
        "node_modules/@cloudflare/workerd-linux-arm64/bin/workerd",
        ".tools/npm/node_modules/@cloudflare/workerd-linux-64/bin/workerd",
        ".tools/npm/node_modules/@cloudflare/workerd-linux-arm64/bin/workerd",
    ],
    version: "--version",
    install: "npm install --prefix .tools/npm workerd@1.20261117.1",
};

/// The leanest for the peer: later in 2026, dates begin to bring Node.js's modules along, which costs each function half
/// a MiB and its first visitor a millisecond or two.
const COMPATIBILITY_DATE: &str = "2026-01-01";

/// Loads a function when it is first asked for. The source is made in the callback: nothing is read from a disk.
const LOADER: &str = r#"
const SOURCE = `@SOURCE@`;
export default {
  fetch(request, env) {
    const name = new URL(request.url).pathname.slice(1);
    const worker = env.LOADER.get(name, () => ({
      compatibilityDate: "@DATE@",
      mainModule: "index.js",
      modules: { "index.js": SOURCE.replace("NAME", name) },
    }));
    return worker.getEntrypoint().fetch(request);
  },
};
"#;

/// Answers everything with the function of [`sources::hello`].
///
/// # Errors
/// When it does not start.
pub(crate) async fn hello(machine: &Machine, workerd: &Program, folder: &Path) -> Result<Server, Failure> {
    start(machine, workerd, folder, &sources::hello(), "", "/").await
}

/// Answers `/anything` with the function that [`sources::numbered`] makes of the name `anything`, each in an isolate.
///
/// # Errors
/// When it does not start.
pub(crate) async fn loader(machine: &Machine, workerd: &Program, folder: &Path) -> Result<Server, Failure> {
    let bindings = r#"compatibilityFlags = ["experimental"], bindings = [(name = "LOADER", workerLoader = ())],"#;
    let source = LOADER.replace("@SOURCE@", &sources::numbered("NAME").replace('\\', "\\\\"));
    let source = source.replace("@DATE@", COMPATIBILITY_DATE);
    start(machine, workerd, folder, &source, bindings, "/warm-up").await
}

async fn start(
    machine: &Machine,
    workerd: &Program,
    folder: &Path,
    source: &str,
    more: &str,
    path: &str,
) -> Result<Server, Failure> {
    let (folder, address) = (folder.join("workerd"), free_address()?);
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("index.js"), source)?;
    let config = format!(
        r#"using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [(name = "main", worker = .main)],
  sockets = [(name = "http", address = "{address}", http = (), service = "main")],
);
const main :Workerd.Worker = (
  modules = [(name = "index.js", esModule = embed "index.js")],
  compatibilityDate = "{COMPATIBILITY_DATE}",
  {more}
);
"#
    );
    std::fs::write(folder.join("config.capnp"), config)?;
    let mut command = Command::new(&workerd.path);
    command.arg("serve").arg(folder.join("config.capnp")).arg("--experimental");
    Server::start(machine, Place::Pinned, command, address, Some(path), &folder.join("output.log")).await
}
