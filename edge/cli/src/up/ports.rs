//! The addresses of a fleet, all taken before anything starts.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};

/// An address somebody asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// The address; port 0 stands for a free one.
    pub address: SocketAddr,
    /// What will listen there (`PoP lhr`).
    pub what: String,
    /// The flag that changes it.
    pub flag: &'static str,
}

/// An address that is ours until this is dropped or its listener taken.
#[derive(Debug)]
pub(crate) struct Reserved {
    /// Bound and listening.
    pub listener: TcpListener,
    /// Its address, with the port that was chosen.
    pub address: SocketAddr,
}

/// Every address that cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("{}", lines(.0))]
pub(crate) struct PortsError(pub Vec<PortError>);

/// Why an address cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PortError {
    /// Somebody listens there.
    #[error(
        "{} is in use{}: {} needs it; end what listens there or choose another address with {}",
        wanted.address, .by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default(), wanted.what, wanted.flag
    )]
    InUse {
        /// What was asked for.
        wanted: Wanted,
        /// Who has it, when that is cheap to know.
        by: Option<String>,
    },
    /// Two parts of the fleet were given the same address.
    #[error("{} was given to both {other} and {}: choose another address with {}", wanted.address, wanted.what, wanted.flag)]
    Twice {
        /// What was asked for.
        wanted: Wanted,
        /// Who asked first.
        other: String,
    },
    /// It cannot be bound for another reason.
    #[error("{} cannot listen on {}: {source}; choose another address with {}", wanted.what, wanted.address, wanted.flag)]
    Unusable {
        /// What was asked for.
        wanted: Wanted,
        /// Why.
        source: io::Error,
    },
}

fn lines(errors: &[PortError]) -> String {
    let mut text = String::new();
    for (i, error) in errors.iter().enumerate() {
        let _ = write!(text, "{}{error}", if i == 0 { "" } else { "\n" });
    }
    text
}

/// Takes every address, in order, or none.
///
/// # Errors
/// [`PortsError`] with all that cannot be had.
pub(crate) fn reserve(wanted: &[Wanted]) -> Result<Vec<Reserved>, PortsError> {
    let mut seen: HashMap<SocketAddr, &str> = HashMap::new();
    let mut reserved = Vec::new();
    let mut errors = Vec::new();
    for wanted in wanted {
        if wanted.address.port() != 0
            && let Some(other) = seen.insert(wanted.address, &wanted.what)
        {
            errors.push(PortError::Twice { wanted: wanted.clone(), other: other.to_owned() });
            continue;
        }
        let bound = bind(wanted.address).and_then(|listener| {
            let address = listener.local_addr()?;
            Ok(Reserved { listener, address })
        });
        match bound {
            Ok(bound) => reserved.push(bound),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                errors.push(PortError::InUse { by: listener_of(wanted.address), wanted: wanted.clone() });
            }
            Err(source) => errors.push(PortError::Unusable { wanted: wanted.clone(), source }),
        }
    }
    if errors.is_empty() { Ok(reserved) } else { Err(PortsError(errors)) }
}

/// A port of choice is below those that the kernel gives to whoever connects (from 32,768, ip(7)): the address is free for a
/// moment before the process takes it that it is for.
const CHOICE: std::ops::Range<u16> = 10_000..32_000;

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    if address.port() == 0 {
        let chosen = (0..100).map(|_| SocketAddr::new(address.ip(), rand::random_range(CHOICE)));
        if let Some(listener) = chosen.flat_map(TcpListener::bind).next() {
            return Ok(listener);
        }
    }
    TcpListener::bind(address)
}

/// The process that listens on an address, as far as `/proc` shows it to us: `process 123 (nginx)`.
fn listener_of(address: SocketAddr) -> Option<String> {
    let inode = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .find_map(|table| table.lines().skip(1).find_map(|line| listening_inode(line, address).map(str::to_owned)))?;
    let socket = format!("socket:[{inode}]");
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let name = process.file_name();
        let Some(pid) = name.to_str().filter(|name| name.bytes().all(|b| b.is_ascii_digit())) else { continue };
        let Ok(open) = fs::read_dir(process.path().join("fd")) else { continue };
        if open.flatten().any(|fd| fs::read_link(fd.path()).is_ok_and(|link| link.as_os_str() == socket.as_str())) {
            let command = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(format!("process {pid} ({})", command.trim()));
        }
    }
    None
}

/// The inode of a socket table's line when it listens on the address, or on every address with this port.
fn listening_inode(line: &str, address: SocketAddr) -> Option<&str> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
    let (host, port) = local.split_once(':')?;
    let any = host.bytes().all(|b| b == b'0');
    let same = match address.ip() {
        // The kernel prints the address as a number in its own byte order.
        IpAddr::V4(ip) => u32::from_str_radix(host, 16).is_ok_and(|number| number == u32::from_ne_bytes(ip.octets())),
        IpAddr::V6(_) => false,
    };
    let listens = *state == "0A" && u16::from_str_radix(port, 16).is_ok_and(|port| port == address.port());
    (listens && (any || same)).then_some(*inode)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(address: &str, what: &str) -> Wanted {
        Wanted { address: address.parse().unwrap(), what: what.to_owned(), flag: "--pops" }
    }

    #[test]
    fn free_ports_are_chosen_and_all_differ() {
        let all = [wanted("127.0.0.1:0", "a"), wanted("127.0.0.1:0", "b")];
        let reserved = reserve(&all).unwrap();
        assert!(reserved[0].address.port() != 0 && reserved[0].address != reserved[1].address);
    }

    #[test]
    fn an_address_in_use_is_named_with_its_flag_and_its_owner() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let error = reserve(&[wanted(&address.to_string(), "PoP lhr")]).unwrap_err().to_string();
        assert!(
            error.contains(&address.to_string()) && error.contains("--pops") && error.contains("PoP lhr"),
            "{error}"
        );
        #[cfg(target_os = "linux")]
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
    }

    #[test]
    fn every_trouble_is_said_at_once_and_nothing_stays_taken() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let used = taken.local_addr().unwrap().to_string();
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let all =
            [wanted(&free, "front"), wanted(&used, "origin"), wanted(&free, "admin"), wanted("192.0.2.1:80", "far")];
        let error = reserve(&all).unwrap_err();
        assert_eq!(error.0.len(), 3, "{error}");
        assert!(error.to_string().contains("both front and admin"), "{error}");
        TcpListener::bind(free).unwrap();
    }
}
