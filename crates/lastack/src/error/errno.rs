//! Linux's errno values (x86, Arm, RISC-V; `asm-generic/errno.h`).

use super::HostError;
use lastack_engine::{BindError, ConnectError, EchoError, RawError, TcpError, UdpError};
use std::io::ErrorKind;

pub(super) const EAGAIN: i32 = 11;
const EACCES: i32 = 13;
const EINVAL: i32 = 22;
const EPIPE: i32 = 32;
const ENONET: i32 = 64;
const EPROTO: i32 = 71;
const EDESTADDRREQ: i32 = 89;
const EMSGSIZE: i32 = 90;
const ENOPROTOOPT: i32 = 92;
const EOPNOTSUPP: i32 = 95;
const EADDRINUSE: i32 = 98;
const EADDRNOTAVAIL: i32 = 99;
const ENETDOWN: i32 = 100;
const ENETUNREACH: i32 = 101;
const ECONNABORTED: i32 = 103;
const ECONNRESET: i32 = 104;
const ENOTCONN: i32 = 107;
const ETIMEDOUT: i32 = 110;
const ECONNREFUSED: i32 = 111;
const EHOSTDOWN: i32 = 112;
const EHOSTUNREACH: i32 = 113;

pub(super) const fn of_tcp(error: TcpError) -> i32 {
    match error {
        TcpError::Refused => ECONNREFUSED,
        TcpError::Reset => ECONNRESET,
        TcpError::Aborted => ECONNABORTED,
        TcpError::TimedOut => ETIMEDOUT,
        TcpError::HostUnreachable => EHOSTUNREACH,
        TcpError::NetworkUnreachable => ENETUNREACH,
        TcpError::ProtocolUnreachable => ENOPROTOOPT,
        TcpError::Prohibited => EACCES,
        TcpError::BrokenPipe => EPIPE,
        TcpError::NotConnected => ENOTCONN,
        _ => EPROTO,
    }
}

pub(super) const fn of_udp(error: UdpError) -> i32 {
    match error {
        UdpError::Refused => ECONNREFUSED,
        UdpError::HostUnreachable => EHOSTUNREACH,
        UdpError::NetworkUnreachable => ENETUNREACH,
        UdpError::ProtocolUnreachable => ENOPROTOOPT,
        UdpError::Prohibited => EACCES,
        UdpError::HostDown => EHOSTDOWN,
        UdpError::HostIsolated => ENONET,
        UdpError::MessageTooLong => EMSGSIZE,
        UdpError::NotConnected => EDESTADDRREQ,
        UdpError::NoAddress => EADDRNOTAVAIL,
        UdpError::NotUnicast => EINVAL,
        UdpError::OwnAddress => EOPNOTSUPP,
        UdpError::InUse => EADDRINUSE,
        UdpError::Full => EAGAIN,
        _ => EPROTO,
    }
}

pub(super) const fn of_bind(error: BindError) -> i32 {
    match error {
        BindError::InUse | BindError::NoPort => EADDRINUSE,
        _ => EADDRNOTAVAIL,
    }
}

pub(super) const fn of_connect(error: ConnectError) -> i32 {
    match error {
        ConnectError::Bind(BindError::NoPort) => EADDRNOTAVAIL,
        ConnectError::Bind(error) => of_bind(error),
        ConnectError::NoAddress | ConnectError::NotUnicast => ENETUNREACH,
        ConnectError::NoRemotePort => EINVAL,
        ConnectError::OwnAddress => EOPNOTSUPP,
        _ => EINVAL,
    }
}

pub(super) const fn of_raw(error: RawError) -> i32 {
    match error {
        RawError::NotOurs => EADDRNOTAVAIL,
        RawError::BadDestination => ENETUNREACH,
        RawError::OwnAddress => EOPNOTSUPP,
        RawError::TooLong => EMSGSIZE,
        RawError::NoSpace => EAGAIN,
        _ => EINVAL,
    }
}

pub(super) const fn of_echo(error: EchoError) -> i32 {
    match error {
        EchoError::Unreachable { error, .. } => of_tcp(TcpError::from_icmp(error)),
        EchoError::NotOurs => EADDRNOTAVAIL,
        EchoError::NoAddress | EchoError::NotUnicast => ENETUNREACH,
        EchoError::OwnAddress => EOPNOTSUPP,
        EchoError::TooLong => EMSGSIZE,
        EchoError::NoSpace => EAGAIN,
        _ => EPROTO,
    }
}

pub(super) fn of_host(error: &HostError) -> i32 {
    match error {
        HostError::LinkFailed(error) => error.raw_os_error().unwrap_or(ENETDOWN),
        HostError::Panicked(_) | HostError::DriverDropped | HostError::ShutDown => ENETDOWN,
    }
}

/// The errno of an error without an inner error.
pub(super) const fn of_kind(kind: ErrorKind) -> Option<i32> {
    Some(match kind {
        ErrorKind::WouldBlock => EAGAIN,
        ErrorKind::InvalidInput => EINVAL,
        ErrorKind::AddrInUse => EADDRINUSE,
        ErrorKind::NotConnected => ENOTCONN,
        _ => return None,
    })
}
