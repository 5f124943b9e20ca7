//! A client connection that must begin to speak.
//!
//! hyper bounds the time for the head of a request and pings an idle HTTP/2 connection, but only once it knows which of
//! the two protocols is spoken; for the bytes that tell them apart it would wait for ever.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

/// How an HTTP/2 connection begins (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection whose reads fail when a time is over before its bytes have told the protocol.
pub(super) struct Greeting {
    stream: TcpStream,
    /// The rest of the preface that would make it HTTP/2; empty once the protocol is known.
    preface: &'static [u8],
    timer: Pin<Box<Sleep>>,
}

impl Greeting {
    pub(super) fn new(stream: TcpStream, patience: Duration) -> Self {
        Self { stream, preface: PREFACE, timer: Box::pin(tokio::time::sleep(patience)) }
    }
}

impl AsyncRead for Greeting {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if self.preface.is_empty() {
            return polled;
        }
        let read = &buf.filled()[before..];
        let undecided = read.len() < self.preface.len() && self.preface.starts_with(read);
        self.preface = if undecided { &self.preface[read.len()..] } else { &[] };
        if polled.is_pending() && self.timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        polled
    }
}

impl AsyncWrite for Greeting {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    const PATIENCE: Duration = Duration::from_millis(50);

    /// What a second read brings after the client has sent `first`.
    async fn after(first: &[u8]) -> Option<io::Result<usize>> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut greeting = Greeting::new(listener.accept().await.unwrap().0, PATIENCE);
        client.write_all(first).await.unwrap();
        greeting.read_exact(&mut vec![0; first.len()]).await.unwrap();
        tokio::time::timeout(PATIENCE * 4, greeting.read(&mut [0; 1])).await.ok()
    }

    #[tokio::test]
    async fn a_client_that_does_not_say_what_it_speaks_is_given_up() {
        for silent in [&b""[..], b"P", &PREFACE[..23]] {
            let error = after(silent).await.unwrap().unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{silent:?}");
        }
    }

    #[tokio::test]
    async fn one_that_has_said_it_may_be_silent() {
        for spoken in [&b"G"[..], b"PRI * HTTP/1", PREFACE] {
            assert!(after(spoken).await.is_none(), "{spoken:?}");
        }
    }
}
