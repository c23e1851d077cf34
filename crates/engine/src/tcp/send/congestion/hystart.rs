//! HyStart++ (RFC 9406), and the delay-based HyStart of Linux: both leave slow start when the RTT grows, before losses
//! occur.

use crate::tcp::send::congestion::Acked;
use crate::time::nanos;
use core::time::Duration;

/// When CUBIC leaves slow start before a loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SlowStartExit {
    /// A loss or an ECN mark ends slow start (`hystart` 0).
    Loss,
    /// HyStart++ (RFC 9406): when the RTT grows, growth is slower for five rounds; then slow start ends, unless
    /// the RTT has decreased again.
    #[default]
    HyStartPlusPlus,
    /// As Linux with `hystart_detect` 2 or 3: slow start ends at once when the min RTT of a round exceeds that of the
    /// connection by an eighth, at least 4 ms and at most 16 ms. Trains of ACKs are not evaluated.
    HyStartDelay,
}

/// Section 4.3.
const MIN_RTT_THRESHOLD: Duration = Duration::from_millis(4);
const MAX_RTT_THRESHOLD: Duration = Duration::from_millis(16);
const RTT_SAMPLES: u32 = 8;
const CSS_ROUNDS: u8 = 5;
/// Linux's `hystart_low_window`: a smaller window, in segments, is not judged by delay.
const LOW_WINDOW: u32 = 16;
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

/// No RTT sample: more than any.
const NONE: u64 = u64::MAX;

/// The rounds of a slow start. RTTs are in nanoseconds.
#[derive(Clone, Debug)]
pub(super) struct HyStart {
    exit: SlowStartExit,
    /// The round ends when this many bytes are delivered.
    round_end: u64,
    samples: u32,
    /// The min RTT of the last round; with `HyStartDelay`: of all.
    last: u64,
    current: u64,
    /// In conservative slow start: the baseline RTT, and the rounds since.
    baseline: u64,
    css_rounds: u8,
}

impl Default for HyStart {
    fn default() -> Self {
        Self::new(SlowStartExit::default())
    }
}

impl HyStart {
    pub fn new(exit: SlowStartExit) -> Self {
        Self { exit, round_end: 0, samples: 0, last: NONE, current: NONE, baseline: NONE, css_rounds: 0 }
    }

    /// When slow start ends.
    pub fn exit(&self) -> SlowStartExit {
        self.exit
    }

    /// Forgets the rounds.
    pub fn reset(&mut self) {
        *self = Self::new(self.exit);
    }

    /// Updates the phase, at this congestion window.
    pub fn on_ack(&mut self, acked: &Acked, cwnd: u32) -> Pace {
        match self.exit {
            SlowStartExit::Loss => Pace::SlowStart,
            SlowStartExit::HyStartPlusPlus => self.on_ack_plus_plus(acked),
            SlowStartExit::HyStartDelay => self.on_ack_delay(acked, cwnd),
        }
    }

    /// By how much the RTT has to grow beyond `least`.
    fn threshold(min: u64) -> u64 {
        (min / 8).clamp(nanos(MIN_RTT_THRESHOLD), nanos(MAX_RTT_THRESHOLD))
    }

    /// The first eight samples of a round give its min RTT; each later one is judged.
    fn on_ack_delay(&mut self, acked: &Acked, cwnd: u32) -> Pace {
        let Some(rtt) = acked.rtt.map(nanos) else { return Pace::SlowStart };
        self.last = self.last.min(rtt);
        if cwnd < LOW_WINDOW * acked.mss {
            return Pace::SlowStart;
        }
        if acked.delivered >= self.round_end {
            (self.round_end, self.samples, self.current) = (acked.sent, 0, NONE);
        }
        self.current = self.current.min(rtt);
        self.samples += 1;
        let slower = self.current > self.last.saturating_add(Self::threshold(self.last));
        if self.samples > RTT_SAMPLES && slower { Pace::Done } else { Pace::SlowStart }
    }

    fn is_conservative(&self) -> bool {
        self.baseline != NONE
    }

    /// The limit L of section 4.2 is left out: the acknowledgment of a super-segment counts for many segments, as on
    /// Linux.
    fn on_ack_plus_plus(&mut self, acked: &Acked) -> Pace {
        if acked.delivered >= self.round_end {
            self.round_end = acked.sent;
            self.last = core::mem::replace(&mut self.current, NONE);
            self.samples = 0;
            if self.is_conservative() {
                self.css_rounds += 1;
                if self.css_rounds >= CSS_ROUNDS {
                    self.reset();
                    return Pace::Done;
                }
            }
        }
        if let Some(rtt) = acked.rtt {
            self.samples += 1;
            self.current = self.current.min(nanos(rtt));
        }
        self.judge();
        if self.is_conservative() { Pace::Conservative } else { Pace::SlowStart }
    }

    fn judge(&mut self) {
        if self.current == NONE || self.samples < RTT_SAMPLES {
            return;
        }
        if !self.is_conservative() {
            // The sum saturates if there was no round before: no RTT reaches it.
            if self.current >= self.last.saturating_add(Self::threshold(self.last)) {
                (self.baseline, self.css_rounds) = (self.current, 0);
            }
        } else if self.current < self.baseline {
            self.baseline = NONE;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Instant;

    fn acked(delivered: u64, sent: u64, rtt: u64) -> Acked {
        let rtt = Some(Duration::from_millis(rtt));
        Acked { now: Instant::ZERO, bytes: 1000, mss: 1000, rtt, srtt: None, delivered, sent }
    }

    /// One round of ten acknowledgments with this round-trip time.
    fn round(hystart: &mut HyStart, number: u64, rtt: u64) -> Pace {
        let mut pace = Pace::SlowStart;
        for i in 0..10 {
            pace = hystart.on_ack(&acked(number * 10 + i, number * 10 + 10, rtt), 20_000);
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
        assert!(!hystart.is_conservative());
    }

    #[test]
    fn a_spike_that_passes_does_not() {
        let mut hystart = HyStart::default();
        round(&mut hystart, 1, 50);
        assert_eq!(round(&mut hystart, 2, 60), Pace::Conservative);
        assert_eq!(round(&mut hystart, 3, 50), Pace::SlowStart);
    }

    #[test]
    fn by_delay_slow_start_ends_at_the_ninth_sample_of_a_slower_round() {
        let mut hystart = HyStart::new(SlowStartExit::HyStartDelay);
        round(&mut hystart, 1, 200);
        for (rtt, expected) in [(216, Pace::SlowStart), (217, Pace::Done)] {
            let mut hystart = hystart.clone();
            for i in 0..8 {
                assert_eq!(hystart.on_ack(&acked(20 + i, 30, 240), 20_000), Pace::SlowStart);
            }
            assert_eq!(hystart.on_ack(&acked(28, 30, rtt), 20_000), expected, "{rtt} ms");
        }
        // A window of less than 16 segments is not judged.
        for i in 0..10 {
            assert_eq!(hystart.on_ack(&acked(20 + i, 30, 400), 15_999), Pace::SlowStart);
        }
    }

    #[test]
    fn by_delay_a_smaller_round_trip_is_no_reason_to_leave() {
        let mut hystart = HyStart::new(SlowStartExit::HyStartDelay);
        for i in 0..8 {
            hystart.on_ack(&acked(10 + i, 20, 200 + i), 20_000);
        }
        assert_eq!(hystart.on_ack(&acked(18, 20, 29), 20_000), Pace::SlowStart);
    }

    #[test]
    fn without_it_no_delay_ends_slow_start() {
        let mut hystart = HyStart::new(SlowStartExit::Loss);
        for (number, rtt) in [(1, 50), (2, 500), (3, 5000)] {
            assert_eq!(round(&mut hystart, number, rtt), Pace::SlowStart);
        }
    }
}
