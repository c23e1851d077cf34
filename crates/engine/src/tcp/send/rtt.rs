//! RTT estimation (SRTT, RTTVAR) and the retransmission timeout (RTO) with its exponential backoff, RFC 6298, without
//! samples of retransmitted data (Karn's algorithm).

use crate::Instant;
use crate::config::TcpConfig;
use crate::time::nanos;
use core::time::Duration;

/// The RTO after a SYN that was lost (section 5.7).
const FALLBACK: u64 = 3_000_000_000;

/// Clock granularity G, in nanoseconds.
const GRANULARITY: u64 = 1_000_000;

/// The estimate, in nanoseconds: nearly every acknowledgment updates it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rtt {
    /// Zero before the first measurement.
    srtt: u64,
    rttvar: u64,
    /// Without back-off, and not above the maximum that was set when it was computed.
    rto: u64,
    /// How often the RTO was doubled since the last acknowledgment of new data.
    backoff: u32,
}

impl Rtt {
    pub fn new(config: &TcpConfig) -> Self {
        Self { srtt: 0, rttvar: 0, rto: nanos(config.initial_rto.min(config.max_rto)), backoff: 0 }
    }

    /// SRTT, RTTVAR and the RTO without back-off, in nanoseconds.
    pub fn parts(&self) -> [u64; 3] {
        [self.srtt, self.rttvar, self.rto]
    }

    /// Restores an estimate from its [`parts`](Self::parts).
    pub fn with([srtt, rttvar, rto]: [u64; 3]) -> Self {
        Self { srtt, rttvar, rto, backoff: 0 }
    }

    pub fn srtt(&self) -> Option<Duration> {
        (self.srtt > 0).then_some(Duration::from_nanos(self.srtt))
    }

    /// RTTVAR, zero before the first measurement.
    pub fn rttvar(&self) -> Duration {
        Duration::from_nanos(self.rttvar)
    }

    /// The RTO without back-off.
    pub fn base(&self) -> Duration {
        Duration::from_nanos(self.rto)
    }

    /// The RTO (section 5).
    pub fn rto(&self, config: &TcpConfig) -> Duration {
        Duration::from_nanos(self.rto_nanos(config))
    }

    /// The RTO in nanoseconds.
    pub fn rto_nanos(&self, config: &TcpConfig) -> u64 {
        if self.backoff == 0 {
            return self.rto;
        }
        self.rto.saturating_mul(1 << self.backoff.min(20)).min(nanos(config.max_rto))
    }

    /// When a retransmission timer started now expires.
    pub fn expiry(&self, now: Instant, config: &TcpConfig) -> Instant {
        now.after_nanos(self.rto_nanos(config))
    }

    /// SRTT in nanoseconds; zero before the first measurement.
    pub fn srtt_nanos(&self) -> u64 {
        self.srtt
    }

    /// How often the timer was backed off since new data was acknowledged.
    pub fn backoffs(&self) -> u32 {
        self.backoff
    }

    /// Section 5.5: back off the timer.
    pub fn back_off(&mut self) {
        self.backoff = self.backoff.saturating_add(1);
    }

    /// An acknowledgment gives an RTT sample: the back-off ends (section 5.7). An acknowledgment of retransmitted data
    /// gives none (Karn).
    pub fn progress(&mut self) {
        self.backoff = 0;
    }

    /// Section 5.7: the SYN was retransmitted, so there is no RTT sample and the path may be slow.
    pub fn fall_back(&mut self, config: &TcpConfig) {
        if self.srtt == 0 {
            self.rto = self.rto.max(FALLBACK).min(nanos(config.max_rto));
        }
    }

    /// Section 2: one measurement R', of a segment that was sent only once (Karn).
    pub fn measure(&mut self, r: Duration, config: &TcpConfig) {
        self.measure_nanos(nanos(r), config);
    }

    /// The same in nanoseconds.
    pub fn measure_nanos(&mut self, r: u64, config: &TcpConfig) {
        // A sixteenth of the range, so that the sums below cannot overflow.
        let r = r.clamp(1, u64::MAX / 16);
        if self.srtt == 0 {
            self.srtt = r;
            self.rttvar = r / 2;
        } else {
            self.rttvar = (self.rttvar * 3 + self.srtt.abs_diff(r)) / 4;
            self.srtt = ((self.srtt * 7 + r) / 8).max(1);
        }
        // The minimum RTO is added to the RTT, as on Linux: it covers a delayed ACK at any RTT.
        let min = GRANULARITY.max(nanos(config.min_rto));
        let rto = self.srtt + (self.rttvar * 4).max(min);
        // Whole microseconds: the path is not measured more finely.
        self.rto = (rto / 1000 * 1000).min(nanos(config.max_rto));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn the_estimate_follows_the_equations_of_section_2() {
        let config = TcpConfig::default();
        let mut rtt = Rtt::new(&config);
        assert_eq!(rtt.rto(&config), ms(1000));
        rtt.measure(ms(400), &config);
        assert_eq!((rtt.srtt(), rtt.base()), (Some(ms(400)), ms(1200)));
        rtt.measure(ms(800), &config);
        assert_eq!((rtt.srtt(), rtt.base()), (Some(ms(450)), ms(450) + ms(250) * 4));
    }

    #[test]
    fn back_off_doubles_up_to_the_greatest_and_progress_ends_it() {
        let config = TcpConfig::default();
        let mut rtt = Rtt::new(&config);
        rtt.back_off();
        rtt.back_off();
        assert_eq!(rtt.rto(&config), ms(4000));
        (0..100).for_each(|_| rtt.back_off());
        assert_eq!(rtt.rto(&config), config.max_rto);
        rtt.progress();
        assert_eq!(rtt.rto(&config), ms(1000));
    }
}
