//! Buffer auto-tuning: a connection may buffer as much as its path can use.
//!
//! The receive buffer, and with it the window, grows with the data that the application reads per round trip (dynamic
//! right-sizing); the send buffer grows with the congestion window.

use crate::Instant;
use crate::config::TcpConfig;
use crate::config::validate::MIN_BUFFER;
use crate::shared::Shared;
use crate::tcp::connection::Connection;
use crate::tcp::handshake::negotiate;
use crate::tcp::segment::Arrival;
use crate::tcp::socket::settings::Settings;
use core::time::Duration;

/// The initial limit of each buffer.
pub(crate) const INITIAL: usize = 128 * 1024;

/// Max useful buffer per nanosecond of RTT, in bytes: a larger buffer only evicts others from the CPU cache.
const OCTETS_PER_NANOSECOND: u64 = 4;

/// The buffer that each of many connections may use: four of the largest packets.
const MIN_SHARE: usize = 2 * INITIAL;

/// No RTT sample.
const NONE: u64 = u64::MAX;

/// The initial limit of the send buffer.
pub(crate) fn initial_send_buffer(config: &TcpConfig) -> usize {
    config.send_buffer.min(INITIAL)
}

/// The initial limit of the receive buffer: the application's, if it has set one.
pub(crate) fn initial_receive_buffer(most: usize, settings: &Settings) -> usize {
    if settings.receive_buffer.is_some() { most } else { most.min(INITIAL) }
}

/// Measures what is read per round trip.
#[derive(Debug)]
pub(crate) struct RcvBufTuner {
    since: Instant,
    /// Bytes read before this round trip, and the max read in one so far.
    read: u64,
    copied: u64,
    /// The RTT in the last round, in nanoseconds: from a sent ACK to data that echoes its timestamp. A pure receiver has
    /// no other sample than that of the handshake.
    trip: u64,
    /// The min RTT of this round. If the last round began with an idle period, this one is more accurate, as soon as
    /// data echoes a segment sent after it.
    least: u64,
}

impl RcvBufTuner {
    pub fn new(now: Instant) -> Self {
        Self { since: now, read: 0, copied: 0, trip: 0, least: NONE }
    }
}

impl RcvBufTuner {
    /// The max bytes read per round trip, and the RTT in nanoseconds.
    pub fn parts(&self) -> (u32, u64) {
        (u32::try_from(self.copied).unwrap_or(u32::MAX), self.trip)
    }

    /// A new round after an idle period, with the values of the last.
    pub fn after(since: Instant, read: u64, (copied, trip): (u32, u64)) -> Self {
        Self { since, read, copied: copied.into(), trip, least: NONE }
    }

    /// The receiver's RTT, once measured by timestamps, and the max bytes read per round trip.
    pub fn seen(&self) -> (Option<Duration>, u64) {
        ((self.trip > 0).then(|| Duration::from_nanos(self.rtt())), self.copied)
    }

    /// The RTT: the minimum of this and the last round, as a sample includes any time in which the peer had nothing
    /// to send.
    fn rtt(&self) -> u64 {
        self.trip.min(self.least)
    }
}

impl Connection {
    /// Data has arrived: samples the age of the echoed timestamp (RFC 7323). A pause of the sender adds to it, so the
    /// minimum is used.
    pub(in crate::tcp) fn measure_rcv_rtt(&mut self, now: Instant, seg: &Arrival<'_>) {
        let Some(echoed) = seg.tcp.options.timestamps.filter(|_| self.negotiated.timestamps) else { return };
        let age = negotiate::timestamp(now, self.ts_offset).wrapping_sub(echoed.ecr);
        if age < 1 << 31 {
            self.reading.least = self.reading.least.min(u64::from(age) * 1_000_000);
        }
    }

    /// Data has arrived: once per round trip, raises the receive buffer to twice the bytes read in it; while that
    /// grows, as in slow start, by the expected growth of the next round trip, too.
    pub(in crate::tcp) fn tune_receive_buffer(&mut self, shared: &Shared, now: Instant) {
        let srtt = self.rtt.srtt_nanos();
        let rtt = srtt.max(self.reading.rtt());
        if srtt == 0 || now.nanos_since(self.reading.since) < rtt {
            return;
        }
        let read = self.incoming.total_read();
        let copied = read - self.reading.read;
        let before = self.reading.copied;
        let least = self.reading.least;
        let trip = if least == NONE { self.reading.trip } else { least };
        self.reading = RcvBufTuner { since: now, read, copied: copied.max(before), trip, least: NONE };
        if copied > before {
            let wanted = copied * 2 + (copied - before).min(copied / 2) * 4 + 16 * u64::from(self.mss);
            let users = self.settings.receive_buffer.map_or(usize::MAX, |limit| limit as usize);
            let most = shared.config.tcp.receive_buffer.min(users);
            self.incoming.raise_limit(size(wanted).min(useful(rtt)).min(most));
        }
    }

    /// Data was acknowledged: raises the send buffer to twice the congestion window, so that there is always data to
    /// send. The limit does not shrink with the window: SACKed data takes room until the gap is filled, and a window
    /// that waits for room would be sent as one burst.
    pub(in crate::tcp) fn tune_send_buffer(&mut self, shared: &mut Shared, now: Instant) {
        if self.outgoing.capacity() >= MIN_SHARE {
            shared.memory.sharers.count(now, &mut self.shared_in);
        }
        let wanted = (self.congestion.window() as usize).saturating_mul(2);
        if wanted > self.send_limit {
            let most = self.share_of_useful(shared).min(shared.config.tcp.send_buffer);
            self.send_limit = self.send_limit.max(wanted.min(most));
        }
    }

    /// Max useful send buffer. Connections with large buffers share what one alone could use, in equal parts: together
    /// they are not faster than one, and the time that each waits for its turn adds to the RTT of all others.
    fn share_of_useful(&self, shared: &Shared) -> usize {
        let share = (useful(self.rtt.srtt_nanos()) / shared.memory.sharers.number()).max(MIN_SHARE);
        // In whole segments, so that a full buffer does not end in a small one.
        share - share % self.mss as usize
    }

    /// Room for a write: that in the send buffer, as far as the limit of unsent data allows.
    pub(in crate::tcp) fn send_room(&self, shared: &Shared) -> usize {
        let room = self.free_send_buffer(shared);
        let Some(low) = self.settings.not_sent_low_water else { return room };
        room.min(low.saturating_add(self.sendable_now()).saturating_sub(self.unsent()) as usize)
    }

    /// The free part of the send buffer.
    fn free_send_buffer(&self, shared: &Shared) -> usize {
        let config = &shared.config.tcp;
        let users = self.settings.send_buffer.map(|limit| limit.max(MIN_BUFFER).min(config.send_buffer));
        let limit = users.unwrap_or_else(|| match shared.memory.sharers.number() {
            1 => self.send_limit,
            _ => self.send_limit.min(self.share_of_useful(shared)),
        });
        let most = shared.memory.most(config, self.outgoing.capacity(), self.bytes.sent);
        // The ring's size at creation is a bound, even if the settings have grown since.
        limit.min(most).saturating_sub(self.outgoing.len()).min(self.outgoing.room())
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

/// Max buffer that a path of this RTT in nanoseconds can use.
fn useful(rtt: u64) -> usize {
    size(rtt.saturating_mul(OCTETS_PER_NANOSECOND)).saturating_add(INITIAL)
}

/// Converts to `usize`, saturating: an address may have 32 bits.
fn size(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_any_length_has_a_use() {
        assert_eq!(useful(0), INITIAL);
        assert_eq!(useful(1_000_000), INITIAL + 4_000_000);
        let most = size(u64::MAX - INITIAL as u64).saturating_add(INITIAL);
        for long in [u64::MAX / 4 + 1, u64::MAX] {
            assert_eq!(useful(long), most);
        }
        // An address may have 32 bits.
        assert!(size(u64::from(u32::MAX) + 1) >= u32::MAX as usize);
    }
}
