//! Congestion control: events in, a congestion window (cwnd) out. The initial window (RFC 6928).

mod cubic;
mod hystart;
mod reno;

use crate::Instant;
use alloc::boxed::Box;
use core::fmt::{self, Debug, Display, Formatter};
use core::time::Duration;
use cubic::Cubic;
pub use hystart::SlowStartExit;
use reno::Reno;

/// The initial window in segments (RFC 6928).
pub(crate) const INITIAL_SEGMENTS: u32 = 10;

/// The window after an idle period: halved for each RTO, but not below the initial window (RFC 5681 section 4.1,
/// in the steps of RFC 2861).
fn after_idle(window: u32, silence: Duration, rto: Duration, mss: u32) -> u32 {
    let halvings = (silence.as_nanos() / rto.as_nanos().max(1)).min(31) as u32;
    (window >> halvings).max(window.min(INITIAL_SEGMENTS * mss))
}

/// Which algorithm a connection uses.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub enum Algorithm {
    /// CUBIC (RFC 9438) with HyStart++ (RFC 9406).
    #[default]
    Cubic,
    /// Slow start and congestion avoidance of RFC 5681.
    Reno,
    /// An algorithm of the application. Two are equal if their names are.
    Custom(&'static dyn CongestionFactory),
}

impl PartialEq for Algorithm {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Cubic, Self::Cubic) | (Self::Reno, Self::Reno) => true,
            (Self::Custom(one), Self::Custom(other)) => one.name() == other.name(),
            _ => false,
        }
    }
}

impl Eq for Algorithm {}

impl Display for Algorithm {
    /// The name on Linux.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cubic => "cubic",
            Self::Reno => "reno",
            Self::Custom(factory) => factory.name(),
        })
    }
}

/// Makes the congestion control of each new connection; see [`CongestionControl`].
pub trait CongestionFactory: Debug + Send + Sync {
    /// The name of the algorithm, as `ss` shows it.
    fn name(&self) -> &str;

    /// The state of a new connection: `window` is the initial window (RFC 6928; one segment after the loss of a SYN),
    /// `mss` the Eff.snd.MSS, both in bytes.
    fn build(&self, window: u32, mss: u32) -> Box<dyn CongestionControl>;
}

/// An acknowledgment, as input of [`CongestionControl::on_ack`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Acked {
    /// The current time.
    pub now: Instant,
    /// Bytes acknowledged for the first time.
    pub bytes: u32,
    /// Eff.snd.MSS, in bytes.
    pub mss: u32,
    /// The RTT sample of this acknowledgment, if any.
    pub rtt: Option<Duration>,
    /// The smoothed RTT, once there is one.
    pub srtt: Option<Duration>,
    /// Total bytes acknowledged since the connection was established, including these.
    pub delivered: u64,
    /// Total bytes sent. A round trip is over when `delivered` reaches the value that `sent` had at its start.
    pub sent: u64,
}

/// A congestion control algorithm: the state of one connection, which turns events into a window. All windows are in
/// bytes.
///
/// The stack detects losses (RACK-TLP), decides what is retransmitted, and limits the data in flight to
/// [`window`](Self::window); in a recovery to what PRR computes from [`threshold`](Self::threshold). An algorithm is
/// chosen with [`TcpConfig::congestion`](crate::TcpConfig::congestion).
///
/// ```
/// use lastack_engine::congestion::{Acked, Algorithm, CongestionControl, CongestionFactory};
/// use lastack_engine::{Config, Instant};
///
/// /// Additive increase by `segments` each round trip, halved by a loss; no slow start.
/// #[derive(Clone, Debug)]
/// struct Linear { segments: u32, window: u32, before: u32 }
///
/// impl CongestionControl for Linear {
///     fn on_ack(&mut self, acked: &Acked) {
///         let growth = u64::from(self.segments * acked.mss) * u64::from(acked.bytes) / u64::from(self.window);
///         self.window = self.window.saturating_add(growth as u32);
///     }
///     fn on_loss(&mut self, _now: Instant, _in_flight: u32, mss: u32) {
///         self.before = self.window;
///         self.window = (self.window / 2).max(2 * mss);
///     }
///     fn on_timeout(&mut self, now: Instant, in_flight: u32, mss: u32) {
///         self.on_loss(now, in_flight, mss);
///     }
///     fn on_repeated_timeout(&mut self, mss: u32) {
///         self.window = mss;
///     }
///     fn limit_window(&mut self, window: u32) {
///         self.window = self.window.min(window);
///     }
///     fn undo(&mut self) {
///         self.window = self.window.max(self.before);
///     }
///     fn window(&self) -> u32 {
///         self.window
///     }
///     fn threshold(&self) -> u32 {
///         self.window
///     }
///     fn clone_box(&self) -> Box<dyn CongestionControl> {
///         Box::new(self.clone())
///     }
/// }
///
/// #[derive(Debug)]
/// struct Factory { segments: u32 }
///
/// impl CongestionFactory for Factory {
///     fn name(&self) -> &str {
///         "linear"
///     }
///     fn build(&self, window: u32, _mss: u32) -> Box<dyn CongestionControl> {
///         Box::new(Linear { segments: self.segments, window, before: window })
///     }
/// }
///
/// static LINEAR: Factory = Factory { segments: 2 };
/// let mut config = Config::new(["10.0.0.1".parse()?]);
/// config.tcp.congestion = Algorithm::Custom(&LINEAR);
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
pub trait CongestionControl: Debug + Send + Sync {
    /// New data was acknowledged while the connection was limited by the congestion window. An acknowledgment during a
    /// recovery is not reported.
    fn on_ack(&mut self, acked: &Acked);
    /// A loss was detected (at most one is reported for each window of data), or the peer echoed an ECN mark;
    /// `in_flight` bytes were in flight.
    fn on_loss(&mut self, now: Instant, in_flight: u32, mss: u32);
    /// The retransmission timer expired with `in_flight` bytes in flight.
    fn on_timeout(&mut self, now: Instant, in_flight: u32, mss: u32);
    /// The retransmission timer expired again, or in a recovery: the window shrinks to one segment, the threshold
    /// stays.
    fn on_repeated_timeout(&mut self, mss: u32);
    /// Limits the window to `window`, to avoid a burst after a recovery; slow start brings it back to the threshold.
    fn limit_window(&mut self, window: u32);
    /// Data is sent after nothing was sent for `silence`, which is longer than the RTO: the old window may no longer
    /// fit the path. By default it is halved for each RTO down to the initial window (RFC 5681 section 4.1).
    fn restart_after_idle(&mut self, silence: Duration, rto: Duration, mss: u32) {
        self.limit_window(after_idle(self.window(), silence, rto, mss));
    }
    /// Nothing was in flight for `silence`, and the window is kept: a curve over time continues where it was. By
    /// default nothing happens.
    fn add_idle_time(&mut self, silence: Duration) {
        let _ = silence;
    }
    /// The last loss was spurious: restores the windows before it.
    fn undo(&mut self);
    /// cwnd. Less than 536 bytes, the default MSS, count as 536.
    fn window(&self) -> u32;
    /// ssthresh: the window after the last loss, `u32::MAX` before the first. An algorithm without slow start returns
    /// its window.
    fn threshold(&self) -> u32;
    /// A copy of this state: the stack tries out what it will send before it does.
    fn clone_box(&self) -> Box<dyn CongestionControl>;
}

/// The congestion control of a connection.
#[derive(Debug)]
pub(crate) enum Congestion {
    Cubic(Cubic),
    Reno(Reno),
    Custom(Box<dyn CongestionControl>),
}

impl Clone for Congestion {
    fn clone(&self) -> Self {
        match self {
            Self::Cubic(cubic) => Self::Cubic(cubic.clone()),
            Self::Reno(reno) => Self::Reno(reno.clone()),
            Self::Custom(custom) => Self::Custom(custom.clone_box()),
        }
    }
}

/// The windows measured on a path.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LearnedWindow {
    is_cubic: bool,
    cwnd: u32,
    ssthresh: u32,
    /// CUBIC's W_max.
    w_max: u32,
    exit: SlowStartExit,
}

impl Congestion {
    /// The measured windows. The position in a round or on the curve is not kept.
    pub fn learned(&self) -> LearnedWindow {
        let (is_cubic, w_max, exit) = match self {
            Self::Cubic(cubic) => (true, cubic.w_max(), cubic.exit()),
            Self::Reno(_) | Self::Custom(_) => (false, 0, SlowStartExit::default()),
        };
        LearnedWindow { is_cubic, cwnd: self.window(), ssthresh: self.threshold(), w_max, exit }
    }

    /// An algorithm of the application, whose state is kept as it is.
    pub fn custom(&self) -> Option<Box<dyn CongestionControl>> {
        match self {
            Self::Custom(custom) => Some(custom.clone_box()),
            Self::Cubic(_) | Self::Reno(_) => None,
        }
    }

    /// Starts with the windows measured on the path.
    pub fn with(learned: &LearnedWindow) -> Self {
        let LearnedWindow { is_cubic, cwnd, ssthresh, w_max, exit } = *learned;
        if is_cubic {
            Self::Cubic(Cubic::with(cwnd, ssthresh, w_max, exit))
        } else {
            Self::Reno(Reno::with(cwnd, ssthresh))
        }
    }

    /// Starts with a window of `segments` segments.
    pub fn new(algorithm: Algorithm, exit: SlowStartExit, mss: u32, segments: u32) -> Self {
        match algorithm {
            Algorithm::Cubic => Self::Cubic(Cubic::new(segments * mss, exit)),
            Algorithm::Reno => Self::Reno(Reno::new(segments * mss)),
            Algorithm::Custom(factory) => Self::Custom(factory.build(segments * mss, mss)),
        }
    }

    fn control(&mut self) -> &mut dyn CongestionControl {
        match self {
            Self::Cubic(cubic) => cubic,
            Self::Reno(reno) => reno,
            Self::Custom(custom) => custom.as_mut(),
        }
    }

    pub fn on_ack(&mut self, acked: &Acked) {
        self.control().on_ack(acked);
    }

    pub fn on_loss(&mut self, now: Instant, in_flight: u32, mss: u32) {
        self.control().on_loss(now, in_flight, mss);
    }

    pub fn on_timeout(&mut self, now: Instant, in_flight: u32, mss: u32) {
        self.control().on_timeout(now, in_flight, mss);
    }

    pub fn on_repeated_timeout(&mut self, mss: u32) {
        self.control().on_repeated_timeout(mss);
    }

    pub fn limit_window(&mut self, window: u32) {
        self.control().limit_window(window);
    }

    pub fn restart_after_idle(&mut self, silence: Duration, rto: Duration, mss: u32) {
        self.control().restart_after_idle(silence, rto, mss);
    }

    pub fn add_idle_time(&mut self, silence: Duration) {
        self.control().add_idle_time(silence);
    }

    pub fn undo(&mut self) {
        self.control().undo();
    }

    /// cwnd
    pub fn window(&self) -> u32 {
        match self {
            Self::Cubic(cubic) => cubic.window(),
            Self::Reno(reno) => reno.window(),
            // Zero would stop the connection.
            Self::Custom(custom) => custom.window().max(MIN_CUSTOM_WINDOW),
        }
    }

    /// ssthresh
    pub fn threshold(&self) -> u32 {
        match self {
            Self::Cubic(cubic) => cubic.threshold(),
            Self::Reno(reno) => reno.threshold(),
            Self::Custom(custom) => custom.threshold().max(MIN_CUSTOM_WINDOW),
        }
    }
}

/// The least window of an algorithm of the application: a segment of the default MSS (RFC 9293 MUST-15).
const MIN_CUSTOM_WINDOW: u32 = 536;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_idle_rto_halves_the_window_down_to_the_initial_one() {
        let (mss, rto) = (1000, Duration::from_millis(200));
        for algorithm in [Algorithm::Cubic, Algorithm::Reno] {
            for (segments, silence, left) in
                [(80, 201, 40), (80, 401, 20), (80, 5000, 10), (5, 5000, 5), (80, 1_000_000_000, 10)]
            {
                let mut control = Congestion::new(algorithm, SlowStartExit::default(), mss, segments);
                control.on_loss(Instant::ZERO, 2 * segments * mss, mss);
                control.undo();
                control.restart_after_idle(Duration::from_millis(silence), rto, mss);
                assert_eq!(control.window(), left * mss, "{algorithm} {segments} {silence}");
                assert!(control.threshold() >= segments * mss * 3 / 4, "what is missing comes by slow start");
            }
        }
    }
}
