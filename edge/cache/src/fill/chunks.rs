//! The pieces of a body that is arriving.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};

/// Consecutive pieces of a body, each with its place; the first ones may be gone.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    list: VecDeque<(u64, Bytes)>,
    end: u64,
}

impl Chunks {
    pub(super) fn push(&mut self, chunk: Bytes) {
        let start = self.end;
        self.end += chunk.len() as u64;
        self.list.push_back((start, chunk));
    }

    /// How many bytes there were in all.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// The bytes from here to the end of their chunk; `None` when they are gone, or not there yet.
    pub(super) fn from(&self, position: u64) -> Option<Bytes> {
        let behind = self.list.partition_point(|(start, _)| *start <= position);
        let (start, chunk) = self.list.get(behind.checked_sub(1)?)?;
        let offset = usize::try_from(position - start).ok().filter(|offset| *offset < chunk.len())?;
        Some(chunk.slice(offset..))
    }

    /// All bytes from here on that are not gone.
    pub(super) fn since(&self, position: u64) -> Vec<Bytes> {
        let ends_behind = |(start, chunk): &&(u64, Bytes)| start + chunk.len() as u64 > position;
        let cut = |(start, chunk): &(u64, Bytes)| {
            let mut chunk = chunk.clone();
            chunk.advance(usize::try_from(position.saturating_sub(*start)).unwrap_or(0));
            chunk
        };
        self.list.iter().filter(ends_behind).map(cut).collect()
    }

    /// Takes out the chunks that end here or before.
    pub(super) fn drop_before(&mut self, position: u64) -> Vec<Bytes> {
        let count = self.list.partition_point(|(start, chunk)| start + chunk.len() as u64 <= position);
        self.list.drain(..count).map(|(_, chunk)| chunk).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_not_gone_is_found_by_its_place(
            sizes in proptest::collection::vec(1usize..5, 0..12), gone in 0u64..50, at in 0u64..50,
        ) {
            let (mut chunks, mut whole) = (Chunks::default(), Vec::new());
            for (number, size) in sizes.iter().enumerate() {
                whole.extend(vec![number as u8; *size]);
                chunks.push(Bytes::from(vec![number as u8; *size]));
            }
            let dropped: usize = chunks.drop_before(gone).iter().map(Bytes::len).sum();
            prop_assert!(dropped as u64 <= gone);
            let rest = whole.get(at as usize..).unwrap_or_default();
            match chunks.from(at) {
                Some(chunk) => prop_assert!(!chunk.is_empty() && rest.starts_with(&chunk)),
                None => prop_assert!(at < dropped as u64 || rest.is_empty()),
            }
            if at >= dropped as u64 {
                prop_assert_eq!(chunks.since(at).concat(), rest);
            }
        }
    }
}
