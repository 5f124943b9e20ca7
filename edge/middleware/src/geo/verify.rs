//! Checks a whole database once, so that later lookups do not meet damage.
//!
//! The reader's own verification walks every path of the tree, of which a damaged or hostile file can have
//! exponentially many. This one visits every node once: linear in the size of the file, whatever is in it.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use maxminddb::Reader;

use super::Location;
use super::database::read;

/// What is wrong with a database.
#[derive(Debug)]
pub(super) enum Fault {
    /// It is damaged, and how.
    Corrupt(String),
    /// It is sound, but none of its records says anything we know.
    NothingKnown,
}

/// The search tree of a database: pairs of records of 24, 28 or 32 bits. A record below the node count is a node, the
/// node count itself is "nothing here", anything above points to data.
struct Tree<'a> {
    bytes: &'a [u8],
    node_count: usize,
    record_bits: usize,
}

/// A node still to visit, by the path of the first address that leads to it.
struct Visit {
    node: usize,
    path: u128,
    depth: u32,
}

/// Visits every node and decodes every record of the database that `reader` reads from `bytes`.
pub(super) fn verify(bytes: &[u8], reader: &Reader<&[u8]>) -> Result<(), Fault> {
    let metadata = reader.metadata();
    let tree = Tree { bytes, node_count: metadata.node_count as usize, record_bits: metadata.record_size.into() };
    let bits = if metadata.ip_version == 4 { 32 } else { 128 };
    let mut seen_nodes = vec![false; tree.node_count];
    let mut seen_data = HashSet::new();
    let mut known = false;
    let mut stack = vec![Visit { node: 0, path: 0, depth: 0 }];
    while let Some(Visit { node, path, depth }) = stack.pop() {
        if std::mem::replace(&mut seen_nodes[node], true) {
            continue;
        }
        if depth >= bits {
            return Err(Fault::Corrupt(format!("the search tree is deeper than {bits} bits at node {node}")));
        }
        for side in [0, 1] {
            let path = path | (side as u128) << (bits - 1 - depth);
            let next =
                tree.record(node, side).ok_or_else(|| Fault::Corrupt("the search tree is cut off".to_owned()))?;
            if next < tree.node_count {
                stack.push(Visit { node: next, path, depth: depth + 1 });
            } else if next > tree.node_count && seen_data.insert(next) {
                known |= decode(reader, address(path, bits))? != Location::default();
            }
        }
    }
    if known { Ok(()) } else { Err(Fault::NothingKnown) }
}

fn decode(reader: &Reader<&[u8]>, address: IpAddr) -> Result<Location, Fault> {
    let record = read(reader, address).map_err(|error| Fault::Corrupt(format!("at {address}: {error}")))?;
    Ok(record.unwrap_or_default().location())
}

fn address(path: u128, bits: u32) -> IpAddr {
    // The cast keeps the 32 bits that a path of an IPv4 tree has.
    if bits == 32 { Ipv4Addr::from_bits(path as u32).into() } else { Ipv6Addr::from_bits(path).into() }
}

impl Tree<'_> {
    /// The left (0) or right (1) record of a node; `None` past the end of the file.
    fn record(&self, node: usize, side: usize) -> Option<usize> {
        let width = self.record_bits / 4;
        let start = node.checked_mul(width)?;
        let node = self.bytes.get(start..start.checked_add(width)?)?;
        let whole = |bytes: &[u8]| bytes.iter().fold(0, |record, &byte| record << 8 | usize::from(byte));
        Some(match (self.record_bits, side) {
            // The middle byte holds the top four bits of the left record, then those of the right one.
            (28, 0) => usize::from(node[3] >> 4) << 24 | whole(&node[..3]),
            (28, _) => usize::from(node[3] & 0x0f) << 24 | whole(&node[4..]),
            (_, 0) => whole(&node[..width / 2]),
            _ => whole(&node[width / 2..]),
        })
    }
}
