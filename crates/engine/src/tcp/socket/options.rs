//! The options of a connection's socket.

use crate::tcp::Keepalive;
use crate::tcp::handshake::negotiate::MIN_MSS;
use crate::tcp::socket::calls::Tcp;
use crate::tcp::socket::settings::{MAX_DSCP, Settings};
use crate::tcp::table::Socket;
use core::time::Duration;
use lastack_wire::reset_reason::ResetReason;

/// Max timeout of an orphan in FIN-WAIT-2, as on Linux.
const MOST_FIN_WAIT_2: Duration = Duration::from_secs(120);

/// Min interval of a timer: a shorter one would expire all the time.
const MIN_INTERVAL: Duration = Duration::from_millis(1);

impl Tcp<'_> {
    pub(super) fn set(&mut self, change: impl FnOnce(&mut Settings)) {
        match self.socket_mut() {
            Socket::Opening(handshake) => change(&mut handshake.settings),
            Socket::Open(connection) => {
                let before = connection.timer_settings();
                change(&mut connection.settings);
                connection.rearm(before);
            }
            Socket::Closed(over) => change(&mut over.settings),
        }
        self.table.enqueue(self.id);
    }

    /// `SO_LINGER`: `None`: off; zero: a close aborts; else how long a close waits, which the caller implements
    /// ([`poll_drained`](Self::poll_drained)).
    pub fn set_linger(&mut self, linger: Option<Duration>) {
        self.set(|settings| settings.rare_mut().linger = linger);
    }

    /// See [`set_linger`](Self::set_linger).
    pub fn linger(&self) -> Option<Duration> {
        self.settings().rare().linger
    }

    /// `TCP_NODELAY`: a partial segment is sent at once even if others are in flight. Setting it also flushes data that
    /// is waiting.
    pub fn set_nodelay(&mut self, nodelay: bool) {
        if let Socket::Open(connection) = self.socket_mut() {
            let waits = connection.end_of_data().after(connection.snd.nxt);
            connection.pending.flush = nodelay && waits;
        }
        self.set(|settings| settings.nodelay = nodelay);
    }

    /// See [`set_nodelay`](Self::set_nodelay).
    pub fn nodelay(&self) -> bool {
        self.settings().nodelay
    }

    /// `TCP_CORK`: a partial segment waits until the option is cleared or the retransmission timeout has passed.
    pub fn set_cork(&mut self, cork: bool) {
        self.set(|settings| settings.cork = cork);
    }

    /// See [`set_cork`](Self::set_cork).
    pub fn cork(&self) -> bool {
        self.settings().cork
    }

    /// `TCP_MAXSEG`: max data in a segment, in both directions; no effect after the SYNs are exchanged.
    pub fn set_max_segment(&mut self, bytes: Option<u16>) {
        self.set(|settings| settings.max_segment = bytes.map(|bytes| bytes.max(MIN_MSS)));
    }

    /// `SO_SNDBUF`: size of the send buffer, sent data included, up to the stack's limit; `None`: auto-tuning.
    pub fn set_send_buffer(&mut self, bytes: Option<usize>) {
        let bytes = bytes.map(|bytes| u32::try_from(bytes).unwrap_or(u32::MAX));
        self.set(|settings| settings.send_buffer = bytes);
        if let Socket::Open(connection) = self.table.socket_mut(self.id) {
            connection.wake_writer(self.shared);
        }
        if let Socket::Open(connection) = self.table.socket_mut(self.id) {
            connection.wake_writer(self.shared);
        }
    }

    /// `SO_KEEPALIVE`: its times are at least a millisecond, its count at least one; `None`: off.
    pub fn set_keepalive(&mut self, keepalive: Option<Keepalive>) {
        let keepalive = keepalive.map(|times| Keepalive {
            idle: times.idle.max(MIN_INTERVAL),
            interval: times.interval.max(MIN_INTERVAL),
            count: times.count.max(1),
        });
        self.set(|settings| settings.rare_mut().keepalive = keepalive);
    }

    /// See [`set_keepalive`](Self::set_keepalive).
    pub fn keepalive(&self) -> Option<Keepalive> {
        self.settings().rare().keepalive
    }

    /// `TCP_LINGER2`: the timeout in FIN-WAIT-2 after [`close`](Self::close), at most two minutes; `None`: the stack's
    /// (`Rule::EndFinWait2Timeout`). Zero (on Linux a negative value): no wait, a RST as soon as our FIN is
    /// acknowledged (`Rule::RstFinWait2Refused`).
    pub fn set_fin_wait_2(&mut self, limit: Option<Duration>) {
        self.set(|settings| settings.rare_mut().fin_wait_2 = limit.map(|limit| limit.min(MOST_FIN_WAIT_2)));
    }

    /// See [`set_fin_wait_2`](Self::set_fin_wait_2).
    pub fn fin_wait_2(&self) -> Option<Duration> {
        self.settings().rare().fin_wait_2
    }

    /// The reason declared in the RST of an [`abort`](Self::abort), or of a [`close`](Self::close) that resets
    /// (draft-ietf-tcpm-rst-diagnostic-payload), even if the stack does not declare reasons: a proxy forwards the
    /// reason it has received. `None`: the reason of the rule, if the stack declares reasons.
    pub fn set_reset_reason(&mut self, reason: Option<ResetReason>) {
        self.set(|settings| settings.rare_mut().reset_reason = reason);
    }

    /// See [`set_reset_reason`](Self::set_reset_reason).
    pub fn reset_reason(&self) -> Option<ResetReason> {
        self.settings().rare().reset_reason
    }

    /// DSCP of segments sent from now on: the low six bits (RFC 9293 section 3.9.1.9).
    pub fn set_dscp(&mut self, dscp: u8) {
        self.set(|settings| settings.dscp = dscp & MAX_DSCP);
    }

    /// See [`set_dscp`](Self::set_dscp).
    pub fn dscp(&self) -> u8 {
        self.settings().dscp
    }

    /// `IP_TTL`, `IPV6_UNICAST_HOPS`: the hop limit of segments sent from now on; `None`: the stack's (RFC 9293
    /// section 3.9.1.9). TIME-WAIT uses the stack's.
    pub fn set_hop_limit(&mut self, hop_limit: Option<u8>) {
        self.set(|settings| settings.hop_limit = hop_limit);
    }

    /// See [`set_hop_limit`](Self::set_hop_limit).
    pub fn hop_limit(&self) -> u8 {
        self.settings().hop_limit.unwrap_or(self.shared.config.hop_limit)
    }

    /// See [`set_max_segment`](Self::set_max_segment).
    pub fn max_segment(&self) -> Option<u16> {
        self.settings().max_segment
    }

    /// Size of the send buffer: the value set, or the stack's limit.
    pub fn send_buffer(&self) -> usize {
        let limit = self.shared.config.tcp.send_buffer;
        self.settings().send_buffer.map_or(limit, |bytes| limit.min(bytes as usize))
    }

    /// `TCP_USER_TIMEOUT`: how long data may stay unacknowledged; `None` or zero: the retry limit applies.
    pub fn set_user_timeout(&mut self, limit: Option<Duration>) {
        self.set(|settings| settings.rare_mut().user_timeout = limit.filter(|limit| !limit.is_zero()));
    }

    /// Advertises a USER TIMEOUT to the peer, and applies the one that the peer advertises (RFC 5482): data may stay
    /// unacknowledged for the longer of both, within the limits of
    /// [`TcpConfig`](crate::TcpConfig::min_user_timeout). A value set by
    /// [`set_user_timeout`](Self::set_user_timeout) takes precedence. `None`: the option is neither sent nor applied.
    pub fn set_advertised_user_timeout(&mut self, limit: Option<Duration>) {
        let limit = limit.filter(|limit| !limit.is_zero());
        let news = limit.is_some() && limit != self.settings().rare().advertised_user_timeout;
        self.set(|settings| settings.rare_mut().advertised_user_timeout = limit);
        if let Socket::Open(connection) = self.socket_mut()
            && connection.fate.is_none()
        {
            connection.pending.user_timeout = news;
            if news {
                connection.pending.pure_ack();
            }
        }
    }

    /// See [`set_advertised_user_timeout`](Self::set_advertised_user_timeout).
    pub fn advertised_user_timeout(&self) -> Option<Duration> {
        self.settings().rare().advertised_user_timeout
    }

    /// See [`set_user_timeout`](Self::set_user_timeout).
    pub fn user_timeout(&self) -> Option<Duration> {
        self.settings().rare().user_timeout
    }
}
