//! Auto-tuning of the buffers of a connection, and whether its application may write.

use crate::Instant;
use crate::config::validate::MIN_BUFFER;
use crate::shared::Shared;
use crate::tcp::connection::Connection;
use crate::tcp::handshake::negotiate;
use crate::tcp::recv::autotune::{MIN_SHARE, useful};
use crate::tcp::segment::Arrival;
use crate::time::nanos;
use core::time::Duration;

impl Connection {
    /// Data has arrived: samples the age of the echoed timestamp.
    pub(in crate::tcp) fn measure_rcv_rtt(&mut self, now: Instant, seg: &Arrival<'_>) {
        let Some(echoed) = seg.tcp.options.timestamps.filter(|_| self.negotiated.timestamps) else { return };
        self.reading.measure(negotiate::timestamp(now, self.ts_offset).wrapping_sub(echoed.ecr));
    }

    /// Data has arrived: once per round trip, the receive buffer may grow, up to the size that the application has set.
    pub(in crate::tcp) fn tune_receive_buffer(&mut self, shared: &mut Shared, now: Instant) {
        let (srtt, read) = (self.rtt.srtt_nanos(), self.incoming.total_read());
        if let Some(wanted) = self.reading.tune(now, srtt, read, self.mss) {
            let users = self.settings.receive_buffer.map_or(usize::MAX, |limit| limit as usize);
            let max = shared.config.tcp.receive_buffer.min(users);
            self.incoming.raise_limit(wanted.min(max));
        }
        if self.incoming.limit() > MIN_SHARE && self.settings.receive_buffer.is_none() {
            self.share_window(shared, now);
        }
    }

    /// Limits the window, once per period, while several connections receive much data: they share what one alone could use,
    /// in equal parts. More would wait in queues of the path, where it delays the others, and each would get a part in
    /// proportion to its sender's congestion window.
    ///
    /// Such a queue makes the RTT longer ([`path_rtt`]).
    #[inline(never)]
    fn share_window(&mut self, shared: &mut Shared, now: Instant) {
        let receivers = &mut shared.memory.receivers;
        if !receivers.count(now, &mut self.shared_in[1]) {
            return;
        }
        let limit = match receivers.number() {
            1 => usize::MAX,
            number => {
                let current = self.rtt.srtt_nanos().max(self.reading.rtt());
                let path = path_rtt(current, self.min_rtt(now));
                (useful(path) / number).max(MIN_SHARE)
            }
        };
        self.rcv.limit_window(limit);
    }

    /// Data was acknowledged: raises the send buffer to twice the congestion window, so that there is always data to
    /// send. The limit does not shrink with the window: SACKed data takes room until the gap is filled, and a window
    /// that waits for room would be sent as one burst.
    #[inline]
    pub(in crate::tcp) fn tune_send_buffer(&mut self, shared: &mut Shared, now: Instant) {
        if self.outgoing.capacity() >= MIN_SHARE {
            shared.memory.sharers.count(now, &mut self.shared_in[0]);
        }
        let wanted = (self.congestion.window() as usize).saturating_mul(2);
        if wanted > self.send_limit {
            let max = self.share_of_useful(shared).min(shared.config.tcp.send_buffer);
            self.send_limit = self.send_limit.max(wanted.min(max));
        }
    }

    /// Max useful send buffer. Connections with large buffers share what one alone could use, in equal parts: together
    /// they are not faster than one, and the time that each waits for its turn adds to the RTT of all others.
    #[inline(never)]
    fn share_of_useful(&self, shared: &Shared) -> usize {
        let (number, srtt) = (shared.memory.sharers.number(), self.rtt.srtt_nanos());
        let path = if number > 1 { path_rtt(srtt, self.recovery.rack().min_rtt()) } else { srtt };
        let share = (useful(path) / number).max(MIN_SHARE);
        // In whole segments, so that a full buffer does not end in a small one.
        share - share % self.mss as usize
    }

    /// Room for a write: that in the send buffer, as far as the limit of unsent data allows.
    #[inline]
    pub(in crate::tcp) fn send_room(&self, shared: &Shared) -> usize {
        let room = self.free_send_buffer(shared);
        let Some(low) = self.settings.not_sent_low_water else { return room };
        room.min(low.saturating_add(self.sendable_now()).saturating_sub(self.unsent()) as usize)
    }

    /// The free part of the send buffer.
    #[inline(always)]
    fn free_send_buffer(&self, shared: &Shared) -> usize {
        let config = &shared.config.tcp;
        let users =
            self.settings.send_buffer.map(|limit| (limit as usize).max(MIN_BUFFER).min(config.send_buffer));
        let limit = users.unwrap_or_else(|| match shared.memory.sharers.number() {
            1 => self.send_limit,
            _ => self.send_limit.min(self.share_of_useful(shared)),
        });
        // The ring's size at creation is a bound, even if the settings have grown since.
        let bound = shared.memory.bound(config, self.outgoing.capacity(), self.bytes.sent, limit);
        limit.min(bound).saturating_sub(self.outgoing.len()).min(self.outgoing.room())
    }

    fn unsent(&self) -> u32 {
        self.end_of_data().offset_from(self.snd.nxt).max(0) as u32
    }

    /// Bytes of unsent data beyond what both windows allow.
    fn waiting(&self) -> u32 {
        self.unsent().saturating_sub(self.sendable_now())
    }

    /// Whether the connection counts as writable, as on Linux: a third of the send buffer is free, and less than
    /// `share` of the limit of unsent data is used. To notify a writer of each acknowledgment would be a waste.
    fn is_writable(&self, shared: &Shared, share: u32) -> bool {
        let free = self.free_send_buffer(shared);
        let low = self.settings.not_sent_low_water;
        free > 0
            && free >= self.outgoing.len() / 2
            && low.is_none_or(|low| self.waiting() < low.div_ceil(share))
    }

    /// Whether a writer that found no room is notified: half of the limit of unsent data is free.
    pub(in crate::tcp) fn is_writable_again(&self, shared: &Shared) -> bool {
        self.is_writable(shared, 2)
    }

    /// Whether poll(2) would report it as writable; if not, an event follows.
    pub(in crate::tcp) fn poll_ample_room(&mut self, shared: &Shared) -> bool {
        let ready = self.is_writable(shared, 1);
        self.waits.write |= !ready;
        ready
    }
}

/// The RTT in nanoseconds that connections which share a path need: the min RTT, as the current one includes the time that
/// each waits for the others, which grows with their buffers. The path may have become longer since, so at least a fraction of
/// the current RTT counts: together they may still use 2 Gbit/s.
fn path_rtt(current: u64, min: Option<Duration>) -> u64 {
    min.map_or(current, |min| nanos(min).max(current / 16).min(current))
}
