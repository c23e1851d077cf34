//! The number of connections that send, or receive, much data at the same time.

use crate::Instant;
use core::time::Duration;

/// A connection counts if its data was acknowledged, or arrived, in this period or the one before.
const PERIOD: Duration = Duration::from_millis(10);

/// Counts connections with large buffers whose data is being acknowledged, or arrives; those that are stalled do not count.
#[derive(Debug)]
pub(crate) struct Sharers {
    /// The number of the period, and its begin.
    period: u32,
    since: Instant,
    /// How many were counted in this period, and in the one before.
    counted: usize,
    before: usize,
}

impl Default for Sharers {
    fn default() -> Self {
        Self { period: 1, since: Instant::ZERO, counted: 0, before: 0 }
    }
}

impl Sharers {
    /// Data of a connection was acknowledged, or has arrived. `last`: the period in which it was counted last, at first 0.
    /// Returns whether it was counted now, for the first time in this period.
    pub fn count(&mut self, now: Instant, last: &mut u32) -> bool {
        let elapsed = now - self.since;
        if elapsed >= PERIOD {
            self.before = if elapsed < 2 * PERIOD { self.counted } else { 0 };
            (self.period, self.since, self.counted) = (self.period.wrapping_add(1).max(1), now, 0);
        }
        let counts = core::mem::replace(last, self.period) != self.period;
        if counts {
            self.counted += 1;
        }
        counts
    }

    /// Their number, at least 1.
    pub fn number(&self) -> usize {
        self.counted.max(self.before).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_counted_once_for_as_long_as_it_sends() {
        let mut sharers = Sharers::default();
        let mut last = [0; 8];
        let mut now = Instant::from_millis(5000);
        for _ in 0..40 {
            for last in &mut last {
                sharers.count(now, last);
            }
            assert_eq!(sharers.number(), 8);
            now += Duration::from_millis(1);
        }
        for _ in 0..30 {
            sharers.count(now, &mut last[0]);
            now += Duration::from_millis(1);
        }
        assert_eq!(sharers.number(), 1, "the others are stalled");
        now += Duration::from_secs(1);
        sharers.count(now, &mut last[3]);
        assert_eq!(sharers.number(), 1);
    }
}
