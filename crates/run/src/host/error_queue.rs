//! The error queue of a socket (`recvmsg` with `MSG_ERRQUEUE`, ip(7)): which ICMP error was received from which sender.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};

use super::hops;
use super::socket::socket_address;
use lastack_wire::icmp::IcmpError;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt};

/// `SO_EE_ORIGIN_ICMP` and `SO_EE_ORIGIN_ICMP6` of linux/errqueue.h: the error came as a packet.
const ORIGIN_ICMP: u8 = 2;
const ORIGIN_ICMP6: u8 = 3;

/// An entry of the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuedError {
    /// The kernel's errno for it.
    pub errno: i32,
    /// The ICMP error and its sender; `None` if the host's own kernel is the origin.
    pub icmp: Option<(IcmpError, Option<IpAddr>)>,
    /// The destination of the packet in question, if the socket is unconnected.
    pub to: Option<SocketAddr>,
    /// The MTU that the packet exceeded, if this host reports it (`EMSGSIZE`).
    pub mtu: Option<u32>,
    /// The quoted part of the payload of the packet in question. Empty for TCP.
    pub payload: Vec<u8>,
}

/// Enables or disables the error queue. A connecting IPv4 TCP socket has a queue by default; an IPv6 one does not.
pub fn enable(socket: &impl AsFd, v6: bool, enabled: bool) -> io::Result<()> {
    if v6 {
        setsockopt(&socket.as_fd(), sockopt::Ipv6RecvErr, &enabled)?;
    } else {
        setsockopt(&socket.as_fd(), sockopt::Ipv4RecvErr, &enabled)?;
    }
    Ok(())
}

/// As [`first`], of a socket that does not receive hop limits. That of the error is noted ([`hops`]).
pub fn first_with_hop_limit(socket: &impl AsFd, v6: bool) -> Option<QueuedError> {
    // Without it the hop limit is not known. It need not be set when the error arrives.
    let _unknown = if v6 {
        setsockopt(&socket.as_fd(), sockopt::Ipv6RecvHopLimit, &true)
    } else {
        setsockopt(&socket.as_fd(), sockopt::Ipv4RecvTtl, &true)
    };
    first(socket)
}

/// Takes one entry. [`io::ErrorKind::WouldBlock`]: the queue is empty.
pub fn take(socket: &impl AsFd) -> io::Result<QueuedError> {
    let mut payload = vec![0; 2048];
    // The header fields that the socket receives are also attached to errors.
    let mut control = nix::cmsg_space!(libc::sock_extended_err, libc::sockaddr_in6, i32, i32, i32);
    let (length, to, error) = {
        let mut buffers = [IoSliceMut::new(&mut payload)];
        let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
        let message =
            recvmsg::<SockaddrStorage>(socket.as_fd().as_raw_fd(), &mut buffers, Some(&mut control), flags)?;
        let to = message.address.as_ref().and_then(socket_address);
        let (mut error, mut hop_limit) = (None, None);
        for control in message.cmsgs()? {
            match control {
                ControlMessageOwned::Ipv4Ttl(hops) | ControlMessageOwned::Ipv6HopLimit(hops) => {
                    hop_limit = u8::try_from(hops).ok();
                }
                other => error = read_message(other).or(error),
            }
        }
        if let (Some((_, Some(from))), Some(hop_limit)) = (&error, hop_limit) {
            hops::note(*from, hop_limit);
        }
        (message.bytes, to, error)
    };
    payload.truncate(length);
    let Some((error, from)) = error else {
        return Err(io::Error::other("an entry of the error queue reports no error"));
    };
    let icmp = matches!(error.ee_origin, ORIGIN_ICMP | ORIGIN_ICMP6).then(|| (icmp_of(&error), from));
    let errno = error.ee_errno as i32;
    let mtu = (icmp.is_none() && errno == libc::EMSGSIZE).then_some(error.ee_info);
    Ok(QueuedError { errno, icmp, to, mtu, payload })
}

/// The first entry, if there is one.
pub fn first(socket: &impl AsFd) -> Option<QueuedError> {
    take(socket).ok()
}

fn read_message(message: ControlMessageOwned) -> Option<(libc::sock_extended_err, Option<IpAddr>)> {
    match message {
        ControlMessageOwned::Ipv4RecvErr(error, from) => {
            let from = from.map(|from| IpAddr::V4(Ipv4Addr::from(u32::from_be(from.sin_addr.s_addr))));
            Some((error, from.filter(|from| !from.is_unspecified())))
        }
        ControlMessageOwned::Ipv6RecvErr(error, from) => {
            let from = from.map(|from| IpAddr::V6(Ipv6Addr::from(from.sin6_addr.s6_addr)));
            Some((error, from.filter(|from| !from.is_unspecified())))
        }
        _ => None,
    }
}

fn icmp_of(error: &libc::sock_extended_err) -> IcmpError {
    let v6 = error.ee_origin == ORIGIN_ICMP6;
    // The kernel gives the number alone; a pointer (RFC 792) is in the first byte of the word.
    let info = if !v6 && error.ee_type == 12 { error.ee_info << 24 } else { error.ee_info };
    IcmpError { v6, kind: error.ee_type, code: error.ee_code, info }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::time::Duration;

    use super::*;

    /// Waits, for as long as a test may take, until the kernel has put something into the queue.
    fn wait_for(socket: &UdpSocket) -> QueuedError {
        loop {
            match take(socket) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    std::thread::sleep(Duration::from_millis(1))
                }
                other => return other.unwrap(),
            }
        }
    }

    fn refused(address: &str, error: IcmpError) {
        // A port of this host without a receiver.
        let closed = UdpSocket::bind((address, 0)).unwrap().local_addr().unwrap();
        let socket = UdpSocket::bind((address, 0)).unwrap();
        enable(&socket, closed.is_ipv6(), true).unwrap();
        socket.connect(closed).unwrap();
        socket.send(b"knock").unwrap();
        let queued = wait_for(&socket);
        assert_eq!(queued.errno, libc::ECONNREFUSED);
        assert_eq!(queued.icmp, Some((error, Some(address.parse().unwrap()))));
        assert_eq!(queued.payload, b"knock");
    }

    #[test]
    fn port_unreachable_names_type_code_sender_and_payload() {
        refused("127.0.0.1", IcmpError::port_unreachable(false));
        refused("::1", IcmpError::port_unreachable(true));
    }

    #[test]
    fn an_empty_queue_would_block() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(take(&socket).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(first(&socket), None);
    }
}
