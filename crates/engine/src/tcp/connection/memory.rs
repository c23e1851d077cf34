//! The memory of a connection: what its buffers hold, what they may grow to, and what is given back when memory is short.

use crate::Instant;
use crate::shared::Shared;
use crate::tcp::connection::Connection;
use crate::tcp::connection::timers::Timer;
use crate::tcp::memory::MIN;

impl Connection {
    /// Bytes held on the heap.
    pub fn memory(&self) -> usize {
        let records = self.records.as_ref().map_or(0, |records| records.memory());
        self.outgoing.capacity() + self.incoming.capacity() + self.recovery.scoreboard.memory() + records
    }

    /// Frees its heap memory.
    pub fn release(&mut self) {
        self.outgoing.clear();
        self.incoming.clear();
        self.recovery.scoreboard.release();
        self.records = None;
        self.soft_error = None;
        self.fate = None;
    }

    /// Frees what can be had again: empty buffers, and out-of-order data, which the peer keeps until it is acknowledged
    /// (RFC 2018 section 8).
    pub fn give_back(&mut self) {
        self.incoming.drop_ooo();
        self.incoming.shrink();
        self.outgoing.shrink();
        self.recovery.scoreboard.shrink();
    }

    /// Limits the growth of the receive buffer to the memory available, and to the size that the application has set:
    /// the window that was advertised before is kept (RFC 9293 section 3.8.6).
    pub fn cap_receive_buffer(&mut self, shared: &Shared) {
        let incoming = &self.incoming;
        let max = shared.memory.bound(
            &shared.config.tcp,
            incoming.usable(),
            incoming.total_read(),
            incoming.limit(),
        );
        let users = self.settings.receive_buffer.map_or(usize::MAX, |limit| {
            let promised = incoming.len() + self.rcv.wnd() as usize;
            promised.max(limit as usize)
        });
        self.incoming.set_ceiling(max.min(users));
    }

    /// Keeps the packet that arrives now, if it was offered and is worth it. `payload`: its new data, for the position
    /// `at` of the stream; it has to be in the window. `false`: it has to be copied.
    #[inline]
    pub fn keep_packet(&mut self, shared: &mut Shared, at: u64, payload: &[u8]) -> bool {
        if shared.offer.is_none() || payload.len() < shared.config.tcp.min_kept {
            return false;
        }
        self.keep_offered(shared, at, payload)
    }

    #[inline(never)]
    fn keep_offered(&mut self, shared: &mut Shared, at: u64, payload: &[u8]) -> bool {
        let Some(offer) = &mut shared.offer else { return false };
        let kept = payload.len() >= offer.capacity / 2
            && shared.memory.may_keep(&shared.config.tcp, offer.capacity)
            && self.incoming.keep(at, offer.range_of(payload), offer.capacity);
        if kept {
            offer.kept_by = Some(self.id);
        }
        kept
    }

    /// Whether its send buffer is larger than the guaranteed minimum while memory is exhausted.
    pub fn exceeds_memory_share(&self, shared: &Shared) -> bool {
        let config = &shared.config.tcp;
        config.reset_for_memory && shared.memory.is_full(config) && self.outgoing.capacity() > MIN
    }

    /// Records that the buffers are in use.
    pub fn touch_buffers(&mut self, shared: &Shared, now: Instant) {
        if !self.timers.is_running(Timer::Idle) {
            self.timers.set(Timer::Idle, now + shared.config.tcp.buffer_idle);
        }
    }
}
