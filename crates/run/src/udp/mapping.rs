//! The mapping of one socket of the program: the host's socket, and an account for each remote.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet, VecDeque};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::way::Way;
use crate::Run;
use crate::budget::Slot;
use crate::flow::FlowAccount;
use crate::host::Source;
use crate::host::datagrams::{DatagramSocket, Shape, is_dropped};
use crate::host::socket::errno_name;
use crate::proxy::{Association, Destination, Proxy, Refused};
use crate::report::Proto;

/// Idle timeout of a mapping (RFC 4787 REQ-5).
const IDLE: Duration = Duration::from_secs(5 * 60);
/// The same, if each remote is a name server that got one query and has answered (RFC 4787 REQ-5, RFC 5625 4.4).
const IDLE_ANSWERED: Duration = Duration::from_secs(30);
/// Max remotes of one mapping that are accounted for at once; beyond that, the records of those idle for longest are
/// written early.
const MAX_REMOTES: usize = 1024;
/// Max bytes queued for the host's socket.
const MAX_WAITING: usize = 4 << 20;
/// Ports from here on are ephemeral (`ip_local_port_range`): the program does not depend on which one it gets.
const FIRST_EPHEMERAL: u16 = 32_768;

/// A socket of the program, and whether its remotes are on this host's loopback, which bound sockets do not reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Its address, in the program's network.
    pub program: SocketAddr,
    /// The remotes are on this host's loopback, and other remotes need a bound socket.
    pub unbound: bool,
}

/// One socket of the program.
#[derive(Debug)]
pub struct Mapping {
    /// What it is for.
    pub key: Key,
    /// The host's socket.
    pub socket: Way,
    source: Source,
    remotes: RefCell<HashMap<SocketAddr, Rc<FlowAccount>>>,
    last: Cell<Instant>,
    /// Why the host's socket is on another port.
    note: RefCell<Option<String>>,
    evicted: Cell<bool>,
    /// Its descriptor; returned as soon as it is evicted.
    slot: RefCell<Option<Slot>>,
    /// The host's socket is bound to an interface for multicast.
    for_groups: Cell<bool>,
    changed: Notify,
    /// Datagrams that the host's socket had no room for.
    up: RefCell<Waiting>,
    /// Datagrams that this host has dropped after they had waited.
    lost: Cell<u64>,
    /// Datagrams that the stack had no room for.
    down: RefCell<VecDeque<(SocketAddr, Vec<u8>, Shape)>>,
}

/// A datagram, or a group of them, that waits for the host's socket.
#[derive(Debug)]
struct Queued {
    to: SocketAddr,
    named: (Destination, SocketAddr),
    payload: Vec<u8>,
    shape: Shape,
}

#[derive(Debug, Default)]
struct Waiting {
    datagrams: VecDeque<Queued>,
    bytes: usize,
}

impl Mapping {
    /// Opens the host's socket, on the program's own port if that is free; otherwise the error is the reason. `shared`:
    /// another socket of ours is on that port for a group.
    pub fn open(
        key: Key,
        shared: bool,
        source: &Source,
        via: Option<&Rc<Proxy>>,
    ) -> io::Result<(Self, Option<io::Error>)> {
        let (program, source) = (key.program, source.clone());
        let (socket, taken) = match via {
            Some(proxy) => (Way::Proxy(Box::new(Association::new(proxy.clone(), source.clone()))), None),
            None => {
                let opened = DatagramSocket::open(program.is_ipv6(), program.port(), shared, &source)?;
                (Way::Direct(opened.0), opened.1)
            }
        };
        let mapping = Self {
            key,
            source,
            socket,
            remotes: RefCell::default(),
            last: Cell::new(Instant::now()),
            note: RefCell::default(),
            evicted: Cell::new(false),
            slot: RefCell::default(),
            for_groups: Cell::new(false),
            changed: Notify::new(),
            up: RefCell::default(),
            lost: Cell::default(),
            down: RefCell::default(),
        };
        Ok((mapping, taken))
    }

    /// The program's own port could not be had on this host. An ephemeral port is as good as another; a port that the
    /// program chose is reported as missing.
    pub fn another_port(&self, error: &io::Error, run: &Run) {
        let port = self.key.program.port();
        if port >= FIRST_EPHEMERAL {
            return;
        }
        let why = match error.raw_os_error() {
            Some(libc::EADDRINUSE) => "is in use on this host".to_owned(),
            Some(libc::EACCES | libc::EPERM) => "is privileged on this host".to_owned(),
            errno => format!("is not available on this host ({})", errno_name(errno.unwrap_or(libc::EIO))),
        };
        let used = self.socket.port().unwrap_or(0);
        *self.note.borrow_mut() = Some(format!("sent from port {used} of this host, because {port} {why}"));
        run.report.warn(format!(
            "UDP port {port} {why}: datagrams that the program sends from it leave from another port, and datagrams to it from elsewhere do not reach the program"
        ));
    }

    /// Whether the account of this remote, which is a new one, would evict others.
    pub fn would_evict(&self, remote: SocketAddr) -> bool {
        let remotes = self.remotes.borrow();
        remotes.len() >= MAX_REMOTES && !remotes.contains_key(&remote)
    }

    /// The account of a remote, unless it has none yet or its record is written already.
    pub fn known(&self, remote: SocketAddr) -> Option<Rc<FlowAccount>> {
        self.remotes.borrow().get(&remote).cloned()
    }

    /// The account of a remote, under the program's address of it.
    pub fn account(&self, remote: SocketAddr, run: &Run) -> Rc<FlowAccount> {
        let mut remotes = self.remotes.borrow_mut();
        if let Some(account) = remotes.get(&remote) {
            return account.clone();
        }
        if remotes.len() >= MAX_REMOTES {
            // The half idle for longest is evicted at once, to amortize the cost of the search.
            let mut ages: Vec<_> = remotes.values().map(|account| account.last()).collect();
            let middle = ages.len() / 2;
            let median = *ages.select_nth_unstable(middle).1;
            remotes.retain(|_, account| {
                let stays = account.last() > median;
                if !stays {
                    run.record(account.record());
                }
                stays
            });
        }
        let account = run.show(FlowAccount::new(self.key.program, remote));
        account.note(self.note.borrow().clone());
        *account.context.borrow_mut() =
            run.context(&crate::inject::Flow::new(Proto::Udp, self.key.program, remote));
        remotes.insert(remote, account.clone());
        account
    }

    /// Sends, or queues until there is room. [`ErrorKind::WouldBlock`]: the queue is full.
    /// `named`: the destination as a proxy gets it, and as the program sees it.
    pub fn send(
        &self,
        to: SocketAddr,
        named: (&Destination, SocketAddr),
        payload: &[u8],
        shape: Shape,
    ) -> io::Result<()> {
        self.touch();
        if to.ip().is_multicast() && !self.for_groups.replace(true) {
            self.socket.prepare_for_groups(&self.source);
        }
        let mut up = self.up.borrow_mut();
        if up.datagrams.is_empty() {
            match self.socket.send(to, named, payload, shape) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                other => return other,
            }
        }
        if up.bytes + payload.len() > MAX_WAITING {
            return Err(ErrorKind::WouldBlock.into());
        }
        up.bytes += payload.len();
        up.datagrams.push_back(Queued {
            to,
            named: (named.0.clone(), named.1),
            payload: payload.to_vec(),
            shape,
        });
        self.changed.notify_one();
        Ok(())
    }

    /// Sends queued datagrams, once there is room; pending while none are queued.
    pub async fn send_waiting(&self) {
        if self.up.borrow().datagrams.is_empty() {
            return std::future::pending().await;
        }
        if self.socket.writable().await.is_err() {
            return std::future::pending().await;
        }
        let mut up = self.up.borrow_mut();
        while let Some(Queued { to, named, payload, shape }) = up.datagrams.front() {
            match self.socket.send(*to, (&named.0, named.1), payload, *shape) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if is_dropped(&error) => {
                    let datagrams =
                        shape.segment_size.map_or(1, |size| payload.len().div_ceil(size.max(1).into()));
                    self.lost.set(self.lost.get() + datagrams as u64);
                }
                // An error about the remote reaches the program by the error queue.
                _ => {}
            }
            let sent = payload.len();
            up.bytes -= sent;
            up.datagrams.pop_front();
        }
    }

    /// Why the proxy refused the datagrams.
    pub fn refused(&self) -> Option<Refused> {
        match &self.socket {
            Way::Proxy(association) => association.refused(),
            Way::Direct(_) => None,
        }
    }

    /// Takes the datagrams that wait for the host's socket, with the program's address of their destination.
    pub fn take_waiting(&self) -> Vec<(SocketAddr, Vec<u8>, Shape)> {
        let waiting = std::mem::take(&mut *self.up.borrow_mut());
        waiting.datagrams.into_iter().map(|queued| (queued.named.1, queued.payload, queued.shape)).collect()
    }

    /// Queues datagrams for the program until the stack has room for them.
    pub fn keep(&self, remote: SocketAddr, payload: &[u8], shape: Shape) {
        self.down.borrow_mut().push_back((remote, payload.to_vec(), shape));
    }

    /// The oldest of those.
    pub fn take_kept(&self) -> Option<(SocketAddr, Vec<u8>, Shape)> {
        self.down.borrow_mut().pop_front()
    }

    /// Whether any are queued.
    pub fn waits(&self) -> bool {
        !self.down.borrow().is_empty()
    }

    /// Notes activity.
    pub fn touch(&self) {
        self.last.set(Instant::now());
    }

    /// The time of the last activity.
    pub fn last(&self) -> Instant {
        self.last.get()
    }

    /// Keeps the descriptor that it was granted.
    pub fn hold(&self, slot: Slot) {
        *self.slot.borrow_mut() = Some(slot);
    }

    /// Waits until its descriptor is needed for another flow.
    pub async fn is_out_of_budget(&self) {
        let evicted = self.slot.borrow().as_ref().map(Slot::evicted);
        match evicted {
            Some(evicted) => evicted.await,
            None => std::future::pending().await,
        }
        let mut note = self.note.borrow_mut();
        let reason = |slot: &Slot| slot.reason(self.last().elapsed());
        *note = self.slot.borrow().as_ref().map(reason).or(note.take());
    }

    /// Evicts it, to make room for another.
    pub fn evict(&self) {
        self.evicted.set(true);
        *self.slot.borrow_mut() = None;
        self.changed.notify_one();
    }

    /// Whether it is evicted.
    pub fn is_evicted(&self) -> bool {
        self.evicted.get()
    }

    /// Waits for a change that its task has to handle.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// When to check whether it is idle.
    pub fn deadline(&self) -> Instant {
        self.last.get() + self.idle_limit()
    }

    /// Whether it has been idle for too long.
    pub fn is_idle(&self) -> bool {
        Instant::now() >= self.deadline()
    }

    fn idle_limit(&self) -> Duration {
        let remotes = self.remotes.borrow();
        // Before the first datagram is sent, the kind of traffic is not known.
        let answered = !remotes.is_empty() && remotes.values().all(|account| account.is_answered_question());
        if answered { IDLE_ANSWERED } else { IDLE }
    }

    /// Writes the records of all its remotes.
    pub fn end(&self, run: &Run) {
        let dropped = self.socket.dropped() + self.lost.take();
        run.report.count(|summary| summary.dropped += dropped);
        let remotes = std::mem::take(&mut *self.remotes.borrow_mut());
        let answered = remotes.iter().filter(|(_, account)| account.has_answered());
        let hosts: HashSet<IpAddr> = answered.map(|(remote, _)| remote.ip()).collect();
        for (remote, account) in remotes {
            if self.slot.borrow().as_ref().is_some_and(Slot::is_evicted) {
                account.note(self.note.borrow().clone());
            }
            if !account.has_answered() && hosts.contains(&remote.ip()) {
                account.answered_elsewhere();
            }
            run.record(account.record());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lastack::IpFields;

    #[tokio::test]
    async fn datagrams_waiting_for_the_hosts_socket_are_bounded() {
        let receiver = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = receiver.local_addr().unwrap();
        let key = Key { program: "10.0.2.100:40000".parse().unwrap(), unbound: false };
        let (mapping, _) = Mapping::open(key, false, &Source::default(), None).unwrap();
        let (named, payload) = (Destination::Address(to), vec![7; 60_000]);
        let ip = IpFields { hop_limit: 64, traffic_class: 0, dont_fragment: false };
        let shape = Shape { segment_size: None, ip };
        // The host's socket had no room for one; those behind it wait for their turn.
        let first = Queued { to, named: (named.clone(), to), payload: Vec::new(), shape };
        mapping.up.borrow_mut().datagrams.push_back(first);
        let mut accepted = 0;
        while mapping.send(to, (&named, to), &payload, shape).is_ok() {
            accepted += 1;
        }
        assert_eq!(accepted, MAX_WAITING / payload.len());
        for _ in 0..100 {
            let refused = mapping.send(to, (&named, to), &payload, shape).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::WouldBlock);
        }
        assert!(mapping.up.borrow().bytes <= MAX_WAITING);
        // Waiting datagrams are sent, which frees room.
        mapping.send_waiting().await;
        assert_eq!(mapping.up.borrow().bytes, 60_000 * mapping.up.borrow().datagrams.len());
        assert!(mapping.up.borrow().datagrams.len() < accepted);
        mapping.send(to, (&named, to), &payload, shape).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_socket_keeps_its_port_for_five_minutes_without_traffic() {
        let key = Key { program: "10.0.2.100:40000".parse().unwrap(), unbound: false };
        let (mapping, _) = Mapping::open(key, false, &Source::default(), None).unwrap();
        for _ in 0..2 {
            tokio::time::advance(Duration::from_secs(299)).await;
            assert!(!mapping.is_idle());
            mapping.touch();
        }
        tokio::time::advance(Duration::from_secs(300)).await;
        assert!(mapping.is_idle());
    }
}
