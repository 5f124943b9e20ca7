//! The client's end of one connection: HTTP/1.1, kept alive, one request at a time. Bodies are read to their end, and
//! nothing of them is kept.

use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use httparse::{EMPTY_HEADER, Header, Response, Status};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Bytes read at once, and the most that a response head may have.
const BUFFER_BYTES: usize = 64 << 10;

/// Most fields of a response head.
const MAX_FIELDS: usize = 32;

/// An open connection.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Box<[u8]>,
    /// What has been read and not used yet is `buffer[start..end]`.
    start: usize,
    end: usize,
}

/// How long a response took, from before the first byte of its request was written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Took {
    /// Until its first byte.
    pub(crate) first_byte: Duration,
    /// Until its last one.
    pub(crate) whole: Duration,
}

enum Framing {
    Length(usize),
    Chunked,
}

/// A request without a body.
pub(crate) fn get(address: SocketAddr, path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n").into_bytes()
}

impl Connection {
    /// Connects.
    pub(crate) async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: vec![0; BUFFER_BYTES].into(), start: 0, end: 0 })
    }

    /// Sends a request and reads its response, which must be a 200. `see` is shown the fields of its head.
    pub(crate) async fn exchange(&mut self, request: &[u8], see: impl FnOnce(&[Header<'_>])) -> Result<Took> {
        let began = Instant::now();
        self.stream.write_all(request).await?;
        self.fill().await?;
        let first_byte = began.elapsed();
        match self.head(see).await? {
            Framing::Length(length) => self.skip(length).await?,
            Framing::Chunked => self.chunks().await?,
        }
        if self.start != self.end {
            return Err(broken("there are bytes after the response that no request has asked for"));
        }
        Ok(Took { first_byte, whole: began.elapsed() })
    }

    async fn head(&mut self, see: impl FnOnce(&[Header<'_>])) -> Result<Framing> {
        loop {
            let mut fields = [EMPTY_HEADER; MAX_FIELDS];
            let mut response = Response::new(&mut fields);
            match response.parse(&self.buffer[self.start..self.end]).map_err(broken)? {
                Status::Complete(length) => {
                    let framing = framing(&response)?;
                    see(response.headers);
                    self.start += length;
                    return Ok(framing);
                }
                Status::Partial => self.fill().await?,
            }
        }
    }

    async fn chunks(&mut self) -> Result<()> {
        loop {
            match httparse::parse_chunk_size(&self.buffer[self.start..self.end]).map_err(|_| broken("a bad chunk"))? {
                Status::Complete((line, 0)) => {
                    self.start += line;
                    return self.trailers().await;
                }
                Status::Complete((line, size)) => {
                    let size = usize::try_from(size).map_err(broken)?;
                    self.start += line;
                    self.skip(size + 2).await?;
                }
                Status::Partial => self.fill().await?,
            }
        }
    }

    /// Lines up to an empty one.
    async fn trailers(&mut self) -> Result<()> {
        loop {
            let rest = &self.buffer[self.start..self.end];
            match rest.iter().position(|byte| *byte == b'\n') {
                Some(length) => {
                    let empty = matches!(&rest[..length], b"" | b"\r");
                    self.start += length + 1;
                    if empty {
                        return Ok(());
                    }
                }
                None => self.fill().await?,
            }
        }
    }

    async fn skip(&mut self, mut length: usize) -> Result<()> {
        loop {
            let here = length.min(self.end - self.start);
            self.start += here;
            length -= here;
            if length == 0 {
                return Ok(());
            }
            self.fill().await?;
        }
    }

    /// Reads more, at least one byte.
    async fn fill(&mut self) -> Result<()> {
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        if self.end == self.buffer.len() {
            return Err(broken("a head or line is longer than 64 KiB"));
        }
        match self.stream.read(&mut self.buffer[self.end..]).await? {
            0 => Err(Error::new(ErrorKind::UnexpectedEof, "the server has closed the connection")),
            read => {
                self.end += read;
                Ok(())
            }
        }
    }
}

fn framing(response: &Response<'_, '_>) -> Result<Framing> {
    if response.code != Some(200) {
        let (code, reason) = (response.code.unwrap_or(0), response.reason.unwrap_or(""));
        return Err(broken(format!("the answer is {code} {reason}, not 200")));
    }
    for field in response.headers.iter() {
        if field.name.eq_ignore_ascii_case("content-length") {
            let length = std::str::from_utf8(field.value).ok().and_then(|text| text.parse().ok());
            return length.map(Framing::Length).ok_or_else(|| broken("the content length is no number"));
        }
        if field.name.eq_ignore_ascii_case("transfer-encoding") && field.value.eq_ignore_ascii_case(b"chunked") {
            return Ok(Framing::Chunked);
        }
    }
    Err(broken("the response has no length: its end would be the end of the connection"))
}

fn broken(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Exchanges once with a server that answers `answer` in pieces of `size` bytes; how often `see` was called.
    async fn exchange(answer: &'static str, size: usize) -> Result<usize> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let server = async {
            let (mut stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let mut request = [0; 1024];
            assert!(stream.read(&mut request).await? > 0);
            for piece in answer.as_bytes().chunks(size) {
                stream.write_all(piece).await?;
                tokio::task::yield_now().await;
            }
            Ok(())
        };
        let client = async {
            let mut seen = 0;
            let mut connection = Connection::open(address).await?;
            connection.exchange(&get(address, "/"), |fields| seen += fields.len()).await?;
            Ok(seen)
        };
        let (served, seen): (Result<()>, Result<usize>) = tokio::join!(server, client);
        served.and(seen)
    }

    #[tokio::test]
    async fn responses_are_read_to_their_end_however_they_arrive() {
        let chunked =
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1;x=y\r\n!\r\n0\r\nA: b\r\n\r\n";
        for (answer, fields) in [("HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 5\r\n\r\nhello", 2), (chunked, 1)] {
            for size in [1, 7, 1000] {
                assert_eq!(exchange(answer, size).await.unwrap(), fields, "{answer:?} in pieces of {size}");
            }
        }
    }

    #[tokio::test]
    async fn an_answer_that_is_not_what_is_measured_is_an_error() {
        for (answer, why) in [
            ("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", "503 Busy"),
            ("HTTP/1.1 200 OK\r\n\r\nhello", "no length"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", "closed"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhello", "no request has asked for"),
            ("SMTP", "invalid"),
        ] {
            let error = exchange(answer, 1000).await.unwrap_err().to_string();
            assert!(error.contains(why), "{answer:?}: {error}");
        }
    }
}
