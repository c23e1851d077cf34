//! Congestion control: events in, a congestion window out.

mod cubic;
mod hystart;
mod reno;

use crate::Instant;
use core::time::Duration;
use cubic::Cubic;
use reno::Reno;

/// The initial window in segments (RFC 6928).
pub(crate) const INITIAL_SEGMENTS: u32 = 10;

/// The window after an idle period: halved for each RTO, but not below the initial window (RFC 5681 section 4.1,
/// in the steps of RFC 2861).
fn after_silence(window: u32, silence: Duration, rto: Duration, mss: u32) -> u32 {
    let halvings = (silence.as_nanos() / rto.as_nanos().max(1)).min(31) as u32;
    (window >> halvings).max(window.min(INITIAL_SEGMENTS * mss))
}

/// Which algorithm a connection uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// CUBIC (RFC 9438) with HyStart++ (RFC 9406).
    #[default]
    Cubic,
    /// Slow start and congestion avoidance of RFC 5681.
    Reno,
}

impl core::fmt::Display for Algorithm {
    /// The name on Linux.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Cubic => "cubic",
            Self::Reno => "reno",
        })
    }
}

/// An acknowledgment, as input of congestion control.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Acked {
    pub now: Instant,
    /// Bytes acknowledged for the first time.
    pub octets: u32,
    /// Eff.snd.MSS
    pub mss: u32,
    /// The RTT sample of this acknowledgment, if any.
    pub rtt: Option<Duration>,
    pub srtt: Option<Duration>,
    /// Total bytes acknowledged, and total bytes sent: they delimit rounds.
    pub delivered: u64,
    pub sent: u64,
}

/// The interface of an algorithm. Windows are in bytes.
pub(crate) trait Control {
    /// New data was acknowledged while the connection was limited by the congestion window.
    fn on_ack(&mut self, acked: &Acked);
    /// A loss was detected, with `flight` bytes in flight.
    fn on_loss(&mut self, now: Instant, flight: u32, mss: u32);
    /// The retransmission timer expired, with `flight` bytes in flight.
    fn on_timeout(&mut self, now: Instant, flight: u32, mss: u32);
    /// A timeout during a recovery: the window shrinks to one segment, ssthresh stays.
    fn collapse(&mut self, mss: u32);
    /// Limits cwnd to `window`; slow start brings it back to ssthresh.
    fn restrain(&mut self, window: u32);
    /// Nothing was sent for `silence`, which is longer than the RTO: the old window may no longer fit the path.
    fn restart(&mut self, silence: Duration, rto: Duration, mss: u32);
    /// Nothing was in flight for `silence`, and the window is kept: the time does not count on CUBIC's curve.
    fn pause(&mut self, silence: Duration);
    /// The last loss was spurious: restores the windows before it.
    fn undo(&mut self);
    /// cwnd
    fn window(&self) -> u32;
    /// ssthresh
    fn threshold(&self) -> u32;
}

/// The congestion control of a connection.
#[derive(Clone, Debug)]
pub(crate) enum Congestion {
    Cubic(Cubic),
    Reno(Reno),
}

/// What was learned about the windows of a path.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LearnedWindow {
    algorithm: Algorithm,
    cwnd: u32,
    ssthresh: u32,
    /// CUBIC's W_max.
    w_max: u32,
}

impl Congestion {
    /// What it has learned. The position in a round or on the curve is not kept.
    pub fn learned(&self) -> LearnedWindow {
        let (algorithm, w_max) = match self {
            Self::Cubic(cubic) => (Algorithm::Cubic, cubic.w_max()),
            Self::Reno(_) => (Algorithm::Reno, 0),
        };
        LearnedWindow { algorithm, cwnd: self.window(), ssthresh: self.threshold(), w_max }
    }

    /// Starts with what was learned about the path.
    pub fn with(learned: &LearnedWindow) -> Self {
        let LearnedWindow { algorithm, cwnd, ssthresh, w_max } = *learned;
        match algorithm {
            Algorithm::Cubic => Self::Cubic(Cubic::with(cwnd, ssthresh, w_max)),
            Algorithm::Reno => Self::Reno(Reno::with(cwnd, ssthresh)),
        }
    }

    /// Starts with a window of `segments` segments.
    pub fn new(algorithm: Algorithm, mss: u32, segments: u32) -> Self {
        match algorithm {
            Algorithm::Cubic => Self::Cubic(Cubic::new(segments * mss)),
            Algorithm::Reno => Self::Reno(Reno::new(segments * mss)),
        }
    }

    fn control(&mut self) -> &mut dyn Control {
        match self {
            Self::Cubic(cubic) => cubic,
            Self::Reno(reno) => reno,
        }
    }
}

impl Control for Congestion {
    fn on_ack(&mut self, acked: &Acked) {
        self.control().on_ack(acked);
    }

    fn on_loss(&mut self, now: Instant, flight: u32, mss: u32) {
        self.control().on_loss(now, flight, mss);
    }

    fn on_timeout(&mut self, now: Instant, flight: u32, mss: u32) {
        self.control().on_timeout(now, flight, mss);
    }

    fn collapse(&mut self, mss: u32) {
        self.control().collapse(mss);
    }

    fn restrain(&mut self, window: u32) {
        self.control().restrain(window);
    }

    fn restart(&mut self, silence: Duration, rto: Duration, mss: u32) {
        self.control().restart(silence, rto, mss);
    }

    fn pause(&mut self, silence: Duration) {
        self.control().pause(silence);
    }

    fn undo(&mut self) {
        self.control().undo();
    }

    fn window(&self) -> u32 {
        match self {
            Self::Cubic(cubic) => cubic.window(),
            Self::Reno(reno) => reno.window(),
        }
    }

    fn threshold(&self) -> u32 {
        match self {
            Self::Cubic(cubic) => cubic.threshold(),
            Self::Reno(reno) => reno.threshold(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rto_of_silence_halves_the_window_down_to_the_initial_one() {
        let (mss, rto) = (1000, Duration::from_millis(200));
        for algorithm in [Algorithm::Cubic, Algorithm::Reno] {
            for (segments, silence, left) in
                [(80, 201, 40), (80, 401, 20), (80, 5000, 10), (5, 5000, 5), (80, 1_000_000_000, 10)]
            {
                let mut control = Congestion::new(algorithm, mss, segments);
                control.on_loss(Instant::ZERO, 2 * segments * mss, mss);
                control.undo();
                control.restart(Duration::from_millis(silence), rto, mss);
                assert_eq!(control.window(), left * mss, "{algorithm} {segments} {silence}");
                assert!(control.threshold() >= segments * mss * 3 / 4, "what is missing comes by slow start");
            }
        }
    }
}
