//! Buffer auto-tuning: a connection may buffer as much as its path can use.
//!
//! The receive buffer, and with it the window, grows with the data that the application reads per round trip (dynamic
//! right-sizing); the send buffer grows with the congestion window.

use crate::Instant;
use crate::config::TcpConfig;
use crate::tcp::socket::settings::Settings;
use core::time::Duration;

/// The initial limit of each buffer.
pub(crate) const INITIAL: usize = 128 * 1024;

/// Max useful buffer per nanosecond of RTT, in bytes: a larger buffer only evicts others from the CPU cache.
const OCTETS_PER_NANOSECOND: u64 = 4;

/// The buffer that each of many connections may use: four of the largest packets.
pub(in crate::tcp) const MIN_SHARE: usize = 2 * INITIAL;

/// No RTT sample.
const NONE: u64 = u64::MAX;

/// The initial limit of the send buffer.
pub(crate) fn initial_send_buffer(config: &TcpConfig) -> usize {
    config.send_buffer.min(INITIAL)
}

/// The initial limit of the receive buffer: the application's, if it has set one.
pub(crate) fn initial_receive_buffer(max: usize, settings: &Settings) -> usize {
    if settings.receive_buffer.is_some() { max } else { max.min(INITIAL) }
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
    min: u64,
}

impl RcvBufTuner {
    pub fn new(now: Instant) -> Self {
        Self { since: now, read: 0, copied: 0, trip: 0, min: NONE }
    }

    /// Data has arrived that echoes a timestamp of this age in milliseconds (RFC 7323). A pause of the sender adds to
    /// it, so the minimum is used.
    pub fn measure(&mut self, age: u32) {
        if age < 1 << 31 {
            self.min = self.min.min(u64::from(age) * 1_000_000);
        }
    }

    /// Data has arrived, and `read` bytes were read in all. Once per round trip: the size of the receive buffer for the
    /// next, twice the bytes read in this one; while that grows, as in slow start, the expected growth is added.
    #[inline]
    pub fn tune(&mut self, now: Instant, srtt: u64, read: u64, mss: u32) -> Option<usize> {
        let rtt = srtt.max(self.rtt());
        if srtt == 0 || now.nanos_since(self.since) < rtt {
            return None;
        }
        let copied = read - self.read;
        let before = self.copied;
        let trip = if self.min == NONE { self.trip } else { self.min };
        *self = Self { since: now, read, copied: copied.max(before), trip, min: NONE };
        if copied <= before {
            return None;
        }
        let wanted = copied * 2 + (copied - before).min(copied / 2) * 4 + 16 * u64::from(mss);
        Some(size(wanted).min(useful(rtt)))
    }

    /// The max bytes read per round trip, and the RTT in nanoseconds.
    pub fn parts(&self) -> (u32, u64) {
        (u32::try_from(self.copied).unwrap_or(u32::MAX), self.trip)
    }

    /// A new round after an idle period, with the values of the last.
    pub fn after(since: Instant, read: u64, (copied, trip): (u32, u64)) -> Self {
        Self { since, read, copied: copied.into(), trip, min: NONE }
    }

    /// The receiver's RTT, once measured by timestamps, and the max bytes read per round trip.
    pub fn seen(&self) -> (Option<Duration>, u64) {
        ((self.trip > 0).then(|| Duration::from_nanos(self.rtt())), self.copied)
    }

    /// The RTT: the minimum of this and the last round, as a sample includes any time in which the peer had nothing
    /// to send.
    pub fn rtt(&self) -> u64 {
        self.trip.min(self.min)
    }
}

/// Max buffer that a path of this RTT in nanoseconds can use.
pub(in crate::tcp) fn useful(rtt: u64) -> usize {
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
        let max = size(u64::MAX - INITIAL as u64).saturating_add(INITIAL);
        for long in [u64::MAX / 4 + 1, u64::MAX] {
            assert_eq!(useful(long), max);
        }
        // An address may have 32 bits.
        assert!(size(u64::from(u32::MAX) + 1) >= u32::MAX as usize);
    }
}
