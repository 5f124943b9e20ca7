//! The connections of a worker, as another thread sees them: should the worker be lost, its clients get an answer.
//!
//! A worker serves its connections alone. All that is shared of one is the socket and how far its request has come: one
//! atomic step when a request was taken in, one when its response begins. Whoever takes the second step, the worker or the
//! one who answers in its place, is the only one who writes.

use std::collections::HashMap;
use std::io::{self, IoSlice, Write as _};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd as _;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use http::{HeaderValue, Method};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::fault::Fault;
use crate::state::State;

/// How far the request of a connection has come. The numbers are what [`Connection::phase`] holds.
mod phase {
    /// No request, or one that has not been taken in.
    pub(super) const IDLE: u8 = 0;
    pub(super) const TAKEN: u8 = 1;
    /// As `TAKEN`, and its response has no body.
    pub(super) const TAKEN_HEAD: u8 = 2;
    /// The response has begun.
    pub(super) const ANSWERED: u8 = 3;
    /// HTTP/2: many requests at a time, so that nobody else can answer one.
    pub(super) const MANY: u8 = 4;
    /// The worker is lost.
    pub(super) const LOST: u8 = 5;
}

/// How HTTP/2 with prior knowledge begins (RFC 9113 section 3.4): with a word that is no method of HTTP/1.
pub(crate) const PREFACE: &[u8; 4] = b"PRI ";
/// Bytes of a request id that are kept for the log.
const ID_BYTES: usize = 32;

/// One client's connection.
pub(crate) struct Connection {
    /// Nobody ever waits for this lock: its worker never runs a function inside it, and others want it only when the
    /// worker is lost.
    stream: Mutex<tokio::net::TcpStream>,
    phase: AtomicU8,
    /// The system did not take all that was written: the end of some response is still to be sent.
    clogged: AtomicBool,
    /// The id of the last request taken in; zeros fill it up.
    request: [AtomicU64; ID_BYTES / 8],
}

impl Connection {
    /// A request was taken in.
    pub(crate) fn take(&self, id: &HeaderValue, method: &Method) {
        if self.phase.load(Ordering::Relaxed) >= phase::MANY {
            return;
        }
        let mut bytes = [0; ID_BYTES];
        let length = id.len().min(ID_BYTES);
        bytes[..length].copy_from_slice(&id.as_bytes()[..length]);
        for (word, bytes) in self.request.iter().zip(bytes.as_chunks().0) {
            word.store(u64::from_ne_bytes(*bytes), Ordering::Relaxed);
        }
        let taken = if *method == Method::HEAD { phase::TAKEN_HEAD } else { phase::TAKEN };
        // Publishes the id. It fails when the worker was given up meanwhile, and then nothing is to be done.
        let _ =
            self.phase.fetch_update(Ordering::Release, Ordering::Relaxed, |now| (now < phase::MANY).then_some(taken));
    }

    /// The response is about to begin. False when the client has had one already, because the worker was given up: then
    /// nothing may be written any more.
    pub(crate) fn answer(&self) -> bool {
        let now = self.phase.load(Ordering::Relaxed);
        if now >= phase::MANY {
            return now == phase::MANY;
        }
        self.phase.compare_exchange(now, phase::ANSWERED, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// The client speaks HTTP/2.
    pub(crate) fn speaks_http2(&self) {
        let idle = phase::IDLE;
        let _ = self.phase.compare_exchange(idle, phase::MANY, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// As [`tokio::net::TcpStream::poll_peek`].
    pub(crate) fn poll_peek(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<usize>> {
        self.stream().poll_peek(cx, buf)
    }

    fn stream(&self) -> MutexGuard<'_, tokio::net::TcpStream> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn request_id(&self) -> Option<String> {
        let bytes: Vec<u8> = self.request.iter().flat_map(|word| word.load(Ordering::Relaxed).to_ne_bytes()).collect();
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        String::from_utf8(bytes[..end].to_vec()).ok().filter(|id| !id.is_empty())
    }

    /// Takes the connection away from its lost worker: a request that has no response gets `fault`, and the connection
    /// ends. `None` when the system has no descriptor left for it.
    fn abandon(&self, state: &State, fault: &Fault) -> Option<Abandoned> {
        let before = self.phase.swap(phase::LOST, Ordering::AcqRel);
        // Its own descriptor: the worker may come back and close the other.
        let socket = std::net::TcpStream::from(self.stream().as_fd().try_clone_to_owned().ok()?);
        // A request that still lies in the socket has had no response, either.
        let mut first = [0; PREFACE.len()];
        let waiting = before == phase::IDLE
            && socket.peek(&mut first).is_ok_and(|seen| seen > 0 && first[..seen] != PREFACE[..seen]);
        let lost = matches!(before, phase::TAKEN | phase::TAKEN_HEAD);
        if (lost || waiting) && !self.clogged.load(Ordering::Relaxed) {
            let id = if lost { self.request_id() } else { None };
            let response = response(state, fault, id.as_deref(), before != phase::TAKEN_HEAD);
            // A few hundred bytes: the socket has room for them, or the client does not read.
            let _ = (&socket).write(&response);
        }
        // Not reading as well would reset the connection if the client still sends, before it has read the answer.
        let _ = socket.shutdown(Shutdown::Write);
        let answered = before == phase::ANSWERED;
        let request = (lost || answered).then(|| self.request_id()).flatten();
        Some(Abandoned { socket, request })
    }
}

/// The response of a worker that cannot write one, in bytes of HTTP/1.
fn response(state: &State, fault: &Fault, id: Option<&str>, with_body: bool) -> Vec<u8> {
    let (head, body) = fault.response(id).into_parts();
    let reason = head.status.canonical_reason().unwrap_or_default();
    let mut text = format!("HTTP/1.1 {} {reason}\r\nconnection: close\r\n", head.status.as_u16()).into_bytes();
    let mut field = |name: &str, value: &[u8]| {
        text.extend_from_slice(&[name.as_bytes(), b": ", value, b"\r\n"].concat());
    };
    for (name, value) in &head.headers {
        field(name.as_str(), value.as_bytes());
    }
    field("x-skerry-pop", state.name_value.as_bytes());
    if let Some(id) = id {
        field("x-request-id", id.as_bytes());
    }
    field("content-length", body.len().to_string().as_bytes());
    text.extend_from_slice(b"\r\n");
    if with_body {
        text.extend_from_slice(&body);
    }
    text
}

/// All connections of one worker.
#[derive(Default)]
pub(crate) struct Connections(Mutex<Open>);

#[derive(Default)]
struct Open {
    next: u64,
    all: HashMap<u64, Arc<Connection>>,
}

/// A connection whose worker is lost.
pub(crate) struct Abandoned {
    socket: TcpStream,
    /// The id of the request that was under way, if one was; those of HTTP/2 are not known.
    pub(crate) request: Option<String>,
}

impl Connections {
    /// A connection that was accepted, until the socket is dropped.
    pub(crate) fn open(self: &Arc<Self>, stream: tokio::net::TcpStream) -> Socket {
        let connection = Arc::new(Connection {
            stream: Mutex::new(stream),
            phase: AtomicU8::new(phase::IDLE),
            clogged: AtomicBool::new(false),
            request: Default::default(),
        });
        let _ = connection.stream().set_nodelay(true);
        let mut open = self.lock();
        open.next += 1;
        let number = open.next;
        open.all.insert(number, Arc::clone(&connection));
        drop(open);
        Socket { connection, number, all: Arc::clone(self) }
    }

    /// Answers in place of the worker, which is lost.
    pub(crate) fn abandon(&self, state: &State, fault: &Fault) -> Vec<Abandoned> {
        let connections: Vec<_> = self.lock().all.drain().map(|(_, connection)| connection).collect();
        connections.iter().filter_map(|connection| connection.abandon(state, fault)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Abandoned {
    /// Ends it for good, once its client has had time to read the answer.
    fn drop(&mut self) {
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

/// A connection as its worker reads and writes it.
pub(crate) struct Socket {
    pub(crate) connection: Arc<Connection>,
    number: u64,
    all: Arc<Connections>,
}

impl Socket {
    fn note(&self, wanted: usize, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        let clogged = !matches!(&polled, Poll::Ready(Ok(written)) if *written == wanted);
        self.connection.clogged.store(clogged, Ordering::Relaxed);
        polled
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let gone = self.all.lock().all.remove(&self.number);
        drop(gone);
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.connection.stream()).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut *self.connection.stream()).poll_write(cx, buf);
        self.note(buf.len(), polled)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut *self.connection.stream()).poll_write_vectored(cx, bufs);
        self.note(bufs.iter().map(|buf| buf.len()).sum(), polled)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A socket has no buffer of its own to flush.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.connection.stream()).poll_shutdown(cx)
    }
}
