//! The networks of this host.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};

use nix::ifaddrs::getifaddrs;

/// A network: an address in it, and the length of its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostNetwork {
    /// An address in it.
    pub address: IpAddr,
    /// The prefix length in bits.
    pub prefix: u8,
}

impl HostNetwork {
    /// Whether they have an address in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        let common = self.prefix.min(other.prefix);
        match (self.address, other.address) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                shifted(a.to_bits().into(), 32, common) == shifted(b.to_bits().into(), 32, common)
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => {
                shifted(a.to_bits(), 128, common) == shifted(b.to_bits(), 128, common)
            }
            _ => false,
        }
    }
}

/// The first `prefix` bits of a number of `width` bits.
fn shifted(bits: u128, width: u8, prefix: u8) -> u128 {
    bits.checked_shr((width - prefix).into()).unwrap_or(0)
}

/// The networks of its interfaces' addresses, and of its IPv4 routes except the default.
pub fn of_host() -> Vec<HostNetwork> {
    let interfaces = getifaddrs().into_iter().flatten().filter_map(|interface| {
        let address = ip(interface.address?)?;
        Some(HostNetwork { address, prefix: prefix_of(ip(interface.netmask?)?) })
    });
    let routes = fs::read_to_string("/proc/net/route").unwrap_or_default();
    interfaces.chain(routes.lines().filter_map(route)).collect()
}

fn ip(address: nix::sys::socket::SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
}

fn prefix_of(mask: IpAddr) -> u8 {
    match mask {
        IpAddr::V4(mask) => mask.to_bits().leading_ones() as u8,
        IpAddr::V6(mask) => mask.to_bits().leading_ones() as u8,
    }
}

/// A line of /proc/net/route: numbers are in host byte order. `None` for the default route and the heading.
fn route(line: &str) -> Option<HostNetwork> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let number = |at: usize| {
        let field = u32::from_str_radix(fields.get(at)?, 16).ok()?;
        Some(Ipv4Addr::from(field.to_ne_bytes()))
    };
    let (destination, mask) = (number(1)?, number(7)?);
    let prefix = prefix_of(mask.into());
    (prefix > 0).then_some(HostNetwork { address: destination.into(), prefix })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> HostNetwork {
        let (address, prefix) = text.split_once('/').unwrap();
        HostNetwork { address: address.parse().unwrap(), prefix: prefix.parse().unwrap() }
    }

    #[test]
    fn networks_overlap_where_one_holds_the_other() {
        for (one, other, overlap) in [
            ("10.0.2.15/24", "10.0.2.0/24", true),
            ("10.0.0.0/8", "10.0.2.0/24", true),
            ("10.0.3.1/24", "10.0.2.0/24", false),
            ("0.0.0.0/0", "10.0.2.0/24", true),
            ("fd00::5/64", "fd00::/64", true),
            ("fd00:0:0:1::5/64", "fd00::/64", false),
            ("10.0.2.1/24", "fd00::/64", false),
        ] {
            assert_eq!(network(one).overlaps(&network(other)), overlap, "{one} {other}");
            assert_eq!(network(other).overlaps(&network(one)), overlap, "{other} {one}");
        }
    }

    #[test]
    fn routes_are_read_and_the_default_is_none() {
        let [destination, mask] =
            [[10, 0, 2, 0], [255, 255, 255, 0]].map(|bytes| format!("{:08X}", u32::from_ne_bytes(bytes)));
        let line = format!("eth0\t{destination}\t00000000\t0001\t0\t0\t0\t{mask}\t0\t0\t0");
        assert_eq!(route(&line), Some(network("10.0.2.0/24")));
        assert_eq!(route("eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0"), None);
        assert_eq!(
            route("Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT"),
            None
        );
        assert!(of_host().iter().any(|network| network.address.is_loopback()));
    }
}
