//! One stored response as a file.
//!
//! ```text
//! preamble   magic and version (8), nonce (8), bytes of a slot (4), checksum of these (4)
//! slot A     checksum (4), bytes of the head (4), sequence (8), bytes of the body (8), the head, zeros
//! slot B     the same; the valid slot with the higher sequence counts
//! blocks     64 KiB of the body each, the last one shorter, and behind each its checksum (4)
//! ```
//!
//! Two slots, because a head that is brought up to date is written over the older one of two: a write that is cut
//! short leaves the other. All checksums are CRC-32C and begin with the file's nonce, that of a block goes on with its
//! number: neither a block of another file nor one from another place is ever taken for the right one. A block is sent
//! only after its checksum was seen to be right, so the beginning of a body can be sent before its end is read.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;

use super::record;
use crate::entry::Head;

/// The last byte is the version of the format: files of another one are removed as unreadable.
const MAGIC: [u8; 8] = *b"skerry\0\x01";
const PREAMBLE: usize = 24;
const SLOT_HEAD: usize = 24;
const CHECKSUM: u64 = 4;
/// Bytes of the body under one checksum.
pub(crate) const BLOCK: u64 = 64 << 10;

/// Why a file is not read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Too many files are open, or the like: nothing is wrong with it.
    #[error("it can't be opened: {0}")]
    Unopened(io::Error),
    /// What was read is not what was written.
    #[error("{0} is damaged")]
    Damaged(&'static str),
}

/// Where things are in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    nonce: u64,
    slot: u32,
}

/// What is read of a file first.
pub(super) struct Opened {
    pub(super) layout: Layout,
    pub(super) head: Head,
    pub(super) length: u64,
    /// Of the slot that counts: an update gets the next one.
    pub(super) sequence: u64,
}

impl Layout {
    /// For a head of about this many bytes; it may grow when it is brought up to date.
    pub(super) fn new(nonce: u64, record: usize) -> Self {
        let slot = (SLOT_HEAD + record + record / 2 + 256).next_multiple_of(64);
        Self { nonce, slot: u32::try_from(slot).unwrap_or(u32::MAX) }
    }

    fn blocks_at(&self) -> u64 {
        PREAMBLE as u64 + 2 * u64::from(self.slot)
    }

    fn block_at(&self, number: u64) -> u64 {
        self.blocks_at().saturating_add(number.saturating_mul(BLOCK + CHECKSUM))
    }

    /// Bytes of a file with a body of this length.
    pub(super) fn file_size(&self, length: u64) -> u64 {
        self.blocks_at().saturating_add(length).saturating_add(length.div_ceil(BLOCK) * CHECKSUM)
    }

    fn preamble(&self) -> [u8; PREAMBLE] {
        let mut bytes = [0; PREAMBLE];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..16].copy_from_slice(&self.nonce.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.slot.to_le_bytes());
        let checksum = crc32c::crc32c(&bytes[..20]);
        bytes[20..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (nonce, slot) = (u64_at(bytes, 8)?, u32_at(bytes, 16)?);
        let layout = Self { nonce, slot };
        let sane = (SLOT_HEAD..=2 * record::MAX_RECORD).contains(&(slot as usize));
        (sane && bytes[..PREAMBLE] == layout.preamble()).then_some(layout)
    }

    fn slot_checksum(&self, rest: &[u8]) -> u32 {
        crc32c::crc32c_append(crc32c::crc32c(&self.nonce.to_le_bytes()), rest)
    }

    /// The bytes of a slot; `None` when the head does not fit.
    fn slot(&self, sequence: u64, length: u64, record: &[u8]) -> Option<Vec<u8>> {
        let size = self.slot as usize;
        if SLOT_HEAD + record.len() > size {
            return None;
        }
        let mut bytes = vec![0; 4];
        bytes.extend_from_slice(&(record.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&sequence.to_le_bytes());
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(record);
        let checksum = self.slot_checksum(&bytes[4..]);
        bytes[..4].copy_from_slice(&checksum.to_le_bytes());
        bytes.resize(size, 0);
        Some(bytes)
    }

    /// Sequence, length of the body and head of a slot that is whole.
    fn read_slot<'a>(&self, slot: &'a [u8]) -> Option<(u64, u64, &'a [u8])> {
        let end = SLOT_HEAD.checked_add(u32_at(slot, 4)? as usize)?;
        let whole = self.slot_checksum(slot.get(4..end)?) == u32_at(slot, 0)?;
        whole.then_some((u64_at(slot, 8)?, u64_at(slot, 16)?, &slot[SLOT_HEAD..end]))
    }

    fn block_checksum(&self, number: u64, data: &[u8]) -> u32 {
        let seed = [self.nonce.to_le_bytes(), number.to_le_bytes()].concat();
        crc32c::crc32c_append(crc32c::crc32c(&seed), data)
    }

    /// The blocks from `first` up to, not including, `stop` of a body of this length, each verified: one read, no copy.
    pub(super) fn read_blocks(
        &self,
        file: &File,
        (first, stop): (u64, u64),
        length: u64,
    ) -> Result<VecDeque<Bytes>, Unreadable> {
        let data_end = stop.saturating_mul(BLOCK).min(length);
        let size = data_end.saturating_sub(first * BLOCK) + (stop - first) * CHECKSUM;
        let mut bytes = vec![0; size as usize];
        file.read_exact_at(&mut bytes, self.block_at(first)).map_err(cut_short)?;
        let mut bytes = Bytes::from(bytes);
        let mut blocks = VecDeque::new();
        for number in first..stop {
            let mut rest = bytes.split_off(bytes.len().min((BLOCK + CHECKSUM) as usize));
            std::mem::swap(&mut rest, &mut bytes);
            let checksum = rest.split_off(rest.len().saturating_sub(CHECKSUM as usize));
            if u32_at(&checksum, 0) != Some(self.block_checksum(number, &rest)) {
                return Err(Unreadable::Damaged("a block"));
            }
            blocks.push_back(rest);
        }
        Ok(blocks)
    }

    /// Brings the head of a file up to date. Whether there was room for it.
    pub(super) fn update(&self, file: &File, head: &Head, length: u64, sequence: u64) -> io::Result<bool> {
        let Some(slot) = record::encode(head).and_then(|record| self.slot(sequence, length, &record)) else {
            return Ok(false);
        };
        file.write_all_at(&slot, PREAMBLE as u64 + (sequence % 2) * u64::from(self.slot))?;
        Ok(true)
    }
}

/// Reads all of a file but the blocks.
pub(super) fn open(file: &File) -> Result<Opened, Unreadable> {
    // Nearly always the first read has both slots.
    let mut bytes = vec![0; 4096];
    let got = read_at_most(file, &mut bytes, 0)?;
    bytes.truncate(got);
    let layout = Layout::parse(bytes.get(..PREAMBLE).unwrap_or_default()).ok_or(Unreadable::Damaged("the preamble"))?;
    if bytes.len() < layout.blocks_at() as usize {
        bytes.resize(layout.blocks_at() as usize, 0);
        file.read_exact_at(&mut bytes[got..], got as u64).map_err(cut_short)?;
    }
    let (a, b) = bytes[PREAMBLE..layout.blocks_at() as usize].split_at(layout.slot as usize);
    let newest = [a, b].into_iter().filter_map(|slot| layout.read_slot(slot)).max_by_key(|(sequence, ..)| *sequence);
    let (sequence, length, record) = newest.ok_or(Unreadable::Damaged("the head"))?;
    if file.metadata()?.len() != layout.file_size(length) {
        return Err(Unreadable::Damaged("the length"));
    }
    let head = record::decode(record).ok_or(Unreadable::Damaged("the head"))?;
    Ok(Opened { layout, head, length, sequence })
}

/// Writes a file from its beginning.
pub(super) struct Writer {
    file: Arc<File>,
    layout: Layout,
    /// Whole blocks that are in the file.
    blocks: u64,
    /// The beginning of the next one.
    block: Vec<u8>,
}

impl Writer {
    /// `file` is new. `head` is about what [`Writer::finish`] will be given.
    pub(super) fn begin(file: File, nonce: u64, head: &Head) -> io::Result<Self> {
        let record = record::encode(head).ok_or_else(|| io::Error::other("the head is too large"))?;
        let layout = Layout::new(nonce, record.len());
        file.write_all_at(&layout.preamble(), 0)?;
        let file = Arc::new(file);
        Ok(Self { file, layout, blocks: 0, block: Vec::new() })
    }

    pub(super) fn layout(&self) -> Layout {
        self.layout
    }

    pub(super) fn file(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    /// Bytes of the body that can be read from the file.
    pub(super) fn readable(&self) -> u64 {
        self.blocks * BLOCK
    }

    pub(super) fn push(&mut self, mut data: &[u8]) -> io::Result<()> {
        while !data.is_empty() {
            let room = BLOCK as usize - self.block.len();
            let (taken, rest) = data.split_at(room.min(data.len()));
            self.block.extend_from_slice(taken);
            data = rest;
            if self.block.len() == BLOCK as usize {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let checksum = self.layout.block_checksum(self.blocks, &self.block);
        self.block.extend_from_slice(&checksum.to_le_bytes());
        self.file.write_all_at(&self.block, self.layout.block_at(self.blocks))?;
        self.blocks += 1;
        self.block.clear();
        Ok(())
    }

    /// Writes what is left of the body, and the head. The file, its layout and size.
    pub(super) fn finish(mut self, head: &Head) -> io::Result<(Arc<File>, Layout, u64)> {
        let length = self.blocks * BLOCK + self.block.len() as u64;
        if !self.block.is_empty() {
            self.flush()?;
        }
        // An empty body leaves no block behind the slots; the size says that they are there.
        let size = self.layout.file_size(length);
        self.file.set_len(size)?;
        if !self.layout.update(&self.file, head, length, 0)? {
            return Err(io::Error::other("the head is too large"));
        }
        Ok((self.file, self.layout, size))
    }
}

fn read_at_most(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut got = 0;
    while got < bytes.len() {
        match file.read_at(&mut bytes[got..], offset + got as u64) {
            Ok(0) => break,
            Ok(count) => got += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(got)
}

fn cut_short(error: io::Error) -> Unreadable {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => Unreadable::Damaged("the end"),
        _ => Unreadable::Io(error),
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}
