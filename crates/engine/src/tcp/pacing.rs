//! Pacing: what the congestion window lets go is spread over the round trip, so that a queue on the path
//! sees a stream and not bursts of half a window.

use super::congestion::{Control, INITIAL_SEGMENTS};
use super::connection::Connection;
use crate::Instant;
use crate::shared::Shared;
use core::time::Duration;

/// What may go at once: this long at the pace, for no timer is finer ..
const QUANTUM: Duration = Duration::from_millis(1);
/// .. and after a pause an initial window (RFC 6928).
const BURST_SEGMENTS: u32 = INITIAL_SEGMENTS;

/// How much faster than a window in a round trip, in percent, as on Linux: slow start doubles the window
/// in the meantime, later it is to be used in spite of delays.
const SLOW_START: u64 = 200;
const AVOIDANCE: u64 = 120;

/// When what was sent has left, at the pace.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pacer {
    free_at: Option<Instant>,
}

impl Pacer {
    /// Notes that this was sent: `time` is what it takes at the pace, `burst` what may be sent ahead.
    fn sent(&mut self, now: Instant, time: Duration) {
        self.free_at = Some(self.free_at.map_or(now, |at| at.max(now)) + time);
    }

    /// When the next may go: `None`: now.
    fn wait(&self, now: Instant, ahead: Duration) -> Option<Instant> {
        let at = self.free_at.filter(|at| *at - now > ahead)?;
        Some(now + (at - now - ahead).max(QUANTUM))
    }
}

impl Connection {
    /// How long this much takes at the pace. `None`: nothing is paced.
    fn pace(&self, shared: &Shared, octets: u32) -> Option<Duration> {
        let srtt = self.rtt.srtt().filter(|_| shared.config.tcp.pacing)?;
        let window = u64::from(self.recovery.window(&self.congestion, self.mss)).max(1);
        let slow_start = window < u64::from(self.congestion.threshold() / 2);
        let percent = if slow_start { SLOW_START } else { AVOIDANCE };
        let nanos = u128::from(octets) * srtt.as_nanos() * 100 / u128::from(window * percent);
        Some(Duration::from_nanos(nanos as u64))
    }

    /// Until when text has to wait for its turn.
    pub(super) fn paced_until(&self, shared: &Shared, now: Instant) -> Option<Instant> {
        let burst = self.pace(shared, BURST_SEGMENTS * self.mss)?;
        self.pacer.wait(now, burst.max(QUANTUM))
    }

    /// Books what was sent.
    pub(super) fn book_pace(&mut self, shared: &Shared, now: Instant, octets: u32) {
        if let Some(time) = self.pace(shared, octets) {
            self.pacer.sent(now, time);
        }
    }

    /// The most that goes in one super-segment: as much as goes in a quantum, but two segments.
    pub(super) fn paced_len(&self, shared: &Shared, longest: u32) -> u32 {
        let Some(time) = self.pace(shared, self.mss) else { return longest };
        let segments = QUANTUM.as_nanos() / time.as_nanos().max(1);
        longest.min((segments.clamp(2, 64) as u32) * self.mss)
    }
}
