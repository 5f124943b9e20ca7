//! The address of the client, behind the proxies we trust and no others.
//!
//! `X-Forwarded-For` is a list to which every proxy appends the address it was called from. Anybody can send one, so
//! only entries appended by a trusted proxy mean anything: the list is read from the right, for as long as the hop
//! that wrote the entry is on the trust list.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

/// Most entries of `X-Forwarded-For` that are read, counted from the right. A chain of trusted proxies longer than this
/// is a mistake in the trust list; the walk then ends at the last entry read.
pub const MAX_HOPS: usize = 32;

/// The client's address: the first hop, counted from our socket outwards, that is not trusted.
///
/// `peer` is the other end of the socket; `forwarded_for` the values of all `X-Forwarded-For` header lines in the order
/// received. When the peer is not trusted the header is not looked at. Entries may carry a port, IPv6 ones brackets.
/// The walk stops at an entry that is not an address (`unknown`, an obfuscated name, garbage): the answer is then the
/// last address that a trusted hop vouched for. IPv4-mapped IPv6 addresses come out as IPv4.
pub fn client_address<'a>(peer: IpAddr, forwarded_for: impl Iterator<Item = &'a str>, trust: &[IpNet]) -> IpAddr {
    let trusted = |address: &IpAddr| trust.iter().any(|net| net.contains(address));
    let mut client = peer.to_canonical();
    if !trusted(&client) {
        return client;
    }
    for entry in last_entries(forwarded_for).into_iter().rev() {
        let Some(address) = parse_hop(entry) else { break };
        client = address;
        if !trusted(&client) {
            break;
        }
    }
    client
}

/// The last [`MAX_HOPS`] entries of the list, in order. Empty elements carry nothing and are skipped (RFC 9110, 5.6.1).
fn last_entries<'a>(values: impl Iterator<Item = &'a str>) -> VecDeque<&'a str> {
    let mut last = VecDeque::with_capacity(MAX_HOPS);
    for entry in values.flat_map(|value| value.split(',')).map(str::trim).filter(|entry| !entry.is_empty()) {
        if last.len() == MAX_HOPS {
            last.pop_front();
        }
        last.push_back(entry);
    }
    last
}

/// One entry: `192.0.2.1`, `192.0.2.1:4711`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:4711`.
fn parse_hop(entry: &str) -> Option<IpAddr> {
    let bracketed = || entry.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    entry
        .parse::<IpAddr>()
        .ok()
        .or_else(|| bracketed().and_then(|inner| inner.parse().ok()).map(IpAddr::V6))
        .or_else(|| entry.parse::<SocketAddr>().ok().map(|address| address.ip()))
        .map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(peer: &str, header: &[&str], trust: &[&str], expect: &str) {
        let trust: Vec<IpNet> = trust.iter().map(|net| net.parse().unwrap()).collect();
        let client = client_address(peer.parse().unwrap(), header.iter().copied(), &trust);
        assert_eq!(client, expect.parse::<IpAddr>().unwrap(), "{peer} {header:?}");
    }

    const LOOPBACK: &[&str] = &["127.0.0.0/8", "::1/128"];

    #[test]
    fn without_trust_the_peer_is_the_client() {
        check("203.0.113.9", &["133.11.0.1"], LOOPBACK, "203.0.113.9");
        check("127.0.0.1", &["133.11.0.1"], &[], "127.0.0.1");
    }

    #[test]
    fn behind_a_trusted_peer_the_last_untrusted_hop_is_the_client() {
        check("127.0.0.1", &["133.11.0.1"], LOOPBACK, "133.11.0.1");
        check("127.0.0.1", &["1.1.1.1, 133.11.0.1"], LOOPBACK, "133.11.0.1");
        check("127.0.0.1", &["1.1.1.1, 133.11.0.1, 127.0.0.2"], LOOPBACK, "133.11.0.1");
        check("127.0.0.1", &["1.1.1.1", "133.11.0.1", "127.0.0.2"], LOOPBACK, "133.11.0.1");
        check("127.0.0.1", &["10.0.0.1, 10.0.0.2"], &["127.0.0.1/32", "10.0.0.0/8"], "10.0.0.1");
    }

    #[test]
    fn ports_brackets_spaces_and_empty_elements_are_read() {
        check("127.0.0.1", &["133.11.0.1:4711"], LOOPBACK, "133.11.0.1");
        check("::1", &["[2001:db8::1]:443"], LOOPBACK, "2001:db8::1");
        check("::1", &["[2001:db8::1]"], LOOPBACK, "2001:db8::1");
        check("::1", &["2001:db8::1"], LOOPBACK, "2001:db8::1");
        check("::1", &[" ,, \t133.11.0.1 , ,"], LOOPBACK, "133.11.0.1");
        check("::1", &["", ","], LOOPBACK, "::1");
    }

    #[test]
    fn mapped_addresses_are_plain_ipv4() {
        check("::ffff:127.0.0.1", &["::ffff:133.11.0.1"], LOOPBACK, "133.11.0.1");
        check("::ffff:203.0.113.9", &["1.1.1.1"], LOOPBACK, "203.0.113.9");
        check("127.0.0.1", &["[::ffff:133.11.0.1]:80"], LOOPBACK, "133.11.0.1");
    }

    #[test]
    fn the_walk_stops_at_garbage() {
        for garbage in
            ["unknown", "_hidden", "1.2.3", "1.2.3.4:99999", "[::1", "::1]", "1.2.3.4:", "\u{7f}", "[1.2.3.4]"]
        {
            check("127.0.0.1", &["8.8.8.8", garbage], LOOPBACK, "127.0.0.1");
            check("127.0.0.1", &[&format!("8.8.8.8, {garbage}, 127.0.0.7")], LOOPBACK, "127.0.0.7");
        }
    }

    #[test]
    fn a_chain_of_trusted_hops_is_read_only_so_far() {
        let chain: Vec<String> = (0..100).map(|n| format!("127.0.0.{n}")).collect();
        check("127.0.0.1", &[&chain.join(",")], LOOPBACK, &format!("127.0.0.{}", 100 - MAX_HOPS));
    }

    proptest! {
        #[test]
        fn what_a_client_sends_never_changes_what_trusted_hops_say(forged in ".{0,200}", peer: [u8; 4]) {
            let client: IpAddr = IpAddr::from([203, 0, 113, 7]);
            let trust: Vec<IpNet> = vec!["127.0.0.0/8".parse().unwrap()];
            let header = [forged.as_str(), "203.0.113.7", "127.0.0.9"];
            prop_assert_eq!(client_address([127, 0, 0, 1].into(), header.into_iter(), &trust), client);
            let peer = IpAddr::from(peer);
            if !peer.is_loopback() {
                prop_assert_eq!(client_address(peer, [forged.as_str()].into_iter(), &trust), peer);
            }
        }

        #[test]
        fn every_address_is_read_with_and_without_a_port(address: std::net::IpAddr, port: u16) {
            prop_assert_eq!(parse_hop(&address.to_string()), Some(address.to_canonical()));
            prop_assert_eq!(parse_hop(&SocketAddr::new(address, port).to_string()), Some(address.to_canonical()));
        }
    }
}
