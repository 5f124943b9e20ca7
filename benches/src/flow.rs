//! A long body on its way: given as fast as it is taken, and taken slowly.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use crate::connection::Connection;

/// Bytes given at once.
const PIECE: usize = 64 << 10;

/// Bytes after which the reader stands still for [`STANDSTILL`]: time enough for a sender to send all there is, if anything
/// between them takes it.
pub(crate) const BEFORE_STANDSTILL: u64 = 32 << 20;
/// How long it stands still.
pub(crate) const STANDSTILL: Duration = Duration::from_secs(1);

/// Bytes that the reader takes in a second otherwise.
pub(crate) const RATE: u64 = 256 << 20;

/// Both ends of it, counted.
#[derive(Debug, Default)]
pub(crate) struct Flow(Mutex<Counts>);

/// How far it is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    /// Bytes there are to send.
    length: u64,
    /// Bytes that the sender's system has accepted.
    pub(crate) given: u64,
    /// Bytes that the reader has taken.
    pub(crate) taken: u64,
    /// Bytes that were on the way at the end of the standstill: what is between the ends had taken them in.
    pub(crate) ahead: Option<u64>,
    began: Option<Instant>,
}

impl Flow {
    /// Forgets what has flown: the next body has so many bytes.
    pub(crate) fn begin(&self, length: u64) {
        self.with(|counts| *counts = Counts { length, ..Counts::default() });
    }

    /// How far it is.
    pub(crate) fn counts(&self) -> Counts {
        self.with(|counts| *counts)
    }

    /// How many bytes the body has.
    pub(crate) fn length(&self) -> u64 {
        self.with(|counts| counts.length)
    }

    /// Sends the body.
    pub(crate) async fn give(&self, connection: &mut Connection) -> std::io::Result<()> {
        let (piece, mut length) = ([b'x'; PIECE], self.length());
        while length > 0 {
            let size = PIECE.min(usize::try_from(length).unwrap_or(PIECE));
            connection.send(&piece[..size]).await?;
            length -= size as u64;
            self.with(|counts| counts.given += size as u64);
        }
        Ok(())
    }

    /// Takes so many bytes: returns when a slow reader is ready for more.
    pub(crate) async fn take(&self, bytes: usize) {
        let Counts { taken, ahead, began, .. } = self.with(|counts| {
            counts.taken += bytes as u64;
            counts.began.get_or_insert_with(Instant::now);
            *counts
        });
        let mut due = began.unwrap_or_else(Instant::now) + Duration::from_secs_f64(taken as f64 / RATE as f64);
        if taken >= BEFORE_STANDSTILL {
            due += STANDSTILL;
        }
        if due > Instant::now() {
            tokio::time::sleep_until(due.into()).await;
        }
        if taken >= BEFORE_STANDSTILL && ahead.is_none() {
            self.with(|counts| counts.ahead = Some(counts.given.saturating_sub(counts.taken)));
        }
    }

    fn with<T>(&self, change: impl FnOnce(&mut Counts) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
