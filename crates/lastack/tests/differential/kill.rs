//! The administrator of Linux: `SOCK_DESTROY` over netlink, as `ss -K` does it.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::AsRawFd,
};

use nix::{
    errno::Errno,
    sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket},
};

/// `linux/sock_diag.h`, which the libc crate does not have.
const SOCK_DESTROY: u16 = 21;
/// Whatever state it is in.
const ALL_STATES: u32 = u32::MAX;
/// `INET_DIAG_NOCOOKIE`
const NO_COOKIE: [u32; 2] = [u32::MAX; 2];
/// Bytes of a `struct nlmsghdr`, and of a `struct inet_diag_req_v2`.
const HEADER: usize = 16;
const REQUEST: usize = 56;

/// Kills the connection between these ends; or, if there is none or `remote` is unspecified, the listener at
/// `local`.
pub fn kill(local: SocketAddr, remote: SocketAddr) -> io::Result<()> {
    let netlink = socket(
        AddressFamily::Netlink,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkSockDiag,
    )?;
    send(netlink.as_raw_fd(), &request(local, remote), MsgFlags::empty())?;
    let mut answer = [0; 256];
    let len = recv(netlink.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    // NLMSG_ERROR: a header, and an errno below zero, or zero.
    let errno = answer[..len].get(HEADER..HEADER + 4).ok_or_else(|| io::Error::other("no netlink answer"))?;
    match i32::from_ne_bytes([errno[0], errno[1], errno[2], errno[3]]) {
        0 => Ok(()),
        errno => Err(Errno::from_raw(-errno).into()),
    }
}

fn request(local: SocketAddr, remote: SocketAddr) -> Vec<u8> {
    let mut message = Vec::with_capacity(HEADER + REQUEST);
    message.extend(((HEADER + REQUEST) as u32).to_ne_bytes());
    message.extend(SOCK_DESTROY.to_ne_bytes());
    message.extend(((libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16).to_ne_bytes());
    message.extend([0; 8]); // sequence number and port: nobody else answers here
    let family = if local.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    message.extend([family as u8, libc::IPPROTO_TCP as u8, 0, 0]);
    message.extend(ALL_STATES.to_ne_bytes());
    message.extend(local.port().to_be_bytes());
    message.extend(remote.port().to_be_bytes());
    for end in [local, remote] {
        let mut address = [0; 16];
        match end.ip() {
            IpAddr::V4(ip) => address[..4].copy_from_slice(&ip.octets()),
            IpAddr::V6(ip) => address = ip.octets(),
        }
        message.extend(address);
    }
    message.extend([0; 4]); // any interface
    message.extend(NO_COOKIE.into_iter().flat_map(u32::to_ne_bytes));
    message
}
