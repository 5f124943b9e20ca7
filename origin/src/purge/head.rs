//! The log as it is stored. Pure; the store is elsewhere.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Batch, MAX_AGE_MS, MAX_BYTES, MAX_PURGES, Mode, PurgeError, Scope};
use crate::bundle::Digest;

/// Format of the stored log.
const FORMAT: u32 = 1;

/// From so many purges on, the newest batches become a segment: the object that every purge rewrites stays small.
const SEGMENT_PURGES: u64 = 256;

/// The same in bytes.
const SEGMENT_BYTES: u64 = 64 << 10;

/// The object that every purge changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    format: u32,
    /// Every purge with a number above this one is in the log.
    pub(super) known_after: u64,
    /// Number of the newest purge.
    pub(super) last: u64,
    /// Oldest first.
    pub(super) segments: Vec<Segment>,
    /// Oldest first.
    pub(super) recent: Vec<Batch>,
}

/// Batches that are not in the head any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Segment {
    pub(super) last: u64,
    /// When its newest purge was accepted.
    at_ms: u64,
    purges: u64,
    bytes: u64,
    /// Of its object, which has it in its name.
    pub(super) digest: Digest,
}

/// What an append makes of the log.
pub(super) struct Next {
    pub(super) head: Head,
    /// What must be written before it: the bytes of the newest segment.
    pub(super) segment: Option<(Vec<u8>, Arc<[Batch]>)>,
    /// Segments from the oldest on that are not in it any more.
    pub(super) dropped: usize,
}

impl Head {
    /// A log that begins after this number.
    pub(super) fn new(known_after: u64) -> Self {
        Self { format: FORMAT, known_after, last: known_after, segments: Vec::new(), recent: Vec::new() }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a log has only string keys")
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, PurgeError> {
        let head: Self = serde_json::from_slice(bytes).map_err(|e| PurgeError::Log(e.to_string()))?;
        match head.format {
            FORMAT => Ok(head),
            other => Err(PurgeError::Log(format!("it has format {other}, this release reads format {FORMAT}"))),
        }
    }

    /// Purges in the log.
    pub(super) fn length(&self) -> u64 {
        self.segments.iter().map(|segment| segment.purges).sum::<u64>() + count(&self.recent)
    }

    /// The log with one more batch, and that batch.
    pub(super) fn append(&self, scopes: Vec<Scope>, mode: Mode, id: String, now_ms: u64) -> (Next, Batch) {
        let batch = Batch { number: now_ms.max(self.last + 1), at_ms: now_ms, mode, scopes, id };
        let mut head = self.clone();
        head.last = batch.last();
        let full = count(&head.recent) >= SEGMENT_PURGES || bytes(&head.recent) >= SEGMENT_BYTES;
        let segment = (full).then(|| head.roll());
        head.recent.push(batch.clone());
        let dropped = head.retain(now_ms);
        (Next { head, segment, dropped }, batch)
    }

    /// Makes a segment of the newest batches.
    fn roll(&mut self) -> (Vec<u8>, Arc<[Batch]>) {
        let batches: Arc<[Batch]> = std::mem::take(&mut self.recent).into();
        let encoded = serde_json::to_vec(&batches[..]).expect("batches have only string keys");
        let newest = batches.last();
        self.segments.push(Segment {
            last: newest.map_or(self.known_after, Batch::last),
            at_ms: newest.map_or(0, |batch| batch.at_ms),
            purges: count(&batches),
            bytes: bytes(&batches),
            digest: Digest::of(&encoded),
        });
        (encoded, batches)
    }

    /// Drops the oldest segments that need not be kept; how many.
    fn retain(&mut self, now_ms: u64) -> usize {
        let (mut purges, mut bytes) = (self.length(), self.segments.iter().map(|s| s.bytes).sum::<u64>());
        let mut dropped = 0;
        for segment in &self.segments {
            let needed = purges - segment.purges < MAX_PURGES && bytes <= MAX_BYTES;
            if needed && now_ms.saturating_sub(segment.at_ms) < MAX_AGE_MS {
                break;
            }
            (purges, bytes, dropped) = (purges - segment.purges, bytes - segment.bytes, dropped + 1);
            self.known_after = segment.last;
        }
        self.segments.drain(..dropped);
        dropped
    }
}

pub(super) fn decode_segment(bytes: &[u8]) -> Result<Arc<[Batch]>, String> {
    serde_json::from_slice::<Vec<Batch>>(bytes).map(Into::into).map_err(|e| e.to_string())
}

fn count(batches: &[Batch]) -> u64 {
    batches.iter().map(|batch| batch.scopes.len() as u64).sum()
}

fn bytes(batches: &[Batch]) -> u64 {
    batches.iter().map(Batch::bytes).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scopes(n: usize) -> Vec<Scope> {
        (0..n).map(|n| Scope::tag(&format!("t{n}")).unwrap()).collect()
    }

    #[test]
    fn other_formats_are_named() {
        let head = Head::new(7);
        assert_eq!(Head::decode(&head.encode()).unwrap(), head);
        let newer = String::from_utf8(head.encode()).unwrap().replace("\"format\":1", "\"format\":2");
        assert!(Head::decode(newer.as_bytes()).unwrap_err().to_string().contains("format 2"));
        assert!(Head::decode(b"{").is_err());
    }

    #[test]
    fn a_purge_is_kept_until_it_is_too_old_or_there_are_too_many_and_the_head_stays_small() {
        let mut head = Head::new(0);
        for n in 0..15_000 {
            head = head.append(scopes(1), Mode::Hard, String::new(), 1_000_000 + n).0.head;
            assert!(n % 100 > 0 || head.encode().len() < 100_000);
        }
        assert!((MAX_PURGES..MAX_PURGES + SEGMENT_PURGES).contains(&head.length()), "{}", head.length());
        assert_eq!(head.known_after + head.length(), head.last);
        let later = head.append(scopes(1), Mode::Hard, String::new(), head.last + MAX_AGE_MS + 1).0;
        assert_eq!(later.dropped, head.segments.len());
        assert!(later.head.segments.is_empty() && later.head.known_after < later.head.last);
    }

    proptest! {
        // Each case is a long log.
        #![proptest_config(ProptestConfig::with_cases(12))]
        #[test]
        fn numbers_go_up_whatever_the_clock_does_and_what_is_known_is_whole(
            calls in proptest::collection::vec((1..100_usize, 0..5_000_u64), 1..250),
        ) {
            let mut head = Head::new(1000);
            let mut segments: Vec<Arc<[Batch]>> = Vec::new();
            let mut all = Vec::new();
            for (n, now_ms) in calls {
                let before = head.last;
                let (next, batch) = head.append(scopes(n), Mode::Soft, String::new(), now_ms);
                prop_assert!(batch.number > before && batch.last() == next.head.last);
                all.extend(batch.purges().map(|(number, scope)| (number, scope.clone())));
                segments.extend(next.segment.map(|(_, batches)| batches));
                segments.drain(..next.dropped);
                head = next.head;
                if next.dropped == 0 && all.len() % 16 > 0 {
                    continue;
                }
                let kept = segments.iter().flat_map(|batches| batches.iter()).chain(&head.recent);
                let kept: Vec<_> = kept.flat_map(|b| b.purges().map(|(n, s)| (n, s.clone())).collect::<Vec<_>>()).collect();
                let known: Vec<_> = all.iter().filter(|(number, _)| *number > head.known_after).cloned().collect();
                prop_assert_eq!(kept, known);
            }
        }
    }
}
