//! Pacing of a connection: its rate, and when its next segment may leave.

use crate::Instant;
use crate::shared::Shared;
use crate::tcp::connection::Connection;
use crate::tcp::send::congestion::Congestion;
use crate::tcp::send::pacing;
use core::time::Duration;

impl Connection {
    /// How long `octets` bytes take at the pacing rate. `None`: no pacing.
    fn pace(&self, shared: &Shared, congestion: &Congestion, bytes: u32) -> Option<Duration> {
        if !shared.config.tcp.pacing {
            return None;
        }
        let srtt = self.rtt.srtt()?;
        let window = u64::from(self.recovery.window(congestion, self.mss)).max(u64::from(self.mss));
        Some(pacing::time_of(bytes, srtt, congestion, window))
    }

    /// The pacing rate in bytes per second.
    pub(in crate::tcp) fn pacing_rate(&self, shared: &Shared) -> Option<u64> {
        const SAMPLE: u32 = 1 << 20;
        let time = self.pace(shared, &self.congestion, SAMPLE)?;
        Some((u128::from(SAMPLE) * 1_000_000_000 / time.as_nanos().max(1)) as u64)
    }

    /// Until when pacing delays data; `None`: it may be sent now.
    #[inline]
    pub(in crate::tcp) fn paced_until(
        &self,
        shared: &Shared,
        now: Instant,
        congestion: &Congestion,
    ) -> Option<Instant> {
        if !shared.config.tcp.pacing {
            return None;
        }
        let burst = self.pace(shared, congestion, pacing::BURST_SEGMENTS * self.mss)?;
        self.cold.pacer.wait(now, burst)
    }

    /// Accounts data that was sent.
    #[inline]
    pub(in crate::tcp) fn book_pace(&mut self, shared: &Shared, now: Instant, bytes: u32) {
        if shared.config.tcp.pacing
            && let Some(time) = self.pace(shared, &self.congestion, bytes)
        {
            self.cold.pacer.sent(now, time);
        }
    }
}
