//! Types of the TCP socket calls.

use core::fmt;
use core::net::IpAddr;
use core::time::Duration;
use lastack_wire::icmp::IcmpError;

crate::collections::slots::id_type! {
    /// The identifier of a connection. It is never reused.
    pub struct ConnId;
    /// The identifier of a listener. It is never reused.
    pub struct ListenerId;
}

/// The states of RFC 9293 section 3.3.2 (figure 5).
///
/// ```text
///              listen                      connect: send SYN
///   LISTEN <------------ CLOSED -----------------------------> SYN-SENT
///     | receive SYN:                                              |
///     | send SYN,ACK           receive SYN: send SYN,ACK          | receive SYN,ACK:
///     v          <----------------------------------------------- | send ACK
///   SYN-RECEIVED ----------------> ESTABLISHED <------------------+
///        |         receive ACK      |       |
///        | close:                   |       | receive FIN: send ACK
///        | send FIN     close:      |       v
///        |              send FIN    |    CLOSE-WAIT
///        v                          |       | close: send FIN
///   FIN-WAIT-1 <--------------------+       v
///    |      |  receive FIN: send ACK     LAST-ACK
///    |      +----------> CLOSING            | receive ACK of FIN
///    | receive ACK of FIN   |               v
///    v                      |            CLOSED
///   FIN-WAIT-2              | receive ACK of FIN
///    |  receive FIN:        v
///    +-------------->  TIME-WAIT  ----------> CLOSED
///       send ACK                   2 MSL
/// ```
///
/// A RST or an abort leads from every state to CLOSED.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum TcpState {
    #[default]
    Closed,
    Listen,
    SynSent,
    SynReceived,
    Established,
    FinWait1,
    FinWait2,
    CloseWait,
    Closing,
    LastAck,
    TimeWait,
}

impl fmt::Display for TcpState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Closed => "CLOSED",
            Self::Listen => "LISTEN",
            Self::SynSent => "SYN-SENT",
            Self::SynReceived => "SYN-RECEIVED",
            Self::Established => "ESTABLISHED",
            Self::FinWait1 => "FIN-WAIT-1",
            Self::FinWait2 => "FIN-WAIT-2",
            Self::CloseWait => "CLOSE-WAIT",
            Self::Closing => "CLOSING",
            Self::LastAck => "LAST-ACK",
            Self::TimeWait => "TIME-WAIT",
        })
    }
}

/// The error of a call on a connection, with the errno of Linux.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TcpError {
    /// ECONNREFUSED
    Refused,
    /// ECONNRESET
    Reset,
    /// ECONNABORTED
    Aborted,
    /// ETIMEDOUT
    TimedOut,
    /// EHOSTUNREACH
    HostUnreachable,
    /// ENETUNREACH
    NetworkUnreachable,
    /// ENOPROTOOPT
    ProtocolUnreachable,
    /// EACCES
    Prohibited,
    /// EPROTO
    Protocol,
    /// EPIPE
    BrokenPipe,
    /// ENOTCONN
    NotConnected,
}

impl TcpError {
    /// The error of a connection attempt that this ICMP error ended (RFC 5927 section 5.2).
    ///
    /// ```
    /// use lastack_engine::TcpError;
    /// use lastack_wire::IcmpError;
    ///
    /// assert_eq!(TcpError::from_icmp(IcmpError::host_unreachable(false)), TcpError::HostUnreachable);
    /// ```
    pub const fn from_icmp(icmp: IcmpError) -> Self {
        match (icmp.v6, icmp.kind, icmp.code) {
            (false, 3, 0 | 6 | 9 | 11) | (true, 1, 0) => Self::NetworkUnreachable,
            (false, 3, 2) => Self::ProtocolUnreachable,
            (false, 3, 3) | (true, 1, 4) => Self::Refused,
            (false, 12, _) | (true, 4, _) => Self::Protocol,
            (true, 1, 1 | 5 | 6) => Self::Prohibited,
            (true, 1, 2 | 3) | (true, 3, _) | (false, _, _) => Self::HostUnreachable,
            (true, _, _) => Self::Protocol,
        }
    }
}

impl fmt::Display for TcpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused => "connection refused",
            Self::Reset => "connection reset",
            Self::Aborted => "connection aborted",
            Self::TimedOut => "timed out",
            Self::HostUnreachable => "host unreachable",
            Self::NetworkUnreachable => "network unreachable",
            Self::ProtocolUnreachable => "protocol unreachable",
            Self::Prohibited => "administratively prohibited",
            Self::Protocol => "protocol error",
            Self::BrokenPipe => "broken pipe: this direction is closed",
            Self::NotConnected => "not connected",
        })
    }
}

impl core::error::Error for TcpError {}

/// Why a socket cannot be bound to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BindError {
    /// Another socket is bound to it.
    InUse,
    /// It is not an address of this host.
    NotOurs,
    /// No ephemeral port is free.
    NoPort,
    /// The MTU of the link is below the minimum of the address family: 68 bytes for IPv4 (RFC 791), 1280 for
    /// IPv6 (RFC 8200).
    LinkTooSmall,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InUse => "the address is in use",
            Self::NotOurs => "the address is not one of this host's",
            Self::NoPort => "no ephemeral port is free",
            Self::LinkTooSmall => {
                "the MTU of the link is too small: IPv4 needs 68 bytes, IPv6 1280; give the link a larger one"
            }
        })
    }
}

impl core::error::Error for BindError {}

/// Why a connect call fails at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectError {
    /// The local address cannot be bound.
    Bind(BindError),
    /// This host has no address of the remote's family.
    NoAddress,
    /// The remote address is not a unicast address.
    NotUnicast,
    /// The remote port is 0, which is not valid (Linux sends a SYN to it all the same).
    NoRemotePort,
    /// The remote address is this host's own: one of its addresses (unless
    /// [`any_address`](crate::Config::any_address) is set), or a loopback address. There is no loopback: packets are
    /// sent to the link, which does not return them.
    OwnAddress,
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind(error) => error.fmt(f),
            Self::NoAddress => f.write_str("this host has no address of that family"),
            Self::NotUnicast => f.write_str("the remote address is not a unicast address"),
            Self::NoRemotePort => f.write_str("the remote port is 0, which cannot be used: choose another"),
            Self::OwnAddress => f.write_str(
                "the remote address is this host's own, and a host has no loopback: connect from another host on its link",
            ),
        }
    }
}

impl core::error::Error for ConnectError {}

/// The answer to an intercepted SYN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answer {
    /// SYN|ACK: the handshake continues.
    Accept,
    /// RST: refused.
    Refuse,
    /// An ICMP error, from this address (`None`: from the destination itself).
    Unreachable {
        /// The error.
        error: IcmpError,
        /// Its source address.
        from: Option<IpAddr>,
    },
    /// No answer.
    Drop,
}

/// Keep-alive parameters (RFC 9293 section 3.8.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Idle time before the first probe.
    pub idle: Duration,
    /// Time between probes.
    pub interval: Duration,
    /// Number of unanswered probes after which the connection ends.
    pub count: u32,
}

impl Default for Keepalive {
    /// Two hours, 75 seconds, 9 probes.
    fn default() -> Self {
        Self { idle: Duration::from_secs(7200), interval: Duration::from_secs(75), count: 9 }
    }
}

/// The state of congestion control, named as Linux's `tcpi_ca_state`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CaState {
    /// No loss, no reordering.
    #[default]
    Open,
    /// Data has arrived beyond a gap, which may be reordering.
    Disorder,
    /// The congestion window is reduced because of ECN marks.
    Cwr,
    /// Fast recovery from a loss.
    Recovery,
    /// The retransmission timer has expired.
    Loss,
}
