//! Which process a socket of the program belongs to: its kernel reports the socket's inode (sock_diag(7)), and /proc
//! shows which process has it open.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::report::Process;

/// Max descriptor numbers kept: a program that makes one connection after the other reuses the same few.
const MAX_RECENT: usize = 8;
/// Max share of the run's time for searching all processes, beyond an initial allowance.
const SHARE: u32 = 10;
const FREE: Duration = Duration::from_millis(100);

/// How long the name of a process is cached.
const COMM: Duration = Duration::from_millis(200);

/// Finds the owners of sockets.
#[derive(Debug)]
pub struct Owners {
    /// The network namespace of the program; without it no owner is found.
    namespace: RefCell<Option<PathBuf>>,
    recent: RefCell<VecDeque<(u32, u32)>>,
    /// The name read last, and its time.
    comm: RefCell<Option<(u32, String, Instant)>>,
    began: Instant,
    spent: Cell<Duration>,
}

impl Default for Owners {
    fn default() -> Self {
        Self {
            namespace: RefCell::default(),
            recent: RefCell::default(),
            comm: RefCell::default(),
            began: Instant::now(),
            spent: Cell::default(),
        }
    }
}

impl Owners {
    /// The program is in the network namespace with this number.
    pub fn look_in(&self, namespace: u64) {
        *self.namespace.borrow_mut() = Some(PathBuf::from(format!("net:[{namespace}]")));
    }

    /// The process that has the socket with this inode open.
    pub fn of(&self, inode: u32) -> Option<Process> {
        let name = PathBuf::from(format!("socket:[{inode}]"));
        let known = self.recently(&name).or_else(|| self.search(&name))?;
        let comm = self.comm(known.0)?;
        self.remember(known);
        Some(Process { pid: known.0, comm })
    }

    /// The name of a process, cached for a while: it rarely changes.
    fn comm(&self, pid: u32) -> Option<String> {
        let mut last = self.comm.borrow_mut();
        if let Some((_, comm, _)) = last.as_ref().filter(|(of, _, at)| *of == pid && at.elapsed() < COMM) {
            return Some(comm.clone());
        }
        let comm = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim_end().to_owned();
        *last = Some((pid, comm.clone(), Instant::now()));
        Some(comm)
    }

    /// Looks at the descriptor numbers where sockets were found recently, and at the next one.
    fn recently(&self, name: &Path) -> Option<(u32, u32)> {
        let recent = self.recent.borrow();
        let mut candidates = recent.iter().rev().flat_map(|&(pid, fd)| [(pid, fd), (pid, fd + 1)]);
        candidates.find(|(pid, fd)| is_open(*pid, *fd, name))
    }

    fn search(&self, name: &Path) -> Option<(u32, u32)> {
        let namespace = self.namespace.borrow();
        let namespace = namespace.as_ref()?;
        if self.spent.get() > FREE + self.began.elapsed() / SHARE {
            return None;
        }
        let begun = Instant::now();
        let mut ids: Vec<u32> = numbers(Path::new("/proc"));
        // The newest first: new connections are there.
        ids.sort_unstable_by(|a, b| b.cmp(a));
        let inside =
            |pid: &u32| fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|link| link == *namespace);
        let found = ids.into_iter().filter(inside).find_map(|pid| {
            let descriptors = numbers(&PathBuf::from(format!("/proc/{pid}/fd")));
            descriptors.into_iter().find(|fd| is_open(pid, *fd, name)).map(|fd| (pid, fd))
        });
        self.spent.set(self.spent.get() + begun.elapsed());
        found
    }

    fn remember(&self, found: (u32, u32)) {
        let mut recent = self.recent.borrow_mut();
        recent.retain(|known| *known != found);
        if recent.len() >= MAX_RECENT {
            recent.pop_front();
        }
        recent.push_back(found);
    }
}

fn is_open(pid: u32, fd: u32, name: &Path) -> bool {
    fs::read_link(format!("/proc/{pid}/fd/{fd}")).is_ok_and(|link| link == name)
}

/// The entries of a directory that are numbers.
fn numbers(directory: &Path) -> Vec<u32> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn inode(socket: &impl AsRawFd) -> u32 {
        let link = fs::read_link(format!("/proc/self/fd/{}", socket.as_raw_fd())).unwrap();
        let link = link.to_str().unwrap();
        link.trim_start_matches("socket:[").trim_end_matches(']').parse().unwrap()
    }

    #[test]
    fn a_socket_is_found_in_the_process_that_has_it_open() {
        let owners = Owners::default();
        let sockets: Vec<UdpSocket> = (0..3).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
        assert_eq!(owners.of(inode(&sockets[0])), None, "without a namespace nobody is looked at");
        owners.look_in(fs::metadata("/proc/self/ns/net").unwrap().ino());
        for socket in &sockets {
            assert_eq!(owners.of(inode(socket)).unwrap().pid, std::process::id());
        }
        let closed = inode(&sockets[1]);
        drop(sockets);
        assert_eq!(owners.of(closed), None);
    }

    #[test]
    fn the_search_is_bounded_and_cached() {
        let owners = Owners::default();
        owners.look_in(fs::metadata("/proc/self/ns/net").unwrap().ino());
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(owners.of(inode(&socket)).is_some());
        owners.spent.set(Duration::from_secs(3600));
        assert!(owners.of(inode(&socket)).is_some(), "found where it was");
        let others: Vec<UdpSocket> = (0..40).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
        assert_eq!(owners.of(inode(&others[39])), None, "a search would cost too much");
    }
}
