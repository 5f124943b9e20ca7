//! A connection that ends when nothing moves on it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// How often a silent connection is looked at, at most: what waits for one wakes up that often.
pub const TICK: Duration = Duration::from_secs(10);

/// A connection whose reads and writes fail with [`io::ErrorKind::TimedOut`] once neither has moved a byte for a while.
///
/// hyper bounds the time for a request's head, but neither the time to the first byte of a connection, nor that of a
/// body that stalls, nor that of a reader who never takes the response. Put it around the accepted stream, below hyper:
/// `TokioIo::new(Patient::new(stream, patience))`. The patience must be longer than the longest time for which a request
/// may rightly wait in silence. Pings of HTTP/2 are bytes, so a server that sends them never loses patience.
///
/// Silence is counted in ticks, so that a byte that moves costs no look at a clock; it lasts up to two ticks longer than
/// the patience before it is ended. Needs a Tokio runtime with time enabled.
#[derive(Debug)]
pub struct Patient<S> {
    stream: S,
    patience: Duration,
    tick: Duration,
    /// Ticks that have passed since a byte moved.
    silence: Duration,
    timer: Pin<Box<Sleep>>,
}

impl<S> Patient<S> {
    /// A connection over `stream` that ends after this time without a byte in either direction.
    pub fn new(stream: S, patience: Duration) -> Self {
        let tick = TICK.min(patience / 4);
        Self { stream, patience, tick, silence: Duration::ZERO, timer: Box::pin(tokio::time::sleep(tick)) }
    }

    /// What the caller gets: progress is noted, and waiting ends when patience does.
    fn judge<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.silence = Duration::ZERO;
            return polled;
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            // The first tick may have begun long before the silence did.
            if self.silence > self.patience {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            self.silence += self.tick;
            self.timer.as_mut().reset(Instant::now() + self.tick);
        }
        Poll::Pending
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.judge(cx, polled)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.judge(cx, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.judge(cx, polled)
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (client, listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn a_silent_client_is_given_up() {
        let (_client, server) = pair().await;
        let mut patient = Patient::new(server, Duration::from_millis(20));
        let error = patient.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_client_that_never_reads_is_given_up() {
        let (_client, server) = pair().await;
        let mut patient = Patient::new(server, Duration::from_millis(20));
        let error = patient.write_all(&vec![0; 64 << 20]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn bytes_pass_both_ways() {
        let (mut client, server) = pair().await;
        let mut patient = Patient::new(server, Duration::from_secs(60));
        client.write_u8(7).await.unwrap();
        assert_eq!(patient.read_u8().await.unwrap(), 7);
        patient.write_u8(8).await.unwrap();
        assert_eq!(client.read_u8().await.unwrap(), 8);
    }
}
