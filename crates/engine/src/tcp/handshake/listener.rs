//! Listeners, their SYN queue and their accept queue (backlog).

use crate::collections::slots::SlotMap;
use crate::tcp::{BindError, ConnId, ListenerId};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::hash::{BuildHasher, Hasher};
use core::net::{IpAddr, SocketAddr};
use hashbrown::HashMap;

/// A passive OPEN.
#[derive(Debug)]
pub(crate) struct Listener {
    pub local: SocketAddr,
    pub backlog: usize,
    /// The accept queue: established connections, oldest first.
    pub queue: VecDeque<ConnId>,
    /// Whether the application is to be notified of the next connection.
    pub waiting: bool,
    /// Max data in a segment of its connections.
    pub max_segment: Option<u16>,
    /// The receive buffer of its connections.
    pub receive_buffer: Option<u32>,
}

impl Listener {
    /// `sk_ack_backlog > backlog`: the queue holds one more than the backlog (`Rule::DropSynAcceptQueueFull`).
    pub fn is_full(&self) -> bool {
        self.queue.len() > self.backlog
    }
}

/// All listeners.
#[derive(Debug)]
pub(crate) struct Listeners {
    all: SlotMap<ListenerId, Listener>,
    by_port: HashMap<u16, Vec<ListenerId>, ByPort>,
}

/// The hash of a local port. Remote hosts do not choose which ports have a listener, so it need not be secret, only
/// fast: every SYN is looked up.
#[derive(Clone, Copy, Debug, Default)]
struct ByPort;

impl BuildHasher for ByPort {
    type Hasher = Scrambled;

    fn build_hasher(&self) -> Scrambled {
        Scrambled::default()
    }
}

#[derive(Default)]
struct Scrambled(u64);

impl Hasher for Scrambled {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u16(u16::from(*byte));
        }
    }

    fn write_u16(&mut self, port: u16) {
        // Fibonacci hashing (2^64 divided by the golden ratio): spreads adjacent ports over the high and the low bits.
        let spread = (self.0 ^ u64::from(port)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = spread ^ spread >> 32;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl Listeners {
    pub fn new() -> Self {
        Self { all: SlotMap::new(), by_port: HashMap::with_hasher(ByPort) }
    }

    pub fn add(&mut self, local: SocketAddr, backlog: usize) -> Result<ListenerId, BindError> {
        let ids = self.by_port.entry(local.port()).or_default();
        if ids.iter().any(|id| overlap(self.all[*id].local.ip(), local.ip())) {
            return Err(BindError::InUse);
        }
        let id = self.all.insert(Listener {
            local,
            backlog,
            queue: VecDeque::new(),
            waiting: true,
            max_segment: None,
            receive_buffer: None,
        });
        ids.push(id);
        Ok(id)
    }

    pub fn remove(&mut self, id: ListenerId) -> Option<Listener> {
        let listener = self.all.remove(id)?;
        let port = listener.local.port();
        if let Some(ids) = self.by_port.get_mut(&port) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.by_port.remove(&port);
            }
        }
        Some(listener)
    }

    pub fn get(&self, id: ListenerId) -> Option<&Listener> {
        self.all.get(id)
    }

    pub fn get_mut(&mut self, id: ListenerId) -> Option<&mut Listener> {
        self.all.get_mut(id)
    }

    /// The listener bound to exactly this address.
    pub fn bound_to(&self, local: SocketAddr) -> Option<ListenerId> {
        self.by_port.get(&local.port())?.iter().copied().find(|id| self.all[*id].local == local)
    }

    pub fn has_port(&self, port: u16) -> bool {
        self.by_port.contains_key(&port)
    }

    /// The listener for a SYN to `local`: one bound to the address is preferred to one bound to the unspecified address.
    pub fn find(&self, local: SocketAddr) -> Option<ListenerId> {
        let ids = self.by_port.get(&local.port())?;
        let bound = |exact: bool| {
            ids.iter().copied().find(|id| {
                let at = self.all[*id].local.ip();
                if exact { at == local.ip() } else { covers(at, local.ip()) }
            })
        };
        bound(true).or_else(|| bound(false))
    }
}

/// Whether a socket bound to `bound` receives segments to `addr`: `::` covers both families.
pub(crate) fn covers(bound: IpAddr, addr: IpAddr) -> bool {
    bound == addr || (bound.is_unspecified() && (bound.is_ipv6() || addr.is_ipv4()))
}

/// Whether two sockets on one port would match the same segments with equal precedence.
fn overlap(a: IpAddr, b: IpAddr) -> bool {
    a == b || (a.is_unspecified() && b.is_unspecified())
}
