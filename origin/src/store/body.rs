//! The bytes of an object on their way in or out.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _, stream};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::bundle::Digest;

/// An error of whoever produces or consumes a body.
pub type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// Chunks of a body.
pub type BodyStream = BoxStream<'static, Result<Bytes, BoxError>>;

/// Chunk size when a reader is turned into a body.
const READ_BYTES: usize = 64 << 10;

/// The bytes of one object: chunks that may end with an error. No chunk is empty.
pub struct Body {
    chunks: BodyStream,
}

impl Body {
    /// A body from chunks.
    pub fn new(chunks: impl Stream<Item = Result<Bytes, BoxError>> + Send + 'static) -> Self {
        let full = |chunk: &Result<Bytes, BoxError>| std::future::ready(!matches!(chunk, Ok(c) if c.is_empty()));
        Self { chunks: chunks.filter(full).boxed() }
    }

    /// A body from a file or a socket, read as it is consumed.
    pub fn read(reader: impl AsyncRead + Send + Unpin + 'static) -> Self {
        Self::new(stream::try_unfold(reader, |mut reader| async move {
            let mut chunk = BytesMut::with_capacity(READ_BYTES);
            match reader.read_buf(&mut chunk).await? {
                0 => Ok(None),
                _ => Ok(Some((chunk.freeze(), reader))),
            }
        }))
    }

    /// A body that ends with [`DigestMismatch`] in place of its last chunk when its bytes are not those that
    /// `expected` names. Nobody can take such a body for complete.
    pub fn verified(self, expected: Digest) -> Self {
        let start = Verify { chunks: self.chunks, hash: Sha256::new(), held: None, expected };
        Self::new(stream::try_unfold(Some(start), Verify::step))
    }

    /// The whole body.
    ///
    /// # Errors
    /// The body's own error, or [`BodyTooLarge`] as soon as more than `limit` bytes have come.
    pub async fn collect(mut self, limit: usize) -> Result<Bytes, BoxError> {
        let Some(first) = self.next().await.transpose()? else { return Ok(Bytes::new()) };
        let mut whole = BytesMut::from(first);
        while whole.len() <= limit {
            match self.next().await.transpose()? {
                Some(chunk) => whole.extend_from_slice(&chunk),
                None => return Ok(whole.freeze()),
            }
        }
        Err(BodyTooLarge { limit }.into())
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::new(stream::once(std::future::ready(Ok(bytes))))
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

impl Stream for Body {
    type Item = Result<Bytes, BoxError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.chunks.as_mut().poll_next(cx)
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").finish_non_exhaustive()
    }
}

/// State of [`Body::verified`]: one chunk is held back until the next is seen, so that the digest is known before
/// the last one leaves.
struct Verify {
    chunks: BodyStream,
    hash: Sha256,
    held: Option<Bytes>,
    expected: Digest,
}

impl Verify {
    async fn step(state: Option<Self>) -> Result<Option<(Bytes, Option<Self>)>, BoxError> {
        let Some(mut state) = state else { return Ok(None) };
        while let Some(chunk) = state.chunks.next().await.transpose()? {
            state.hash.update(&chunk);
            if let Some(ready) = state.held.replace(chunk) {
                return Ok(Some((ready, Some(state))));
            }
        }
        let found = Digest::from_bytes(state.hash.finalize().into());
        if found != state.expected {
            return Err(DigestMismatch { expected: state.expected, found }.into());
        }
        Ok(state.held.map(|last| (last, None)))
    }
}

/// The bytes are not those their name promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bytes have the digest {found}, expected {expected}")]
pub struct DigestMismatch {
    /// The digest asked for.
    pub expected: Digest,
    /// The digest of the bytes.
    pub found: Digest,
}

/// More bytes came than the reader takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the body is larger than {limit} bytes")]
pub struct BodyTooLarge {
    /// The limit in bytes.
    pub limit: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunks(parts: &[&'static str]) -> Body {
        let parts: Vec<_> = parts.iter().map(|p| Ok(Bytes::from_static(p.as_bytes()))).collect();
        Body::new(stream::iter(parts))
    }

    #[tokio::test]
    async fn a_verified_body_passes_only_the_bytes_it_promises() {
        let good = chunks(&["ab", "", "c"]).verified(Digest::of(b"abc")).collect(10).await.unwrap();
        assert_eq!(good, "abc");
        let mut bad = chunks(&["ab", "d"]).verified(Digest::of(b"abc"));
        assert_eq!(bad.next().await.unwrap().unwrap(), "ab");
        assert!(bad.next().await.unwrap().unwrap_err().is::<DigestMismatch>());
        assert!(chunks(&[]).verified(Digest::of(b"abc")).collect(10).await.is_err());
        assert_eq!(chunks(&[]).verified(Digest::of(b"")).collect(10).await.unwrap(), "");
    }

    #[tokio::test]
    async fn collecting_stops_at_the_limit() {
        assert_eq!(chunks(&["abc", "def"]).collect(6).await.unwrap(), "abcdef");
        assert!(chunks(&["abc", "def"]).collect(5).await.unwrap_err().is::<BodyTooLarge>());
        assert!(chunks(&["abcdef"]).collect(5).await.unwrap_err().is::<BodyTooLarge>());
    }

    #[tokio::test]
    async fn a_reader_is_a_body() {
        assert_eq!(Body::read(&b"hello"[..]).collect(10).await.unwrap(), "hello");
    }
}
