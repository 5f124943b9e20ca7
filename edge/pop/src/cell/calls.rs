//! Calls that the thread of a cell waits for, over a socket of their own: a length (4 bytes, little endian) and a message
//! there, the same back.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use serde::Serialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::message::encode;
use super::wire::{Ended, MOST_BYTES};

/// The cell's end, which blocks. What the PoP sends is believed: a program may be of any length.
#[derive(Clone, Debug)]
pub(super) struct Calls(Arc<UnixStream>);

impl Calls {
    pub(super) fn new(socket: UnixStream) -> Self {
        Self(Arc::new(socket))
    }

    /// Says something that has no answer.
    ///
    /// # Errors
    /// The system's: the PoP is gone.
    pub(super) fn say(&self, message: &impl Serialize) -> io::Result<()> {
        let bytes = encode(message);
        let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        (&*self.0).write_all(&[&length.to_le_bytes()[..], &bytes].concat())
    }

    /// What the PoP says.
    ///
    /// # Errors
    /// The system's: the PoP is gone.
    pub(super) fn hear(&self) -> io::Result<Vec<u8>> {
        let mut length = [0; 4];
        (&*self.0).read_exact(&mut length)?;
        let length = u32::from_le_bytes(length) as usize;
        let mut bytes = vec![0; length];
        (&*self.0).read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Asks, and waits.
    ///
    /// # Errors
    /// The system's: the PoP is gone.
    pub(super) fn ask(&self, message: &impl Serialize) -> io::Result<Vec<u8>> {
        self.say(message)?;
        self.hear()
    }
}

/// Reads what a cell says.
///
/// # Errors
/// [`Ended`]: it is gone, or says more than it may.
pub(super) async fn hear(socket: &mut tokio::net::UnixStream) -> Result<Vec<u8>, Ended> {
    let length = socket.read_u32_le().await.map_err(|_| Ended::Closed)?;
    let length = usize::try_from(length).ok().filter(|length| *length <= MOST_BYTES);
    let length = length.ok_or(Ended::Misconduct("a call of an impossible length"))?;
    let mut bytes = Vec::new();
    // Grows with what has come, not with what the length promises.
    let read = (&mut *socket).take(length as u64).read_to_end(&mut bytes).await;
    if read.ok() == Some(length) { Ok(bytes) } else { Err(Ended::Closed) }
}

/// Says something to a cell.
///
/// # Errors
/// [`Ended::Closed`].
pub(super) async fn say(socket: &mut tokio::net::UnixStream, message: &impl Serialize) -> Result<(), Ended> {
    say_bytes(socket, &encode(message)).await
}

/// As [`say`], for what is bytes already.
///
/// # Errors
/// [`Ended::Closed`].
pub(super) async fn say_bytes(socket: &mut tokio::net::UnixStream, bytes: &[u8]) -> Result<(), Ended> {
    let length = u32::try_from(bytes.len()).map_err(|_| Ended::Closed)?;
    socket.write_all(&[&length.to_le_bytes()[..], bytes].concat()).await.map_err(|_| Ended::Closed)
}
