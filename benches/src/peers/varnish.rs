//! Varnish as a cache in memory.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use super::Caching;
use crate::Failure;
use crate::machine::{Machine, Place};
use crate::program::{Peer, Program};
use crate::server::{Server, free_address};

/// Debian's Varnish.
pub(crate) const VARNISH: Peer =
    Peer { name: "varnishd", variable: "VARNISHD", packages: &[], version: "-V", install: "apt install varnish" };

/// A cache in front of `origin` that sends nothing that is stale, and keeps it to ask whether it is still right.
///
/// # Errors
/// When it does not start, or does not get `path` from the origin.
pub(crate) async fn cache(
    machine: &Machine,
    varnish: &Program,
    folder: &Path,
    origin: SocketAddr,
    path: &str,
    caching: Caching,
) -> Result<Server, Failure> {
    let (folder, address) = (folder.join("varnish"), free_address()?);
    std::fs::create_dir_all(&folder)?;
    let (host, port) = (origin.ip(), origin.port());
    let vcl = format!("vcl 4.1;\nbackend origin {{ .host = \"{host}\"; .port = \"{port}\"; }}\n");
    std::fs::write(folder.join("cache.vcl"), vcl)?;
    let mut command = Command::new(&varnish.path);
    command.arg("-F").args(["-j", "none"]).arg("-n").arg(folder.join("work")).args(["-a", &address.to_string()]);
    command.arg("-f").arg(folder.join("cache.vcl")).args(["-s", &format!("malloc,{}m", caching.mib)]);
    command.args(["-p", "default_grace=0", "-p", "default_keep=3600"]);
    let place = if caching.workers > 1 { Place::Anywhere } else { Place::Pinned };
    Server::start(machine, place, command, address, Some(path), &folder.join("output.log")).await
}
