//! Times of the monotonic clock in eight bytes.

use std::num::NonZeroU64;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// A time. `Option<Moment>` takes eight bytes; an `Instant` takes sixteen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(NonZeroU64);

/// Nanoseconds are counted from here: before everything that a run measures.
static EPOCH: LazyLock<Instant> = LazyLock::new(|| {
    let now = Instant::now();
    now.checked_sub(Duration::from_secs(3600)).unwrap_or(now)
});

impl Moment {
    /// Now.
    pub fn now() -> Self {
        Instant::now().into()
    }

    /// The time since `earlier`; zero if that is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.get().saturating_sub(earlier.0.get()))
    }

    /// The time since then.
    pub fn elapsed(self) -> Duration {
        Self::now().since(self)
    }
}

impl From<Moment> for Instant {
    fn from(at: Moment) -> Self {
        *EPOCH + Duration::from_nanos(at.0.get())
    }
}

impl From<Instant> for Moment {
    fn from(at: Instant) -> Self {
        let nanos = at.saturating_duration_since(*EPOCH).as_nanos();
        Self(u64::try_from(nanos).ok().and_then(NonZeroU64::new).unwrap_or(NonZeroU64::MIN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_exact() {
        let now = Instant::now();
        let (first, second) = (Moment::from(now), Moment::from(now + Duration::from_nanos(1_500_000_001)));
        assert_eq!(second.since(first), Duration::from_nanos(1_500_000_001));
        assert_eq!(first.since(second), Duration::ZERO);
        assert_eq!(Instant::from(first), now);
        assert!(first < second && size_of::<Option<Moment>>() == 8);
    }
}
