//! The user timeout option (RFC 5482): each side announces how long it waits for acknowledgments, so that the other side
//! waits at least as long. Off unless a time to advertise is set.

use crate::Instant;
use crate::config::TcpConfig;
use crate::shared::Shared;
use crate::tcp::connection::Connection;
use crate::tcp::connection::timers::Timer;
use crate::tcp::segment::Arrival;
use core::time::Duration;

/// The granularity bit: the value is in minutes, not in seconds.
const MINUTES: u16 = 0x8000;
/// The max value.
const MAX: u64 = 0x7fff;

/// The field of the option: whole seconds, or minutes if the seconds do not fit, rounded up. Zero is reserved.
pub(crate) fn field(time: Duration) -> u16 {
    let seconds = (time.as_millis().div_ceil(1000) as u64).max(1);
    if seconds <= MAX { seconds as u16 } else { seconds.div_ceil(60).min(MAX) as u16 | MINUTES }
}

/// The time in the field; `None` for zero, which is reserved.
pub(crate) fn time(field: u16) -> Option<Duration> {
    let unit = if field & MINUTES == 0 { 1 } else { 60 };
    let seconds = u64::from(field & !MINUTES) * unit;
    (seconds > 0).then(|| Duration::from_secs(seconds))
}

impl Connection {
    /// USER TIMEOUT: the value that the application has set, which no peer changes; else, if the option is in use, the
    /// larger of the two advertised values, within the limits (RFC 5482 section 3.1).
    pub fn user_timeout_limit(&self, config: &TcpConfig) -> Option<Duration> {
        self.settings.rare().user_timeout.or_else(|| {
            let ours = self.settings.rare().advertised_user_timeout?;
            let longest =
                ours.max(self.cold.peer_user_timeout.unwrap_or_default()).max(config.min_user_timeout);
            Some(longest.min(config.max_user_timeout))
        })
    }

    /// Records the user timeout that an acceptable segment advertises.
    pub(in crate::tcp) fn on_peer_user_timeout(&mut self, shared: &Shared, now: Instant, seg: &Arrival<'_>) {
        let Some(said) = seg.tcp.options.user_timeout.and_then(time) else { return };
        if self.cold.peer_user_timeout.replace(said) != Some(said) {
            self.timers.stop(Timer::User);
            self.arm(shared, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_as_long_as_they_fit() {
        let of = |seconds: u64| field(Duration::from_secs(seconds));
        assert_eq!([0, 1, 300, 0x7fff].map(of), [1, 1, 300, 0x7fff]);
        assert_eq!(field(Duration::from_millis(1500)), 2);
        assert_eq!([0x8000, 86_400, 1 << 40].map(of), [0x8000 | 547, 0x8000 | 1440, 0xffff]);
        for value in [1, 300, 0x7fff, 0x8001, 0xffff] {
            let meant = time(value).unwrap();
            assert_eq!(time(field(meant)), Some(meant), "{value:#x}");
        }
        assert_eq!([time(0), time(0x8000)], [None, None]);
    }
}
