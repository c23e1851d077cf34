//! Bounds of settings. Settings are clamped to them when they enter a stack, so that no arithmetic overflows, every
//! timer expires and no transfer waits for buffer space that cannot exist.

use crate::config::{Config, DatagramConfig, TcpConfig};
use crate::tcp::MIN_MSS;
use core::net::IpAddr;
use core::ops::{Deref, DerefMut};
use core::time::Duration;

/// Max duration; 1000 times twice this value still fits the clock.
const LONGEST: Duration = Duration::from_secs(100_000 * 3600);
/// The granularity of the clock of RFC 6298.
pub(super) const MIN_RTO: Duration = Duration::from_millis(1);
/// RFC 9293 MUST-40: less than 500 ms.
pub(super) const LONGEST_ACK_DELAY: Duration = Duration::from_millis(499);
/// Min interval of the checks for idle buffers.
pub(crate) const MIN_BUFFER_IDLE: Duration = Duration::from_millis(100);
/// A path MTU search takes a few RTTs.
pub(super) const MIN_PROBE_INTERVAL: Duration = Duration::from_millis(100);
/// The default MSS (RFC 9293 MUST-15).
pub(crate) const MIN_BUFFER: usize = 536;
/// The max window of 32-bit sequence numbers (RFC 7323 section 2.3).
pub(super) const MAX_BUFFER: usize = 1 << 30;
/// The max value of the IP length field.
pub(super) const MAX_PACKET: usize = 65_535;

impl Config {
    /// Whether `addr` is accepted as local without being listed.
    #[inline]
    pub(crate) fn accepts_any(&self, addr: IpAddr) -> bool {
        self.any_address
            || !self.local_prefixes.is_empty()
                && self.local_prefixes.iter().any(|prefix| prefix.contains(addr))
    }

    /// These settings clamped to their bounds.
    pub(crate) fn clamp(mut self) -> Self {
        self.mtu = self.mtu.min(MAX_PACKET);
        self.max_packet = self.max_packet.min(MAX_PACKET);
        self.tcp.clamp();
        self.datagrams.clamp();
        self
    }
}

impl TcpConfig {
    fn clamp(&mut self) {
        for buffer in [&mut self.send_buffer, &mut self.receive_buffer] {
            *buffer = (*buffer).clamp(MIN_BUFFER, MAX_BUFFER);
        }
        for time in [
            &mut self.min_user_timeout,
            &mut self.max_user_timeout,
            &mut self.fin_wait_2,
            &mut self.time_wait,
            &mut self.intercept_timeout,
            &mut self.challenge_interval,
        ] {
            *time = (*time).min(LONGEST);
        }
        self.min_rto = self.min_rto.clamp(MIN_RTO, LONGEST);
        self.max_rto = self.max_rto.clamp(self.min_rto, LONGEST);
        self.initial_rto = self.initial_rto.clamp(MIN_RTO, LONGEST);
        self.ack_delay = self.ack_delay.min(LONGEST_ACK_DELAY);
        self.base_mss = self.base_mss.max(MIN_MSS);
        self.buffer_idle = self.buffer_idle.clamp(MIN_BUFFER_IDLE, LONGEST);
        self.mtu_probe_interval = self.mtu_probe_interval.clamp(MIN_PROBE_INTERVAL, LONGEST);
        self.advertised_user_timeout = self.advertised_user_timeout.map(|time| time.min(LONGEST));
    }
}

impl DatagramConfig {
    fn clamp(&mut self) {
        self.error_interval = self.error_interval.min(LONGEST);
        self.reassembly_time = self.reassembly_time.min(LONGEST);
    }
}

/// Mutable access to the TCP settings of a stack
/// ([`Stack::tcp_config_mut`](crate::Stack::tcp_config_mut)). Dropping it clamps them to their bounds.
#[derive(Debug)]
pub struct TcpConfigMut<'a>(pub(crate) &'a mut TcpConfig);

impl Deref for TcpConfigMut<'_> {
    type Target = TcpConfig;

    fn deref(&self) -> &TcpConfig {
        self.0
    }
}

impl DerefMut for TcpConfigMut<'_> {
    fn deref_mut(&mut self) -> &mut TcpConfig {
        self.0
    }
}

impl Drop for TcpConfigMut<'_> {
    fn drop(&mut self) {
        self.0.clamp();
    }
}
