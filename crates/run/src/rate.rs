//! The rate of the data in one direction of a connection.

use std::cell::{Cell, OnceCell};
use std::time::Duration;

use crate::moment::Moment;

/// The interval over which the peak is measured.
const WINDOW: Duration = Duration::from_secs(1);
/// Data that all passes within this time has no rate: it was in buffers.
const SHORTEST: Duration = Duration::from_millis(1);

/// Bytes per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// From the first byte to the last.
    pub mean: u64,
    /// The maximum over one second; if all the data took less, the mean.
    pub peak: u64,
}

/// Measures the rate of one direction.
#[derive(Debug, Default)]
pub struct Meter {
    bytes: Cell<u64>,
    /// The times of the first data and the last.
    first: Cell<Option<Moment>>,
    last: Cell<Option<Moment>>,
    /// Of the windows after the first, which begins with the first data: most connections have no more.
    later: OnceCell<Box<Later>>,
}

/// The windows after the first.
#[derive(Debug)]
struct Later {
    /// The beginning of the current window, and the bytes in it.
    window: Cell<Moment>,
    within: Cell<u64>,
    /// The maximum of those before.
    peak: Cell<u64>,
}

impl Meter {
    /// Data passes now.
    pub fn add(&self, bytes: usize, now: Moment) {
        let bytes = bytes as u64;
        let before = self.bytes.replace(self.bytes.get() + bytes);
        self.last.set(Some(now));
        let Some(first) = self.first.get() else { return self.first.set(Some(now)) };
        match self.later.get() {
            Some(later) => later.add(bytes, now),
            None if now.since(first) < WINDOW => {}
            None => {
                let peak = per_second(before, now.since(first)).into();
                let (window, within) = (now.into(), bytes.into());
                self.later.get_or_init(|| Box::new(Later { window, within, peak }));
            }
        }
    }

    /// The time of the first data.
    pub fn first(&self) -> Option<Moment> {
        self.first.get()
    }

    /// `None`: there was no data, or all of it at once.
    pub fn rate(&self) -> Option<Rate> {
        let elapsed = self.last.get()?.since(self.first.get()?);
        if elapsed < SHORTEST {
            return None;
        }
        let mean = per_second(self.bytes.get(), elapsed);
        // The last window is not complete, and no peak unless there was no other.
        let peak = self.later.get().map_or(0, |later| later.peak.get());
        Some(Rate { mean, peak: peak.max(mean) })
    }
}

impl Later {
    fn add(&self, bytes: u64, now: Moment) {
        let elapsed = now.since(self.window.get());
        if elapsed < WINDOW {
            return self.within.set(self.within.get() + bytes);
        }
        self.peak.set(self.peak.get().max(per_second(self.within.get(), elapsed)));
        self.window.set(now);
        self.within.set(bytes);
    }
}

fn per_second(bytes: u64, elapsed: Duration) -> u64 {
    let rate = u128::from(bytes) * 1_000_000 / elapsed.as_micros().max(1);
    u64::try_from(rate).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_steady_flow_has_one_rate() {
        let (meter, begun) = (Meter::default(), Instant::now());
        (0..=40).for_each(|i| meter.add(1000, (begun + Duration::from_millis(100) * i).into()));
        let rate = meter.rate().unwrap();
        assert_eq!(rate.mean, 10_250);
        assert!((10_000..=10_250).contains(&rate.peak), "{rate:?}");
    }

    #[test]
    fn a_burst_is_the_peak_and_a_pause_lowers_the_mean_only() {
        let (meter, begun) = (Meter::default(), Instant::now());
        (0..10).for_each(|i| meter.add(100_000, (begun + Duration::from_millis(100) * i).into()));
        meter.add(1, (begun + Duration::from_secs(1)).into());
        meter.add(1, (begun + Duration::from_secs(10)).into());
        let rate = meter.rate().unwrap();
        assert_eq!((rate.mean, rate.peak), (100_000, 1_000_000));
    }

    #[test]
    fn the_peak_may_be_in_a_later_window() {
        let (meter, begun) = (Meter::default(), Instant::now());
        for (seconds, bytes) in [(0, 100), (1, 100), (2, 900), (3, 300), (4, 100)] {
            meter.add(bytes, (begun + Duration::from_secs(seconds)).into());
        }
        let rate = meter.rate().unwrap();
        assert_eq!((rate.mean, rate.peak), (375, 900));
        assert_eq!(size_of::<Meter>(), 32);
    }

    #[test]
    fn data_that_comes_at_once_has_no_rate() {
        let (meter, now) = (Meter::default(), Instant::now());
        assert_eq!(meter.rate(), None);
        meter.add(5, now.into());
        meter.add(5, (now + Duration::from_micros(10)).into());
        assert_eq!(meter.rate(), None);
    }
}
