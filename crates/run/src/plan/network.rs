//! The program's networks, and the addresses in them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, bail, ensure};

use super::route::is_the_host_itself;
use crate::host;
use crate::host::networks::HostNetwork;

/// One of the program's networks, with the host numbers of slirp4netns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// The network itself.
    pub(super) base: IpAddr,
    /// Its length.
    pub prefix: u8,
    /// The program's address.
    pub guest: IpAddr,
    /// The gateway.
    pub gateway: IpAddr,
    /// The name server.
    pub dns: IpAddr,
}

/// The numbers of hosts in a network.
const GATEWAY: u128 = 2;
const DNS: u128 = 3;
/// `MAXNS` of resolv.h.
const MAX_NAME_SERVERS: usize = 3;
/// The program's number has the same notation in both families: `.100` and `::100`.
const GUEST_V4: u128 = 100;
const GUEST_V6: u128 = 0x100;

/// The default networks of a program: the first that does not overlap with this host's. The last of each family is for
/// benchmarks (RFC 2544, RFC 5180), where no host is.
const NETWORKS_V4: [&str; 6] =
    ["10.0.2.0/24", "10.0.3.0/24", "10.171.2.0/24", "172.29.2.0/24", "192.168.202.0/24", "198.18.2.0/24"];
const NETWORKS_V6: [&str; 6] = [
    "fd00::/64",
    "fd00:0:0:3::/64",
    "fd6c:6173:7461:2::/64",
    "fd9b:2d0e:51c7:2::/64",
    "fdd4:7f13:a86e:2::/64",
    "2001:2:0:2::/64",
];

impl Network {
    /// The given network, or with `auto` one that does not overlap with a network of this host.
    ///
    /// `host_loopback`: the program reaches this host's loopback at the gateway. The IPv6 network then stays, because the
    /// program has to know the gateway's address.
    pub(super) fn chosen(text: &str, v6: bool, host_loopback: bool) -> anyhow::Result<Self> {
        match text {
            "auto" if v6 && host_loopback => Self::parse(NETWORKS_V6[0], v6),
            "auto" => Self::first_free(v6, &host::networks::of_host()),
            named => Self::parse(named, v6),
        }
    }

    /// The first candidate after all that overlap with one of `taken`, or else the first that overlaps with none; the first
    /// of all if each does.
    fn first_free(v6: bool, taken: &[HostNetwork]) -> anyhow::Result<Self> {
        let candidates = if v6 { NETWORKS_V6 } else { NETWORKS_V4 };
        let mut networks =
            candidates.iter().map(|text| Self::parse(text, v6)).collect::<Result<Vec<_>, _>>()?;
        let is_free = |network: &Self| {
            let own = HostNetwork { address: network.base, prefix: network.prefix };
            !taken.iter().any(|other| other.overlaps(&own))
        };
        // A host that has one of them may be a program of another run, which passed over those before because they are
        // networks of its host.
        let free: Vec<bool> = networks.iter().map(is_free).collect();
        let begin = free.iter().rposition(|free| !free).map_or(0, |last| last + 1);
        let after = (begin < free.len()).then_some(begin);
        let at = after.or_else(|| free.iter().position(|free| *free)).unwrap_or(0);
        Ok(networks.swap_remove(at))
    }

    /// Reads `10.0.2.0/24`, of this family.
    fn parse(text: &str, v6: bool) -> anyhow::Result<Self> {
        let example = if v6 { "fd00::/64" } else { "10.0.2.0/24" };
        let malformed =
            || format!("{text:?} is not a network of IPv{}, such as {example}", if v6 { 6 } else { 4 });
        let (address, prefix) = text.split_once('/').with_context(malformed)?;
        let address: IpAddr = address.parse().ok().with_context(malformed)?;
        let prefix: u8 = prefix.parse().ok().with_context(malformed)?;
        ensure!(address.is_ipv6() == v6, malformed());
        // Leaves room for the program's host number.
        let longest = if v6 { 119 } else { 25 };
        if prefix > longest || prefix < 8 {
            bail!("{text}: the prefix is out of range: choose from 8 to {longest}");
        }
        let at = |number| host_number(address, prefix, number);
        let network = Self {
            base: at(0),
            prefix,
            guest: at(if v6 { GUEST_V6 } else { GUEST_V4 }),
            gateway: at(GATEWAY),
            dns: at(DNS),
        };
        let usable = lastack_wire::ip::unicast(network.guest) && !is_the_host_itself(network.guest);
        ensure!(
            usable,
            "{text}: programs cannot have addresses there: choose a private network, such as {example}"
        );
        Ok(network)
    }

    pub(super) fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv6() == self.base.is_ipv6() && host_number(address, self.prefix, 0) == self.base
    }
}

/// The addresses of `count` name servers, up to libc's maximum: the families alternate.
pub(super) fn name_servers(networks: &[Network], count: usize) -> Vec<IpAddr> {
    let at = |number: usize| {
        let network = networks[number % networks.len()];
        host_number(network.base, network.prefix, DNS + (number / networks.len()) as u128)
    };
    (0..count.clamp(1, MAX_NAME_SERVERS)).map(at).collect()
}

/// The address with this host number in the network of `address`.
fn host_number(address: IpAddr, prefix: u8, number: u128) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            Ipv4Addr::from((u32::from(v4) & mask) + number as u32).into()
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            Ipv6Addr::from((u128::from(v6) & mask) + number).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_of_the_host_is_none_of_the_programs() {
        let network = |address: &str, prefix| HostNetwork { address: address.parse().unwrap(), prefix };
        let first = |taken: &[HostNetwork]| Network::first_free(false, taken).unwrap().guest.to_string();
        assert_eq!(first(&[network("192.168.1.7", 24), network("fd00::7", 64)]), "10.0.2.100");
        assert_eq!(first(&[network("10.0.2.15", 24)]), "10.0.3.100");
        assert_eq!(first(&[network("10.0.0.0", 8)]), "172.29.2.100");
        assert_eq!(first(&[network("10.0.3.100", 24)]), "10.171.2.100", "a nested run");
        assert_eq!(first(&[network("198.18.2.100", 24)]), "10.0.2.100", "after the last, the first");
        // Nothing is free: what people know.
        assert_eq!(first(&[network("0.0.0.0", 1), network("128.0.0.0", 1)]), "10.0.2.100");

        let with_loopback = Network::chosen("auto", true, true).unwrap();
        assert_eq!(with_loopback.gateway.to_string(), "fd00::2", "where it is known to be");
        let first = |taken: &[HostNetwork]| Network::first_free(true, taken).unwrap().guest.to_string();
        assert_eq!(first(&[network("10.0.2.15", 24), network("fe80::", 64)]), "fd00::100");
        assert_eq!(first(&[network("fd00::7", 64)]), "fd00:0:0:3::100");
        assert_eq!(first(&[network("fd00::77", 128)]), "fd00:0:0:3::100", "a neighbour");
        assert_eq!(first(&[network("fd00::", 16)]), "fd6c:6173:7461:2::100");
        assert_eq!(first(&[network("fc00::", 7)]), "2001:2:0:2::100", "all unique local addresses");
        assert_eq!(first(&[network("fd00:0:0:3::100", 64)]), "fd6c:6173:7461:2::100", "a nested run");
    }
}
