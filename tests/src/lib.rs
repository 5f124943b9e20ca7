//! Starts the real thing in one line: `Fleet::start()` is `skerry up` on free ports, in a folder of its own.
//!
//! Everything here panics when it fails: it is for tests and benches, which have nobody to report to but the reader.

pub mod client;
pub mod exposition;
pub mod fleet;
pub mod http_cache_tests;
pub mod lone;
pub mod stub;
pub mod wire;

pub use client::{Reply, get, send};
pub use exposition::Scrape;
pub use fleet::{Fleet, Options, eventually, skerry};
pub use lone::Lone;
pub use stub::Stub;
pub use wire::Wire;

/// An address on the loopback that nobody has, for a process that will listen there in a moment. Its port is below those
/// that the kernel gives to whoever connects (from 32,768), which are many while tests run: none of them may take it meanwhile.
pub fn free_address() -> std::net::SocketAddr {
    use std::hash::BuildHasher as _;
    let candidates = std::iter::repeat_with(|| {
        let port = 10_000 + std::hash::RandomState::new().hash_one(0) % 22_000;
        std::net::SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, u16::try_from(port).unwrap_or(10_000)))
    });
    let mut free = candidates.take(1000).filter(|address| std::net::TcpListener::bind(address).is_ok());
    free.next().expect("a free port")
}
