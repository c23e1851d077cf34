//! How much a connection may buffer: as much as its path can use, not as much as is allowed.
//!
//! The receive buffer, and with it the window, grows with what the user reads in a round trip (dynamic
//! right-sizing); the send buffer with the congestion window.

use super::congestion::Control;
use super::connection::Connection;
use crate::Instant;
use crate::config::TcpConfig;
use crate::shared::Shared;
use core::time::Duration;

/// What a connection starts with, each way.
const INITIAL: usize = 128 * 1024;

/// No path of this round-trip time needs more than this many octets for each nanosecond of it: beyond
/// it a buffer only pushes others out of the cache.
const OCTETS_PER_NANOSECOND: u64 = 4;

/// The first limit of the receive buffer.
pub(crate) fn initial_receive_buffer(config: &TcpConfig) -> usize {
    config.receive_buffer.min(INITIAL)
}

/// A round trip of reading.
#[derive(Debug)]
pub(crate) struct Reading {
    since: Instant,
    read: u64,
}

impl Reading {
    pub fn new(now: Instant) -> Self {
        Self { since: now, read: 0 }
    }
}

impl Connection {
    /// Text has arrived: once a round trip, lets the receive buffer hold twice what was read in it.
    pub(super) fn tune_receive_buffer(&mut self, shared: &Shared, now: Instant) {
        let Some(rtt) = self.rtt.srtt().filter(|rtt| now - self.reading.since >= *rtt) else { return };
        let read = self.incoming.total_read();
        let copied = (read - self.reading.read) as usize;
        self.reading = Reading { since: now, read };
        if copied * 2 > self.incoming.limit() {
            let wanted = copied * 2 + 16 * self.mss as usize;
            let most = shared.config.tcp.receive_buffer;
            self.incoming.raise_limit(wanted.min(useful(rtt)).min(most));
        }
    }

    /// Room for text of the user: twice the congestion window, so that there is always something to
    /// send, and at least what a connection starts with.
    pub(super) fn send_room(&self, config: &TcpConfig) -> usize {
        if let Some(limit) = self.settings.send_buffer {
            return limit.min(config.send_buffer).saturating_sub(self.outgoing.len());
        }
        let wanted = (2 * self.congestion.window() as usize).max(INITIAL);
        let rtt = self.rtt.srtt().unwrap_or_default();
        let limit = wanted.min(useful(rtt)).min(config.send_buffer);
        limit.saturating_sub(self.outgoing.len())
    }
}

/// The most that a path of this round-trip time can use.
fn useful(rtt: Duration) -> usize {
    INITIAL + (rtt.as_nanos() as u64 * OCTETS_PER_NANOSECOND) as usize
}
