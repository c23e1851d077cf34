//! Source C: processes that begin, take another name, and end; and the description of a process in /proc.
//!
//! The proc connector reports all processes, but only in the initial namespaces. Elsewhere a descriptor of each owning
//! process (pidfd) reports its end and, on Linux 6.15 or later, its status.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, NetlinkAddr, bind, send};

use super::diag::{enlarge, receive};
use super::sys;
use crate::event::{Event, Process, Time};

const CN_IDX_PROC: u32 = 1;
const CN_VAL_PROC: u32 = 1;
const PROC_CN_MCAST_LISTEN: u32 = 1;
const EXEC: u32 = 0x2;
const COMM: u32 = 0x200;
const EXIT: u32 = 0x8000_0000;
/// `struct nlmsghdr` and `struct cn_msg` before the event.
const EVENT_AT: usize = 16 + 20;
const BUFFER: usize = 8 << 20;

/// The proc connector.
#[derive(Debug)]
pub(super) struct Connector {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

impl Connector {
    /// Opens it and waits for the kernel's consent.
    pub(super) fn open() -> io::Result<Self> {
        let socket = sys::connector_socket()?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, CN_IDX_PROC))?;
        enlarge(&socket, BUFFER);
        let mut request = Vec::new();
        let len = (EVENT_AT + 4) as u32;
        let kind = libc::NLMSG_DONE as u32;
        // nlmsghdr: length, kind and flags, sequence, port. cn_msg: index, value, sequence, ack, length of the rest.
        for word in [len, kind, 0, 0, CN_IDX_PROC, CN_VAL_PROC, 0, 0, 4, PROC_CN_MCAST_LISTEN] {
            request.extend_from_slice(&word.to_ne_bytes());
        }
        send(socket.as_raw_fd(), &request, MsgFlags::empty()).map_err(|error| match error {
            nix::errno::Errno::ECONNREFUSED => unsupported(),
            error => error.into(),
        })?;
        let mut this = Self { socket, buffer: vec![0; 16 << 10] };
        this.await_consent()?;
        Ok(this)
    }

    /// The kernel answers with an event of kind 0 that carries an errno. Without an answer nothing would ever come:
    /// outside of the initial namespaces the request is dropped.
    fn await_consent(&mut self) -> io::Result<()> {
        for _ in 0..10 {
            let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
            if poll(&mut fds, PollTimeout::from(50u8))? == 0 {
                break;
            }
            let mut answer = None;
            receive(&self.socket, &mut self.buffer, |datagram| {
                let word = |at: usize| word(datagram, EVENT_AT + at);
                if word(0) == Some(0) {
                    answer = word(16);
                }
            })?;
            match answer {
                Some(0) => return Ok(()),
                Some(errno) => return Err(io::Error::from_raw_os_error(errno as i32)),
                None => {}
            }
        }
        Err(unsupported())
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Returns the programs that were started and the processes that ended, with the kernel's times. What began is
    /// looked up in /proc at once, while it is alive.
    pub(super) fn read(&mut self, mut take: impl FnMut(Time, Event)) -> io::Result<u64> {
        receive(&self.socket, &mut self.buffer, |datagram| {
            if let Some((at, change)) = parse(datagram) {
                match change {
                    Change::Renamed(pid) => {
                        if let Some(process) = describe(pid) {
                            take(at, Event::Process(process));
                        }
                    }
                    Change::Ended(pid, status) => {
                        take(at, Event::Exit { pid, status: Some(status), alive: None })
                    }
                }
            }
        })
    }
}

fn unsupported() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "not in this namespace")
}

#[derive(Debug, PartialEq)]
enum Change {
    Renamed(u32),
    Ended(u32, i32),
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

/// `struct proc_event`: kind, CPU, time of 64 bits, then pid, tgid and what belongs to the kind.
fn parse(datagram: &[u8]) -> Option<(Time, Change)> {
    let event = datagram.get(EVENT_AT..)?;
    let time = u64::from_ne_bytes(event.get(8..16)?.try_into().ok()?);
    let (thread, process) = (word(event, 16)?, word(event, 20)?);
    // The end of a thread is not the end of the process; the name of a thread is not that of the process.
    if thread != process {
        return None;
    }
    let change = match word(event, 0)? {
        EXEC | COMM => Change::Renamed(process),
        EXIT => Change::Ended(process, word(event, 24)? as i32),
        _ => return None,
    };
    Some((Time(time), change))
}

/// The description of a process in /proc.
pub(crate) fn describe(pid: u32) -> Option<Process> {
    let read = |file: &str| fs::read(format!("/proc/{pid}/{file}"));
    let status = String::from_utf8_lossy(&read("status").ok()?).into_owned();
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    let uid = field("Uid:").and_then(|ids| ids.split_whitespace().nth(1)).and_then(|id| id.parse().ok());
    let parent = field("PPid:").and_then(|id| id.trim().parse().ok()).unwrap_or_default();
    let comm = read("comm").ok().map_or_else(String::new, |comm| printable(comm.trim_ascii_end()));
    let command = read("cmdline").unwrap_or_default();
    let command: Vec<_> = command.split(|&byte| byte == 0).map(printable).collect();
    let cgroup =
        read("cgroup").map_or_else(|_| String::new(), |content| cgroup(&String::from_utf8_lossy(&content)));
    Some(Process {
        pid,
        comm: comm.into(),
        command: command.join(" ").trim_end().into(),
        uid,
        cgroup: cgroup.into(),
        parent,
    })
}

/// Names come from programs: what could control a terminal is shown escaped.
pub(super) fn printable(bytes: &[u8]) -> String {
    let mut out = String::new();
    for character in String::from_utf8_lossy(bytes).chars() {
        if character.is_control() {
            out.extend(character.escape_default());
        } else {
            out.push(character);
        }
    }
    out
}

/// The path in the unified hierarchy, or the first other that is not the root.
fn cgroup(content: &str) -> String {
    let path = |line: &str| line.splitn(3, ':').nth(2).unwrap_or_default().to_owned();
    let unified = content.lines().find(|line| line.starts_with("0::")).map(path);
    let others = content.lines().map(path).find(|path| path != "/" && !path.is_empty());
    match unified {
        Some(path) if path != "/" => path,
        unified => others.or(unified).unwrap_or_default(),
    }
}

/// Which processes hold which sockets, by the links in /proc/PID/fd.
///
/// Those of other users are visible to root only (CAP_DAC_READ_SEARCH and CAP_SYS_PTRACE).
pub(super) fn owners(wanted: &[u32], mut take: impl FnMut(u32, u32)) {
    let Ok(processes) = fs::read_dir("/proc") else { return };
    let mut left: Vec<u32> = wanted.to_vec();
    for process in processes.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else { continue };
        for file in files.flatten() {
            let Ok(target) = fs::read_link(file.path()) else { continue };
            let Some(inode) = target.to_str().and_then(socket_inode) else { continue };
            if let Some(at) = left.iter().position(|&wanted| wanted == inode) {
                left.swap_remove(at);
                take(inode, pid);
            }
        }
        if left.is_empty() {
            return;
        }
    }
}

fn socket_inode(target: &str) -> Option<u32> {
    target.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// Max number of process descriptors that are open to get the exit status of a process.
const MAX_DESCRIPTORS: usize = 1024;

/// The substitute for the connector where it is missing.
#[derive(Debug, Default)]
pub(super) struct Descriptors(HashMap<u32, OwnedFd>);

impl Descriptors {
    /// Watches this process from now on.
    pub(super) fn add(&mut self, pid: u32) {
        if self.0.len() < MAX_DESCRIPTORS
            && !self.0.contains_key(&pid)
            && let Ok(fd) = sys::open_process(pid)
        {
            self.0.insert(pid, fd);
        }
    }

    /// Returns the processes that have ended, each once. The status is kept once the parent has reaped the process.
    pub(super) fn read(&mut self, mut take: impl FnMut(u32, Option<i32>)) {
        if self.0.is_empty() {
            return;
        }
        let pids: Vec<u32> = self.0.keys().copied().collect();
        let mut fds: Vec<_> =
            pids.iter().map(|pid| PollFd::new(self.0[pid].as_fd(), PollFlags::POLLIN)).collect();
        if !matches!(poll(&mut fds, PollTimeout::ZERO), Ok(1..)) {
            return;
        }
        let ended: Vec<u32> = pids
            .iter()
            .zip(&fds)
            .filter(|(_, fd)| fd.any().unwrap_or_default())
            .map(|(&pid, _)| pid)
            .collect();
        for pid in ended {
            if let Some(fd) = self.0.remove(&pid) {
                let status = || sys::exit_status(fd.as_fd());
                // The parent may reap it between the two attempts.
                take(pid, status().or_else(|| zombie_status(pid)).or_else(status));
            }
        }
    }
}

/// The status of a process that is not reaped yet: the last field of /proc/PID/stat, where readable.
fn zombie_status(pid: u32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    (fields.next()? == "Z").then(|| fields.next_back()?.parse().ok()).flatten()
}

/// The name of a thread, or nothing.
pub(super) fn thread_name(tid: u32) -> Arc<str> {
    fs::read(format!("/proc/{tid}/comm"))
        .map_or_else(|_| "".into(), |name| printable(name.trim_ascii_end()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: u32, thread: u32, process: u32, code: u32) -> Vec<u8> {
        let mut datagram = vec![0; EVENT_AT];
        datagram.extend_from_slice(&kind.to_ne_bytes());
        datagram.extend_from_slice(&3u32.to_ne_bytes());
        datagram.extend_from_slice(&77u64.to_ne_bytes());
        for word in [thread, process, code, 17] {
            datagram.extend_from_slice(&word.to_ne_bytes());
        }
        datagram
    }

    #[test]
    fn the_end_of_a_process_tells_its_signal() {
        assert_eq!(parse(&event(EXIT, 5, 5, 9)), Some((Time(77), Change::Ended(5, 9))));
        assert_eq!(parse(&event(EXIT, 6, 5, 9)), None, "a thread");
        assert_eq!(parse(&event(EXEC, 5, 5, 0)), Some((Time(77), Change::Renamed(5))));
        assert_eq!(parse(&event(1, 5, 5, 0)), None, "a fork");
        let whole = event(EXIT, 5, 5, 9);
        assert!((0..EVENT_AT + 28).all(|len| parse(&whole[..len]).is_none()));
    }

    #[test]
    fn this_process_is_described() {
        let me = describe(std::process::id()).unwrap();
        assert!(me.command.contains("lastack_watch"), "{me:?}");
        assert_eq!(me.uid, Some(nix::unistd::geteuid().as_raw()));
        assert_eq!(me.parent, nix::unistd::getppid().as_raw() as u32);
        assert!(!me.comm.is_empty() && me.comm.len() <= 15);
    }

    #[test]
    fn the_owner_of_a_socket_is_found_by_its_inode() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let link = fs::read_link(format!("/proc/self/fd/{}", listener.as_raw_fd())).unwrap();
        let inode = socket_inode(link.to_str().unwrap()).unwrap();
        let mut found = Vec::new();
        owners(&[inode], |inode, pid| found.push((inode, pid)));
        assert_eq!(found, [(inode, std::process::id())]);
    }

    #[test]
    fn the_cgroup_is_the_first_that_is_not_empty() {
        assert_eq!(cgroup("0::/user.slice/a\n"), "/user.slice/a");
        assert_eq!(cgroup("2:cpu:/\n1:name=systemd:/b\n0::/\n"), "/b");
        assert_eq!(cgroup("0::/\n"), "/");
        assert_eq!(cgroup(""), "");
    }

    #[test]
    fn a_name_cannot_control_the_terminal() {
        assert_eq!(printable(b"a\x1b[2Jb\nc\xff"), "a\\u{1b}[2Jb\\nc\u{fffd}");
    }

    #[test]
    fn a_descriptor_tells_that_a_process_was_killed() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let mut descriptors = Descriptors::default();
        descriptors.add(child.id());
        let mut ended = Vec::new();
        descriptors.read(|pid, status| ended.push((pid, status)));
        assert_eq!(ended, []);
        child.kill().unwrap();
        child.wait().unwrap();
        descriptors.read(|pid, status| ended.push((pid, status)));
        assert_eq!(ended.len(), 1);
        // Linux before 6.15 does not keep it.
        assert!(matches!(ended[0].1, Some(9) | None), "{ended:?}");
        descriptors.read(|_, _| panic!("reported twice"));
    }
}
