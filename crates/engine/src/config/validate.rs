//! Limits of settings. Where settings enter a stack they are brought within these limits, so that no arithmetic
//! overflows, every timer ends and no transfer waits for buffer space that cannot exist.

use crate::config::{Config, DatagramConfig, TcpConfig};
use core::ops::{Deref, DerefMut};
use core::time::Duration;

/// Longer than anything lasts, and twice a thousand times as long still fits the clock.
const LONGEST: Duration = Duration::from_secs(100_000 * 3600);
/// The granularity of the clock of RFC 6298.
const MIN_RTO: Duration = Duration::from_millis(1);
/// RFC 9293 MUST-40: less than this.
const LONGEST_ACK_DELAY: Duration = Duration::from_millis(499);
/// Memory that is in use is looked at this often at most.
pub(crate) const MIN_BUFFER_IDLE: Duration = Duration::from_millis(100);
/// A search of the path MTU takes a few round trips.
const MIN_PROBE_INTERVAL: Duration = Duration::from_millis(100);
/// What every host takes in one segment (RFC 9293 MUST-15), ..
pub(crate) const MIN_BUFFER: usize = 536;
/// .. and the most that numbers of 32 bits tell apart (RFC 7323 section 2.3).
const MAX_BUFFER: usize = 1 << 30;
/// The most that the length field of IP says.
const MAX_PACKET: usize = 65_535;

impl Config {
    /// These settings within their bounds.
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

/// The settings of TCP of a stack, to be changed
/// ([`Stack::tcp_config_mut`](crate::Stack::tcp_config_mut)). When it is dropped they are brought within
/// their bounds.
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
