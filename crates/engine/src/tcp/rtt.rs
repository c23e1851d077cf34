//! Round-trip time and retransmission timeout (RFC 6298).

use crate::Instant;
use crate::config::TcpConfig;
use crate::seq::SndSeq;
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
    /// The octet being timed, and when it was sent (Karn: never one that was sent again).
    timed: Option<(SndSeq, Instant)>,
}

impl Rtt {
    pub fn new(config: &TcpConfig) -> Self {
        Self { srtt: None, rttvar: Duration::ZERO, rto: config.initial_rto, backoff: 0, timed: None }
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
        self.timed = None;
    }

    /// Something new was acknowledged: the path is alive.
    pub fn progress(&mut self) {
        self.backoff = 0;
    }

    /// Starts to time the octet before `end`, sent at `now` for the first time.
    pub fn start(&mut self, end: SndSeq, now: Instant) {
        self.timed.get_or_insert((end, now));
    }

    /// Forgets the octet being timed: something was sent again.
    pub fn cancel(&mut self) {
        self.timed = None;
    }

    /// Everything before `ack` is acknowledged: a measurement, if the timed octet is among it.
    pub fn acknowledged(&mut self, ack: SndSeq, now: Instant, config: &TcpConfig) {
        if let Some((end, sent)) = self.timed
            && !ack.before(end)
        {
            self.timed = None;
            self.measure(now - sent, config);
        }
    }

    /// Section 2: one measurement R'.
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

    #[test]
    fn what_was_sent_again_is_not_measured() {
        let config = TcpConfig::default();
        let mut rtt = Rtt::new(&config);
        rtt.start(SndSeq(100), Instant::from_millis(0));
        rtt.cancel();
        rtt.acknowledged(SndSeq(100), Instant::from_millis(700), &config);
        assert_eq!(rtt.srtt(), None);
        rtt.start(SndSeq(200), Instant::from_millis(1000));
        rtt.acknowledged(SndSeq(199), Instant::from_millis(1001), &config);
        assert_eq!(rtt.srtt(), None);
        rtt.acknowledged(SndSeq(200), Instant::from_millis(1300), &config);
        assert_eq!(rtt.srtt(), Some(ms(300)));
    }
}
