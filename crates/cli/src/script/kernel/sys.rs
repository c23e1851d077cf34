//! The system calls of scripts. They are passed to the kernel as written, so that it detects their errors;
//! all `unsafe` code for them is here.

use std::{
    io,
    net::SocketAddr,
    os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd},
    time::Duration,
};

use lastack_packetdrill::arguments::Control;
use libc::{c_int, c_void};
use nix::{
    poll::{PollFd, PollFlags},
    sys::time::TimeSpec,
};
use socket2::SockAddr;

fn checked(result: i64) -> io::Result<i64> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn opened(result: c_int) -> io::Result<OwnedFd> {
    checked(result.into())?;
    // SAFETY: the kernel has just opened it for this call.
    Ok(unsafe { OwnedFd::from_raw_fd(result) })
}

/// Waits until one of both is readable.
pub fn wait(fds: [BorrowedFd<'_>; 2], time: Duration) -> io::Result<[bool; 2]> {
    let mut polled = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN));
    nix::poll::ppoll(&mut polled, Some(TimeSpec::from_duration(time)), None)?;
    Ok(polled.map(|fd| fd.any().unwrap_or_default()))
}

/// `socket`
pub fn socket(domain: c_int, kind: c_int, protocol: c_int) -> io::Result<OwnedFd> {
    // SAFETY: it takes numbers only.
    opened(unsafe { libc::socket(domain, kind, protocol) })
}

/// `bind`
pub fn bind(fd: RawFd, address: &SockAddr) -> io::Result<i64> {
    // SAFETY: it reads an address of this length, which lives through the call.
    checked(unsafe { libc::bind(fd, address.as_ptr().cast(), address.len()) }.into())
}

/// `listen`
pub fn listen(fd: RawFd, backlog: c_int) -> io::Result<i64> {
    // SAFETY: it takes numbers only.
    checked(unsafe { libc::listen(fd, backlog) }.into())
}

/// `accept4`, without an address buffer.
pub fn accept(fd: RawFd, flags: c_int) -> io::Result<OwnedFd> {
    // SAFETY: without an address it takes numbers only.
    opened(unsafe { libc::accept4(fd, std::ptr::null_mut(), std::ptr::null_mut(), flags) })
}

/// `connect`; without an address, to AF_UNSPEC.
pub fn connect(fd: RawFd, address: Option<&SockAddr>) -> io::Result<i64> {
    // SAFETY: a sockaddr of zeros is valid; its family is AF_UNSPEC.
    let nobody: libc::sockaddr = unsafe { std::mem::zeroed() };
    let (pointer, len) = match address {
        Some(address) => (address.as_ptr().cast(), address.len()),
        None => (&raw const nobody, size_of_val(&nobody) as libc::socklen_t),
    };
    // SAFETY: it reads an address of this length, which lives through the call.
    checked(unsafe { libc::connect(fd, pointer, len) }.into())
}

/// `shutdown`
pub fn shutdown(fd: RawFd, how: c_int) -> io::Result<i64> {
    // SAFETY: it takes numbers only.
    checked(unsafe { libc::shutdown(fd, how) }.into())
}

/// `close`
pub fn close(fd: RawFd) -> io::Result<i64> {
    // SAFETY: the descriptor is the script's, and not used afterwards.
    checked(unsafe { libc::close(fd) }.into())
}

/// Closes a descriptor that a script left open, and wakes any call that waits for it.
pub fn give_up(fd: RawFd) {
    // A descriptor that is not a socket cannot be shut down.
    let _not_a_socket = shutdown(fd, libc::SHUT_RDWR);
    // An error cannot be reported to the script any more.
    let _told_nobody = close(fd);
}

/// `read`
pub fn read(fd: RawFd, len: usize) -> io::Result<i64> {
    let mut buf = vec![0u8; len];
    // SAFETY: it writes at most `len` bytes into a buffer of that size, which lives through the call.
    checked(unsafe { libc::read(fd, buf.as_mut_ptr().cast(), len) } as i64)
}

/// `write`, of zeros
pub fn write(fd: RawFd, len: usize) -> io::Result<i64> {
    let buf = vec![0u8; len];
    // SAFETY: it reads `len` bytes from a buffer of that size, which lives through the call.
    checked(unsafe { libc::write(fd, buf.as_ptr().cast(), len) } as i64)
}

/// `recv`
pub fn recv(fd: RawFd, len: usize, flags: c_int) -> io::Result<i64> {
    let mut buf = vec![0u8; len];
    // SAFETY: it writes at most `len` bytes into a buffer of that size, which lives through the call.
    checked(unsafe { libc::recv(fd, buf.as_mut_ptr().cast(), len, flags) } as i64)
}

/// `sendto`, of zeros; without an address, `send`.
pub fn send(fd: RawFd, len: usize, flags: c_int, to: Option<&SockAddr>) -> io::Result<i64> {
    let buf = vec![0u8; len];
    let (address, address_len) = to.map_or((std::ptr::null(), 0), |to| (to.as_ptr().cast(), to.len()));
    // SAFETY: it reads a buffer and an address of these lengths, which live through the call.
    checked(unsafe { libc::sendto(fd, buf.as_ptr().cast(), len, flags, address, address_len) } as i64)
}

/// `recvmsg` with one buffer: the number of bytes, the flags, and the control messages.
pub fn recvmsg(fd: RawFd, len: usize, flags: c_int) -> io::Result<(i64, c_int, Vec<Control>)> {
    let mut buf = vec![0u8; len];
    // An array of u64, so that the headers in it are aligned.
    let mut control = [0u64; 64];
    let mut part = libc::iovec { iov_base: buf.as_mut_ptr().cast(), iov_len: len };
    // SAFETY: a msghdr of zeros is valid: it consists of numbers and pointers, which may be null.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    (message.msg_iov, message.msg_iovlen) = (&raw mut part, 1);
    (message.msg_control, message.msg_controllen) = (control.as_mut_ptr().cast(), size_of_val(&control));
    // SAFETY: it writes at most their lengths into the data buffer and the control buffer, and into the
    // msghdr; all live through the call.
    let result = checked(unsafe { libc::recvmsg(fd, &raw mut message, flags) } as i64)?;
    let mut returned = Vec::new();
    // SAFETY: the kernel has filled in the msghdr, whose control buffer is still alive.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    while !header.is_null() {
        // SAFETY: a header that these macros return lies within the buffer, followed by its data of the given length.
        returned.push(unsafe {
            let data_len = (*header).cmsg_len - libc::CMSG_LEN(0) as usize;
            let data = std::slice::from_raw_parts(libc::CMSG_DATA(header), data_len);
            read_control((*header).cmsg_level, (*header).cmsg_type, data)
        });
        // SAFETY: as for the first.
        header = unsafe { libc::CMSG_NXTHDR(&raw const message, header) };
    }
    Ok((result, message.msg_flags, returned))
}

/// Decodes the numbers of a control message, by the names of scripts.
fn read_control(level: c_int, kind: c_int, data: &[u8]) -> Control {
    let number = |bytes: &[u8]| bytes.first_chunk().map_or(0, |bytes| i64::from(u32::from_ne_bytes(*bytes)));
    let named = |name: &str, value: i64| (name.to_owned(), value);
    // struct sock_extended_err (linux/errqueue.h)
    let data = if is_error(level, kind) && data.len() >= 16 {
        vec![
            named("ee_errno", number(data)),
            named("ee_origin", data[4].into()),
            named("ee_type", data[5].into()),
            named("ee_code", data[6].into()),
            named("ee_info", number(&data[8..])),
            named("ee_data", number(&data[12..])),
        ]
    } else {
        vec![named("", number(data))]
    };
    Control { level: level.into(), kind: kind.into(), data }
}

fn is_error(level: c_int, kind: c_int) -> bool {
    [(libc::SOL_IP, libc::IP_RECVERR), (libc::SOL_IPV6, libc::IPV6_RECVERR)].contains(&(level, kind))
}

/// `fcntl` with a numeric argument.
pub fn fcntl(fd: RawFd, command: c_int, argument: c_int) -> io::Result<i64> {
    // SAFETY: the commands that are allowed take a number.
    checked(unsafe { libc::fcntl(fd, command, argument) }.into())
}

/// `ioctl` of a request that reads or writes an int: the result, and the int afterwards.
pub fn ioctl(fd: RawFd, request: libc::Ioctl, value: c_int) -> io::Result<(i64, c_int)> {
    let mut value = value;
    // SAFETY: the requests that are allowed read or write one int, which lives through the call.
    let result = checked(unsafe { libc::ioctl(fd, request, &raw mut value) }.into())?;
    Ok((result, value))
}

/// `getsockopt`: at most `len` bytes.
pub fn option(fd: RawFd, level: c_int, name: c_int, len: usize) -> io::Result<Vec<u8>> {
    let mut buf = vec![0u8; len];
    let mut returned = len as libc::socklen_t;
    let buffer: *mut c_void = buf.as_mut_ptr().cast();
    // SAFETY: it writes at most `returned` bytes into a buffer of that size, and their number; both live through the call.
    checked(unsafe { libc::getsockopt(fd, level, name, buffer, &raw mut returned) }.into())?;
    buf.truncate(returned as usize);
    Ok(buf)
}

/// `setsockopt`
pub fn set_option(fd: RawFd, level: c_int, name: c_int, value: &[u8]) -> io::Result<i64> {
    let len = value.len() as libc::socklen_t;
    // SAFETY: it reads a value of this length, which lives through the call.
    checked(unsafe { libc::setsockopt(fd, level, name, value.as_ptr().cast(), len) }.into())
}

/// `poll`: the result, and the returned events of each entry.
pub fn poll(entries: &[(RawFd, i16)], milliseconds: c_int) -> io::Result<(i64, Vec<i16>)> {
    let mut fds: Vec<libc::pollfd> =
        entries.iter().map(|&(fd, events)| libc::pollfd { fd, events, revents: 0 }).collect();
    // SAFETY: it reads and writes at most the number of entries given, which live through the call.
    let result = unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, milliseconds) };
    Ok((checked(result.into())?, fds.iter().map(|fd| fd.revents).collect()))
}

/// `epoll_create1`
pub fn epoll_create() -> io::Result<OwnedFd> {
    // SAFETY: it takes numbers only.
    opened(unsafe { libc::epoll_create1(0) })
}

/// `epoll_ctl`
pub fn epoll_ctl(epoll: RawFd, operation: c_int, fd: RawFd, events: u32, data: u64) -> io::Result<i64> {
    let mut event = libc::epoll_event { events, u64: data };
    // SAFETY: it reads one event, which lives through the call.
    checked(unsafe { libc::epoll_ctl(epoll, operation, fd, &raw mut event) }.into())
}

/// `epoll_wait`: the result, and events and data of the first entry.
pub fn epoll_wait(epoll: RawFd, most: usize, milliseconds: c_int) -> io::Result<(i64, (u32, u64))> {
    let mut events = vec![libc::epoll_event { events: 0, u64: 0 }; most];
    // SAFETY: it writes at most as many events as the array has room for, which lives through the call.
    let result = unsafe { libc::epoll_wait(epoll, events.as_mut_ptr(), most as c_int, milliseconds) };
    let result = checked(result.into())?;
    Ok((result, events.first().filter(|_| result > 0).map_or((0, 0), |event| (event.events, event.u64))))
}

/// The addresses of a socket; IPv4-mapped ones as IPv4.
pub fn ends(fd: RawFd) -> (Option<SocketAddr>, Option<SocketAddr>) {
    // SAFETY: the descriptor is the script's, and open during this call.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    let socket = socket2::SockRef::from(&fd);
    let plain = |address: SockAddr| {
        address.as_socket().map(|address| SocketAddr::new(address.ip().to_canonical(), address.port()))
    };
    (socket.local_addr().ok().and_then(plain), socket.peer_addr().ok().and_then(plain))
}
