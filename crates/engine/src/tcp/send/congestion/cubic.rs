//! CUBIC (RFC 9438), in integer arithmetic: the engine has no floating-point cube root.

use crate::Instant;
use crate::tcp::send::congestion::hystart::{CSS_GROWTH_DIVISOR, HyStart, Pace, SlowStartExit};
use crate::tcp::send::congestion::{Acked, CongestionControl, after_idle};
use alloc::boxed::Box;
use core::time::Duration;

/// beta_cubic = 0.7, in tenths.
const BETA: u64 = 7;

/// alpha_cubic = 3 * (1 - beta) / (1 + beta) = 9 / 17 (section 4.3).
const ALPHA: (u64, u64) = (9, 17);

/// The windows, and the curve between two losses.
#[derive(Clone, Debug)]
pub(crate) struct Cubic {
    cwnd: u32,
    ssthresh: u32,
    w_max: u32,
    hystart: HyStart,
    epoch: Option<Epoch>,
    /// cwnd, ssthresh and W_max before the last loss.
    before: (u32, u32, u32),
}

/// Congestion avoidance since the last loss.
#[derive(Clone, Copy, Debug)]
struct Epoch {
    start: Instant,
    /// K: when the curve reaches W_max again, in milliseconds.
    k: u64,
    /// The window at time K.
    w_max: u32,
    /// W_est: the window of Reno (section 4.3).
    w_est: u32,
    /// Fractions of growth not yet added, to W_est and to cwnd.
    est_credit: u64,
    credit: u64,
}

impl Cubic {
    pub fn new(cwnd: u32, exit: SlowStartExit) -> Self {
        Self {
            cwnd,
            ssthresh: u32::MAX,
            w_max: 0,
            hystart: HyStart::new(exit),
            epoch: None,
            before: (cwnd, u32::MAX, 0),
        }
    }

    pub fn with(cwnd: u32, ssthresh: u32, w_max: u32, exit: SlowStartExit) -> Self {
        Self { ssthresh, w_max, before: (cwnd, ssthresh, w_max), ..Self::new(cwnd, exit) }
    }

    /// When slow start ends.
    pub fn exit(&self) -> SlowStartExit {
        self.hystart.exit()
    }

    /// W_max
    pub fn w_max(&self) -> u32 {
        self.w_max
    }

    fn slow_start(&mut self, acked: &Acked) {
        // RFC 9406 section 4.3: HyStart++ applies to the first slow start only.
        let first = self.ssthresh == u32::MAX;
        let pace = if first { self.hystart.on_ack(acked, self.cwnd) } else { Pace::SlowStart };
        let growth = match pace {
            Pace::SlowStart => acked.bytes,
            Pace::Conservative => acked.bytes / CSS_GROWTH_DIVISOR,
            Pace::Done => {
                self.ssthresh = self.cwnd;
                return;
            }
        };
        self.cwnd = self.cwnd.saturating_add(growth).min(self.ssthresh.max(self.cwnd + acked.mss));
    }

    fn avoid(&mut self, acked: &Acked) {
        let (cwnd, mss) = (u64::from(self.cwnd), u64::from(acked.mss));
        let (origin, start) = (self.w_max.max(self.cwnd), self.cwnd);
        let epoch = self.epoch.get_or_insert_with(|| Epoch {
            start: acked.now,
            k: cube_root(u64::from(origin - start) * 2_500_000_000 / mss),
            w_max: origin,
            w_est: start,
            est_credit: 0,
            credit: 0,
        });
        // Section 4.3: the window that Reno would have now.
        let (alpha, of) = if epoch.w_est >= epoch.w_max { (1, 1) } else { ALPHA };
        epoch.est_credit += u64::from(acked.bytes) * mss * alpha / of;
        epoch.w_est += (epoch.est_credit / cwnd) as u32;
        epoch.est_credit %= cwnd;
        // Sections 4.4, 4.5: the curve one RTT ahead, at most 1.5 times the current window.
        let ahead = acked.now - epoch.start + acked.srtt.unwrap_or_default();
        let target = epoch.curve(ahead, mss).clamp(cwnd, cwnd + cwnd / 2);
        if u64::from(epoch.w_est) > target {
            self.cwnd = self.cwnd.max(epoch.w_est);
            return;
        }
        epoch.credit += (target - cwnd) * u64::from(acked.bytes);
        self.cwnd += (epoch.credit / cwnd) as u32;
        epoch.credit %= cwnd;
    }

    fn reduce(&mut self, mss: u32) {
        self.before = (self.cwnd, self.ssthresh, self.w_max);
        // Section 4.7: fast convergence leaves room for new flows.
        self.w_max =
            if self.cwnd < self.w_max { (u64::from(self.cwnd) * (10 + BETA) / 20) as u32 } else { self.cwnd };
        // From cwnd instead of the flight size, as on Linux and most other stacks (RFC 9438 section 4.6).
        self.ssthresh = ((u64::from(self.cwnd) * BETA / 10) as u32).max(2 * mss);
        self.epoch = None;
    }
}

impl Epoch {
    /// W_cubic(t) = C * (t - K)^3 + W_max (section 4.2), C = 0.4 segments a second cubed.
    fn curve(&self, t: Duration, mss: u64) -> u64 {
        let t = i128::from(t.as_millis().min(1_000_000) as u64);
        let d = t - i128::from(self.k);
        let offset = d * d * d * i128::from(mss) * 4 / 10_000_000_000;
        (i128::from(self.w_max) + offset).clamp(0, i128::from(u32::MAX)) as u64
    }
}

/// The integer cube root.
fn cube_root(n: u64) -> u64 {
    let mut root = 0u64;
    for bit in (0..22).rev() {
        let candidate = root | 1 << bit;
        if candidate.checked_pow(3).is_some_and(|cube| cube <= n) {
            root = candidate;
        }
    }
    root
}

impl CongestionControl for Cubic {
    fn on_ack(&mut self, acked: &Acked) {
        if self.cwnd < self.ssthresh {
            self.slow_start(acked);
        } else {
            self.avoid(acked);
        }
    }

    fn on_loss(&mut self, _: Instant, _: u32, mss: u32) {
        self.reduce(mss);
        self.cwnd = self.ssthresh;
    }

    fn on_timeout(&mut self, _: Instant, _: u32, mss: u32) {
        self.reduce(mss);
        self.on_repeated_timeout(mss);
    }

    fn on_repeated_timeout(&mut self, mss: u32) {
        self.cwnd = mss;
        self.epoch = None;
        self.hystart.reset();
    }

    fn limit_window(&mut self, window: u32) {
        self.cwnd = self.cwnd.min(window);
    }

    fn restart_after_idle(&mut self, silence: Duration, rto: Duration, mss: u32) {
        self.ssthresh = self.ssthresh.max(self.cwnd / 4 * 3);
        self.cwnd = after_idle(self.cwnd, silence, rto, mss);
        // Idle time does not count on the curve (RFC 9438 section 5.8).
        self.epoch = None;
    }

    fn add_idle_time(&mut self, silence: Duration) {
        // RFC 9438 section 5.8
        if let Some(epoch) = &mut self.epoch {
            epoch.start += silence;
        }
    }

    fn undo(&mut self) {
        let (cwnd, ssthresh, w_max) = self.before;
        self.cwnd = self.cwnd.max(cwnd);
        self.ssthresh = self.ssthresh.max(ssthresh);
        self.w_max = self.w_max.max(w_max);
        self.epoch = None;
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

    fn run(cubic: &mut Cubic, from_ms: u64, for_ms: u64, rtt_ms: u64) {
        let rtt = Duration::from_millis(rtt_ms);
        for round in 0..for_ms / rtt_ms {
            let now = Instant::from_millis(from_ms + round * rtt_ms);
            for _ in 0..cubic.window() / MSS {
                cubic.on_ack(&Acked {
                    now,
                    bytes: MSS,
                    mss: MSS,
                    rtt: None,
                    srtt: Some(rtt),
                    delivered: 0,
                    sent: 0,
                });
            }
        }
    }

    #[test]
    fn the_cube_root_is_exact() {
        for n in [0, 1, 7, 8, 26, 27, 1_000_000_000_000, 999_999_999_999] {
            let root = cube_root(n);
            assert!(root.pow(3) <= n && (root + 1).pow(3) > n, "{n}: {root}");
        }
    }

    /// Section 4.2: after a loss at W_max the window is back there after K, and passes it after 2 K.
    #[test]
    fn the_window_follows_the_curve() {
        let mut cubic = Cubic::new(10 * MSS, SlowStartExit::default());
        cubic.cwnd = 1_000_000;
        cubic.on_loss(Instant::ZERO, 1_000_000, MSS);
        assert_eq!((cubic.window(), cubic.w_max), (700_000, 1_000_000));
        // K = cbrt(300 / 0.4) = 9.086 s
        run(&mut cubic, 0, 9_000, 100);
        assert!((980_000..1_010_000).contains(&cubic.window()), "{}", cubic.window());
        run(&mut cubic, 9_000, 9_000, 100);
        assert!((1_250_000..1_350_000).contains(&cubic.window()), "{}", cubic.window());
    }

    /// Section 4.3: on a short path Reno grows faster, and CUBIC is not slower than it.
    #[test]
    fn on_a_short_path_it_is_as_fast_as_reno() {
        let mut cubic = Cubic::new(10 * MSS, SlowStartExit::default());
        cubic.cwnd = 20_000;
        cubic.on_loss(Instant::ZERO, 20_000, MSS);
        run(&mut cubic, 0, 1_000, 10);
        assert!(cubic.window() >= 14_000 + 50 * MSS, "{}", cubic.window());
    }

    /// RFC 9438 section 5.8: the curve goes on where it was.
    #[test]
    fn idle_time_does_not_advance_the_cubic_curve() {
        let mut cubics = [0, 100_000].map(|silence| {
            let mut cubic = Cubic::new(10 * MSS, SlowStartExit::default());
            cubic.cwnd = 1_000_000;
            cubic.on_loss(Instant::ZERO, 1_000_000, MSS);
            run(&mut cubic, 0, 4_000, 100);
            cubic.add_idle_time(Duration::from_millis(silence));
            run(&mut cubic, 4_000 + silence, 4_000, 100);
            cubic
        });
        let [at_once, later] = &mut cubics;
        assert_eq!(at_once.window(), later.window());
    }

    #[test]
    fn a_second_loss_below_w_max_gives_way() {
        let mut cubic = Cubic::new(10 * MSS, SlowStartExit::default());
        cubic.cwnd = 100_000;
        cubic.on_loss(Instant::ZERO, 100_000, MSS);
        cubic.on_loss(Instant::ZERO, 70_000, MSS);
        assert_eq!((cubic.w_max, cubic.window()), (59_500, 49_000));
        cubic.undo();
        assert_eq!((cubic.w_max, cubic.window()), (100_000, 70_000));
    }
}
