//! The system calls of the devices that have no safe wrapper. Contains all `unsafe` code of the devices, except for
//! the registration with tokio's reactor.

use std::{
    fs::File,
    io, mem,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use libc::{c_int, c_uint, c_ulong, c_void};
use nix::{errno::Errno, fcntl};

use super::steering::Instruction;

/// The interface that a TUN file descriptor is attached to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Attachment {
    pub(super) name: String,
    pub(super) flags: c_int,
}

/// TUNSETIFF: attaches the file descriptor to the interface `name`, creating it if needed; for an empty name the
/// kernel chooses one.
pub(super) fn attach_tun(fd: BorrowedFd<'_>, name: &str, flags: c_int) -> io::Result<Attachment> {
    let mut request = interface_request(name)?;
    request.ifr_ifru.ifru_flags = flags as i16;
    // SAFETY: TUNSETIFF reads and writes one ifreq, which lives through the call.
    Errno::result(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETIFF, &raw mut request) })?;
    Ok(attachment(&request))
}

/// TUNGETIFF: the interface that the file descriptor is attached to. Works in any namespace.
pub(super) fn tun_attachment(fd: BorrowedFd<'_>) -> io::Result<Attachment> {
    let mut request = interface_request("")?;
    // SAFETY: TUNGETIFF writes one ifreq, which lives through the call.
    Errno::result(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNGETIFF, &raw mut request) })?;
    Ok(attachment(&request))
}

/// SIOCGIFHWADDR: the Ethernet address of the TAP interface that the file descriptor is attached to.
pub(super) fn tap_address(fd: BorrowedFd<'_>) -> io::Result<[u8; 6]> {
    let mut request = interface_request("")?;
    // SAFETY: SIOCGIFHWADDR writes one ifreq, which lives through the call.
    Errno::result(unsafe { libc::ioctl(fd.as_raw_fd(), libc::SIOCGIFHWADDR, &raw mut request) })?;
    // SAFETY: SIOCGIFHWADDR has just filled this member of the union; any bytes are an address.
    let data = unsafe { request.ifr_ifru.ifru_hwaddr }.sa_data;
    let mut address = [0; 6];
    for (to, from) in address.iter_mut().zip(data) {
        *to = from.cast_unsigned();
    }
    Ok(address)
}

/// TUNSETVNETHDRSZ: length of the virtio header before each packet.
pub(super) fn set_tun_header_len(fd: BorrowedFd<'_>, len: usize) -> io::Result<()> {
    let len = len as c_int;
    // SAFETY: TUNSETVNETHDRSZ reads one int, which lives through the call.
    Errno::result(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETVNETHDRSZ, &raw const len) })?;
    Ok(())
}

/// TUNSETOFFLOAD: the offload that the reader supports, TUN_F_* bits.
pub(super) fn set_tun_offload(fd: BorrowedFd<'_>, features: c_uint) -> io::Result<()> {
    // SAFETY: TUNSETOFFLOAD takes a number, not a pointer.
    Errno::result(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETOFFLOAD, c_ulong::from(features)) })?;
    Ok(())
}

/// Loads a program that chooses a number for each packet (BPF_PROG_LOAD, BPF_PROG_TYPE_SOCKET_FILTER). Needs CAP_BPF
/// where unprivileged programs are disabled.
pub(super) fn load_filter(program: &[Instruction]) -> io::Result<OwnedFd> {
    const BPF_PROG_LOAD: c_int = 5;
    const SOCKET_FILTER: u32 = 1;
    /// The beginning of `union bpf_attr` for this command, in linux/bpf.h.
    #[repr(C)]
    struct Load {
        kind: u32,
        count: u32,
        instructions: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log: u64,
        kernel_version: u32,
        flags: u32,
    }
    let load = Load {
        kind: SOCKET_FILTER,
        count: program.len() as u32,
        instructions: program.as_ptr() as u64,
        license: c"MIT".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
    };
    // SAFETY: the kernel reads the structure, `count` instructions and the string, all of which live through the call.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, &raw const load, size_of::<Load>()) };
    let fd = Errno::result(fd)? as c_int;
    // SAFETY: the descriptor was just made and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// TUNSETSTEERINGEBPF: the program chooses the queue of each packet to be read.
pub(super) fn set_tun_steering(fd: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    /// `_IOR('T', 224, int)`.
    const TUNSETSTEERINGEBPF: libc::Ioctl = 0x8004_54e0_u32 as libc::Ioctl;
    let program = program.as_raw_fd();
    // SAFETY: the request reads one int, which lives through the call.
    Errno::result(unsafe { libc::ioctl(fd.as_raw_fd(), TUNSETSTEERINGEBPF, &raw const program) })?;
    Ok(())
}

/// SIOCGIFMTU: the MTU of an interface of the calling thread's network namespace.
pub(super) fn interface_mtu(name: &str) -> io::Result<usize> {
    let socket = nix::sys::socket::socket(
        nix::sys::socket::AddressFamily::Unix,
        nix::sys::socket::SockType::Datagram,
        nix::sys::socket::SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    let mut request = interface_request(name)?;
    // SAFETY: SIOCGIFMTU reads and writes one ifreq, which lives through the call.
    Errno::result(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFMTU, &raw mut request) })?;
    // SAFETY: SIOCGIFMTU has just filled this member of the union; any bytes are an int.
    Ok(unsafe { request.ifr_ifru.ifru_mtu } as usize)
}

/// A packet socket for all protocols of one interface, with virtio headers, that does not receive its own packets.
pub(super) fn packet_socket(index: u32) -> io::Result<OwnedFd> {
    // SAFETY: no pointers. Protocol 0: nothing is received before the bind below.
    let fd = Errno::result(unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: the socket was just made and has no other owner.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    set_int_option(fd.as_fd(), libc::SOL_PACKET, libc::PACKET_VNET_HDR, 1)?;
    set_int_option(fd.as_fd(), libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, 1)?;
    // SAFETY: sockaddr_ll is plain numbers, for which zero is a value.
    let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = index as c_int;
    let len = mem::size_of_val(&address) as libc::socklen_t;
    // SAFETY: bind reads `len` bytes of the address, which lives through the call.
    Errno::result(unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), len) })?;
    Ok(fd)
}

/// Sets the receive and send buffer sizes. Exceeding the system's limit needs CAP_NET_ADMIN; without it the limit
/// applies.
pub(super) fn set_socket_buffers(fd: BorrowedFd<'_>, bytes: c_int) -> io::Result<()> {
    for (force, plain) in [(libc::SO_RCVBUFFORCE, libc::SO_RCVBUF), (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF)] {
        if set_int_option(fd, libc::SOL_SOCKET, force, bytes).is_err() {
            set_int_option(fd, libc::SOL_SOCKET, plain, bytes)?;
        }
    }
    Ok(())
}

/// PACKET_VNET_HDR: whether each packet of this socket begins with a virtio header.
pub(super) fn has_virtio_header(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let mut value: c_int = 0;
    packet_option(fd, libc::PACKET_VNET_HDR, &mut value)?;
    Ok(value != 0)
}

/// PACKET_STATISTICS: packets lost since the last call because the socket's buffer was full.
pub(super) fn packet_drops(fd: BorrowedFd<'_>) -> io::Result<u64> {
    let mut statistics = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
    packet_option(fd, libc::PACKET_STATISTICS, &mut statistics)?;
    Ok(u64::from(statistics.tp_drops))
}

/// Number of bytes written to this kernel TCP socket that its peer has not acknowledged, including the FIN (SIOCOUTQ,
/// tcp(7)).
///
/// # Errors
/// If it is not a TCP socket.
pub fn unacknowledged(socket: BorrowedFd<'_>) -> io::Result<usize> {
    let mut bytes: c_int = 0;
    // SAFETY: the request writes one int to where the pointer points, and `bytes` lives until the call returns.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    Errno::result(result)?;
    Ok(bytes.try_into().unwrap_or(0))
}

/// Makes the file descriptor non-blocking.
pub(super) fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    let flags = fcntl::OFlag::from_bits_retain(fcntl::fcntl(fd, fcntl::FcntlArg::F_GETFL)?);
    fcntl::fcntl(fd, fcntl::FcntlArg::F_SETFL(flags | fcntl::OFlag::O_NONBLOCK))?;
    Ok(())
}

/// Opens /dev/net/tun, non-blocking.
pub(super) fn open_tun_device() -> io::Result<OwnedFd> {
    use std::os::unix::fs::OpenOptionsExt;
    let file = File::options().read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/net/tun")?;
    Ok(file.into())
}

/// Reads one frame: first fills `head`, then reads the rest into `body`, which is cleared and grown to `limit` bytes.
/// Returns the number of bytes of the head that were filled.
pub(super) fn read_frame(
    fd: BorrowedFd<'_>,
    head: &mut [u8],
    body: &mut Vec<u8>,
    limit: usize,
) -> io::Result<usize> {
    body.clear();
    body.reserve(limit);
    let room = &mut body.spare_capacity_mut()[..limit];
    let parts = [
        libc::iovec { iov_base: head.as_mut_ptr().cast::<c_void>(), iov_len: head.len() },
        libc::iovec { iov_base: room.as_mut_ptr().cast::<c_void>(), iov_len: room.len() },
    ];
    // SAFETY: readv writes at most the given lengths into the two buffers, which are borrowed for the call.
    let read = Errno::result(unsafe { libc::readv(fd.as_raw_fd(), parts.as_ptr(), 2) })? as usize;
    let filled = read.min(head.len());
    // SAFETY: readv has filled the body's first `read - filled` bytes, at most `limit`, which are within its capacity.
    unsafe { body.set_len(read - filled) };
    Ok(filled)
}

fn interface_request(name: &str) -> io::Result<libc::ifreq> {
    // SAFETY: ifreq is plain bytes and numbers, for which zero is a value.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    if name.len() >= request.ifr_name.len() || name.contains('\0') {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{name:?} cannot be the name of an interface (1 to 15 bytes, none of them zero)"),
        ));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    Ok(request)
}

fn attachment(request: &libc::ifreq) -> Attachment {
    let name: Vec<u8> =
        request.ifr_name.iter().take_while(|&&byte| byte != 0).map(|byte| byte.cast_unsigned()).collect();
    // SAFETY: TUNSETIFF and TUNGETIFF leave the flags in this member of the union; any bytes are a short.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    Attachment {
        name: String::from_utf8_lossy(&name).into_owned(),
        flags: c_int::from(flags.cast_unsigned()),
    }
}

fn set_int_option(fd: BorrowedFd<'_>, level: c_int, option: c_int, value: c_int) -> io::Result<()> {
    let len = mem::size_of_val(&value) as libc::socklen_t;
    // SAFETY: setsockopt reads one int, which lives through the call.
    Errno::result(unsafe {
        libc::setsockopt(fd.as_raw_fd(), level, option, (&raw const value).cast(), len)
    })?;
    Ok(())
}

/// `T` is one of the kernel's plain structures of numbers.
fn packet_option<T: Copy>(fd: BorrowedFd<'_>, option: c_int, value: &mut T) -> io::Result<()> {
    let mut len = mem::size_of::<T>() as libc::socklen_t;
    // SAFETY: getsockopt writes at most `len` bytes, the size of the value, which is borrowed for the call.
    Errno::result(unsafe {
        libc::getsockopt(fd.as_raw_fd(), libc::SOL_PACKET, option, (&raw mut *value).cast(), &raw mut len)
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{io::Write, os::unix::net::UnixDatagram};

    use super::*;

    #[test]
    fn a_frame_is_split_into_head_and_body() {
        let (near, far) = UnixDatagram::pair().unwrap();
        let mut head = [0; 3];
        let mut body = vec![9; 5];
        far.send(b"abcdefg").unwrap();
        assert_eq!(read_frame(near.as_fd(), &mut head, &mut body, 100).unwrap(), 3);
        assert_eq!((&head, body.as_slice()), (b"abc", b"defg".as_slice()));
        far.send(b"xy").unwrap();
        assert_eq!(read_frame(near.as_fd(), &mut head, &mut body, 100).unwrap(), 2);
        assert!(body.is_empty());
        far.send(b"abcdefg").unwrap();
        assert_eq!(read_frame(near.as_fd(), &mut [], &mut body, 4).unwrap(), 0);
        assert_eq!(body, b"abcd", "what is beyond the limit is cut");
    }

    #[test]
    fn reading_a_nonblocking_descriptor_does_not_wait() {
        let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
        set_nonblocking(near.as_fd()).unwrap();
        let error = read_frame(near.as_fd(), &mut [0; 2], &mut Vec::new(), 10).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        (&far).write_all(b"abc").unwrap();
        let mut body = Vec::new();
        assert_eq!(read_frame(near.as_fd(), &mut [0; 2], &mut body, 10).unwrap(), 2);
        assert_eq!(body, b"c");
    }

    #[test]
    fn names_that_do_not_fit_are_refused() {
        assert!(interface_request("fifteen-bytes--").is_ok());
        assert!(interface_request("sixteen-bytes---").is_err());
        assert_eq!(attachment(&interface_request("tun7").unwrap()).name, "tun7");
    }
}
