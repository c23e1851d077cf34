//! The timers of a connection: an array of deadlines.

use crate::Instant;

/// A named deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timer {
    /// RFC 6298: something in flight is not acknowledged in time.
    Retransmission,
    /// RFC 8985 section 6.2: segments still undelivered are lost.
    Reorder,
    /// RFC 8985 section 7: the last segments may be lost, and no later segment would reveal it.
    TailProbe,
    /// RFC 9293 section 3.8.6.1: data waits and the window does not allow it.
    Persist,
    /// RFC 9293 section 3.8.6.3: a delayed ACK is due.
    DelayedAck,
    /// RFC 9293 section 3.8.4.
    KeepAlive,
    /// RFC 9293 section 3.8.3: the user timeout.
    User,
    /// An orphan waits for the peer's FIN (`Rule::EndFinWait2Timeout`).
    FinWait2,
    /// The buffers have been idle.
    Idle,
    /// Data waits for pacing.
    Pace,
}

impl Timer {
    pub const ALL: [Self; 10] = [
        Self::Retransmission,
        Self::Reorder,
        Self::TailProbe,
        Self::Persist,
        Self::DelayedAck,
        Self::KeepAlive,
        Self::User,
        Self::FinWait2,
        Self::Idle,
        Self::Pace,
    ];
}

/// When each timer expires. Any number of them run at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timers {
    at: [Instant; Timer::ALL.len()],
    /// No timer expires before this.
    soonest: Instant,
    /// The table checks the timers at this time, or before it.
    scheduled: Instant,
}

/// The deadline of a timer that does not run.
const NEVER: Instant = Instant::from_nanos(u64::MAX);

impl Default for Timers {
    fn default() -> Self {
        Self { at: [NEVER; Timer::ALL.len()], soonest: NEVER, scheduled: NEVER }
    }
}

impl Timers {
    pub fn set(&mut self, timer: Timer, at: Instant) {
        self.at[timer as usize] = at;
        self.soonest = self.soonest.min(at);
    }

    pub fn stop(&mut self, timer: Timer) {
        self.at[timer as usize] = NEVER;
    }

    pub fn is_running(&self, timer: Timer) -> bool {
        self.at[timer as usize] != NEVER
    }

    /// The time of the next check: the earliest deadline, or an earlier one that has been stopped or postponed since.
    pub fn next(&self) -> Option<Instant> {
        (self.soonest != NEVER).then_some(self.soonest)
    }

    /// Whether the table checks the timers in time.
    #[inline]
    pub fn is_scheduled(&self) -> bool {
        self.scheduled <= self.soonest
    }

    /// The table checks the timers at the time of the next check.
    pub fn schedule(&mut self) {
        self.scheduled = self.soonest;
    }

    /// Stops and returns a timer that has expired at `now`. To be called until it returns `None`.
    pub fn take_expired(&mut self, now: Instant) -> Option<Timer> {
        let expired = Timer::ALL.into_iter().find(|t| self.is_running(*t) && self.at[*t as usize] <= now);
        match expired {
            Some(timer) => self.stop(timer),
            None => self.soonest = self.at.into_iter().min().unwrap_or(NEVER),
        }
        expired
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_run_side_by_side() {
        let at = Instant::from_millis;
        let mut timers = Timers::default();
        timers.set(Timer::Persist, at(5));
        timers.set(Timer::Idle, at(3));
        assert_eq!((timers.next(), timers.take_expired(at(2))), (Some(at(3)), None));
        assert_eq!(timers.take_expired(at(5)), Some(Timer::Persist));
        assert_eq!((timers.take_expired(at(5)), timers.take_expired(at(5))), (Some(Timer::Idle), None));
        assert_eq!(timers.next(), None);
        for (i, timer) in Timer::ALL.into_iter().enumerate() {
            assert_eq!(timer as usize, i);
        }
    }
}
