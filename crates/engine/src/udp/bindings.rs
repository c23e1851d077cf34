//! The local addresses of sockets, and demultiplexing.

use crate::end::FourTuple;
use crate::isn::Seeded;
use crate::udp::UdpId;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::ops::RangeInclusive;
use hashbrown::HashMap;

/// The ephemeral ports: the dynamic ports of IANA (RFC 6335 section 6), and if all are taken as many
/// below.
const EPHEMERAL: [RangeInclusive<u16>; 2] = [49_152..=65_535, 32_768..=49_151];

/// Finds the socket of a datagram with three lookups, independent of the number of sockets.
#[derive(Debug)]
pub(super) struct Bindings {
    connected: HashMap<FourTuple, UdpId, Seeded>,
    /// By local address, including the unspecified ones.
    bound: HashMap<SocketAddr, Holder, Seeded>,
    /// The number of entries of `bound` per port.
    ports: HashMap<u16, u32, Seeded>,
    /// The number of ports of each range in `ports`.
    taken: [usize; EPHEMERAL.len()],
}

#[derive(Clone, Copy, Debug)]
struct Holder {
    id: UdpId,
    /// It is connected: it keeps its local address, but receives only from its peer.
    connected: bool,
}

impl Bindings {
    pub fn new(hasher: Seeded) -> Self {
        Self {
            connected: HashMap::with_hasher(hasher.clone()),
            bound: HashMap::with_hasher(hasher.clone()),
            ports: HashMap::with_hasher(hasher),
            taken: [0; EPHEMERAL.len()],
        }
    }

    /// The most specific match: the socket connected to this peer, else the one bound to the address,
    /// else the one bound to the unspecified address.
    pub fn lookup(&self, flow: &FourTuple) -> Option<UdpId> {
        self.connected(flow).or_else(|| self.unconnected(flow.local))
    }

    /// The socket connected to this peer.
    pub fn connected(&self, flow: &FourTuple) -> Option<UdpId> {
        if self.connected.is_empty() {
            return None;
        }
        self.connected.get(flow).copied()
    }

    /// The unconnected socket bound to this address or to the unspecified one.
    pub fn unconnected(&self, local: SocketAddr) -> Option<UdpId> {
        let open = |at| self.bound.get(&at).filter(|holder| !holder.connected);
        open(local).or_else(|| open(anywhere(local))).map(|holder| holder.id)
    }

    /// Whether a socket is bound to exactly this address. A socket with a specific address and one with
    /// the unspecified address may share a port.
    pub fn is_taken(&self, local: SocketAddr) -> bool {
        keys(local).any(|key| self.bound.contains_key(&key))
    }

    pub fn bind(&mut self, local: SocketAddr, id: UdpId) {
        for key in keys(local) {
            self.bound.insert(key, Holder { id, connected: false });
            let count = self.ports.entry(key.port()).or_default();
            *count += 1;
            if *count == 1
                && let Some(range) = range_of(key.port())
            {
                self.taken[range] += 1;
            }
        }
    }

    /// Connects the socket bound to `bound`: it then receives only from the peer of `flow`.
    pub fn connect(&mut self, bound: SocketAddr, flow: FourTuple, id: UdpId) {
        self.connected.insert(flow, id);
        for key in keys(bound) {
            if let Some(holder) = self.bound.get_mut(&key) {
                holder.connected = true;
            }
        }
    }

    pub fn disconnect(&mut self, flow: &FourTuple) {
        self.connected.remove(flow);
    }

    /// Releases the addresses of a socket. The intercepting socket has none.
    pub fn release(&mut self, bound: SocketAddr, flow: Option<&FourTuple>) {
        if let Some(flow) = flow {
            self.disconnect(flow);
        }
        for key in keys(bound) {
            if self.bound.remove(&key).is_none() {
                continue;
            }
            if let Some(count) = self.ports.get_mut(&key.port()) {
                *count -= 1;
                if *count > 0 {
                    continue;
                }
                self.ports.remove(&key.port());
                if let Some(range) = range_of(key.port()) {
                    self.taken[range] -= 1;
                }
            }
        }
    }

    /// A port that no socket uses at any address. The search starts at an unpredictable port
    /// (RFC 6056 section 3.3.2).
    pub fn ephemeral_port(&self, random: u64) -> Option<u16> {
        EPHEMERAL.iter().zip(self.taken).find_map(|(range, taken)| {
            if taken == range.len() {
                return None;
            }
            let start = range.start() + (random % range.len() as u64) as u16;
            (start..=*range.end()).chain(*range.start()..start).find(|port| !self.ports.contains_key(port))
        })
    }
}

/// The ephemeral range that a port belongs to.
fn range_of(port: u16) -> Option<usize> {
    EPHEMERAL.iter().position(|range| range.contains(&port))
}

/// The keys of a socket in `bound`.
fn keys(local: SocketAddr) -> impl Iterator<Item = SocketAddr> {
    let both = local.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    let v4 = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), local.port());
    [Some(local), both.then_some(v4)].into_iter().flatten()
}

/// The unspecified address of the same family, with the same port.
fn anywhere(local: SocketAddr) -> SocketAddr {
    let ip = match local.ip() {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    SocketAddr::new(ip, local.port())
}
