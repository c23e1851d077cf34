//! The states of the kernel's connection, from sock_diag(7).

use super::message::Message;
use lastack_engine::{FourTuple, TcpState};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::thread;
use std::time::Duration;

/// The polling interval: much shorter than that of packets.
const INTERVAL: Duration = Duration::from_millis(1);

/// SOCK_DIAG_BY_FAMILY (linux/sock_diag.h).
const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// The sizes in bytes of nlmsghdr and inet_diag_req_v2 (linux/inet_diag.h).
const HEADER: usize = 16;
const REQUEST: usize = 56;

/// Reports each change of the connection's state, forever; nothing if sock_diag is not available.
pub(super) fn watch(flow: FourTuple, say: impl Fn(&str)) {
    let Ok(diag) = Diag::open() else { return };
    let mut known = TcpState::Closed;
    while let Ok(state) = diag.state(&flow) {
        if state != known {
            known = state;
            say(&Message::State { flow, state }.to_string());
        }
        thread::sleep(INTERVAL);
    }
}

struct Diag(OwnedFd);

impl Diag {
    fn open() -> nix::Result<Self> {
        let (kind, flags) = (SockType::Raw, SockFlag::SOCK_CLOEXEC);
        socket(AddressFamily::Netlink, kind, flags, SockProtocol::NetlinkSockDiag).map(Self)
    }

    fn state(&self, flow: &FourTuple) -> nix::Result<TcpState> {
        nix::unistd::write(&self.0, &request(flow))?;
        let mut reply = [0; 4096];
        let len = nix::unistd::read(&self.0, &mut reply)?;
        state(&reply[..len])
    }
}

/// A request for one connection, by its two ends.
fn request(flow: &FourTuple) -> Vec<u8> {
    let mut message = Vec::with_capacity(HEADER + REQUEST);
    message.extend(((HEADER + REQUEST) as u32).to_ne_bytes());
    message.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    message.extend((libc::NLM_F_REQUEST as u16).to_ne_bytes());
    message.extend([0; 8]);
    let family = if flow.local.is_ipv6() { libc::AF_INET6 } else { libc::AF_INET };
    message.extend([family as u8, libc::IPPROTO_TCP as u8, 0, 0]);
    // In any state.
    message.extend(u32::MAX.to_ne_bytes());
    message.extend(flow.local.port().to_be_bytes());
    message.extend(flow.remote.port().to_be_bytes());
    message.extend(words(flow.local));
    message.extend(words(flow.remote));
    // On any interface, with any cookie.
    message.extend(0u32.to_ne_bytes());
    message.extend([0xff; 8]);
    message
}

fn words(end: SocketAddr) -> [u8; 16] {
    let mut words = [0; 16];
    match end.ip() {
        IpAddr::V4(address) => words[..4].copy_from_slice(&address.octets()),
        IpAddr::V6(address) => words = address.octets(),
    }
    words
}

/// The state in the kernel's answer; if there is no such connection, it may be that of the listener.
fn state(reply: &[u8]) -> nix::Result<TcpState> {
    let kind = reply.get(4..6).map(|kind| u16::from_ne_bytes([kind[0], kind[1]]));
    let body = reply.get(HEADER..).unwrap_or_default();
    match (kind, body) {
        (Some(SOCK_DIAG_BY_FAMILY), [_family, state, ..]) => Ok(named(*state)),
        (Some(kind), [a, b, c, d, ..]) if i32::from(kind) == libc::NLMSG_ERROR => {
            match Errno::from_raw(-i32::from_ne_bytes([*a, *b, *c, *d])) {
                Errno::ENOENT => Ok(TcpState::Closed),
                errno => Err(errno),
            }
        }
        _ => Err(Errno::EBADMSG),
    }
}

/// The states of net/tcp_states.h.
fn named(state: u8) -> TcpState {
    match state {
        1 => TcpState::Established,
        2 => TcpState::SynSent,
        3 | 12 => TcpState::SynReceived,
        4 => TcpState::FinWait1,
        5 => TcpState::FinWait2,
        6 => TcpState::TimeWait,
        8 => TcpState::CloseWait,
        9 => TcpState::LastAck,
        11 => TcpState::Closing,
        _ => TcpState::Closed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::{Shutdown, TcpListener, TcpStream};

    /// The kernel of this machine is queried about connections over its loopback.
    #[test]
    fn the_kernel_tells_the_states_of_a_connection() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            // A machine may do without IPv6.
            let Ok(listener) = TcpListener::bind(address) else { continue };
            let mut near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (far, _) = listener.accept().unwrap();
            let flow = FourTuple { local: near.local_addr().unwrap(), remote: near.peer_addr().unwrap() };
            let back = FourTuple { local: flow.remote, remote: flow.local };
            let diag = Diag::open().unwrap();
            assert_eq!(diag.state(&flow), Ok(TcpState::Established));
            far.shutdown(Shutdown::Write).unwrap();
            assert_eq!(near.read(&mut [0]).unwrap(), 0);
            assert_eq!(diag.state(&flow), Ok(TcpState::CloseWait));
            // The ACK of the FIN may be held back.
            assert!(matches!(diag.state(&back), Ok(TcpState::FinWait1 | TcpState::FinWait2)));
            let nobody = FourTuple { remote: SocketAddr::new(flow.remote.ip(), 1), ..flow };
            assert_eq!(diag.state(&nobody), Ok(TcpState::Closed));
        }
    }

    #[test]
    fn nonsense_is_an_error() {
        assert_eq!(state(&[]), Err(Errno::EBADMSG));
        assert_eq!(state(&[0; 40]), Err(Errno::EBADMSG));
    }
}
