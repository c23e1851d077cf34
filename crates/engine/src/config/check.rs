//! Setters that refuse a value out of its bounds, and the check of a whole configuration.

use super::validate::{
    LONGEST_ACK_DELAY, MAX_BUFFER, MAX_PACKET, MIN_BUFFER, MIN_BUFFER_IDLE, MIN_PROBE_INTERVAL, MIN_RTO,
};
use crate::config::{Config, TcpConfig};
use crate::tcp::MIN_MSS;
use alloc::format;
use alloc::string::String;
use core::fmt::{self, Debug, Display, Formatter};
use core::ops::RangeInclusive;
use core::time::Duration;

/// The min MTU of IPv4 (RFC 791).
const MIN_MTU: usize = 68;
/// The max value of the six bits of a DSCP.
const MAX_DSCP: u8 = 63;

/// A setting is out of its bounds. The text names the setting, its value, the bounds, the reason for them and a value
/// that is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    setting: &'static str,
    text: String,
}

impl ConfigError {
    /// The name of the field, as in `tcp.ack_delay`.
    pub fn setting(&self) -> &'static str {
        self.setting
    }
}

impl Display for ConfigError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl core::error::Error for ConfigError {}

/// A field, its bounds, and the reason for them.
struct Bounds<T> {
    setting: &'static str,
    range: RangeInclusive<T>,
    reason: &'static str,
}

impl<T: PartialOrd + Debug> Bounds<T> {
    fn check(&self, value: T) -> Result<(), ConfigError> {
        let (setting, reason) = (self.setting, self.reason);
        let (min, max) = (self.range.start(), self.range.end());
        let text = if value < *min {
            format!("`{setting}` is {value:?}, but the min is {min:?} ({reason}): set it to {min:?} or more")
        } else if value > *max {
            format!("`{setting}` is {value:?}, but the max is {max:?} ({reason}): set it to {max:?} or less")
        } else {
            return Ok(());
        };
        Err(ConfigError { setting, text })
    }
}

/// A max that no duration exceeds: longer than 100 000 hours counts as that.
const FOREVER: Duration = Duration::MAX;

/// Setters with their bounds, and the check of all of them.
macro_rules! bounded {
    ($owner:ident $check:ident: $($(#[$doc:meta])* $set:ident $field:ident: $type:ty, $name:literal,
       $range:expr, $reason:literal;)*) => {
        impl $owner {
            $(
                $(#[$doc])*
                ///
                /// # Errors
                /// If the value is out of its bounds; the setting is then unchanged.
                pub fn $set(&mut self, value: $type) -> Result<&mut Self, ConfigError> {
                    let range: fn(&Self) -> RangeInclusive<$type> = $range;
                    Bounds { setting: $name, range: range(self), reason: $reason }.check(value)?;
                    self.$field = value;
                    Ok(self)
                }
            )*

            fn $check(&self) -> Result<(), ConfigError> {
                $({
                    let range: fn(&Self) -> RangeInclusive<$type> = $range;
                    Bounds { setting: $name, range: range(self), reason: $reason }.check(self.$field)?;
                })*
                Ok(())
            }
        }
    };
}

bounded! { Config check_own:
    /// Sets [`mtu`](Self::mtu).
    set_mtu mtu: usize, "mtu", |_| MIN_MTU..=MAX_PACKET, "the least of IPv4, RFC 791; the largest IP packet";
    /// Sets [`max_packet`](Self::max_packet).
    set_max_packet max_packet: usize, "max_packet", |_| MIN_MTU..=MAX_PACKET, "the least of IPv4, RFC 791; the largest IP packet";
    /// Sets [`hop_limit`](Self::hop_limit).
    set_hop_limit hop_limit: u8, "hop_limit", |_| 1..=u8::MAX, "a packet with hop limit 0 is not forwarded";
}

bounded! { TcpConfig check_own:
    /// Sets [`send_buffer`](Self::send_buffer).
    set_send_buffer send_buffer: usize, "tcp.send_buffer", |_| MIN_BUFFER..=MAX_BUFFER,
        "the default MSS, RFC 9293 MUST-15; the max window, RFC 7323 section 2.3";
    /// Sets [`receive_buffer`](Self::receive_buffer).
    set_receive_buffer receive_buffer: usize, "tcp.receive_buffer", |_| MIN_BUFFER..=MAX_BUFFER,
        "the default MSS, RFC 9293 MUST-15; the max window, RFC 7323 section 2.3";
    /// Sets [`dscp`](Self::dscp).
    set_dscp dscp: u8, "tcp.dscp", |_| 0..=MAX_DSCP, "a DSCP has six bits, RFC 2474";
    /// Sets [`base_mss`](Self::base_mss).
    set_base_mss base_mss: u16, "tcp.base_mss", |_| MIN_MSS..=u16::MAX, "less data than header, CVE-2019-11479";
    /// Sets [`ack_delay`](Self::ack_delay).
    set_ack_delay ack_delay: Duration, "tcp.ack_delay", |_| Duration::ZERO..=LONGEST_ACK_DELAY,
        "less than 500 ms, RFC 9293 MUST-40";
    /// Sets [`initial_rto`](Self::initial_rto).
    set_initial_rto initial_rto: Duration, "tcp.initial_rto", |_| MIN_RTO..=FOREVER,
        "the granularity of the clock of RFC 6298";
    /// Sets [`min_rto`](Self::min_rto). If it is to be above [`max_rto`](Self::max_rto), raise that first.
    set_min_rto min_rto: Duration, "tcp.min_rto", |tcp| MIN_RTO..=tcp.max_rto.max(MIN_RTO),
        "the granularity of the clock of RFC 6298; `tcp.max_rto`";
    /// Sets [`max_rto`](Self::max_rto). If it is to be below [`min_rto`](Self::min_rto), lower that first.
    set_max_rto max_rto: Duration, "tcp.max_rto", |tcp| tcp.min_rto..=FOREVER, "`tcp.min_rto`";
    /// Sets [`mtu_probe_interval`](Self::mtu_probe_interval).
    set_mtu_probe_interval mtu_probe_interval: Duration, "tcp.mtu_probe_interval", |_| MIN_PROBE_INTERVAL..=FOREVER,
        "a path MTU search takes a few round trips";
    /// Sets [`buffer_idle`](Self::buffer_idle).
    set_buffer_idle buffer_idle: Duration, "tcp.buffer_idle", |_| MIN_BUFFER_IDLE..=FOREVER,
        "the interval of the checks for idle buffers";
}

impl Config {
    /// Checks all settings that have bounds.
    ///
    /// A [`Stack`](crate::Stack) replaces a value that is out of bounds by the nearest one that is allowed; check the
    /// configuration before to be informed instead.
    ///
    /// ```
    /// use core::time::Duration;
    /// use lastack_engine::Config;
    ///
    /// let mut config = Config::new(["10.0.0.1".parse()?]);
    /// let refused = config.tcp.set_ack_delay(Duration::from_secs(2)).unwrap_err();
    /// assert_eq!(refused.setting(), "tcp.ack_delay");
    /// config.tcp.set_ack_delay(Duration::from_millis(100))?.set_send_buffer(1 << 20)?;
    /// config.check()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The first setting that is out of its bounds.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.check_own()?;
        self.tcp.check_own()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    fn config() -> Config {
        Config::new([core::net::IpAddr::from([10, 0, 0, 1])])
    }

    #[test]
    fn the_defaults_pass() {
        config().check().unwrap();
    }

    #[test]
    fn a_value_out_of_bounds_is_refused_and_changes_nothing() {
        let mut config = config();
        let error = config.tcp.set_ack_delay(Duration::from_millis(500)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`tcp.ack_delay` is 500ms, but the max is 499ms (less than 500 ms, RFC 9293 MUST-40): set it to 499ms or less"
        );
        assert_eq!(config.tcp.ack_delay, Duration::from_millis(40));
        let error = config.set_mtu(67).unwrap_err();
        assert!(error.to_string().contains("`mtu` is 67, but the min is 68"), "{error}");
        assert_eq!(config.mtu, 1500);
    }

    #[test]
    fn bounds_that_depend_on_another_setting() {
        let mut config = config();
        let above = Duration::from_secs(300);
        assert_eq!(config.tcp.set_min_rto(above).unwrap_err().setting(), "tcp.min_rto");
        config.tcp.set_max_rto(above).unwrap().set_min_rto(above).unwrap();
    }

    /// What the check accepts, a stack uses as it is; what it refuses would be clamped.
    #[test]
    fn the_check_agrees_with_the_clamp() {
        type Change = fn(&mut Config);
        let bad: [Change; 9] = [
            |config| config.mtu = 70_000,
            |config| config.max_packet = 70_000,
            |config| config.tcp.send_buffer = 535,
            |config| config.tcp.receive_buffer = (1 << 30) + 1,
            |config| config.tcp.ack_delay = Duration::from_secs(1),
            |config| config.tcp.min_rto = Duration::ZERO,
            |config| config.tcp.max_rto = Duration::from_millis(199),
            |config| config.tcp.mtu_probe_interval = Duration::from_millis(99),
            |config| config.tcp.buffer_idle = Duration::from_millis(99),
        ];
        for change in bad {
            let mut config = config();
            change(&mut config);
            let error = config.check().unwrap_err();
            let clamped = config.clone().clamp();
            assert_ne!(format!("{config:?}"), format!("{clamped:?}"), "{error}");
        }
        let config = config();
        assert_eq!(format!("{config:?}"), format!("{:?}", config.clone().clamp()));
    }
}
