//! One object's file: blocks with checksums, then a trailer that is written last.
//!
//! ```text
//! file    = *block trailer
//! block   = crc32c(4)  data(1..=64 KiB; only the last is shorter)
//! trailer = json  length-of-json(4)  crc32c(4)  "SKERRYO1"
//! ```
//!
//! Numbers are little-endian. A block's checksum covers the key and the block's index too, so that a block of another
//! object or from another place does not pass; the trailer's covers its JSON and length. Every byte of the file is
//! covered by a checksum or compared, and its length must be the one the trailer implies.

use std::fs::File;
use std::io::{self, ErrorKind, Write as _};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::Tmp;
use crate::key::Key;
use crate::store::{Attributes, Meta, StoreError};

/// Data bytes of a full block.
pub(super) const BLOCK_BYTES: u64 = 64 << 10;

const CRC_BYTES: u64 = 4;
const MAGIC: &[u8; 8] = b"SKERRYO1";
/// Length of the JSON, its checksum, the magic.
const FOOT_BYTES: u64 = 16;
/// More than the longest key and attributes can take, each character escaped.
const MAX_TRAILER_BYTES: u64 = 16 << 10;

#[derive(Serialize, Deserialize)]
struct Trailer {
    key: String,
    size: u64,
    etag: String,
    modified_ms: u64,
    attributes: Attributes,
}

/// An object's file, its trailer read and checked.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) meta: Meta,
    pub(super) attributes: Attributes,
    file: File,
}

impl Reader {
    pub(super) fn open(path: &Path, key: &Key) -> Result<Self, StoreError> {
        let corrupt = |why: &str| Err(StoreError::corrupt(key, why));
        let file = match File::open(path) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Err(StoreError::NotFound { key: key.clone() }),
            other => other.map_err(|e| StoreError::unavailable(key, e))?,
        };
        let length = file.metadata().map_err(|e| StoreError::unavailable(key, e))?.len();
        let mut tail = vec![0; length.min(MAX_TRAILER_BYTES + FOOT_BYTES) as usize];
        let start = length - tail.len() as u64;
        read_at(&file, key, &mut tail, start)?;
        let Some(json) = trailer_json(&tail) else { return corrupt("its end is missing or damaged") };
        let Ok(trailer) = serde_json::from_slice::<Trailer>(json) else {
            return corrupt("its trailer is not readable");
        };
        if trailer.key != key.as_str() {
            return corrupt("it is another object's file");
        }
        if Some(length) != disk_length(trailer.size).and_then(|l| l.checked_add(json.len() as u64 + FOOT_BYTES)) {
            return corrupt("its length is not the one recorded");
        }
        let Some(modified) = UNIX_EPOCH.checked_add(Duration::from_millis(trailer.modified_ms)) else {
            return corrupt("its time of change is out of range");
        };
        let meta = Meta { key: key.clone(), size: trailer.size, etag: trailer.etag, modified };
        Ok(Self { meta, attributes: trailer.attributes, file })
    }

    /// The bytes of `range`, which lies within the object, as one chunk a block. Each block is checked.
    pub(super) fn read(&self, range: Range<u64>) -> Result<Vec<Bytes>, StoreError> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let key = &self.meta.key;
        let (first, last) = (range.start / BLOCK_BYTES, (range.end - 1) / BLOCK_BYTES);
        let from = first * (BLOCK_BYTES + CRC_BYTES);
        let data_end = self.meta.size.min((last + 1) * BLOCK_BYTES);
        let to = data_end + (last + 1) * CRC_BYTES;
        let mut raw = BytesMut::zeroed((to - from) as usize);
        read_at(&self.file, key, &mut raw, from)?;
        let mut raw = raw.freeze();
        let mut chunks = Vec::new();
        for index in first..=last {
            let begin = index * BLOCK_BYTES;
            let end = data_end.min(begin + BLOCK_BYTES);
            let crc = raw.split_to(CRC_BYTES as usize);
            let data = raw.split_to((end - begin) as usize);
            if crc[..] != checksum(key, index, &data).to_le_bytes() {
                return Err(StoreError::corrupt(key, format!("block {index} does not match its checksum")));
            }
            let wanted = range.start.max(begin) - begin..range.end.min(end) - begin;
            chunks.push(data.slice(wanted.start as usize..wanted.end as usize));
        }
        Ok(chunks)
    }
}

/// A file being written.
#[derive(Debug)]
pub(super) struct Writer {
    key: Key,
    tmp: Tmp,
    /// Room for the checksum, then the data of the block that is not full yet.
    block: Vec<u8>,
    index: u64,
    size: u64,
    hash: Sha256,
}

impl Writer {
    pub(super) fn new(key: &Key, tmp: Tmp) -> Self {
        let block = vec![0; CRC_BYTES as usize];
        Self { key: key.clone(), tmp, block, index: 0, size: 0, hash: Sha256::new() }
    }

    pub(super) fn write(&mut self, mut chunk: &[u8]) -> io::Result<()> {
        self.hash.update(chunk);
        self.size += chunk.len() as u64;
        while !chunk.is_empty() {
            let room = (BLOCK_BYTES + CRC_BYTES) as usize - self.block.len();
            let (now, later) = chunk.split_at(room.min(chunk.len()));
            self.block.extend_from_slice(now);
            if now.len() == room {
                self.flush_block()?;
            }
            chunk = later;
        }
        Ok(())
    }

    /// Writes the trailer and makes the file durable under its temporary name.
    pub(super) fn finish(mut self, now: SystemTime, attributes: Attributes) -> io::Result<(Tmp, Meta)> {
        if self.block.len() > CRC_BYTES as usize {
            self.flush_block()?;
        }
        let modified_ms = now.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64);
        let etag = hex::encode(self.hash.finalize());
        let (key, size) = (self.key.to_string(), self.size);
        let json = serde_json::to_vec(&Trailer { key, size, etag: etag.clone(), modified_ms, attributes })?;
        let length = (json.len() as u32).to_le_bytes();
        let crc = crc32c::crc32c_append(crc32c::crc32c(&json), &length).to_le_bytes();
        self.tmp.file.write_all(&[&json[..], &length, &crc, MAGIC].concat())?;
        self.tmp.file.sync_all()?;
        Ok((self.tmp, Meta { key: self.key, size, etag, modified: now }))
    }

    fn flush_block(&mut self) -> io::Result<()> {
        let crc = checksum(&self.key, self.index, &self.block[CRC_BYTES as usize..]);
        self.block[..CRC_BYTES as usize].copy_from_slice(&crc.to_le_bytes());
        self.tmp.file.write_all(&self.block)?;
        self.block.truncate(CRC_BYTES as usize);
        self.index += 1;
        Ok(())
    }
}

/// The JSON of the trailer that `tail` ends with, if it is whole.
fn trailer_json(tail: &[u8]) -> Option<&[u8]> {
    let rest = tail.strip_suffix(MAGIC)?;
    let (rest, crc) = rest.split_last_chunk::<4>()?;
    let (before, length) = rest.split_last_chunk::<4>()?;
    let start = before.len().checked_sub(u32::from_le_bytes(*length) as usize)?;
    (crc32c::crc32c(&rest[start..]) == u32::from_le_bytes(*crc)).then_some(&before[start..])
}

/// Bytes that the blocks of an object of `size` bytes take.
fn disk_length(size: u64) -> Option<u64> {
    size.checked_add(size.div_ceil(BLOCK_BYTES).checked_mul(CRC_BYTES)?)
}

fn checksum(key: &Key, index: u64, data: &[u8]) -> u32 {
    let seed = crc32c::crc32c(key.as_str().as_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(seed, &index.to_le_bytes()), data)
}

fn read_at(file: &File, key: &Key, buffer: &mut [u8], offset: u64) -> Result<(), StoreError> {
    file.read_exact_at(buffer, offset).map_err(|e| match e.kind() {
        ErrorKind::UnexpectedEof => StoreError::corrupt(key, "it is shorter than recorded"),
        _ => StoreError::unavailable(key, e),
    })
}
