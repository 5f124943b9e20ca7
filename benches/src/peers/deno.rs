//! `deno serve`, with one function, or with a Deno `Worker` for each of many.

use std::path::Path;
use std::process::Command;

use crate::machine::{Machine, Place};
use crate::program::{Peer, Program};
use crate::server::{Server, free_address};
use crate::{Failure, sources};

/// Deno from npm.
pub(crate) const DENO: Peer = Peer {
    name: "deno",
    variable: "DENO",
    packages: &["@deno/linux-x64-glibc/deno", "@deno/linux-arm64-glibc/deno"],
    version: "--version",
    install: "make peers",
};

/// Deno loads no functions by itself. This is the nearest to it: a `Worker`, which is an isolate and a thread with all of
/// Deno in it, started by the first request and asked by messages.
const WORKERS: &str = r#"
const source = Deno.readTextFileSync(new URL("source", import.meta.url));
const WORKERS = new Map();
const script = (text) => URL.createObjectURL(new Blob([text], { type: "application/javascript" }));
function start(name) {
  const worker = new Worker(script(`
    import handler from ${JSON.stringify(script(@MODULE@))};
    onmessage = async ({ data }) => {
      const response = await handler.fetch(new Request(data.url));
      postMessage({ id: data.id, body: await response.text() });
    };
  `), { type: "module" });
  const waiting = new Map();
  worker.onmessage = ({ data }) => {
    waiting.get(data.id).resolve(data.body);
    waiting.delete(data.id);
  };
  worker.onerror = (event) => {
    event.preventDefault();
    waiting.forEach(({ reject }) => reject(new Error(event.message)));
  };
  let next = 0;
  return (url) => new Promise((resolve, reject) => {
    waiting.set(next, { resolve, reject });
    worker.postMessage({ id: next++, url });
  });
}
export default {
  async fetch(request) {
    const name = new URL(request.url).pathname.slice(1);
    let ask = WORKERS.get(name);
    if (!ask) WORKERS.set(name, ask = start(name));
    return new Response(await ask(request.url));
  },
};
"#;

/// Answers everything with the function of this source. `name` is one of `folder` that nothing else has.
///
/// # Errors
/// When it does not start.
pub(crate) async fn serve(
    machine: &Machine,
    deno: &Program,
    folder: &Path,
    name: &str,
    source: &str,
) -> Result<Server, Failure> {
    start(machine, deno, folder, name, source, None).await
}

/// The same with so many processes of JavaScript on any core.
///
/// # Errors
/// When it does not start.
pub(crate) async fn serve_parallel(
    machine: &Machine,
    deno: &Program,
    folder: &Path,
    name: &str,
    source: &str,
    workers: u32,
) -> Result<Server, Failure> {
    start(machine, deno, folder, name, source, Some(workers)).await
}

/// Answers `/anything` with the function that [`sources::numbered`] makes of the name `anything`, each in a `Worker`.
///
/// # Errors
/// When it does not start.
pub(crate) async fn workers(machine: &Machine, deno: &Program, folder: &Path) -> Result<Server, Failure> {
    load(machine, deno, folder, &sources::numbered("NAME"), r#"source.replace("NAME", name)"#).await
}

/// Answers `/anything` with a function of this source, each in a `Worker` and different by its first line.
///
/// # Errors
/// When it does not start.
pub(crate) async fn big_workers(
    machine: &Machine,
    deno: &Program,
    folder: &Path,
    source: &str,
) -> Result<Server, Failure> {
    load(machine, deno, folder, source, r"`// This is ${name}.\n` + source").await
}

async fn load(machine: &Machine, deno: &Program, folder: &Path, source: &str, module: &str) -> Result<Server, Failure> {
    const NAME: &str = "deno-workers";
    std::fs::create_dir_all(folder.join(NAME))?;
    std::fs::write(folder.join(NAME).join("source"), source)?;
    start(machine, deno, folder, NAME, &WORKERS.replace("@MODULE@", module), None).await
}

async fn start(
    machine: &Machine,
    deno: &Program,
    folder: &Path,
    name: &str,
    source: &str,
    workers: Option<u32>,
) -> Result<Server, Failure> {
    let (folder, address) = (folder.join(name), free_address()?);
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("index.js"), source)?;
    let mut command = Command::new(&deno.path);
    command.env("DENO_DIR", folder.join("cache")).env("DENO_NO_UPDATE_CHECK", "1").env("NO_COLOR", "1");
    command.args(["serve", "--quiet", "--allow-all", "--no-prompt"]);
    command.args(["--host", &address.ip().to_string(), "--port", &address.port().to_string()]);
    if let Some(workers) = workers {
        command.arg("--parallel").env("DENO_JOBS", workers.to_string());
    }
    command.arg(folder.join("index.js"));
    let place = if workers.is_some() { Place::Anywhere } else { Place::Pinned };
    Server::start(machine, place, command, address, None, &folder.join("output.log")).await
}
