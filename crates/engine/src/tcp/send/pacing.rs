//! Pacing: the congestion window is spread over the RTT, to avoid bursts of half a window in a queue on the path.
//! Off by default (`TcpConfig::pacing`).

use crate::Instant;
use crate::shared::Shared;
use crate::tcp::connection::Connection;
use crate::tcp::send::congestion::{Congestion, INITIAL_SEGMENTS};
use core::time::Duration;

/// The max burst is this time at the pacing rate, so that no timer needs to be finer, ..
const QUANTUM: Duration = Duration::from_millis(1);
/// .. or an initial window (RFC 6928), which every path must take anyway.
const BURST_SEGMENTS: u32 = INITIAL_SEGMENTS;

/// The pacing rate in percent of one window per RTT, as on Linux: slow start doubles the window within the RTT;
/// congestion avoidance needs a margin to use the window in spite of delays.
const SLOW_START: u64 = 200;
const AVOIDANCE: u64 = 120;

/// When the data sent so far has left, at the pacing rate.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pacer {
    free_at: Option<Instant>,
}

impl Pacer {
    /// Accounts data that takes `time` at the pacing rate.
    fn sent(&mut self, now: Instant, time: Duration) {
        self.free_at = Some(self.free_at.map_or(now, |at| at.max(now)) + time);
    }

    /// Until when the next segment has to wait if at most `ahead` may be sent in advance; `None`: it may be sent now.
    fn wait(&self, now: Instant, ahead: Duration) -> Option<Instant> {
        let at = self.free_at.filter(|at| *at - now > ahead)?;
        Some(now + (at - now - ahead).max(QUANTUM))
    }
}

/// The pacing rate for this window, in percent of the window per RTT.
pub(super) fn percent(congestion: &Congestion, window: u64) -> u64 {
    if window < u64::from(congestion.threshold() / 2) { SLOW_START } else { AVOIDANCE }
}

impl Connection {
    /// How long `octets` bytes take at the pacing rate. `None`: no pacing.
    fn pace(&self, shared: &Shared, congestion: &Congestion, bytes: u32) -> Option<Duration> {
        if !shared.config.tcp.pacing {
            return None;
        }
        let srtt = self.rtt.srtt()?;
        let window = u64::from(self.recovery.window(congestion, self.mss)).max(u64::from(self.mss));
        let percent = percent(congestion, window);
        let nanos = u128::from(bytes) * srtt.as_nanos() * 100 / u128::from(window * percent);
        Some(Duration::from_nanos(nanos as u64))
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
        let burst = self.pace(shared, congestion, BURST_SEGMENTS * self.mss)?;
        self.cold.pacer.wait(now, burst.max(QUANTUM))
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
