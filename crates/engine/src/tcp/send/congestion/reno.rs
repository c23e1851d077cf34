//! Reno: slow start and congestion avoidance (RFC 5681), with appropriate byte counting (ABC, RFC 3465).

use crate::Instant;
use crate::tcp::send::congestion::{Acked, CongestionControl, after_idle};
use alloc::boxed::Box;
use core::time::Duration;

/// cwnd and ssthresh.
#[derive(Clone, Debug)]
pub(crate) struct Reno {
    cwnd: u32,
    ssthresh: u32,
    /// Bytes acknowledged since cwnd last grew, in congestion avoidance.
    credit: u32,
    /// cwnd and ssthresh before the last loss.
    before: (u32, u32),
}

impl Reno {
    pub fn new(cwnd: u32) -> Self {
        Self { cwnd, ssthresh: u32::MAX, credit: 0, before: (cwnd, u32::MAX) }
    }

    pub fn with(cwnd: u32, ssthresh: u32) -> Self {
        Self { ssthresh, before: (cwnd, ssthresh), ..Self::new(cwnd) }
    }

    fn reduce(&mut self, flight: u32, mss: u32) {
        self.before = (self.cwnd, self.ssthresh);
        // RFC 5681 equation 4; the flight size may exceed the window, as it includes SACKed data.
        self.ssthresh = (flight.min(self.cwnd) / 2).max(2 * mss);
        self.credit = 0;
    }
}

impl CongestionControl for Reno {
    fn on_ack(&mut self, acked: &Acked) {
        let &Acked { bytes, mss, .. } = acked;
        if self.cwnd < self.ssthresh {
            self.cwnd = self.cwnd.saturating_add(bytes).min(self.ssthresh.max(self.cwnd + mss));
            return;
        }
        self.credit = self.credit.saturating_add(bytes);
        if self.credit >= self.cwnd {
            self.credit -= self.cwnd;
            self.cwnd = self.cwnd.saturating_add(mss);
        }
    }

    fn on_loss(&mut self, _: Instant, flight: u32, mss: u32) {
        self.reduce(flight, mss);
        self.cwnd = self.ssthresh;
    }

    fn on_timeout(&mut self, _: Instant, flight: u32, mss: u32) {
        self.reduce(flight, mss);
        self.on_repeated_timeout(mss);
    }

    fn on_repeated_timeout(&mut self, mss: u32) {
        self.cwnd = mss;
    }

    fn limit_window(&mut self, window: u32) {
        self.cwnd = self.cwnd.min(window);
    }

    fn restart_after_idle(&mut self, silence: Duration, rto: Duration, mss: u32) {
        self.ssthresh = self.ssthresh.max(self.cwnd / 4 * 3);
        self.cwnd = after_idle(self.cwnd, silence, rto, mss);
        self.credit = 0;
    }

    fn add_idle_time(&mut self, _: Duration) {}

    fn undo(&mut self) {
        self.cwnd = self.cwnd.max(self.before.0);
        self.ssthresh = self.ssthresh.max(self.before.1);
    }

    fn window(&self) -> u32 {
        self.cwnd
    }

    fn threshold(&self) -> u32 {
        self.ssthresh
    }

    fn clone_box(&self) -> Box<dyn CongestionControl> {
        Box::new(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSS: u32 = 1000;

    fn acked(bytes: u32) -> Acked {
        Acked { now: Instant::ZERO, bytes, mss: MSS, rtt: None, srtt: None, delivered: 0, sent: 0 }
    }

    #[test]
    fn slow_start_doubles_and_avoidance_adds_a_segment_each_round() {
        let mut reno = Reno::new(10 * MSS);
        (0..10).for_each(|_| reno.on_ack(&acked(MSS)));
        assert_eq!(reno.window(), 20_000);
        reno.on_loss(Instant::ZERO, 20_000, MSS);
        assert_eq!((reno.window(), reno.threshold()), (10_000, 10_000));
        (0..10).for_each(|_| reno.on_ack(&acked(MSS)));
        assert_eq!(reno.window(), 11_000);
        reno.on_timeout(Instant::ZERO, 11_000, MSS);
        assert_eq!((reno.window(), reno.threshold()), (1_000, 5_500));
        reno.undo();
        assert_eq!((reno.window(), reno.threshold()), (11_000, 10_000));
    }

    /// RFC 3465: many small acknowledgments are worth what they acknowledge.
    #[test]
    fn divided_acks_gain_nothing() {
        let mut reno = Reno::new(10 * MSS);
        (0..100).for_each(|_| reno.on_ack(&acked(10)));
        assert_eq!(reno.window(), 11_000);
    }
}
