//! State shared by all protocols of a stack.

use crate::Config;
use crate::buffer::PacketPool;
use crate::counters::Counters;
use crate::event::Events;
use crate::ip::fragment::Idents;
use crate::ip::ingress::is_host;
use crate::ip::paths::Paths;
use crate::isn::Secret;
use crate::outbox::Outbox;
use crate::packet::Offer;
use crate::tcp::{Memory, ResetLimit};
use core::net::IpAddr;

/// The part of a stack that TCP, UDP and ICMP share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub config: Config,
    pub secret: Secret,
    pub outbox: Outbox,
    pub events: Events,
    pub counters: Counters,
    pub paths: Paths,
    pub resets: ResetLimit,
    pub memory: Memory,
    /// Buffers of packets that were kept.
    pub pool: PacketPool,
    /// The packet that arrives now, if it may be kept.
    pub offer: Option<Offer>,
    pub idents: Idents,
    /// Tests compare the results with and without header prediction.
    #[cfg(test)]
    pub prediction: Prediction,
}

/// Whether segments are predicted, and how many were.
#[cfg(test)]
#[derive(Debug, Default)]
pub(crate) struct Prediction {
    pub is_off: bool,
    pub segments: u64,
}

impl Shared {
    pub fn new(config: Config, secret: [u8; 16]) -> Self {
        Self {
            config: config.clamp(),
            secret: Secret::new(secret),
            outbox: Outbox::default(),
            events: Events::default(),
            counters: Counters::default(),
            paths: Paths::default(),
            resets: ResetLimit::default(),
            memory: Memory::default(),
            pool: PacketPool::default(),
            offer: None,
            idents: Idents::default(),
            #[cfg(test)]
            prediction: Prediction::default(),
        }
    }

    /// Whether `addr` is local: a configured address or, with `any_address` or in a local prefix, any unicast address
    /// except loopback.
    pub fn is_local(&self, addr: IpAddr) -> bool {
        self.config.addresses.contains(&addr)
            || self.config.accepts_any(addr) && is_host(addr) && !addr.is_loopback()
    }

    /// Whether `remote` is this host itself, seen from `local`. Packets to it would go to the link, which does
    /// not loop them back, and on which no loopback address may appear (RFC 1122 section 3.2.1.3).
    pub fn is_own(&self, local: IpAddr, remote: IpAddr) -> bool {
        // With `any_address` a configured address may also be the peer's.
        let listed = !self.config.any_address && self.config.addresses.contains(&remote);
        listed || remote.is_loopback() && !local.is_loopback()
    }

    /// Whether packets may be sent from `local` to `remote`: from loopback only to loopback.
    pub fn may_leave(local: IpAddr, remote: IpAddr) -> bool {
        remote.is_loopback() || !local.is_loopback()
    }

    /// The source address for packets to `remote`.
    pub fn source_for(&self, remote: IpAddr) -> Option<IpAddr> {
        let mut ours = self.config.addresses.iter().copied().filter(|own| own.is_ipv4() == remote.is_ipv4());
        let first = ours.clone().next();
        ours.find(|own| own.is_loopback() == remote.is_loopback()).or(first)
    }
}
