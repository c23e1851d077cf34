//! Pacing: the congestion window is spread over the round trip, so that a queue on the path sees a stream instead of
//! bursts of half a window. Off by default (`TcpConfig::pacing`).

use crate::Instant;
use crate::shared::Shared;
use crate::tcp::connection::Connection;
use crate::tcp::send::congestion::{Congestion, Control, INITIAL_SEGMENTS};
use core::time::Duration;

/// What may go at once is this long at the pace, for no timer need be finer, ..
const QUANTUM: Duration = Duration::from_millis(1);
/// .. or an initial window (RFC 6928), which a path must take anyway.
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
    /// Notes that something was sent which takes this time.
    fn sent(&mut self, now: Instant, time: Duration) {
        self.free_at = Some(self.free_at.map_or(now, |at| at.max(now)) + time);
    }

    /// Until when the next has to wait if no more than `ahead` may be sent ahead; `None`: it may go.
    fn wait(&self, now: Instant, ahead: Duration) -> Option<Instant> {
        let at = self.free_at.filter(|at| *at - now > ahead)?;
        Some(now + (at - now - ahead).max(QUANTUM))
    }
}

/// How much of this window goes in a round trip, in percent.
pub(super) fn percent(congestion: &Congestion, window: u64) -> u64 {
    if window < u64::from(congestion.threshold() / 2) { SLOW_START } else { AVOIDANCE }
}

impl Connection {
    /// How long this much takes at the pace. `None`: nothing is paced.
    fn pace(&self, shared: &Shared, congestion: &Congestion, octets: u32) -> Option<Duration> {
        let srtt = self.rtt.srtt().filter(|_| shared.config.tcp.pacing)?;
        let window = u64::from(self.recovery.window(congestion, self.mss)).max(u64::from(self.mss));
        let percent = percent(congestion, window);
        let nanos = u128::from(octets) * srtt.as_nanos() * 100 / u128::from(window * percent);
        Some(Duration::from_nanos(nanos as u64))
    }

    /// ByteCounts in a second at the pace.
    pub(in crate::tcp) fn pacing_rate(&self, shared: &Shared) -> Option<u64> {
        const SAMPLE: u32 = 1 << 20;
        let time = self.pace(shared, &self.congestion, SAMPLE)?;
        Some((u128::from(SAMPLE) * 1_000_000_000 / time.as_nanos().max(1)) as u64)
    }

    /// Until when text has to wait for its turn; `None`: it may go.
    pub(in crate::tcp) fn paced_until(
        &self,
        shared: &Shared,
        now: Instant,
        congestion: &Congestion,
    ) -> Option<Instant> {
        let burst = self.pace(shared, congestion, BURST_SEGMENTS * self.mss)?;
        self.pacer.wait(now, burst.max(QUANTUM))
    }

    /// Books what was sent.
    pub(in crate::tcp) fn book_pace(&mut self, shared: &Shared, now: Instant, octets: u32) {
        if let Some(time) = self.pace(shared, &self.congestion, octets) {
            self.pacer.sent(now, time);
        }
    }
}
