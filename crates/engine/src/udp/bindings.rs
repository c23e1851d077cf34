//! Which socket is bound to which address.

use crate::end::FourTuple;
use crate::isn::Seeded;
use crate::udp::UdpId;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::ops::RangeInclusive;
use hashbrown::HashMap;

/// Where an ephemeral port comes from: the ports that IANA sets aside for this (RFC 6335 section 6),
/// and when all are taken as many below.
const EPHEMERAL: [RangeInclusive<u16>; 2] = [49_152..=65_535, 32_768..=49_151];

/// Finds the socket of a datagram by three look-ups, however many sockets there are.
#[derive(Debug)]
pub(super) struct Bindings {
    connected: HashMap<FourTuple, UdpId, Seeded>,
    /// By local address, also by the unspecified one of a family.
    bound: HashMap<SocketAddr, Holder, Seeded>,
    /// How many of `bound` there are at a port.
    ports: HashMap<u16, u32, Seeded>,
    /// How many ports of each range are in `ports`.
    taken: [usize; EPHEMERAL.len()],
}

#[derive(Clone, Copy, Debug)]
struct Holder {
    id: UdpId,
    /// It is connected: it keeps the address from others, but only its peer reaches it.
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

    /// The most specific match: the socket connected to this very peer, the one bound to the address,
    /// the one bound to every address.
    pub fn lookup(&self, flow: &FourTuple) -> Option<UdpId> {
        self.connected(flow).or_else(|| self.unconnected(flow.local))
    }

    /// The socket connected to this very peer.
    pub fn connected(&self, flow: &FourTuple) -> Option<UdpId> {
        if self.connected.is_empty() {
            return None;
        }
        self.connected.get(flow).copied()
    }

    /// The socket that hears everybody at this address.
    pub fn unconnected(&self, local: SocketAddr) -> Option<UdpId> {
        let open = |at| self.bound.get(&at).filter(|holder| !holder.connected);
        open(local).or_else(|| open(anywhere(local))).map(|holder| holder.id)
    }

    /// Whether a socket has this very address. One with a specific address and one with all addresses
    /// may share a port.
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

    /// Lets only the peer of `flow` reach the socket bound to `bound`.
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

    /// Gives back what a socket has. The intercepting one has no port, and nothing to give back.
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

    /// A port that no socket has at any address. The search starts at a place nobody can guess
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

/// To which of the ephemeral ranges a port belongs.
fn range_of(port: u16) -> Option<usize> {
    EPHEMERAL.iter().position(|range| range.contains(&port))
}

/// Under which addresses a socket is to be found.
fn keys(local: SocketAddr) -> impl Iterator<Item = SocketAddr> {
    let both = local.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    let v4 = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), local.port());
    [Some(local), both.then_some(v4)].into_iter().flatten()
}

/// All addresses of a family, at the same port.
fn anywhere(local: SocketAddr) -> SocketAddr {
    let ip = match local.ip() {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    SocketAddr::new(ip, local.port())
}
