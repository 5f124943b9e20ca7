//! Distance on loopback: a TCP link whose two ends are a round trip apart.
//!
//! A link listens on a free port of 127.0.0.1 and passes every connection on to its target, each direction late by half
//! the round trip. Bytes are stamped when they arrive and delivered in order once their time has come, so a stream keeps
//! its rate and only its latency grows. The kernel finishes the handshake with the link at once, so the link makes up
//! for it: nothing that the client sends leaves before one round trip after the accept, as if it had waited for the
//! answer to its SYN. There is no loss, no bandwidth limit and no slow start: a link is the kindest network of its length.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};

use crate::alarm::{Alarm, Until};

/// Most connections a link carries at once; further ones wait in the listen queue.
pub(crate) const MAX_CONNECTIONS: usize = 4096;

/// Most bytes under way in one direction of one connection. 4 MiB over 250 ms is 16 MiB/s, a good long-haul stream.
pub(crate) const WINDOW_BYTES: usize = 4 << 20;

/// Bytes taken from a socket at a time.
const CHUNK_BYTES: usize = 64 << 10;

/// What a chunk under way counts at least, so that a stream of single bytes is bounded too.
const CHUNK_COST: usize = 64;

/// Pause after an accept that failed (out of descriptors): the loop must not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A running link. Dropping it closes its listener and resets its connections.
#[derive(Debug)]
pub(crate) struct Link {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Link {
    /// Opens a link to `target`, `round_trip` long, on a free loopback port. `alarm` keeps its time.
    ///
    /// # Errors
    /// When no port can be bound.
    pub(crate) async fn open(alarm: &Alarm, target: SocketAddr, round_trip: Duration) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(accept(listener, alarm.clone(), target, round_trip));
        Ok(Self { address, task })
    }

    /// Where to connect instead of the target.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, alarm: Alarm, target: SocketAddr, round_trip: Duration) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let permit = Arc::clone(&permits).acquire_owned().await;
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((client, _)) => {
                let accepted = Instant::now();
                let alarm = alarm.clone();
                connections.spawn(async move {
                    let _permit = permit;
                    carry(client, target, alarm, accepted, round_trip).await;
                });
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// Carries one connection until both directions have ended or one is reset.
async fn carry(mut client: TcpStream, target: SocketAddr, alarm: Alarm, accepted: Instant, round_trip: Duration) {
    let one_way = round_trip / 2;
    alarm.until(accepted + one_way).await;
    let Ok(mut server) = TcpStream::connect(target).await else {
        // The refusal needs the way back, then it is the reset that a client of a dead server sees.
        alarm.until(accepted + round_trip).await;
        reset(&client);
        return;
    };
    // Delay is added by the link alone: Nagle's algorithm would add its own.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (client_in, client_out) = client.split();
    let (server_in, server_out) = server.split();
    let pump = |earliest| Pump { earliest, one_way, due: alarm.until(accepted), line: Line::default() };
    let (there, back) = (pump(accepted + round_trip), pump(accepted));
    let ended = tokio::try_join!(there.run(client_in, server_out), back.run(server_in, client_out));
    if ended.is_err() {
        reset(&client);
        reset(&server);
    }
}

/// Makes the coming close a reset, so that neither side takes a broken stream for a finished one.
fn reset(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}

/// One direction of one connection.
struct Pump {
    /// No byte counts as sent before this.
    earliest: Instant,
    one_way: Duration,
    /// Waits for the first item of the line.
    due: Until,
    line: Line,
}

/// What is under way: a queue in order of sending, bounded in bytes.
#[derive(Default)]
struct Line {
    queue: VecDeque<(Instant, Item)>,
    cost: usize,
}

enum Item {
    Bytes(Bytes),
    End,
    Reset,
}

impl Line {
    fn has_room(&self) -> bool {
        self.cost < WINDOW_BYTES
    }

    fn push(&mut self, due: Instant, item: Item) {
        if let Item::Bytes(bytes) = &item {
            self.cost += bytes.len().max(CHUNK_COST);
        }
        self.queue.push_back((due, item));
    }

    /// Drops `sent` bytes of the first chunk, and the chunk once it is empty.
    fn advance(&mut self, sent: usize) {
        let Some((_, Item::Bytes(bytes))) = self.queue.front_mut() else { return };
        let before = bytes.len().max(CHUNK_COST);
        bytes.advance(sent);
        if bytes.is_empty() {
            self.cost -= before;
            self.queue.pop_front();
        } else {
            self.cost -= before - bytes.len().max(CHUNK_COST);
        }
    }
}

impl Pump {
    /// Moves bytes until the end has been delivered.
    ///
    /// # Errors
    /// When either socket was reset; the time the news needs to travel has passed by then.
    async fn run(mut self, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>) -> io::Result<()> {
        let mut reading = true;
        let mut buffer = BytesMut::new();
        loop {
            let due = self.line.queue.front().map(|(due, _)| *due);
            let ready = due.is_some_and(|due| due <= Instant::now());
            if let Some(due) = due {
                self.due.reset(due);
            }
            if ready {
                match self.line.queue.front() {
                    Some((_, Item::End)) => return to.shutdown().await,
                    Some((_, Item::Reset)) => return Err(io::ErrorKind::ConnectionReset.into()),
                    _ => {}
                }
            }
            buffer.reserve(CHUNK_BYTES);
            tokio::select! {
                read = from.read_buf(&mut buffer), if reading && self.line.has_room() => {
                    let sent = Instant::now().max(self.earliest);
                    let item = match read {
                        Ok(0) => Item::End,
                        Ok(_) => Item::Bytes(buffer.split().freeze()),
                        Err(_) => Item::Reset,
                    };
                    reading = matches!(item, Item::Bytes(_));
                    self.line.push(sent + self.one_way, item);
                }
                () = &mut self.due, if due.is_some() && !ready => {}
                writable = to.writable(), if ready => {
                    if let Err(error) = writable.and_then(|()| self.write(&to)) {
                        // The receiver is gone; the sender hears of it one way later.
                        tokio::time::sleep(self.one_way).await;
                        return Err(error);
                    }
                }
            }
        }
    }

    /// Writes as much of the first chunk as the socket takes now.
    fn write(&mut self, to: &WriteHalf<'_>) -> io::Result<()> {
        let Some((_, Item::Bytes(bytes))) = self.line.queue.front() else { return Ok(()) };
        match to.try_write(bytes) {
            Ok(sent) => self.line.advance(sent),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn pair(round_trip: Duration) -> (Link, TcpStream, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let link = Link::open(&Alarm::start().unwrap(), listener.local_addr().unwrap(), round_trip).await.unwrap();
        let client = TcpStream::connect(link.address()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        (link, client, server)
    }

    #[tokio::test]
    async fn an_answer_takes_the_handshake_and_one_round_trip() {
        let round_trip = Duration::from_millis(80);
        let start = Instant::now();
        let (_link, mut client, mut server) = pair(round_trip).await;
        assert!(start.elapsed() >= round_trip / 2, "the server must not see the client before the SYN has arrived");
        client.write_all(b"ask").await.unwrap();
        let mut ask = [0; 3];
        server.read_exact(&mut ask).await.unwrap();
        assert!(start.elapsed() >= round_trip * 3 / 2);
        server.write_all(b"answer").await.unwrap();
        let mut answer = [0; 6];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!((&ask, &answer), (b"ask", b"answer"));
        assert!(start.elapsed() >= round_trip * 2);
        // A second question on the open connection costs one round trip more.
        client.write_all(b"more").await.unwrap();
        server.read_exact(&mut [0; 4]).await.unwrap();
        server.write_all(b"!").await.unwrap();
        client.read_exact(&mut [0; 1]).await.unwrap();
        assert!(start.elapsed() >= round_trip * 3);
    }

    #[tokio::test]
    async fn bytes_arrive_whole_and_in_order_and_a_half_close_leaves_the_other_half_open() {
        let (_link, mut client, mut server) = pair(Duration::from_millis(10)).await;
        let sent: Vec<u8> = (0..3_000_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let echo = tokio::spawn(async move {
            let mut all = Vec::new();
            server.read_to_end(&mut all).await.unwrap();
            // The client has ended its half; ours still carries everything back.
            server.write_all(&all).await.unwrap();
        });
        let writer = sent.clone();
        let (mut input, mut output) = client.split();
        let mut received = Vec::new();
        let (wrote, read) = tokio::join!(
            async {
                output.write_all(&writer).await?;
                output.shutdown().await
            },
            input.read_to_end(&mut received)
        );
        wrote.unwrap();
        read.unwrap();
        echo.await.unwrap();
        assert!(received == sent, "{} bytes of {} came back, or in another order", received.len(), sent.len());
    }

    #[tokio::test]
    async fn a_receiver_that_does_not_read_stops_the_sender() {
        let (_link, client, _server) = pair(Duration::from_millis(2)).await;
        let chunk = vec![7; 1 << 20];
        let mut taken = 0;
        // Kernel buffers on both sides and the window hold so much; then nothing more is taken, however long we wait.
        while let Ok(ready) = tokio::time::timeout(Duration::from_millis(500), client.writable()).await {
            ready.unwrap();
            taken += client.try_write(&chunk).unwrap_or(0);
            assert!(taken < WINDOW_BYTES + (64 << 20), "the link buffers without bound");
        }
        assert!(taken >= WINDOW_BYTES);
    }

    #[tokio::test]
    async fn a_reset_is_passed_on_as_a_reset() {
        let (_link, mut client, server) = pair(Duration::from_millis(4)).await;
        server.set_zero_linger().unwrap();
        drop(server);
        let error = client.read(&mut [0; 1]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn a_target_that_refuses_resets_the_client() {
        let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap();
        let link = Link::open(&Alarm::start().unwrap(), closed, Duration::from_millis(4)).await.unwrap();
        let mut client = TcpStream::connect(link.address()).await.unwrap();
        let error = client.read(&mut [0; 1]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn dropping_a_link_ends_its_connections() {
        let (link, mut client, mut server) = pair(Duration::from_millis(2)).await;
        drop(link);
        assert!(matches!(client.read(&mut [0; 1]).await, Ok(0) | Err(_)));
        assert!(matches!(server.read(&mut [0; 1]).await, Ok(0) | Err(_)));
    }

    #[test]
    fn a_line_counts_what_is_under_way() {
        let mut line = Line::default();
        let now = Instant::now();
        line.push(now, Item::Bytes(Bytes::from(vec![0; 100])));
        line.push(now, Item::Bytes(Bytes::from_static(b"x")));
        assert_eq!(line.cost, 100 + CHUNK_COST);
        line.advance(30);
        assert_eq!(line.cost, 70 + CHUNK_COST);
        line.advance(50);
        assert_eq!(line.cost, 2 * CHUNK_COST, "a rest counts as much as a small chunk");
        line.advance(20);
        line.advance(1);
        assert_eq!((line.cost, line.queue.len()), (0, 0));
        line.push(now, Item::Bytes(Bytes::from(vec![0; WINDOW_BYTES])));
        assert!(!line.has_room());
    }
}
