//! Socket queries and options beyond those of std and tokio.

use std::io;
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd};

use lastack::IpFields;
use nix::sys::socket::{ControlMessageOwned, SockaddrStorage};

/// Bytes written to a TCP socket that are not acknowledged yet, according to the host's kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outstanding {
    /// Never sent.
    pub unsent: u64,
    /// Sent and not acknowledged.
    pub unacked: u64,
    /// The FIN is not acknowledged.
    pub fin: bool,
}

impl Outstanding {
    /// The sum.
    pub fn total(self) -> u64 {
        self.unsent + self.unacked
    }

    /// Whether everything is acknowledged, including the FIN.
    pub fn is_empty(self) -> bool {
        self.total() == 0 && !self.fin
    }
}

/// `SIOCOUTQ` and `SIOCOUTQNSD` (tcp(7)): bytes written and not acknowledged, and those of them never sent. They work
/// after a reset too. `fin`: our direction is shut down, and the FIN counts as one byte until it is acknowledged.
pub fn outstanding(socket: &impl AsFd, fin: bool) -> io::Result<Outstanding> {
    let unacknowledged = queued(socket, libc::TIOCOUTQ)?;
    if unacknowledged == 0 {
        return Ok(Outstanding::default());
    }
    let unsent = queued(socket, SIOCOUTQNSD)?.min(unacknowledged);
    let last = u64::from(fin);
    let data_unsent = unsent.saturating_sub(last);
    let unacked = unacknowledged.saturating_sub(last + data_unsent);
    Ok(Outstanding { unsent: data_unsent, unacked, fin })
}

/// Makes the socket of a connection send RST (`Rule::RstAbort`) when it is closed.
pub fn close_with_reset(socket: &impl AsFd) {
    // Fails only on a descriptor that is not a socket.
    let _never = socket2::SockRef::from(socket).set_linger(Some(std::time::Duration::ZERO));
}

/// linux/sockios.h.
const SIOCOUTQNSD: libc::Ioctl = 0x894b;

fn queued(socket: &impl AsFd, request: libc::Ioctl) -> io::Result<u64> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: both requests write one int to where the pointer points, and `octets` lives until the call returns.
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), request, &raw mut bytes) };
    nix::errno::Errno::result(result)?;
    Ok(bytes.try_into().unwrap_or(0))
}

/// An IP option with an integer value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpOption {
    /// `IP_MTU_DISCOVER` (ip(7)).
    MtuDiscoverV4,
    /// `IPV6_MTU_DISCOVER` (ipv6(7)).
    MtuDiscoverV6,
    /// `IP_MULTICAST_ALL`.
    MulticastAllV4,
    /// `IPV6_MULTICAST_ALL`.
    MulticastAllV6,
    /// `IP_TTL`.
    Ttl,
    /// `IPV6_UNICAST_HOPS`.
    UnicastHops,
    /// `IP_TOS`.
    Tos,
    /// `IPV6_TCLASS`.
    TrafficClass,
    /// `IP_BIND_ADDRESS_NO_PORT`, of both families.
    BindAddressNoPort,
}

/// Sets an option.
pub fn set_option(socket: &impl AsFd, option: IpOption, value: libc::c_int) -> io::Result<()> {
    let (level, name) = match option {
        IpOption::MtuDiscoverV4 => (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER),
        IpOption::MtuDiscoverV6 => (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER),
        IpOption::MulticastAllV4 => (libc::IPPROTO_IP, libc::IP_MULTICAST_ALL),
        IpOption::MulticastAllV6 => (libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_ALL),
        IpOption::Ttl => (libc::IPPROTO_IP, libc::IP_TTL),
        IpOption::UnicastHops => (libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS),
        IpOption::Tos => (libc::IPPROTO_IP, libc::IP_TOS),
        IpOption::TrafficClass => (libc::IPPROTO_IPV6, libc::IPV6_TCLASS),
        IpOption::BindAddressNoPort => (libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT),
    };
    let length = size_of_val(&value) as libc::socklen_t;
    // SAFETY: each of these options is one int, and `value` lives until the call returns.
    let result = unsafe {
        libc::setsockopt(socket.as_fd().as_raw_fd(), level, name, (&raw const value).cast(), length)
    };
    nix::errno::Errno::result(result)?;
    Ok(())
}

/// `IPV6_PMTUDISC_WANT` of linux/in6.h.
const IPV6_PMTUDISC_WANT: libc::c_int = 1;

/// Whether sent datagrams must not be fragmented: they then have the DF bit, and one that exceeds the known path MTU
/// fails with `EMSGSIZE`.
pub fn set_dont_fragment(socket: &impl AsFd, v6: bool, whole: bool) -> io::Result<()> {
    let (option, value) = match (v6, whole) {
        (false, true) => (IpOption::MtuDiscoverV4, libc::IP_PMTUDISC_DO),
        (false, false) => (IpOption::MtuDiscoverV4, libc::IP_PMTUDISC_DONT),
        (true, true) => (IpOption::MtuDiscoverV6, libc::IPV6_PMTUDISC_DO),
        (true, false) => (IpOption::MtuDiscoverV6, IPV6_PMTUDISC_WANT),
    };
    set_option(socket, option, value)
}

/// The fields of an IP header, as received in control messages. The DF bit is not reported.
pub fn header_fields(controls: impl IntoIterator<Item = ControlMessageOwned>) -> IpFields {
    let mut ip = IpFields { hop_limit: 64, traffic_class: 0, dont_fragment: false };
    for control in controls {
        match control {
            ControlMessageOwned::Ipv4Ttl(hops) | ControlMessageOwned::Ipv6HopLimit(hops) => {
                ip.hop_limit = hops.try_into().unwrap_or(ip.hop_limit);
            }
            ControlMessageOwned::Ipv4Tos(class) => ip.traffic_class = class,
            ControlMessageOwned::Ipv6TClass(class) => ip.traffic_class = class as u8,
            _ => {}
        }
    }
    ip
}

/// Sets hop limit and traffic class of sent packets.
pub fn set_header_fields(socket: &impl AsFd, v6: bool, ip: IpFields) -> io::Result<()> {
    let (hops, class) =
        if v6 { (IpOption::UnicastHops, IpOption::TrafficClass) } else { (IpOption::Ttl, IpOption::Tos) };
    set_option(socket, hops, ip.hop_limit.into())?;
    set_option(socket, class, ip.traffic_class.into())
}

/// `SO_MEMINFO` (linux/sock_diag.h): packets that were dropped because the receive buffer of the socket was full.
pub fn dropped(socket: &impl AsFd) -> u64 {
    let mut info = [0_u32; libc::SK_MEMINFO_DROPS as usize + 1];
    let mut length = size_of_val(&info) as libc::socklen_t;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the kernel writes no more than `length` bytes to `info`, which lives until the call returns.
    let result = unsafe {
        libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_MEMINFO, info.as_mut_ptr().cast(), &raw mut length)
    };
    // A kernel that does not count drops reports none.
    if result == 0 { info[libc::SK_MEMINFO_DROPS as usize].into() } else { 0 }
}

/// The address and port in a socket address of the kernel, with the IPv6 scope.
pub fn socket_address(address: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = address.as_sockaddr_in() {
        return Some(SocketAddrV4::from(*v4).into());
    }
    address.as_sockaddr_in6().map(|v6| SocketAddrV6::from(*v6).into())
}

/// The name of an errno, such as `ECONNRESET`.
pub fn errno_name(errno: i32) -> String {
    let name = nix::errno::Errno::from_raw(errno);
    if name == nix::errno::Errno::UnknownErrno { format!("errno {errno}") } else { format!("{name:?}") }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpListener, TcpStream};

    use super::*;

    #[test]
    fn data_the_peer_has_not_acknowledged_is_outstanding() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut far, _) = listener.accept().unwrap();
        near.write_all(b"12345").unwrap();
        far.read_exact(&mut [0; 5]).unwrap();
        // Loopback acknowledges within the call; so does the peer's FIN.
        near.shutdown(Shutdown::Write).unwrap();
        assert_eq!(far.read(&mut [0]).unwrap(), 0);
        assert_eq!(outstanding(&near, true).unwrap().total(), 0);

        near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (far, _) = listener.accept().unwrap();
        near.set_nonblocking(true).unwrap();
        let mut written = 0;
        while let Ok(n) = near.write(&[0; 65536]) {
            written += n as u64;
        }
        let waiting = outstanding(&near, false).unwrap();
        assert!(waiting.unsent > 0 && waiting.total() <= written, "{waiting:?} of {written}");
        drop(far);
    }

    #[test]
    fn errnos_have_names() {
        assert_eq!(errno_name(libc::ECONNRESET), "ECONNRESET");
        assert_eq!(errno_name(4095), "errno 4095");
    }
}
