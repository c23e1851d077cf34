//! The system calls that have no safe wrapper elsewhere: all `unsafe` code of this crate but that of `calls`.
#![allow(unsafe_code, reason = "this is the module for it")]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use perf_event_open_sys as perf;

/// Memory shared with the kernel. Every access is checked against its length.
#[derive(Debug)]
pub(super) struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping is owned by this value alone; the kernel is the only other writer, and what it writes is read
// by atomic operations or after one that acquires.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Maps `len` bytes of `fd`, shared, for reading and writing.
    pub(super) fn new(fd: BorrowedFd<'_>, len: usize) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the kernel chooses the address, so no memory of this process is replaced.
        let start =
            unsafe { libc::mmap(std::ptr::null_mut(), len, protection, libc::MAP_SHARED, fd.as_raw_fd(), 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, len })
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    fn at<T>(&self, offset: usize) -> *mut T {
        assert!(
            offset.checked_add(size_of::<T>()).is_some_and(|end| end <= self.len),
            "outside of the mapping"
        );
        // SAFETY: the assertion keeps the result within the mapping.
        let place = unsafe { self.start.as_ptr().add(offset) }.cast::<T>();
        assert!(place.is_aligned(), "not aligned");
        place
    }

    /// The number at `offset`; what the kernel wrote before it is visible after this call.
    pub(super) fn load_u32(&self, offset: usize) -> u32 {
        // SAFETY: `at` gives an aligned place within the mapping, which lives as long as `self`.
        unsafe { AtomicU32::from_ptr(self.at(offset)) }.load(Ordering::Acquire)
    }

    /// As [`Mapping::load_u32`], of 64 bits.
    pub(super) fn load_u64(&self, offset: usize) -> u64 {
        // SAFETY: as above.
        unsafe { AtomicU64::from_ptr(self.at(offset)) }.load(Ordering::Acquire)
    }

    /// Hands memory back to the kernel: reads before this call are done when the kernel sees the number.
    pub(super) fn store_u32(&self, offset: usize, value: u32) {
        // SAFETY: as above.
        unsafe { AtomicU32::from_ptr(self.at(offset)) }.store(value, Ordering::Release);
    }

    /// As [`Mapping::store_u32`], of 64 bits.
    pub(super) fn store_u64(&self, offset: usize, value: u64) {
        fence(Ordering::SeqCst);
        // SAFETY: as above.
        unsafe { AtomicU64::from_ptr(self.at(offset)) }.store(value, Ordering::Release);
    }

    /// Appends the bytes at `offset` to `out`. What reaches beyond the mapping is left out.
    pub(super) fn copy(&self, offset: usize, len: usize, out: &mut Vec<u8>) {
        let offset = offset.min(self.len);
        let len = len.min(self.len - offset);
        out.reserve(len);
        // SAFETY: source and destination are valid for `len` bytes and cannot overlap; the kernel does not write to
        // a part of a ring that was not handed back to it, and bytes have no invalid values.
        unsafe {
            let end = out.as_mut_ptr().add(out.len());
            std::ptr::copy_nonoverlapping(self.start.as_ptr().add(offset), end, len);
            out.set_len(out.len() + len);
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: this is the mapping made by `new`, and nothing refers to it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

fn checked(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn owned(fd: libc::c_long) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the system call has just returned this descriptor, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Sets an option whose value is a plain structure of numbers.
pub(super) fn set_option<T: Copy>(fd: BorrowedFd<'_>, level: i32, name: i32, value: &T) -> io::Result<()> {
    let value = std::ptr::from_ref(value).cast();
    // SAFETY: pointer and length describe `value`, which the kernel only reads.
    checked(unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, value, size_of::<T>() as u32) })
}

/// Attaches a classic BPF program; packets it gives 0 for are not delivered.
pub(super) fn attach_filter(fd: BorrowedFd<'_>, program: &[libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
    set_option(fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
}

/// PACKET_STATISTICS of a ring of version 3: packets, drops, freezes since the last call.
pub(super) fn packet_statistics(fd: BorrowedFd<'_>) -> io::Result<[u32; 3]> {
    const PACKET_STATISTICS: i32 = 6;
    let mut value = [0u32; 3];
    let mut len = size_of_val(&value) as u32;
    // SAFETY: pointer and length describe `value`, for which any content is valid.
    checked(unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_PACKET,
            PACKET_STATISTICS,
            value.as_mut_ptr().cast(),
            &raw mut len,
        )
    })?;
    Ok(value)
}

/// Opens a tracepoint for all tasks on one CPU.
pub(super) fn open_tracepoint(
    attributes: &mut perf::bindings::perf_event_attr,
    cpu: i32,
) -> io::Result<OwnedFd> {
    let flags = libc::c_ulong::from(perf::bindings::PERF_FLAG_FD_CLOEXEC);
    // SAFETY: the structure is valid and states its size; the call refers to no other memory.
    let fd = unsafe { perf::perf_event_open(attributes, -1, cpu, -1, flags) };
    owned(fd.into())
}

/// Lets `fd` write into the ring of `ring`.
pub(super) fn share_ring(fd: BorrowedFd<'_>, ring: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: both are open descriptors of events.
    checked(unsafe { perf::ioctls::SET_OUTPUT(fd.as_raw_fd(), ring.as_raw_fd()) })
}

/// Sets the condition under which a tracepoint is recorded.
pub(super) fn set_filter(fd: BorrowedFd<'_>, filter: &str) -> io::Result<()> {
    let filter = CString::new(filter)?;
    // SAFETY: the string ends with a zero byte and outlives the call, which only reads it.
    checked(unsafe { perf::ioctls::SET_FILTER(fd.as_raw_fd(), filter.as_ptr().cast_mut()) })
}

/// Begins to record.
pub(super) fn enable(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the call takes a number only.
    checked(unsafe { perf::ioctls::ENABLE(fd.as_raw_fd(), 0) })
}

/// Mounts a tracefs of our own, attached nowhere: only this descriptor reaches it, and it goes with it.
pub(super) fn mount_tracefs() -> io::Result<OwnedFd> {
    const FSOPEN_CLOEXEC: libc::c_long = 1;
    const FSCONFIG_CMD_CREATE: libc::c_long = 6;
    const FSMOUNT_CLOEXEC: libc::c_long = 1;
    // SAFETY: the string is constant and ends with a zero byte.
    let context = owned(unsafe { libc::syscall(libc::SYS_fsopen, c"tracefs".as_ptr(), FSOPEN_CLOEXEC) })?;
    let nothing = std::ptr::null::<u8>();
    // SAFETY: this command takes neither key nor value.
    let result = unsafe {
        libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), FSCONFIG_CMD_CREATE, nothing, nothing, 0)
    };
    checked(result as i32)?;
    // SAFETY: the call takes numbers only.
    owned(unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), FSMOUNT_CLOEXEC, 0) })
}

/// A descriptor of a process: readable once it has ended.
pub(super) fn open_process(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes numbers only.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid as libc::pid_t, 0) })
}

/// The wait status of a process that has ended, if the kernel (6.15 or later) keeps it for `fd`.
pub(super) fn exit_status(fd: BorrowedFd<'_>) -> Option<i32> {
    /// `PIDFD_INFO_EXIT`.
    const EXIT: u64 = 1 << 3;
    /// `struct pidfd_info` as of Linux 6.13: mask, cgroup id, then 12 numbers of 32 bits, the last the exit status.
    #[repr(C)]
    #[derive(Default)]
    struct Info {
        mask: u64,
        cgroup: u64,
        ids: [u32; 11],
        exit_code: i32,
    }
    const { assert!(size_of::<Info>() == 64) };
    let request = nix::request_code_readwrite!(0xffu8, 11, size_of::<Info>());
    let mut info = Info { mask: EXIT, ..Info::default() };
    // SAFETY: the request states the size of `info`, for which any content is valid.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), request, &raw mut info) };
    (result == 0 && info.mask & EXIT != 0).then_some(info.exit_code)
}

/// CPUs that this machine may have, present or not.
pub(super) fn configured_cpus() -> usize {
    // SAFETY: the call takes a number only.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_NPROCESSORS_CONF) }).unwrap_or(1)
}

/// Delivers packets of this protocol (in network order) of all interfaces.
pub(super) fn bind_packets(fd: BorrowedFd<'_>, protocol: u16) -> io::Result<()> {
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: protocol,
        sll_ifindex: 0,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let len = size_of_val(&address) as u32;
    // SAFETY: pointer and length describe `address`, which the kernel only reads.
    checked(unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), len) })
}

/// A socket of NETLINK_CONNECTOR.
pub(super) fn connector_socket() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: the call takes numbers only.
    owned(unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_CONNECTOR) }.into())
}
