//! Slow start and congestion avoidance (RFC 5681), by octets acknowledged (RFC 3465).

use super::Control;

/// The initial window in segments (RFC 6928).
const INITIAL_SEGMENTS: u32 = 10;

/// cwnd and ssthresh.
#[derive(Debug)]
pub(crate) struct Reno {
    cwnd: u32,
    ssthresh: u32,
    /// Octets acknowledged since cwnd last grew, in congestion avoidance.
    credit: u32,
}

impl Reno {
    pub fn new(mss: u32) -> Self {
        Self { cwnd: INITIAL_SEGMENTS * mss, ssthresh: u32::MAX, credit: 0 }
    }

    /// RFC 5681 equation 4.
    fn half(flight: u32, mss: u32) -> u32 {
        (flight / 2).max(2 * mss)
    }
}

impl Control for Reno {
    fn on_ack(&mut self, octets: u32, mss: u32) {
        if self.cwnd < self.ssthresh {
            self.cwnd = self.cwnd.saturating_add(octets).min(self.ssthresh.max(self.cwnd + mss));
            return;
        }
        self.credit = self.credit.saturating_add(octets);
        if self.credit >= self.cwnd {
            self.credit -= self.cwnd;
            self.cwnd = self.cwnd.saturating_add(mss);
        }
    }

    fn on_loss(&mut self, flight: u32, mss: u32) {
        self.ssthresh = Self::half(flight, mss);
        self.cwnd = self.ssthresh;
        self.credit = 0;
    }

    fn on_timeout(&mut self, flight: u32, mss: u32) {
        self.ssthresh = Self::half(flight, mss);
        self.cwnd = mss;
        self.credit = 0;
    }

    fn window(&self) -> u32 {
        self.cwnd
    }

    fn threshold(&self) -> u32 {
        self.ssthresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_start_doubles_and_avoidance_adds_a_segment_each_round() {
        let mss = 1000;
        let mut reno = Reno::new(mss);
        (0..10).for_each(|_| reno.on_ack(mss, mss));
        assert_eq!(reno.window(), 20_000);
        reno.on_loss(20_000, mss);
        assert_eq!((reno.window(), reno.threshold()), (10_000, 10_000));
        (0..10).for_each(|_| reno.on_ack(mss, mss));
        assert_eq!(reno.window(), 11_000);
        reno.on_timeout(11_000, mss);
        assert_eq!((reno.window(), reno.threshold()), (1_000, 5_500));
    }

    /// `RESETS.md` D25: many small acknowledgments are worth what they acknowledge.
    #[test]
    fn divided_acks_gain_nothing() {
        let mut reno = Reno::new(1000);
        (0..100).for_each(|_| reno.on_ack(10, 1000));
        assert_eq!(reno.window(), 11_000);
    }
}
