//! Round-trip time and retransmission timeout (RFC 6298).

use crate::config::TcpConfig;
use core::time::Duration;

/// Clock granularity G.
const GRANULARITY: Duration = Duration::from_millis(1);

/// The estimate.
#[derive(Debug)]
pub(crate) struct Rtt {
    srtt: Option<Duration>,
    rttvar: Duration,
    rto: Duration,
    /// How often the RTO was doubled since the last acknowledgment of something new.
    backoff: u32,
}

impl Rtt {
    pub fn new(config: &TcpConfig) -> Self {
        Self { srtt: None, rttvar: Duration::ZERO, rto: config.initial_rto, backoff: 0 }
    }

    pub fn srtt(&self) -> Option<Duration> {
        self.srtt
    }

    /// The RTO without back-off.
    pub fn base(&self) -> Duration {
        self.rto
    }

    /// The RTO (section 5).
    pub fn rto(&self, config: &TcpConfig) -> Duration {
        self.rto.saturating_mul(1 << self.backoff.min(20)).min(config.max_rto)
    }

    /// Section 5.5: back off the timer.
    pub fn back_off(&mut self) {
        self.backoff = self.backoff.saturating_add(1);
    }

    /// Something new was acknowledged: the path is alive.
    pub fn progress(&mut self) {
        self.backoff = 0;
    }

    /// Section 2: one measurement R', of a segment that was sent only once (Karn).
    pub fn measure(&mut self, r: Duration, config: &TcpConfig) {
        match self.srtt {
            None => {
                self.srtt = Some(r);
                self.rttvar = r / 2;
            }
            Some(srtt) => {
                self.rttvar = self.rttvar * 3 / 4 + srtt.abs_diff(r) / 4;
                self.srtt = Some(srtt * 7 / 8 + r / 8);
            }
        }
        let srtt = self.srtt.unwrap_or(r);
        let variation = (self.rttvar * 4).max(GRANULARITY);
        self.rto = (srtt + variation).clamp(config.min_rto, config.max_rto);
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
