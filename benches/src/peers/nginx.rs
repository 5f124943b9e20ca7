//! nginx, with one worker process unless more are asked for.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use super::Caching;
use crate::machine::{Machine, Place};
use crate::program::{Peer, Program};
use crate::server::{Server, free_address};
use crate::{Failure, sources};

/// Debian's nginx.
pub(crate) const NGINX: Peer =
    Peer { name: "nginx", variable: "NGINX", packages: &[], version: "-v", install: "apt install nginx-light" };

/// Answers everything with [`sources::BODY`] from its configuration.
///
/// # Errors
/// When it does not start.
pub(crate) async fn hello(machine: &Machine, nginx: &Program, folder: &Path) -> Result<Server, Failure> {
    start(machine, nginx, folder, Setting { location: &location(), ..Setting::default() }).await
}

/// The same with so many worker processes on any core.
///
/// # Errors
/// When it does not start.
pub(crate) async fn hello_parallel(
    machine: &Machine,
    nginx: &Program,
    folder: &Path,
    workers: u32,
) -> Result<Server, Failure> {
    start(machine, nginx, folder, Setting { workers, location: &location(), ..Setting::default() }).await
}

fn location() -> String {
    let body = sources::BODY.trim_end();
    format!(r#"location / {{ default_type text/plain; return 200 "{body}\n"; }}"#)
}

/// A cache in front of `origin`, set up as its manual advises: it asks whether what is stale is still right, once for all
/// who want it, over connections that are kept.
///
/// # Errors
/// When it does not start, or does not get `path` from the origin.
pub(crate) async fn cache(
    machine: &Machine,
    nginx: &Program,
    folder: &Path,
    origin: SocketAddr,
    path: &str,
    caching: Caching,
) -> Result<Server, Failure> {
    let Caching { workers, mib } = caching;
    let http = format!(
        "proxy_cache_path cache levels=1:2 keys_zone=objects:64m max_size={mib}m inactive=1h;
         upstream origin {{ server {origin}; keepalive 64; keepalive_requests 1000000000; }}"
    );
    let location = r#"location / { proxy_pass http://origin; proxy_cache objects; proxy_cache_revalidate on;
                      proxy_cache_lock on; proxy_http_version 1.1; proxy_set_header Connection ""; }"#;
    start(machine, nginx, folder, Setting { workers, http: &http, location, path }).await
}

/// Passes everything on to `origin`, over connections that are kept, and sets a field of the answer to one of the request.
///
/// # Errors
/// When it does not start, or gets nothing from the origin.
pub(crate) async fn proxy(
    machine: &Machine,
    nginx: &Program,
    folder: &Path,
    origin: SocketAddr,
) -> Result<Server, Failure> {
    let http = format!("upstream origin {{ server {origin}; keepalive 64; keepalive_requests 1000000000; }}");
    let location = r#"location / { proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection "";
                      add_header X-Answers $http_x_name; }"#;
    start(machine, nginx, folder, Setting { http: &http, location, ..Setting::default() }).await
}

struct Setting<'a> {
    workers: u32,
    http: &'a str,
    location: &'a str,
    path: &'a str,
}

impl Default for Setting<'_> {
    fn default() -> Self {
        Self { workers: 1, http: "", location: "", path: "/" }
    }
}

async fn start(machine: &Machine, nginx: &Program, folder: &Path, setting: Setting<'_>) -> Result<Server, Failure> {
    let Setting { workers, http, location, path } = setting;
    let (folder, address) = (folder.join(format!("nginx-{workers}")), free_address()?);
    std::fs::create_dir_all(&folder)?;
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary: String = temporary.iter().map(|kind| format!("{kind}_temp_path temporary/{kind}; ")).collect();
    std::fs::create_dir_all(folder.join("temporary"))?;
    // `user` keeps a worker of root's nginx root: only root can enter this folder. For others it does nothing. With more
    // than one worker each has its own queue of connections: else one of them takes most.
    let reuseport = if workers > 1 { "reuseport" } else { "" };
    let text = format!(
        "daemon off; user root; worker_processes {workers}; pid nginx.pid; error_log error.log;
         events {{ worker_connections 1024; }}
         http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000; {temporary}
             {http}
             server {{ listen {address} {reuseport}; {location} }}
         }}\n"
    );
    std::fs::write(folder.join("nginx.conf"), text)?;
    let mut command = Command::new(&nginx.path);
    command.arg("-p").arg(&folder).args(["-c", "nginx.conf", "-e", "error.log"]);
    let place = if workers > 1 { Place::Anywhere } else { Place::Pinned };
    Server::start(machine, place, command, address, Some(path), &folder.join("output.log")).await
}
