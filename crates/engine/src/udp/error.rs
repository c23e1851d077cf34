//! Errors of UDP socket calls.

use core::fmt;
use lastack_wire::icmp::IcmpError;

/// What a call on a UDP socket fails with, named as the errno of Linux. The first group comes from
/// ICMP errors about what a connected socket sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum UdpError {
    /// ECONNREFUSED: nobody uses the peer's port.
    Refused,
    /// EHOSTUNREACH
    HostUnreachable,
    /// ENETUNREACH
    NetworkUnreachable,
    /// ENOPROTOOPT: the peer does not speak UDP.
    ProtocolUnreachable,
    /// EACCES: somebody forbids the communication.
    Prohibited,
    /// EPROTO: somebody found the packet wrong.
    Protocol,
    /// EHOSTDOWN: the peer is not known on its network.
    HostDown,
    /// ENONET: the peer is isolated.
    HostIsolated,
    /// EMSGSIZE: the datagram is too large, for UDP or for a path on which it must not be fragmented.
    MessageTooLong,
    /// EDESTADDRREQ: the socket is not connected and the call names no destination.
    NotConnected,
    /// EADDRNOTAVAIL: this host has no such address to send from.
    NoAddress,
    /// EINVAL: the destination cannot be one host's, or its port is 0.
    NotUnicast,
    /// EOPNOTSUPP: the destination is this host itself, and there is no loopback.
    OwnAddress,
    /// EADDRINUSE: another socket is connected from there to that peer.
    InUse,
    /// EAGAIN: the queue of datagrams to be sent is full. `Event::UdpWritable` follows.
    Full,
}

impl UdpError {
    /// What an ICMP error means to a connected socket, if it is one that does not pass. As
    /// Linux; RFC 1122 section 4.1.3.3 asks only that errors are passed up.
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
            Self::Refused => "connection refused: nobody uses the peer's port",
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
            Self::NotUnicast => "the destination is not a port of one host",
            Self::OwnAddress => "the destination is this host's own, and a host has no loopback",
            Self::InUse => "another socket is connected to that peer from the same address",
            Self::Full => "the queue of datagrams to be sent is full",
        })
    }
}

impl core::error::Error for UdpError {}
