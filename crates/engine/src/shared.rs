//! What every protocol of a stack needs beside its own state.

use crate::Config;
use crate::counters::Counters;
use crate::event::Events;
use crate::ip::fragment::Idents;
use crate::ip::paths::Paths;
use crate::isn::Secret;
use crate::outbox::Outbox;
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
    pub idents: Idents,
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
            idents: Idents::default(),
        }
    }

    /// Whether `addr` is one of ours, or taken for ours.
    pub fn is_local(&self, addr: IpAddr) -> bool {
        self.config.any_address || self.config.addresses.contains(&addr)
    }

    /// The address that we speak from to `remote`.
    pub fn source_for(&self, remote: IpAddr) -> Option<IpAddr> {
        self.config.addresses.iter().copied().find(|own| own.is_ipv4() == remote.is_ipv4())
    }
}
