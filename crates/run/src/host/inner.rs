//! The program's own TCP sockets, queried from its kernel (`NETLINK_SOCK_DIAG`, sock_diag(7)): whether it still waits
//! for a connection, and whether it has closed its socket. No packet shows either.

use std::io;
use std::mem;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use socket2::SockRef;

/// A socket, by its two addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// The program's address.
    pub program: SocketAddr,
    /// The remote's.
    pub remote: SocketAddr,
}

impl From<Flow> for (SocketAddr, SocketAddr) {
    fn from(flow: Flow) -> Self {
        (flow.program, flow.remote)
    }
}

/// The state of a socket in the program's kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InnerState {
    /// The state, with the kernel's number (include/net/tcp_states.h).
    pub state: u8,
    /// No process holds it any more (orphaned).
    pub orphan: bool,
    /// The inode number, as in /proc.
    pub inode: u32,
}

/// The netlink socket for the queries.
#[derive(Debug)]
pub struct Inner {
    socket: Option<OwnedFd>,
}

/// linux/netlink.h, linux/sock_diag.h, linux/inet_diag.h.
const NETLINK_SOCK_DIAG: libc::c_int = 4;
/// Max time for an answer.
const ANSWERS: Duration = Duration::from_secs(1);
/// include/net/tcp_states.h.
const LISTEN: u32 = 10;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
const HEADER: usize = 16;
const REQUEST: usize = HEADER + 56;
/// Offsets of fields in `inet_diag_msg`: state, inode.
const STATE: usize = HEADER + 1;
const INODE: usize = HEADER + 68;

impl Inner {
    /// With a socket of the program's network; without one nothing is known.
    pub fn new(socket: Option<OwnedFd>) -> Self {
        if let Some(socket) = &socket {
            // The kernel answers at once; an answer that it has lost must not be waited for.
            let _unlimited = SockRef::from(socket).set_read_timeout(Some(ANSWERS));
        }
        Self { socket }
    }

    /// Queries this host's own sockets.
    pub fn of_this_host() -> Self {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        // SAFETY: the call takes numbers; what it gives has just been made for us.
        let socket = unsafe {
            Errno::result(libc::socket(libc::AF_NETLINK, kind, NETLINK_SOCK_DIAG))
                .map(|fd| OwnedFd::from_raw_fd(fd))
        };
        Self::new(socket.ok())
    }

    /// The state of this socket in the program's kernel; `Ok(None)`: there is no such socket.
    ///
    /// # Errors
    /// The system does not support the query.
    pub fn look(&self, flow: Flow) -> io::Result<Option<InnerState>> {
        self.found(self.ask(&request(SOCK_DIAG_BY_FAMILY, libc::IPPROTO_TCP, flow))?)
    }

    /// The addresses on which sockets of the program listen.
    ///
    /// # Errors
    /// The system does not support the query.
    pub fn listening(&self) -> io::Result<Vec<SocketAddr>> {
        let mut all = Vec::new();
        for any in ["0.0.0.0:0", "[::]:0"] {
            let any: SocketAddr = any.parse().map_err(io::Error::other)?;
            let mut request =
                request(SOCK_DIAG_BY_FAMILY, libc::IPPROTO_TCP, Flow { program: any, remote: any });
            let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
            request[6..8].copy_from_slice(&flags.to_ne_bytes());
            request[HEADER + 4..HEADER + 8].copy_from_slice(&(1u32 << LISTEN).to_ne_bytes());
            let mut answer = self.ask(&request)?;
            while !listeners(&answer, &mut all) {
                answer = self.receive()?;
            }
        }
        Ok(all)
    }

    /// As [`look`](Self::look), of a datagram socket, whose two ends the kernel swaps.
    ///
    /// # Errors
    /// As [`look`](Self::look).
    pub fn look_datagrams(&self, flow: Flow) -> io::Result<Option<InnerState>> {
        let swapped = Flow { program: flow.remote, remote: flow.program };
        self.found(self.ask(&request(SOCK_DIAG_BY_FAMILY, libc::IPPROTO_UDP, swapped))?)
    }

    fn found(&self, answer: Vec<u8>) -> io::Result<Option<InnerState>> {
        match reply(&answer) {
            Reply::Error(libc::ENOENT) => Ok(None),
            Reply::Error(errno) => Err(io::Error::from_raw_os_error(errno)),
            Reply::Message => {
                let field = answer.get(INODE..INODE + 4).and_then(|bytes| bytes.try_into().ok());
                let inode = u32::from_ne_bytes(field.ok_or(io::ErrorKind::InvalidData)?);
                Ok(Some(InnerState { state: answer[STATE], orphan: inode == 0, inode }))
            }
        }
    }

    /// Makes the program's kernel destroy this socket as an administrator does: the application gets `ECONNABORTED`.
    ///
    /// # Errors
    /// There is no such socket, or the system does not permit it.
    pub fn destroy(&self, flow: Flow) -> io::Result<()> {
        let answer = self.ask(&request(SOCK_DESTROY, libc::IPPROTO_TCP, flow))?;
        match reply(&answer) {
            Reply::Error(0) | Reply::Message => Ok(()),
            Reply::Error(errno) => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    /// The kernel answers within the system call.
    fn ask(&self, request: &[u8]) -> io::Result<Vec<u8>> {
        let socket = self.socket.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        // SAFETY: the kernel reads from the array, which lives until the call returns.
        let sent = unsafe {
            libc::send(socket.as_raw_fd(), request.as_ptr().cast(), request.len(), libc::MSG_NOSIGNAL)
        };
        Errno::result(sent)?;
        self.receive()
    }

    fn receive(&self) -> io::Result<Vec<u8>> {
        let socket = self.socket.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        let mut answer = vec![0; 32 * 1024];
        // SAFETY: the kernel writes no more bytes than the vector has.
        let len = unsafe { libc::recv(socket.as_raw_fd(), answer.as_mut_ptr().cast(), answer.len(), 0) };
        answer.truncate(Errno::result(len)?.cast_unsigned());
        if answer.len() < HEADER + 4 { Err(io::ErrorKind::InvalidData.into()) } else { Ok(answer) }
    }
}

/// The addresses in one part of a list. `true`: it was the last.
fn listeners(part: &[u8], all: &mut Vec<SocketAddr>) -> bool {
    let mut rest = part;
    while rest.len() >= HEADER {
        let length = u32::from_ne_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
        let kind = u16::from_ne_bytes([rest[4], rest[5]]);
        if !(HEADER..=rest.len()).contains(&length) || kind != SOCK_DIAG_BY_FAMILY {
            return true;
        }
        let message = &rest[HEADER..length];
        if let (Some(&[high, low]), Some(source)) = (message.get(4..6), message.get(8..24)) {
            let v4 = source.first_chunk::<4>().map(|bytes| IpAddr::from(*bytes));
            let v6 = source.first_chunk::<16>().map(|bytes| IpAddr::from(*bytes));
            let address = if i32::from(message[0]) == libc::AF_INET6 { v6 } else { v4 };
            all.extend(address.map(|address| SocketAddr::new(address, u16::from_be_bytes([high, low]))));
        }
        rest = &rest[length.next_multiple_of(4).min(rest.len())..];
    }
    false
}

enum Reply {
    /// 0: success.
    Error(i32),
    Message,
}

fn reply(answer: &[u8]) -> Reply {
    let kind = u16::from_ne_bytes([answer[4], answer[5]]);
    if i32::from(kind) != libc::NLMSG_ERROR {
        return Reply::Message;
    }
    let errno = answer[HEADER..].first_chunk().map_or(-libc::EIO, |bytes| i32::from_ne_bytes(*bytes));
    Reply::Error(-errno)
}

/// A `nlmsghdr` and an `inet_diag_req_v2`.
fn request(kind: u16, protocol: libc::c_int, flow: Flow) -> [u8; REQUEST] {
    let mut request = [0; REQUEST];
    let acknowledge = if kind == SOCK_DESTROY { libc::NLM_F_ACK } else { 0 };
    let flags = (libc::NLM_F_REQUEST | acknowledge) as u16;
    request[0..4].copy_from_slice(&(REQUEST as u32).to_ne_bytes());
    request[4..6].copy_from_slice(&kind.to_ne_bytes());
    request[6..8].copy_from_slice(&flags.to_ne_bytes());
    let family = if flow.program.is_ipv6() { libc::AF_INET6 } else { libc::AF_INET };
    request[HEADER] = family as u8;
    request[HEADER + 1] = protocol as u8;
    // Every state.
    request[HEADER + 4..HEADER + 8].fill(0xff);
    let id = &mut request[HEADER + 8..];
    id[0..2].copy_from_slice(&flow.program.port().to_be_bytes());
    id[2..4].copy_from_slice(&flow.remote.port().to_be_bytes());
    address(&mut id[4..20], flow.program.ip());
    address(&mut id[20..36], flow.remote.ip());
    // Any interface; no cookie.
    id[40..48].fill(0xff);
    request
}

fn address(field: &mut [u8], address: IpAddr) {
    match address {
        IpAddr::V4(v4) => field[..4].copy_from_slice(&v4.octets()),
        IpAddr::V6(v6) => field.copy_from_slice(&v6.octets()),
    }
}

const _: () = assert!(mem::size_of::<libc::nlmsghdr>() == HEADER);

#[cfg(test)]
mod tests {
    use std::net::{Shutdown, TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_socket_is_known_by_its_addresses() {
        for host in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(host).unwrap();
            let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (far, _) = listener.accept().unwrap();
            let flow = Flow { program: near.local_addr().unwrap(), remote: near.peer_addr().unwrap() };
            let found = Inner::of_this_host().look(flow).unwrap().unwrap();
            assert_eq!((found.state, found.orphan, found.inode > 0), (1, false, true), "{host}");
            // FIN-WAIT-2, held and not.
            near.shutdown(Shutdown::Write).unwrap();
            assert_eq!(Inner::of_this_host().look(flow).unwrap().map(|found| found.orphan), Some(false));
            drop(near);
            assert_eq!(Inner::of_this_host().look(flow).unwrap().map(|found| found.orphan), Some(true));
            drop(far);
            let other =
                Flow { program: "127.0.0.1:1".parse().unwrap(), remote: "127.0.0.1:2".parse().unwrap() };
            assert_eq!(Inner::of_this_host().look(other).unwrap(), None);
        }
        assert!(
            Inner::new(None)
                .look(Flow {
                    program: "127.0.0.1:1".parse().unwrap(),
                    remote: "127.0.0.1:2".parse().unwrap()
                })
                .is_err()
        );
    }
}
