//! Pacing: the congestion window is spread over the RTT, to avoid bursts of half a window in a queue on the path.
//! Off by default (`TcpConfig::pacing`).

use crate::Instant;
use crate::tcp::send::congestion::{Congestion, INITIAL_SEGMENTS};
use core::time::Duration;

/// The max burst is this time at the pacing rate, so that no timer needs to be finer, ..
const QUANTUM: Duration = Duration::from_millis(1);
/// .. or an initial window (RFC 6928), which every path must take anyway.
pub(in crate::tcp) const BURST_SEGMENTS: u32 = INITIAL_SEGMENTS;

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
    pub fn sent(&mut self, now: Instant, time: Duration) {
        self.free_at = Some(self.free_at.map_or(now, |at| at.max(now)) + time);
    }

    /// Until when the next segment has to wait if at most `burst` may be sent in advance; `None`: it may be sent now.
    pub fn wait(&self, now: Instant, burst: Duration) -> Option<Instant> {
        let ahead = burst.max(QUANTUM);
        let at = self.free_at.filter(|at| *at - now > ahead)?;
        Some(now + (at - now - ahead).max(QUANTUM))
    }
}

/// How long this many bytes take at the pacing rate, if the window is sent within an RTT.
pub(in crate::tcp) fn time_of(bytes: u32, srtt: Duration, congestion: &Congestion, window: u64) -> Duration {
    let nanos = u128::from(bytes) * srtt.as_nanos() * 100 / u128::from(window * percent(congestion, window));
    Duration::from_nanos(nanos as u64)
}

/// The pacing rate for this window, in percent of the window per RTT.
pub(in crate::tcp) fn percent(congestion: &Congestion, window: u64) -> u64 {
    if window < u64::from(congestion.threshold() / 2) { SLOW_START } else { AVOIDANCE }
}
