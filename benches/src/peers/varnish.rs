//! Varnish as a cache in memory.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use crate::Failure;
use crate::machine::{Machine, Place};
use crate::program::{Peer, Program};
use crate::server::{Server, free_address};

/// Debian's Varnish.
pub(crate) const VARNISH: Peer =
    Peer { name: "varnishd", variable: "VARNISHD", packages: &[], version: "-V", install: "apt install varnish" };

/// A cache in front of `origin`.
///
/// # Errors
/// When it does not start, or does not get `path` from the origin.
pub(crate) async fn cache(
    machine: &Machine,
    varnish: &Program,
    folder: &Path,
    origin: SocketAddr,
    path: &str,
) -> Result<Server, Failure> {
    let (folder, address) = (folder.join("varnish"), free_address()?);
    std::fs::create_dir_all(&folder)?;
    let (host, port) = (origin.ip(), origin.port());
    let vcl = format!("vcl 4.1;\nbackend origin {{ .host = \"{host}\"; .port = \"{port}\"; }}\n");
    std::fs::write(folder.join("cache.vcl"), vcl)?;
    let mut command = Command::new(&varnish.path);
    command.arg("-F").args(["-j", "none"]).arg("-n").arg(folder.join("work")).args(["-a", &address.to_string()]);
    command.arg("-f").arg(folder.join("cache.vcl")).args(["-s", "malloc,256m"]);
    Server::start(machine, Place::Pinned, command, address, Some(path), &folder.join("output.log")).await
}
