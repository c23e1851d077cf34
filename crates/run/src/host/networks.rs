//! The networks of this host: its addresses, routes and neighbours.

use std::net::IpAddr;
use std::os::fd::AsRawFd;

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};

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

/// The networks of its interfaces' addresses and of its routes except the default ones, in all routing tables, and its
/// neighbours.
pub fn of_host() -> Vec<HostNetwork> {
    let interfaces = getifaddrs().into_iter().flatten().filter_map(|interface| {
        let address = ip(interface.address?)?;
        Some(HostNetwork { address, prefix: prefix_of(ip(interface.netmask?)?) })
    });
    let known = [libc::RTM_GETROUTE, libc::RTM_GETNEIGH];
    // A system that does not answer: the addresses have to do.
    let known = known.into_iter().flat_map(|kind| dump(kind).unwrap_or_default());
    interfaces.chain(known).collect()
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

/// `struct nlmsghdr`, and `struct rtmsg` or `struct ndmsg` behind it, which are equally long.
const HEADER: usize = 16;
const BODY: usize = 12;
/// The attribute with the address: `RTA_DST` of a route, `NDA_DST` of a neighbour.
const DESTINATION: u16 = 1;

/// The networks in the kernel's answer to `RTM_GETROUTE` or `RTM_GETNEIGH` (rtnetlink(7)).
fn dump(kind: u16) -> nix::Result<Vec<HostNetwork>> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
    let mut request = [0; HEADER + BODY];
    request[..4].copy_from_slice(&((HEADER + BODY) as u32).to_ne_bytes());
    request[4..6].copy_from_slice(&kind.to_ne_bytes());
    request[6..8].copy_from_slice(&((libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16).to_ne_bytes());
    sendto(socket.as_raw_fd(), &request, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    let (mut networks, mut answer) = (Vec::new(), vec![0; 1 << 16]);
    loop {
        let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        if length == 0 || read(&answer[..length], &mut networks) {
            return Ok(networks);
        }
    }
}

/// Reads a part of the answer. `true`: it was the last one.
fn read(mut answer: &[u8], networks: &mut Vec<HostNetwork>) -> bool {
    while let Some(header) = answer.first_chunk::<HEADER>() {
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let kind = u16::from_ne_bytes([header[4], header[5]]);
        if [libc::NLMSG_DONE, libc::NLMSG_ERROR].contains(&i32::from(kind)) {
            return true;
        }
        let Some(message) = answer.get(HEADER..length) else { return true };
        networks.extend(match kind {
            libc::RTM_NEWROUTE => route(message),
            libc::RTM_NEWNEIGH => neighbour(message),
            _ => None,
        });
        answer = answer.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    false
}

/// A route that leads somewhere, except a default route: that is no network of the host.
fn route(message: &[u8]) -> Option<HostNetwork> {
    let &[_, prefix, _, _, _, _, _, kind, ..] = message else { return None };
    let leads = [libc::RTN_UNICAST, libc::RTN_LOCAL, libc::RTN_BROADCAST, libc::RTN_ANYCAST].contains(&kind);
    let address = destination(message).filter(|_| leads && prefix > 0)?;
    Some(HostNetwork { address, prefix })
}

/// A neighbour that has answered, or was configured.
fn neighbour(message: &[u8]) -> Option<HostNetwork> {
    let state = u16::from_ne_bytes([*message.get(8)?, *message.get(9)?]);
    let known =
        libc::NUD_REACHABLE | libc::NUD_STALE | libc::NUD_DELAY | libc::NUD_PROBE | libc::NUD_PERMANENT;
    let address = destination(message).filter(|_| state & known != 0)?;
    Some(HostNetwork { address, prefix: if address.is_ipv6() { 128 } else { 32 } })
}

/// The address in the attributes behind the body.
fn destination(message: &[u8]) -> Option<IpAddr> {
    let mut rest = message.get(BODY..)?;
    while let Some(&[a, b, c, d]) = rest.first_chunk::<4>() {
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let data = rest.get(4..length)?;
        if u16::from_ne_bytes([c, d]) == DESTINATION {
            let v4 = <[u8; 4]>::try_from(data).map(IpAddr::from);
            return v4.or_else(|_| <[u8; 16]>::try_from(data).map(IpAddr::from)).ok();
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
    None
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

    /// A message of the kernel: its body, and the destination.
    fn message(body: [u8; BODY], address: &str) -> Vec<u8> {
        let data = match address.parse().unwrap() {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        let attribute = |kind: u16, data: &[u8]| {
            [&((data.len() + 4) as u16).to_ne_bytes(), &kind.to_ne_bytes(), data].concat()
        };
        [body.to_vec(), attribute(15, &[254, 0, 0, 0]), attribute(DESTINATION, &data)].concat()
    }

    #[test]
    fn routes_that_lead_somewhere_are_networks_of_the_host() {
        let of = |prefix, kind, to| route(&message([0, prefix, 0, 0, 0, 0, 0, kind, 0, 0, 0, 0], to));
        assert_eq!(of(24, libc::RTN_UNICAST, "10.0.2.0"), Some(network("10.0.2.0/24")));
        assert_eq!(of(64, libc::RTN_UNICAST, "fd00::"), Some(network("fd00::/64")));
        assert_eq!(of(0, libc::RTN_UNICAST, "0.0.0.0"), None, "the default route");
        assert_eq!(of(8, libc::RTN_UNREACHABLE, "fd00::"), None);
        assert_eq!(of(8, libc::RTN_MULTICAST, "ff00::"), None);
        assert_eq!(route(&[0, 24, 0, 0]), None, "cut off");
    }

    #[test]
    fn neighbours_that_are_known_are_networks_of_the_host() {
        let of = |state: u16| {
            let [a, b] = state.to_ne_bytes();
            neighbour(&message([0, 0, 0, 0, 0, 0, 0, 0, a, b, 0, 0], "fd00::77"))
        };
        assert_eq!(of(libc::NUD_REACHABLE), Some(network("fd00::77/128")));
        assert_eq!(of(libc::NUD_PERMANENT), Some(network("fd00::77/128")));
        assert_eq!((of(libc::NUD_FAILED), of(libc::NUD_INCOMPLETE)), (None, None), "nobody answered");
    }

    #[test]
    fn the_kernel_lists_the_loopback() {
        assert!(of_host().iter().any(|network| network.address.is_loopback()));
        let routes = dump(libc::RTM_GETROUTE).unwrap();
        assert!(routes.iter().any(|route| route.address.is_loopback()), "{routes:?}");
        dump(libc::RTM_GETNEIGH).unwrap();
    }
}
