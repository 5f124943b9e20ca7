//! Bodies that only pass through: they do not gather in the PoP, however long they are and whoever is slow.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tests::fleet::function;
use tests::{Fleet, Options};

const BODY: u64 = 1_000_000_000;
const CHUNK: &[u8] = &[b'x'; 64 << 10];

/// What the PoP may grow by while it passes bodies on, and what may be under way between two ends of which one does not
/// read. The kernel's own buffers, some MiB for each of two connections, are part of the second.
const GROWTH: u64 = 48 << 20;
const UNDER_WAY: u64 = 64 << 20;

/// An origin of long bodies: it sends [`BODY`] bytes for a GET, and takes as many as come with anything else, or none
/// under `/stuck`.
struct Long {
    address: SocketAddr,
    /// Bytes of bodies that it has sent, and taken.
    sent: Arc<AtomicU64>,
    taken: Arc<AtomicU64>,
}

impl Long {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let long = Self { address: listener.local_addr().unwrap(), sent: Arc::default(), taken: Arc::default() };
        let (sent, taken) = (Arc::clone(&long.sent), Arc::clone(&long.taken));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (sent, taken) = (Arc::clone(&sent), Arc::clone(&taken));
                std::thread::spawn(move || answer(stream, &sent, &taken));
            }
        });
        long
    }
}

fn answer(stream: TcpStream, sent: &AtomicU64, taken: &AtomicU64) -> Option<()> {
    let mut reader = BufReader::with_capacity(CHUNK.len(), stream.try_clone().ok()?);
    let mut stream = stream;
    let head = head(&mut reader);
    if head.starts_with("GET") {
        write!(stream, "HTTP/1.1 200 OK\r\ncache-control: no-store\r\ncontent-length: {BODY}\r\n\r\n").ok()?;
        return give(&mut stream, sent);
    }
    if head.contains("/stuck") {
        std::thread::sleep(Duration::from_secs(60));
        return None;
    }
    take(&mut reader, taken);
    write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").ok()
}

/// Writes a body, as far as the other side takes it.
fn give(stream: &mut TcpStream, sent: &AtomicU64) -> Option<()> {
    while sent.load(Ordering::Relaxed) < BODY {
        let left = usize::try_from(BODY - sent.load(Ordering::Relaxed)).unwrap_or(usize::MAX);
        let written = stream.write(&CHUNK[..left.min(CHUNK.len())]).ok()?;
        sent.fetch_add(written as u64, Ordering::Relaxed);
    }
    Some(())
}

/// Reads a body of [`BODY`] bytes, or what there is of it.
fn take(reader: &mut BufReader<TcpStream>, taken: &AtomicU64) {
    let mut buffer = vec![0; CHUNK.len()];
    while taken.load(Ordering::Relaxed) < BODY {
        match reader.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(read) => taken.fetch_add(read as u64, Ordering::Relaxed),
        };
    }
}

fn head(reader: &mut BufReader<TcpStream>) -> String {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).is_ok_and(|read| read > 0) {}
    head
}

/// A PoP with a function that passes everything on to an origin of long bodies, both ways.
fn passing() -> (Fleet, Long) {
    let long = Long::start();
    let folder = tempfile::tempdir().unwrap();
    let source = format!(
        "export default {{ fetch(request) {{ return fetch('http://{}' + new URL(request.url).pathname, request) }} }}",
        long.address
    );
    let limits = r#""limits": { "request_body_bytes": "1GiB", "response_body_bytes": "1GiB", "wall_ms": 120000 }"#;
    function(&folder.path().join("pass"), limits, &[("index.js", &source)]);
    let options = Options {
        functions: Some(folder.path().to_owned()),
        pops: "lhr=0",
        more: vec!["--allow-fetch".to_owned(), "127.0.0.0/8".to_owned()],
        ..Options::default()
    };
    (Fleet::with(&options), long)
}

/// A request with its head sent, and the reader of its response.
fn ask(fleet: &Fleet, method: &str, path: &str) -> (TcpStream, BufReader<TcpStream>) {
    let mut stream = TcpStream::connect(fleet.pop("lhr")).unwrap();
    let length = if method == "GET" { 0 } else { BODY };
    write!(stream, "{method} {path} HTTP/1.1\r\nhost: h\r\ncontent-length: {length}\r\n\r\n").unwrap();
    let reader = BufReader::with_capacity(CHUNK.len(), stream.try_clone().unwrap());
    (stream, reader)
}

/// What the PoP holds in memory now, and the most that it ever did.
fn resident(fleet: &Fleet) -> (u64, u64) {
    let status = std::fs::read_to_string(format!("/proc/{}/status", fleet.pid("lhr").unwrap())).unwrap();
    let kilobytes = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    };
    (kilobytes("VmRSS:"), kilobytes("VmHWM:"))
}

/// Waits until a count stands still.
fn standing(count: &AtomicU64) -> u64 {
    let mut before = u64::MAX;
    loop {
        let now = count.load(Ordering::Relaxed);
        if now == before && now > 0 {
            return now;
        }
        before = now;
        std::thread::sleep(Duration::from_millis(500));
    }
}

#[test]
fn a_gigabyte_passes_through_both_ways_without_gathering() {
    let (fleet, long) = passing();
    let (before, _) = resident(&fleet);

    let (_stream, mut reader) = ask(&fleet, "GET", "/pass/down");
    assert!(head(&mut reader).starts_with("HTTP/1.1 200"));
    let got = AtomicU64::new(0);
    take(&mut reader, &got);
    assert_eq!(got.into_inner(), BODY);

    let (mut stream, mut reader) = ask(&fleet, "POST", "/pass/up");
    give(&mut stream, &AtomicU64::new(0)).unwrap();
    let answer = head(&mut reader);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(long.taken.load(Ordering::Relaxed), BODY);

    let (_, peak) = resident(&fleet);
    assert!(peak < before + GROWTH, "from {before} to {peak} bytes");
}

#[test]
fn who_does_not_read_holds_up_the_other_side_and_fills_nothing() {
    let (fleet, long) = passing();
    let (before, _) = resident(&fleet);

    let (stream, mut reader) = ask(&fleet, "GET", "/pass/down");
    assert!(head(&mut reader).starts_with("HTTP/1.1 200"));
    let sent = standing(&long.sent);
    assert!(sent < UNDER_WAY, "the origin got rid of {sent} bytes that nobody reads");
    drop((stream, reader));

    let (mut stream, _reader) = ask(&fleet, "POST", "/pass/stuck");
    let given = Arc::new(AtomicU64::new(0));
    let giving = Arc::clone(&given);
    let client = stream.try_clone().unwrap();
    let giver = std::thread::spawn(move || give(&mut stream, &giving));
    let sent = standing(&given);
    assert!(sent < UNDER_WAY, "the client got rid of {sent} bytes that nobody reads");
    client.shutdown(std::net::Shutdown::Both).unwrap();
    giver.join().unwrap();

    let (_, peak) = resident(&fleet);
    assert!(peak < before + GROWTH, "from {before} to {peak} bytes");
}
