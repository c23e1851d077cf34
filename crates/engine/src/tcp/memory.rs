//! The memory of all buffers together (`Rule::LimitMemory`): how much is held, how much more a connection may take, and
//! which connections are reset when the limit is exceeded.
//!
//! Up to a quarter of [`TcpConfig::memory`] buffers grow as their paths need. Beyond that a buffer grows above its initial
//! size only if much data has passed through it, and only to a quarter of what is free, so that connections whose users do
//! not read, or whose peers accept nothing, do not slow down the others. At the limit windows stay closed, data beyond
//! them is dropped and writers wait. Above seven eighths of the limit the connections whose peers accept nothing are
//! reset, the longest-stalled first (RFC 6429 section 3), unless [`TcpConfig::reset_for_memory`] is off.

use crate::buffer::RecvRing;
use crate::config::TcpConfig;
use crate::end::{Cause, EndedBy};
use crate::shared::Shared;
use crate::tcp::ConnId;
use crate::tcp::connection::{Closing, Connection, Ending};
use crate::tcp::recv::autotune;
use crate::tcp::table::{Socket, TcpTable};
use crate::{Instant, Rule};
use alloc::vec::Vec;
use core::time::Duration;

/// What a buffer may always hold, whatever the others do.
const MIN: usize = 4096;

/// Up to this part of the memory anybody may take as much as is asked for.
const UNPROVEN: usize = 4;

/// The part of the free memory that a buffer may take to begin with, and that one may through which much has passed.
const FIRST_SHARE: usize = 64;
const PROVEN_SHARE: usize = 4;

/// What must have passed through a buffer for each octet of the larger share.
const PASSED: u64 = 8;

/// Where there is less memory in all than this it is not shared: a few connections may use all of it.
const MIN_SHARED: usize = 16 << 20;

/// How often connections are looked for that can give something back or have to go, and how many are looked at.
const INTERVAL: Duration = Duration::from_millis(10);
const BATCH: usize = 256;

/// A peer that took nothing for less than this may only be slow.
const STALLED: Duration = Duration::from_secs(1);

/// What the buffers of all connections hold.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    held: usize,
    relieved: Option<Instant>,
    /// The place of the connection that is looked at next.
    hand: usize,
    /// How many connections were looked at.
    #[cfg(test)]
    pub looked_at: u64,
}

impl Memory {
    /// ByteCounts held.
    pub fn held(&self) -> usize {
        self.held
    }

    /// The size that a buffer of this size may grow to, which grows by doubling. `passed`: how much has been put into
    /// it and taken out.
    pub fn most(&self, config: &TcpConfig, size: usize, passed: u64) -> usize {
        let free = config.memory.saturating_sub(self.held).min(usize::MAX / 4);
        let most = if config.memory < MIN_SHARED || self.held <= config.memory / UNPROVEN {
            size + free
        } else {
            let first = autotune::INITIAL.min((size + free) / FIRST_SHARE);
            let proven = usize::try_from(passed / PASSED).unwrap_or(usize::MAX);
            first.max(proven.min(size + free / PROVEN_SHARE))
        };
        ((most + 1).next_power_of_two() / 2).max(size).max(MIN)
    }

    /// Whether nobody gets more than the least.
    pub fn is_full(&self, config: &TcpConfig) -> bool {
        self.held >= config.memory
    }

    pub fn is_short(&self, config: &TcpConfig) -> bool {
        self.held > config.memory / 8 * 7
    }
}

impl TcpTable {
    /// Takes down what a connection holds now.
    pub(in crate::tcp) fn account_memory(&mut self, shared: &mut Shared, id: ConnId) {
        if let Some(entry) = self.entries.get_mut(id) {
            let weight = u32::try_from(entry.slot.memory()).unwrap_or(u32::MAX);
            shared.memory.held = shared.memory.held - entry.weight as usize + weight as usize;
            entry.weight = weight;
        }
    }

    /// If too much is held, takes back what some connections do not need, and lets others go. It happens at most
    /// every so often, for a number of them at a time, so that its cost does not grow with how many there are.
    pub(in crate::tcp) fn reclaim_memory(&mut self, shared: &mut Shared, now: Instant) {
        let config = &shared.config.tcp;
        if !shared.memory.is_short(config) || shared.memory.relieved.is_some_and(|at| now - at < INTERVAL) {
            return;
        }
        let resets = config.reset_for_memory;
        shared.memory.relieved = Some(now);
        let mut stalled = Vec::new();
        for _ in 0..self.demux.places().min(BATCH) {
            let place = shared.memory.hand;
            shared.memory.hand = (place + 1) % self.demux.places();
            #[cfg(test)]
            {
                shared.memory.looked_at += 1;
            }
            let Some(id) = self.demux.at(place as u32) else { continue };
            let Some(entry) = self.entries.get_mut(id) else { continue };
            if let Some(Socket::Open(connection)) = entry.slot.socket_mut()
                && connection.fate.is_none()
            {
                connection.give_back();
                let since = connection.stalled_since.filter(|since| now - *since >= STALLED);
                stalled.extend(since.map(|since| (since, id)));
                self.account_memory(shared, id);
            }
        }
        stalled.sort_unstable();
        for (_, id) in stalled.into_iter().filter(|_| resets) {
            if !shared.memory.is_short(&shared.config.tcp) {
                return;
            }
            self.abort_for_memory(shared, now, id);
        }
    }

    /// Ends a connection whose memory others need.
    fn abort_for_memory(&mut self, shared: &mut Shared, now: Instant, id: ConnId) {
        let Socket::Open(connection) = self.socket_mut(id) else { return };
        let rule = if connection.has_user { Rule::LimitMemory } else { Rule::LimitOrphans };
        connection.abort(Ending::new(Cause::Aborted, EndedBy::Stack, rule), now);
        if matches!(connection.fate, Some(Closing::Resetting(_))) {
            shared.counters.tcp_memory_aborts += 1;
        }
        self.enqueue(id);
        self.follow_up(shared, now, id);
        self.account_memory(shared, id);
    }
}

impl Connection {
    /// Gives back what may be had again: buffers that are empty, and text that came early, which the peer
    /// keeps until it is acknowledged (RFC 2018 section 8).
    fn give_back(&mut self) {
        self.incoming.drop_ooo();
        self.incoming.shrink();
        self.outgoing.shrink();
        self.recovery.scoreboard.shrink();
    }

    /// Lets the receive buffer grow as far as there is memory.
    pub(in crate::tcp) fn cap_receive_buffer(&mut self, shared: &Shared) {
        let (size, passed) = (self.incoming.capacity(), self.incoming.total_read());
        self.incoming.set_ceiling(shared.memory.most(&shared.config.tcp, size, passed));
    }

    /// Whether it holds more than each may always have, while there is no memory.
    pub(in crate::tcp) fn exceeds_memory_share(&self, shared: &Shared) -> bool {
        let config = &shared.config.tcp;
        config.reset_for_memory && shared.memory.is_full(config) && self.outgoing.capacity() > MIN
    }
}

impl Socket {
    /// ByteCounts that it holds elsewhere.
    pub(in crate::tcp) fn memory(&self) -> usize {
        match self {
            Self::Opening(_) => 0,
            Self::Open(connection) => connection.memory(),
            Self::Closed(over) => over.incoming.capacity(),
        }
    }

    /// Gives back the memory that it has elsewhere.
    pub(in crate::tcp) fn release(&mut self) {
        match self {
            Self::Opening(_) => {}
            Self::Open(connection) => connection.release(),
            Self::Closed(over) => over.incoming = RecvRing::new(0, 0),
        }
    }
}
