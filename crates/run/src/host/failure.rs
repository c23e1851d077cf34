//! Why the host could not reach a remote.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};

use lastack_wire::icmp::IcmpError;

use super::error_queue::QueuedError;
use super::socket::errno_name;

/// A failed attempt to reach a remote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The errno of the host's kernel.
    pub errno: i32,
    /// The origin of the failure.
    pub said: Said,
}

/// The origin of the failure to reach a remote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// The remote, with a reset.
    Reset,
    /// A router or host, with an ICMP error.
    Icmp(IcmpError, Option<IpAddr>),
    /// A timeout: no answer came for as long as the host's kernel tries.
    Nothing,
    /// The host itself, before a packet was sent: it has no route, or its neighbour does not answer.
    NoRoute,
    /// The host itself: its firewall forbids it.
    Forbidden,
    /// The host itself: every local port is in use for that destination.
    NoPort,
    /// The host itself: the addresses to which its sockets are bound have none of the remote's family.
    Unbound,
    /// The host itself, for lack of another resource (descriptors, memory).
    Host,
}

/// Code of "destination unreachable" (RFC 1122 section 3.2.2.1).
const NETWORK_UNKNOWN: u8 = 6;

impl Failure {
    /// From the error of a failed call, and the entry in the error queue of the socket.
    pub fn new(error: &io::Error, queued: Option<QueuedError>) -> Self {
        let errno = error.raw_os_error().unwrap_or(libc::EIO);
        if let Some(QueuedError { icmp: Some((icmp, from)), .. }) = queued {
            return Self { errno, said: Said::Icmp(icmp, from) };
        }
        let said = match errno {
            libc::ECONNREFUSED | libc::ECONNRESET => Said::Reset,
            libc::ETIMEDOUT => Said::Nothing,
            libc::ENETUNREACH | libc::EHOSTUNREACH | libc::ENETDOWN | libc::EHOSTDOWN | libc::ENONET => {
                Said::NoRoute
            }
            libc::EACCES | libc::EPERM => Said::Forbidden,
            // No address of that family, or none from which the remote can be reached: equivalent to no route.
            libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL | libc::EINVAL => Said::NoRoute,
            _ => Said::Host,
        };
        Self { errno, said }
    }

    /// Why an attempt to connect to `remote` failed.
    ///
    /// `EADDRNOTAVAIL` has two causes: no address of this host from which `remote` can be reached, or no free port. A
    /// datagram socket, which needs the address alone, distinguishes them.
    pub fn of_attempt(remote: SocketAddr, error: &io::Error, queued: Option<QueuedError>) -> Self {
        let failure = Self::new(error, queued);
        if failure.errno != libc::EADDRNOTAVAIL {
            return failure;
        }
        // IPv4 reports ENETUNREACH if an address is missing.
        let has_address = remote.is_ipv4()
            || UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))
                .map_or(true, |socket| socket.connect(remote).is_ok());
        if has_address { Self { said: Said::NoPort, ..failure } } else { failure }
    }

    /// As [`new`](Self::new) without a queue.
    pub fn local(error: &io::Error) -> Self {
        Self::new(error, None)
    }

    /// The ICMP error by which a router would report what the host itself reports.
    pub fn as_icmp(&self, v6: bool) -> IcmpError {
        match (self.said, self.errno) {
            (Said::Icmp(error, _), _) if error.v6 == v6 => error,
            (Said::Forbidden, _) => IcmpError::admin_prohibited(v6),
            (Said::NoPort, _) => IcmpError::host_unreachable(v6),
            (
                _,
                libc::ENETUNREACH | libc::ENETDOWN | libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL | libc::EINVAL,
            ) => IcmpError::net_unreachable(v6),
            (_, libc::ECONNREFUSED) => IcmpError::port_unreachable(v6),
            _ => IcmpError::host_unreachable(v6),
        }
    }

    /// The same for a datagram, whose socket gets an error only if it is a lasting one (RFC 1122 section 4.1.3.3): of a
    /// host without a route the next call reports `ENETUNREACH`. ICMPv6 has no such error.
    pub fn as_icmp_about_datagram(&self, v6: bool) -> IcmpError {
        match (self.said, self.errno) {
            (Said::NoRoute, libc::ENETUNREACH) if !v6 => {
                IcmpError { code: NETWORK_UNKNOWN, ..IcmpError::net_unreachable(false) }
            }
            _ => self.as_icmp(v6),
        }
    }

    /// The name of the errno.
    pub fn errno_name(&self) -> String {
        errno_name(self.errno)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::local(&error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.said {
            Said::Reset => f.write_str("refused (RST)"),
            Said::Icmp(icmp, from) => {
                let word = if self.errno == libc::ECONNREFUSED { "refused" } else { "unreachable" };
                write!(f, "{word} (ICMP {icmp}")?;
                from.map_or(Ok(()), |from| write!(f, " from {from}"))?;
                f.write_str(")")
            }
            Said::Nothing => f.write_str("no answer"),
            Said::NoRoute => write!(f, "unreachable ({} from the host itself, no ICMP)", self.errno_name()),
            Said::Forbidden => write!(f, "forbidden ({} from the host itself)", self.errno_name()),
            Said::NoPort => {
                f.write_str("failed (EADDRNOTAVAIL: this host has no free port for the destination)")
            }
            Said::Unbound => f.write_str("unreachable (no address of that family is bound)"),
            Said::Host => {
                write!(f, "failed ({}: {})", self.errno_name(), io::Error::from_raw_os_error(self.errno))
            }
        }
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_errno_alone_is_distinguished_from_one_with_a_packet() {
        let refused = io::Error::from_raw_os_error(libc::ECONNREFUSED);
        assert_eq!(Failure::local(&refused).to_string(), "refused (RST)");
        let icmp = IcmpError::port_unreachable(false);
        let queued = |icmp| {
            Some(QueuedError { errno: libc::ECONNREFUSED, icmp, to: None, mtu: None, payload: vec![] })
        };
        let by_icmp = Failure::new(&refused, queued(Some((icmp, Some("192.0.2.1".parse().unwrap())))));
        assert_eq!(by_icmp.to_string(), "refused (ICMP port unreachable (3/3) from 192.0.2.1)");
        assert_eq!(Failure::new(&refused, queued(None)).said, Said::Reset);
    }

    #[test]
    fn local_causes_are_not_blamed_on_the_network() {
        for (errno, said) in [
            (libc::ENETUNREACH, Said::NoRoute),
            (libc::EHOSTUNREACH, Said::NoRoute),
            (libc::ETIMEDOUT, Said::Nothing),
            (libc::EACCES, Said::Forbidden),
            (libc::EMFILE, Said::Host),
        ] {
            assert_eq!(Failure::local(&io::Error::from_raw_os_error(errno)).said, said);
        }
    }

    #[test]
    fn the_lack_of_a_free_port_is_no_missing_route() {
        let error = io::Error::from_raw_os_error(libc::EADDRNOTAVAIL);
        let failure = Failure::of_attempt("192.0.2.1:9".parse().unwrap(), &error, None);
        assert_eq!(failure.said, Said::NoPort);
        assert!(failure.to_string().contains("no free port"), "{failure}");
        assert_eq!(failure.as_icmp(false), IcmpError::host_unreachable(false));
    }

    #[test]
    fn a_datagram_without_a_route_gets_a_lasting_error() {
        let no_route = Failure::local(&io::Error::from_raw_os_error(libc::ENETUNREACH));
        assert_eq!(no_route.as_icmp_about_datagram(false).to_string(), "destination network unknown (3/6)");
        assert_eq!(no_route.as_icmp_about_datagram(true), IcmpError::net_unreachable(true));
        let by_router = Failure { said: Said::Icmp(IcmpError::net_unreachable(false), None), ..no_route };
        assert_eq!(by_router.as_icmp_about_datagram(false), IcmpError::net_unreachable(false));
    }
}
