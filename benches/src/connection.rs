//! One connection: HTTP/1.1, kept alive, one request at a time; the client's end of it nearly always. Bodies are read to their end.

use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use httparse::{EMPTY_HEADER, Header, Request, Response, Status};
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

/// A response that is looked at, and not only timed.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// Its status.
    pub(crate) status: u16,
    /// What `X-Skerry-Error` says; empty without one.
    pub(crate) error: String,
    /// The first [`KEPT_BYTES`] of its body.
    pub(crate) body: Vec<u8>,
}

/// Bytes of a body that [`Connection::ask`] keeps.
const KEPT_BYTES: usize = 64 << 10;

struct Head {
    status: u16,
    error: String,
    framing: Framing,
}

enum Framing {
    Length(usize),
    Chunked,
}

/// A request without a body.
pub(crate) fn get(address: SocketAddr, path: &str) -> Vec<u8> {
    get_with::<&str>(address, path, &[])
}

/// A request without a body, with these fields.
pub(crate) fn get_with<T: AsRef<str>>(address: SocketAddr, path: &str, fields: &[(&str, T)]) -> Vec<u8> {
    let fields: String = fields.iter().map(|(name, value)| format!("{name}: {}\r\n", value.as_ref())).collect();
    format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n{fields}\r\n").into_bytes()
}

impl Connection {
    /// Connects.
    pub(crate) async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        Self::of(stream)
    }

    /// One that is open: the server's end, too.
    pub(crate) fn of(stream: TcpStream) -> Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: vec![0; BUFFER_BYTES].into(), start: 0, end: 0 })
    }

    /// Reads a request, and its body no faster than `take` takes it: its path. `None` when the client has gone instead. `see`
    /// is shown the fields of its head.
    pub(crate) async fn request(
        &mut self,
        see: impl FnOnce(&[Header<'_>]),
        take: impl AsyncFnMut(&[u8]),
    ) -> Result<Option<String>> {
        loop {
            let mut fields = [EMPTY_HEADER; MAX_FIELDS];
            let mut request = Request::new(&mut fields);
            if let Status::Complete(length) = request.parse(&self.buffer[self.start..self.end]).map_err(broken)? {
                let path = request.path.unwrap_or_default().to_owned();
                let framing = framing(request.headers)?.unwrap_or(Framing::Length(0));
                see(request.headers);
                self.start += length;
                self.body(framing, take).await?;
                return Ok(Some(path));
            }
            match self.fill().await {
                Err(error) if error.kind() == ErrorKind::UnexpectedEof && self.start == self.end => return Ok(None),
                filled => filled?,
            }
        }
    }

    /// Sends a request and reads its response, which must be a 200. `see` is shown the fields of its head.
    pub(crate) async fn exchange(&mut self, request: &[u8], see: impl FnOnce(&[Header<'_>])) -> Result<Took> {
        let began = Instant::now();
        self.send(request).await?;
        self.fill().await?;
        let first_byte = began.elapsed();
        let framing = self.head(see).await?.ok()?;
        self.body(framing, async |_| ()).await?;
        Ok(Took { first_byte, whole: began.elapsed() })
    }

    /// Sends a request and reads its response, whatever that is: its status. `see` is shown the fields of its head.
    pub(crate) async fn look(&mut self, request: &[u8], see: impl FnOnce(&[Header<'_>])) -> Result<u16> {
        self.send(request).await?;
        let Head { status, framing, .. } = self.head(see).await?;
        self.body(framing, async |_| ()).await?;
        Ok(status)
    }

    /// Sends a request and reads its response, whatever that is: its status, its error and its body.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> Result<Answer> {
        self.send(request).await?;
        let Head { status, error, framing } = self.head(|_| ()).await?;
        let mut body = Vec::new();
        self.body(framing, async |bytes| {
            let room = KEPT_BYTES - body.len();
            body.extend_from_slice(&bytes[..bytes.len().min(room)]);
        })
        .await?;
        Ok(Answer { status, error, body })
    }

    /// Sends a request, or a part of one.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Reads a response, which must be a 200; no faster than `take` takes the bytes of its body.
    pub(crate) async fn receive(&mut self, take: impl AsyncFnMut(&[u8])) -> Result<()> {
        let framing = self.head(|_| ()).await?.ok()?;
        self.body(framing, take).await
    }

    async fn body(&mut self, framing: Framing, mut take: impl AsyncFnMut(&[u8])) -> Result<()> {
        match framing {
            Framing::Length(length) => self.skip(length, &mut take).await?,
            Framing::Chunked => self.chunks(&mut take).await?,
        }
        match self.start == self.end {
            true => Ok(()),
            false => Err(broken("there are bytes after the response that no request has asked for")),
        }
    }

    async fn head(&mut self, see: impl FnOnce(&[Header<'_>])) -> Result<Head> {
        loop {
            let mut fields = [EMPTY_HEADER; MAX_FIELDS];
            let mut response = Response::new(&mut fields);
            match response.parse(&self.buffer[self.start..self.end]).map_err(broken)? {
                Status::Complete(length) => {
                    let head = Head {
                        status: response.code.unwrap_or(0),
                        error: field(response.headers, "x-skerry-error").to_owned(),
                        framing: framing(response.headers)?.ok_or_else(|| {
                            broken("the response has no length: its end would be the end of the connection")
                        })?,
                    };
                    see(response.headers);
                    self.start += length;
                    return Ok(head);
                }
                Status::Partial => self.fill().await?,
            }
        }
    }

    async fn chunks(&mut self, take: &mut impl AsyncFnMut(&[u8])) -> Result<()> {
        loop {
            match httparse::parse_chunk_size(&self.buffer[self.start..self.end]).map_err(|_| broken("a bad chunk"))? {
                Status::Complete((line, 0)) => {
                    self.start += line;
                    return self.trailers().await;
                }
                Status::Complete((line, size)) => {
                    let size = usize::try_from(size).map_err(broken)?;
                    self.start += line;
                    self.skip(size, take).await?;
                    self.skip(2, &mut async |_| ()).await?;
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

    async fn skip(&mut self, mut length: usize, take: &mut impl AsyncFnMut(&[u8])) -> Result<()> {
        loop {
            let here = length.min(self.end - self.start);
            take(&self.buffer[self.start..self.start + here]).await;
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

/// The value of a field; empty without one.
pub(crate) fn field<'a>(fields: &'a [Header<'_>], name: &str) -> &'a str {
    let field = fields.iter().find(|field| field.name.eq_ignore_ascii_case(name));
    field.and_then(|field| std::str::from_utf8(field.value).ok()).unwrap_or_default()
}

impl Head {
    /// How the body ends, of a 200.
    fn ok(self) -> Result<Framing> {
        match self.status {
            200 => Ok(self.framing),
            status => Err(broken(format!("the answer is {status} {}, not 200", self.error))),
        }
    }
}

/// How a body ends; `None` when no field says so.
fn framing(fields: &[Header<'_>]) -> Result<Option<Framing>> {
    if field(fields, "transfer-encoding").eq_ignore_ascii_case("chunked") {
        return Ok(Some(Framing::Chunked));
    }
    match field(fields, "content-length") {
        "" => Ok(None),
        length => length
            .parse()
            .map(|length| Some(Framing::Length(length)))
            .map_err(|_| broken("the content length is no number")),
    }
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
            ("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", "is 503"),
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
