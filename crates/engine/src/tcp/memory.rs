//! The memory of all buffers together (`Rule::LimitMemory`): how much is held, how much more a connection may take, and
//! who has to go when there is no more.
//!
//! Up to [`TcpConfig::memory`] buffers grow as their paths ask for. Then a buffer grows no further than a
//! few octets that each connection may always have, so that all go on, if slowly: windows are not opened,
//! text beyond what is there is dropped, writers wait. And once more than seven eighths are held, the
//! connections go whose peers take nothing, those first that have stalled longest (RFC 6429 section 3),
//! unless the embedder does not want that ([`TcpConfig::reset_for_memory`]).

use crate::buffer::RecvRing;
use crate::config::TcpConfig;
use crate::end::{Cause, Party};
use crate::shared::Shared;
use crate::tcp::ConnId;
use crate::tcp::connection::{Connection, Ending, Fate};
use crate::tcp::table::{Socket, TcpTable};
use crate::{Instant, Rule};
use alloc::vec::Vec;
use core::time::Duration;

/// What a buffer may always hold: this, or two segments if they are larger.
const LEAST: usize = 4096;

/// How often those are looked for that have to go: it is a walk over all.
const INTERVAL: Duration = Duration::from_millis(100);

/// A peer that took nothing for less than this may only be slow.
const STALLED: Duration = Duration::from_secs(1);

/// What the buffers of all connections hold.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    held: usize,
    relieved: Option<Instant>,
}

impl Memory {
    /// Octets held.
    pub fn held(&self) -> usize {
        self.held
    }

    /// The size that a buffer of this size may grow to, which grows by doubling.
    pub fn most(&self, config: &TcpConfig, size: usize, mss: u32) -> usize {
        let free = config.memory.saturating_sub(self.held).min(usize::MAX / 4);
        let doubled = (size + free + 1).next_power_of_two() / 2;
        doubled.max(size).max(LEAST).max(2 * mss as usize)
    }

    /// Whether nobody gets more than the least.
    pub fn is_full(&self, config: &TcpConfig) -> bool {
        self.held >= config.memory
    }

    fn is_short(&self, config: &TcpConfig) -> bool {
        self.held > config.memory / 8 * 7
    }
}

impl TcpTable {
    /// Takes down what a connection holds now.
    pub(in crate::tcp) fn weigh(&mut self, shared: &mut Shared, id: ConnId) {
        if let Some(entry) = self.entries.get_mut(id) {
            let weight = entry.socket.memory();
            shared.memory.held = shared.memory.held - entry.weight + weight;
            entry.weight = weight;
        }
    }

    /// Lets connections go if too much is held. It happens at most every so often.
    pub(in crate::tcp) fn relieve(&mut self, shared: &mut Shared, now: Instant) {
        let config = &shared.config.tcp;
        if !shared.memory.is_short(config) || shared.memory.relieved.is_some_and(|at| now - at < INTERVAL) {
            return;
        }
        let resets = config.reset_for_memory;
        shared.memory.relieved = Some(now);
        let mut stalled = Vec::new();
        for (id, entry) in &mut self.entries {
            if let Socket::Open(connection) = &mut *entry.socket
                && connection.fate.is_none()
            {
                connection.give_back();
                let since = connection.stalled_since.filter(|since| now - *since >= STALLED);
                stalled.extend(since.map(|since| (since, id)));
            }
        }
        let ids: Vec<_> = self.entries.keys().collect();
        ids.into_iter().for_each(|id| self.weigh(shared, id));
        stalled.sort_unstable();
        for (_, id) in stalled.into_iter().filter(|_| resets) {
            if !shared.memory.is_short(&shared.config.tcp) {
                return;
            }
            self.let_go(shared, now, id);
        }
    }

    /// Ends a connection whose memory others need.
    fn let_go(&mut self, shared: &mut Shared, now: Instant, id: ConnId) {
        let Socket::Open(connection) = self.socket_mut(id) else { return };
        let rule = if connection.owned { Rule::LimitMemory } else { Rule::LimitOrphans };
        connection.abort(Ending::new(Cause::Aborted, Party::Stack, rule), now);
        if matches!(connection.fate, Some(Fate::Resetting(_))) {
            shared.counters.tcp_memory_aborts += 1;
        }
        self.enqueue(id);
        self.follow_up(shared, now, id);
        self.weigh(shared, id);
    }
}

impl Connection {
    /// Gives back what may be had again: buffers that are empty, and text that came early, which the peer
    /// keeps until it is acknowledged (RFC 2018 section 8).
    fn give_back(&mut self) {
        self.incoming.drop_early();
        self.incoming.shrink();
        self.outgoing.shrink();
        self.recovery.scoreboard.shrink();
    }

    /// Lets the receive buffer grow as far as there is memory.
    pub(in crate::tcp) fn allot(&mut self, shared: &Shared) {
        let size = self.incoming.capacity();
        self.incoming.set_ceiling(shared.memory.most(&shared.config.tcp, size, self.mss));
    }

    /// Whether it holds more than each may always have, while there is no memory.
    pub(in crate::tcp) fn is_too_heavy(&self, shared: &Shared) -> bool {
        let least = LEAST.max(2 * self.mss as usize);
        let config = &shared.config.tcp;
        config.reset_for_memory && shared.memory.is_full(config) && self.outgoing.capacity() > least
    }
}

impl Socket {
    /// Octets that it holds elsewhere.
    pub(in crate::tcp) fn memory(&self) -> usize {
        match self {
            Self::Opening(_) => 0,
            Self::Open(connection) => connection.memory(),
            Self::Over(over) => over.incoming.capacity(),
        }
    }

    /// Gives back the memory that it has elsewhere.
    pub(in crate::tcp) fn release(&mut self) {
        match self {
            Self::Opening(_) => {}
            Self::Open(connection) => connection.release(),
            Self::Over(over) => over.incoming = RecvRing::new(0, 0),
        }
    }
}
