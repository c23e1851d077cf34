//! HyStart++ (RFC 9406): leaves slow start when the RTT grows, before losses occur.

use crate::tcp::send::congestion::Acked;
use core::time::Duration;

/// Section 4.3.
const MIN_RTT_THRESHOLD: Duration = Duration::from_millis(4);
const MAX_RTT_THRESHOLD: Duration = Duration::from_millis(16);
const RTT_SAMPLES: u32 = 8;
const CSS_ROUNDS: u32 = 5;
/// In conservative slow start (CSS), the growth of slow start is divided by this.
pub(super) const CSS_GROWTH_DIVISOR: u32 = 4;

/// The phase of slow start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    SlowStart,
    Conservative,
    /// Congestion avoidance begins.
    Done,
}

/// The rounds of a slow start.
#[derive(Clone, Debug, Default)]
pub(super) struct HyStart {
    /// The round ends when this many bytes are delivered.
    round_end: u64,
    samples: u32,
    last: Option<Duration>,
    current: Option<Duration>,
    /// In conservative slow start: the baseline RTT, and the rounds since.
    conservative: Option<(Duration, u32)>,
}

impl HyStart {
    /// Updates the phase. The limit L of section 4.2 is left out: the acknowledgment of a super-segment counts for
    /// many segments, as on Linux.
    pub fn on_ack(&mut self, acked: &Acked) -> Pace {
        if acked.delivered >= self.round_end {
            self.round_end = acked.sent;
            self.last = self.current.take();
            self.samples = 0;
            if let Some((_, rounds)) = &mut self.conservative {
                *rounds += 1;
                if *rounds >= CSS_ROUNDS {
                    *self = Self::default();
                    return Pace::Done;
                }
            }
        }
        if let Some(rtt) = acked.rtt {
            self.samples += 1;
            self.current = Some(self.current.map_or(rtt, |least| least.min(rtt)));
        }
        self.judge();
        if self.conservative.is_some() { Pace::Conservative } else { Pace::SlowStart }
    }

    fn judge(&mut self) {
        let (Some(current), true) = (self.current, self.samples >= RTT_SAMPLES) else { return };
        match (self.conservative, self.last) {
            (None, Some(last)) => {
                let threshold = (last / 8).clamp(MIN_RTT_THRESHOLD, MAX_RTT_THRESHOLD);
                if current >= last + threshold {
                    self.conservative = Some((current, 0));
                }
            }
            (Some((baseline, _)), _) if current < baseline => self.conservative = None,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Instant;

    /// One round of ten acknowledgments with this round-trip time.
    fn round(hystart: &mut HyStart, number: u64, rtt: u64) -> Pace {
        let mut pace = Pace::SlowStart;
        for i in 0..10 {
            pace = hystart.on_ack(&Acked {
                now: Instant::ZERO,
                bytes: 1000,
                mss: 1000,
                rtt: Some(Duration::from_millis(rtt)),
                srtt: None,
                delivered: number * 10 + i,
                sent: number * 10 + 10,
            });
        }
        pace
    }

    #[test]
    fn a_growing_round_trip_ends_slow_start_after_five_careful_rounds() {
        let mut hystart = HyStart::default();
        assert_eq!(round(&mut hystart, 1, 50), Pace::SlowStart);
        assert_eq!(round(&mut hystart, 2, 51), Pace::SlowStart);
        for n in 3..8 {
            assert_eq!(round(&mut hystart, n, 60), Pace::Conservative, "round {n}");
        }
        round(&mut hystart, 8, 60);
        assert_eq!(hystart.conservative, None);
    }

    #[test]
    fn a_spike_that_passes_does_not() {
        let mut hystart = HyStart::default();
        round(&mut hystart, 1, 50);
        assert_eq!(round(&mut hystart, 2, 60), Pace::Conservative);
        assert_eq!(round(&mut hystart, 3, 50), Pace::SlowStart);
    }
}
