//! Buffer auto-tuning: how much a connection may buffer, by what its path can use.
//!
//! The receive buffer, and with it the window, grows with what the user reads in a round trip (dynamic right-sizing); the
//! send buffer grows with the congestion window.

use crate::Instant;
use crate::config::TcpConfig;
use crate::config::validate::MIN_BUFFER;
use crate::shared::Shared;
use crate::tcp::connection::Connection;
use crate::tcp::handshake::negotiate;
use crate::tcp::segment::Arrival;
use crate::tcp::send::congestion::Control;
use core::time::Duration;

/// What a connection starts with, each way.
pub(crate) const INITIAL: usize = 128 * 1024;

/// No path of this round-trip time needs more than this many bytes for each nanosecond of it: beyond
/// it a buffer only pushes others out of the cache.
const OCTETS_PER_NANOSECOND: u64 = 4;

/// The first limit of the send buffer.
pub(crate) fn initial_send_buffer(config: &TcpConfig) -> usize {
    config.send_buffer.min(INITIAL)
}

/// The first limit of the receive buffer.
pub(crate) fn initial_receive_buffer(most: usize) -> usize {
    most.min(INITIAL)
}

/// A round trip of reading.
#[derive(Debug)]
pub(crate) struct RcvBufTuner {
    since: Instant,
    /// Bytes read before, and the most that was read in a round trip so far.
    read: u64,
    copied: u64,
    /// How long the last round trip took: from an ACK of ours to text that echoes it. Who only receives
    /// knows no other round-trip time but that of the handshake.
    trip: Duration,
    /// The least of this one. Where the last one began with a silence, this tells better, as soon as anything
    /// echoes what we sent after it.
    least: Duration,
}

impl RcvBufTuner {
    pub fn new(now: Instant) -> Self {
        Self { since: now, read: 0, copied: 0, trip: Duration::ZERO, least: Duration::MAX }
    }
}

impl RcvBufTuner {
    /// The most that was read in a round trip, and how long that is in nanoseconds.
    pub fn parts(&self) -> (u32, u64) {
        (
            u32::try_from(self.copied).unwrap_or(u32::MAX),
            u64::try_from(self.trip.as_nanos()).unwrap_or(u64::MAX),
        )
    }

    /// A new round after an idle time, with what is known of the last.
    pub fn after(since: Instant, read: u64, (copied, trip): (u32, u64)) -> Self {
        Self { since, read, copied: copied.into(), trip: Duration::from_nanos(trip), least: Duration::MAX }
    }

    /// The receiver's round-trip time, once a timestamp has shown it, and the most that was read in one.
    pub fn seen(&self) -> (Option<Duration>, u64) {
        ((self.trip > Duration::ZERO).then_some(self.rtt()), self.copied)
    }

    /// The round-trip time. A sample spans all the time that the peer had nothing to send, so that none may be
    /// longer than another of this or the last round.
    fn rtt(&self) -> Duration {
        self.trip.min(self.least)
    }
}

impl Connection {
    /// Text has arrived: how old what it echoes is (RFC 7323). A sender that has paused makes it older,
    /// so that the least counts.
    pub(in crate::tcp) fn measure_trip(&mut self, now: Instant, seg: &Arrival<'_>) {
        let Some(echoed) = seg.tcp.options.timestamps.filter(|_| self.negotiated.timestamps) else { return };
        let age = negotiate::timestamp(now, self.ts_offset).wrapping_sub(echoed.ecr);
        if age < 1 << 31 {
            self.reading.least = self.reading.least.min(Duration::from_millis(u64::from(age)));
        }
    }

    /// Text has arrived: once a round trip, lets the receive buffer hold twice what was read in it; while
    /// that grows, as in slow start, as much more as the next round trip will bring.
    pub(in crate::tcp) fn tune_receive_buffer(&mut self, shared: &Shared, now: Instant) {
        let Some(rtt) = self.rtt.srtt().map(|rtt| rtt.max(self.reading.rtt())) else { return };
        if now - self.reading.since < rtt {
            return;
        }
        let read = self.incoming.total_read();
        let copied = read - self.reading.read;
        let before = self.reading.copied;
        let least = self.reading.least;
        let trip = if least == Duration::MAX { self.reading.trip } else { least };
        self.reading =
            RcvBufTuner { since: now, read, copied: copied.max(before), trip, least: Duration::MAX };
        if copied > before {
            let wanted = copied * 2 + (copied - before).min(copied / 2) * 4 + 16 * u64::from(self.mss);
            let most = shared.config.tcp.receive_buffer;
            self.incoming.raise_limit(size(wanted).min(useful(rtt)).min(most));
        }
    }

    /// Something was acknowledged: lets the send buffer hold twice the congestion window, so that there is
    /// always something to send. The limit does not sink with the window: what the peer has beyond a gap
    /// takes room until the gap is filled, and a window that waits for room would be sent as one burst.
    pub(in crate::tcp) fn tune_send_buffer(&mut self, config: &TcpConfig) {
        let wanted = (self.congestion.window() as usize).saturating_mul(2);
        if wanted > self.send_limit {
            let rtt = self.rtt.srtt().unwrap_or_default();
            self.send_limit = self.send_limit.max(wanted.min(useful(rtt)).min(config.send_buffer));
        }
    }

    /// Room for text of the user.
    pub(in crate::tcp) fn send_room(&self, shared: &Shared) -> usize {
        let config = &shared.config.tcp;
        let users = self.settings.send_buffer.map(|limit| limit.max(MIN_BUFFER).min(config.send_buffer));
        let limit = users.unwrap_or(self.send_limit);
        let most = shared.memory.most(config, self.outgoing.capacity(), self.octets.sent);
        // What the ring was made for bounds it, however the settings have grown since.
        limit.min(most).saturating_sub(self.outgoing.len()).min(self.outgoing.room())
    }
}

/// The most that a path of this round-trip time can use.
fn useful(rtt: Duration) -> usize {
    let nanos = u64::try_from(rtt.as_nanos()).unwrap_or(u64::MAX);
    size(nanos.saturating_mul(OCTETS_PER_NANOSECOND)).saturating_add(INITIAL)
}

/// As many bytes, or as there can be: an address may have 32 bits.
fn size(octets: u64) -> usize {
    usize::try_from(octets).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_any_length_has_a_use() {
        assert_eq!(useful(Duration::ZERO), INITIAL);
        assert_eq!(useful(Duration::from_millis(1)), INITIAL + 4_000_000);
        let most = size(u64::MAX - INITIAL as u64).saturating_add(INITIAL);
        for long in [Duration::from_secs(1 << 40), Duration::MAX] {
            assert_eq!(useful(long), most);
        }
        // An address may have 32 bits.
        assert!(size(u64::from(u32::MAX) + 1) >= u32::MAX as usize);
    }
}
