//! Checks of every packet before a protocol processes it.

use crate::shared::Shared;
use crate::{DropReason, Rule};
use core::net::{IpAddr, Ipv6Addr};
use lastack_wire::Malformed;
use lastack_wire::ip::{self, IpPacket};

/// The packet, if it is well-formed, its destination local and its source valid. It is passed by
/// reference: a move right after the write would cause a store-forwarding stall.
pub(crate) fn admit<'p, 'a>(
    shared: &mut Shared,
    parsed: &'p Result<IpPacket<'a>, Malformed>,
) -> Result<&'p IpPacket<'a>, DropReason> {
    let parsed = match parsed {
        Ok(parsed) => parsed,
        Err(malformed) => {
            shared.counters.ip_in_header_errors += 1;
            return Err((*malformed).into());
        }
    };
    let (local, remote) = (&parsed.header.dst, &parsed.header.src);
    let group = takes_groups(shared, parsed.header.protocol) && is_group(*local);
    let broken = if !group && !is_ours(shared, local) {
        Rule::DropBadDestination
    } else if !is_peer(shared, remote, local) {
        Rule::DropBadSource
    } else {
        return Ok(parsed);
    };
    shared.counters.ip_in_address_errors += 1;
    Err(broken.into())
}

/// Whether packets of this protocol to multicast and broadcast addresses are intercepted.
const fn takes_groups(shared: &Shared, protocol: u8) -> bool {
    let intercept = &shared.config.intercept;
    intercept.groups
        && match protocol {
            ip::UDP => true,
            ip::TCP | ip::ICMP | ip::ICMPV6 => false,
            _ => intercept.other,
        }
}

/// `Rule::DropBadDestination`. With `any_address` and in local prefixes loopback addresses are not local.
fn is_ours(shared: &Shared, local: &IpAddr) -> bool {
    is_listed(&shared.config.addresses, local)
        || shared.config.accepts_any(*local) && is_host_at(local) && !local.is_loopback()
}

/// Compares family by family, as [`is_host_at`] does.
fn is_listed(list: &[IpAddr], addr: &IpAddr) -> bool {
    match addr {
        IpAddr::V4(addr) => list.iter().any(|own| matches!(own, IpAddr::V4(own) if own == addr)),
        IpAddr::V6(addr) => list.iter().any(|own| matches!(own, IpAddr::V6(own) if own == addr)),
    }
}

/// `Rule::DropBadSource`. Loopback is a valid source only for loopback. With `any_address` the peer's address is
/// local, too.
fn is_peer(shared: &Shared, remote: &IpAddr, local: &IpAddr) -> bool {
    is_host_at(remote)
        && (!remote.is_loopback() || local.is_loopback())
        && (shared.config.any_address || !is_listed(&shared.config.addresses, remote))
}

/// Whether an address on the wire is a unicast host address.
pub(crate) fn is_host(addr: IpAddr) -> bool {
    is_host_at(&addr)
}

/// Whether an address is multicast or the limited broadcast.
pub(crate) const fn is_group(addr: IpAddr) -> bool {
    match addr {
        IpAddr::V4(v4) => v4.is_multicast() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_multicast(),
    }
}

/// The same, family by family: reading 16 bytes where 4 were just written would stall until the
/// store buffer drains (no store forwarding).
fn is_host_at(addr: &IpAddr) -> bool {
    match addr {
        IpAddr::V4(v4) => ip::unicast(IpAddr::V4(*v4)),
        IpAddr::V6(v6) => ip::unicast(IpAddr::V6(*v6)) && !is_ipv4_compatible(v6),
    }
}

/// A deprecated IPv4-compatible IPv6 address, `::192.0.2.1` (RFC 4291 section 2.5.5.1).
fn is_ipv4_compatible(v6: &Ipv6Addr) -> bool {
    v6.segments()[..6] == [0; 6] && !v6.is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;
    use crate::testing::{addr, packet};
    use alloc::vec::Vec;

    fn shared(addresses: &[&str], any_address: bool) -> Shared {
        let addresses: Vec<_> = addresses.iter().map(|a| addr(a)).collect();
        Shared::new(Config { any_address, ..Config::new(addresses) }, [0; 16])
    }

    fn verdict(shared: &mut Shared, src: &str, dst: &str) -> Result<(), DropReason> {
        admit(shared, &IpPacket::parse(&packet(addr(src), addr(dst), ip::UDP, b"12345678"))).map(|_| ())
    }

    const N4: Result<(), DropReason> = Err(DropReason::Rule(Rule::DropBadDestination));
    const N5: Result<(), DropReason> = Err(DropReason::Rule(Rule::DropBadSource));

    #[test]
    fn n4_packets_for_other_hosts_are_dropped() {
        let mut shared = shared(&["10.0.0.1", "fd00::1"], false);
        for dst in ["255.255.255.255", "224.0.0.1", "10.0.0.9", "0.0.0.0", "127.0.0.1"] {
            assert_eq!(verdict(&mut shared, "10.0.0.2", dst), N4, "{dst}");
        }
        for dst in ["ff02::1", "ff05::2", "fd00::9", "::", "::1", "::ffff:10.0.0.1"] {
            assert_eq!(verdict(&mut shared, "fd00::2", dst), N4, "{dst}");
        }
        assert_eq!(shared.counters.ip_in_address_errors, 11);
        assert_eq!(verdict(&mut shared, "10.0.0.2", "10.0.0.1"), Ok(()));
        assert_eq!(verdict(&mut shared, "fd00::2", "fd00::1"), Ok(()));
    }

    #[test]
    fn n4_with_a_local_prefix_its_unicast_destinations_are_ours() {
        let mut shared = shared(&["192.0.2.1"], false);
        shared.config.local_prefixes = ["10.1.0.0/16", "127.0.0.0/8", "224.0.0.0/4", "2001:db8::/32"]
            .map(|p| p.parse().unwrap())
            .to_vec();
        for dst in ["10.1.0.1", "10.1.255.254", "192.0.2.1"] {
            assert_eq!(verdict(&mut shared, "10.0.0.2", dst), Ok(()), "{dst}");
        }
        for dst in ["10.2.0.1", "127.0.0.1", "224.0.0.1", "192.0.2.2"] {
            assert_eq!(verdict(&mut shared, "10.0.0.2", dst), N4, "{dst}");
        }
        assert_eq!(verdict(&mut shared, "fd00::2", "2001:db8::1"), Ok(()));
        assert_eq!(verdict(&mut shared, "192.0.2.1", "10.1.0.1"), N5, "its own address is no peer");
    }

    #[test]
    fn n4_with_any_address_every_unicast_destination_is_ours() {
        let mut shared = shared(&[], true);
        for dst in ["255.255.255.255", "224.0.0.1", "0.0.0.0", "127.0.0.1", "240.0.0.1"] {
            assert_eq!(verdict(&mut shared, "10.0.0.2", dst), N4, "{dst}");
        }
        for dst in ["ff02::1", "::", "::1", "::ffff:10.0.0.1", "::10.0.0.1"] {
            assert_eq!(verdict(&mut shared, "fd00::2", dst), N4, "{dst}");
        }
        assert_eq!(verdict(&mut shared, "10.0.0.2", "198.51.100.7"), Ok(()));
        assert_eq!(verdict(&mut shared, "fd00::2", "2001:db8::7"), Ok(()));
    }

    #[test]
    fn n5_impossible_source_addresses_are_dropped() {
        let mut shared = shared(&["10.0.0.1", "fd00::1"], false);
        for src in ["127.0.0.1", "224.0.0.5", "255.255.255.255", "0.0.0.0", "240.0.0.1", "10.0.0.1"] {
            assert_eq!(verdict(&mut shared, src, "10.0.0.1"), N5, "{src}");
        }
        for src in ["::1", "ff02::5", "::", "fd00::1", "::ffff:10.0.0.2", "::10.0.0.2"] {
            assert_eq!(verdict(&mut shared, src, "fd00::1"), N5, "{src}");
        }
        assert_eq!(shared.counters.ip_in_address_errors, 12);
    }

    #[test]
    fn n5_our_own_address_can_be_the_peers_where_all_are_ours() {
        let mut any = shared(&["10.0.0.1"], true);
        assert_eq!(verdict(&mut any, "10.0.0.1", "198.51.100.7"), Ok(()));
        assert_eq!(verdict(&mut any, "127.0.0.1", "198.51.100.7"), N5);
    }

    #[test]
    fn loopback_may_speak_to_loopback() {
        let mut shared = shared(&["127.0.0.1"], false);
        assert_eq!(verdict(&mut shared, "127.0.0.2", "127.0.0.1"), Ok(()));
        assert_eq!(verdict(&mut shared, "127.0.0.1", "127.0.0.1"), N5);
    }

    #[test]
    fn malformed_packets_are_counted() {
        let mut shared = shared(&["10.0.0.1"], false);
        let mut bytes = packet(addr("10.0.0.2"), addr("10.0.0.1"), ip::UDP, b"12345678");
        bytes[8] ^= 1;
        let error = Err(DropReason::Malformed(Malformed::Checksum));
        assert_eq!(admit(&mut shared, &IpPacket::parse(&bytes)).map(|_| ()), error);
        assert_eq!((shared.counters.ip_in_header_errors, shared.counters.ip_in_address_errors), (1, 0));
    }
}
