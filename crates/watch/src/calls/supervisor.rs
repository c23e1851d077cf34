//! The thread that looks at each call and lets it continue.

use std::collections::HashMap;
use std::fs;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;

use super::sys;
use crate::event::{ConnectCall, Event, Flow, TcpState, Time};
use crate::sources::{MAX_ANCESTORS, describe_process, now};

/// Processes whose description was handed over.
const MAX_KNOWN: usize = 1 << 14;
/// `struct sockaddr_in6`.
const MAX_ADDRESS: usize = 28;

pub(super) struct Supervisor {
    pub(super) listener: OwnedFd,
    /// The call that is looked at, for the guard.
    pub(super) current: Arc<sys::SharedWord>,
    /// Closed at its end: then the guard lets the calls continue.
    pub(super) _alive: OwnedFd,
    pub(super) stopped: OwnedFd,
    pub(super) events: Sender<(Time, Event)>,
    pub(super) lost: Arc<AtomicU64>,
    /// The network namespace that is watched.
    pub(super) namespace: Option<PathBuf>,
    /// What tells a process and its program from another with the same id.
    pub(super) known: HashMap<u32, String>,
}

/// The network namespace of this thread.
pub(super) fn namespace() -> Option<PathBuf> {
    fs::read_link("/proc/thread-self/ns/net").ok()
}

impl Supervisor {
    /// Runs until it is stopped, or no process is under the filter any more.
    pub(super) fn run(mut self) {
        while self.wait() {
            // The process may have been killed meanwhile.
            let Ok(call) = sys::receive(&self.listener) else { continue };
            let at = now();
            self.current.store(call.id);
            // Handed over before the call continues: what follows from it is never known before the call itself. One that a
            // signal interrupts now is made, and reported, again.
            let seen = self.look(&call);
            if let Ok(Some(connect)) = seen {
                drop(self.events.send((at, Event::Connect(connect))));
            }
            let resumed = sys::resume(&self.listener, call.id);
            self.current.store(0);
            // If it cannot continue, its process was gone before it could be looked at.
            if seen.is_err() && resumed.is_ok() {
                self.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Waits for a call.
    fn wait(&self) -> bool {
        loop {
            let mut fds = [
                PollFd::new(self.listener.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.stopped.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut fds, PollTimeout::NONE) {
                Err(nix::errno::Errno::EINTR) => continue,
                Err(_) => return false,
                Ok(_) => {}
            }
            let [call, stopped] = fds.map(|fd| fd.revents().unwrap_or(PollFlags::empty()));
            return stopped.is_empty() && call.contains(PollFlags::POLLIN);
        }
    }

    /// What the call is about; `None` if it does not begin a connection of TCP in this network namespace.
    fn look(&mut self, call: &sys::Call) -> io::Result<Option<ConnectCall>> {
        let Some(remote) = address(call)? else { return Ok(None) };
        let (pid, process) = open_process(call.thread)?;
        let socket = sys::socket_of(&process, call.descriptor)?;
        // The thread was alive after all this was opened: it was not another one with the same id.
        if !sys::is_waiting(&self.listener, call.id) {
            return Ok(None);
        }
        if sys::protocol(&socket) != Some(libc::IPPROTO_TCP) {
            return Ok(None);
        }
        // A call that queries the progress of an earlier one.
        if sys::tcp_state(&socket).and_then(|state| TcpState::from_number(state.into()))
            != Some(TcpState::Close)
        {
            return Ok(None);
        }
        let namespace = fs::read_link(format!("/proc/{}/ns/net", call.thread)).ok();
        if namespace != self.namespace {
            return Ok(None);
        }
        let cookie = sys::cookie(&socket)?;
        let local =
            sys::local_address(&socket).filter(|ip| !ip.is_unspecified()).or_else(|| source_for(remote));
        drop(socket);
        self.describe(pid);
        let unspecified =
            if remote.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let flow = Flow::new(SocketAddr::new(local.unwrap_or(unspecified), 0), remote);
        Ok(Some(ConnectCall { pid, cookie, flow }))
    }

    /// Hands over the descriptions of a process and its ancestors, while it waits.
    fn describe(&mut self, pid: u32) {
        let mut next = pid;
        for _ in 0..MAX_ANCESTORS {
            let Some(identity) = identity(next) else { return };
            if next <= 1 || self.known.get(&next) == Some(&identity) {
                return;
            }
            if self.known.len() >= MAX_KNOWN {
                self.known.clear();
            }
            let Some(process) = describe_process(next) else { return };
            self.known.insert(next, identity);
            next = process.parent;
            drop(self.events.send((now(), Event::Process(process))));
        }
    }
}

/// The address that the call names; `None` if it is not one of IPv4 or IPv6.
fn address(call: &sys::Call) -> io::Result<Option<SocketAddr>> {
    let (pointer, len) = match call.name {
        sys::Name::At { pointer, len } => (pointer, len),
        // `struct msghdr` begins with the pointer and the length.
        sys::Name::InMessage { pointer } => {
            let header = read(call.thread, pointer, 12)?;
            let word = |at: usize| header.get(at..at + 4).and_then(|bytes| bytes.first_chunk()).copied();
            let name = header.first_chunk().map_or(0, |&name| u64::from_ne_bytes(name));
            (name, u64::from(word(8).map_or(0, u32::from_ne_bytes)))
        }
    };
    if pointer == 0 {
        return Ok(None);
    }
    Ok(parse(&read(call.thread, pointer, len.min(MAX_ADDRESS as u64) as usize)?))
}

fn parse(bytes: &[u8]) -> Option<SocketAddr> {
    let family = i32::from(u16::from_ne_bytes(*bytes.first_chunk()?));
    let port = u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?);
    let ip = match family {
        libc::AF_INET => IpAddr::from(*bytes.get(4..)?.first_chunk::<4>()?),
        libc::AF_INET6 => IpAddr::from(*bytes.get(8..)?.first_chunk::<16>()?),
        _ => return None,
    };
    // The kernel takes the unspecified address for this host.
    let ip = match ip {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    Some(SocketAddr::new(ip, port))
}

fn read(thread: u32, pointer: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    let from = RemoteIoVec { base: pointer as usize, len };
    let read = process_vm_readv(Pid::from_raw(thread as i32), &mut [IoSliceMut::new(&mut bytes)], &[from])?;
    bytes.truncate(read);
    Ok(bytes)
}

/// The process of a thread, and a descriptor of it.
fn open_process(thread: u32) -> io::Result<(u32, OwnedFd)> {
    if let Ok(process) = sys::open_process(thread) {
        return Ok((thread, process));
    }
    // It is not the first thread of its process.
    let status = fs::read_to_string(format!("/proc/{thread}/status"))?;
    let process = status.lines().find_map(|line| line.strip_prefix("Tgid:")?.trim().parse().ok());
    let process = process.ok_or(io::ErrorKind::NotFound)?;
    Ok((process, sys::open_process(process)?))
}

/// The source address that the routing table gives for this destination. No packet is sent.
fn source_for(remote: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr =
        if remote.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(remote).ok()?;
    socket.local_addr().ok().map(|address| address.ip())
}

/// The name and the start of a process, from /proc/PID/stat.
fn identity(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (name, rest) = stat.rsplit_once(')')?;
    // The 22nd field; the name is the second.
    let started = rest.split_ascii_whitespace().nth(19)?;
    Some(format!("{name}){started}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_the_kernel_does() {
        let v4 = [2, 0, 0x1f, 0xa5, 10, 78, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(parse(&v4), Some("10.78.0.2:8101".parse().unwrap()));
        let mut v6 = vec![10, 0, 0, 80, 0, 0, 0, 0];
        v6.extend_from_slice(&Ipv6Addr::LOCALHOST.octets());
        assert_eq!(parse(&v6), Some("[::1]:80".parse().unwrap()));
        assert_eq!(parse(&[2, 0, 0, 80, 0, 0, 0, 0]), Some("127.0.0.1:80".parse().unwrap()));
        assert_eq!(parse(&[1, 0, b'/', b'x', 0, 0, 0, 0]), None, "a path");
        assert!((0..8).all(|len| parse(&v4[..len]).is_none()));
        assert!((0..24).all(|len| parse(&v6[..len]).is_none()));
    }

    #[test]
    fn the_source_of_a_destination_is_that_of_the_routing_table() {
        assert_eq!(source_for("127.0.0.9:1".parse().unwrap()), Some("127.0.0.1".parse().unwrap()));
    }

    #[test]
    fn a_process_is_distinguished_from_another_with_its_id() {
        let me = identity(std::process::id()).unwrap();
        assert!(me.rsplit_once(')').unwrap().1.parse::<u64>().unwrap() > 0, "{me}");
        assert_eq!(identity(std::process::id()), Some(me));
    }
}
