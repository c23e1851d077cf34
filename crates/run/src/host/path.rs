//! The MTU of this host's path to the outside.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;

use socket2::{Domain, Protocol, Socket, Type};

use super::source::Source;

/// The MTU of the default route from there; `None`: there is no such route.
pub fn path_mtu(v6: bool, source: &Source) -> Option<u32> {
    // Documentation addresses (RFC 3849, RFC 5737), reached by the default route only. Nothing is sent.
    let to: SocketAddr = if v6 {
        (Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1), 9).into()
    } else {
        (Ipv4Addr::new(203, 0, 113, 1), 9).into()
    };
    let socket = Socket::new(Domain::for_address(to), Type::DGRAM, Some(Protocol::UDP)).ok()?;
    source.apply(&socket, to.ip()).ok()?;
    socket.connect(&to.into()).ok()?;
    let (level, option) =
        if v6 { (libc::IPPROTO_IPV6, libc::IPV6_MTU) } else { (libc::IPPROTO_IP, libc::IP_MTU) };
    let mut mtu: libc::c_int = 0;
    let mut length = size_of_val(&mtu) as libc::socklen_t;
    // SAFETY: the kernel writes no more than `length` bytes to `mtu`, which lives until the call returns.
    let result = unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, option, (&raw mut mtu).cast(), &raw mut length)
    };
    (result == 0).then(|| u32::try_from(mtu).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_the_mtu_of_an_interface() {
        for v6 in [false, true] {
            // Without a default route there is none.
            if let Some(mtu) = path_mtu(v6, &Source::default()) {
                assert!((576..=65_536).contains(&mtu), "{mtu}");
            }
        }
    }
}
