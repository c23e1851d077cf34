//! Points in time, measured by the caller.

use core::fmt::{self, Debug, Formatter};
use core::num::NonZeroU64;
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
///
/// An `Option<Instant>` is as large as an `Instant`. The latest point is 2^64 - 2 nanoseconds (584 years) after the start.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(
    /// One more than the nanoseconds, so that zero is left for `None`. Differences and comparisons need no correction.
    NonZeroU64,
);

impl Instant {
    /// The start.
    pub const ZERO: Self = Self(NonZeroU64::MIN);

    /// The earlier one of two deadlines.
    #[inline]
    pub(crate) fn earliest(a: Option<Self>, b: Option<Self>) -> Option<Self> {
        match (a, b) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// The point `nanos` nanoseconds after the start.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(NonZeroU64::MIN.saturating_add(nanos))
    }

    /// The point `micros` microseconds after the start.
    pub const fn from_micros(micros: u64) -> Self {
        Self::from_nanos(micros * 1_000)
    }

    /// The point `millis` milliseconds after the start.
    pub const fn from_millis(millis: u64) -> Self {
        Self::from_nanos(millis * 1_000_000)
    }

    /// The point `elapsed` after the start, as a clock such as `std::time::Instant` reports it.
    pub const fn since_start(elapsed: Duration) -> Self {
        Self::from_nanos(nanos(elapsed))
    }

    /// Nanoseconds since the start.
    pub const fn as_nanos(self) -> u64 {
        self.0.get() - 1
    }

    /// Whole microseconds since the start.
    pub const fn as_micros(self) -> u64 {
        self.as_nanos() / 1_000
    }

    /// Whole milliseconds since the start.
    pub const fn as_millis(self) -> u64 {
        self.as_nanos() / 1_000_000
    }

    /// The point `nanos` nanoseconds later: [`Add`] without a [`Duration`] in between.
    pub(crate) const fn after_nanos(self, nanos: u64) -> Self {
        Self(self.0.saturating_add(nanos))
    }

    /// The nanoseconds from `earlier` to `self`, zero if `earlier` is not earlier: [`Sub`] without a [`Duration`], which
    /// would have to be divided into seconds and the rest.
    pub(crate) const fn nanos_since(self, earlier: Self) -> u64 {
        self.0.get().saturating_sub(earlier.0.get())
    }

    /// The time since the start.
    pub const fn elapsed(self) -> Duration {
        Duration::from_nanos(self.as_nanos())
    }
}

impl Debug for Instant {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Instant").field(&self.as_nanos()).finish()
    }
}

impl Default for Instant {
    fn default() -> Self {
        Self::ZERO
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
        Duration::from_nanos(self.nanos_since(earlier))
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
