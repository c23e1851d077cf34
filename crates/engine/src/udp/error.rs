//! Errors of UDP socket calls.

use core::fmt;
use lastack_wire::icmp::IcmpError;

/// The error of a call on a UDP socket, with the errno of Linux. The first group comes from ICMP
/// errors about datagrams of a connected socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum UdpError {
    /// ECONNREFUSED: the peer has no socket on the port.
    Refused,
    /// EHOSTUNREACH
    HostUnreachable,
    /// ENETUNREACH
    NetworkUnreachable,
    /// ENOPROTOOPT: the peer does not support UDP.
    ProtocolUnreachable,
    /// EACCES: communication is administratively prohibited.
    Prohibited,
    /// EPROTO: a router or the peer reported a malformed packet.
    Protocol,
    /// EHOSTDOWN: the peer's address is unknown on its network.
    HostDown,
    /// ENONET: the peer is isolated.
    HostIsolated,
    /// EMSGSIZE: the datagram is too large for UDP, or for the path if it must not be fragmented.
    MessageTooLong,
    /// EDESTADDRREQ: the socket is not connected and the call names no destination.
    NotConnected,
    /// EADDRNOTAVAIL: the source address is not an address of this host.
    NoAddress,
    /// EINVAL: the destination is not a unicast address, or its port is 0.
    NotUnicast,
    /// EOPNOTSUPP: the destination is this host itself, and there is no loopback.
    OwnAddress,
    /// EADDRINUSE: another socket is connected with the same four-tuple.
    InUse,
    /// EAGAIN: the send queue is full. `Event::UdpWritable` follows.
    Full,
}

impl UdpError {
    /// The error that an ICMP error causes on a connected socket; `None` if it is transient. As Linux;
    /// RFC 1122 section 4.1.3.3 only requires that errors are passed up.
    ///
    /// ```
    /// use lastack_engine::UdpError;
    /// use lastack_wire::IcmpError;
    ///
    /// assert_eq!(UdpError::from_icmp(IcmpError::port_unreachable(false)), Some(UdpError::Refused));
    /// assert_eq!(UdpError::from_icmp(IcmpError::host_unreachable(false)), None);
    /// ```
    pub const fn from_icmp(icmp: IcmpError) -> Option<Self> {
        if icmp.v6 {
            Self::from_icmp_v6(icmp.kind, icmp.code)
        } else {
            Self::from_icmp_v4(icmp.kind, icmp.code)
        }
    }

    const fn from_icmp_v4(kind: u8, code: u8) -> Option<Self> {
        Some(match (kind, code) {
            (3, 2) => Self::ProtocolUnreachable,
            (3, 3) => Self::Refused,
            (3, 4) => Self::MessageTooLong,
            (3, 6 | 9) => Self::NetworkUnreachable,
            (3, 7) => Self::HostDown,
            (3, 8) => Self::HostIsolated,
            (3, 10 | 13..=15) => Self::HostUnreachable,
            (12, _) => Self::Protocol,
            _ => return None,
        })
    }

    const fn from_icmp_v6(kind: u8, code: u8) -> Option<Self> {
        Some(match (kind, code) {
            (1, 0 | 2 | 3) => return None,
            (1, 1 | 5 | 6) => Self::Prohibited,
            (1, 4) => Self::Refused,
            (1, _) | (4, _) => Self::Protocol,
            (2, _) => Self::MessageTooLong,
            _ => return None,
        })
    }
}

impl fmt::Display for UdpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused => "connection refused: no socket uses the peer's port",
            Self::HostUnreachable => "host unreachable",
            Self::NetworkUnreachable => "network unreachable",
            Self::ProtocolUnreachable => "protocol unreachable",
            Self::Prohibited => "administratively prohibited",
            Self::Protocol => "protocol error",
            Self::HostDown => "host unknown on its network",
            Self::HostIsolated => "host isolated",
            Self::MessageTooLong => "message too long",
            Self::NotConnected => "not connected: name the destination",
            Self::NoAddress => "this host has no such address to send from",
            Self::NotUnicast => "the destination is not a unicast address and port",
            Self::OwnAddress => "the destination is this host's own, and a host has no loopback",
            Self::InUse => "another socket is connected to that peer from the same address",
            Self::Full => "the queue of datagrams to be sent is full",
        })
    }
}

impl core::error::Error for UdpError {}
