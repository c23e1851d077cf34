//! The system calls of this source that have no safe wrapper elsewhere.
#![allow(unsafe_code, reason = "this is the module for it")]

use std::io;
use std::mem::MaybeUninit;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::cmsg_space;
use nix::fcntl::OFlag;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, SockaddrStorage, getsockname, recvmsg,
    socketpair,
};

fn owned(fd: libc::c_long) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the system call has just returned this descriptor, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

fn checked(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A pipe: the end to read and the end to write.
pub(super) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(nix::unistd::pipe2(OFlag::O_CLOEXEC)?)
}

/// Sockets by which a child hands over a descriptor.
pub(super) fn channel() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?)
}

/// A number that this process and its children share.
#[derive(Debug)]
pub(super) struct SharedWord(NonNull<AtomicU64>);

// SAFETY: the memory is accessed by atomic operations alone, and is unmapped only by the owner of the value.
unsafe impl Send for SharedWord {}
// SAFETY: as above.
unsafe impl Sync for SharedWord {}

impl SharedWord {
    pub(super) fn new() -> io::Result<Self> {
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the kernel chooses the address, so no memory of this process is replaced.
        let start =
            unsafe { libc::mmap(std::ptr::null_mut(), size_of::<AtomicU64>(), protection, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // A mapping is aligned to a page, and filled with zeros.
        Ok(Self(NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?))
    }

    fn word(&self) -> &AtomicU64 {
        // SAFETY: the mapping holds a valid number as long as this value exists.
        unsafe { self.0.as_ref() }
    }

    pub(super) fn store(&self, value: u64) {
        self.word().store(value, Ordering::SeqCst);
    }

    pub(super) fn load(&self) -> u64 {
        self.word().load(Ordering::SeqCst)
    }
}

impl Drop for SharedWord {
    fn drop(&mut self) {
        // SAFETY: this is the mapping made by `new`, and nothing refers to it any more.
        unsafe { libc::munmap(self.0.as_ptr().cast(), size_of::<AtomicU64>()) };
    }
}

/// Whether the kernel's structures have the sizes that this module expects.
pub(super) fn check_sizes() -> io::Result<()> {
    let mut sizes = MaybeUninit::<libc::seccomp_notif_sizes>::zeroed();
    // SAFETY: the call writes the sizes to the structure, for which any content is valid.
    let sizes = unsafe {
        let operation = libc::SECCOMP_GET_NOTIF_SIZES;
        checked(libc::syscall(libc::SYS_seccomp, operation, 0, sizes.as_mut_ptr()) as libc::c_int)?;
        sizes.assume_init()
    };
    let known = (size_of::<libc::seccomp_notif>(), size_of::<libc::seccomp_notif_resp>());
    if (usize::from(sizes.seccomp_notif), usize::from(sizes.seccomp_notif_resp)) == known {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::Unsupported, "this kernel reports system calls in an unknown format"))
}

/// The program installs the filter before it is executed, and sends the listener to each channel. If it cannot it sends
/// the errno.
pub(super) fn before_exec(command: &mut Command, channels: [OwnedFd; 2], filter: Vec<libc::sock_filter>) {
    let hook = move || {
        let (code, listener) = match install(&filter) {
            Ok(listener) => (0, Some(listener)),
            Err(error) => (error.raw_os_error().unwrap_or(libc::EINVAL), None),
        };
        let listener = listener.as_ref().map(AsRawFd::as_raw_fd);
        channels.iter().try_for_each(|channel| {
            // SAFETY: the listener is open until this function ends.
            unsafe { send(channel.as_raw_fd(), code, listener) }
        })
    };
    // SAFETY: the hook makes system calls on memory that exists already, and does not allocate.
    unsafe { command.pre_exec(hook) };
}

/// Installs a filter in this thread, which inherits it to its children.
fn install(filter: &[libc::sock_filter]) -> io::Result<OwnedFd> {
    let listener = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    // Only a signal that kills interrupts a call that is looked at (Linux 5.19).
    let flags = listener | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    match set_filter(filter, flags) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => set_filter(filter, listener),
        result => result,
    }
}

fn set_filter(filter: &[libc::sock_filter], flags: libc::c_ulong) -> io::Result<OwnedFd> {
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    // SAFETY: the structure describes the filter, which the kernel only reads.
    let set = || {
        owned(unsafe {
            libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program)
        })
    };
    match set() {
        Err(error) if error.raw_os_error() == Some(libc::EACCES) => {
            // SAFETY: the call takes numbers only.
            checked(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })?;
            set()
        }
        result => result,
    }
}

/// Sends a number, and a descriptor if there is one.
///
/// # Safety
/// The descriptor is open. (It does not allocate: it runs between fork and exec.)
unsafe fn send(channel: RawFd, code: i32, fd: Option<RawFd>) -> io::Result<()> {
    let mut code = code.to_ne_bytes();
    let mut part = libc::iovec { iov_base: code.as_mut_ptr().cast(), iov_len: code.len() };
    // Aligned for `struct cmsghdr`, and large enough for one descriptor.
    let mut control = [0u64; 4];
    // SAFETY: all zeros is a valid message.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    if let Some(fd) = fd {
        message.msg_control = control.as_mut_ptr().cast();
        // SAFETY: the control buffer has room for a header and one descriptor, so the first header is within it.
        unsafe {
            message.msg_controllen = libc::CMSG_SPACE(size_of::<RawFd>() as u32) as _;
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(size_of::<RawFd>() as u32) as _;
            libc::CMSG_DATA(header).cast::<RawFd>().write_unaligned(fd);
        }
    }
    // SAFETY: the message refers to memory that outlives the call.
    let sent = unsafe { libc::sendmsg(channel, &raw const message, 0) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The listener that the program sends before it is executed, or why it has none. `wait`: until it is executed, or
/// nobody is left to send.
pub(super) fn receive_listener(channel: &OwnedFd, wait: bool) -> io::Result<OwnedFd> {
    let mut code = [0; 4];
    let mut control = cmsg_space!(RawFd);
    let mut parts = [io::IoSliceMut::new(&mut code)];
    let wait = if wait { MsgFlags::empty() } else { MsgFlags::MSG_DONTWAIT };
    let flags = wait | MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(channel.as_raw_fd(), &mut parts, Some(&mut control), flags)?;
    let rights = message.cmsgs()?.find_map(|message| match message {
        ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
        _ => None,
    });
    match rights {
        // SAFETY: the descriptor was received just now, and nothing else owns it.
        Some(fd) => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        None => Err(io::Error::from_raw_os_error(i32::from_ne_bytes(code))),
    }
}

/// Runs this in a child process, which then ends.
pub(super) fn fork(body: impl FnOnce()) -> io::Result<()> {
    // SAFETY: the caller of `Calls::spawn` has no other threads, so that the child may do everything.
    match unsafe { nix::unistd::fork() }? {
        nix::unistd::ForkResult::Parent { .. } => Ok(()),
        nix::unistd::ForkResult::Child => {
            let _ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
            // SAFETY: the call takes a number and does not return.
            unsafe { libc::_exit(0) }
        }
    }
}

/// Makes this child process independent of what it comes from: it keeps these descriptors only, blocks all signals, and
/// occupies no directory.
pub(super) fn detach(kept: &[&OwnedFd]) {
    let _blocked = nix::sys::signal::SigSet::all().thread_block();
    let _moved = nix::unistd::chdir("/");
    let _named = nix::sys::prctl::set_name(c"lastack-guard");
    if let Ok(null) = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null") {
        for standard in 0..3 {
            // SAFETY: both numbers are descriptors; the standard ones are replaced.
            unsafe { libc::dup2(null.as_raw_fd(), standard) };
        }
    }
    let mut kept: Vec<u32> = kept.iter().map(|fd| fd.as_raw_fd() as u32).collect();
    kept.sort_unstable();
    let mut first = 3;
    for fd in kept.into_iter().chain([u32::MAX]) {
        if first < fd {
            // SAFETY: nothing of this process uses the other descriptors any more: it ends without dropping them.
            unsafe { libc::syscall(libc::SYS_close_range, first, fd - 1, 0) };
        }
        first = fd.saturating_add(1);
    }
}

/// A call that waits.
pub(super) struct Call {
    pub(super) id: u64,
    pub(super) thread: u32,
    pub(super) descriptor: i32,
    pub(super) name: Name,
}

/// Where the address is that the call connects to.
pub(super) enum Name {
    At { pointer: u64, len: u64 },
    InMessage { pointer: u64 },
}

/// Takes a call that waits.
pub(super) fn receive(listener: &OwnedFd) -> io::Result<Call> {
    let mut call = MaybeUninit::<libc::seccomp_notif>::zeroed();
    // SAFETY: the structure has the size that the request states and is zero, as the kernel demands.
    let call = unsafe {
        checked(libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV as _, call.as_mut_ptr()))?;
        call.assume_init()
    };
    let arguments = call.data.args;
    let name = match libc::c_long::from(call.data.nr) {
        libc::SYS_sendto => Name::At { pointer: arguments[4], len: arguments[5] & 0xffff_ffff },
        libc::SYS_sendmsg => Name::InMessage { pointer: arguments[1] },
        _ => Name::At { pointer: arguments[1], len: arguments[2] & 0xffff_ffff },
    };
    Ok(Call { id: call.id, thread: call.pid, descriptor: arguments[0] as i32, name })
}

/// Whether the thread still waits in this call.
pub(super) fn is_waiting(listener: &OwnedFd, id: u64) -> bool {
    let request = nix::request_code_write!(b'!', 2, size_of::<u64>());
    // SAFETY: the request states the size of the number, which the kernel only reads.
    unsafe { libc::ioctl(listener.as_raw_fd(), request as _, &raw const id) == 0 }
}

/// Lets the call continue in the kernel.
pub(super) fn resume(listener: &OwnedFd, id: u64) -> io::Result<()> {
    let flags = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32;
    let response = libc::seccomp_notif_resp { id, val: 0, error: 0, flags };
    // SAFETY: the structure has the size that the request states.
    checked(unsafe {
        libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND as _, &raw const response)
    })
}

/// A descriptor of a process.
pub(super) fn open_process(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes numbers only.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid as libc::pid_t, 0) })
}

/// The open file of a descriptor of another process.
pub(super) fn socket_of(process: &OwnedFd, descriptor: i32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes numbers only.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), descriptor, 0) })
}

/// An option whose value is a number, or begins with one.
fn option<T: Copy + Default>(socket: &OwnedFd, level: i32, name: i32) -> io::Result<T> {
    let mut value = T::default();
    let mut len = size_of::<T>() as libc::socklen_t;
    // SAFETY: pointer and length describe `value`; the callers request plain numbers.
    checked(unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, name, (&raw mut value).cast(), &raw mut len)
    })?;
    Ok(value)
}

/// The protocol of a socket; `None` if it is not one.
pub(super) fn protocol(socket: &OwnedFd) -> Option<i32> {
    option(socket, libc::SOL_SOCKET, libc::SO_PROTOCOL).ok()
}

/// The number of a socket among all of this boot.
pub(super) fn cookie(socket: &OwnedFd) -> io::Result<u64> {
    option(socket, libc::SOL_SOCKET, libc::SO_COOKIE)
}

/// The state of a socket of TCP, by its number. This does not take the error that waits for the program.
pub(super) fn tcp_state(socket: &OwnedFd) -> Option<u8> {
    // `struct tcp_info` begins with it.
    option(socket, libc::IPPROTO_TCP, libc::TCP_INFO).ok()
}

/// The address to which a socket is bound.
pub(super) fn local_address(socket: &OwnedFd) -> Option<IpAddr> {
    let address: SockaddrStorage = getsockname(socket.as_fd().as_raw_fd()).ok()?;
    let v4 = address.as_sockaddr_in().map(|address| address.ip().into());
    v4.or_else(|| address.as_sockaddr_in6().map(|address| address.ip().into()))
}
