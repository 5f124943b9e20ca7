//! HTTP as a client sees it: one request, one connection, nothing hidden.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// A response, whole.
#[derive(Debug)]
pub struct Reply {
    /// Status code.
    pub status: u16,
    /// Header fields.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

impl Reply {
    /// A field's value; empty when it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("a header of text"))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }
}

/// `GET path` with these header fields.
pub async fn get(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Reply {
    send(address, Method::GET, path, headers, "").await
}

/// Any request, over a connection of its own.
pub async fn send(
    address: SocketAddr,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Reply {
    try_send(address, method, path, headers, body).await.unwrap_or_else(|error| panic!("{address}{path}: {error}"))
}

/// As [`send`], for servers that may not be there.
///
/// # Errors
/// No connection, or one that broke.
pub async fn try_send(
    address: SocketAddr,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Result<Reply, Box<dyn std::error::Error + Send + Sync>> {
    let stream = tokio::net::TcpStream::connect(address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    collect(sender.send_request(request(address, method, path, headers, body.into())).await?).await
}

/// A request over HTTP/2 with prior knowledge.
pub async fn send_h2(address: SocketAddr, path: &str) -> Reply {
    let mut replies = try_send_h2(address, &[path]).await;
    replies.remove(0).unwrap_or_else(|error| panic!("{address}{path}: {error}"))
}

/// Requests at the same time over one connection of HTTP/2, each with what came of it.
pub async fn try_send_h2(
    address: SocketAddr,
    paths: &[&str],
) -> Vec<Result<Reply, Box<dyn std::error::Error + Send + Sync>>> {
    let stream = tokio::net::TcpStream::connect(address).await.expect("the server listens");
    let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .expect("HTTP/2 is spoken");
    tokio::spawn(connection);
    let asking = paths.iter().map(|path| {
        let mut sender = sender.clone();
        let request = Request::get(format!("http://{address}{path}")).body(Full::new(Bytes::new())).expect("a request");
        async move { collect(sender.send_request(request).await?).await }
    });
    futures::future::join_all(asking).await
}

fn request(
    address: SocketAddr,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: Bytes,
) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(path);
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        request = request.header("host", address.to_string());
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::new(body)).expect("a request")
}

async fn collect(
    response: http::Response<hyper::body::Incoming>,
) -> Result<Reply, Box<dyn std::error::Error + Send + Sync>> {
    let (head, body) = response.into_parts();
    Ok(Reply { status: head.status.as_u16(), headers: head.headers, body: body.collect().await?.to_bytes() })
}

/// Sends bytes as they are and reads until the server closes, or 64 KiB have come, or two seconds have passed.
pub async fn raw(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("the server listens");
    // The server may close before it has read everything: what it said counts.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let mut buffer = [0; 8192];
    while let Ok(Ok(read)) = tokio::time::timeout(std::time::Duration::from_secs(2), stream.read(&mut buffer)).await {
        answer.extend_from_slice(&buffer[..read]);
        if read == 0 || answer.len() > 65_536 {
            break;
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// An answer as it stood on the wire.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status code; 0 where there was no answer.
    pub status: u16,
    /// Status line and field lines.
    pub head: String,
    /// Body, without the framing of chunks: what there was of it.
    pub body: Vec<u8>,
    /// Whether the body came to the end that the head promised.
    pub whole: bool,
    /// What followed: answers to further requests.
    pub rest: Vec<u8>,
}

impl Answer {
    /// A field's first line; empty when it is not there.
    pub fn field(&self, name: &str) -> &str {
        let mut lines = self.head.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
        lines.find(|(own, _)| own.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value.trim())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Sends a request as it is, which must ask for the connection to be closed, and reads what comes until it is; for at most
/// five seconds, and 256 MiB.
pub async fn exchange(address: SocketAddr, request: impl AsRef<[u8]>) -> Answer {
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("the server listens");
    let _ = stream.write_all(request.as_ref()).await;
    let (mut bytes, patience) = (Vec::new(), std::time::Duration::from_secs(5));
    while let Ok(Ok(read)) = tokio::time::timeout(patience, stream.read_buf(&mut bytes)).await {
        if read == 0 || bytes.len() > 256 << 20 {
            break;
        }
    }
    answer(&bytes)
}

fn answer(bytes: &[u8]) -> Answer {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(bytes.len());
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let after = bytes.get(end + 4..).unwrap_or_default();
    let mut answer = Answer { status, head, body: after.to_vec(), whole: status != 0, rest: Vec::new() };
    if answer.field("transfer-encoding").eq_ignore_ascii_case("chunked") {
        match crate::wire::chunks(after) {
            Ok(Some((body, used))) => (answer.body, answer.rest) = (body, after[used..].to_vec()),
            _ => answer.whole = false,
        }
    } else if matches!(status, 204 | 304) {
        (answer.body, answer.rest) = (Vec::new(), after.to_vec());
    } else if let Ok(length) = answer.field("content-length").parse::<usize>() {
        answer.whole = after.len() >= length;
        let (body, rest) = after.split_at(length.min(after.len()));
        (answer.body, answer.rest) = (body.to_vec(), rest.to_vec());
    }
    answer
}
