//! Statistics of a connection. No decision depends on them.

use crate::Instant;
use crate::end::Origin;
use crate::tcp::connection::Connection;
use crate::tcp::segment::Arrival;
use core::time::Duration;
use lastack_wire::tcp::TcpFlags;

/// What segments count, in 32 bits as in Linux: the counters wrap.
#[derive(Clone, Debug)]
pub(crate) struct Stats {
    /// All segments, including unacceptable ones.
    pub segments_in: u32,
    pub segments_out: u32,
    /// Segments with data.
    pub data_in: u32,
    pub data_out: u32,
    /// Segments delivered to the peer (`tcpi_delivered`), and those of them whose ACK carried ECE.
    pub delivered: u32,
    pub delivered_marked: u32,
    /// The largest amount of data received in one segment.
    pub largest_in: u16,
    pub limits: Limits,
}

/// What few connections count: losses and reordering.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LossStats {
    /// The RTT of the handshake in microseconds; all ones if it is not known.
    handshake: u32,
    /// Segments with out-of-order data.
    pub ooo_in: u32,
    pub retransmitted: u32,
    pub bytes_retrans: u64,
    pub timeouts: u32,
    /// Timeouts that were the first in a row.
    pub timeout_recoveries: u32,
}

impl Stats {
    /// The peer's SYN is counted, and ours if it was not a SYN|ACK, as in Linux.
    #[inline]
    pub fn new(origin: Origin, now: Instant, syns: u32) -> Self {
        let active = u32::from(origin == Origin::Active);
        Self {
            segments_in: 1,
            segments_out: active * syns,
            data_in: 0,
            data_out: 0,
            delivered: 1,
            delivered_marked: 0,
            largest_in: 0,
            limits: Limits { limit: Limit::Nothing, since: now, spent: [0; 3] },
        }
    }

    /// A segment has arrived.
    pub fn arrived(&mut self, seg: &Arrival<'_>) {
        self.segments_in = self.segments_in.wrapping_add(1);
        if !seg.payload.is_empty() {
            self.data_in = self.data_in.wrapping_add(1);
            self.largest_in = self.largest_in.max(seg.payload.len().min(usize::from(u16::MAX)) as u16);
        }
    }

    /// An ACK shows that this number of segments was delivered.
    pub fn delivered(&mut self, segments: u32, marked: bool) {
        self.delivered = self.delivered.wrapping_add(segments);
        if marked {
            self.delivered_marked = self.delivered_marked.wrapping_add(segments);
        }
    }

    /// A packet with this much data is sent, as this number of segments.
    pub fn sent(&mut self, data: u32, segments: u32) {
        self.segments_out = self.segments_out.wrapping_add(segments);
        if data > 0 {
            self.data_out = self.data_out.wrapping_add(segments);
        }
    }
}

impl LossStats {
    /// `handshake`: its RTT, if it was measured. Each SYN but the first was a retransmission.
    #[inline]
    pub fn new(syns: u32, handshake: Option<Duration>) -> Self {
        Self {
            handshake: handshake.map_or(u32::MAX, |rtt| rtt.as_micros().min(u128::from(u32::MAX)) as u32),
            ooo_in: 0,
            retransmitted: syns - 1,
            bytes_retrans: 0,
            timeouts: syns - 1,
            timeout_recoveries: u32::from(syns > 1),
        }
    }

    /// The RTT of the handshake, if it was measured.
    pub fn handshake_rtt(&self) -> Option<Duration> {
        (self.handshake < u32::MAX).then(|| Duration::from_micros(self.handshake.into()))
    }

    /// A packet is retransmitted.
    pub fn count_retransmission(&mut self, data: u32, segments: u32) {
        self.retransmitted = self.retransmitted.wrapping_add(segments);
        self.bytes_retrans += u64::from(data);
    }
}

/// The number of segments that the link cuts this much data into; one if there is no data.
pub(crate) fn segments(data: u32, mss: u32) -> u32 {
    if data <= mss { 1 } else { data.div_ceil(mss.max(1)) }
}

/// What keeps a sender from sending faster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    /// The path, that is, the congestion window; or nothing yet.
    Path,
    /// The peer's window.
    Peer,
    /// The send buffer: the application waits for room, and all data is in flight.
    Buffer,
    /// There is nothing to send and nothing in flight.
    Nothing,
}

/// The counters of a parked connection, without those of losses.
#[derive(Clone, Debug)]
pub(crate) struct IdleStats {
    counts: [u32; 6],
    handshake: u32,
    largest_in: u16,
    spent: [u64; 3],
}

impl IdleStats {
    /// The compact form, while there is nothing to send.
    pub fn new(stats: &Stats, losses: &LossStats) -> Self {
        #[rustfmt::skip]
        let Stats {
            segments_in, segments_out, data_in, data_out, delivered, delivered_marked, largest_in, limits,
        } = stats;
        let counts = [segments_in, segments_out, data_in, data_out, delivered, delivered_marked];
        Self {
            counts: counts.map(|count| *count),
            handshake: losses.handshake,
            largest_in: *largest_in,
            spent: limits.spent,
        }
    }

    /// The counters of a connection without losses.
    pub fn no_losses(&self) -> LossStats {
        LossStats { handshake: self.handshake, ..LossStats::new(1, None) }
    }

    /// The full counters. There was nothing to send `since`.
    pub fn stats(&self, since: Instant) -> Stats {
        let [segments_in, segments_out, data_in, data_out, delivered, delivered_marked] = self.counts;
        Stats {
            segments_in,
            segments_out,
            data_in,
            data_out,
            delivered,
            delivered_marked,
            largest_in: self.largest_in,
            limits: Limits { limit: Limit::Nothing, since, spent: self.spent },
        }
    }
}

/// How long each limit applied.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    limit: Limit,
    since: Instant,
    /// Nanoseconds by limit, except `Nothing`.
    spent: [u64; 3],
}

impl Limits {
    /// Sets the limit that applies from now on.
    pub fn set(&mut self, now: Instant, limit: Limit) {
        if self.limit != limit {
            if let Some(spent) = self.spent.get_mut(self.limit as usize) {
                *spent += (now - self.since).as_nanos() as u64;
            }
            self.limit = limit;
            self.since = now;
        }
    }

    /// How long this limit has applied until now.
    pub fn spent(&self, now: Instant, limit: Limit) -> Duration {
        let current = if self.limit == limit { now - self.since } else { Duration::ZERO };
        Duration::from_nanos(self.spent.get(limit as usize).copied().unwrap_or_default()) + current
    }
}

impl Connection {
    /// Records what limits the sender, when nothing can be sent now.
    #[inline(always)]
    pub(in crate::tcp) fn note_limit(&mut self, now: Instant) {
        let unsent =
            if self.end_of_data().after(self.snd.nxt) { self.end_of_data() - self.snd.nxt } else { 0 };
        let edge = self.snd.edge();
        let room = if edge.after(self.snd.nxt) { edge - self.snd.nxt } else { 0 };
        let limit = if self.snd.una == self.snd.nxt && unsent == 0 {
            Limit::Nothing
        } else if unsent > 0 && room < unsent.min(self.mss) {
            Limit::Peer
        } else if unsent == 0 && self.waits.blocked {
            Limit::Buffer
        } else {
            Limit::Path
        };
        self.stats.limits.set(now, limit);
    }
}

/// Whether an ACK reports congestion (ECE).
pub(crate) fn is_marked(seg: &Arrival<'_>, ecn: bool) -> bool {
    ecn && seg.has(TcpFlags::ECE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_spent_under_one_limit_at_a_time() {
        let at = Instant::from_millis;
        let mut limits = Limits { limit: Limit::Nothing, since: at(0), spent: [0; 3] };
        limits.set(at(10), Limit::Path);
        limits.set(at(15), Limit::Path);
        limits.set(at(30), Limit::Peer);
        limits.set(at(70), Limit::Path);
        let ms = |limit| limits.spent(at(100), limit).as_millis();
        assert_eq!([Limit::Path, Limit::Peer, Limit::Buffer].map(ms), [50, 40, 0]);
    }

    #[test]
    fn data_is_cut_into_segments() {
        assert_eq!([0, 1, 1000, 1001, 64_000].map(|data| segments(data, 1000)), [1, 1, 1, 2, 64]);
    }
}
