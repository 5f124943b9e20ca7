//! An origin that speaks bytes: it answers exactly what a test says, right or wrong, and keeps what it was sent.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// A request as it stood on the wire.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The request line.
    pub line: String,
    /// Field lines, names in lower case.
    pub fields: Vec<(String, String)>,
    /// The body, without the framing of chunks.
    pub body: Vec<u8>,
    /// Why the request is none, when it is none.
    pub wrong: Option<String>,
}

impl Asked {
    /// The lines of a field.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.fields.iter().filter(|(own, _)| own == name).map(|(_, value)| value.as_str()).collect()
    }

    /// A field's first line; empty when it is not there.
    pub fn field(&self, name: &str) -> &str {
        self.all(name).first().copied().unwrap_or_default()
    }

    /// The request target.
    pub fn target(&self) -> &str {
        self.line.split(' ').nth(1).unwrap_or_default()
    }
}

/// What the origin does after the bytes of an answer.
#[derive(Clone, Debug)]
pub enum Then {
    /// Waits for the next request.
    Wait,
    /// Closes the connection.
    Close,
    /// Goes on with these bytes until the other side has enough.
    Repeat(Vec<u8>),
}

/// An answer with its length: a status line without the version, field lines with their ends, and the body.
pub fn answer(status: &str, fields: &str, body: &str) -> (Vec<u8>, Then) {
    let length = body.len();
    (format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{fields}\r\n{body}").into_bytes(), Then::Wait)
}

/// A running server. It ends with the runtime.
#[derive(Clone, Debug)]
pub struct Wire {
    /// Where it listens.
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Asked>>>,
}

impl Wire {
    /// Starts one.
    pub async fn start(answer: impl Fn(&Asked) -> (Vec<u8>, Then) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let wire = Self { address: listener.local_addr().expect("an address"), seen: Arc::default() };
        let (seen, answer) = (Arc::clone(&wire.seen), Arc::new(answer));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
                tokio::spawn(async move { drop(serve(stream, &seen, &*answer).await) });
            }
        });
        wire
    }

    /// What it was asked so far, in order.
    pub fn seen(&self) -> Vec<Asked> {
        self.seen.lock().expect("no panic holds this").clone()
    }
}

async fn serve(
    mut stream: TcpStream,
    seen: &Mutex<Vec<Asked>>,
    answer: &(impl Fn(&Asked) -> (Vec<u8>, Then) + Send + Sync),
) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    loop {
        let (asked, used) = loop {
            if let Some(request) = request(&bytes) {
                break request;
            }
            if stream.read_buf(&mut bytes).await? == 0 {
                return Ok(());
            }
        };
        bytes.drain(..used);
        let (text, then) = answer(&asked);
        let broken = asked.wrong.is_some();
        seen.lock().expect("no panic holds this").push(asked);
        stream.write_all(&text).await?;
        match then {
            Then::Wait if !broken => {}
            Then::Wait | Then::Close => return stream.shutdown().await,
            Then::Repeat(piece) => loop {
                stream.write_all(&piece).await?;
            },
        }
    }
}

/// The first request of these bytes and its length; `None` while it is not whole. Strict: what two readers could
/// understand differently is wrong.
fn request(bytes: &[u8]) -> Option<(Asked, usize)> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let line = lines.next().unwrap_or_default().to_owned();
    let mut wrong = (line.split(' ').count() != 3 || !line.ends_with(" HTTP/1.1")).then(|| format!("line {line:?}"));
    let mut fields = Vec::new();
    for line in lines {
        match line.split_once(':') {
            Some((name, value)) if !name.is_empty() && name.bytes().all(is_token) && !value.contains(control) => {
                fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
            }
            _ => wrong = wrong.or_else(|| Some(format!("field {line:?}"))),
        }
    }
    let mut asked = Asked { line, fields, body: Vec::new(), wrong };
    let (lengths, codings) = (asked.all("content-length"), asked.all("transfer-encoding"));
    let body = match (&lengths[..], &codings[..]) {
        ([], []) => Ok(Some((Vec::new(), 0))),
        ([length], []) if length.bytes().all(|b| b.is_ascii_digit()) => {
            let length = length.parse().unwrap_or(usize::MAX);
            Ok(bytes.get(end + 4..end + 4 + length).map(|body| (body.to_vec(), length)))
        }
        ([], [coding]) if coding.eq_ignore_ascii_case("chunked") => chunks(&bytes[end + 4..]),
        framing => Err(format!("framing {framing:?}")),
    };
    let (body, length) = match body {
        Ok(whole) => whole?,
        Err(why) => {
            asked.wrong = Some(why);
            (Vec::new(), bytes.len() - end - 4)
        }
    };
    if asked.all("host").len() != 1 {
        asked.wrong = Some(format!("Host {:?}", asked.all("host")));
    }
    asked.body = body;
    Some((asked, end + 4 + length))
}

/// A chunked body and its length on the wire; `None` while it is not whole.
pub(crate) fn chunks(bytes: &[u8]) -> Result<Option<(Vec<u8>, usize)>, String> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let Some(line) = bytes[at..].windows(2).position(|two| two == b"\r\n") else { return Ok(None) };
        let size = std::str::from_utf8(&bytes[at..at + line]).unwrap_or("?");
        let size = usize::from_str_radix(size, 16).map_err(|_| format!("chunk of size {size:?}"))?;
        at += line + 2;
        let Some(chunk) = bytes.get(at..at + size + 2) else { return Ok(None) };
        if !chunk.ends_with(b"\r\n") {
            return Err("a chunk longer than its size".to_owned());
        }
        body.extend_from_slice(&chunk[..size]);
        at += size + 2;
        if size == 0 {
            return Ok(Some((body, at)));
        }
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn control(character: char) -> bool {
    character.is_ascii_control() && character != '\t'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<(Option<String>, usize, Vec<u8>)> {
        request(text.as_bytes()).map(|(asked, used)| (asked.wrong, used, asked.body))
    }

    #[test]
    fn a_sound_request_is_taken_with_its_length() {
        let plain = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        assert_eq!(read(&format!("{plain}GET")), Some((None, plain.len(), vec![])));
        let long = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab";
        assert_eq!(read(&format!("{long}rest")), Some((None, long.len(), b"ab".to_vec())));
        let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n";
        assert_eq!(read(&format!("{chunked}rest")), Some((None, chunked.len(), b"ab".to_vec())));
        assert_eq!(read(&long[..long.len() - 1]), None);
        assert_eq!(read(&chunked[..chunked.len() - 1]), None);
    }

    #[test]
    fn what_can_be_understood_in_two_ways_is_refused() {
        for wrong in [
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.0\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +2\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: x, chunked\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: a\nY: b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
        ] {
            assert!(read(wrong).is_some_and(|(wrong, ..)| wrong.is_some()), "{wrong:?} was taken");
        }
    }
}
