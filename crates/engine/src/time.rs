//! Points in time, measured by the caller.

use core::ops::{Add, AddAssign, Sub};
use core::time::Duration;

/// A point in time: nanoseconds since a start of the caller's choosing.
///
/// The engine has no clock. The driver of a [`Stack`](crate::Stack) passes the time in, so that
/// tests simulate hours in moments, reproducibly.
///
/// ```
/// use core::time::Duration;
/// use lastack_engine::Instant;
///
/// let start = std::time::Instant::now();
/// let now = Instant::since_start(start.elapsed());
/// let later = now + Duration::from_millis(1);
/// assert_eq!(later - now, Duration::from_millis(1));
/// assert_eq!(Instant::from_micros(5), Instant::from_nanos(5000));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The start.
    pub const ZERO: Self = Self(0);

    /// The point `nanos` nanoseconds after the start.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// The point `micros` microseconds after the start.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros * 1_000)
    }

    /// The point `millis` milliseconds after the start.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis * 1_000_000)
    }

    /// The point `elapsed` after the start, as a clock such as `std::time::Instant` reports it.
    pub const fn since_start(elapsed: Duration) -> Self {
        Self(nanos(elapsed))
    }

    /// Nanoseconds since the start.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Whole microseconds since the start.
    pub const fn as_micros(self) -> u64 {
        self.0 / 1_000
    }

    /// Whole milliseconds since the start.
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// The point `nanos` nanoseconds later: [`Add`] without a [`Duration`] in between.
    pub(crate) const fn after_nanos(self, nanos: u64) -> Self {
        Self(self.0.saturating_add(nanos))
    }

    /// The nanoseconds from `earlier` to `self`, zero if `earlier` is not earlier: [`Sub`] without a [`Duration`], which
    /// would have to be divided into seconds and the rest.
    pub(crate) const fn nanos_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The time since the start.
    pub const fn elapsed(self) -> Duration {
        Duration::from_nanos(self.0)
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, later: Duration) -> Self {
        Self(self.0.saturating_add(nanos(later)))
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, later: Duration) {
        *self = *self + later;
    }
}

impl Sub for Instant {
    type Output = Duration;

    /// The time from `earlier` to `self`; zero if `earlier` is not earlier.
    fn sub(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// The nanoseconds in `time`, saturating.
pub(crate) const fn nanos(time: Duration) -> u64 {
    time.as_secs().saturating_mul(1_000_000_000).saturating_add(time.subsec_nanos() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_do_not_go_below_zero() {
        let (a, b) = (Instant::from_millis(5), Instant::from_micros(5_250));
        assert_eq!(b - a, Duration::from_micros(250));
        assert_eq!(a - b, Duration::ZERO);
        assert_eq!(a + Duration::from_micros(250), b);
        assert_eq!(b.as_millis(), 5);
    }

    #[test]
    fn a_time_beyond_the_clock_never_comes() {
        let never = Instant::from_nanos(u64::MAX);
        assert_eq!(Instant::from_millis(5) + Duration::MAX, never);
        assert_eq!(Instant::since_start(Duration::MAX), never);
    }
}
