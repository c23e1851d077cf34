//! Privileges of lastack itself once the program runs: the minimum that it needs.
//!
//! It processes input from a hostile remote and a hostile program. If either takes it over, it has no capability,
//! cannot gain any by starting a program, cannot start programs, and reaches only the system calls that it needs.

mod files;

use std::collections::BTreeMap;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::sys::prctl;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};
use socket2::{Domain, Protocol, Socket, Type};

/// Sends signals to processes of other users.
pub const CAP_KILL: u32 = 5;

/// Descriptors of processes of other users, in /proc.
const CAP_DAC_READ_SEARCH: u32 = 2;
const CAP_SYS_PTRACE: u32 = 19;

/// Raw sockets: pings, on systems that do not permit ping sockets.
const CAP_NET_RAW: u32 = 13;

/// Gives up the privileges that a run does not need, for good. Call it after everything is set up.
/// `raw_sockets`: the right to those is needed in any case. `write`: the directories in which files are still made.
///
/// # Errors
/// The privileges that could not be given up; the others are.
pub fn enter(raw_sockets: bool, write: &[PathBuf]) -> Result<(), Vec<String>> {
    let kept: &[u32] = if raw_sockets || needs_raw_sockets() { &[CAP_NET_RAW] } else { &[] };
    let mut failed = Vec::new();
    let mut note = |what: &str, result: Result<(), String>| {
        failed.extend(result.err().map(|why| format!("lastack could not give up {what}: {why}")));
    };
    note("capabilities", drop_capabilities(kept).map_err(|errno| errno.to_string()));
    note(
        "the gain of new privileges (no_new_privs)",
        prctl::set_no_new_privs().map_err(|errno| errno.to_string()),
    );
    note("the files that it does not need (Landlock)", files::restrict(write));
    note("the system calls that it does not need (seccomp)", filter_calls(CALLS));
    if failed.is_empty() { Ok(()) } else { Err(failed) }
}

fn needs_raw_sockets() -> bool {
    Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::ICMPV4)).is_err()
}

/// The same for the attendant, which has entered the guest's namespaces: it keeps the capabilities there that it needs to
/// see which process has a socket. Landlock would prevent that.
pub fn enter_attendant() -> Result<(), Vec<String>> {
    let results = [
        drop_capabilities(&[CAP_DAC_READ_SEARCH, CAP_SYS_PTRACE]).map_err(|errno| errno.to_string()),
        prctl::set_no_new_privs().map_err(|errno| errno.to_string()),
        filter_calls(ATTENDANT_CALLS),
    ];
    let failed: Vec<String> = results.into_iter().filter_map(Result::err).collect();
    if failed.is_empty() { Ok(()) } else { Err(failed) }
}

/// Refuses (EPERM) every other system call.
fn filter_calls(calls: &[libc::c_long]) -> Result<(), String> {
    let Ok(arch) = std::env::consts::ARCH.try_into() else {
        // The filter library does not support this architecture.
        return Ok(());
    };
    let errno = |errno: i32| SeccompAction::Errno(errno.cast_unsigned());
    let mut allowed: Rules = calls.iter().map(|call| (*call, Vec::new())).collect();
    // Threads only, no processes or namespaces.
    let thread = libc::CLONE_THREAD as u64;
    let is_thread = SeccompCondition::new(0, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(thread), thread);
    let is_thread = is_thread.and_then(|condition| SeccompRule::new(vec![condition]));
    if calls.contains(&libc::SYS_clone3) {
        allowed.insert(libc::SYS_clone, vec![is_thread.map_err(|error| error.to_string())?]);
    }
    let calls = SeccompFilter::new(allowed, errno(libc::EPERM), SeccompAction::Allow, arch);
    // Its arguments cannot be inspected: libraries fall back to the older call if the kernel does not have it.
    let newer = [(libc::SYS_clone3, Vec::new())].into_iter().collect();
    let newer = SeccompFilter::new(newer, SeccompAction::Allow, errno(libc::ENOSYS), arch);
    for filter in [newer, calls] {
        let program: BpfProgram =
            filter.and_then(TryInto::try_into).map_err(|error| format!("no filter can be made ({error})"))?;
        // A kernel without seccomp filters.
        seccompiler::apply_filter(&program).map_err(|error| error.to_string())?;
    }
    Ok(())
}

type Rules = BTreeMap<libc::c_long, Vec<SeccompRule>>;

/// The system calls of a run: sockets, the device, its files, memory, time, its own threads, and waiting for its
/// children. Excluded: starting programs, entering namespaces, mounting, tracing, sending signals to other processes.
const CALLS: &[libc::c_long] = &[
    libc::SYS_accept4,
    libc::SYS_bind,
    libc::SYS_brk,
    libc::SYS_capget,
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_clone3,
    libc::SYS_close,
    libc::SYS_connect,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_faccessat,
    libc::SYS_fcntl,
    libc::SYS_fdatasync,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_futex,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getpeername,
    libc::SYS_getpgid,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_gettid,
    libc::SYS_gettimeofday,
    libc::SYS_getuid,
    libc::SYS_ioctl,
    libc::SYS_listen,
    libc::SYS_lseek,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    libc::SYS_mkdirat,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_nanosleep,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_pipe2,
    libc::SYS_ppoll,
    libc::SYS_prctl,
    libc::SYS_pread64,
    libc::SYS_prlimit64,
    libc::SYS_pselect6,
    libc::SYS_pwrite64,
    libc::SYS_read,
    libc::SYS_readlinkat,
    libc::SYS_readv,
    libc::SYS_recvfrom,
    libc::SYS_recvmmsg,
    libc::SYS_recvmsg,
    libc::SYS_renameat2,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_sendmmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_set_robust_list,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    libc::SYS_sigaltstack,
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_splice,
    libc::SYS_statx,
    libc::SYS_sysinfo,
    libc::SYS_tgkill,
    libc::SYS_timer_settime,
    libc::SYS_uname,
    libc::SYS_unlinkat,
    libc::SYS_wait4,
    libc::SYS_waitid,
    libc::SYS_write,
    libc::SYS_writev,
    // Older x86 system calls that libraries still use.
    #[cfg(target_arch = "x86_64")]
    libc::SYS_access,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_arch_prctl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_dup2,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_getpgrp,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mkdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_readlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rename,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_stat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
];

/// The system calls of the attendant: its socket, sockets of the guest's network, /proc, memory. It connects nothing,
/// sends nothing to a network and writes no file.
const ATTENDANT_CALLS: &[libc::c_long] = &[
    libc::SYS_brk,
    libc::SYS_clock_gettime,
    libc::SYS_close,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_fcntl,
    libc::SYS_fstat,
    libc::SYS_futex,
    libc::SYS_getdents64,
    libc::SYS_getrandom,
    libc::SYS_ioctl,
    libc::SYS_lseek,
    libc::SYS_madvise,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_pread64,
    libc::SYS_read,
    libc::SYS_readlinkat,
    libc::SYS_recvfrom,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_sigaltstack,
    libc::SYS_socket,
    libc::SYS_statx,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_readlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_stat,
];

/// linux/capability.h.
const VERSION_3: u32 = 0x2008_0522;
const LAST: u32 = 63;

#[repr(C)]
struct Header {
    version: u32,
    process: libc::c_int,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Set {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Gives up every capability except these, and the means to gain others.
pub fn drop_capabilities(kept: &[u32]) -> Result<(), Errno> {
    for capability in (0..=LAST).filter(|capability| !kept.contains(capability)) {
        // Without CAP_SETPCAP the bounding set stays, which no_new_privs makes harmless; unknown ones are invalid.
        // SAFETY: the call takes numbers.
        let _stays = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
    }
    let held = held()?;
    let mut sets = [Set::default(); 2];
    for &capability in kept {
        let (word, bit) = ((capability / 32) as usize, 1 << (capability % 32));
        if held[word].permitted & bit != 0 {
            sets[word].permitted |= bit;
            sets[word].effective |= bit;
        }
    }
    let header = Header { version: VERSION_3, process: 0 };
    // SAFETY: the kernel reads a header and two sets, which live until the call returns.
    Errno::result(unsafe { libc::syscall(libc::SYS_capset, &raw const header, sets.as_ptr()) })?;
    Ok(())
}

fn held() -> Result<[Set; 2], Errno> {
    let header = Header { version: VERSION_3, process: 0 };
    let mut sets = [Set::default(); 2];
    // SAFETY: the kernel reads the header and writes two sets, which live until the call returns.
    Errno::result(unsafe { libc::syscall(libc::SYS_capget, &raw const header, sets.as_mut_ptr()) })?;
    Ok(sets)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether this kernel has Landlock.
    fn has_landlock() -> bool {
        // SAFETY: without a ruleset the call only returns the version.
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0, 1) > 0 }
    }

    /// In a process of its own, which the filter stays with.
    #[test]
    fn a_confined_process_can_do_its_work_and_nothing_else() {
        // SAFETY: the child calls what it tests, and ends.
        let child = unsafe { nix::unistd::fork() }.unwrap();
        if let nix::unistd::ForkResult::Parent { child } = child {
            let status = nix::sys::wait::waitpid(child, None).unwrap();
            assert_eq!(status, nix::sys::wait::WaitStatus::Exited(child, 0));
            return;
        }
        let landlocked = has_landlock();
        let works = || {
            let place = tempfile::tempdir().ok()?;
            let home = tempfile::tempdir().ok()?;
            enter(false, &[place.path().to_owned()]).ok()?;
            std::fs::write(place.path().join("capture"), "").ok()?;
            if landlocked {
                let denied = std::fs::write(home.path().join("x"), "").err()?;
                (denied.kind() == std::io::ErrorKind::PermissionDenied).then_some(())?;
                std::fs::read_dir(home.path()).is_err().then_some(())?;
            }
            std::fs::read("/proc/1/stat").ok()?;
            let listener = std::net::TcpListener::bind("127.0.0.1:0").ok()?;
            std::net::TcpStream::connect(listener.local_addr().ok()?).ok()?;
            std::thread::spawn(|| {}).join().ok()?;
            let refused = |result: Result<(), Errno>| (result == Err(Errno::EPERM)).then_some(());
            refused(nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER))?;
            refused(nix::sys::signal::kill(nix::unistd::Pid::parent(), None))?;
            let program = std::process::Command::new("true").status();
            program.is_err_and(|error| error.raw_os_error() == Some(libc::EPERM)).then_some(())?;
            let status = std::fs::read_to_string("/proc/self/status").ok()?;
            status.contains("NoNewPrivs:\t1").then_some(())?;
            status.contains("Seccomp:\t2").then_some(())
        };
        let done = works().is_some();
        // SAFETY: nothing of this copy of the test program runs on.
        unsafe { libc::_exit(i32::from(!done)) }
    }
}
