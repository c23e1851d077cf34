//! Socket options of a connection, with the names of std and tokio.

use crate::error::invalid;
use crate::tcp::TcpStream;
use lastack_engine::Keepalive;
use lastack_wire::reset_reason::ResetReason;
use std::io;
use std::time::Duration;

/// DSCP has six bits (RFC 2474 section 3).
const MAX_DSCP: u8 = 0x3f;

pub(super) fn check_keepalive(keepalive: Option<Keepalive>) -> io::Result<()> {
    if keepalive.is_some_and(|k| k.count == 0 || k.idle.is_zero() || k.interval.is_zero()) {
        return Err(invalid("the times and the count of keep-alive must not be zero (None turns it off)"));
    }
    Ok(())
}

pub(super) fn check_dscp(dscp: u8) -> io::Result<()> {
    if dscp > MAX_DSCP {
        return Err(invalid("the DSCP must be at most 63 (IP_TOS is four times the DSCP)"));
    }
    Ok(())
}

pub(crate) fn check_ttl(ttl: u32) -> io::Result<u8> {
    u8::try_from(ttl).ok().filter(|ttl| *ttl > 0).ok_or_else(|| invalid("the TTL must be from 1 to 255"))
}

/// Options. Unless stated otherwise, these calls never fail while the stream exists.
impl TcpStream {
    /// The behavior of closing (`SO_LINGER`). `None`: written data is delivered in the background, then FIN. Zero:
    /// RST, and undelivered data is lost (`Rule::RstAbort`). Other times: as `None`, and [`close`](Self::close) waits
    /// up to that long for the delivery.
    ///
    /// # Errors
    /// See above.
    pub fn set_linger(&self, time: Option<Duration>) -> io::Result<()> {
        self.set(|tcp| tcp.set_linger(time))
    }

    /// See [`set_linger`](Self::set_linger).
    ///
    /// # Errors
    /// See above.
    pub fn linger(&self) -> io::Result<Option<Duration>> {
        self.call(|tcp| Ok(tcp.linger()))
    }

    /// Whether small segments are sent at once, without waiting for an acknowledgment (disables the Nagle algorithm,
    /// RFC 9293 section 3.7.4).
    ///
    /// # Errors
    /// See above.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.set(|tcp| tcp.set_nodelay(nodelay))
    }

    /// See [`set_nodelay`](Self::set_nodelay).
    ///
    /// # Errors
    /// See above.
    pub fn nodelay(&self) -> io::Result<bool> {
        self.call(|tcp| Ok(tcp.nodelay()))
    }

    /// Sends keep-alive probes on an idle connection (RFC 9293 section 3.8.4); `None`: never.
    ///
    /// # Errors
    /// See above; `InvalidInput` if a time or the count is zero (EINVAL, as on Linux).
    pub fn set_keepalive(&self, keepalive: Option<Keepalive>) -> io::Result<()> {
        check_keepalive(keepalive)?;
        self.set(|tcp| tcp.set_keepalive(keepalive))
    }

    /// See [`set_keepalive`](Self::set_keepalive).
    ///
    /// # Errors
    /// See above.
    pub fn keepalive(&self) -> io::Result<Option<Keepalive>> {
        self.call(|tcp| Ok(tcp.keepalive()))
    }

    /// Max time that data may remain unacknowledged (USER TIMEOUT of RFC 9293); `None`: until the retransmission
    /// limit is reached.
    ///
    /// # Errors
    /// See above.
    pub fn set_user_timeout(&self, time: Option<Duration>) -> io::Result<()> {
        self.set(|tcp| tcp.set_user_timeout(time))
    }

    /// See [`set_user_timeout`](Self::set_user_timeout).
    ///
    /// # Errors
    /// See above.
    pub fn user_timeout(&self) -> io::Result<Option<Duration>> {
        self.call(|tcp| Ok(tcp.user_timeout()))
    }

    /// Announces this user timeout to the peer and applies the peer's (the user timeout option, RFC 5482): the longer
    /// of the two is used, within the limits of [`TcpConfig`](crate::TcpConfig::min_user_timeout), unless
    /// [`set_user_timeout`](Self::set_user_timeout) sets a time. `None`: neither.
    ///
    /// # Errors
    /// See above.
    pub fn set_advertised_user_timeout(&self, time: Option<Duration>) -> io::Result<()> {
        self.set(|tcp| tcp.set_advertised_user_timeout(time))
    }

    /// See [`set_advertised_user_timeout`](Self::set_advertised_user_timeout).
    ///
    /// # Errors
    /// See above.
    pub fn advertised_user_timeout(&self) -> io::Result<Option<Duration>> {
        self.call(|tcp| Ok(tcp.advertised_user_timeout()))
    }

    /// How long an orphaned connection waits in FIN-WAIT-2 for the peer's FIN (`TCP_LINGER2`), max two minutes;
    /// `None`: the time in the host's configuration (`Rule::EndFinWait2Timeout`). Zero: RST as soon as our FIN is
    /// acknowledged (`Rule::RstFinWait2Refused`).
    ///
    /// # Errors
    /// See above.
    pub fn set_fin_wait_2(&self, time: Option<Duration>) -> io::Result<()> {
        self.set(|tcp| tcp.set_fin_wait_2(time))
    }

    /// See [`set_fin_wait_2`](Self::set_fin_wait_2).
    ///
    /// # Errors
    /// See above.
    pub fn fin_wait_2(&self) -> io::Result<Option<Duration>> {
        self.call(|tcp| Ok(tcp.fin_wait_2()))
    }

    /// The reason in a reset sent by [`abort`](TcpStream::abort) or by closing
    /// (draft-ietf-tcpm-rst-diagnostic-payload), whether or not the host sends reasons; `None`: the reason of the
    /// rule, if the host sends reasons.
    ///
    /// # Errors
    /// See above.
    pub fn set_reset_reason(&self, reason: Option<ResetReason>) -> io::Result<()> {
        self.set(|tcp| tcp.set_reset_reason(reason))
    }

    /// See [`set_reset_reason`](Self::set_reset_reason).
    ///
    /// # Errors
    /// See above.
    pub fn reset_reason(&self) -> io::Result<Option<ResetReason>> {
        self.call(|tcp| Ok(tcp.reset_reason()))
    }

    /// Differentiated services codepoint of packets sent from now on: six bits (RFC 9293 section 3.9.1.9).
    ///
    /// # Errors
    /// See above; `InvalidInput` above 63. The byte of `IP_TOS` has the codepoint in its upper six bits: shift it
    /// right by two.
    pub fn set_dscp(&self, dscp: u8) -> io::Result<()> {
        check_dscp(dscp)?;
        self.set(|tcp| tcp.set_dscp(dscp))
    }

    /// See [`set_dscp`](Self::set_dscp).
    ///
    /// # Errors
    /// See above.
    pub fn dscp(&self) -> io::Result<u8> {
        self.call(|tcp| Ok(tcp.dscp()))
    }

    /// Hop limit (TTL) of packets sent from now on (RFC 9293 section 3.9.1.9).
    ///
    /// # Errors
    /// See above; `InvalidInput` unless it is from 1 to 255.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        let ttl = check_ttl(ttl)?;
        self.set(|tcp| tcp.set_hop_limit(Some(ttl)))
    }

    /// See [`set_ttl`](Self::set_ttl).
    ///
    /// # Errors
    /// See above.
    pub fn ttl(&self) -> io::Result<u32> {
        self.call(|tcp| Ok(tcp.hop_limit().into()))
    }

    /// Closing sends RST and discards undelivered data: [`set_linger`](Self::set_linger) with zero.
    ///
    /// # Errors
    /// See above.
    pub fn set_zero_linger(&self) -> io::Result<()> {
        self.set_linger(Some(Duration::ZERO))
    }

    /// Whether partial segments are held back (`TCP_CORK`), for at most the retransmission timeout.
    ///
    /// # Errors
    /// See above.
    pub fn set_cork(&self, cork: bool) -> io::Result<()> {
        self.set(|tcp| tcp.set_cork(cork))
    }

    /// See [`set_cork`](Self::set_cork).
    ///
    /// # Errors
    /// See above.
    pub fn cork(&self) -> io::Result<bool> {
        self.call(|tcp| Ok(tcp.cork()))
    }

    pub(super) fn set(&self, set: impl FnOnce(&mut lastack_engine::Tcp<'_>)) -> io::Result<()> {
        self.call(|tcp| {
            set(tcp);
            Ok(())
        })
    }
}
