//! What goes through the socket between a PoP and a cell: frames, put into one buffer and read out of another.
//!
//! A frame is its length (4 bytes, little endian), its kind (1), the number of its exchange (8), and its payload. A cell may
//! send anything: what is longer than a frame can be, or of no known kind, is an error before it takes memory.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::Notify;

/// Bytes of a frame's payload at most: a log line may have a MiB.
pub(super) const MOST_BYTES: usize = 4 << 20;
/// Bytes that wait for the peer to read them. What it asks for is bounded by credits, what it is asked to do by limits; a
/// peer with so much before it does not read.
const MOST_WAITING: usize = 256 << 20;
/// Bytes of a frame before its payload, without the length.
const HEAD: usize = 9;
/// Smaller payloads are copied, so that they do not keep the buffer that they came in.
const COPIED: usize = 4 << 10;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A question, which begins an exchange.
    Open = 0,
    /// The same, and a body follows. Before the message stands the body's size.
    OpenWithBody = 1,
    /// The answer.
    Answer = 2,
    AnswerWithBody = 3,
    /// A part of the sender's body.
    Data = 4,
    /// The last part.
    LastData = 5,
    /// Its end, after the parts.
    End = 6,
    /// It ends with an error, in words.
    Fail = 7,
    /// The other may send so many bytes more of its body.
    Credit = 8,
    /// Nobody wants the other's body any more.
    Stop = 9,
    /// Nobody wants the answer any more.
    Cancel = 10,
    /// Something to know, of no exchange.
    Note = 11,
}

impl Kind {
    const ALL: [Self; 12] = [
        Self::Open,
        Self::OpenWithBody,
        Self::Answer,
        Self::AnswerWithBody,
        Self::Data,
        Self::LastData,
        Self::End,
        Self::Fail,
        Self::Credit,
        Self::Stop,
        Self::Cancel,
        Self::Note,
    ];
}

/// A frame that has come.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) kind: Kind,
    pub(super) exchange: u64,
    pub(super) payload: Bytes,
}

/// Why nothing comes any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Ended {
    #[error("its socket is closed")]
    Closed,
    #[error("it said what none says: {0}")]
    Misconduct(&'static str),
}

/// What is to be sent. Frames of one turn of the event loop leave together.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    waiting: Mutex<BytesMut>,
    filled: Notify,
}

impl Outbox {
    /// Puts a frame whose payload is `parts` one after the other.
    pub(super) fn put(&self, kind: Kind, exchange: u64, parts: &[&[u8]]) {
        let length = HEAD + parts.iter().map(|part| part.len()).sum::<usize>();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.reserve(4 + length);
        waiting.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
        waiting.extend_from_slice(&[kind as u8]);
        waiting.extend_from_slice(&exchange.to_le_bytes());
        parts.iter().for_each(|part| waiting.extend_from_slice(part));
        drop(waiting);
        self.filled.notify_one();
    }

    /// Whether the peer has stopped to read.
    pub(super) fn is_stuck(&self) -> bool {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).len() > MOST_WAITING
    }

    /// Writes what is put, until the peer is gone.
    pub(super) async fn empty_into(self: Arc<Self>, mut writer: impl AsyncWrite + Unpin) {
        loop {
            let full = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
            if full.is_empty() {
                self.filled.notified().await;
            } else if writer.write_all(&full).await.is_err() {
                return;
            }
        }
    }
}

/// Reads frames.
pub(super) struct Inbox<R> {
    reader: R,
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> Inbox<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader, buffer: BytesMut::new() }
    }

    /// The next frame.
    ///
    /// # Errors
    /// [`Ended`].
    pub(super) async fn next(&mut self) -> Result<Frame, Ended> {
        loop {
            if let Some(frame) = self.parse()? {
                return Ok(frame);
            }
            // Grows with what has come, not with what a length promises.
            self.buffer.reserve(64 << 10);
            match self.reader.read_buf(&mut self.buffer).await {
                Ok(0) | Err(_) => return Err(Ended::Closed),
                Ok(_) => {}
            }
        }
    }

    fn parse(&mut self) -> Result<Option<Frame>, Ended> {
        let Some(length) = self.buffer.first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*length) as usize;
        let Some(bytes) = length.checked_sub(HEAD).filter(|bytes| *bytes <= MOST_BYTES) else {
            return Err(Ended::Misconduct("a frame of an impossible length"));
        };
        if self.buffer.len() < 4 + length {
            return Ok(None);
        }
        self.buffer.advance(4);
        let kind = usize::from(self.buffer.get_u8());
        let kind = *Kind::ALL.get(kind).ok_or(Ended::Misconduct("a frame of an unknown kind"))?;
        let exchange = self.buffer.get_u64_le();
        let payload = self.buffer.split_to(bytes);
        let payload = if bytes < COPIED { Bytes::copy_from_slice(&payload) } else { payload.freeze() };
        Ok(Some(Frame { kind, exchange, payload }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(bytes: &[u8]) -> (Vec<Frame>, Ended) {
        let (mut inbox, mut frames) = (Inbox::new(bytes), Vec::new());
        loop {
            match inbox.next().await {
                Ok(frame) => frames.push(frame),
                Err(ended) => return (frames, ended),
            }
        }
    }

    #[tokio::test]
    async fn frames_come_as_they_were_put() {
        let (outbox, mut reader) = (Arc::new(Outbox::default()), tokio::io::duplex(7));
        for kind in Kind::ALL {
            outbox.put(kind, kind as u64 + 1, &[b"some ", &vec![kind as u8; 10_000]]);
        }
        let writer = tokio::spawn(Arc::clone(&outbox).empty_into(reader.0));
        let mut inbox = Inbox::new(&mut reader.1);
        for kind in Kind::ALL {
            let frame = inbox.next().await.unwrap();
            assert_eq!((frame.kind, frame.exchange, frame.payload.len()), (kind, kind as u64 + 1, 10_005));
            assert!(frame.payload.starts_with(b"some ") && frame.payload.ends_with(&[kind as u8]));
        }
        writer.abort();
    }

    #[tokio::test]
    async fn what_is_no_frame_is_refused_before_it_takes_memory() {
        let misconduct = |ended| matches!(ended, Ended::Misconduct(_));
        assert!(misconduct(read(&[0xff; 64]).await.1), "too long");
        assert!(misconduct(read(&[8, 0, 0, 0, 0]).await.1), "too short");
        let unknown = [&9_u32.to_le_bytes()[..], &[12], &[0; 8]].concat();
        assert!(misconduct(read(&unknown).await.1), "of no kind");
        let torn = [&10_u32.to_le_bytes()[..], &[0], &[0; 8]].concat();
        assert_eq!(read(&torn).await.1, Ended::Closed);
    }
}
