//! The interface that carries multicast: that of this host's default route, unless another one is named.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use std::time::{Duration, Instant};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::{InterfaceFlags, if_nametoindex};

use super::socket::socket_address;

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its index.
    pub index: u32,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

/// How long a result is cached: interfaces seldom change, and a query costs as much as a hundred datagrams.
const FRESH: Duration = Duration::from_secs(2);

/// An interface of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// That of the default route, else the first that is up and supports multicast, except loopback.
    Default,
    /// The one with this address.
    With(IpAddr),
    /// The one with this name.
    Named(String),
}

type Known = Option<(Instant, Which, Option<Interface>)>;

thread_local! {
    static KNOWN: RefCell<Known> = const { RefCell::new(None) };
}

/// Finds it.
pub fn find(which: &Which) -> Option<Interface> {
    KNOWN.with_borrow_mut(|known| match known {
        Some((at, of, interface)) if at.elapsed() < FRESH && of == which => interface.clone(),
        _ => known.insert((Instant::now(), which.clone(), look(which))).2.clone(),
    })
}

fn look(which: &Which) -> Option<Interface> {
    let all: Vec<_> = getifaddrs().ok()?.collect();
    let carries = |flags: InterfaceFlags| {
        flags.contains(InterfaceFlags::IFF_UP | InterfaceFlags::IFF_MULTICAST)
            && !flags.contains(InterfaceFlags::IFF_LOOPBACK)
    };
    let address = |entry: &nix::ifaddrs::InterfaceAddress| {
        entry.address.as_ref().and_then(socket_address).map(|address| address.ip())
    };
    let candidates = || all.iter().filter(|entry| carries(entry.flags));
    let with =
        |source: Option<IpAddr>| candidates().find(|entry| source.is_some() && address(entry) == source);
    let chosen = match which {
        Which::Named(name) => all.iter().find(|entry| entry.interface_name == *name),
        Which::With(source) => with(Some(*source)),
        Which::Default => with([false, true].into_iter().find_map(source))
            .or_else(|| candidates().find(|entry| address(entry).is_some())),
    }?;
    let of_it = all.iter().filter(|entry| entry.interface_name == chosen.interface_name);
    let index = if_nametoindex(chosen.interface_name.as_str()).ok()?;
    Some(Interface { index, addresses: of_it.filter_map(address).collect() })
}

/// The source address of packets on the default route. Nothing is sent.
pub fn source(v6: bool) -> Option<IpAddr> {
    let (from, to): (SocketAddr, SocketAddr) = if v6 {
        ((Ipv6Addr::UNSPECIFIED, 0).into(), (Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1), 9).into())
    } else {
        ((Ipv4Addr::UNSPECIFIED, 0).into(), (Ipv4Addr::new(203, 0, 113, 1), 9).into())
    };
    let socket = UdpSocket::bind(from).ok()?;
    socket.connect(to).ok()?;
    Some(socket.local_addr().ok()?.ip())
}
