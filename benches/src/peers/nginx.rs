//! nginx with one worker process.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use crate::machine::{Machine, Place};
use crate::program::{Peer, Program};
use crate::server::{Server, free_address};
use crate::{Failure, sources};

/// Debian's nginx.
pub(crate) const NGINX: Peer =
    Peer { name: "nginx", variable: "NGINX", places: &[], version: "-v", install: "apt install nginx-light" };

/// Answers everything with [`sources::BODY`] from its configuration.
///
/// # Errors
/// When it does not start.
pub(crate) async fn hello(machine: &Machine, nginx: &Program, folder: &Path) -> Result<Server, Failure> {
    let body = sources::BODY.trim_end();
    let location = format!(r#"location / {{ default_type text/plain; return 200 "{body}\n"; }}"#);
    start(machine, nginx, folder, "", &location, "/").await
}

/// A cache in front of `origin`.
///
/// # Errors
/// When it does not start, or does not get `path` from the origin.
pub(crate) async fn cache(
    machine: &Machine,
    nginx: &Program,
    folder: &Path,
    origin: SocketAddr,
    path: &str,
) -> Result<Server, Failure> {
    let zone = "proxy_cache_path cache levels=1:2 keys_zone=objects:10m max_size=256m inactive=1h;";
    let location = format!("location / {{ proxy_pass http://{origin}; proxy_cache objects; }}");
    start(machine, nginx, folder, zone, &location, path).await
}

async fn start(
    machine: &Machine,
    nginx: &Program,
    folder: &Path,
    http: &str,
    location: &str,
    path: &str,
) -> Result<Server, Failure> {
    let (folder, address) = (folder.join("nginx"), free_address()?);
    std::fs::create_dir_all(&folder)?;
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary: String = temporary.iter().map(|kind| format!("{kind}_temp_path temporary/{kind}; ")).collect();
    std::fs::create_dir_all(folder.join("temporary"))?;
    // `user` keeps a worker of root's nginx root: only root can enter this folder. For others it does nothing.
    let text = format!(
        "daemon off; user root; worker_processes 1; pid nginx.pid; error_log error.log;
         events {{ worker_connections 1024; }}
         http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000; {temporary}
             {http}
             server {{ listen {address}; {location} }}
         }}\n"
    );
    std::fs::write(folder.join("nginx.conf"), text)?;
    let mut command = Command::new(&nginx.path);
    command.arg("-p").arg(&folder).args(["-c", "nginx.conf", "-e", "error.log"]);
    Server::start(machine, Place::Pinned, command, address, Some(path), &folder.join("output.log")).await
}
