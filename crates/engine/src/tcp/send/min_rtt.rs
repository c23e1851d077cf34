//! The minimum RTT over a recent window: the delay of the path without queues.

use crate::Instant;
use crate::time::nanos;
use core::time::Duration;

/// A sample expires after this time at the latest, and after half of it at the earliest: the path may have
/// changed. On Linux it expires after 300 s (`tcp_min_rtt_wlen`).
const WINDOW: Duration = Duration::from_secs(300);

/// The minimum of this half of the window, and of the previous half.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MinRtt {
    since: Instant,
    /// In nanoseconds.
    current: u64,
    previous: u64,
}

/// No sample.
const NONE: u64 = u64::MAX;

impl MinRtt {
    pub const fn new() -> Self {
        Self { since: Instant::ZERO, current: NONE, previous: NONE }
    }

    /// The minimum RTT, once measured.
    pub fn get(&self) -> Option<Duration> {
        Some(self.current.min(self.previous)).filter(|rtt| *rtt != NONE).map(Duration::from_nanos)
    }

    /// Adds an RTT sample, in nanoseconds.
    pub fn measured(&mut self, now: Instant, rtt: u64) {
        const WHOLE: u64 = nanos(WINDOW);
        let age = now.nanos_since(self.since);
        if age >= WHOLE / 2 {
            self.previous = if age < WHOLE { self.current } else { NONE };
            (self.current, self.since) = (NONE, now);
        }
        self.current = self.current.min(rtt);
    }

    /// Whether a sample of that time has expired.
    pub fn is_old(now: Instant, measured: Instant) -> bool {
        now - measured >= WINDOW
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_minimum_expires() {
        let (secs, ms) = (Duration::from_secs, Duration::from_millis);
        let mut min = MinRtt::new();
        assert_eq!(min.get(), None);
        let at = |n: u64| Instant::from_millis(1_000_000 + n * 1000);
        for (second, rtt, expected) in [
            (0, 20, 20),
            (1, 10, 10),
            (100, 50, 10),
            (149, 40, 10),
            (150, 60, 10),
            (299, 60, 10),
            (301, 60, 60),
            (302, 30, 30),
            // A silence longer than the window.
            (1000, 70, 70),
        ] {
            min.measured(at(second), nanos(ms(rtt)));
            assert_eq!(min.get(), Some(ms(expected)), "{second}");
        }
        assert!(MinRtt::is_old(at(300), at(0)) && !MinRtt::is_old(at(299), at(0)));
        assert_eq!(secs(300), WINDOW);
    }
}
