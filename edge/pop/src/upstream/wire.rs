//! A connection to an origin, and what was last heard on it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use http::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::origins::Side;
use crate::state::State;

/// Makes connections that are counted.
#[derive(Clone)]
pub(super) struct Dial<C> {
    connector: C,
    state: Arc<State>,
    side: Side,
}

impl<C> Dial<C> {
    pub(super) fn new(connector: C, state: Arc<State>, side: Side) -> Self {
        Self { connector, state, side }
    }
}

impl<C> tower_service::Service<Uri> for Dial<C>
where
    C: tower_service::Service<Uri>,
    C::Future: Send + 'static,
{
    type Response = TokioIo<Wire<TokioIo<C::Response>>>;
    type Error = C::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, C::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), C::Error>> {
        self.connector.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (connecting, state, side) = (self.connector.call(uri), Arc::clone(&self.state), self.side);
        Box::pin(async move {
            let stream = connecting.await?;
            state.origins.counts(side).connections.fetch_add(1, Ordering::Relaxed);
            Ok(TokioIo::new(Wire { stream: TokioIo::new(stream), state, side, heard: Heard::default() }))
        })
    }
}

/// What was last heard on a connection. It comes with each response, and with the error where there is none.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard(Arc<Flags>);

#[derive(Debug, Default)]
struct Flags {
    /// Something came since something was last sent.
    replied: AtomicBool,
    /// Something was sent after a reply.
    reused: AtomicBool,
    condemned: AtomicBool,
}

impl Heard {
    /// Whether the connection had served before, and not a byte came back this time: its other end had most likely closed
    /// it already when the request was sent.
    pub(super) fn nothing_anew(&self) -> bool {
        self.0.reused.load(Ordering::Relaxed) && !self.0.replied.load(Ordering::Relaxed)
    }

    /// Nothing more is read from this connection or written to it: nobody knows where the next response would begin.
    pub(super) fn condemn(&self) {
        self.0.condemned.store(true, Ordering::Relaxed);
    }

    fn check(&self) -> io::Result<()> {
        let condemned = self.0.condemned.load(Ordering::Relaxed);
        if condemned { Err(io::Error::from(io::ErrorKind::ConnectionAborted)) } else { Ok(()) }
    }

    fn wrote(&self) {
        if self.0.replied.load(Ordering::Relaxed) {
            self.0.reused.store(true, Ordering::Relaxed);
            self.0.replied.store(false, Ordering::Relaxed);
        }
    }
}

/// A connection that counts as long as it is open.
pub(super) struct Wire<S> {
    stream: S,
    state: Arc<State>,
    side: Side,
    heard: Heard,
}

impl<S> Drop for Wire<S> {
    fn drop(&mut self) {
        self.state.origins.counts(self.side).connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<S: Connection> Connection for Wire<S> {
    fn connected(&self) -> Connected {
        self.stream.connected().extra(self.heard.clone())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.heard.check()?;
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.heard.0.replied.store(true, Ordering::Relaxed);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.heard.check()?;
        self.heard.wrote();
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.heard.check()?;
        self.heard.wrote();
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
