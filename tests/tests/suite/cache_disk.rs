//! A PoP's cache on its disk, through sockets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tests::client::try_send;
use tests::lone::HOSTS;
use tests::wire::{Asked, Then};
use tests::{Lone, Scrape, Wire, eventually, get};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const MIB: u64 = 1 << 20;

/// Bodies repeat so many bytes, which differ from path to path: no block of a file is like another.
const PERIOD: usize = 8191;

fn pattern(path: &str) -> Vec<u8> {
    let seed = path.bytes().fold(7u64, |seed, byte| seed.wrapping_mul(31).wrapping_add(u64::from(byte)));
    (0..PERIOD as u64).map(|at| (seed.wrapping_add(at).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect()
}

/// Part of the body at this path.
fn part(path: &str, start: u64, end: u64) -> Vec<u8> {
    let skip = (start % PERIOD as u64) as usize;
    let length = usize::try_from(end - start).unwrap();
    let mut bytes = pattern(path).repeat((skip + length).div_ceil(PERIOD));
    bytes.drain(..skip);
    bytes.truncate(length);
    bytes
}

fn body(path: &str, length: u64) -> Vec<u8> {
    part(path, 0, length)
}

/// The length that a path `/bytes/<length>/<name>` tells.
fn length(path: &str) -> u64 {
    path.split('/').nth(2).and_then(|length| length.parse().ok()).unwrap_or(0)
}

fn answer(asked: &Asked) -> (Vec<u8>, Then) {
    let (path, length) = (asked.target(), length(asked.target()));
    let head =
        format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nCache-Control: max-age=3600\r\nETag: \"1\"\r\n\r\n");
    ([head.into_bytes(), body(path, length)].concat(), Then::Wait)
}

const HOST: (&str, &str) = ("host", HOSTS[1]);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pop_killed_under_load_answers_whole_and_right_from_its_disk_after_that() {
    let origin = Wire::start(answer).await;
    let mut pop = Lone::for_all(origin.address, &[]).await;
    let address = pop.address;
    let paths: Arc<Vec<String>> = Arc::new((0..60).map(|n| format!("/bytes/{}/{n}", n * n * 97)).collect());
    for _ in 0..3 {
        let (stop, right) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let clients: Vec<_> = (0..4)
            .map(|client| {
                let (stop, right, paths) = (Arc::clone(&stop), Arc::clone(&right), Arc::clone(&paths));
                tokio::spawn(async move {
                    for turn in 0.. {
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                        let path = &paths[(client * 17 + turn * 7) % paths.len()];
                        // A connection that the kill broke is no answer.
                        if let Ok(reply) = try_send(address, http::Method::GET, path, &[HOST], "").await {
                            assert!(reply.status == 200 && reply.body == body(path, length(path)), "{path}");
                            right.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                })
            })
            .collect();
        eventually("some are answered", async || right.load(Ordering::Relaxed) > 30).await;
        pop.crash().await;
        let before = right.load(Ordering::Relaxed);
        eventually("some are answered again", async || right.load(Ordering::Relaxed) > before + 30).await;
        stop.store(true, Ordering::Relaxed);
        for client in clients {
            client.await.unwrap();
        }
    }
    pop.crash().await;
    let (asked, mut from_disk) = (origin.seen().len(), 0);
    for path in paths.iter() {
        let reply = get(address, path, &[HOST]).await;
        assert!(reply.body == body(path, length(path)), "{path}");
        from_disk += usize::from(reply.header("cache-status").contains("detail=disk"));
    }
    assert!(from_disk > paths.len() / 2, "{from_disk}");
    assert_eq!(from_disk + origin.seen().len() - asked, paths.len());
}

/// Reads the body of a path, as slowly as it is told, and looks at every byte.
async fn read(address: SocketAddr, path: &str, pause: Option<std::time::Duration>) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", HOSTS[1]);
    stream.write_all(request.as_bytes()).await.unwrap();
    let (mut buffer, mut head, mut position) = (vec![0; 256 << 10], Vec::new(), 0);
    loop {
        let got = stream.read(&mut buffer).await.unwrap();
        if got == 0 {
            break;
        }
        let mut bytes = &buffer[..got];
        if !head.ends_with(b"\r\n\r\n") {
            let end = bytes.windows(4).position(|end| end == b"\r\n\r\n").expect("a short head") + 4;
            head.extend_from_slice(&bytes[..end]);
            bytes = &bytes[end..];
        }
        assert!(bytes == part(path, position, position + bytes.len() as u64), "at {position}");
        position += bytes.len() as u64;
        if let Some(pause) = pause {
            tokio::time::sleep(pause).await;
        }
    }
    assert_eq!(position, length(path), "{path}");
    String::from_utf8(head).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_larger_than_the_memory_of_a_cache_streams_through_a_few_mebibytes() {
    let origin = Wire::start(answer).await;
    let disk = [("--cache", "16MiB"), ("--cache-disk", "2GiB")];
    let mut pop = Lone::for_all(origin.address, &disk).await;
    let path = format!("/bytes/{}/large", 200 * MIB);
    get(pop.address, "/bytes/10/warm", &[HOST]).await;
    let before = pop.resident();
    let slow = tokio::spawn({
        let (address, path) = (pop.address, path.clone());
        async move { read(address, &path, Some(std::time::Duration::from_millis(2))).await }
    });
    let first = read(pop.address, &path, None).await;
    let grown = pop.resident().saturating_sub(before);
    slow.await.unwrap();
    assert!(grown < 48 * MIB, "{} MiB more", grown / MIB);
    assert_eq!(origin.seen().iter().filter(|asked| asked.target() == path).count(), 1, "{first}");
    for restart in [false, true] {
        if restart {
            pop.crash().await;
        }
        let before = pop.resident();
        let again = read(pop.address, &path, None).await;
        assert!(again.contains("hit; ttl=") && again.contains("detail=disk"), "{again}");
        let some = get(pop.address, &path, &[HOST, ("range", "bytes=150000000-150999999")]).await;
        assert_eq!((some.status, some.body.len()), (206, 1_000_000));
        assert!(some.body == part(&path, 150_000_000, 151_000_000));
        let grown = pop.resident().saturating_sub(before);
        assert!(grown < 48 * MIB, "{} MiB more", grown / MIB);
    }
    assert_eq!(origin.seen().iter().filter(|asked| asked.target() == path).count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fails_is_an_alarm_while_memory_serves() {
    let origin = Wire::start(answer).await;
    let admin = tests::free_address();
    let pop = Lone::for_all(origin.address, &[("--admin", &admin.to_string())]).await;
    let authorization = pop.fleet.authorization();
    let scrape = async || {
        let page = get(admin, "/metrics", &[("authorization", &authorization)]).await;
        Scrape::parse(&page.text()).unwrap()
    };
    get(pop.address, "/bytes/1000/a", &[HOST]).await;
    let event = |scrape: &Scrape, event: &str| scrape.sum("skerry_cache_disk_events_total", &[("event", event)]);
    eventually("it is written", async || event(&scrape().await, "written") >= 1.0).await;
    assert!(scrape().await.sum("skerry_cache_disk_bytes", &[]) > 1000.0);
    // Whoever runs as root can write anywhere, but not below what is no folder.
    let temporary = pop.data().join("cache/tmp");
    std::fs::remove_dir_all(&temporary).unwrap();
    std::fs::write(&temporary, "").unwrap();
    get(pop.address, "/bytes/1000/b", &[HOST]).await;
    eventually("it fails", async || scrape().await.sum("skerry_cache_disk_failing", &[]) == 1.0).await;
    for path in ["/bytes/1000/a", "/bytes/1000/b", "/bytes/1000/c", "/bytes/1000/c"] {
        assert!(get(pop.address, path, &[HOST]).await.body == body(path, 1000));
    }
    let asked = origin.seen().iter().filter(|asked| asked.target().starts_with("/bytes")).count();
    assert_eq!(asked, 3, "memory answers");
    // One that memory can't take passes through.
    let large = format!("/bytes/{}/large", 40 * MIB);
    read(pop.address, &large, None).await;
    assert!(event(&scrape().await, "skipped") >= 2.0);
    let log = std::fs::read_to_string(pop.fleet.folder.path().join("lone.log")).unwrap();
    assert_eq!(log.matches("the cache's disk fails").count(), 1, "{log}");
}
