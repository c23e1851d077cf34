//! The memory limit of all buffers together (`Rule::LimitMemory`), and of orphans: how much is held, how much more a connection may
//! allocate, and which connections are reset when memory is short.
//!
//! Up to a quarter of [`TcpConfig::memory`] buffers grow as their paths need. Beyond that a buffer grows above its initial
//! size only if much data has passed through it, and only to a quarter of the free memory, and the last quarter is reserved
//! for such buffers, so that connections whose applications do not read, or whose peers accept nothing, do not slow down
//! the others. At the limit windows stay closed,
//! data beyond them is dropped and writers wait. Above seven eighths of the limit the connections whose peers accept
//! nothing are reset, the longest-stalled first (RFC 6429 section 3), unless [`TcpConfig::reset_for_memory`] is off.

use crate::buffer::RecvBuffer;
use crate::config::TcpConfig;
use crate::end::{Cause, EndedBy};
use crate::shared::Shared;
use crate::tcp::ConnId;
use crate::tcp::connection::{Closing, Ending};
use crate::tcp::recv::autotune;
use crate::tcp::send::sharers::Sharers;
use crate::tcp::table::{Entry, Socket, TcpTable};
use crate::{Instant, Rule};
use alloc::vec::Vec;
use core::time::Duration;

/// Size that a buffer may always have, however much the others hold.
pub(in crate::tcp) const MIN: usize = 4096;

/// Below this fraction of the limit every buffer may grow as it needs.
const UNPROVEN: usize = 4;

/// This fraction of the limit is reserved for buffers through which much data has passed.
const RESERVED: usize = 4;
/// The fraction of the free memory that a new buffer may take when only the reserve is left. With less, a segment would
/// fill the buffer, and each would wait for a delayed ACK.
const RESERVED_SHARE: usize = 512;

/// The fraction of the free memory that a new buffer may take, and that a buffer may take after much data has passed
/// through it.
const FIRST_SHARE: usize = 64;
const PROVEN_SHARE: usize = 4;

/// Bytes that must have passed through a buffer for each byte of the larger share.
const PASSED: u64 = 8;

/// With a limit below this, memory is not shared out: a few connections may use all of it.
const MIN_SHARED: usize = 16 << 20;

/// How often connections are scanned for memory to reclaim, and how many per scan.
const INTERVAL: Duration = Duration::from_millis(10);
const BATCH: usize = 256;

/// Min time without progress after which a connection counts as stalled, not merely slow.
const STALLED: Duration = Duration::from_secs(1);

/// The memory held by the buffers of all connections.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    held: usize,
    /// The connections that share the CPU cache with their send buffers.
    pub sharers: Sharers,
    /// The connections that share the path with their windows.
    pub receivers: Sharers,
    relieved: Option<Instant>,
    /// The place of the connection that is scanned next.
    hand: usize,
    /// Number of connections scanned.
    #[cfg(test)]
    pub looked_at: u64,
}

impl Memory {
    /// Bytes held.
    pub fn held(&self) -> usize {
        self.held
    }

    /// The max size that a buffer of this size may grow to, by doubling. `passed`: bytes that have passed through it.
    #[inline(never)]
    pub fn size_limit(&self, config: &TcpConfig, size: usize, passed: u64) -> usize {
        let free = config.memory.saturating_sub(self.held).min(usize::MAX / 4);
        let max = if config.memory < MIN_SHARED || self.held <= config.memory / UNPROVEN {
            size + free
        } else {
            let unreserved = free.saturating_sub(config.memory / RESERVED);
            let share = ((size + unreserved) / FIRST_SHARE).max((size + free) / RESERVED_SHARE);
            let first = autotune::INITIAL.min(share);
            let proven = usize::try_from(passed / PASSED).unwrap_or(usize::MAX);
            first.max(proven.min(size + free / PROVEN_SHARE))
        };
        ((max + 1).next_power_of_two() / 2).max(size).max(MIN)
    }

    /// As [`size_limit`](Self::size_limit), for a buffer whose own limit is `limit`: while little is held, a bound above that limit
    /// need not be exact.
    #[inline]
    pub fn bound(&self, config: &TcpConfig, size: usize, passed: u64, limit: usize) -> usize {
        // `size_limit` is at least three eighths of the memory then.
        let ample = config.memory / 8;
        if self.held <= config.memory / UNPROVEN && limit <= ample {
            return ample;
        }
        self.size_limit(config, size, passed)
    }

    /// Whether a packet of this capacity may be kept, although a half of it may not be data: only while buffers grow as
    /// they need, so that the unused halves take an eighth of the limit at most.
    pub fn may_keep(&self, config: &TcpConfig, capacity: usize) -> bool {
        self.held.saturating_add(capacity) <= config.memory / UNPROVEN
    }

    /// Whether no buffer may grow beyond the minimum.
    pub fn is_full(&self, config: &TcpConfig) -> bool {
        self.held >= config.memory
    }

    pub fn is_short(&self, config: &TcpConfig) -> bool {
        self.held > config.memory / 8 * 7
    }
}

impl Entry {
    /// Accounts the memory that the connection holds now.
    pub(in crate::tcp) fn account(&mut self, memory: &mut Memory) {
        let weight = u32::try_from(self.slot.memory()).unwrap_or(u32::MAX);
        memory.held = memory.held - self.weight as usize + weight as usize;
        self.weight = weight;
    }

    /// The connection is removed: it holds no memory.
    pub(in crate::tcp) fn release_account(&mut self, memory: &mut Memory) {
        memory.held -= core::mem::take(&mut self.weight) as usize;
    }
}

impl TcpTable {
    /// Accounts the memory that a connection holds now.
    pub(in crate::tcp) fn account_memory(&mut self, shared: &mut Shared, id: ConnId) {
        if let Some(entry) = self.entries.get_mut(id) {
            entry.account(&mut shared.memory);
        }
    }

    /// If memory is short, reclaims what some connections do not need and resets stalled ones. It runs at most once per
    /// `INTERVAL`, on at most `BATCH` connections, so that its cost does not grow with their number.
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

    /// Aborts a connection to free its memory.
    fn abort_for_memory(&mut self, shared: &mut Shared, now: Instant, id: ConnId) {
        let Socket::Open(connection) = self.unparked_mut(id) else { return };
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

impl Socket {
    /// Bytes held on the heap.
    pub(in crate::tcp) fn memory(&self) -> usize {
        match self {
            Self::Opening(_) => 0,
            Self::Open(connection) => connection.memory(),
            Self::Closed(over) => over.incoming.capacity(),
        }
    }

    /// Frees its heap memory.
    pub(in crate::tcp) fn release(&mut self) {
        match self {
            Self::Opening(_) => {}
            Self::Open(connection) => connection.release(),
            Self::Closed(over) => over.incoming = RecvBuffer::new(0, 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The size that a buffer reaches if it grows whenever it may, up to its limit, as data passes through it.
    fn grow(memory: &mut Memory, config: &TcpConfig, limit: usize, passed: [u64; 8]) -> usize {
        let mut size = 0;
        for passed in passed {
            let max = memory.size_limit(config, size, passed).min(limit).max(size);
            memory.held += max - size;
            size = max;
        }
        size
    }

    /// Buffers that are never emptied leave room for one that is.
    #[test]
    fn d26_a_buffer_that_is_emptied_grows_beside_thousands_that_are_not() {
        let config = TcpConfig { memory: 256 << 20, ..TcpConfig::default() };
        for stuck in [0, 1000, 3000] {
            let mut memory = Memory::default();
            for _ in 0..stuck {
                // Data passes until the peer's receive buffer is full, and then none does.
                let accepted = 128 << 10;
                grow(&mut memory, &config, autotune::INITIAL, [0, 0, 0, 0, 0, accepted, accepted, accepted]);
            }
            assert!(memory.held <= config.memory, "{stuck}: {}", memory.held);
            let began = memory.size_limit(&config, 0, 0);
            assert!(began >= 16 << 10, "beside {stuck}: {began} bytes at first");
            let size = grow(&mut memory, &config, 4 << 20, [0, 1, 2, 4, 8, 16, 32, 64].map(|mib| mib << 20));
            assert!(size >= 1 << 20, "beside {stuck}: {size} bytes");
        }
    }
}
