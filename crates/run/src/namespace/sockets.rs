//! Sockets of the guest's network that are used from outside: a socket stays in the network namespace in which it was
//! made.

use std::{
    fs::File,
    io, mem,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use lastack_device::netlink;
use nix::errno::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use super::{Failure, Step, channel::InnerSocket, failure::StepResult, plan::Listener};

/// Backlog of pending connections.
const BACKLOG: i32 = 512;
/// linux/netlink.h, linux/if_ether.h, linux/if_packet.h.
const NETLINK_SOCK_DIAG: libc::c_int = 4;
const ETH_P_ALL: u16 = 3;
const PACKET_IGNORE_OUTGOING: libc::c_int = 23;

/// Opens the launcher's sockets. Those that the system does not support are omitted, except for listeners.
pub(super) fn open(listeners: &[Listener]) -> Result<Vec<(InnerSocket, OwnedFd)>, Failure> {
    let mut sockets = Vec::new();
    if let Ok(socket) = raw_socket(libc::AF_NETLINK, libc::SOCK_RAW, NETLINK_SOCK_DIAG) {
        sockets.push((InnerSocket::Diagnosis, socket));
    }
    if let Ok(socket) = refusals() {
        sockets.push((InnerSocket::Refusals, socket));
    }
    for (v6, list) in [(false, "/proc/self/net/udp"), (true, "/proc/self/net/udp6")] {
        if let Ok(file) = File::open(list) {
            sockets.push((InnerSocket::Datagrams { v6 }, file.into()));
        }
    }
    if let Ok(file) = File::open("/proc/self/net/dev") {
        sockets.push((InnerSocket::Devices, file.into()));
    }
    for listener in listeners {
        let at = listener.address;
        match bound(*listener) {
            Ok(socket) => sockets.push((InnerSocket::Listener(at), socket)),
            // A system without IPv6.
            Err(error) if at.is_ipv6() && missing(&error) => {}
            Err(error) => {
                return Err(error)
                    .step(Step::Network, || format!("open a socket at {at} in the program's network"));
            }
        }
    }
    Ok(sockets)
}

fn missing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

fn bound(listener: Listener) -> io::Result<OwnedFd> {
    let at = listener.address;
    let socket = Socket::new(Domain::for_address(at), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if at.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // No network lies between the program and the connections that it accepts. The machine's default may pace, as BBR does: a
    // download took twice the time. If neither is there, the default stays.
    let _default = socket.set_tcp_congestion(b"cubic").or_else(|_| socket.set_tcp_congestion(b"reno"));
    socket.bind(&at.into())?;
    if listener.listening {
        socket.listen(BACKLOG)?;
    }
    Ok(socket.into())
}

/// Receives only the resets by which the loopback's own ports refuse connections: a reset in answer to a SYN has the
/// sequence number 0 (RFC 9293 section 3.10.7.1).
fn refusals() -> io::Result<OwnedFd> {
    // Without a protocol no packets are received before the filter is attached.
    let socket = raw_socket(libc::AF_PACKET, libc::SOCK_DGRAM, 0)?;
    attach(&socket, &REFUSAL)?;
    let on: libc::c_int = 1;
    set_option(&socket, libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, &on)?;
    // SAFETY: all zeros is a valid address structure.
    let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = ETH_P_ALL.to_be();
    address.sll_ifindex = netlink::LOOPBACK.cast_signed();
    let len = mem::size_of_val(&address) as libc::socklen_t;
    // SAFETY: the address is a sockaddr_ll of this length, which lives until the call returns.
    let result = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len) };
    Errno::result(result)?;
    Ok(socket)
}

fn raw_socket(family: libc::c_int, kind: libc::c_int, protocol: libc::c_int) -> io::Result<OwnedFd> {
    let flags = kind | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: the call takes numbers.
    let fd = Errno::result(unsafe { libc::socket(family, flags, protocol) })?;
    // SAFETY: the kernel has just created it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn set_option<T>(socket: &OwnedFd, level: libc::c_int, name: libc::c_int, value: &T) -> io::Result<()> {
    let len = mem::size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel reads `len` bytes from the pointer, which is to a value of that size.
    let result =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const *value).cast(), len) };
    Errno::result(result)?;
    Ok(())
}

fn attach(socket: &OwnedFd, filter: &[libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    set_option(socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
}

/// Captured bytes of a packet: both headers.
const KEPT: u32 = 128;
const RST: u32 = 4;

const fn op(code: u32, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt, jf, k }
}

const LOAD_BYTE: u32 = libc::BPF_LD | libc::BPF_B | libc::BPF_ABS;
const LOAD_HALF: u32 = libc::BPF_LD | libc::BPF_H | libc::BPF_ABS;
const LOAD_WORD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const IF_EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const IF_SET: u32 = libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K;
const RETURN: u32 = libc::BPF_RET | libc::BPF_K;

/// The jumps are relative to the next instruction; the last two accept and drop the packet.
const REFUSAL: [libc::sock_filter; 21] = [
    op(LOAD_BYTE, 0, 0, 0),
    op(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0xf0, 0, 0),
    op(IF_EQUAL, 0x40, 0, 9),
    // IPv4: TCP, the first fragment, RST, sequence number 0.
    op(LOAD_BYTE, 9, 0, 0),
    op(IF_EQUAL, 6, 0, 15),
    op(LOAD_HALF, 6, 0, 0),
    op(IF_SET, 0x1fff, 13, 0),
    op(libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH, 0, 0, 0),
    op(libc::BPF_LD | libc::BPF_B | libc::BPF_IND, 13, 0, 0),
    op(IF_SET, RST, 0, 10),
    op(libc::BPF_LD | libc::BPF_W | libc::BPF_IND, 4, 0, 0),
    op(IF_EQUAL, 0, 7, 8),
    // IPv6: the same, without extension headers.
    op(IF_EQUAL, 0x60, 0, 7),
    op(LOAD_BYTE, 6, 0, 0),
    op(IF_EQUAL, 6, 0, 5),
    op(LOAD_BYTE, 40 + 13, 0, 0),
    op(IF_SET, RST, 0, 3),
    op(LOAD_WORD, 40 + 4, 0, 0),
    op(IF_EQUAL, 0, 0, 1),
    op(RETURN, KEPT, 0, 0),
    op(RETURN, 0, 0, 0),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    /// Those of the machine's default may be paced.
    #[test]
    fn accepted_connections_are_not_paced() {
        let listener = Listener { address: "127.0.0.1:0".parse().unwrap(), listening: true };
        let listener = TcpListener::from(bound(listener).unwrap());
        listener.set_nonblocking(false).unwrap();
        let _program = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let name = socket2::SockRef::from(&accepted).tcp_congestion().unwrap();
        let name = String::from_utf8_lossy(&name);
        assert!(["cubic", "reno"].contains(&name.trim_end_matches('\0')), "{name}");
    }
}
